//! Protocol version 2: a large transaction is sent in blocks while it still runs, and its end tells what became of it.
//!
//! Whether a message belongs to a block is known by its place alone, and inside of one most kinds have the id of their
//! (sub)transaction behind the kind byte: so this decoder, unlike [`super::decode`], remembers where it is.

use super::{Commit, DecodeError, Message, Reader};
use bytes::Bytes;

/// A message of the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Streamed {
    /// As in version 1, outside of blocks.
    Whole(Message),
    /// A block begins: of changes of this top-level transaction.
    Start {
        /// Its id.
        xid: u32,
    },
    /// A message inside of a block.
    Part {
        /// The subtransaction that it is of, or the top-level transaction itself. A logical message always has the id of the
        /// latter, as an origin here.
        xid: u32,
        /// The message.
        message: Message,
    },
    /// The block ends.
    Stop,
    /// A transaction that was sent in blocks is committed.
    Commit {
        /// Its id.
        xid: u32,
        /// As at the end of any other.
        commit: Commit,
    },
    /// It is rolled back, or a part of it.
    Abort {
        /// Its id.
        xid: u32,
        /// The subtransaction; the same as `xid` when it is all of it.
        subxid: u32,
    },
}

/// Reads the messages of one stream, in order.
#[derive(Debug, Default)]
pub struct Decoder {
    /// The transaction whose block we are in.
    inside: Option<u32>,
}

impl Decoder {
    /// Reads one message.
    ///
    /// # Errors
    /// [`DecodeError`] when the bytes are not exactly one message of protocol version 2, or it cannot come here.
    pub fn decode(&mut self, body: Bytes) -> Result<Streamed, DecodeError> {
        let mut reader = Reader { rest: body };
        let kind = reader.u8("kind")?;
        match (kind, self.inside) {
            (b'S', None) => {
                let xid = reader.u32("transaction id")?;
                reader.u8("first segment")?;
                reader.end()?;
                self.inside = Some(xid);
                Ok(Streamed::Start { xid })
            }
            (b'S', Some(_)) => Err(DecodeError::Misplaced { what: "begins in another one" }),
            (b'E', Some(_)) => {
                reader.end()?;
                self.inside = None;
                Ok(Streamed::Stop)
            }
            (b'E', None) => Err(DecodeError::Misplaced { what: "ends that has not begun" }),
            (b'c' | b'A' | b'B' | b'C', Some(_)) => {
                Err(DecodeError::Misplaced { what: "has the end or begin of a transaction in it" })
            }
            (b'c', None) => {
                let xid = reader.u32("transaction id")?;
                let commit = reader.commit()?;
                reader.end()?;
                Ok(Streamed::Commit { xid, commit })
            }
            (b'A', None) => {
                let xid = reader.u32("transaction id")?;
                let subxid = reader.u32("subtransaction id")?;
                reader.end()?;
                Ok(Streamed::Abort { xid, subxid })
            }
            (b'O', Some(xid)) => Ok(Streamed::Part { xid, message: reader.message(kind)? }),
            (_, Some(_)) => {
                let xid = reader.u32("transaction id")?;
                Ok(Streamed::Part { xid, message: reader.message(kind)? })
            }
            (_, None) => Ok(Streamed::Whole(reader.message(kind)?)),
        }
    }
}

#[cfg(test)]
mod tests;
