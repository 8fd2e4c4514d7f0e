//! The servers of the demo.

use crate::support::cluster::{Cluster, fresh_password};
use crate::support::oauth::{self, Loaded};
use crate::support::pgbouncer::PgBouncer;
use crate::support::rabbitmq::RabbitMq;
use crate::support::scratch::Scratch;
use anyhow::{Context, Result};
use tokio_postgres::Client;

/// The database's name, on both sides.
const DATABASE: &str = "app";

/// Blue, green, and what stands between them and the clients.
pub struct Stage {
    blue: Cluster,
    green: Cluster,
    rabbit: RabbitMq,
    /// In front of blue, at first.
    pub bouncer: PgBouncer,
}

impl Stage {
    /// Starts everything.
    pub async fn set(scratch: &Scratch) -> Result<Stage> {
        let password = fresh_password();
        let (blue, green, rabbit) = tokio::try_join!(
            Cluster::start(scratch, 15, &password),
            Cluster::start(scratch, 18, &password),
            RabbitMq::start(scratch)
        )?;
        for cluster in [&blue, &green] {
            let admin = cluster.server.connect("postgres").await?;
            admin.batch_execute(&format!("create database {DATABASE}")).await.context("an empty database")?;
        }
        let bouncer = PgBouncer::start_in(scratch, &blue.server, DATABASE).await?;
        Ok(Stage { blue, green, rabbit, bouncer })
    }

    /// Loads blue.
    pub async fn load(&self, rows: u64) -> Result<Loaded> {
        oauth::load(&self.blue().await?, rows).await.context("loading blue")
    }

    /// A connection to blue, past PgBouncer.
    pub async fn blue(&self) -> Result<Client> {
        self.blue.server.connect(DATABASE).await
    }

    /// A connection to green, past PgBouncer.
    pub async fn green(&self) -> Result<Client> {
        self.green.server.connect(DATABASE).await
    }

    /// The variables that plans/demo.yaml asks for.
    pub fn variables(&self) -> [(&'static str, String); 6] {
        [
            ("BLUE_URL", self.blue.server.url(DATABASE)),
            ("GREEN_URL", self.green.server.url(DATABASE)),
            ("AMQP_URL", self.rabbit.node.url(0)),
            ("PGB_ADMIN", self.bouncer.admin_url()),
            ("PGB_CONFIG", self.bouncer.config_path().display().to_string()),
            ("PGB_TO", PgBouncer::target(&self.green.server, DATABASE)),
        ]
    }
}
