//! Applications at work: they issue, refresh, revoke and read tokens through PgBouncer, one transaction after another.
//!
//! Simple queries only: PgBouncer 1.18 knows no prepared statements in transaction mode.

use super::history::{Because, Changes, History, Key, Row, Table};
use super::oauth::ADOPTED_TOKENS;
use anyhow::{Context, Result};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedRwLockWriteGuard, RwLock};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

/// A client that waits longer gives up; far beyond any pause we promise.
const PATIENCE: Duration = Duration::from_secs(30);
/// Tokens a worker holds at most before it prefers to take some away.
const HELD_MAX: usize = 2_000;

/// How much traffic.
#[derive(Debug, Clone)]
pub struct Load {
    /// Clients at once.
    pub workers: u32,
    /// Pause of a client between two operations.
    pub think: Duration,
    /// The same seed makes the same choices.
    pub seed: u64,
}

impl Default for Load {
    fn default() -> Load {
        Load { workers: 8, think: Duration::from_millis(10), seed: 1 }
    }
}

/// Running traffic.
pub struct Traffic {
    stop: Arc<AtomicBool>,
    turnstile: Arc<RwLock<()>>,
    workers: Vec<tokio::task::JoinHandle<()>>,
}

impl Traffic {
    /// Lets clients begin. Each takes some of the first seeded tokens for its own.
    pub async fn start(url: &str, history: Arc<History>, clients: u64, load: &Load) -> Result<Traffic> {
        let stop = Arc::new(AtomicBool::new(false));
        let turnstile = Arc::new(RwLock::new(()));
        let mut workers = Vec::new();
        for number in 0..load.workers {
            let connection = open(url).await.context("a client cannot connect")?;
            let held = adopt(&connection, &history, number, load.workers).await?;
            let worker = Worker {
                number,
                url: url.to_owned(),
                stop: Arc::clone(&stop),
                turnstile: Arc::clone(&turnstile),
                connection,
                history: Arc::clone(&history),
                random: StdRng::seed_from_u64(load.seed.wrapping_add(u64::from(number))),
                made: 0,
                clients: i64::try_from(clients)?,
                held,
                revoked: Vec::new(),
                sessions: Vec::new(),
            };
            workers.push(tokio::spawn(worker.run(load.think)));
        }
        Ok(Traffic { stop, turnstile, workers })
    }

    /// Lets every client finish what it does, and rest until the guard is dropped.
    pub async fn rest(&self) -> OwnedRwLockWriteGuard<()> {
        Arc::clone(&self.turnstile).write_owned().await
    }

    /// Lets every client finish what it does, and waits for them.
    pub async fn stop(mut self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        for worker in std::mem::take(&mut self.workers) {
            worker.await.context("a client panicked")?;
        }
        Ok(())
    }
}

impl Drop for Traffic {
    /// Of a test that failed: its clients must not go on for ever.
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// A refresh token and its access token, both valid as far as the client knows.
struct Token {
    refresh: String,
    content: String,
    request: String,
    client: i64,
    subject: String,
    access: Option<String>,
}

struct Worker {
    number: u32,
    url: String,
    stop: Arc<AtomicBool>,
    turnstile: Arc<RwLock<()>>,
    connection: Client,
    history: Arc<History>,
    random: StdRng,
    made: u64,
    clients: i64,
    held: Vec<Token>,
    revoked: Vec<Key>,
    sessions: Vec<(String, String, u32)>,
}

/// Why an operation was not acknowledged.
enum Failure {
    /// The server said no, or the connection broke before COMMIT was sent: nothing was written.
    Refused(tokio_postgres::Error),
    /// COMMIT was sent and not answered.
    Unanswered(tokio_postgres::Error),
    /// No answer for [`PATIENCE`]; and whether COMMIT had been sent.
    Silence { committing: bool },
}

impl Worker {
    async fn run(mut self, think: Duration) {
        let turnstile = Arc::clone(&self.turnstile);
        while !self.stop.load(Ordering::Relaxed) {
            let at_work = turnstile.read().await;
            let began = Instant::now();
            let choice = self.random.random_range(0..100);
            let full = self.held.len() > HELD_MAX;
            let operation = match choice {
                0..=29 if !full => self.issue().await,
                0..=54 => self.refresh().await,
                55..=69 => self.revoke().await,
                70..=76 => self.revoke_access().await,
                77..=83 => self.touch().await,
                84..=87 => self.consent().await,
                _ => self.read().await,
            };
            self.history.took(operation, began);
            drop(at_work);
            if !think.is_zero() {
                tokio::time::sleep(think).await;
            }
        }
    }

    fn name(&mut self, kind: &str) -> String {
        self.made += 1;
        format!("live-{kind}-{}-{}", self.number, self.made)
    }

    /// A new login: access and refresh token, an event, and the client counts a use.
    async fn issue(&mut self) -> &'static str {
        let (refresh, access) = (self.name("r"), self.name("a"));
        let client = self.random.random_range(1..=self.clients);
        let subject = format!("subject-{}", self.random.random_range(0..1000));
        let request = format!("md5('{refresh}')::uuid");
        let statements = [
            "begin".to_owned(),
            insert_access(&access, &request, client, &subject),
            insert_refresh(&refresh, &request, client, &subject),
            insert_event("issued", &refresh),
            // The client's logo is stored out of line, and does not change.
            format!("update oauth_client set uses = uses + 1 where id = {client}"),
        ];
        let Some(answers) = self.in_transaction("issue", &statements).await else { return "issue" };
        let request = answers[2][1].clone();
        let changes = vec![
            present(Table::Access, &access, &answers[1][0], "", Because::Written),
            present(Table::Refresh, &refresh, &answers[2][0], "true", Because::Written),
            present(Table::Event, &answers[3][1], &answers[3][0], "", Because::Written),
        ];
        let content = answers[2][0].clone();
        if self.commit("issue", changes, Some(client)).await {
            self.held.push(Token { refresh, content, request, client, subject, access: Some(access) });
        }
        "issue"
    }

    /// A rotation: the old refresh token ends and a new one begins, in one transaction, with the same request id.
    async fn refresh(&mut self) -> &'static str {
        let Some(token) = self.take() else { return self.issue().await };
        let (refresh, access) = (self.name("r"), self.name("a"));
        let request = format!("'{}'::uuid", token.request);
        let mut statements = vec![
            "begin".to_owned(),
            deactivate(&token.refresh),
            insert_refresh(&refresh, &request, token.client, &token.subject),
            insert_access(&access, &request, token.client, &token.subject),
            insert_event("refreshed", &refresh),
        ];
        if let Some(access) = &token.access {
            statements.push(delete_access(access));
        }
        let Some(answers) = self.in_transaction("refresh", &statements).await else { return "refresh" };
        let mut changes = vec![
            present(Table::Refresh, &token.refresh, &token.content, "false", Because::Written),
            present(Table::Refresh, &refresh, &answers[2][0], "true", Because::Written),
            present(Table::Access, &access, &answers[3][0], "", Because::Written),
            present(Table::Event, &answers[4][1], &answers[4][0], "", Because::Written),
        ];
        if let Some(access) = &token.access {
            changes.push(absent(Table::Access, access, Because::Written));
        }
        let content = answers[2][0].clone();
        if self.commit("refresh", changes, None).await {
            self.held.push(Token { refresh, content, access: Some(access), ..token });
        }
        "refresh"
    }

    /// A logout: both tokens end, and none begins.
    async fn revoke(&mut self) -> &'static str {
        let Some(token) = self.take() else { return self.issue().await };
        let mut statements =
            vec!["begin".to_owned(), deactivate(&token.refresh), insert_event("revoked", &token.refresh)];
        if let Some(access) = &token.access {
            statements.push(delete_access(access));
        }
        let Some(answers) = self.in_transaction("revoke", &statements).await else { return "revoke" };
        let mut changes = vec![
            present(Table::Refresh, &token.refresh, &token.content, "false", Because::Revoked),
            present(Table::Event, &answers[2][1], &answers[2][0], "", Because::Written),
        ];
        if let Some(access) = &token.access {
            changes.push(absent(Table::Access, access, Because::Revoked));
        }
        if self.commit("revoke", changes, None).await {
            self.revoked.push(Key(Table::Refresh, token.refresh));
        }
        "revoke"
    }

    /// An access token is taken away alone, by one statement.
    async fn revoke_access(&mut self) -> &'static str {
        let Some(mut token) = self.take() else { return self.issue().await };
        let Some(access) = token.access.take() else {
            self.held.push(token);
            return self.read().await;
        };
        let changes = vec![absent(Table::Access, &access, Because::Revoked)];
        if self.alone("revoke access", &delete_access(&access), changes).await {
            self.revoked.push(Key(Table::Access, access));
            self.held.push(token);
        }
        "revoke access"
    }

    /// A session is opened, or seen again.
    async fn touch(&mut self) -> &'static str {
        if self.sessions.len() < 50 {
            let subject = format!("subject-{}", self.random.random_range(0..1000));
            let statements = [
                "begin".to_owned(),
                format!(
                    "insert into oauth_session (subject, remember, last_seen) values ('{subject}', true, now())
                     returning {}, id",
                    Table::Session.content()
                ),
            ];
            let Some(answers) = self.in_transaction("session", &statements).await else { return "session" };
            let (content, id) = (answers[1][0].clone(), answers[1][1].clone());
            let changes = vec![present(Table::Session, &id, &content, "0", Because::Written)];
            if self.commit("session", changes, None).await {
                self.sessions.push((id, content, 0));
            }
            return "session";
        }
        let at = self.random.random_range(0..self.sessions.len());
        let (id, content, touched) = self.sessions.swap_remove(at);
        let sql =
            format!("update oauth_session set touched = touched + 1, last_seen = now() where id = {id}");
        let changes =
            vec![present(Table::Session, &id, &content, &(touched + 1).to_string(), Because::Written)];
        if self.alone("touch", &sql, changes).await {
            self.sessions.push((id, content, touched + 1));
        }
        "touch"
    }

    async fn consent(&mut self) -> &'static str {
        let client = self.random.random_range(1..=self.clients);
        let subject = format!("subject-{}", self.random.random_range(0..1000));
        let statements = [
            "begin".to_owned(),
            format!(
                "insert into oauth_consent (subject, client, scopes, session, granted_at)
                 values ('{subject}', {client}, array['openid', null, 'a \"b\", c'], '{{\"remembered\": true}}', now())
                 returning {}, id",
                Table::Consent.content()
            ),
        ];
        let Some(answers) = self.in_transaction("consent", &statements).await else { return "consent" };
        let changes = vec![present(Table::Consent, &answers[1][1], &answers[1][0], "", Because::Written)];
        self.commit("consent", changes, None).await;
        "consent"
    }

    /// A token of ours is looked up; every third time one that we revoked.
    async fn read(&mut self) -> &'static str {
        let key = if !self.revoked.is_empty() && self.random.random_range(0..3) == 0 {
            self.revoked[self.random.random_range(0..self.revoked.len())].clone()
        } else if !self.held.is_empty() {
            Key(Table::Refresh, self.held[self.random.random_range(0..self.held.len())].refresh.clone())
        } else {
            return "read";
        };
        let Key(table, id) = &key;
        let sql = format!(
            "select {}, {} from {} where {} = '{id}'",
            table.content(),
            table.changing(),
            table.name(),
            table.key()
        );
        match send(&self.connection, &sql, false).await {
            Ok(row) => {
                let found = (row.len() == 2).then(|| (row[0].clone(), row[1].clone()));
                self.history.read(&key, found.as_ref());
            }
            Err(failure) => self.recover("read", failure).await,
        }
        "read"
    }

    fn take(&mut self) -> Option<Token> {
        if self.held.is_empty() {
            return None;
        }
        let at = self.random.random_range(0..self.held.len());
        Some(self.held.swap_remove(at))
    }

    /// Sends statements one by one, as a client library does, and gives the columns of each one's first row.
    async fn in_transaction(
        &mut self,
        operation: &'static str,
        statements: &[String],
    ) -> Option<Vec<Vec<String>>> {
        let mut answers = Vec::new();
        for statement in statements {
            match send(&self.connection, statement, false).await {
                Ok(row) => answers.push(row),
                Err(failure) => {
                    self.recover(operation, failure).await;
                    return None;
                }
            }
        }
        Some(answers)
    }

    /// Commits, and records what came of it.
    async fn commit(&mut self, operation: &'static str, changes: Changes, used: Option<i64>) -> bool {
        let sent = send(&self.connection, "commit", true).await;
        self.settle(operation, sent, changes, used).await
    }

    /// A statement that is a transaction of its own.
    async fn alone(&mut self, operation: &'static str, sql: &str, changes: Changes) -> bool {
        let sent = send(&self.connection, sql, true).await;
        self.settle(operation, sent, changes, None).await
    }

    async fn settle(
        &mut self,
        operation: &'static str,
        sent: Result<Vec<String>, Failure>,
        changes: Changes,
        used: Option<i64>,
    ) -> bool {
        match sent {
            Ok(_) => {
                self.history.acknowledge(changes, used);
                true
            }
            Err(failure) => {
                if matches!(failure, Failure::Unanswered(_) | Failure::Silence { committing: true }) {
                    self.history.doubt(changes, used);
                }
                self.recover(operation, failure).await;
                false
            }
        }
    }

    /// Records an error and gets a usable connection again. What was taken from the worker's hands stays out of them.
    async fn recover(&mut self, operation: &'static str, failure: Failure) {
        let (text, duplicate, silent) = match &failure {
            Failure::Refused(error) | Failure::Unanswered(error) => {
                let duplicate = error.code() == Some(&tokio_postgres::error::SqlState::UNIQUE_VIOLATION);
                (describe(error), duplicate, false)
            }
            Failure::Silence { .. } => (format!("no answer for {PATIENCE:?}"), false, true),
        };
        self.history.error(operation, &text, duplicate);
        if !silent && !self.connection.is_closed() && self.connection.simple_query("rollback").await.is_ok() {
            return;
        }
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline && !self.stop.load(Ordering::Relaxed) {
            if let Ok(connection) = open(&self.url).await {
                self.connection = connection;
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

async fn open(url: &str) -> Result<Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// Sends a simple query; the columns of the first row, or none.
async fn send(connection: &Client, sql: &str, committing: bool) -> Result<Vec<String>, Failure> {
    let messages = match tokio::time::timeout(PATIENCE, connection.simple_query(sql)).await {
        Err(_) => return Err(Failure::Silence { committing }),
        Ok(Err(error)) => {
            // The connection's classes (08, 57P) may follow a commit that was done; any other error means it was not.
            let answered = error
                .code()
                .is_some_and(|code| !code.code().starts_with("08") && !code.code().starts_with("57P"));
            let unanswered = committing && !answered;
            return Err(if unanswered { Failure::Unanswered(error) } else { Failure::Refused(error) });
        }
        Ok(Ok(messages)) => messages,
    };
    let row = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => {
            Some((0..row.len()).map(|at| row.get(at).unwrap_or_default().to_owned()).collect())
        }
        _ => None,
    });
    Ok(row.unwrap_or_default())
}

fn describe(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(db) => format!("{} {}", db.code().code(), db.message()),
        None => error.to_string(),
    }
}

fn present(table: Table, key: &str, content: &str, changing: &str, because: Because) -> (Key, Row) {
    (Key(table, key.into()), Row::Present { content: content.into(), changing: changing.into(), because })
}

fn absent(table: Table, key: &str, because: Because) -> (Key, Row) {
    (Key(table, key.into()), Row::Absent(because))
}

fn insert_refresh(signature: &str, request: &str, client: i64, subject: &str) -> String {
    format!(
        "insert into oauth_refresh (signature, request_id, client, subject, session, active, issued_at)
         values ('{signature}', {request}, {client}, '{subject}', '{{\"of\": \"{signature}\"}}', true, now())
         returning {}, request_id",
        Table::Refresh.content()
    )
}

fn insert_access(signature: &str, request: &str, client: i64, subject: &str) -> String {
    format!(
        "insert into oauth_access (signature, request_id, client, subject, session, expires_at)
         values ('{signature}', {request}, {client}, '{subject}', '{{\"of\": \"{signature}\"}}', now() + interval '1 hour')
         returning {}",
        Table::Access.content()
    )
}

fn insert_event(kind: &str, signature: &str) -> String {
    format!(
        "insert into oauth_event (kind, signature, at) values ('{kind}', '{signature}', now()) returning {}, id",
        Table::Event.content()
    )
}

fn deactivate(signature: &str) -> String {
    format!("update oauth_refresh set active = false where signature = '{signature}'")
}

fn delete_access(signature: &str) -> String {
    format!("delete from oauth_access where signature = '{signature}'")
}

/// Takes the worker's share of the first seeded tokens, and has the history know them as they are.
async fn adopt(connection: &Client, history: &History, number: u32, workers: u32) -> Result<Vec<Token>> {
    let sql = format!(
        "select r.signature, r.content, r.active, r.request_id, r.client, r.subject, a.signature, a.content
         from (select {}, * from oauth_refresh
               where signature like 'seed-r-%' and id <= {ADOPTED_TOKENS} and id % {workers} = {number}) as r
         left join (select {}, * from oauth_access where signature like 'seed-a-%') as a using (request_id)",
        format_args!("{} as content", Table::Refresh.content()),
        format_args!("{} as content", Table::Access.content()),
    );
    let mut held = Vec::new();
    let mut rows = Vec::new();
    for message in connection.simple_query(&sql).await.context("a client cannot read the seeded tokens")? {
        let SimpleQueryMessage::Row(row) = message else { continue };
        let text = |at: usize| row.get(at).unwrap_or_default().to_owned();
        let active = row.get(2) == Some("t");
        rows.push(present(Table::Refresh, &text(0), &text(1), &active.to_string(), Because::Written));
        let access = row.get(6).map(str::to_owned);
        if let Some(access) = &access {
            rows.push(present(Table::Access, access, &text(7), "", Because::Written));
        }
        if active {
            held.push(Token {
                refresh: text(0),
                content: text(1),
                request: text(3),
                client: text(4).parse().context("a client's id")?,
                subject: text(5),
                access,
            });
        }
    }
    history.adopt(rows);
    Ok(held)
}
