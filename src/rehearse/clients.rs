//! A client that has prepared the applications' queries before the DDL, and asks for them again after each statement.
//!
//! They are asked for with EXPLAIN EXECUTE, which checks a prepared statement and plans it as EXECUTE does, with the same
//! errors, and runs nothing: a query may call a function that acts on the whole server, and that server may be blue.
//! What a function's body would find changed is not seen.

use super::queries::Query;
use crate::error::{Doing, Kind, Result};
use crate::pg::{connect, conninfo::ConnInfo};
use std::time::Duration;
use tokio_postgres::Client;

/// For one query.
const QUERY_MAX: Duration = Duration::from_secs(10);

/// A client of the scratch database.
pub struct Clients {
    client: Client,
    queries: Vec<Prepared>,
    /// Queries that could not be prepared even before, with the server's reason.
    pub unusable: Vec<(Query, String)>,
}

struct Prepared {
    query: Query,
    name: String,
    execute: String,
}

/// A query that a change breaks.
#[derive(Debug, Clone, PartialEq)]
pub struct Break {
    /// Which.
    pub query: Query,
    /// The SQLSTATE: 0A000, 42703, 42P01 and so on.
    pub sqlstate: String,
    /// The server's words.
    pub message: String,
    /// It works when it is prepared again: only sessions that hold it prepared fail.
    pub works_anew: bool,
}

impl Clients {
    /// Prepares the queries. One that the database refuses before anything has changed is noted, and left out.
    ///
    /// # Errors
    /// [`Kind::Connect`], [`Kind::Server`].
    pub async fn prepare(info: &ConnInfo, search_path: &str, queries: Vec<Query>) -> Result<Clients> {
        let client = connect::connect(info, "rehearsal client").await?;
        let limit = format!("set statement_timeout = {}; set row_security = on", QUERY_MAX.as_millis());
        client.batch_execute(&limit).await.doing(Kind::Server, || "cannot prepare a session".into())?;
        client
            .execute("select set_config('search_path', $1, false)", &[&search_path])
            .await
            .doing(Kind::Server, || "cannot set the applications' search_path".into())?;
        let mut clients = Clients { client, queries: Vec::new(), unusable: Vec::new() };
        for (at, query) in queries.into_iter().enumerate() {
            let name = format!("rehearsed_{at}");
            let prepared = match clients.prepare_one(&name, &query.sql).await {
                Ok(execute) => clients.ask(&execute).await.map(|()| execute),
                Err(error) => Err(error),
            };
            match prepared {
                Ok(execute) => clients.queries.push(Prepared { query, name, execute }),
                Err(Refusal { message, .. }) => clients.unusable.push((query, message)),
            }
        }
        Ok(clients)
    }

    /// How many are asked for.
    pub fn len(&self) -> usize {
        self.queries.len()
    }

    /// Whether there is nothing to ask for.
    pub fn is_empty(&self) -> bool {
        self.queries.is_empty()
    }

    /// The queries that work now.
    pub fn working(&self) -> impl Iterator<Item = &Query> {
        self.queries.iter().map(|prepared| &prepared.query)
    }

    /// Asks for every query, and tells which fail now. Those that work when prepared anew are kept; the others are not asked
    /// for again.
    pub async fn find_broken(&mut self) -> Vec<Break> {
        let mut broken = Vec::new();
        for mut prepared in std::mem::take(&mut self.queries) {
            let Err(refusal) = self.ask(&prepared.execute).await else {
                self.queries.push(prepared);
                continue;
            };
            let _ = self.client.batch_execute(&format!("deallocate {}", prepared.name)).await;
            let anew = match self.prepare_one(&prepared.name, &prepared.query.sql).await {
                Ok(execute) => self.ask(&execute).await.map(|()| execute),
                Err(refusal) => Err(refusal),
            };
            let works_anew = anew.is_ok();
            broken.push(Break {
                query: prepared.query.clone(),
                sqlstate: refusal.sqlstate,
                message: refusal.message,
                works_anew,
            });
            if let Ok(execute) = anew {
                prepared.execute = execute;
                self.queries.push(prepared);
            }
        }
        broken
    }

    /// Prepares a query, and gives the statement that asks for it with NULL for every parameter.
    async fn prepare_one(&self, name: &str, sql: &str) -> Result<String, Refusal> {
        self.client.batch_execute(&format!("prepare {name} as {sql}")).await.map_err(Refusal::from)?;
        let parameters: i32 = self
            .client
            .query_one(
                "select cardinality(parameter_types) from pg_prepared_statements where name = $1",
                &[&name],
            )
            .await
            .map_err(Refusal::from)?
            .get(0);
        let nulls = vec!["null"; usize::try_from(parameters).unwrap_or(0)].join(", ");
        let arguments = if nulls.is_empty() { String::new() } else { format!("({nulls})") };
        Ok(format!("explain execute {name}{arguments}"))
    }

    async fn ask(&self, execute: &str) -> Result<(), Refusal> {
        let asked = self.client.simple_query(&format!("begin; {execute}; rollback")).await;
        if asked.is_err() {
            let _ = self.client.batch_execute("rollback").await;
        }
        asked.map(|_| ()).map_err(Refusal::from)
    }
}

struct Refusal {
    sqlstate: String,
    message: String,
}

impl From<tokio_postgres::Error> for Refusal {
    fn from(error: tokio_postgres::Error) -> Refusal {
        match error.as_db_error() {
            Some(db) => Refusal { sqlstate: db.code().code().to_owned(), message: db.message().to_owned() },
            None => Refusal { sqlstate: "08000".into(), message: error.to_string() },
        }
    }
}
