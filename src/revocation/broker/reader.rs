//! Reading from the main queue: a bounded window, and acknowledgement only after the fact.

use super::{Link, Queues};
use crate::error::{Doing, Kind, Result};
use crate::plan::Secret;
use futures_util::StreamExt;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions, BasicRejectOptions};
use lapin::types::FieldTable;
use lapin::{Consumer, message::Delivery};
use std::time::Duration;

/// Messages the broker gives us without an acknowledgement.
const PREFETCH: u16 = 200;

/// A message that arrived. It stays the broker's until it is acknowledged.
#[derive(Debug)]
pub struct Arrived {
    delivery: Delivery,
}

impl Arrived {
    /// Its bytes.
    pub fn body(&self) -> &[u8] {
        &self.delivery.data
    }
}

/// A connection for reading alone.
pub struct Reader {
    link: Link,
    consumer: Consumer,
    queues: Queues,
}

impl Reader {
    /// Connects and begins to read.
    ///
    /// # Errors
    /// As [`super::Publisher::open`].
    pub async fn open(url: &Secret, queues: &Queues) -> Result<Reader> {
        let link = Link::open(url, "replay").await?;
        queues.declare(&link).await?;
        let what = || format!("cannot read from queue {}", queues.main);
        super::answer(link.channel.basic_qos(PREFETCH, BasicQosOptions::default()), what).await?;
        let consuming = link.channel.basic_consume(
            queues.main.as_str().into(),
            "migrate-replay".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        );
        let consumer = super::answer(consuming, what).await?;
        Ok(Reader { link, consumer, queues: queues.clone() })
    }

    /// What has arrived: at most a window, none when nothing came for `patience`.
    ///
    /// # Errors
    /// [`Kind::Connect`] when the connection ended. What was not acknowledged will come again, to another reader.
    pub async fn next_batch(&mut self, patience: Duration) -> Result<Vec<Arrived>> {
        let mut batch = Vec::new();
        let mut patience = patience;
        while batch.len() < usize::from(PREFETCH) {
            match tokio::time::timeout(patience, self.consumer.next()).await {
                Err(_) => break,
                Ok(Some(delivery)) => {
                    let delivery = delivery.doing(Kind::Connect, lost)?;
                    batch.push(Arrived { delivery });
                    // More may be right behind; a batch costs green one transaction whatever its size.
                    patience = Duration::from_millis(20);
                }
                Ok(None) => return Err(crate::error::Error::new(Kind::Connect, lost())),
            }
        }
        Ok(batch)
    }

    /// Tells the broker to forget messages: their effect is committed on green.
    ///
    /// # Errors
    /// [`Kind::Connect`]; they will come again, which changes nothing.
    pub async fn acknowledge(&self, messages: &[Arrived]) -> Result<()> {
        for message in messages {
            message.delivery.acker.ack(BasicAckOptions::default()).await.doing(Kind::Connect, lost)?;
        }
        Ok(())
    }

    /// Lets the broker move messages to the parking queue.
    ///
    /// # Errors
    /// [`Kind::Connect`]; they will come again, and be parked then.
    pub async fn park(&self, messages: &[Arrived]) -> Result<()> {
        for message in messages {
            let reject = BasicRejectOptions { requeue: false };
            message.delivery.acker.reject(reject).await.doing(Kind::Connect, lost)?;
        }
        Ok(())
    }

    /// Messages nobody has taken yet.
    ///
    /// # Errors
    /// [`Kind::Connect`] when the broker does not answer.
    pub async fn ready(&self) -> Result<u64> {
        self.link.count(&self.queues.main).await
    }

    /// Stops reading. What was not acknowledged goes back to the queue.
    pub async fn close(self) {
        self.link.close().await;
    }
}

fn lost() -> String {
    "the connection to RabbitMQ ended while reading".into()
}
