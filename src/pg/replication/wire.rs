//! Frames of the protocol: reading without copying, simple queries, errors.

use crate::error::Error;
use crate::pg::transport::Transport;
use bytes::{Buf, Bytes, BytesMut};
use postgres_protocol::message::frontend;
use std::{fmt, io};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Room we make before each read: a few hundred row changes.
const READ_BYTES: usize = 256 * 1024;

/// No message of a server is longer: a row is at most 1 GB, and its text form is what limits it.
const MESSAGE_MAX_BYTES: usize = 1 << 31;

/// A message of the server: its kind, and its body as a slice of the read buffer.
pub(super) struct Message {
    pub tag: u8,
    pub body: Bytes,
}

/// A connection's bytes in both directions.
pub(super) struct Wire {
    stream: Transport,
    incoming: BytesMut,
    outgoing: BytesMut,
}

/// Rows of a simple query, in text.
pub(super) type Rows = Vec<Vec<Option<String>>>;

/// Why an exchange failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Raw {
    /// The stream broke.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The server said no.
    #[error(transparent)]
    Server(#[from] ServerError),
}

impl Raw {
    /// Makes it the cause of an error: what is inside of it, since whoever looks through causes for one of those types
    /// does not know this one, and a transparent error hides what it holds.
    pub fn under(self, error: Error) -> Error {
        match self {
            Raw::Io(cause) => error.source(cause),
            Raw::Server(cause) => error.source(cause),
        }
    }

    pub fn sqlstate(&self) -> Option<&str> {
        match self {
            Raw::Io(_) => None,
            Raw::Server(error) => Some(&error.sqlstate),
        }
    }
}

/// An error a server sent on a replication connection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerError {
    /// SQLSTATE.
    pub sqlstate: String,
    /// The sentence.
    pub message: String,
    /// More of it.
    pub detail: Option<String>,
    /// What the server advises.
    pub hint: Option<String>,
}

impl std::error::Error for ServerError {}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (SQLSTATE {})", self.message, self.sqlstate)?;
        if let Some(detail) = &self.detail {
            write!(f, "; {detail}")?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "; hint: {hint}")?;
        }
        Ok(())
    }
}

impl ServerError {
    /// Reads the body of an ErrorResponse: a list of kind byte and text, each ended by a zero.
    pub(super) fn read(body: &[u8]) -> ServerError {
        let mut error = ServerError::default();
        for field in body.split(|byte| *byte == 0) {
            let Some((kind, text)) = field.split_first() else { continue };
            let text = String::from_utf8_lossy(text).into_owned();
            match kind {
                b'C' => error.sqlstate = text,
                b'M' => error.message = text,
                b'D' => error.detail = Some(text),
                b'H' => error.hint = Some(text),
                _ => {}
            }
        }
        error
    }
}

pub(super) fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the server sent a malformed {what}"))
}

impl Wire {
    pub fn new(stream: Transport) -> Wire {
        Wire { stream, incoming: BytesMut::with_capacity(READ_BYTES), outgoing: BytesMut::new() }
    }

    pub fn server_end_point(&self) -> Option<Vec<u8>> {
        self.stream.server_end_point()
    }

    /// The next message. Cancel-safe: bytes that came are kept.
    pub async fn message(&mut self) -> io::Result<Message> {
        loop {
            if let Some(message) = self.buffered()? {
                return Ok(message);
            }
            if self.stream.read_buf(&mut self.incoming).await? == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed the connection"));
            }
        }
    }

    /// A message that is here already.
    pub fn buffered(&mut self) -> io::Result<Option<Message>> {
        let missing = match self.incoming.first_chunk::<5>() {
            None => READ_BYTES,
            Some([_, length @ ..]) => {
                let length = u32::from_be_bytes(*length) as usize;
                if !(4..MESSAGE_MAX_BYTES).contains(&length) {
                    return Err(malformed("message length"));
                }
                if self.incoming.len() > length {
                    let mut body = self.incoming.split_to(length + 1).freeze();
                    let tag = body.get_u8();
                    body.advance(4);
                    return Ok(Some(Message { tag, body }));
                }
                length + 1 - self.incoming.len()
            }
        };
        // A long message grows the buffer as it comes, so a lying length cannot take memory that nobody sends.
        let free = self.incoming.capacity() - self.incoming.len();
        if free < missing.min(READ_BYTES / 8) {
            self.incoming.reserve(missing.clamp(READ_BYTES, 16 * READ_BYTES));
        }
        Ok(None)
    }

    /// Sends. Cancel-safe when [`Wire::flush`] follows: what was not sent stays queued.
    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.outgoing.extend_from_slice(bytes);
        self.flush().await
    }

    /// Sends what is queued.
    pub async fn flush(&mut self) -> io::Result<()> {
        while !self.outgoing.is_empty() {
            self.stream.write_buf(&mut self.outgoing).await?;
        }
        self.stream.flush().await
    }

    /// Runs a command and gives its rows.
    pub async fn simple_query(&mut self, sql: &str) -> Result<Rows, Raw> {
        let mut query = BytesMut::new();
        frontend::query(sql, &mut query)?;
        self.send(&query).await?;
        self.rest_of_query().await
    }

    /// Reads on until the server is ready for the next command.
    async fn rest_of_query(&mut self) -> Result<Rows, Raw> {
        let mut rows = Rows::new();
        let mut failure = None;
        loop {
            let message = self.message().await?;
            match message.tag {
                b'D' => rows.push(read_row(message.body)?),
                b'E' => failure = Some(ServerError::read(&message.body)),
                b'Z' => return failure.map_or(Ok(rows), |failure| Err(failure.into())),
                _ => {}
            }
        }
    }

    /// Runs a command that turns the connection into a stream in both directions.
    pub async fn start_copy_both(&mut self, sql: &str) -> Result<(), Raw> {
        let mut query = BytesMut::new();
        frontend::query(sql, &mut query)?;
        self.send(&query).await?;
        loop {
            let message = self.message().await?;
            match message.tag {
                b'W' => return Ok(()),
                b'E' => return Err(ServerError::read(&message.body).into()),
                b'Z' => return Err(malformed("answer to START_REPLICATION").into()),
                _ => {}
            }
        }
    }
}

fn read_row(mut body: Bytes) -> io::Result<Vec<Option<String>>> {
    let short = || malformed("row");
    let count = body.try_get_u16().map_err(|_| short())?;
    let mut row = Vec::new();
    for _ in 0..count {
        let length = body.try_get_i32().map_err(|_| short())?;
        row.push(match usize::try_from(length) {
            Err(_) => None,
            Ok(length) if length <= body.len() => {
                Some(String::from_utf8(body.split_to(length).into()).map_err(|_| short())?)
            }
            Ok(_) => return Err(short()),
        });
    }
    Ok(row)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_response_is_read_whole() {
        let body = b"SERROR\0VERROR\0C42704\0Mno slot\0Dsome\0Hdo it\0\0";
        let error = ServerError::read(body);
        assert_eq!(error.to_string(), "no slot (SQLSTATE 42704); some; hint: do it");
    }

    #[test]
    fn a_row_that_lies_about_its_length_is_an_error() {
        let row = read_row(Bytes::from_static(b"\0\x02\0\0\0\x01a\xff\xff\xff\xff")).unwrap();
        assert_eq!(row, [Some("a".to_owned()), None]);
        assert!(read_row(Bytes::from_static(b"\0\x01\0\0\0\x05a")).is_err());
        assert!(read_row(Bytes::from_static(b"\0\x02\0\0\0\x01a")).is_err());
    }
}
