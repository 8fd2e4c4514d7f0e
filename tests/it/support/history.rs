//! What clients were told, and the checker that compares it with the database they were told it about.
//!
//! A write whose answer arrived must be there in the end. One whose COMMIT was never answered may be there or not, but
//! wholly. Rows nobody wrote must not be there. That is judged from the outside, through plain SELECTs.

use super::oauth::{ADOPTED_TOKENS, Loaded};
use anyhow::{Context, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio_postgres::Client;

/// Sentences kept about what is wrong; the counts are complete anyway.
const PROBLEMS_KEPT: usize = 20;

/// A row, by table and key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key(pub Table, pub String);

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0.name(), self.1)
    }
}

/// The tables whose rows the traffic writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Table {
    /// Refresh tokens.
    Refresh,
    /// Access tokens.
    Access,
    /// Consents.
    Consent,
    /// Sessions.
    Session,
    /// Events, partitioned.
    Event,
}

impl Table {
    const ALL: [Table; 5] = [Table::Refresh, Table::Access, Table::Consent, Table::Session, Table::Event];

    /// Its name in the database.
    pub fn name(self) -> &'static str {
        match self {
            Table::Refresh => "oauth_refresh",
            Table::Access => "oauth_access",
            Table::Consent => "oauth_consent",
            Table::Session => "oauth_session",
            Table::Event => "oauth_event",
        }
    }

    /// The column of [`Key`].
    pub fn key(self) -> &'static str {
        match self {
            Table::Refresh | Table::Access => "signature",
            Table::Consent | Table::Session | Table::Event => "id",
        }
    }

    /// A row but for the column that changes, as text that is the same on every major.
    pub fn content(self) -> &'static str {
        match self {
            Table::Refresh => "concat_ws('|', id, request_id, client, subject, session, issued_at)",
            Table::Access => "concat_ws('|', id, request_id, client, subject, session, expires_at)",
            Table::Consent => "concat_ws('|', number, subject, client, scopes, session, granted_at)",
            Table::Session => "concat_ws('|', subject, remember)",
            Table::Event => "concat_ws('|', kind, signature, at)",
        }
    }

    /// The column that changes, as text.
    pub fn changing(self) -> &'static str {
        match self {
            Table::Refresh => "active::text",
            Table::Session => "touched::text",
            Table::Access | Table::Consent | Table::Event => "''",
        }
    }

    /// The seeded rows that the traffic never changes, given what was loaded.
    fn untouched(self, loaded: Loaded) -> String {
        match self {
            Table::Refresh => {
                format!("signature like 'seed-r-%' and substr(signature, 8)::bigint > {ADOPTED_TOKENS}")
            }
            Table::Access => {
                format!("signature like 'seed-a-%' and substr(signature, 8)::bigint > {ADOPTED_TOKENS}")
            }
            Table::Consent => format!("number <= {}", loaded.tokens / 2),
            Table::Session | Table::Event => format!("id <= {}", loaded.tokens / 2),
        }
    }

    fn sequence(self) -> &'static str {
        match self {
            Table::Consent => "oauth_consent_number_seq",
            Table::Refresh => "oauth_refresh_id_seq",
            Table::Access => "oauth_access_id_seq",
            Table::Session => "oauth_session_id_seq",
            Table::Event => "oauth_event_id_seq",
        }
    }

    fn sequence_column(self) -> &'static str {
        if self == Table::Consent { "number" } else { "id" }
    }
}

/// What a row is, or that there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Row {
    /// There is none; and whether that, if it is broken, leaves something valid that was revoked.
    Absent(Because),
    /// Its content, the column that changes, and why that is as it is.
    Present {
        /// As [`Table::content`].
        content: String,
        /// As [`Table::changing`].
        changing: String,
        /// Why it is so.
        because: Because,
    },
}

/// Why a row is as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Because {
    /// Somebody's access was taken away.
    Revoked,
    /// Any other reason.
    Written,
}

impl Row {
    fn matches(&self, found: Option<&(String, String)>) -> bool {
        match (self, found) {
            (Row::Absent(_), None) => true,
            (Row::Present { content, changing, .. }, Some(found)) => {
                *content == found.0 && *changing == found.1
            }
            _ => false,
        }
    }

    fn revoked(&self) -> bool {
        matches!(self, Row::Absent(Because::Revoked) | Row::Present { because: Because::Revoked, .. })
    }
}

/// What one transaction makes of some rows.
pub type Changes = Vec<(Key, Row)>;

/// Everything the clients saw.
pub struct History {
    began: Instant,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    acknowledged: u64,
    rows: BTreeMap<Key, Row>,
    doubtful: Vec<Changes>,
    uses_acknowledged: BTreeMap<i64, i64>,
    uses_doubtful: BTreeMap<i64, i64>,
    errors: u64,
    stale_reads: u64,
    valid_reads: u64,
    collisions: u64,
    latencies_us: Vec<u32>,
    stall: Option<Stall>,
    problems: Vec<String>,
}

impl Seen {
    fn problem(&mut self, text: impl FnOnce() -> String) {
        if self.problems.len() < PROBLEMS_KEPT {
            self.problems.push(text());
        }
    }
}

/// The operation that took longest.
#[derive(Debug, Clone)]
pub struct Stall {
    /// Which.
    pub operation: &'static str,
    /// How long the client waited.
    pub length: Duration,
    /// When it began, from the history's beginning.
    pub at: Duration,
}

impl Default for History {
    fn default() -> History {
        History { began: Instant::now(), seen: Mutex::default() }
    }
}

impl History {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Rows that were there before anybody wrote.
    pub fn adopt(&self, rows: Changes) {
        self.seen().rows.extend(rows);
    }

    /// A transaction whose COMMIT was answered.
    pub fn acknowledge(&self, changes: Changes, used_client: Option<i64>) {
        let mut seen = self.seen();
        seen.acknowledged += 1;
        seen.rows.extend(changes);
        if let Some(client) = used_client {
            *seen.uses_acknowledged.entry(client).or_default() += 1;
        }
    }

    /// A transaction whose COMMIT was sent and never answered. Its rows must not be used again.
    pub fn doubt(&self, changes: Changes, used_client: Option<i64>) {
        let mut seen = self.seen();
        seen.doubtful.push(changes);
        if let Some(client) = used_client {
            *seen.uses_doubtful.entry(client).or_default() += 1;
        }
    }

    /// A client got an error.
    pub fn error(&self, operation: &'static str, text: &str, duplicate_key: bool) {
        let at = self.began.elapsed();
        let mut seen = self.seen();
        seen.errors += 1;
        if duplicate_key {
            seen.collisions += 1;
        }
        seen.problem(|| format!("client error at {:.3} s in {operation}: {text}", at.as_secs_f64()));
    }

    /// A client read a row of its own: it must be as it was last told.
    pub fn read(&self, key: &Key, found: Option<&(String, String)>) {
        let mut seen = self.seen();
        let Some(expected) = seen.rows.get(key).cloned() else { return };
        if expected.matches(found) {
            return;
        }
        if expected.revoked() {
            seen.valid_reads += 1;
        } else {
            seen.stale_reads += 1;
        }
        seen.problem(|| format!("stale read of {key}: {found:?} instead of {expected:?}"));
    }

    /// How long an operation took.
    pub fn took(&self, operation: &'static str, began: Instant) {
        let length = began.elapsed();
        let mut seen = self.seen();
        seen.latencies_us.push(u32::try_from(length.as_micros()).unwrap_or(u32::MAX));
        if seen.stall.as_ref().is_none_or(|stall| stall.length < length) {
            seen.stall = Some(Stall { operation, length, at: began - self.began });
        }
    }

    /// Transactions acknowledged so far.
    pub fn acknowledged(&self) -> u64 {
        self.seen().acknowledged
    }

    /// Errors seen so far.
    pub fn errors(&self) -> u64 {
        self.seen().errors
    }

    /// Compares the database with everything seen. Nobody may write meanwhile.
    pub async fn check(&self, database: &Client, baseline: &Baseline) -> Result<Verdict> {
        let mut found = BTreeMap::new();
        for table in Table::ALL {
            found.extend(read_rows(database, table, baseline.loaded).await?);
        }
        let uses = read_uses(database).await?;
        let seeded = Baseline::read(database, baseline.loaded).await?;
        let behind = sequences_behind(database).await?;

        let mut seen = self.seen();
        let mut verdict = Verdict {
            acknowledged: seen.acknowledged,
            doubtful: seen.doubtful.len(),
            client_errors: seen.errors,
            lost: seen.stale_reads,
            still_valid: seen.valid_reads,
            collisions: seen.collisions + behind.len() as u64,
            problems: std::mem::take(&mut seen.problems),
            longest_stall: seen.stall.clone(),
            latencies: Latencies::of(&mut seen.latencies_us),
            ..Verdict::default()
        };
        for text in behind {
            verdict.problem(|| text);
        }
        judge_rows(&seen, found, &mut verdict);
        judge_uses(&seen, &uses, &mut verdict);
        judge_seeded(baseline, &seeded, &mut verdict);
        Ok(verdict)
    }
}

fn judge_rows(seen: &Seen, mut found: BTreeMap<Key, (String, String)>, verdict: &mut Verdict) {
    let mut in_doubt: BTreeSet<&Key> = BTreeSet::new();
    for changes in &seen.doubtful {
        let now = changes.iter().filter(|(key, row)| row.matches(found.get(key))).count();
        let before = |key: &Key| seen.rows.get(key).cloned().unwrap_or(Row::Absent(Because::Written));
        let old = changes.iter().filter(|(key, _)| before(key).matches(found.get(key))).count();
        if now != changes.len() && old != changes.len() {
            verdict.lost += 1;
            verdict.problem(|| {
                format!("a transaction whose COMMIT was not answered is there in part: {changes:?}")
            });
        }
        in_doubt.extend(changes.iter().map(|(key, _)| key));
    }
    for (key, expected) in &seen.rows {
        let is = found.get(key);
        if in_doubt.contains(key) || expected.matches(is) {
            continue;
        }
        if expected.revoked() && is.is_some() {
            verdict.still_valid += 1;
            verdict.problem(|| format!("revoked, but still valid: {key}"));
        } else if matches!(expected, Row::Absent(_)) {
            verdict.lost += 1;
            verdict.problem(|| format!("a deletion was lost: {key} is there: {is:?}"));
        } else {
            verdict.lost += 1;
            verdict.problem(|| format!("lost: {key} is {is:?} instead of {expected:?}"));
        }
    }
    found.retain(|key, _| !seen.rows.contains_key(key) && !in_doubt.contains(key));
    for (key, row) in &found {
        verdict.invented += 1;
        verdict.problem(|| format!("nobody wrote {key}: {row:?}"));
    }
}

fn judge_uses(seen: &Seen, uses: &BTreeMap<i64, i64>, verdict: &mut Verdict) {
    let clients: BTreeSet<i64> = uses.keys().chain(seen.uses_acknowledged.keys()).copied().collect();
    for client in clients {
        let of = |counts: &BTreeMap<i64, i64>| counts.get(&client).copied().unwrap_or(0);
        let (is, least) = (of(uses), of(&seen.uses_acknowledged));
        let most = least + of(&seen.uses_doubtful);
        if is < least {
            verdict.lost += (least - is).unsigned_abs();
            verdict.problem(|| format!("client {client} was used {least} times, but counts {is}"));
        } else if is > most {
            verdict.invented += (is - most).unsigned_abs();
            verdict.problem(|| format!("client {client} was used {most} times at most, but counts {is}"));
        }
    }
}

fn judge_seeded(before: &Baseline, after: &Baseline, verdict: &mut Verdict) {
    for (table, (rows, digest)) in &before.tables {
        let (rows_now, digest_now) = after.tables.get(table).cloned().unwrap_or_default();
        if rows_now < *rows {
            verdict.lost += (rows - rows_now).unsigned_abs();
            verdict.problem(|| format!("{table}: {rows_now} seeded rows are left of {rows}"));
        } else if rows_now > *rows {
            verdict.invented += (rows_now - rows).unsigned_abs();
            verdict.problem(|| format!("{table}: {rows_now} seeded rows where there were {rows}"));
        } else if digest_now != *digest {
            verdict.lost += 1;
            verdict.problem(|| format!("{table}: a seeded row that nobody changed is not as it was"));
        }
    }
}

/// The seeded rows that nobody changes: how many, and a digest of them, per table.
#[derive(Debug, Clone)]
pub struct Baseline {
    loaded: Loaded,
    tables: BTreeMap<&'static str, (i64, String)>,
}

impl Baseline {
    /// Reads it; before the traffic begins.
    pub async fn read(database: &Client, loaded: Loaded) -> Result<Baseline> {
        // Digests are over text, so text must mean the same on both sides.
        database
            .batch_execute("set timezone = 'UTC'; set datestyle = 'ISO, YMD'; set bytea_output = 'hex'")
            .await?;
        let mut tables = BTreeMap::new();
        for table in Table::ALL {
            let rows =
                format!("select t::text as row from {} t where {}", table.name(), table.untouched(loaded));
            tables.insert(table.name(), digest(database, &rows).await?);
        }
        let clients =
            "select concat_ws('|', id, client_id, name, redirect_uris, metadata, logo, created_at) as row
            from oauth_client";
        tables.insert("oauth_client", digest(database, clients).await?);
        Ok(Baseline { loaded, tables })
    }

    /// What was loaded.
    pub fn loaded(&self) -> Loaded {
        self.loaded
    }
}

async fn digest(database: &Client, rows: &str) -> Result<(i64, String)> {
    // A sum does not depend on the order; this hash of text is the same on all majors.
    let sql = format!(
        "select count(*), coalesce(sum(hashtextextended(row, 0)::numeric), 0)::text from ({rows}) as rows"
    );
    let row = database.query_one(&sql, &[]).await.with_context(|| format!("cannot digest: {rows}"))?;
    Ok((row.get(0), row.get(1)))
}

async fn read_rows(
    database: &Client,
    table: Table,
    loaded: Loaded,
) -> Result<BTreeMap<Key, (String, String)>> {
    let sql = format!(
        "select {}::text, {}, {} from {} where not ({})",
        table.key(),
        table.content(),
        table.changing(),
        table.name(),
        table.untouched(loaded)
    );
    let rows = database.query(&sql, &[]).await.with_context(|| format!("cannot read {}", table.name()))?;
    Ok(rows.into_iter().map(|row| (Key(table, row.get(0)), (row.get(1), row.get(2)))).collect())
}

async fn read_uses(database: &Client) -> Result<BTreeMap<i64, i64>> {
    let rows = database.query("select id, uses from oauth_client", &[]).await?;
    Ok(rows.into_iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// Sequences that would give out a number that is taken.
async fn sequences_behind(database: &Client) -> Result<Vec<String>> {
    let mut behind = Vec::new();
    for table in Table::ALL {
        let (column, name, sequence) = (table.sequence_column(), table.name(), table.sequence());
        let sql = format!(
            "select (select max({column})::bigint from {name}) >= last_value + is_called::int from {sequence}"
        );
        let row = database.query_one(&sql, &[]).await.with_context(|| format!("cannot read {sequence}"))?;
        if row.get::<_, Option<bool>>(0) == Some(true) {
            behind.push(format!("{sequence} is behind {name}.{column}"));
        }
    }
    Ok(behind)
}

/// What the checker found.
#[derive(Debug, Clone, Default)]
pub struct Verdict {
    /// Transactions whose COMMIT was answered.
    pub acknowledged: u64,
    /// Transactions whose COMMIT was sent and never answered.
    pub doubtful: usize,
    /// Acknowledged writes that are not there, and stale reads.
    pub lost: u64,
    /// Rows nobody wrote.
    pub invented: u64,
    /// Errors clients saw.
    pub client_errors: u64,
    /// Revoked tokens that still work.
    pub still_valid: u64,
    /// Duplicate keys clients saw, and sequences that are behind their column.
    pub collisions: u64,
    /// The operation that took longest.
    pub longest_stall: Option<Stall>,
    /// All operations.
    pub latencies: Latencies,
    /// The first sentences about what is wrong.
    pub problems: Vec<String>,
}

impl Verdict {
    /// Whether nothing is wrong.
    pub fn clean(&self) -> bool {
        self.lost == 0
            && self.invented == 0
            && self.client_errors == 0
            && self.still_valid == 0
            && self.collisions == 0
    }

    /// The longest time a client waited, in milliseconds.
    pub fn longest_stall_ms(&self) -> f64 {
        self.longest_stall.as_ref().map_or(0.0, |stall| stall.length.as_secs_f64() * 1000.0)
    }

    fn problem(&mut self, text: impl FnOnce() -> String) {
        if self.problems.len() < PROBLEMS_KEPT {
            self.problems.push(text());
        }
    }
}

/// How long operations took, in milliseconds.
#[derive(Debug, Clone, Copy, Default)]
pub struct Latencies {
    /// How many operations.
    pub count: usize,
    /// Half took less.
    pub p50_ms: f64,
    /// 99 of 100 took less.
    pub p99_ms: f64,
}

impl Latencies {
    fn of(micros: &mut [u32]) -> Latencies {
        micros.sort_unstable();
        let at = |hundredths: usize| {
            let index = (micros.len() * hundredths / 100).min(micros.len().saturating_sub(1));
            micros.get(index).map_or(0.0, |us| f64::from(*us) / 1000.0)
        };
        Latencies { count: micros.len(), p50_ms: at(50), p99_ms: at(99) }
    }
}
