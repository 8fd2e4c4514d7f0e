//! The byte stream to a server: socket, keepalives, TLS by libpq's rules. SQL and replication clients share it.

use super::conninfo::{ConnInfo, SslMode};
use super::tls;
use crate::error::{Doing, Error, Kind, Result};
use bytes::BytesMut;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_postgres::tls::{ChannelBinding, TlsStream};

/// An open stream to a server, before anybody logged in.
pub(super) enum Transport {
    Plain(TcpStream),
    Unix(UnixStream),
    Tls(Box<tokio_rustls::client::TlsStream<TcpStream>>),
}

/// One way to try, in the order `sslmode` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Attempt {
    Plain,
    /// TLS if the server offers it, else plain.
    TlsIfOffered,
    Tls,
}

/// The ways to try. A later one is tried when the server turned the earlier away before asking for a password.
pub(super) fn attempts(info: &ConnInfo) -> &'static [Attempt] {
    if info.socket_directory().is_some() {
        return &[Attempt::Plain];
    }
    match info.tls.mode {
        SslMode::Disable => &[Attempt::Plain],
        SslMode::Allow => &[Attempt::Plain, Attempt::Tls],
        SslMode::Prefer => &[Attempt::TlsIfOffered, Attempt::Plain],
        SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => &[Attempt::Tls],
    }
}

/// Opens a stream. The caller sets the deadline.
pub(super) async fn open(info: &ConnInfo, attempt: Attempt) -> Result<Transport> {
    if let Some(directory) = info.socket_directory() {
        let path = directory.join(format!(".s.PGSQL.{}", info.port()));
        let stream = UnixStream::connect(&path).await.map_err(|error| unreachable_server(info, error))?;
        return Ok(Transport::Unix(stream));
    }
    let mut stream = connect_tcp(info).await?;
    if attempt == Attempt::Plain {
        return Ok(Transport::Plain(stream));
    }
    if !info.tls.direct && !server_offers_tls(info, &mut stream).await? {
        if attempt == Attempt::TlsIfOffered {
            return Ok(Transport::Plain(stream));
        }
        return Err(Error::new(Kind::Connect, format!("the server at {} does not offer TLS", info.label()))
            .hint("Turn `ssl` on there, or lower `sslmode` to prefer."));
    }
    let connector = tokio_rustls::TlsConnector::from(tls::client_config(info)?);
    let stream = connector.connect(tls::server_name(info)?, stream).await.map_err(|error| {
        Error::new(Kind::Connect, format!("TLS with {} failed", info.label())).source(error).hint(
            "The server's certificate must be valid, vouched for by `sslrootcert` and, with verify-full, carry the name in `host`.",
        )
    })?;
    Ok(Transport::Tls(Box::new(stream)))
}

async fn connect_tcp(info: &ConnInfo) -> Result<TcpStream> {
    let addresses = match info.hostaddr {
        Some(address) => vec![SocketAddr::new(address, info.port())],
        None => lookup(info).await?,
    };
    let mut left = u32::try_from(addresses.len()).unwrap_or(u32::MAX).max(1);
    let mut failure = io::Error::from(io::ErrorKind::NotFound);
    for address in addresses {
        // A dead address may not eat the time of the next one.
        let share: Duration = info.connect_timeout / left;
        left = left.saturating_sub(1).max(1);
        match tokio::time::timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                tune(info, &stream)
                    .doing(Kind::Connect, || format!("cannot tune the socket to {}", info.label()))?;
                return Ok(stream);
            }
            Ok(Err(error)) => failure = error,
            Err(_) => failure = io::Error::from(io::ErrorKind::TimedOut),
        }
    }
    Err(unreachable_server(info, failure))
}

async fn lookup(info: &ConnInfo) -> Result<Vec<SocketAddr>> {
    let unknown = || {
        Error::new(Kind::Connect, format!("host `{}` is not known here", info.host()))
            .hint("Check the name in the connection string, and this machine's DNS.")
    };
    let found = tokio::net::lookup_host((info.host(), info.port())).await;
    let addresses: Vec<_> = found.map_err(|error| unknown().source(error))?.collect();
    if addresses.is_empty() { Err(unknown()) } else { Ok(addresses) }
}

fn tune(info: &ConnInfo, stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    if info.keepalive.on {
        let keepalive = socket2::TcpKeepalive::new()
            .with_time(info.keepalive.idle)
            .with_interval(info.keepalive.interval)
            .with_retries(info.keepalive.count);
        socket2::SockRef::from(stream).set_tcp_keepalive(&keepalive)?;
    }
    Ok(())
}

/// Asks for TLS. Exactly one byte is read: what follows it belongs to the handshake.
async fn server_offers_tls(info: &ConnInfo, stream: &mut TcpStream) -> Result<bool> {
    let mut request = BytesMut::new();
    postgres_protocol::message::frontend::ssl_request(&mut request);
    let mut answer = [0];
    let exchange = async {
        stream.write_all(&request).await?;
        stream.read_exact(&mut answer).await
    };
    exchange.await.map_err(|error| unreachable_server(info, error))?;
    Ok(answer == *b"S")
}

fn unreachable_server(info: &ConnInfo, error: io::Error) -> Error {
    let (what, hint) = match error.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => (
            format!("no server listens at {}:{}", info.host(), info.port()),
            "Check host and port, that the server runs, and its `listen_addresses`.",
        ),
        io::ErrorKind::TimedOut => (
            format!("{}:{} does not answer", info.host(), info.port()),
            "Check host and port, routes and firewalls; `connect_timeout` sets how long we wait.",
        ),
        _ => (
            format!("cannot reach {}:{}", info.host(), info.port()),
            "Check host and port, and that a Postgres server answers there.",
        ),
    };
    Error::new(Kind::Connect, what).hint(hint).source(error)
}

impl Transport {
    /// What SCRAM binds to, when the stream is encrypted.
    pub fn server_end_point(&self) -> Option<Vec<u8>> {
        let Transport::Tls(stream) = self else { return None };
        let (_, session) = stream.get_ref();
        session.peer_certificates()?.first().and_then(|certificate| tls::server_end_point(certificate))
    }
}

impl AsyncRead for Transport {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Transport::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Transport::Unix(stream) => Pin::new(stream).poll_read(cx, buffer),
            Transport::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Transport::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Transport::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
            Transport::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Transport::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Transport::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Transport::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Transport::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Transport::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Transport::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

impl TlsStream for Transport {
    fn channel_binding(&self) -> ChannelBinding {
        self.server_end_point().map_or_else(ChannelBinding::none, ChannelBinding::tls_server_end_point)
    }
}
