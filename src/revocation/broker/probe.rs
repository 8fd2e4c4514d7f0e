//! Looks at a broker before it is trusted with anything: what it is, how old, and whether we may use it.

use super::{ANSWER_DEADLINE, Link, label, parse};
use crate::error::{Doing, Error, Kind, Result};
use crate::finding::{Finding, Place, Severity};
use crate::plan::{Broker, Secret};
use lapin::types::{AMQPValue, FieldTable};
use lapin::uri::AMQPScheme;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// The largest greeting we read.
const GREETING_BYTES_MAX: usize = 64 << 10;

/// What a broker says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerFacts {
    /// `RabbitMQ`, or what else it is.
    pub product: String,
    /// Its version: `3.10.8`.
    pub version: String,
    /// The cluster's name, when it says one.
    pub cluster: Option<String>,
    /// Nodes of the cluster. AMQP does not tell; `None` means nobody has counted.
    pub nodes: Option<u32>,
}

/// Connects to a broker with the plan's user and says what it is. Changes nothing there.
///
/// # Errors
/// [`Kind::Connect`] when it cannot be reached, refuses us, or is not RabbitMQ 3.10 or later; [`Kind::Plan`] when
/// the URL cannot be read. The URL's password is in none of them.
pub async fn probe(url: &Secret) -> Result<BrokerFacts> {
    let uri = parse(url)?;
    let label = label(&uri);
    let facts = match uri.scheme {
        AMQPScheme::AMQP => Some(greet(&uri.authority.host, uri.authority.port, &label).await?),
        // Over TLS the library makes the connection, and does not pass on what the broker says of itself.
        AMQPScheme::AMQPS => None,
    };
    if let Some(facts) = &facts
        && (facts.product != "RabbitMQ" || is_before_3_10(&facts.version))
    {
        let what = format!("the broker at {label} is {} {}", facts.product, facts.version);
        return Err(Error::new(Kind::Connect, what).hint(
            "RabbitMQ 3.10 or later is needed: its quorum queues park what cannot be used instead of dropping it.",
        ));
    }
    Link::open(url, "check").await?.close().await;
    Ok(facts.unwrap_or_else(|| BrokerFacts {
        product: "AMQP 0-9-1 broker".into(),
        version: "unknown".into(),
        cluster: None,
        nodes: None,
    }))
}

/// What an operator should know of where the queue lies.
pub fn topology_findings(broker: &Broker, facts: &BrokerFacts) -> Vec<Finding> {
    let waived = broker.allow_single_node;
    let (code, severity, what) = match facts.nodes {
        Some(nodes) if nodes >= 3 => return Vec::new(),
        Some(nodes) => (
            "BROKER_FEW_NODES",
            if waived { Severity::Info } else { Severity::Blocking },
            format!("the broker has {nodes} node(s): a lost disk loses captured revocations"),
        ),
        None => (
            "BROKER_NODES_UNKNOWN",
            if waived { Severity::Info } else { Severity::Warning },
            "AMQP does not tell how many nodes the broker has: with fewer than three, a lost disk loses captured revocations"
                .to_owned(),
        ),
    };
    vec![Finding {
        code: code.into(),
        severity,
        place: Place::Outside { object: "broker".into() },
        what,
        help: "Use a cluster of three nodes or more, or accept one with broker.allow_single_node: true."
            .into(),
    }]
}

fn is_before_3_10(version: &str) -> bool {
    let mut numbers = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) < (3, 10)
}

/// Says hello and reads the broker's first frame: `connection.start` carries what the server is.
async fn greet(host: &str, port: u16, label: &str) -> Result<BrokerFacts> {
    let what = || format!("cannot connect to RabbitMQ at {label}");
    let greeting = async {
        let mut stream = tokio::net::TcpStream::connect((host, port)).await?;
        stream.write_all(b"AMQP\x00\x00\x09\x01").await?;
        let mut head = [0_u8; 7];
        stream.read_exact(&mut head).await?;
        let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
        // A method frame of channel 0, of a size no other protocol's greeting would claim.
        if head[..3] != [1, 0, 0] || size > GREETING_BYTES_MAX {
            return Ok(None);
        }
        let mut frame = vec![0_u8; size];
        stream.read_exact(&mut frame).await?;
        Ok::<_, std::io::Error>(Some(frame))
    };
    let greeted = tokio::time::timeout(ANSWER_DEADLINE, greeting).await;
    let frame = match greeted.doing(Kind::Connect, what).map_err(|error| error.hint(NOT_AMQP))? {
        Ok(frame) => frame,
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => None,
        Err(error) => return Err(Error::new(Kind::Connect, what()).hint(NOT_THERE).source(error)),
    };
    frame.as_deref().and_then(read_greeting).ok_or_else(|| {
        Error::new(Kind::Connect, format!("what answers at {label} is not RabbitMQ")).hint(NOT_AMQP)
    })
}

const NOT_THERE: &str = "Is the broker running, and do host and port of broker.url lead to it?";
const NOT_AMQP: &str = "broker.url needs RabbitMQ's AMQP port: 5672, or 5671 with amqps://.";

/// Class 10 method 10, version 0-9, then the table of server properties.
fn read_greeting(frame: &[u8]) -> Option<BrokerFacts> {
    let table = frame.strip_prefix(&[0, 10, 0, 10, 0, 9][..])?;
    let (_, properties) = lapin::types::parsing::parse_field_table(table).ok()?;
    Some(BrokerFacts {
        product: text(&properties, "product")?,
        version: text(&properties, "version")?,
        cluster: text(&properties, "cluster_name"),
        nodes: None,
    })
}

fn text(properties: &FieldTable, name: &str) -> Option<String> {
    match properties.inner().get(name)? {
        AMQPValue::LongString(value) => Some(value.to_string()),
        _ => None,
    }
}
