//! Publishing that believes nothing but a confirm.

use super::{Link, Queues};
use crate::error::{Doing, Error, Kind, Result};
use crate::plan::Secret;
use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Confirmation};
use std::time::Duration;

/// Messages on the way without a confirm.
const WINDOW: usize = 256;
/// How long the broker may take to confirm. One that raised an alarm does not answer at all: that is a broker down.
const CONFIRM_DEADLINE: Duration = Duration::from_secs(10);

/// A message to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// Its id, as the AMQP property.
    pub id: String,
    /// Its bytes.
    pub body: Vec<u8>,
}

/// A connection for publishing alone: alarms block publishers, and must not block readers.
pub struct Publisher {
    link: Link,
    queue: String,
}

impl Publisher {
    /// Connects and makes the queues.
    ///
    /// # Errors
    /// [`Kind::Connect`] when the broker cannot be reached, which may pass; [`Kind::Request`] when a queue of that
    /// name exists with other arguments, which does not.
    pub async fn open(url: &Secret, queues: &Queues) -> Result<Publisher> {
        let link = Link::open(url, "capture").await?;
        queues.declare(&link).await?;
        let publisher = Publisher { link, queue: queues.main.clone() };
        publisher.ask_for_confirms().await?;
        Ok(publisher)
    }

    async fn ask_for_confirms(&self) -> Result<()> {
        let select = self.link.channel.confirm_select(ConfirmSelectOptions::default());
        super::answer(select, || "cannot ask RabbitMQ for confirms".into()).await
    }

    /// Publishes messages in order, and returns when every one of them is confirmed.
    ///
    /// # Errors
    /// [`Kind::Connect`] when any one is not: give this publisher up, open another, and publish *all* again under
    /// the same ids. Those that arrived arrive twice, and the reader sees that by their ids.
    pub async fn publish(&self, messages: &[Outgoing]) -> Result<()> {
        let mut confirms = FuturesOrdered::new();
        for message in messages {
            if confirms.len() >= WINDOW {
                confirmed(confirms.next().await)?;
            }
            let publishing = self.link.channel.basic_publish(
                "".into(),
                self.queue.as_str().into(),
                BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() },
                &message.body,
                properties(&message.id),
            );
            let confirm =
                super::answer(publishing, || format!("cannot publish to queue {}", self.queue)).await?;
            confirms.push_back(tokio::time::timeout(CONFIRM_DEADLINE, confirm));
        }
        while let Some(confirm) = confirms.next().await {
            confirmed(Some(confirm))?;
        }
        Ok(())
    }

    /// Whether the connection stands, as far as we know without asking.
    pub fn is_connected(&self) -> bool {
        self.link.connection.status().connected()
    }

    /// Says goodbye.
    pub async fn close(self) {
        self.link.close().await;
    }
}

fn properties(id: &str) -> BasicProperties {
    BasicProperties::default()
        .with_delivery_mode(2)
        .with_content_type("application/json".into())
        .with_message_id(id.into())
        .with_app_id("migrate".into())
}

type Waited = std::result::Result<lapin::Result<Confirmation>, tokio::time::error::Elapsed>;

/// An acknowledgement that brings the message back means that it was in no queue.
fn confirmed(waited: Option<Waited>) -> Result<()> {
    let Some(waited) = waited else { return Ok(()) };
    let confirmation = waited
        .doing(Kind::Connect, || {
            format!("RabbitMQ did not confirm a message within {} s", CONFIRM_DEADLINE.as_secs())
        })?
        .doing(Kind::Connect, || "the connection to RabbitMQ ended before a confirm".into())?;
    match confirmation {
        Confirmation::Ack(None) => Ok(()),
        Confirmation::Ack(Some(returned)) | Confirmation::Nack(Some(returned)) => Err(Error::new(
            Kind::Connect,
            format!("RabbitMQ returned a message: {} {}", returned.reply_code, returned.reply_text),
        )
        .hint("The queue was removed, or cannot be reached.")),
        Confirmation::Nack(None) => Err(Error::new(Kind::Connect, "RabbitMQ refused a message (nack)")
            .hint("The queue is full, or has lost the majority of its nodes.")),
        Confirmation::NotRequested => Err(Error::new(Kind::Bug, "published without asking for confirms")),
    }
}
