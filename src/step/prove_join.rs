//! Prove a join: green itself says whether it takes the query, over empty copies of blue's tables that are rolled back.

use super::prove_mapping::moving;
use crate::error::{Doing, Error, Kind, Result};
use crate::mapping::{Joined, Joining, Problem, Staged};
use crate::pg::target;
use std::time::Duration;
use tokio_postgres::Client;

/// How long green may take for one join.
const DEADLINE: Duration = Duration::from_secs(30);

/// What is wrong with a join, as far as green's catalog and green's planner say; nothing when it will work.
///
/// # Errors
/// [`Kind::Server`] when green cannot be asked, [`Kind::Deadline`] when it does not answer.
pub async fn prove(green: &Client, joining: &Joining) -> Result<Vec<Problem>> {
    let problems = joining.problems_on_blue();
    if !problems.is_empty() {
        return Ok(problems);
    }
    let doing = || "cannot try a join on green".to_owned();
    let proving = async {
        let begin = "begin read write; set local lock_timeout = '5s'";
        green.batch_execute(begin).await.doing(Kind::Server, doing)?;
        let tried = try_on_green(green, joining).await;
        green.batch_execute("rollback").await.doing(Kind::Server, doing)?;
        tried
    };
    match tokio::time::timeout(DEADLINE, proving).await {
        Ok(proved) => proved,
        Err(_) => Err(Error::new(
            Kind::Deadline,
            format!("green does not say in time whether it takes the join of {}", joining.green.plain()),
        )
        .hint("look for long locks on green's catalogs")),
    }
}

/// Where the copies are meanwhile.
fn tried(source: &Staged) -> String {
    format!("pg_temp.{}", source.stage.name)
}

/// In the caller's transaction, which is rolled back: the first thing that green refuses ends it.
async fn try_on_green(green: &Client, joining: &Joining) -> Result<Vec<Problem>> {
    let unreadable = || Error::new(Kind::Bug, "a join cannot be read any more");
    for source in &joining.sources {
        let name = tried(source);
        let make = Joining::make_stage(source, "temporary table", &name);
        for sql in std::iter::once(make).chain(joining.index_stage(source, &name)) {
            if let Err(error) = green.batch_execute(&sql).await {
                let field = format!("from.{}", source.blue.name.plain());
                let what =
                    format!("green cannot keep a copy of {}: {}", source.blue.name.plain(), said(&error));
                return Ok(vec![problem(
                    field,
                    what,
                    "green must have blue's types, and the indexes must fit",
                )]);
            }
        }
    }
    let look = joining.look(&tried).ok_or_else(unreadable)?;
    let given = match target::given(green, &look).await {
        Ok(given) => given,
        Err(error) => return Ok(vec![refused("query", &error)]),
    };
    let table = target::read(green, &joining.green).await?;
    let joined = match joining.fit(&table, &given) {
        Ok(joined) => joined,
        Err(problems) => return Ok(problems),
    };
    let mut problems = look_into(green, "query", &look).await?;
    for source in &joining.sources {
        let field = format!("from.{}.key", source.blue.name.plain());
        let look = joining.look_at_key(source, &tried).ok_or_else(unreadable)?;
        let found = look_into(green, &field, &look).await?;
        if found.is_empty() {
            problems.extend(look_at_types(green, &field, &look, &joined).await);
        }
        problems.extend(found);
        if green.batch_execute("select").await.is_err() {
            return Ok(problems);
        }
    }
    if problems.is_empty() {
        let fill = joining.fill(&joined, &tried).ok_or_else(unreadable)?;
        problems.extend(green.prepare(&fill).await.err().map(|error| {
            let what =
                format!("green does not take joined rows into {}: {}", joining.green.plain(), said(&error));
            problem("query", what, "give the value the column's type, as `(…)::type`")
        }));
    }
    Ok(problems)
}

/// Whether green knows what is called, and whether it gives the same again for the same rows.
async fn look_into(green: &Client, field: &str, query: &str) -> Result<Vec<Problem>> {
    let view = format!("create temporary view migrate_expression as {query}");
    if let Err(error) = green.batch_execute(&view).await {
        return Ok(vec![refused(field, &error)]);
    }
    let doing = || "cannot look at a join on green".to_owned();
    let rows = green
        .query(include_str!("../../sql/mapping/list_moving_calls.sql"), &[])
        .await
        .doing(Kind::Server, doing)?;
    green.batch_execute("drop view pg_temp.migrate_expression").await.doing(Kind::Server, doing)?;
    Ok(moving(field, &rows))
}

/// Whether the keys that a row concerns can be compared with those that the query gives.
async fn look_at_types(green: &Client, field: &str, look: &str, joined: &Joined) -> Option<Problem> {
    let casts: Vec<String> = joined
        .key
        .iter()
        .enumerate()
        .map(|(at, column)| format!("v{at}::{}", joined.columns[*column].given_type))
        .collect();
    let sql = format!("select {} from ({look}) as migrate_keys", casts.join(", "));
    green.prepare(&sql).await.err().map(|error| refused(field, &error))
}

fn problem(field: impl Into<String>, what: String, help: &str) -> Problem {
    Problem { field: field.into(), what, help: help.to_owned() }
}

fn refused(field: &str, error: &tokio_postgres::Error) -> Problem {
    let hint = error.as_db_error().and_then(|error| error.hint()).map(|hint| hint.trim_end_matches('.'));
    let help = hint.unwrap_or(
        "name functions and types outside pg_catalog with their schema; green must have blue's types",
    );
    let what = match field {
        "query" => format!("green refuses the query: {}", said(error)),
        _ => format!("green refuses the key: {}", said(error)),
    };
    problem(field, what, help)
}

fn said(error: &tokio_postgres::Error) -> String {
    error.as_db_error().map_or_else(|| error.to_string(), |error| error.message().to_owned())
}
