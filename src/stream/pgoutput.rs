//! The messages of the `pgoutput` plugin, protocol version 1, text format; what version 2 puts around them when it streams
//! transactions that are not committed yet is in [`streaming`].
//!
//! Cells are slices of the buffer the network filled: decoding copies no value. Input that is cut short, too long
//! or of an unknown kind is an error, never a panic. Layouts: PostgreSQL 18 documentation, "Logical Replication
//! Message Formats".

pub mod streaming;

use crate::pg::lsn::Lsn;
use bytes::{Buf, Bytes};
use std::fmt;

/// One message of the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// A transaction begins. Only committed transactions arrive, in the order of their commits.
    Begin(Begin),
    /// It ends.
    Commit(Commit),
    /// Where the transaction was first made, when a replication origin wrote it.
    Origin {
        /// The origin's name.
        name: String,
    },
    /// The shape of a table, told before its first change and again when it may have changed.
    Relation(Relation),
    /// A data type that is not built in.
    Type {
        /// Its oid on the sender.
        oid: u32,
        /// Its schema; `pg_catalog` comes as an empty text.
        schema: String,
        /// Its name.
        name: String,
    },
    /// A row came.
    Insert {
        /// Oid of the relation on the sender.
        relation: u32,
        /// The row.
        new: Tuple,
    },
    /// A row changed.
    Update {
        /// Oid of the relation on the sender.
        relation: u32,
        /// What is known of the row before: nothing when the key kept its value and the identity is not FULL.
        old: Option<OldTuple>,
        /// The row after.
        new: Tuple,
    },
    /// A row went.
    Delete {
        /// Oid of the relation on the sender.
        relation: u32,
        /// What is known of it.
        old: OldTuple,
    },
    /// Tables were emptied by one statement.
    Truncate {
        /// Oids of the relations on the sender.
        relations: Vec<u32>,
        /// CASCADE was given.
        cascade: bool,
        /// RESTART IDENTITY was given.
        restart_identity: bool,
    },
    /// A record of `pg_logical_emit_message`.
    Logical(LogicalMessage),
}

/// The start of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Begin {
    /// Position of its commit record.
    pub commit_lsn: Lsn,
    /// When it committed, by the sender's clock.
    pub commit_time: CommitTime,
    /// Its transaction id, without an epoch.
    pub xid: u32,
}

/// The end of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Commit {
    /// Position of the commit record; the same as in [`Begin`].
    pub commit_lsn: Lsn,
    /// First byte after the commit record: the position to confirm and to resume from.
    pub end_lsn: Lsn,
    /// When it committed, by the sender's clock.
    pub commit_time: CommitTime,
}

/// A time of the sender's clock, in microseconds since 2000-01-01 00:00 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct CommitTime(pub i64);

impl CommitTime {
    /// Microseconds since 1970-01-01 00:00 UTC.
    pub fn unix_micros(self) -> i64 {
        self.0.saturating_add(946_684_800_000_000)
    }
}

/// The shape of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation {
    /// Its oid on the sender.
    pub oid: u32,
    /// Its schema (`pg_catalog` is sent as an empty text, and filled in here).
    pub schema: String,
    /// Its name.
    pub name: String,
    /// What UPDATE and DELETE tell of the row before.
    pub identity: Identity,
    /// Its columns, in the order of the tuples. Generated columns are not among them.
    pub columns: Vec<Column>,
}

/// REPLICA IDENTITY of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identity {
    /// The primary key.
    Default,
    /// Nothing: updates and deletes cannot be published.
    Nothing,
    /// The whole row.
    Full,
    /// A unique index of the operator's choice.
    Index,
}

/// A column as the sender knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Oid of its type on the sender.
    pub type_oid: u32,
    /// `atttypmod`; -1 when the type takes none.
    pub type_modifier: i32,
    /// It is part of the replica identity (every column, with FULL).
    pub is_key: bool,
}

/// A row: one cell for each column of its [`Relation`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tuple(pub Vec<Cell>);

/// A value.
#[derive(Clone, PartialEq, Eq)]
pub enum Cell {
    /// SQL null.
    Null,
    /// A TOASTed value that the update left alone: it was not sent, and must not be written.
    Unchanged,
    /// The text form, in the sender's encoding (UTF-8, since our sessions ask for it).
    Text(Bytes),
}

/// What was told of a row before its change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OldTuple {
    /// Only the replica identity's columns are told, the others are null.
    Key(Tuple),
    /// The whole row: REPLICA IDENTITY FULL.
    Full(Tuple),
}

impl OldTuple {
    /// The cells, whichever way they came.
    pub fn tuple(&self) -> &Tuple {
        match self {
            OldTuple::Key(tuple) | OldTuple::Full(tuple) => tuple,
        }
    }
}

/// A record of `pg_logical_emit_message`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogicalMessage {
    /// It belongs to the transaction around it. Otherwise it was sent when written, even if its transaction failed.
    pub transactional: bool,
    /// Where it stands in the log.
    pub lsn: Lsn,
    /// Whom it is for.
    pub prefix: String,
    /// What it says.
    pub content: Bytes,
}

/// Why a message could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The message ended before this part of it.
    #[error("the message ends inside its {part}")]
    Short {
        /// What was being read.
        part: &'static str,
    },
    /// Bytes are left over.
    #[error("{bytes} bytes are left over after the message")]
    Long {
        /// How many.
        bytes: usize,
    },
    /// A name is not UTF-8.
    #[error("its {part} is not UTF-8")]
    NotUtf8 {
        /// What was being read.
        part: &'static str,
    },
    /// A kind byte this protocol version does not have.
    #[error("it has the unknown {part} kind 0x{byte:02x}")]
    Unknown {
        /// What was being read.
        part: &'static str,
        /// The byte.
        byte: u8,
    },
    /// A block of a streamed transaction begins or ends where it cannot.
    #[error("a block of a streamed transaction {what}")]
    Misplaced {
        /// What is wrong.
        what: &'static str,
    },
}

/// Reads one message.
///
/// # Errors
/// [`DecodeError`] when the bytes are not exactly one message of protocol version 1.
pub fn decode(body: Bytes) -> Result<Message, DecodeError> {
    let mut reader = Reader { rest: body };
    let kind = reader.u8("kind")?;
    reader.message(kind)
}

struct Reader {
    rest: Bytes,
}

impl Reader {
    /// What follows the kind, up to the end.
    fn message(mut self, kind: u8) -> Result<Message, DecodeError> {
        let message = self.parts(kind)?;
        self.end()?;
        Ok(message)
    }

    fn end(&self) -> Result<(), DecodeError> {
        match self.rest.len() {
            0 => Ok(()),
            bytes => Err(DecodeError::Long { bytes }),
        }
    }

    fn parts(&mut self, kind: u8) -> Result<Message, DecodeError> {
        Ok(match kind {
            b'B' => Message::Begin(self.begin()?),
            b'C' => Message::Commit(self.commit()?),
            b'O' => {
                self.lsn("origin position")?;
                Message::Origin { name: self.text("origin name")? }
            }
            b'R' => Message::Relation(self.relation()?),
            b'Y' => Message::Type {
                oid: self.u32("type oid")?,
                schema: self.schema()?,
                name: self.text("type name")?,
            },
            b'I' => {
                let relation = self.u32("relation oid")?;
                self.expect(b'N', "new tuple")?;
                Message::Insert { relation, new: self.tuple()? }
            }
            b'U' => self.update()?,
            b'D' => {
                let relation = self.u32("relation oid")?;
                let kind = self.u8("old tuple")?;
                Message::Delete { relation, old: self.old_tuple(kind)? }
            }
            b'T' => self.truncate()?,
            b'M' => Message::Logical(self.logical()?),
            byte => return Err(DecodeError::Unknown { part: "message", byte }),
        })
    }

    fn need(&self, bytes: usize, part: &'static str) -> Result<(), DecodeError> {
        if self.rest.len() < bytes { Err(DecodeError::Short { part }) } else { Ok(()) }
    }

    fn u8(&mut self, part: &'static str) -> Result<u8, DecodeError> {
        self.need(1, part)?;
        Ok(self.rest.get_u8())
    }

    fn u16(&mut self, part: &'static str) -> Result<u16, DecodeError> {
        self.need(2, part)?;
        Ok(self.rest.get_u16())
    }

    fn u32(&mut self, part: &'static str) -> Result<u32, DecodeError> {
        self.need(4, part)?;
        Ok(self.rest.get_u32())
    }

    fn u64(&mut self, part: &'static str) -> Result<u64, DecodeError> {
        self.need(8, part)?;
        Ok(self.rest.get_u64())
    }

    fn lsn(&mut self, part: &'static str) -> Result<Lsn, DecodeError> {
        self.u64(part).map(Lsn)
    }

    fn time(&mut self) -> Result<CommitTime, DecodeError> {
        self.u64("commit time").map(|micros| CommitTime(micros.cast_signed()))
    }

    fn bytes(&mut self, part: &'static str) -> Result<Bytes, DecodeError> {
        let length = self.u32(part)? as usize;
        self.need(length, part)?;
        Ok(self.rest.split_to(length))
    }

    /// A text that ends with a zero byte.
    fn text(&mut self, part: &'static str) -> Result<String, DecodeError> {
        let end = self.rest.iter().position(|byte| *byte == 0).ok_or(DecodeError::Short { part })?;
        let text =
            std::str::from_utf8(&self.rest[..end]).map_err(|_| DecodeError::NotUtf8 { part })?.to_owned();
        self.rest.advance(end + 1);
        Ok(text)
    }

    /// A schema's name; the sender abbreviates `pg_catalog` to nothing.
    fn schema(&mut self) -> Result<String, DecodeError> {
        let schema = self.text("schema")?;
        Ok(if schema.is_empty() { "pg_catalog".to_owned() } else { schema })
    }

    fn expect(&mut self, expected: u8, part: &'static str) -> Result<(), DecodeError> {
        match self.u8(part)? {
            byte if byte == expected => Ok(()),
            byte => Err(DecodeError::Unknown { part, byte }),
        }
    }

    fn begin(&mut self) -> Result<Begin, DecodeError> {
        Ok(Begin {
            commit_lsn: self.lsn("commit position")?,
            commit_time: self.time()?,
            xid: self.u32("transaction id")?,
        })
    }

    fn commit(&mut self) -> Result<Commit, DecodeError> {
        self.u8("commit flags")?;
        Ok(Commit {
            commit_lsn: self.lsn("commit position")?,
            end_lsn: self.lsn("end position")?,
            commit_time: self.time()?,
        })
    }

    fn relation(&mut self) -> Result<Relation, DecodeError> {
        let oid = self.u32("relation oid")?;
        let schema = self.schema()?;
        let name = self.text("relation name")?;
        let identity = match self.u8("replica identity")? {
            b'd' => Identity::Default,
            b'n' => Identity::Nothing,
            b'f' => Identity::Full,
            b'i' => Identity::Index,
            byte => return Err(DecodeError::Unknown { part: "replica identity", byte }),
        };
        let count = self.u16("column count")?;
        let mut columns = Vec::new();
        for _ in 0..count {
            columns.push(Column {
                is_key: self.u8("column flags")? & 1 != 0,
                name: self.text("column name")?,
                type_oid: self.u32("column type")?,
                type_modifier: self.u32("column type modifier")?.cast_signed(),
            });
        }
        Ok(Relation { oid, schema, name, identity, columns })
    }

    fn tuple(&mut self) -> Result<Tuple, DecodeError> {
        let count = usize::from(self.u16("cell count")?);
        // Each cell takes a byte at least, so a lying count cannot make us reserve more than was sent.
        self.need(count, "cells")?;
        let mut cells = Vec::with_capacity(count);
        for _ in 0..count {
            cells.push(match self.u8("cell kind")? {
                b'n' => Cell::Null,
                b'u' => Cell::Unchanged,
                b't' => Cell::Text(self.bytes("cell")?),
                byte => return Err(DecodeError::Unknown { part: "cell", byte }),
            });
        }
        Ok(Tuple(cells))
    }

    fn old_tuple(&mut self, kind: u8) -> Result<OldTuple, DecodeError> {
        match kind {
            b'K' => self.tuple().map(OldTuple::Key),
            b'O' => self.tuple().map(OldTuple::Full),
            byte => Err(DecodeError::Unknown { part: "old tuple", byte }),
        }
    }

    fn update(&mut self) -> Result<Message, DecodeError> {
        let relation = self.u32("relation oid")?;
        let old = match self.u8("update")? {
            b'N' => None,
            kind => {
                let old = self.old_tuple(kind)?;
                self.expect(b'N', "new tuple")?;
                Some(old)
            }
        };
        Ok(Message::Update { relation, old, new: self.tuple()? })
    }

    fn truncate(&mut self) -> Result<Message, DecodeError> {
        let count = self.u32("relation count")? as usize;
        let flags = self.u8("truncate flags")?;
        self.need(count.saturating_mul(4), "relation oids")?;
        let mut relations = Vec::with_capacity(count);
        for _ in 0..count {
            relations.push(self.u32("relation oid")?);
        }
        Ok(Message::Truncate { relations, cascade: flags & 1 != 0, restart_identity: flags & 2 != 0 })
    }

    fn logical(&mut self) -> Result<LogicalMessage, DecodeError> {
        Ok(LogicalMessage {
            transactional: self.u8("message flags")? & 1 != 0,
            lsn: self.lsn("message position")?,
            prefix: self.text("message prefix")?,
            content: self.bytes("message content")?,
        })
    }
}

// Values may be secrets (tokens), and a `Debug` ends up in logs: only the length is shown.
impl fmt::Debug for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cell::Null => f.write_str("Null"),
            Cell::Unchanged => f.write_str("Unchanged"),
            Cell::Text(text) => write!(f, "Text({} bytes)", text.len()),
        }
    }
}

#[cfg(test)]
mod tests;
