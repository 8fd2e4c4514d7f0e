//! Blue and green for a test of following.

use crate::support::Pair;
use migrate::error::Error;
use migrate::event::Deaf;
use migrate::pg::conninfo::ConnInfo;
use migrate::pg::name::{Ident, TableName};
use migrate::pg::replication::ReplicationConn;
use migrate::stream::follow::{FollowSpec, FollowTable, Follower};
use std::sync::Arc;
use std::time::Duration;
use tokio_postgres::Client;

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Blue with a publication and a slot, green with the same tables, and what to follow.
pub(crate) struct Scene {
    pub(crate) pair: Pair,
    pub(crate) blue: Client,
    pub(crate) green: Client,
    pub(crate) spec: FollowSpec,
}

impl Scene {
    /// `tables` are the public tables to follow, each with its key.
    pub(crate) async fn set(pair: Pair, ddl: &str, tables: &[(&str, &[&str])]) -> Scene {
        let mut scene = Scene::bare(pair).await;
        scene.blue.batch_execute(ddl).await.unwrap();
        scene.green.batch_execute(ddl).await.unwrap();
        let tables: Vec<_> = tables.iter().map(|(name, key)| (followed(name, name, key), "")).collect();
        scene.spec = scene.publish("follow", &tables).await;
        scene
    }

    /// Without any table yet.
    pub(crate) async fn bare(pair: Pair) -> Scene {
        let (blue, green) = (pair.blue().await, pair.green().await);
        green.batch_execute(include_str!("../../../sql/state/create_blue.sql")).await.unwrap();
        green.batch_execute(include_str!("../../../sql/state/create_green.sql")).await.unwrap();
        green.batch_execute("insert into migrate.lease (epoch, holder) values (7, 'test')").await.unwrap();
        let spec = FollowSpec {
            blue: ConnInfo::parse(&pair.blue_url()).unwrap(),
            green: ConnInfo::parse(&pair.green_url()).unwrap(),
            slot: String::new(),
            publication: String::new(),
            attempt: 1,
            epoch: 7,
            tables: Vec::new(),
            joined: Vec::new(),
            dirty_keys: 10,
            retained_wal_max_bytes: 1 << 30,
        };
        Scene { pair, blue, green, spec }
    }

    pub(crate) fn follow(&self) -> Follower {
        Follower::start(self.spec.clone(), Arc::new(Deaf))
    }

    pub(crate) async fn run(&self, sql: &str) {
        self.blue.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }

    /// Everything blue has committed so far is durable on green.
    pub(crate) async fn drained(&self, follower: &Follower, marker: &str) {
        self.run(&format!("select pg_logical_emit_message(true, 'migrate', '{marker}')")).await;
        follower
            .wait_for_marker(marker, PATIENCE)
            .await
            .unwrap_or_else(|error| panic!("{:?}", error.chain()));
    }

    pub(crate) async fn assert_same(&self) {
        for table in &self.spec.tables {
            let sql = format!(
                "select coalesce(string_agg(t::text, E'\\n' order by t::text), '') from {} t",
                table.blue
            );
            let blue: String = self.blue.query_one(&sql, &[]).await.unwrap().get(0);
            let green: String = self.green.query_one(&sql, &[]).await.unwrap().get(0);
            assert_eq!(blue, green, "{} differs", table.blue.plain());
        }
    }

    /// What a follower fails with.
    pub(crate) async fn failure(&self) -> Error {
        let follower = self.follow();
        tokio::time::timeout(PATIENCE, follower.wait_failed()).await.expect("the follower fails")
    }

    pub(crate) async fn confirmed(&self) -> String {
        let sql =
            "select confirmed_flush_lsn::text from pg_replication_slots where slot_name = 'follow_slot'";
        self.blue.query_one(sql, &[]).await.unwrap().get(0)
    }
}

/// A public table of blue's to follow.
pub(crate) fn followed(blue: &str, green: &str, key: &[&str]) -> FollowTable {
    FollowTable {
        blue: TableName::new("public", blue),
        green: TableName::new("public", green),
        key: key.iter().map(|column| Ident::new(*column)).collect(),
        mapping: None,
    }
}

impl Scene {
    /// Publishes tables, each with what the publication says of it besides its name, and makes the slot to follow them
    /// by.
    pub(crate) async fn publish(&self, name: &str, tables: &[(FollowTable, &str)]) -> FollowSpec {
        let published: Vec<_> = tables.iter().map(|(table, rest)| format!("{} {rest}", table.blue)).collect();
        let sql = format!("create publication {name}_pub for table {}", published.join(", "));
        self.run(&sql).await;
        let mut conn = ReplicationConn::connect(&self.spec.blue, "slot").await.unwrap();
        let slot = format!("{name}_slot");
        let created = conn.create_slot(&slot, PATIENCE).await.unwrap();
        let begin = "insert into migrate.progress (slot, commit_lsn) values ($1, $2::text::pg_lsn)";
        self.green.execute(begin, &[&slot, &created.consistent_point.to_string()]).await.unwrap();
        FollowSpec {
            slot,
            publication: format!("{name}_pub"),
            tables: tables.iter().map(|(table, _)| table.clone()).collect(),
            ..self.spec.clone()
        }
    }
}
