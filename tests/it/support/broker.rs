//! A virtual host of RabbitMQ for one test.

use super::rabbitmq::{RabbitMq, VHOSTS};
use super::scratch::Scratch;
use super::shared::Shared;
use std::io::{Read, Seek, Write};

/// A virtual host, on the node that all tests share or on one of its own.
pub struct Broker {
    url: String,
    own: Option<(RabbitMq, Scratch)>,
}

impl Broker {
    /// A virtual host of the shared node that no other test of this run uses (after 64 of them, an old one again).
    pub async fn shared() -> Broker {
        let shared = Shared::read();
        let mut counter = shared.lease_file("vhosts");
        counter.lock().expect("the counter of virtual hosts can be locked");
        let mut text = String::new();
        counter.read_to_string(&mut text).expect("the counter can be read");
        let number: u32 = text.trim().parse().unwrap_or(0);
        counter
            .rewind()
            .and_then(|()| write!(counter, "{}", number + 1))
            .expect("the counter can be written");
        Broker { url: shared.node.url(number % VHOSTS), own: None }
    }

    /// A node of its own, which [`Broker::kill`] may crash. It takes some seconds to start.
    pub async fn own() -> Broker {
        let scratch = Scratch::new("broker").expect("a scratch directory");
        let rabbit = RabbitMq::start(&scratch).await.expect("RabbitMQ starts");
        Broker { url: rabbit.node.url(0), own: Some((rabbit, scratch)) }
    }

    /// The AMQP connection string.
    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// SIGKILL to the node. Only with [`Broker::own`].
    pub fn kill(&mut self) {
        let (rabbit, _) = self.own.as_mut().expect("the shared node is never killed: use Broker::own");
        rabbit.kill().expect("the broker is killed");
    }
}
