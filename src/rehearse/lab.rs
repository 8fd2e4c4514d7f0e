//! Runs a statement the way `apply` would, and watches it.
//!
//! A statement in a transaction is looked at before its commit, when it holds all its locks. One outside a transaction holds
//! its locks by turns; a second session looks all the time, and further ones hold locks and write to the same tables, so that
//! a CONCURRENTLY form must wait where it would wait in production, and can be seen there.

use super::measured::{Measured, Observation, Relation, RelationKind, Relations};
use crate::ddl::{
    Holds, Settings, entered,
    lock::LockMode,
    parse::{self, NodeEnum},
    statement::Online,
};
use crate::error::{Doing, Error, Kind, Result};
use crate::pg::{
    connect,
    conninfo::ConnInfo,
    name::{Ident, TableName},
    notices::{self, Notices},
};
use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};
use tokio_postgres::Client;

/// How long one statement may take on tables without rows.
const STATEMENT_MAX: Duration = Duration::from_secs(120);
/// How long a look may take.
const LOOK_MAX: Duration = Duration::from_secs(60);
/// How long a statement outside a transaction is made to wait, at most.
const HOLD_UP_MAX: Duration = Duration::from_secs(5);
/// Between two looks at a statement outside a transaction.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// A statement to run.
#[derive(Debug, Clone, Copy)]
pub struct Trial<'a> {
    /// Its text.
    pub sql: &'a str,
    /// Where its names are looked up.
    pub search_path: &'a [Ident],
    /// What its session is given besides.
    pub settings: &'a Settings,
    /// Inside a transaction of its own.
    pub transactional: bool,
}

impl<'a> From<&'a Online> for Trial<'a> {
    fn from(online: &'a Online) -> Trial<'a> {
        Trial {
            sql: &online.sql,
            search_path: &online.search_path,
            settings: &online.settings,
            transactional: online.transactional,
        }
    }
}

impl Trial<'_> {
    fn entered(&self, holds: Holds) -> String {
        entered(holds, self.search_path, self.settings)
    }
}

/// Sessions on the scratch database, and what was there before the plan.
pub struct Lab {
    info: ConnInfo,
    worker: Client,
    worker_pid: i32,
    notices: Notices,
    watcher: Client,
    original: BTreeSet<u32>,
}

impl Lab {
    /// Opens it; what is there now is what was there before the plan.
    ///
    /// # Errors
    /// [`Kind::Connect`], [`Kind::Server`].
    pub async fn open(info: &ConnInfo) -> Result<Lab> {
        let (worker, notices) = notices::connect_hearing(info, "rehearsal worker").await?;
        let watcher = connect::connect(info, "rehearsal watcher").await?;
        let limits = format!(
            "set statement_timeout = {}; set lock_timeout = {}",
            STATEMENT_MAX.as_millis(),
            STATEMENT_MAX.as_millis() / 2
        );
        run(&worker, &limits).await?;
        let worker_pid = worker
            .query_one("select pg_backend_pid()", &[])
            .await
            .doing(Kind::Server, || "cannot ask for a session's number".into())?
            .get(0);
        let original = relations(&worker).await?.into_keys().collect();
        Ok(Lab { info: info.clone(), worker, worker_pid, notices, watcher, original })
    }

    /// Runs a statement and measures it. Its effect stays, unless it fails.
    ///
    /// # Errors
    /// [`Kind::Request`] with the server's error as its cause when the statement itself is refused; [`Kind::Server`],
    /// [`Kind::Deadline`] when we cannot look.
    pub async fn measure(&mut self, trial: Trial<'_>) -> Result<Measured> {
        let deadline = STATEMENT_MAX + LOOK_MAX;
        let measuring = async {
            if trial.transactional { self.in_transaction(trial).await } else { self.outside(trial).await }
        };
        tokio::time::timeout(deadline, measuring).await.map_err(|_| {
            Error::new(Kind::Deadline, format!("a statement was not done within {} s", deadline.as_secs()))
        })?
    }

    async fn in_transaction(&mut self, trial: Trial<'_>) -> Result<Measured> {
        run(&self.worker, &format!("begin; {}", trial.entered(Holds::Transaction))).await?;
        let before = relations(&self.worker).await?;
        self.hear(Heard::Everything).await?;
        let began = Instant::now();
        let ran = self.worker.batch_execute(trial.sql).await;
        let mut held = began.elapsed();
        if let Err(error) = ran {
            run(&self.worker, "rollback").await?;
            self.notices.take();
            return Err(refused(error));
        }
        let messages = self.hear(Heard::Warnings).await?;
        let locks = locks(&self.worker, self.worker_pid).await?;
        let after = relations(&self.worker).await?;
        let began = Instant::now();
        // Deferred triggers run now, under the same locks.
        if let Err(error) = self.worker.batch_execute("commit").await {
            return Err(refused(error));
        }
        held += began.elapsed();
        Ok(self.make_sense(trial, before, after, locks, messages, held))
    }

    async fn outside(&mut self, trial: Trial<'_>) -> Result<Measured> {
        run(&self.worker, &trial.entered(Holds::Session)).await?;
        let before = relations(&self.worker).await?;
        let mut holders = self.hold_up(trial).await?;
        self.hear(Heard::Everything).await?;
        let began = Instant::now();
        let mut seen = BTreeSet::new();
        let ran = {
            let work = self.worker.batch_execute(trial.sql);
            tokio::pin!(work);
            loop {
                tokio::select! {
                    biased;
                    ran = &mut work => break ran,
                    looked = self.look_at_worker() => {
                        let (locks, waits) = looked?;
                        seen.extend(locks);
                        if waits || began.elapsed() > HOLD_UP_MAX {
                            let_go(holders.pop_front()).await?;
                        }
                    }
                }
            }
        };
        let held = began.elapsed();
        let messages = self.hear(Heard::Warnings).await?;
        // The next statement has others, or none.
        run(&self.worker, &Settings::default().after(trial.settings)).await?;
        ran.map_err(refused)?;
        let after = relations(&self.worker).await?;
        Ok(self.make_sense(trial, before, after, seen.into_iter().collect(), messages, held))
    }

    fn make_sense(
        &self,
        trial: Trial<'_>,
        before: Relations,
        after: Relations,
        locks: Vec<(u32, LockMode)>,
        messages: Vec<String>,
        held: Duration,
    ) -> Measured {
        let truncates = matches!(parse::parse_one(trial.sql), Ok(NodeEnum::TruncateStmt(_)));
        let original = self.original.clone();
        let outside = !trial.transactional;
        Observation { original, before, after, locks, messages, truncates, outside }
            .measured(u64::try_from(held.as_millis()).unwrap_or(u64::MAX))
    }

    /// Sets what the server tells us, and takes what it has told.
    async fn hear(&mut self, heard: Heard) -> Result<Vec<String>> {
        let level = match heard {
            Heard::Everything => "debug1",
            Heard::Warnings => "warning",
        };
        run(&self.worker, &format!("set client_min_messages = {level}")).await?;
        Ok(self.notices.take())
    }

    /// Sessions that hold a statement up, to be let go one by one. The first holds the lock that VACUUM takes on all tables
    /// the statement names, so that its own first lock is seen; the others write to one table each, as applications do.
    async fn hold_up(&self, trial: Trial<'_>) -> Result<VecDeque<Client>> {
        let mut holders = VecDeque::new();
        let tables = self.tables_of(trial).await?;
        if tables.is_empty() {
            return Ok(holders);
        }
        let all = tables.join(", only ");
        let mut locks = vec![format!("lock table only {all} in share update exclusive mode")];
        locks.extend(tables.iter().map(|table| format!("lock table only {table} in row exclusive mode")));
        for lock in locks {
            let holder = connect::connect(&self.info, "rehearsal holder").await?;
            run(&holder, &format!("begin; {lock}")).await?;
            holders.push_back(holder);
        }
        Ok(holders)
    }

    /// The tables a statement names, or whose indexes it names, partitioned ones first.
    async fn tables_of(&self, trial: Trial<'_>) -> Result<Vec<String>> {
        let Ok(tree) = parse::parse_one(trial.sql) else { return Ok(Vec::new()) };
        let mut named: Vec<String> = Vec::new();
        for (schema, name) in parse::relations(&tree).into_iter().chain(dropped(&tree)) {
            if schema.is_empty() {
                let candidates = trial.search_path.iter();
                named.extend(candidates.map(|schema| TableName::new(schema.as_str(), &name).to_string()));
            } else {
                named.push(TableName::new(schema, name).to_string());
            }
        }
        let rows = self
            .watcher
            .query(include_str!("../../sql/rehearse/list_held_open.sql"), &[&named])
            .await
            .doing(Kind::Server, || "cannot look for a statement's tables".into())?;
        let name = |row: &tokio_postgres::Row| {
            TableName::new(row.get::<_, String>("schema"), row.get::<_, String>("name")).to_string()
        };
        Ok(rows.iter().map(name).collect())
    }

    /// The worker's locks, and whether it waits for one.
    async fn look_at_worker(&self) -> Result<(Vec<(u32, LockMode)>, bool)> {
        tokio::time::sleep(LOOK_EVERY).await;
        // First whether it waits: what it holds then is seen after that. A lock is granted by whoever lets go of it, so
        // this is true until then and no longer.
        let waits = self
            .watcher
            .query_one(
                "select exists (select from pg_locks where pid = $1 and not granted)",
                &[&self.worker_pid],
            )
            .await
            .doing(Kind::Server, || "cannot watch a statement".into())?
            .get(0);
        Ok((locks(&self.watcher, self.worker_pid).await?, waits))
    }
}

/// Ends a holder's transaction.
async fn let_go(holder: Option<Client>) -> Result<()> {
    match holder {
        Some(holder) => run(&holder, "rollback").await,
        None => Ok(()),
    }
}

/// Which of the server's messages are wanted.
#[derive(Debug, Clone, Copy)]
enum Heard {
    /// Its debug messages too.
    Everything,
    /// What any session of ours hears.
    Warnings,
}

/// The relations that DROP and its like name, which are lists of strings in the tree.
fn dropped(tree: &NodeEnum) -> Vec<(String, String)> {
    let NodeEnum::DropStmt(drop) = tree else { return Vec::new() };
    let lists = drop.objects.iter().filter_map(|object| match &object.node {
        Some(NodeEnum::List(list)) => Some(parse::strings(&list.items)),
        _ => None,
    });
    lists
        .filter_map(|mut parts| {
            let name = parts.pop()?;
            Some((parts.pop().unwrap_or_default(), name))
        })
        .collect()
}

fn refused(error: tokio_postgres::Error) -> Error {
    Error::new(Kind::Request, "the server refuses the statement").source(error)
}

async fn run(client: &Client, sql: &str) -> Result<()> {
    client.batch_execute(sql).await.doing(Kind::Server, || format!("the scratch database refuses `{sql}`"))
}

async fn locks(client: &Client, pid: i32) -> Result<Vec<(u32, LockMode)>> {
    let rows = client
        .query(include_str!("../../sql/rehearse/list_locks.sql"), &[&pid])
        .await
        .doing(Kind::Server, || "cannot look at a statement's locks".into())?;
    Ok(rows.iter().filter_map(|row| Some((row.get("relation"), LockMode::named(row.get("mode"))?))).collect())
}

async fn relations(client: &Client) -> Result<Relations> {
    let rows = client
        .query(include_str!("../../sql/rehearse/list_relations.sql"), &[])
        .await
        .doing(Kind::Server, || "cannot look at the scratch database's relations".into())?;
    Ok(rows
        .iter()
        .map(|row| {
            let relation = Relation {
                name: TableName::new(row.get::<_, String>("schema"), row.get::<_, String>("name")),
                kind: RelationKind::of(row.get("kind")),
                of_table: row.get("of_table"),
                file: row.get("file"),
                scans: row.get("scans"),
            };
            (row.get("oid"), relation)
        })
        .collect())
}
