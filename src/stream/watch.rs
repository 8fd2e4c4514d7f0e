//! Watching our slot on blue: blue survives first, so a slot that holds too much WAL is dropped.

use super::progress::parse_lsn;
use crate::error::{Doing, Error, Kind, Result};
use crate::pg::connect;
use crate::pg::conninfo::ConnInfo;
use crate::pg::lsn::Lsn;
use std::time::Duration;
use tokio_postgres::Client;

/// How long blue may take for a look at the slot.
const LOOK_TIMEOUT: Duration = Duration::from_secs(15);

/// How often a drop is tried, a quarter of a second apart.
const DROP_ATTEMPTS: usize = 20;

/// How often a slot is looked at that nobody reads yet.
const GUARD_EVERY: Duration = Duration::from_secs(1);

/// Watches a slot that nobody reads yet, while rows are copied. Ends only when there is nothing left to copy for: the slot held
/// more of blue's WAL than `retained_max_bytes`, and was dropped; or it is gone; or its publication leaves out changes. A blue
/// that does not answer ends the copy by itself.
pub async fn guard(blue: &ConnInfo, slot: &str, publication: &str, retained_max_bytes: u64) -> Error {
    let mut watch = None;
    loop {
        tokio::time::sleep(GUARD_EVERY).await;
        let looked = async {
            let watch = match &watch {
                Some(watch) => watch,
                None => watch.insert(SlotWatch::connect(blue, slot, publication).await?),
            };
            let state = watch.look().await?;
            Ok::<_, Error>(match state.retained_bytes > retained_max_bytes {
                true => Some(watch.give_up(state.retained_bytes).await),
                false => None,
            })
        };
        match looked.await {
            Ok(None) => {}
            Ok(Some(given_up)) => return given_up,
            Err(error) if error.kind == Kind::Gate => return error,
            Err(error) => {
                tracing::debug!(%error, "blue's slot cannot be looked at");
                watch = None;
            }
        }
    }
}

/// A connection to blue that looks at our slot.
pub(super) struct SlotWatch {
    client: Client,
    slot: String,
    publication: String,
    pub server_version_num: i32,
}

/// What a look saw.
#[derive(Debug, Clone, Copy)]
pub(super) struct SlotState {
    pub confirmed: Lsn,
    /// WAL that blue keeps for it.
    pub retained_bytes: u64,
    pub wal_end: Lsn,
    /// Blue's clock, in microseconds since 1970.
    pub clock_micros: i64,
}

impl SlotWatch {
    pub async fn connect(blue: &ConnInfo, slot: &str, publication: &str) -> Result<SlotWatch> {
        let client = connect::connect(blue, "watch").await?;
        let row = client
            .query_one("select current_setting('server_version_num')::int", &[])
            .await
            .doing(Kind::Server, || format!("cannot read the version of {}", blue.label()))?;
        Ok(SlotWatch {
            client,
            slot: slot.to_owned(),
            publication: publication.to_owned(),
            server_version_num: row.get(0),
        })
    }

    /// Looks.
    ///
    /// # Errors
    /// [`Kind::Gate`] when the slot is missing or lost, or blue leaves out changes.
    pub async fn look(&self) -> Result<SlotState> {
        let looked = async {
            let sql = include_str!("../../sql/stream/read_slot.sql");
            self.client.query_opt(sql, &[&self.slot, &self.publication]).await
        };
        let row = tokio::time::timeout(LOOK_TIMEOUT, looked)
            .await
            .map_err(|_| Error::new(Kind::Connect, "blue does not answer a look at the replication slot"))?
            .doing(Kind::Server, || format!("cannot look at replication slot `{}` on blue", self.slot))?;
        let Some(row) = row else {
            return Err(Error::new(
                Kind::Gate,
                format!("replication slot `{}` does not exist on blue", self.slot),
            )
            .hint("Its changes are gone. Start again from a fresh copy."));
        };
        if row.get::<_, Option<&str>>(0) == Some("lost") {
            return Err(Error::new(
                Kind::Gate,
                format!("replication slot `{}` is lost: blue removed WAL it needed", self.slot),
            )
            .hint("Raise max_slot_wal_keep_size on blue, and start again from a fresh copy."));
        }
        let wrong = match row.get(5) {
            Some(true) => None,
            Some(false) => Some("does not publish every kind of change any more"),
            None => Some("does not exist on blue"),
        };
        if let Some(wrong) = wrong {
            return Err(Error::new(Kind::Gate, format!("publication `{}` {wrong}", self.publication)).hint(
                "Changes that it left out are lost to the stream: `migrate rollback --all`, and start from a fresh copy.",
            ));
        }
        let retained_bytes = u64::try_from(row.get::<_, i64>(2)).unwrap_or_default();
        Ok(SlotState {
            retained_bytes,
            confirmed: row.get::<_, Option<&str>>(1).map(parse_lsn).transpose()?.unwrap_or_default(),
            wal_end: parse_lsn(row.get(3))?,
            clock_micros: row.get(4),
        })
    }

    /// Drops the slot for what it holds, so that blue's disk does not fill; the error says what became of it.
    pub async fn give_up(&self, retained_bytes: u64) -> Error {
        let error = Error::new(
            Kind::Gate,
            format!(
                "replication slot `{}` held {retained_bytes} bytes of blue's WAL, over the limit of the plan",
                self.slot
            ),
        );
        match self.drop_slot().await {
            Ok(()) => error.hint(
                "We dropped it, so that blue's disk does not fill. Find why green was too slow, then start again from a fresh copy.",
            ),
            Err(cause) => error.source(cause).hint(
                "It could NOT be dropped, and blue's disk fills: drop it by hand with select pg_drop_replication_slot(...).",
            ),
        }
    }

    /// Drops the slot; our own walsender may take a moment to see that we are gone, and is ended otherwise.
    async fn drop_slot(&self) -> Result<()> {
        let mut last = None;
        for _ in 0..DROP_ATTEMPTS {
            match self.client.execute("select pg_catalog.pg_drop_replication_slot($1)", &[&self.slot]).await {
                Ok(_) => return Ok(()),
                Err(error) => last = Some(error),
            }
            let end = "select pg_catalog.pg_terminate_backend(active_pid) from pg_catalog.pg_replication_slots \
                       where slot_name = $1 and active_pid is not null";
            // When it may not, the next attempt to drop says what is wrong.
            let _ = self.client.execute(end, &[&self.slot]).await;
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
        let error = Error::new(Kind::Server, format!("cannot drop replication slot `{}`", self.slot));
        Err(match last {
            Some(cause) => error.source(cause),
            None => error,
        })
    }
}
