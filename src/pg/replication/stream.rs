//! A running stream: frames in, positions out.

use super::wire::{Message, ServerError, Wire, malformed};
use crate::error::{Error, Kind, Result};
use crate::pg::conninfo::ConnInfo;
use crate::pg::lsn::Lsn;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long the server may take to end a stream we asked it to end.
const FINISH_TIMEOUT: Duration = Duration::from_secs(5);

/// A running stream of changes. Dropping it closes the connection; the slot stays where it was confirmed.
pub struct ReplicationStream {
    wire: Wire,
    info: ConnInfo,
}

/// What the server sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// A change, or a part around changes: see [`crate::stream::pgoutput::decode`].
    Data {
        /// Where in the log the change begins.
        start: Lsn,
        /// Where the server's log ended when it sent this.
        wal_end: Lsn,
        /// The plugin's message, a slice of the read buffer.
        body: Bytes,
    },
    /// A sign of life. Everything before `wal_end` has been sent.
    Keepalive {
        /// How far the server has decoded.
        wal_end: Lsn,
        /// It wants to hear of us soon, or will end the stream (`wal_sender_timeout`).
        reply_requested: bool,
    },
}

impl ReplicationStream {
    pub(super) fn new(wire: Wire, info: ConnInfo) -> ReplicationStream {
        ReplicationStream { wire, info }
    }

    /// A frame that was read with an earlier one.
    ///
    /// # Errors
    /// As [`ReplicationStream::next`].
    pub fn next_here(&mut self) -> Result<Option<Frame>> {
        while let Some(message) = self.wire.buffered().map_err(|error| self.broken(error))? {
            if let Some(frame) = self.frame(message)? {
                return Ok(Some(frame));
            }
        }
        Ok(None)
    }

    /// The next frame. Cancel-safe. It waits as long as the server is silent; with nothing to send, a server gives a
    /// sign of life each half of its `wal_sender_timeout`.
    ///
    /// # Errors
    /// [`Kind::Server`] when the server ends the stream with an error, [`Kind::Connect`] when the connection is gone.
    pub async fn next(&mut self) -> Result<Frame> {
        loop {
            let message = self.wire.message().await.map_err(|error| self.broken(error))?;
            if let Some(frame) = self.frame(message)? {
                return Ok(frame);
            }
        }
    }

    /// The frame that a message is; `None` for what is not of the stream.
    fn frame(&self, message: Message) -> Result<Option<Frame>> {
        match message.tag {
            b'd' => read_frame(message).map(Some).map_err(|error| self.broken(error)),
            b'E' => {
                let error = ServerError::read(&message.body);
                Err(Error::new(Kind::Server, format!("{} ended the stream of changes", self.info.label()))
                    .source(error))
            }
            b'c' => Err(self.broken(io::Error::other("the server shuts down"))),
            _ => Ok(None),
        }
    }

    /// Tells the server how far we are: bytes received, durable here, and visible here. The slot moves to `flushed`,
    /// and the server may forget what is before it.
    ///
    /// Cancel-safe: what could not be sent goes with the next status.
    ///
    /// # Errors
    /// [`Kind::Connect`] when the connection is gone.
    pub async fn status(&mut self, written: Lsn, flushed: Lsn, applied: Lsn) -> Result<()> {
        let mut update = BytesMut::with_capacity(39);
        update.put_u8(b'd');
        update.put_u32(4 + 34);
        update.put_u8(b'r');
        for position in [written, flushed, applied] {
            update.put_u64(position.0);
        }
        update.put_i64(micros_since_2000());
        update.put_u8(0);
        self.wire.send(&update).await.map_err(|error| self.broken(error))
    }

    /// Ends the stream in an orderly way, so that the slot is free at once.
    ///
    /// # Errors
    /// [`Kind::Connect`] when the connection is gone, or the server does not end it within five seconds; the slot is
    /// freed all the same when the server notices.
    pub async fn finish(mut self) -> Result<()> {
        let ended = async {
            let mut bytes = BytesMut::new();
            postgres_protocol::message::frontend::copy_done(&mut bytes);
            self.wire.send(&bytes).await?;
            while self.wire.message().await?.tag != b'Z' {}
            bytes.clear();
            postgres_protocol::message::frontend::terminate(&mut bytes);
            self.wire.send(&bytes).await
        };
        match tokio::time::timeout(FINISH_TIMEOUT, ended).await {
            Ok(outcome) => outcome.map_err(|error| self.broken(error)),
            Err(_) => Err(self.broken(io::ErrorKind::TimedOut.into())),
        }
    }

    fn broken(&self, error: io::Error) -> Error {
        Error::new(Kind::Connect, format!("the stream of changes from {} broke off", self.info.label()))
            .source(error)
    }
}

fn read_frame(message: Message) -> io::Result<Frame> {
    let mut body = message.body;
    let short = |_| malformed("replication message");
    match body.try_get_u8().map_err(short)? {
        b'w' => {
            let start = Lsn(body.try_get_u64().map_err(short)?);
            let wal_end = Lsn(body.try_get_u64().map_err(short)?);
            body.try_get_i64().map_err(short)?;
            Ok(Frame::Data { start, wal_end, body })
        }
        b'k' => {
            let wal_end = Lsn(body.try_get_u64().map_err(short)?);
            body.try_get_i64().map_err(short)?;
            Ok(Frame::Keepalive { wal_end, reply_requested: body.try_get_u8().map_err(short)? != 0 })
        }
        _ => Err(malformed("kind of replication message")),
    }
}

fn micros_since_2000() -> i64 {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_micros());
    i64::try_from(unix).unwrap_or(i64::MAX) - 946_684_800_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_read_and_short_ones_refused() {
        let mut data = vec![b'w'];
        data.extend(7u64.to_be_bytes());
        data.extend(9u64.to_be_bytes());
        data.extend(0u64.to_be_bytes());
        data.extend(b"Bxyz");
        let read = |bytes: &[u8]| read_frame(Message { tag: b'd', body: Bytes::copy_from_slice(bytes) });
        assert_eq!(
            read(&data).unwrap(),
            Frame::Data { start: Lsn(7), wal_end: Lsn(9), body: Bytes::from_static(b"Bxyz") }
        );
        for end in 0..25 {
            assert!(read(&data[..end]).is_err());
        }
        assert!(read(b"x").is_err());
    }
}
