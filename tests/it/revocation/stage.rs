//! Blue, green and a broker, set for revocations: one table, one rule, the state schema, a slot and a publication.

use crate::support::{Broker, Pair};
use lapin::options::{BasicAckOptions, BasicGetOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties};
use migrate::error::Result;
use migrate::event::Deaf;
use migrate::pg::conninfo::ConnInfo;
use migrate::pg::lsn::Lsn;
use migrate::pg::name::{Ident, TableName};
use migrate::plan::{ChangeOp, ReplayEffect, RevocationRule, RevocationWhen, SameTx, Secret};
use migrate::revocation::broker::{Depth, Outgoing, Publisher, Queues};
use migrate::revocation::message::{self, Content, Context, Message, MessageId, Revocation};
use migrate::revocation::seal::SealKey;
use migrate::revocation::{
    Capture, CaptureEnd, CaptureSpec, Carried, EffectSession, Extent, ReplayEnd, ReplaySpec, replay,
    still_valid,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_postgres::Client;

const TABLE: &str =
    "create table refresh (signature text primary key, request_id text not null, active bool not null)";
const STATE: [&str; 2] =
    [include_str!("../../../sql/state/create_blue.sql"), include_str!("../../../sql/state/create_green.sql")];

/// So many seconds from now.
pub fn seconds(seconds: u64) -> Instant {
    Instant::now() + Duration::from_secs(seconds)
}

/// A seal key of one hexadecimal digit.
pub fn key(digit: &str) -> SealKey {
    SealKey::read(&Secret::new(digit.repeat(64))).unwrap()
}

/// A refresh token is revoked when it becomes inactive, unless the same transaction issues its successor.
pub fn refresh_rule() -> RevocationRule {
    RevocationRule {
        name: "refresh-revoked".into(),
        table: TableName::new("public", "refresh"),
        when: RevocationWhen {
            op: ChangeOp::Update,
            old: Some("active".into()),
            new: Some("not active".into()),
            unless_same_tx: Some(SameTx { op: ChangeOp::Insert, match_column: Ident::new("request_id") }),
        },
        key: vec![Ident::new("signature")],
        replay: ReplayEffect { delete: Some(TableName::new("public", "refresh")), update: None },
        valid: "select 1 from public.refresh where signature = $1 and active".into(),
    }
}

pub struct Stage {
    pub pair: Pair,
    pub broker: Secret,
    name: String,
    _broker: Broker,
}

impl Stage {
    pub async fn set(name: &str) -> Stage {
        let pair = Pair::fresh(name).await;
        let broker = Broker::shared().await;
        let stage =
            Stage { broker: Secret::new(broker.url()), pair, name: name.replace('_', "-"), _broker: broker };
        stage.both(TABLE).await;
        stage.on_blue("create publication migrate_revocations for table refresh").await;
        let slot = format!("select pg_create_logical_replication_slot('{}', 'pgoutput')", stage.slot());
        stage.on_blue(&slot).await;
        stage.on_green(&STATE.join("\n")).await;
        stage
            .on_green(
                "insert into migrate.identity (side, nonce, plan) values ('green', 'n', 'p');
                 insert into migrate.lease (epoch, holder) values (1, 'test');
                 insert into migrate.gate (closed, state, epoch) values (true, 'CLOSED', 1)",
            )
            .await;
        stage
    }

    fn slot(&self) -> String {
        format!("migrate_{}", self.name.replace('-', "_"))
    }

    fn context(&self) -> Context {
        Context { plan: self.name.clone(), attempt: 1 }
    }

    pub fn queues(&self) -> Queues {
        Queues::of(&self.context())
    }

    pub async fn blue(&self) -> Client {
        self.pair.blue().await
    }

    pub async fn green(&self) -> Client {
        self.pair.green().await
    }

    /// Sessions as the program opens them, to blue and green.
    pub async fn sessions_of_ours(&self) -> (Client, Client) {
        let open = async |url: String| {
            migrate::pg::connect::connect(&ConnInfo::parse(&url).unwrap(), "test").await.unwrap()
        };
        (open(self.pair.blue_url()).await, open(self.pair.green_url()).await)
    }

    pub async fn on_blue(&self, sql: &str) {
        self.blue().await.batch_execute(sql).await.unwrap();
    }

    pub async fn on_green(&self, sql: &str) {
        self.green().await.batch_execute(sql).await.unwrap();
    }

    /// What an application does on blue, and at once what the stream does on green.
    pub async fn both(&self, sql: &str) {
        self.on_blue(sql).await;
        self.on_green(sql).await;
    }

    pub async fn on_green_texts(&self, sql: &str) -> Vec<String> {
        self.green().await.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
    }

    pub async fn ledger(&self) -> Vec<String> {
        self.on_green_texts("select key->>0 from migrate.revocation order by 1").await
    }

    pub async fn parked_reasons(&self) -> Vec<String> {
        self.on_green_texts("select reason from migrate.revocation_parked").await
    }

    async fn blue_lsn(&self, sql: &str) -> Lsn {
        self.blue().await.query_one(sql, &[]).await.unwrap().get::<_, String>(0).parse().unwrap()
    }

    /// The end of what blue has written down: behind every commit. (What is inserted beyond it may stay unwritten for
    /// ever on an idle server, and is never decoded then.)
    pub async fn blue_position(&self) -> Lsn {
        self.blue_lsn("select pg_current_wal_flush_lsn()::text").await
    }

    /// What blue may forget.
    pub async fn slot_position(&self) -> Lsn {
        let slot = self.slot();
        self.blue_lsn(&format!(
            "select confirmed_flush_lsn::text from pg_replication_slots where slot_name = '{slot}'"
        ))
        .await
    }

    pub fn start_capture(&self) -> Capture {
        self.start_capture_with(vec![refresh_rule()])
    }

    fn start_capture_with(&self, rules: Vec<RevocationRule>) -> Capture {
        let spec = CaptureSpec {
            blue: ConnInfo::parse(&self.pair.blue_url()).unwrap(),
            green: ConnInfo::parse(&self.pair.green_url()).unwrap(),
            broker: self.broker.clone(),
            seal: Some(key("a")),
            plan: self.name.clone(),
            attempt: 1,
            epoch: 1,
            slot: self.slot(),
            publication: "migrate_revocations".into(),
            rules,
        };
        Capture::start(spec, Arc::new(Deaf))
    }

    /// A capture that is alive.
    pub async fn capture(&self) -> Capture {
        self.capture_with(vec![refresh_rule()]).await
    }

    pub async fn capture_with(&self, rules: Vec<RevocationRule>) -> Capture {
        let capture = self.start_capture_with(rules);
        let mut status = capture.watch();
        let alive = status.wait_for(|status| status.is_alive() || status.failed.is_some());
        let alive = tokio::time::timeout_at(seconds(15), alive).await;
        let alive = alive.unwrap_or_else(|_| panic!("not alive: {:?}", capture.status())).unwrap().clone();
        assert_eq!(alive.failed, None);
        capture
    }

    /// The capture's END at the end of blue's log. A keepalive or a transaction must carry it there by itself.
    pub async fn finish(&self, capture: &Capture) -> CaptureEnd {
        capture.finish_at(self.blue_position().await, seconds(20)).await.unwrap()
    }

    pub fn replay_spec(&self) -> ReplaySpec {
        // The sender may go: the newest position stays readable.
        let (_, applied) = tokio::sync::watch::channel(Lsn(u64::MAX));
        ReplaySpec {
            blue: ConnInfo::parse(&self.pair.blue_url()).unwrap(),
            green: ConnInfo::parse(&self.pair.green_url()).unwrap(),
            broker: self.broker.clone(),
            seal: Some(key("a")),
            plan: self.name.clone(),
            attempt: 1,
            epoch: 1,
            rules: vec![refresh_rule()],
            session: EffectSession::PastTheGate,
            extent: Extent::Whole,
            carried: Carried::Stream { applied },
        }
    }

    pub async fn replay(&self, spec: ReplaySpec) -> Result<ReplayEnd> {
        self.replay_until(spec, seconds(20)).await
    }

    pub async fn replay_until(&self, spec: ReplaySpec, deadline: Instant) -> Result<ReplayEnd> {
        replay(spec, deadline, Arc::new(Deaf)).await
    }

    /// Revoked keys still valid, and those issued anew.
    pub async fn count_valid(&self) -> (u64, u64) {
        let (green, blue) = (self.green().await, self.blue().await);
        let found = still_valid(&green, Some(&blue), 1, &[refresh_rule()]).await.unwrap();
        (found[0].count, found[0].issued_anew)
    }

    /// Arms green's table with the gate, as `cutover` does.
    pub async fn close_gate(&self) {
        self.on_green(
            "create trigger migrate_gate before insert or update or delete on refresh
                 for each statement execute function migrate.gate_check()",
        )
        .await;
    }

    pub async fn open_gate(&self) {
        self.on_green("update migrate.gate set closed = false, state = 'OPEN'").await;
    }

    /// Revokes `s1` to `sN`, each in a transaction of its own, and gives the longest it took on blue.
    pub async fn revoke_one_by_one(&self, count: u32) -> Duration {
        let (blue, green) = (self.blue().await, self.green().await);
        let mut slowest = Duration::ZERO;
        for number in 1..=count {
            let sql = format!("update refresh set active = false where signature = 's{number}'");
            let before = Instant::now();
            blue.batch_execute(&sql).await.unwrap();
            slowest = slowest.max(before.elapsed());
            green.batch_execute(&sql).await.unwrap();
        }
        slowest
    }

    pub async fn depth(&self) -> Depth {
        self.queues().depth(&self.broker).await.unwrap()
    }

    /// Waits for so many messages in the main queue.
    pub async fn until_ready(&self, count: u64) {
        self.until(|depth| depth.ready >= count).await;
    }

    /// Waits for so many messages in the parking queue.
    pub async fn until_parked(&self, count: u64) {
        self.until(|depth| depth.parked >= count).await;
    }

    async fn until(&self, reached: impl Fn(Depth) -> bool) {
        let deadline = seconds(15);
        while !reached(self.depth().await) {
            assert!(Instant::now() < deadline, "the queue holds {:?}", self.depth().await);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn channel(&self) -> (Connection, lapin::Channel) {
        let connection =
            Connection::connect(self.broker.expose(), ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        (connection, channel)
    }

    /// Takes the first message out of the queue behind everybody's back.
    pub async fn steal_one_message(&self) {
        let (_connection, channel) = self.channel().await;
        let main = self.queues().main;
        let got = channel.basic_get(main.as_str().into(), BasicGetOptions::default()).await.unwrap().unwrap();
        got.delivery.acker.ack(BasicAckOptions::default()).await.unwrap();
        // The broker has it for sure when it answers the next command.
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        channel.queue_declare(main.as_str().into(), passive, FieldTable::default()).await.unwrap();
    }

    /// Takes everything out of the queue and puts it back three times, each time in another order.
    pub async fn shuffle_and_repeat(&self) {
        let (_connection, channel) = self.channel().await;
        let main = self.queues().main;
        let mut bodies: Vec<Vec<u8>> = Vec::new();
        while let Some(got) =
            channel.basic_get(main.as_str().into(), BasicGetOptions::default()).await.unwrap()
        {
            bodies.push(got.delivery.data.clone());
            got.delivery.acker.ack(BasicAckOptions::default()).await.unwrap();
        }
        let publisher = Publisher::open(&self.broker, &self.queues()).await.unwrap();
        for _ in 0..3 {
            bodies.sort_by_cached_key(|_| rand::random::<u64>());
            let outgoing: Vec<_> =
                bodies.iter().map(|body| Outgoing { id: "again".into(), body: body.clone() }).collect();
            publisher.publish(&outgoing).await.unwrap();
        }
        publisher.close().await;
    }

    /// Makes the main queue as somebody else might: without any of what keeps messages.
    pub async fn declare_plain_queue(&self) {
        let (_connection, channel) = self.channel().await;
        let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        channel
            .queue_declare(self.queues().main.as_str().into(), durable, FieldTable::default())
            .await
            .unwrap();
    }

    /// Not JSON; a version from the future; and a good message under another key.
    pub async fn publish_poison(&self) {
        let sealed_otherwise = Message {
            id: MessageId::of_revocation(1, Lsn(7), 0),
            producer: self.slot(),
            content: Content::Revocation(Revocation {
                rule: "refresh-revoked".into(),
                key: vec!["s1".into()],
                commit_lsn: Lsn(7),
            }),
        };
        let bodies = [
            b"\x00\xffpoison".to_vec(),
            br#"{"version":9,"id":"from-the-future"}"#.to_vec(),
            message::write(&sealed_otherwise, &self.context(), Some(&key("b"))).unwrap(),
        ];
        let outgoing: Vec<_> = bodies.map(|body| Outgoing { id: "poison".into(), body }).to_vec();
        let publisher = Publisher::open(&self.broker, &self.queues()).await.unwrap();
        publisher.publish(&outgoing).await.unwrap();
        publisher.close().await;
    }

    /// Leads the way to the broker through a wire that can be cut. The stage's own look-ups go through it too.
    pub async fn through_a_wire(&mut self) -> Wire {
        let (head, rest) = self
            .broker
            .expose()
            .rsplit_once("127.0.0.1:")
            .map(|(a, b)| (a.to_owned(), b.to_owned()))
            .unwrap();
        let (port, vhost) = rest.split_once('/').unwrap();
        let wire = Wire::lay(port.parse().unwrap()).await;
        self.broker = Secret::new(format!("{head}127.0.0.1:{}/{vhost}", wire.port));
        wire
    }
}

/// A wire to a port of this machine.
pub struct Wire {
    pub port: u16,
    to: u16,
    carrying: Option<JoinHandle<()>>,
}

impl Wire {
    async fn lay(to: u16) -> Wire {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        Wire { port, to, carrying: Some(tokio::spawn(carry(listener, to))) }
    }

    /// Every connection ends, and new ones are refused.
    pub fn cut(&mut self) {
        self.carrying.take().expect("not cut yet").abort();
    }

    /// New connections go through again.
    pub async fn mend(&mut self) {
        let listener = TcpListener::bind(("127.0.0.1", self.port)).await.unwrap();
        self.carrying = Some(tokio::spawn(carry(listener, self.to)));
    }
}

async fn carry(listener: TcpListener, to: u16) {
    // Aborting this task drops the set, and with it every connection.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let (mut near, _) = listener.accept().await.unwrap();
        connections.spawn(async move {
            if let Ok(mut far) = TcpStream::connect(("127.0.0.1", to)).await {
                let _ = copy_bidirectional(&mut near, &mut far).await;
            }
        });
    }
}
