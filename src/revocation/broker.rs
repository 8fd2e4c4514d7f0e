//! RabbitMQ: two durable quorum queues for each attempt, publishing that believes nothing but a confirm, reading
//! that acknowledges after the fact. Only this module and its children speak to the broker.
//!
//! No automatic recovery: it was measured to leave a confirm hanging for a message that was stored. On any failure
//! the connection is given up; the caller makes another one and does again what was not confirmed, under the same ids.

mod probe;
mod publisher;
mod reader;

pub use probe::{BrokerFacts, probe, topology_findings};
pub use publisher::{Outgoing, Publisher};
pub use reader::{Arrived, Reader};

use super::message::Context;
use crate::error::{Doing, Error, Kind, Result};
use crate::plan::Secret;
use lapin::options::{QueueDeclareOptions, QueueDeleteOptions, QueuePurgeOptions};
use lapin::protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection, ConnectionProperties, ErrorKind, uri::AMQPUri};
use std::time::Duration;

/// How long the broker may take to accept a connection, or to answer a command.
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);
/// Seconds between signs of life; twice that without one ends the connection.
const HEARTBEAT_SECONDS: u16 = 10;
/// Deliveries of one message after which the broker parks it. The default of RabbitMQ 4, 20, is soon reached when a
/// reader restarts with a full window, and without a dead-letter queue such messages are dropped.
const DELIVERIES_MAX: i32 = 1_000;
/// The same for the parking queue, where nothing may ever go.
const PARKED_DELIVERIES_MAX: i32 = 1_000_000_000;

/// The queues of one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queues {
    /// What capture publishes and replay reads: `migrate.<plan>.<attempt>`.
    pub main: String,
    /// Messages nobody could use: `migrate.<plan>.<attempt>.parked`.
    pub parked: String,
}

/// How many messages wait. What a reader holds unacknowledged is not among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Depth {
    /// In the main queue.
    pub ready: u64,
    /// In the parking queue.
    pub parked: u64,
}

impl Queues {
    /// The queues of an attempt.
    pub fn of(context: &Context) -> Queues {
        let main = format!("migrate.{}.{}", context.plan, context.attempt);
        Queues { parked: format!("{main}.parked"), main }
    }

    /// Makes both queues, or sees that they are exactly as we would make them.
    async fn declare(&self, link: &Link) -> Result<()> {
        link.declare(&self.parked, parked_arguments()).await?;
        link.declare(&self.main, main_arguments(&self.parked)).await
    }

    /// How many messages wait in each.
    ///
    /// # Errors
    /// [`Kind::Connect`] when the broker cannot be reached; [`Kind::Request`] when a queue is not there.
    pub async fn depth(&self, url: &Secret) -> Result<Depth> {
        let link = Link::open(url, "look").await?;
        let depth = Depth { ready: link.count(&self.main).await?, parked: link.count(&self.parked).await? };
        link.close().await;
        Ok(depth)
    }

    /// Throws away what waits in both queues, and says how many there were. For `finish`, when all is proved.
    ///
    /// # Errors
    /// As [`Queues::depth`].
    pub async fn purge(&self, url: &Secret) -> Result<Depth> {
        let link = Link::open(url, "purge").await?;
        let purge = async |queue: &str| {
            let purged = link.channel.queue_purge(queue.into(), QueuePurgeOptions::default());
            answer(purged, || format!("cannot purge queue {queue}")).await
        };
        let depth = Depth {
            ready: u64::from(purge(&self.main).await?),
            parked: u64::from(purge(&self.parked).await?),
        };
        link.close().await;
        Ok(depth)
    }

    /// Removes both queues if they are empty; that they are gone already is fine.
    ///
    /// The look and the removal are two commands, since a quorum queue does not know `if_empty` (measured: 540): nobody
    /// may publish any more.
    ///
    /// # Errors
    /// [`Kind::Gate`] when one still holds messages; [`Kind::Connect`] when the broker cannot be reached.
    pub async fn delete(&self, url: &Secret) -> Result<()> {
        for queue in [&self.main, &self.parked] {
            // A connection for each: that a queue is not there closes the channel.
            let link = Link::open(url, "delete").await?;
            match link.count(queue).await {
                Ok(0) => {
                    let deleted =
                        link.channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default());
                    answer(deleted, || format!("cannot delete queue {queue}")).await?;
                }
                Ok(count) => {
                    return Err(Error::new(
                        Kind::Gate,
                        format!("queue {queue} still holds {count} message(s)"),
                    )
                    .hint("They were not replayed: look at them with the broker's own tools before you delete the queue."));
                }
                Err(error) if error.kind == Kind::Request => {}
                Err(error) => return Err(error),
            }
            link.close().await;
        }
        Ok(())
    }

    /// Removes both queues with whatever is in them; that they are gone already is fine. For `rollback --all`: on blue
    /// the revocations are in force anyway.
    ///
    /// # Errors
    /// [`Kind::Connect`] when the broker cannot be reached or does not answer.
    pub async fn discard(&self, url: &Secret) -> Result<()> {
        let link = Link::open(url, "discard").await?;
        for queue in [&self.main, &self.parked] {
            let deleted = link.channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default());
            answer(deleted, || format!("cannot delete queue {queue}")).await?;
        }
        link.close().await;
        Ok(())
    }
}

fn long_string(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

/// What both queues are: replicated, refusing rather than dropping when full, and without any time to live.
fn arguments(deliveries_max: i32) -> FieldTable {
    let mut table = FieldTable::default();
    table.insert("x-queue-type".into(), long_string("quorum"));
    table.insert("x-overflow".into(), long_string("reject-publish"));
    table.insert("x-delivery-limit".into(), AMQPValue::LongInt(deliveries_max));
    table
}

fn parked_arguments() -> FieldTable {
    arguments(PARKED_DELIVERIES_MAX)
}

/// Rejected messages go to the parking queue and leave this one only when they are safely there.
fn main_arguments(parked: &str) -> FieldTable {
    let mut table = arguments(DELIVERIES_MAX);
    table.insert("x-dead-letter-exchange".into(), long_string(""));
    table.insert("x-dead-letter-routing-key".into(), long_string(parked));
    table.insert("x-dead-letter-strategy".into(), long_string("at-least-once"));
    table
}

/// A connection with one channel.
struct Link {
    connection: Connection,
    channel: Channel,
}

impl Link {
    /// Connects. `purpose` is shown in the broker's list of connections as `migrate: purpose`.
    async fn open(url: &Secret, purpose: &str) -> Result<Link> {
        let uri = parse(url)?;
        let label = label(&uri);
        let properties =
            ConnectionProperties::default().with_connection_name(format!("migrate: {purpose}").into());
        let opening = async {
            let connection = Connection::connect_uri(uri, properties).await?;
            let channel = connection.create_channel().await?;
            Ok::<_, lapin::Error>(Link { connection, channel })
        };
        match tokio::time::timeout(ANSWER_DEADLINE, opening).await {
            Ok(Ok(link)) => Ok(link),
            Ok(Err(error)) => Err(cannot_connect(&label, error)),
            Err(_) => Err(Error::new(
                Kind::Connect,
                format!("RabbitMQ at {label} did not answer within {} s", ANSWER_DEADLINE.as_secs()),
            )
            .hint("Is it RabbitMQ's AMQP port (5672, or 5671 with TLS), and is broker.url's scheme right for it?")),
        }
    }

    async fn declare(&self, queue: &str, arguments: FieldTable) -> Result<()> {
        let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        let declared = self.channel.queue_declare(queue.into(), durable, arguments);
        match answer(declared, || format!("cannot declare queue {queue}")).await {
            Err(error) if soft_error(&error) == Some(AMQPSoftError::PRECONDITIONFAILED) => Err(Error::new(
                Kind::Request,
                format!("queue {queue} exists, and is not as we would make it"),
            )
            .hint("Something else made it, or changed it: remove it if nothing in it is needed.")
            .source(error)),
            other => other.map(|_| ()),
        }
    }

    async fn count(&self, queue: &str) -> Result<u64> {
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let declared = self.channel.queue_declare(queue.into(), passive, FieldTable::default());
        match answer(declared, || format!("cannot look at queue {queue}")).await {
            Err(error) if soft_error(&error) == Some(AMQPSoftError::NOTFOUND) => {
                Err(Error::new(Kind::Request, format!("queue {queue} is not there")).source(error))
            }
            other => Ok(u64::from(other?.message_count())),
        }
    }

    /// Says goodbye. That it is not heard changes nothing.
    async fn close(self) {
        let bye = self.connection.close(200, "done".into());
        if !matches!(tokio::time::timeout(Duration::from_secs(2), bye).await, Ok(Ok(()))) {
            tracing::debug!("the broker did not take our goodbye");
        }
    }
}

/// Waits for the broker's answer, at most [`ANSWER_DEADLINE`].
async fn answer<T>(
    call: impl Future<Output = lapin::Result<T>>,
    what: impl FnOnce() -> String + Copy,
) -> Result<T> {
    tokio::time::timeout(ANSWER_DEADLINE, call)
        .await
        .doing(Kind::Connect, || format!("{}: RabbitMQ did not answer", what()))?
        .doing(Kind::Connect, what)
}

/// Which channel-level error the broker gave, if that is what this error comes from.
fn soft_error(error: &Error) -> Option<AMQPSoftError> {
    let source = error.source.as_deref()?.downcast_ref::<lapin::Error>()?;
    match source.kind() {
        ErrorKind::ProtocolError(error) => match error.kind() {
            AMQPErrorKind::Soft(soft) => Some(soft.clone()),
            AMQPErrorKind::Hard(_) => None,
        },
        _ => None,
    }
}

/// Reads the broker's URL.
///
/// # Errors
/// [`Kind::Plan`] when it is not one; the message never contains it.
fn parse(url: &Secret) -> Result<AMQPUri> {
    let mut uri: AMQPUri = url.expose().parse().map_err(|_: String| {
        // The library's message may repeat a part of the URL.
        Error::new(Kind::Plan, "broker.url is not a URL of a RabbitMQ broker")
            .hint("Write amqp://user:password@host:port/vhost, or amqps:// for TLS; %2f is the vhost `/`.")
    })?;
    uri.query.heartbeat.get_or_insert(HEARTBEAT_SECONDS);
    uri.query.connection_timeout.get_or_insert(ANSWER_DEADLINE.as_millis() as u64);
    Ok(uri)
}

/// `host:port, vhost v, as user`, without the password.
fn label(uri: &AMQPUri) -> String {
    let authority = &uri.authority;
    let vhost = if uri.vhost.is_empty() { "/" } else { &uri.vhost };
    format!("{}:{} (vhost {vhost}, user {})", authority.host, authority.port, authority.userinfo.username)
}

fn cannot_connect(label: &str, error: lapin::Error) -> Error {
    let hint = match error.kind() {
        ErrorKind::ProtocolError(error) => match error.kind() {
            AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED) => {
                Some("The broker refused user or password of broker.url.")
            }
            AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED) => {
                Some("The broker has no such vhost, or does not let this user into it.")
            }
            _ => None,
        },
        ErrorKind::IOError(_) => {
            Some("Is the broker running, and do host and port of broker.url lead to it?")
        }
        _ => None,
    };
    let refused = Error::new(Kind::Connect, format!("cannot connect to RabbitMQ at {label}")).source(error);
    match hint {
        Some(hint) => refused.hint(hint),
        None => refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_of_the_url_is_never_shown() {
        let uri = parse(&Secret::new("amqp://us:hunter2@h:1234/v")).unwrap();
        assert_eq!(label(&uri), "h:1234 (vhost v, user us)");
        for url in ["amqp://us:hunter2@h:99999/v", "http://us:hunter2@h/", "hunter2"] {
            let error = parse(&Secret::new(url)).unwrap_err();
            assert_eq!(error.kind, Kind::Plan);
            assert!(!error.chain().join(" ").contains("hunter2"), "{url}");
        }
    }

    #[test]
    fn the_main_queue_loses_nothing_by_its_arguments() {
        let arguments = main_arguments("q.parked");
        let text = |name: &str| match arguments.inner().get(name) {
            Some(AMQPValue::LongString(value)) => value.to_string(),
            other => format!("{other:?}"),
        };
        assert_eq!(text("x-queue-type"), "quorum");
        assert_eq!(text("x-overflow"), "reject-publish");
        assert_eq!(text("x-dead-letter-strategy"), "at-least-once");
        assert_eq!(text("x-dead-letter-routing-key"), "q.parked");
        assert!(!arguments.inner().keys().any(|name| name.as_str().contains("ttl")));
    }
}
