//! Makes again what [`super::deferred`] took away: biggest tables first, several at once.
//!
//! Each object is made and marked in one transaction, so a crash leaves it made and marked, or neither; only a foreign
//! key is made in two (added, then proved), and the second is done again when it is missing.

use super::{deferred::DeferredKind, lease};
use crate::error::{Doing, Error, Kind, Result};
use crate::event::{Ears, Event};
use crate::pg::{
    conninfo::ConnInfo,
    name::{Ident, TableName},
};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::task::JoinSet;
use tokio_postgres::Client;

const LIST_DEFERRED: &str = include_str!("../../sql/copy/list_deferred.sql");
const FIND_OBJECT: &str = include_str!("../../sql/copy/find_object.sql");
const MARK_REBUILT: &str = include_str!("../../sql/copy/mark_rebuilt.sql");

/// The line that `list_deferrable` puts between a foreign key and the statement that proves it.
const PROOF_MARK: &str = "-- in a transaction of its own:\n";

/// How to rebuild.
#[derive(Debug, Clone, Copy)]
pub struct RebuildSpec {
    /// The attempt whose objects they are.
    pub attempt: i32,
    /// The lease's epoch.
    pub epoch: i64,
    /// Connections to green. At least 1.
    pub workers: usize,
    /// For sorting, all connections together, in bytes; each gets its share, at least 1 MB.
    pub memory_bytes: u64,
}

/// One object to make.
#[derive(Debug, Clone)]
pub(super) struct Job {
    pub(super) table: TableName,
    /// As the record names the table.
    table_key: String,
    name: Ident,
    pub(super) kind: DeferredKind,
    definition: String,
    table_bytes: u64,
    pub(super) partitioned: bool,
    depth: i32,
}

/// Part of making an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// All of it, or for a foreign key all but its proof.
    Make,
    /// The proof of a foreign key.
    Prove,
}

/// Jobs of one group run one after the other; groups of a wave run side by side.
type Wave = (Part, Vec<Vec<Job>>);

/// How much of the objects is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// All of them.
    Whole,
    /// Foreign keys are added and not proved: green does not hold one moment of blue yet.
    Unproved,
}

/// Makes every object of the attempt that is not made yet. Returns how many it made or found made.
///
/// An object of that name with the same definition counts as made; an INVALID leftover is dropped first.
///
/// # Errors
/// [`Kind::Server`] naming the object that green refuses (a duplicate key, a row that breaks a check) or that is there
/// with another definition; [`Kind::Lease`]. What was made until then stays.
pub async fn rebuild(green: &ConnInfo, spec: RebuildSpec, extent: Extent, ears: &Ears) -> Result<u64> {
    if spec.workers == 0 {
        return Err(Error::new(Kind::Request, "a rebuild needs at least one worker"));
    }
    let first = open_session(green, spec).await?;
    let jobs = list(&first, spec.attempt).await?;
    let made = jobs.len() as u64;
    let mut sessions = vec![Arc::new(first)];
    for _ in 1..spec.workers.min(jobs.len()) {
        sessions.push(Arc::new(open_session(green, spec).await?));
    }
    let mut waves = waves(jobs);
    if extent == Extent::Unproved {
        waves.retain(|(part, _)| *part == Part::Make);
    }
    for wave in waves {
        run_wave(&sessions, wave, spec, ears).await?;
    }
    Ok(made)
}

/// A build's commit does not wait for the disk: a crash of green takes the object back with the mark that it is made, and the
/// step's own mark comes after both and does wait.
pub(super) async fn open_session(green: &ConnInfo, spec: RebuildSpec) -> Result<Client> {
    let client = lease::session(green, "rebuild indexes", spec.epoch).await?;
    let kilobytes = (spec.memory_bytes / 1024 / spec.workers as u64).clamp(1024, i32::MAX as u64);
    client
        .batch_execute(&format!(
            "set maintenance_work_mem = '{kilobytes}kB'; set lock_timeout = '10min'; set synchronous_commit = off"
        ))
        .await
        .doing(Kind::Server, || "a session for building indexes cannot be prepared on green".into())?;
    Ok(client)
}

/// What the attempt deferred and nobody built again, the biggest table's first.
pub(super) async fn list(client: &Client, attempt: i32) -> Result<Vec<Job>> {
    let rows = client
        .query(LIST_DEFERRED, &[&attempt])
        .await
        .doing(Kind::Server, || "the record of dropped indexes cannot be read on green".into())?;
    let mut jobs = Vec::new();
    for row in rows.iter().filter(|row| !row.get::<_, bool>("rebuilt")) {
        let table_key: String = row.get("table_name");
        let table = TableName::parse(&table_key)
            .ok_or_else(|| Error::new(Kind::Bug, format!("`{table_key}` is recorded as a table's name")))?;
        jobs.push(Job {
            table,
            table_key,
            name: Ident::new(row.get::<_, String>("name")),
            kind: DeferredKind::parse(row.get("kind"))?,
            definition: row.get("definition"),
            table_bytes: u64::try_from(row.get::<_, i64>("table_bytes")).unwrap_or(0),
            partitioned: row.get("partitioned"),
            depth: row.get("depth"),
        });
    }
    Ok(jobs)
}

/// Orders the jobs so that nothing waits for another's lock, and whatever needs something comes after it.
fn waves(jobs: Vec<Job>) -> Vec<Wave> {
    let (keys, others): (Vec<Job>, Vec<Job>) =
        jobs.into_iter().partition(|job| job.kind == DeferredKind::ForeignKey);
    let (checks, indexes): (Vec<Job>, Vec<Job>) =
        others.into_iter().partition(|job| job.kind == DeferredKind::Check);
    let (parents, leaves): (Vec<Job>, Vec<Job>) = indexes.into_iter().partition(|job| job.partitioned);
    let (plain, constraints): (Vec<Job>, Vec<Job>) =
        leaves.into_iter().partition(|job| job.kind == DeferredKind::Index);
    let mut waves = vec![
        // Primary keys are among them; each has its table to itself while it is built.
        (Part::Make, by_table(constraints)),
        // CREATE INDEX shares its table with others of its kind.
        (Part::Make, plain.into_iter().map(|job| vec![job]).collect()),
    ];
    // A partitioned index only adopts what its leaves have, so nothing is gained by doing these side by side.
    waves.extend(by_depth(parents).into_iter().map(|level| (Part::Make, vec![level])));
    // A parent's check finds its children's own already proved.
    waves.extend(by_depth(checks).into_iter().map(|level| (Part::Make, by_table(level))));
    // Adding locks both tables, and two of them crosswise would deadlock; proving locks only one.
    waves.push((Part::Make, vec![keys.clone()]));
    waves.push((Part::Prove, by_table(keys)));
    waves
}

/// Groups by table, keeping the order in which tables came: the biggest first.
fn by_table(jobs: Vec<Job>) -> Vec<Vec<Job>> {
    let mut groups: Vec<Vec<Job>> = Vec::new();
    for job in jobs {
        match groups.iter_mut().find(|group| group[0].table == job.table) {
            Some(group) => group.push(job),
            None => groups.push(vec![job]),
        }
    }
    groups
}

/// The deepest level first.
fn by_depth(jobs: Vec<Job>) -> Vec<Vec<Job>> {
    let mut levels: BTreeMap<i32, Vec<Job>> = BTreeMap::new();
    for job in jobs {
        levels.entry(job.depth).or_default().push(job);
    }
    levels.into_values().rev().collect()
}

async fn run_wave(sessions: &[Arc<Client>], wave: Wave, spec: RebuildSpec, ears: &Ears) -> Result<()> {
    let (part, groups) = wave;
    let count = groups.len();
    let waiting = Arc::new(Mutex::new(VecDeque::from(groups)));
    let mut running = JoinSet::new();
    for session in sessions.iter().take(count) {
        let (session, waiting, ears) = (session.clone(), waiting.clone(), ears.clone());
        running.spawn(async move {
            loop {
                let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                let Some(group) = next else { return Ok::<(), Error>(()) };
                for job in group {
                    job.run(&session, part, spec, &ears).await?;
                }
            }
        });
    }
    while let Some(ended) = running.join_next().await {
        let result =
            ended.doing(Kind::Bug, || "a rebuild worker broke down".into()).and_then(|result| result);
        if let Err(error) = result {
            running.shutdown().await;
            return Err(error);
        }
    }
    Ok(())
}

impl Job {
    fn label(&self) -> String {
        format!("{} {} on {}", self.kind, self.name.as_str(), self.table.plain())
    }

    /// What makes it, and for a foreign key that is to be proved, what proves it.
    fn parts(&self) -> (&str, Option<&str>) {
        match self.definition.rsplit_once(PROOF_MARK) {
            Some((make, prove)) => (make, Some(prove)),
            None => (&self.definition, None),
        }
    }

    fn tell(&self, ears: &Ears, bytes: u64) {
        ears.tell(Event::Progress {
            subject: self.label(),
            rows: 0,
            bytes,
            total_bytes: self.table_bytes,
            done: bytes == self.table_bytes,
        });
    }

    /// Makes it, and marks it as made when that was all.
    pub(super) async fn run(
        &self,
        client: &Client,
        part: Part,
        spec: RebuildSpec,
        ears: &Ears,
    ) -> Result<()> {
        tracing::debug!(object = self.label(), ?part, "rebuilding");
        lease::begin(client, spec.epoch).await?;
        let (make, prove) = self.parts();
        let finished = match part {
            Part::Make => {
                self.make(client, make).await?;
                prove.is_none()
            }
            // VALIDATE of a valid constraint does nothing, so it may come twice.
            Part::Prove => {
                if let Some(prove) = prove {
                    self.execute(client, prove).await?;
                }
                true
            }
        };
        if finished {
            self.mark(client, spec.attempt).await?;
            self.tell(ears, self.table_bytes);
        }
        lease::commit(client, &self.label()).await
    }

    async fn make(&self, client: &Client, definition: &str) -> Result<()> {
        let is_index = self.kind == DeferredKind::Index;
        let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 4] =
            [&self.table.schema.as_str(), &self.table.name.as_str(), &self.name.as_str(), &is_index];
        let found = client
            .query_opt(FIND_OBJECT, &parameters)
            .await
            .doing(Kind::Server, || format!("{} cannot be looked for on green", self.label()))?;
        if let Some(row) = found {
            let (there, valid): (String, bool) = (row.get("definition"), row.get("valid"));
            if is_index && !valid && !self.partitioned {
                let leftover = format!("drop index {}.{}", self.table.schema, self.name);
                self.execute(client, &leftover).await?;
            } else if self.is_same(&there, definition) {
                return Ok(());
            } else {
                return Err(Error::new(
                    Kind::Server,
                    format!("{} is on green already, with another definition: {there}", self.label()),
                )
                .hint("drop it on green, and go on"));
            }
        }
        self.execute(client, definition).await
    }

    /// Whether what is there is what the record would make. NOT VALID may be written by us or by the server.
    fn is_same(&self, there: &str, definition: &str) -> bool {
        let there = there.strip_suffix(" NOT VALID").unwrap_or(there);
        [";", " not valid;", " NOT VALID;"].iter().any(|end| definition.contains(&format!("{there}{end}")))
    }

    async fn execute(&self, client: &Client, sql: &str) -> Result<()> {
        client.batch_execute(sql).await.map_err(|error| {
            Error::new(Kind::Server, format!("{} cannot be made again on green", self.label()))
                .hint("its rows came from blue as they are: look there for what breaks it; then replicate again")
                .source(error)
        })
    }

    async fn mark(&self, client: &Client, attempt: i32) -> Result<()> {
        client
            .execute(MARK_REBUILT, &[&attempt, &self.table_key, &self.name.as_str(), &self.kind.as_str()])
            .await
            .doing(Kind::Server, || format!("{} cannot be marked on green", self.label()))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(table: &str, name: &str, kind: DeferredKind) -> Job {
        Job {
            table: TableName::new("public", table),
            table_key: format!("public.{table}"),
            name: Ident::new(name),
            kind,
            definition: String::new(),
            table_bytes: 0,
            partitioned: false,
            depth: 0,
        }
    }

    #[test]
    fn constraints_of_a_table_take_turns_and_come_before_what_needs_them() {
        let waves = waves(vec![
            job("big", "key_to_small", DeferredKind::ForeignKey),
            job("big", "by_name", DeferredKind::Index),
            job("big", "by_day", DeferredKind::Index),
            job("big", "pkey", DeferredKind::PrimaryKey),
            job("big", "once", DeferredKind::Unique),
            job("small", "pkey", DeferredKind::PrimaryKey),
        ]);
        let shown: Vec<Vec<Vec<&str>>> = waves
            .iter()
            .map(|(_, groups)| {
                groups.iter().map(|group| group.iter().map(|job| job.name.as_str()).collect()).collect()
            })
            .collect();
        assert_eq!(
            shown,
            [
                vec![vec!["pkey", "once"], vec!["pkey"]],
                vec![vec!["by_name"], vec!["by_day"]],
                vec![vec!["key_to_small"]],
                vec![vec!["key_to_small"]],
            ]
        );
    }
}
