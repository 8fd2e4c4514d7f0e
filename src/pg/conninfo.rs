//! How to reach a server.

use crate::error::{Doing, Kind, Result};
use std::fmt;

/// A parsed connection string. `Debug` and [`ConnInfo::label`] never show the password.
#[derive(Clone)]
pub struct ConnInfo {
    pub(super) config: tokio_postgres::Config,
}

impl ConnInfo {
    /// Reads a libpq connection string (URI or keyword form).
    ///
    /// # Errors
    /// [`Kind::Plan`] when it is not one; the message never contains the string.
    pub fn parse(text: &str) -> Result<ConnInfo> {
        let config = text.parse().doing(Kind::Plan, || "the connection string cannot be read".into())?;
        Ok(ConnInfo { config })
    }

    /// `host:port/database as user`, for messages.
    pub fn label(&self) -> String {
        format!("{:?} {:?}", self.config.get_hosts().first(), self.config.get_dbname())
    }
}

impl fmt::Debug for ConnInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.label())
    }
}
