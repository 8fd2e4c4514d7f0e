//! Lets Postgres judge a rule's predicates: one query for many changes, over typed columns of their text values.
//!
//! The values travel as text and are cast to the column's own type, so that they are exactly what blue's log says.
//! (`jsonb_populate_record` would not do: it refuses an array that comes as text, and makes a string of a jsonb.)

use super::rule::{self, Found};
use super::transaction::{Change, Row, Transaction, Value};
use crate::error::{Doing, Error, Kind, Result};
use crate::pg::name::{Ident, TableName};
use crate::plan::RevocationRule;
use std::time::Duration;
use tokio_postgres::{Client, GenericClient, Statement, types::ToSql};

/// Changes judged by one query.
const CHUNK: usize = 5_000;
/// How long one query may take.
const JUDGE_DEADLINE: Duration = Duration::from_secs(30);

/// Lists a table's columns and their types.
const LIST_COLUMNS: &str = include_str!("../../sql/revocation/list_columns.sql");

/// A column and its type, as SQL writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypedColumn {
    /// Its name.
    pub name: Ident,
    /// As `format_type` writes it, with its schema where it needs one.
    pub type_name: String,
    /// It belongs to the replica identity.
    pub in_identity: bool,
}

/// A table's columns, in order; empty when there is no such table.
///
/// # Errors
/// [`Kind::Server`] when the catalog cannot be read.
pub async fn list_columns(client: &impl GenericClient, table: &TableName) -> Result<Vec<TypedColumn>> {
    let rows = client
        .query(LIST_COLUMNS, &[&table.schema.as_str(), &table.name.as_str()])
        .await
        .doing(Kind::Server, || format!("cannot read the columns of {}", table.plain()))?;
    rows.iter()
        .map(|row| {
            Ok(TypedColumn {
                name: Ident::new(row.try_get::<_, String>("name")?),
                type_name: row.try_get("type_name")?,
                in_identity: row.try_get("in_identity")?,
            })
        })
        .collect::<Result<_, tokio_postgres::Error>>()
        .doing(Kind::Server, || format!("cannot read the columns of {}", table.plain()))
}

/// The query that judges a rule's changes, and the columns it wants.
pub struct Judgement {
    /// `$1` ordinals, `$2` and `$3` whether the old and the new predicate can be judged, then a text array a column.
    pub sql: String,
    old_columns: Vec<Ident>,
    new_columns: Vec<Ident>,
}

impl Judgement {
    /// For a rule with a predicate; `None` when every change it looks at is a revocation.
    pub fn of(rule: &RevocationRule, columns: &[TypedColumn]) -> Option<Judgement> {
        if rule.when.old.is_none() && rule.when.new.is_none() {
            return None;
        }
        let mentioned = |predicate: &Option<String>| -> Vec<&TypedColumn> {
            let predicate = predicate.as_deref();
            let hit = |column: &&TypedColumn| {
                predicate.is_some_and(|predicate| rule::mentions(predicate, rule, column.name.as_str()))
            };
            columns.iter().filter(hit).collect()
        };
        let (old, new) = (mentioned(&rule.when.old), mentioned(&rule.when.new));
        let mut arrays = vec!["$1::int8[]".to_owned(), "$2::bool[]".into(), "$3::bool[]".into()];
        let mut names = vec!["migrate_at".to_owned(), "migrate_old".into(), "migrate_new".into()];
        for (side, columns) in [("old", &old), ("new", &new)] {
            for at in 0..columns.len() {
                arrays.push(format!("${}::text[]", arrays.len() + 1));
                names.push(format!("migrate_{side}_{at}"));
            }
        }
        let mut sql = format!(
            "select migrate_change.migrate_at from unnest({}) as migrate_change({}) where true",
            arrays.join(", "),
            names.join(", ")
        );
        for (side, predicate, columns) in [("old", &rule.when.old, &old), ("new", &rule.when.new, &new)] {
            if let Some(predicate) = predicate {
                sql.push_str(&one_side(side, predicate, columns, rule));
            }
        }
        let names =
            |columns: Vec<&TypedColumn>| columns.into_iter().map(|column| column.name.clone()).collect();
        Some(Judgement { sql, old_columns: names(old), new_columns: names(new) })
    }
}

/// The predicate stands on lines of its own, so that a comment in it ends with it.
fn one_side(side: &str, predicate: &str, columns: &[&TypedColumn], rule: &RevocationRule) -> String {
    let mut row = vec!["1 as migrate_one".to_owned()];
    for (at, column) in columns.iter().enumerate() {
        row.push(format!("migrate_change.migrate_{side}_{at}::{} as {}", column.type_name, column.name));
    }
    format!(
        " and (not migrate_change.migrate_{side} or (select (\n{predicate}\n) from (select {}) as {}))",
        row.join(", "),
        rule.table.name
    )
}

/// Judges transactions by the plan's rules, on a connection of its own to blue.
pub struct Judge {
    client: Client,
    rules: Vec<(RevocationRule, Option<(Judgement, Statement)>)>,
}

impl Judge {
    /// Prepares every rule's query.
    ///
    /// # Errors
    /// [`Kind::Plan`] when a table is missing or a predicate is not SQL over its columns; [`Kind::Server`] otherwise.
    pub async fn new(client: Client, rules: &[RevocationRule]) -> Result<Judge> {
        client
            .batch_execute("set default_transaction_read_only = on; set statement_timeout = '30s'")
            .await
            .doing(Kind::Server, || "cannot set up the session that judges revocations on blue".into())?;
        let mut prepared = Vec::with_capacity(rules.len());
        for rule in rules {
            let columns = list_columns(&client, &rule.table).await?;
            if columns.is_empty() {
                let what =
                    format!("revocation rule `{}`: blue has no table {}", rule.name, rule.table.plain());
                return Err(Error::new(Kind::Plan, what));
            }
            let judgement = match Judgement::of(rule, &columns) {
                None => None,
                Some(judgement) => {
                    let statement = client.prepare(&judgement.sql).await.doing(Kind::Plan, || {
                        format!("revocation rule `{}`: blue does not accept when.old or when.new", rule.name)
                    })?;
                    Some((judgement, statement))
                }
            };
            prepared.push((rule.clone(), judgement));
        }
        Ok(Judge { client, rules: prepared })
    }

    /// The revocations of each transaction, in order.
    ///
    /// # Errors
    /// [`Kind::Server`] when blue does not answer, or its log does not carry a key.
    pub async fn judge(&self, transactions: &[Transaction]) -> Result<Vec<Vec<Found>>> {
        let mut all: Vec<Vec<Found>> = transactions.iter().map(|_| Vec::new()).collect();
        for (rule_at, (rule, judgement)) in self.rules.iter().enumerate() {
            let changes: Vec<(usize, &Change)> = transactions
                .iter()
                .enumerate()
                .flat_map(|(at, tx)| rule::candidates(rule, tx).into_iter().map(move |change| (at, change)))
                .collect();
            for chunk in changes.chunks(CHUNK) {
                let hits = match judgement {
                    None => (0..chunk.len()).collect(),
                    Some((judgement, statement)) => self.ask(rule, judgement, statement, chunk).await?,
                };
                for (transaction, change) in hits.into_iter().filter_map(|hit| chunk.get(hit)) {
                    all[*transaction].extend(rule::found(rule, rule_at, self.rules.len(), change)?);
                }
            }
        }
        for found in &mut all {
            found.sort_by_key(|found| found.ordinal);
        }
        Ok(all)
    }

    async fn ask(
        &self,
        rule: &RevocationRule,
        judgement: &Judgement,
        statement: &Statement,
        changes: &[(usize, &Change)],
    ) -> Result<Vec<usize>> {
        let at: Vec<i64> = (0_i64..).take(changes.len()).collect();
        let known = |row: fn(&Change) -> &Option<Row>, columns: &[Ident]| -> Vec<bool> {
            changes.iter().map(|(_, change)| all_known(row(change).as_ref(), columns)).collect()
        };
        let old_known = known(|change| &change.old, &judgement.old_columns);
        let new_known = known(|change| &change.new, &judgement.new_columns);
        let mut texts: Vec<Vec<Option<&str>>> = Vec::new();
        for column in &judgement.old_columns {
            texts.push(changes.iter().map(|(_, change)| text(change.old.as_ref(), column)).collect());
        }
        for column in &judgement.new_columns {
            texts.push(changes.iter().map(|(_, change)| text(change.new.as_ref(), column)).collect());
        }
        let mut params: Vec<&(dyn ToSql + Sync)> = vec![&at, &old_known, &new_known];
        params.extend(texts.iter().map(|text| text as &(dyn ToSql + Sync)));
        let asked = tokio::time::timeout(JUDGE_DEADLINE, self.client.query(statement, &params));
        let what = || format!("blue could not judge changes by revocation rule `{}`", rule.name);
        let rows = asked.await.doing(Kind::Connect, what)?.doing(Kind::Server, what)?;
        rows.iter()
            .map(|row| row.try_get::<_, i64>(0).map(|at| usize::try_from(at).unwrap_or(usize::MAX)))
            .collect::<Result<_, _>>()
            .doing(Kind::Server, what)
    }
}

/// A predicate over a missing row or an unknown value cannot be judged, and counts as met.
fn all_known(row: Option<&Row>, columns: &[Ident]) -> bool {
    row.is_some_and(|row| columns.iter().all(|column| *row.value(column.as_str()) != Value::Unknown))
}

fn text<'a>(row: Option<&'a Row>, column: &Ident) -> Option<&'a str> {
    match row?.value(column.as_str()) {
        Value::Text(text) => std::str::from_utf8(text).ok(),
        Value::Null | Value::Unknown => None,
    }
}
