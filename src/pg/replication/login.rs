//! Startup and authentication of a replication connection.

use super::BackendKey;
use super::wire::{Raw, ServerError, Wire, malformed};
use crate::error::{Error, Kind, Result};
use crate::pg::conninfo::{ChannelBinding, ConnInfo};
use crate::pg::{connect, transport};
use bytes::{Buf, Bytes, BytesMut};
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{self, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256};
use postgres_protocol::message::frontend;
use secrecy::ExposeSecret;

/// Why we were not let in.
enum Refusal {
    Raw(Raw),
    MissingPassword,
    /// The server's way to authenticate is not one of ours, or too weak for `channel_binding`.
    Unacceptable(&'static str),
}

impl<E: Into<Raw>> From<E> for Refusal {
    fn from(error: E) -> Refusal {
        Refusal::Raw(error.into())
    }
}

/// Opens a stream and logs in, by each way `sslmode` allows until one is let in.
pub(super) async fn log_in(info: &ConnInfo, purpose: &str) -> Result<(Wire, Option<BackendKey>)> {
    let mut first_failure = None;
    for attempt in transport::attempts(info) {
        let outcome = match transport::open(info, *attempt).await {
            Ok(stream) => {
                enter(Wire::new(stream), info, purpose).await.map_err(|refusal| explain(info, refusal))
            }
            Err(error) => Err((error, true)),
        };
        match outcome {
            Ok(entered) => return Ok(entered),
            Err((error, true)) => {
                first_failure.get_or_insert(error);
            }
            Err((error, false)) => return Err(error),
        }
    }
    Err(first_failure.unwrap_or_else(|| Error::new(Kind::Bug, "there is no way to connect")))
}

/// The error, and whether another way to connect may do better.
fn explain(info: &ConnInfo, refusal: Refusal) -> (Error, bool) {
    match refusal {
        Refusal::Raw(error) => {
            let again = error.sqlstate().is_none_or(|code| code == "28000");
            let refused = connect::explain_refusal(info, error.sqlstate(), false);
            (error.under(refused), again)
        }
        Refusal::MissingPassword => (connect::explain_refusal(info, None, true), false),
        Refusal::Unacceptable(why) => (
            Error::new(Kind::Connect, format!("cannot log in to {}: {why}", info.label()))
                .hint("Use scram-sha-256 (best), md5 or password in pg_hba.conf; channel_binding=require needs TLS and SCRAM."),
            false,
        ),
    }
}

async fn enter(
    mut wire: Wire,
    info: &ConnInfo,
    purpose: &str,
) -> Result<(Wire, Option<BackendKey>), Refusal> {
    let mut startup = BytesMut::new();
    let application = info.application_name(purpose);
    let options = connect::pinned_options(info);
    frontend::startup_message(
        [
            ("user", info.user()),
            ("database", info.database()),
            ("replication", "database"),
            ("client_encoding", "UTF8"),
            ("application_name", application.as_str()),
            ("options", options.as_str()),
        ],
        &mut startup,
    )?;
    wire.send(&startup).await?;
    let mut backend = None;
    loop {
        let mut message = wire.message().await?;
        match message.tag {
            b'R' => authenticate(&mut wire, info, message.body).await?,
            b'K' => {
                let mut next = || message.body.try_get_i32().map_err(|_| malformed("backend key"));
                backend = Some(BackendKey { process_id: next()?, secret: next()? });
            }
            b'Z' => return Ok((wire, backend)),
            b'E' => return Err(ServerError::read(&message.body).into()),
            _ => {}
        }
    }
}

/// Answers one request of the server; SCRAM takes its whole exchange.
async fn authenticate(wire: &mut Wire, info: &ConnInfo, mut request: Bytes) -> Result<(), Refusal> {
    let kind = request.try_get_i32().map_err(|_| malformed("authentication request"))?;
    let password = || info.password.as_ref().map(ExposeSecret::expose_secret).ok_or(Refusal::MissingPassword);
    let bound = info.channel_binding == ChannelBinding::Require;
    let mut answer = BytesMut::new();
    match kind {
        // Ok: after SCRAM, or at once when the server trusts us or our certificate.
        0 => return Ok(()),
        3 | 5 if bound => return Err(Refusal::Unacceptable("it cannot bind to the TLS channel")),
        3 => frontend::password_message(password()?.as_bytes(), &mut answer)?,
        5 => {
            let salt = request.first_chunk::<4>().ok_or_else(|| malformed("md5 salt"))?;
            let hash = md5_hash(info.user().as_bytes(), password()?.as_bytes(), *salt);
            frontend::password_message(hash.as_bytes(), &mut answer)?;
        }
        10 => return scram(wire, info, password()?, &request).await,
        _ => return Err(Refusal::Unacceptable("it wants a kind of authentication we do not have")),
    }
    Ok(wire.send(&answer).await?)
}

async fn scram(wire: &mut Wire, info: &ConnInfo, password: &str, mechanisms: &[u8]) -> Result<(), Refusal> {
    let offers =
        |mechanism: &str| mechanisms.split(|byte| *byte == 0).any(|offer| offer == mechanism.as_bytes());
    let end_point = wire.server_end_point().filter(|_| info.channel_binding != ChannelBinding::Disable);
    let (binding, mechanism) = match end_point {
        Some(end_point) if offers(SCRAM_SHA_256_PLUS) => {
            (sasl::ChannelBinding::tls_server_end_point(end_point), SCRAM_SHA_256_PLUS)
        }
        _ if info.channel_binding == ChannelBinding::Require => {
            return Err(Refusal::Unacceptable("it cannot bind to the TLS channel"));
        }
        _ if !offers(SCRAM_SHA_256) => return Err(Refusal::Unacceptable("it offers no SCRAM-SHA-256")),
        // We could bind and the server offers it not: saying so lets it notice somebody in between.
        Some(_) => (sasl::ChannelBinding::unrequested(), SCRAM_SHA_256),
        None => (sasl::ChannelBinding::unsupported(), SCRAM_SHA_256),
    };
    let mut scram = ScramSha256::new(password.as_bytes(), binding);
    let mut answer = BytesMut::new();
    frontend::sasl_initial_response(mechanism, scram.message(), &mut answer)?;
    wire.send(&answer).await?;
    scram.update(&sasl_data(wire, 11).await?)?;
    answer.clear();
    frontend::sasl_response(scram.message(), &mut answer)?;
    wire.send(&answer).await?;
    // The server proves here that it knows the password, too.
    scram.finish(&sasl_data(wire, 12).await?)?;
    Ok(())
}

async fn sasl_data(wire: &mut Wire, expected: i32) -> Result<Bytes, Raw> {
    loop {
        let mut message = wire.message().await?;
        match message.tag {
            b'R' if message.body.try_get_i32().ok() == Some(expected) => return Ok(message.body),
            b'E' => return Err(ServerError::read(&message.body).into()),
            b'N' => {}
            _ => return Err(malformed("SASL message").into()),
        }
    }
}
