//! A RabbitMQ node of our own: own name service, own ports, nothing shared with a node of the machine.

use super::installed;
use super::scratch::{EndBy, Scratch};
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long the node may take to accept a connection: the Erlang machine is slow to start on a busy box.
const START_DEADLINE: Duration = Duration::from_secs(120);
/// Virtual hosts made at the start, since making one later starts a whole Erlang machine.
pub const VHOSTS: u32 = 64;

/// Where a running node is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Node {
    /// AMQP port on 127.0.0.1.
    pub port: u16,
    /// The password of user `migrate`.
    pub password: String,
}

impl Node {
    /// The connection string for a virtual host, `vhost-0` to `vhost-63`.
    pub fn url(&self, number: u32) -> String {
        format!("amqp://migrate:{}@127.0.0.1:{}/vhost-{number}", self.password, self.port)
    }
}

/// A node that this process started.
pub struct RabbitMq {
    /// Where it is.
    pub node: Node,
    server: Child,
    _names: Child,
}

impl RabbitMq {
    /// Starts a node. Four seconds on an idle machine.
    pub async fn start(scratch: &Scratch) -> Result<RabbitMq> {
        let owner = installed::rabbitmq_owner()?;
        let home = scratch.directory(&format!("rabbitmq-{:04x}", rand::random::<u16>()), owner)?;
        let password = format!("{:016x}", rand::random::<u64>());
        let (port, dist_port, epmd_port) =
            (installed::free_port()?, installed::free_port()?, installed::free_port()?);
        let config = home.join("rabbitmq.conf");
        std::fs::write(home.join("definitions.json"), definitions(&password))?;
        std::fs::write(home.join("rabbitmq-env.conf"), "")?;
        std::fs::write(home.join("enabled_plugins"), "[].\n")?;
        std::fs::write(
            &config,
            format!("load_definitions = {}\nlog.console = false\n", home.join("definitions.json").display()),
        )?;

        let mut names = Command::new("epmd");
        names.args(["-address", "127.0.0.1", "-port", &epmd_port.to_string()]);
        names.current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        installed::run_as(&mut names, owner);
        let names = names.spawn().context("cannot start epmd; run scripts/install")?;
        scratch.watch(names.id(), EndBy::Kill)?;

        let mut command = Command::new("/usr/lib/rabbitmq/bin/rabbitmq-server");
        let log = std::fs::File::create(home.join("out"))?;
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("LANG", "C.UTF-8")
            .env("HOME", &home)
            .env("RABBITMQ_NODENAME", format!("migrate-{port}@localhost"))
            .env("RABBITMQ_MNESIA_BASE", home.join("mnesia"))
            .env("RABBITMQ_LOG_BASE", home.join("log"))
            .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODE_PORT", port.to_string())
            .env("RABBITMQ_DIST_PORT", dist_port.to_string())
            .env("ERL_EPMD_PORT", epmd_port.to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_PID_FILE", home.join("pid"))
            .env("RABBITMQ_CONFIG_FILE", &config)
            .env("RABBITMQ_CONF_ENV_FILE", home.join("rabbitmq-env.conf"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", home.join("enabled_plugins"))
            .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "-kernel inet_dist_use_interface {127,0,0,1}")
            // Has the start script become the Erlang machine, so that the process we know is the server.
            .env("RUNNING_UNDER_SYSTEMD", "true")
            .current_dir(&home)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        installed::run_as(&mut command, owner);
        let server = command.spawn().context("cannot start RabbitMQ; run scripts/install")?;
        scratch.watch(server.id(), EndBy::Kill)?;

        let mut rabbit = RabbitMq { node: Node { port, password }, server, _names: names };
        rabbit.wait_until_ready(&home).await?;
        Ok(rabbit)
    }

    async fn wait_until_ready(&mut self, home: &std::path::Path) -> Result<()> {
        // The last virtual host is there only when all definitions were read.
        let last = self.node.url(VHOSTS - 1);
        let deadline = Instant::now() + START_DEADLINE;
        loop {
            if let Some(status) = self.server.try_wait()? {
                let log = std::fs::read_to_string(home.join("out")).unwrap_or_default();
                bail!("RabbitMQ ended at once ({status}): {log}");
            }
            let attempt = lapin::Connection::connect(&last, lapin::ConnectionProperties::default());
            if let Ok(Ok(connection)) = tokio::time::timeout(Duration::from_secs(5), attempt).await {
                let _ = connection.close(200, "ready".into()).await;
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("RabbitMQ does not answer after {START_DEADLINE:?}");
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// SIGKILL: what a crash of the broker looks like.
    pub fn kill(&mut self) -> Result<()> {
        self.server.kill().context("cannot kill the broker")?;
        self.server.wait().context("cannot wait for the broker")?;
        Ok(())
    }
}

fn definitions(password: &str) -> String {
    let vhosts: Vec<_> = (0..VHOSTS).map(|n| serde_json::json!({"name": format!("vhost-{n}")})).collect();
    let permissions: Vec<_> = (0..VHOSTS)
        .map(|n| {
            serde_json::json!({"user": "migrate", "vhost": format!("vhost-{n}"),
                "configure": ".*", "write": ".*", "read": ".*"})
        })
        .collect();
    serde_json::json!({
        "users": [{"name": "migrate", "password": password, "tags": "administrator"}],
        "vhosts": vhosts,
        "permissions": permissions,
    })
    .to_string()
}
