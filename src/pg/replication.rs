//! The replication protocol: slots, and the stream of changes a slot gives.
//!
//! Written on postgres-protocol, since no client we know has channel binding, separate positions for written and
//! flushed, and leaves the options to us. It shares connection strings, TLS and the pinned settings with the SQL
//! connections.

mod login;
mod stream;
mod wire;

pub use stream::{Frame, ReplicationStream};
pub use wire::ServerError;

use super::conninfo::ConnInfo;
use super::lsn::Lsn;
use super::name::Ident;
use super::{connect, transport};
use crate::error::{Error, Kind, Result};
use std::time::Duration;
use wire::{Raw, Rows, Wire};

/// A connection in replication mode, bound to a database.
pub struct ReplicationConn {
    wire: Wire,
    info: ConnInfo,
    backend: Option<BackendKey>,
}

/// What a cancel request must know.
#[derive(Clone, Copy)]
struct BackendKey {
    process_id: i32,
    secret: i32,
}

/// Who the server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Made by initdb; shared by physical clones.
    pub system_identifier: String,
    /// Grows with every promotion.
    pub timeline: u32,
    /// Where its log is flushed to.
    pub xlogpos: Lsn,
}

/// A slot just made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreatedSlot {
    /// Changes of transactions that commit after this position will be streamed.
    pub consistent_point: Lsn,
}

/// When the changes of a large transaction are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sending {
    /// When it has committed: messages as [`crate::stream::pgoutput::decode`] reads them.
    Committed,
    /// Already while it runs, once blue holds more than `logical_decoding_work_mem` of what it decodes: messages as
    /// [`crate::stream::pgoutput::streaming::Decoder`] reads them. Servers from 14 on can.
    Early,
}

/// Blue decodes nothing while it sends a block, and we write nothing while it decodes the next one: small blocks do both at
/// once. Never more than the operator allows.
const SMALL_BLOCKS: &str = "select set_config(name, least(setting::bigint, 16384)::text || 'kB', false) \
     from pg_catalog.pg_settings where name = 'logical_decoding_work_mem'";

/// The first server that can send [`Sending::Early`].
pub const SENDS_EARLY_FROM: i32 = 140_000;

/// Which changes a stream leaves out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origins {
    /// None.
    All,
    /// Changes that a replication origin brought: the sender's own writes remain. PostgreSQL 16 and later filter;
    /// before, the stream carries them behind [`crate::stream::pgoutput::Message::Origin`] and the reader filters.
    LocalOnly,
}

impl ReplicationConn {
    /// Opens one. `purpose` ends up in `application_name` as `migrate: purpose`.
    ///
    /// # Errors
    /// [`Kind::Connect`] when the server cannot be reached within `connect_timeout` or refuses us.
    pub async fn connect(info: &ConnInfo, purpose: &str) -> Result<ReplicationConn> {
        let (wire, backend) = tokio::time::timeout(info.connect_timeout, login::log_in(info, purpose))
            .await
            .map_err(|_| connect::no_answer(info))??;
        Ok(ReplicationConn { wire, info: info.clone(), backend })
    }

    /// Asks who the server is.
    ///
    /// # Errors
    /// [`Kind::Server`] or [`Kind::Connect`].
    pub async fn identify(&mut self) -> Result<Identity> {
        let rows = self.command("IDENTIFY_SYSTEM", self.info.connect_timeout).await?;
        let row = rows.first().map(Vec::as_slice).unwrap_or_default();
        let cell = |at: usize| row.get(at).and_then(Option::as_deref).unwrap_or_default();
        match (cell(0), cell(1).parse(), cell(2).parse()) {
            (system, Ok(timeline), Ok(xlogpos)) if !system.is_empty() => {
                Ok(Identity { system_identifier: system.to_owned(), timeline, xlogpos })
            }
            _ => Err(unexpected(&self.info, "IDENTIFY_SYSTEM")),
        }
    }

    /// Makes a permanent logical slot for pgoutput.
    ///
    /// The server waits for every open write transaction and every prepared one, of any database of the server, to
    /// end. After `deadline` the slot is given up and nothing is left. When we die while it waits, the server gives up
    /// after the same time, and drops what it began.
    ///
    /// # Errors
    /// [`Kind::Deadline`] when those transactions did not end; [`Kind::Server`] when the slot exists, or no slot is
    /// free.
    pub async fn create_slot(&mut self, name: &str, deadline: Duration) -> Result<CreatedSlot> {
        // statement_timeout does not count for replication commands; what they wait for are locks.
        let lock_timeout_ms = deadline.as_millis().max(1);
        self.command(&format!("set lock_timeout = {lock_timeout_ms}"), self.info.connect_timeout).await?;
        let sql =
            format!("CREATE_REPLICATION_SLOT {} LOGICAL pgoutput (SNAPSHOT 'nothing')", Ident::new(name));
        let outcome = self.answer_within(&sql, deadline).await?;
        let rows = outcome.map_err(|error| {
            let refused = match error.sqlstate() {
                Some("57014" | "55P03") => slot_waits(&self.info, name, deadline),
                Some("42710") => Error::new(
                    Kind::Server,
                    format!("replication slot `{name}` exists at {}", self.info.label()),
                )
                .hint("Drop it if nobody uses it: select pg_drop_replication_slot(...)."),
                Some("53400") => {
                    Error::new(Kind::Server, format!("{} has no free replication slot", self.info.label()))
                        .hint("Raise max_replication_slots there, or drop a slot nobody uses.")
                }
                _ => self.failed(&format!("create replication slot `{name}`")),
            };
            error.under(refused)
        })?;
        let row = rows.first().map(Vec::as_slice).unwrap_or_default();
        match row.get(1).cloned().flatten().map(|lsn| lsn.parse()) {
            Some(Ok(consistent_point)) => Ok(CreatedSlot { consistent_point }),
            _ => Err(unexpected(&self.info, "CREATE_REPLICATION_SLOT")),
        }
    }

    /// Runs a command, and cancels it when it takes too long.
    async fn answer_within(
        &mut self,
        sql: &str,
        deadline: Duration,
    ) -> Result<std::result::Result<Rows, Raw>> {
        let answer = self.wire.simple_query(sql);
        tokio::pin!(answer);
        if let Ok(outcome) = tokio::time::timeout(deadline, &mut answer).await {
            return Ok(outcome);
        }
        cancel(&self.info, self.backend.as_ref()).await?;
        // The same reading goes on: begun anew, it would miss an answer of which the first half has come, as when the
        // server's own timeout strikes in this moment.
        let late = tokio::time::timeout(self.info.connect_timeout, answer).await;
        late.map_err(|_| connect::no_answer(&self.info))
    }

    /// Drops a slot, waiting until whoever streams from it lets go, for at most `connect_timeout`. A slot that is not
    /// there is fine.
    ///
    /// # Errors
    /// [`Kind::Server`] when it cannot be dropped.
    pub async fn drop_slot(&mut self, name: &str) -> Result<()> {
        let sql = format!("DROP_REPLICATION_SLOT {} WAIT", Ident::new(name));
        let outcome = tokio::time::timeout(self.info.connect_timeout, self.wire.simple_query(&sql)).await;
        match outcome {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) if error.sqlstate() == Some("42704") => Ok(()),
            Ok(Err(error)) => Err(error.under(self.failed(&format!("drop replication slot `{name}`")))),
            Err(_) => {
                cancel(&self.info, self.backend.as_ref()).await?;
                Err(Error::new(
                    Kind::Deadline,
                    format!("replication slot `{name}` is in use at {}", self.info.label()),
                )
                .hint("Stop who streams from it (pg_replication_slots.active_pid), then try again."))
            }
        }
    }

    /// Starts streaming the changes of `publications` from `slot`, after `from` or after what the slot has confirmed,
    /// whichever is later: check the slot's confirmed_flush_lsn first, for the server skips silently.
    ///
    /// Protocol version 1 in text, with logical messages.
    ///
    /// # Errors
    /// [`Kind::Server`] when the slot is missing, in use or lost.
    pub async fn start(
        self,
        slot: &str,
        from: Lsn,
        publications: &[String],
        server_version_num: i32,
    ) -> Result<ReplicationStream> {
        self.start_from(slot, from, publications, server_version_num, Origins::All).await
    }

    /// As [`ReplicationConn::start`], and says when large transactions are sent.
    ///
    /// # Errors
    /// As [`ReplicationConn::start`].
    pub async fn start_sending(
        self,
        slot: &str,
        from: Lsn,
        publications: &[String],
        sending: Sending,
    ) -> Result<ReplicationStream> {
        let mut conn = self;
        let options = match sending {
            Sending::Committed => "proto_version '1'",
            Sending::Early => {
                conn.command(SMALL_BLOCKS, conn.info.connect_timeout).await?;
                "proto_version '2', streaming 'on'"
            }
        };
        conn.start_with(slot, from, publications, options).await
    }

    /// As [`ReplicationConn::start`], leaving changes out by where they come from.
    ///
    /// # Errors
    /// As [`ReplicationConn::start`].
    pub async fn start_from(
        self,
        slot: &str,
        from: Lsn,
        publications: &[String],
        server_version_num: i32,
        origins: Origins,
    ) -> Result<ReplicationStream> {
        let options = match origins {
            Origins::LocalOnly if server_version_num >= 160_000 => "proto_version '1', origin 'none'",
            Origins::LocalOnly | Origins::All => "proto_version '1'",
        };
        self.start_with(slot, from, publications, options).await
    }

    async fn start_with(
        mut self,
        slot: &str,
        from: Lsn,
        publications: &[String],
        options: &'static str,
    ) -> Result<ReplicationStream> {
        let names: Vec<_> = publications.iter().map(|name| Ident::new(name).to_string()).collect();
        // The grammar of replication commands knows no escape but the doubled quote.
        let names = names.join(",").replace('\'', "''");
        let sql = format!(
            "START_REPLICATION SLOT {} LOGICAL {from} ({options}, publication_names '{names}', messages 'true')",
            Ident::new(slot)
        );
        let started = tokio::time::timeout(self.info.connect_timeout, self.wire.start_copy_both(&sql))
            .await
            .map_err(|_| connect::no_answer(&self.info))?;
        match started {
            Ok(()) => Ok(ReplicationStream::new(self.wire, self.info)),
            Err(error) => {
                let refused = self.cannot_start(slot, &error);
                Err(error.under(refused))
            }
        }
    }

    fn cannot_start(&self, slot: &str, error: &Raw) -> Error {
        let (problem, hint) = match error.sqlstate() {
            Some("55006") => {
                ("is in use", "Another session streams from it: see active_pid in pg_replication_slots.")
            }
            Some("42704") => ("does not exist", "Start again from a fresh copy: its changes are gone."),
            Some("55000") => ("is lost", "The server removed WAL it needed. Start again from a fresh copy."),
            _ => ("cannot be read", "The cause is below."),
        };
        Error::new(Kind::Server, format!("replication slot `{slot}` at {} {problem}", self.info.label()))
            .hint(hint)
    }

    async fn command(&mut self, sql: &str, deadline: Duration) -> Result<Vec<Vec<Option<String>>>> {
        match tokio::time::timeout(deadline, self.wire.simple_query(sql)).await {
            Ok(Ok(rows)) => Ok(rows),
            Ok(Err(error)) => Err(error.under(self.failed(&format!("run {sql}")))),
            Err(_) => Err(connect::no_answer(&self.info)),
        }
    }

    fn failed(&self, what: &str) -> Error {
        Error::new(Kind::Server, format!("cannot {what} at {}", self.info.label()))
    }
}

/// Asks the server to cancel what a connection runs.
async fn cancel(info: &ConnInfo, backend: Option<&BackendKey>) -> Result<()> {
    let Some(key) = backend else { return Ok(()) };
    let cancelled = async {
        let attempt = transport::attempts(info)[0];
        let mut request = bytes::BytesMut::new();
        postgres_protocol::message::frontend::cancel_request(key.process_id, key.secret, &mut request);
        let mut wire = Wire::new(transport::open(info, attempt).await?);
        let what = || Error::new(Kind::Server, format!("cannot cancel a command at {}", info.label()));
        wire.send(&request).await.map_err(|error| what().source(error))
    };
    tokio::time::timeout(info.connect_timeout, cancelled).await.map_err(|_| connect::no_answer(info))?
}

fn slot_waits(info: &ConnInfo, name: &str, deadline: Duration) -> Error {
    Error::new(
        Kind::Deadline,
        format!("replication slot `{name}` was not ready at {} within {deadline:?}", info.label()),
    )
    .hint(
        "Making a slot waits for every open write transaction and every prepared transaction of any database of that \
         server. Look for them with: select datname, pid, xact_start, query from pg_stat_activity where backend_xid is \
         not null; select * from pg_prepared_xacts. End them or wait for a quieter hour, then run this again.",
    )
}

fn unexpected(info: &ConnInfo, command: &str) -> Error {
    Error::new(Kind::Server, format!("{} gave an unexpected answer to {command}", info.label()))
        .hint("Connect to a PostgreSQL server directly, not through a pooler.")
}
