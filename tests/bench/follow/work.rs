//! The works: what is loaded, and what writes the backlog.

use crate::servers::{DATABASE, EMPTY, Servers};
use crate::support::scratch::Scratch;
use anyhow::{Context, Result};
use migrate::pg::lsn::Lsn;

/// Something to replay.
pub struct Work {
    pub name: &'static str,
    /// Green's major.
    pub green: u32,
    /// How many changes it has, where nothing else is asked for.
    pub changes: u64,
    /// How green commits, for everybody.
    pub commits: Commits,
    load: Load,
}

/// Whether a commit on green waits for its disk.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Commits {
    Synchronous,
    Asynchronous,
}

impl Commits {
    /// As `synchronous_commit` has it.
    pub fn setting(self) -> &'static str {
        match self {
            Commits::Synchronous => "on",
            Commits::Asynchronous => "off",
        }
    }
}

enum Load {
    Pgbench,
    /// Rows of one transaction, and nothing else.
    OneTransaction,
    /// Tokens in transactions of a script, each of about so many rows.
    Tokens {
        script: &'static str,
        rows: u64,
    },
}

const TOKEN1: Load = Load::Tokens { script: include_str!("token1.pgbench"), rows: 1 };
const TOKEN100: Load = Load::Tokens { script: include_str!("token100.pgbench"), rows: 100 };

/// 300,000 of pgbench's transactions, or as many rows of tokens as make a backlog of a minute.
const MANY: u64 = 1_200_000;

pub static WORKS: [Work; 7] = [
    work("follow/pgbench/15-15", 15, MANY, Load::Pgbench),
    work("follow/pgbench/15-18", 18, MANY, Load::Pgbench),
    work("follow/token1/15-18", 18, MANY / 4, TOKEN1),
    work("follow/token100/15-18", 18, MANY / 2, TOKEN100),
    work("follow/big/15-15", 15, 5_000_000, Load::OneTransaction),
    work("follow/big/15-18", 18, 5_000_000, Load::OneTransaction),
    Work { commits: Commits::Synchronous, ..work("follow/durable/15-15", 15, MANY / 12, Load::Pgbench) },
];

/// What is measured beside a running pgbench, which is not a backlog.
pub static STEADY: Work = work("steady/pgbench/15-15", 15, 4 * CLIENTS, Load::Pgbench);

const fn work(name: &'static str, green: u32, changes: u64, load: Load) -> Work {
    Work { name, green, changes, commits: Commits::Asynchronous, load }
}

/// Green's database as of the slot; what consumers write to is a clone of it.
const TEMPLATE: &str = "template_bench";

const CLIENTS: u64 = 8;

/// What every consumer replays.
pub struct Backlog {
    /// Without the schema, which is `public`.
    pub tables: Vec<&'static str>,
    pub keys: Vec<&'static str>,
    pub transactions: u64,
    pub changes: u64,
    /// No row changed after this.
    pub last_change: Lsn,
    /// Where it ends.
    pub end: Lsn,
}

impl Backlog {
    /// Gives green a fresh clone of its database as of the slot, and blue a fresh copy of the slot.
    pub async fn reset(&self, servers: &Servers, slot: &str) -> Result<()> {
        let admin = servers.green.server.connect("postgres").await?;
        admin.batch_execute(&format!("drop database if exists {DATABASE} with (force)")).await?;
        admin
            .batch_execute(&format!("create database {DATABASE} template {TEMPLATE} strategy file_copy"))
            .await?;
        admin.batch_execute("checkpoint").await?;
        let blue = servers.blue().await?;
        blue.execute(
            "select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = $1",
            &[&slot],
        )
        .await?;
        blue.execute("select pg_copy_logical_replication_slot('base', $1::text::name)", &[&slot]).await?;
        // So that green's caches are warm alike for everyone.
        let green = servers.green().await?;
        if green.batch_execute("create extension if not exists pg_prewarm").await.is_ok() {
            let warm = "select pg_prewarm(c.oid) from pg_class c where c.relkind in ('r', 'i') and c.relnamespace = 'public'::regnamespace";
            green.batch_execute(warm).await?;
        }
        Ok(())
    }
}

impl Work {
    /// Loads blue, clones it to green as of a slot, and writes the backlog.
    pub async fn prepare(&self, scratch: &Scratch, servers: &Servers, rows: u64) -> Result<Backlog> {
        for (cluster, name) in [(&servers.blue, DATABASE), (&servers.green, TEMPLATE)] {
            let admin = cluster.server.connect("postgres").await?;
            admin.batch_execute(&format!("create database {name} {EMPTY}")).await?;
        }
        let blue_url = servers.blue.server.url(DATABASE);
        let (tables, keys) = self.load(servers, &blue_url, rows).await?;
        let blue = servers.blue().await?;
        blue.batch_execute("vacuum analyze").await?;
        let names: Vec<_> = tables.iter().map(|table| format!("public.{table}")).collect();
        blue.batch_execute(&format!("create publication bench for table {}", names.join(", "))).await?;
        let slot = "select lsn::text from pg_create_logical_replication_slot('base', 'pgoutput')";
        let begin: String = blue.query_one(slot, &[]).await?.get(0);
        self.clone_to_green(scratch, servers, &blue_url, &begin).await?;

        let changes_before = changed(&blue).await?;
        let transactions = self.write(scratch, &blue_url, servers, rows).await?;
        let changes = changed(&blue).await? - changes_before;
        // The last row changed is one that a subscription sees as well; what follows only moves the log on.
        let key = keys[0];
        let touch = format!(
            "update public.{0} set {key} = {key} where {key} = (select min({key}) from public.{0})",
            tables[0]
        );
        let position = async |sql: &str| -> Result<Lsn> {
            blue.batch_execute(sql).await?;
            let text: String = blue.query_one("select pg_current_wal_insert_lsn()::text", &[]).await?.get(0);
            text.parse().map_err(anyhow::Error::msg)
        };
        let last_change = position("checkpoint").await?;
        let end = position(&touch).await?;
        blue.batch_execute("select pg_logical_emit_message(true, 'bench', 'after'); checkpoint").await?;
        Ok(Backlog { tables, keys, transactions, changes, last_change, end })
    }

    async fn load(
        &self,
        servers: &Servers,
        blue_url: &str,
        rows: u64,
    ) -> Result<(Vec<&'static str>, Vec<&'static str>)> {
        match self.load {
            Load::Pgbench => {
                let scale = (rows / 10_000).clamp(1, 100).to_string();
                servers.run("pgbench", &["-i", "-q", "-s", &scale, blue_url]).await?;
                // Updates and deletes of a row need something to tell it apart by.
                servers
                    .blue()
                    .await?
                    .batch_execute("alter table pgbench_history add column id bigserial primary key")
                    .await?;
                servers
                    .blue()
                    .await?
                    .batch_execute("create table public.heartbeat (id bigint primary key)")
                    .await?;
                Ok((
                    vec![
                        "pgbench_accounts",
                        "pgbench_tellers",
                        "pgbench_branches",
                        "pgbench_history",
                        "heartbeat",
                    ],
                    vec!["aid", "tid", "bid", "id", "id"],
                ))
            }
            Load::OneTransaction => {
                let table = "create table public.big (id bigint primary key, label text not null)";
                servers.blue().await?.batch_execute(table).await?;
                servers.blue().await?.batch_execute("insert into public.big values (0, 'first')").await?;
                Ok((vec!["big"], vec!["id"]))
            }
            Load::Tokens { .. } => {
                servers.blue().await?.batch_execute(include_str!("tokens.sql")).await?;
                Ok((vec!["token"], vec!["signature"]))
            }
        }
    }

    async fn clone_to_green(
        &self,
        scratch: &Scratch,
        servers: &Servers,
        blue_url: &str,
        begin: &str,
    ) -> Result<()> {
        let dump = scratch.path().join("dump.sql");
        let dump = dump.to_str().context("a path that is text")?;
        servers.run("pg_dump", &["--no-publications", "-f", dump, blue_url]).await?;
        let green_url = servers.green.server.url(TEMPLATE);
        servers.run("psql", &["-q", "-v", "ON_ERROR_STOP=1", "-f", dump, &green_url]).await?;
        std::fs::remove_file(dump)?;
        let green = servers.green.server.connect(TEMPLATE).await?;
        green.batch_execute("vacuum analyze").await?;
        green.batch_execute(include_str!("../../../sql/state/create_blue.sql")).await?;
        green.batch_execute(include_str!("../../../sql/state/create_green.sql")).await?;
        green.batch_execute("insert into migrate.lease (epoch, holder) values (1, 'bench')").await?;
        let progress =
            "insert into migrate.progress (slot, commit_lsn) values ('bench_ours', $1::text::pg_lsn)";
        green.execute(progress, &[&begin]).await?;
        Ok(())
    }

    /// Writes the backlog with eight clients; gives the number of transactions.
    async fn write(&self, scratch: &Scratch, blue_url: &str, servers: &Servers, rows: u64) -> Result<u64> {
        let (rows_each, script) = match self.load {
            Load::Pgbench => (4, None),
            Load::OneTransaction => {
                let sql = format!(
                    "insert into public.big select n, md5(n::text) from generate_series(1, {rows}) as n"
                );
                servers.blue().await?.batch_execute(&sql).await?;
                return Ok(1);
            }
            Load::Tokens { script, rows } => {
                let path = scratch.path().join("script.pgbench");
                std::fs::write(&path, script)?;
                (rows, Some(path))
            }
        };
        let each = (rows / rows_each / CLIENTS).max(1);
        let (clients, each_text) = (CLIENTS.to_string(), each.to_string());
        let url = format!("{blue_url}?options=-c%20synchronous_commit%3Doff");
        let mut args = vec!["-n", "-c", &clients, "-j", "2", "-t", &each_text];
        match script.as_ref().and_then(|path| path.to_str()) {
            Some(path) => args.extend(["-f", path]),
            None => args.extend(["-M", "prepared"]),
        }
        args.push(&url);
        servers.run("pgbench", &args).await?;
        Ok(each * CLIENTS)
    }
}

/// Rows written in this database so far.
async fn changed(client: &tokio_postgres::Client) -> Result<u64> {
    // Sessions tell of what they did when they end, which they just have.
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    let sql = "select coalesce(sum(n_tup_ins + n_tup_upd + n_tup_del), 0)::bigint from pg_stat_user_tables";
    Ok(u64::try_from(client.query_one(sql, &[]).await?.get::<_, i64>(0))?)
}
