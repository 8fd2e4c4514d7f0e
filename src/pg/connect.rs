//! Dedicated connections, every one with the same pinned settings.

use super::conninfo::ConnInfo;
use crate::error::{Doing, Kind, Result};

/// What every session of ours sets first, so that text means the same on both sides and no role default cuts us short.
pub const PINNED: &str = "set datestyle = 'ISO, YMD'; set intervalstyle = 'postgres'; set extra_float_digits = 3; \
    set bytea_output = 'hex'; set timezone = 'UTC'; set lc_monetary = 'C'; set search_path = ''; \
    set client_encoding = 'UTF8'; set statement_timeout = 0; set lock_timeout = 0; \
    set idle_in_transaction_session_timeout = 0; set row_security = off; set client_min_messages = warning";

/// Opens a connection of its own. `purpose` ends up in `application_name` as `migrate: purpose`.
///
/// # Errors
/// [`Kind::Connect`] when the server cannot be reached within ten seconds or refuses us.
pub async fn connect(info: &ConnInfo, purpose: &str) -> Result<tokio_postgres::Client> {
    let mut config = info.config.clone();
    config.application_name(format!("migrate: {purpose}"));
    config.connect_timeout(std::time::Duration::from_secs(10));
    let (client, connection) = config
        .connect(tokio_postgres::NoTls)
        .await
        .doing(Kind::Connect, || format!("cannot connect to {}", info.label()))?;
    tokio::spawn(connection);
    client
        .batch_execute(PINNED)
        .await
        .doing(Kind::Connect, || format!("cannot prepare a session on {}", info.label()))?;
    Ok(client)
}
