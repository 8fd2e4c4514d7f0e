//! The last look: is anything that was revoked still valid on green?
//!
//! A key may have been issued anew after its revocation, and then it must live. Two things tell: blue, fenced and
//! still readable, holds the key as not revoked; or the row on green was written after green opened, by an
//! application.

use super::effect;
use super::ledger::{count, from_count};
use super::predicate::list_columns;
use crate::error::{Doing, Error, Kind, Result};
use crate::plan::RevocationRule;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use tokio_postgres::{Client, GenericClient, types::ToSql};

const LIST_LEDGER: &str = include_str!("../../sql/revocation/list_ledger.sql");
const COUNT_TOTALS: &str = include_str!("../../sql/revocation/count_totals.sql");
/// Keys looked at by one query.
const PAGE: usize = 10_000;

/// What a rule's `valid` query still finds of the keys it revoked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StillValid {
    /// The rule.
    pub rule: String,
    /// Revoked keys that are still valid. It must be 0.
    pub count: u64,
    /// Keys that are valid because they were issued anew after their revocation. They are not in `count`.
    pub issued_anew: u64,
}

/// An attempt's revocations in numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct RevocationTotals {
    /// Distinct revocations that producers published.
    pub captured: u64,
    /// Of them in the ledger: effective on green, by the stream or by the replay.
    pub replayed: u64,
    /// Of them, those where the replay itself touched rows.
    pub acted: u64,
    /// Messages that could not be used.
    pub parked: u64,
    /// Revoked keys that are still valid on green.
    pub still_valid: u64,
}

/// Keys by id, all of one rule.
pub(super) type Keys = BTreeMap<String, Vec<String>>;

/// Looks, for each rule, at every ledgered key of an attempt.
///
/// `blue` tells keys that were issued anew there before the fence; without it they count as still valid.
///
/// # Errors
/// [`Kind::Server`] or [`Kind::Plan`] when a rule's query fails.
pub async fn still_valid(
    green: &Client,
    blue: Option<&Client>,
    attempt: i32,
    rules: &[RevocationRule],
) -> Result<Vec<StillValid>> {
    let mut all = Vec::with_capacity(rules.len());
    for rule in rules {
        let (mut valid, mut anew) = (BTreeSet::new(), BTreeSet::new());
        let mut after = String::new();
        loop {
            let keys = page(green, attempt, rule, &after).await?;
            let Some(last) = keys.keys().next_back() else { break };
            after = last.clone();
            let found = find_valid(green, rule, &keys).await?;
            let revoked = match blue {
                Some(blue) => find_revoked_on_blue(blue, rule, &found).await?,
                None => found.clone(),
            };
            let opened = opened_by(green).await?;
            let written = find_issued_anew(green, rule, &revoked, opened.as_deref()).await?;
            for (id, key) in found {
                let lives = !revoked.contains_key(&id) || written.contains_key(&id);
                if lives {
                    anew.insert(key)
                } else {
                    valid.insert(key)
                };
            }
        }
        let rule = rule.name.clone();
        all.push(StillValid { rule, count: valid.len() as u64, issued_anew: anew.len() as u64 });
    }
    Ok(all)
}

/// An attempt's revocations in numbers, for `status` and `report`.
///
/// # Errors
/// As [`still_valid`].
pub async fn totals(
    green: &Client,
    blue: Option<&Client>,
    attempt: i32,
    rules: &[RevocationRule],
) -> Result<RevocationTotals> {
    let what = || "cannot count revocations on green".into();
    let row = green.query_one(COUNT_TOTALS, &[&attempt]).await.doing(Kind::Server, what)?;
    let column = |name: &str| Ok::<_, Error>(from_count(row.try_get(name).doing(Kind::Server, what)?));
    Ok(RevocationTotals {
        captured: column("captured")?,
        replayed: column("ledgered")?,
        acted: column("replayed")?,
        parked: column("parked")?,
        still_valid: still_valid(green, blue, attempt, rules).await?.iter().map(|rule| rule.count).sum(),
    })
}

async fn page(green: &Client, attempt: i32, rule: &RevocationRule, after: &str) -> Result<Keys> {
    let what = || "cannot read the ledger of revocations on green".into();
    let rows = green
        .query(LIST_LEDGER, &[&attempt, &rule.name, &after, &count(PAGE as u64)])
        .await
        .doing(Kind::Server, what)?;
    rows.iter()
        .map(|row| {
            let (id, key): (String, String) = (row.try_get("id")?, row.try_get("key")?);
            Ok((id, serde_json::from_str(&key)?))
        })
        .collect::<Result<_, Box<dyn std::error::Error + Send + Sync>>>()
        .doing(Kind::Server, what)
}

async fn opened_by(green: &Client) -> Result<Option<String>> {
    let sql = "select case when closed then null else xmin::text end from migrate.gate";
    let row = green.query_opt(sql, &[]).await;
    let row = row.doing(Kind::Server, || "cannot look at green's gate".into())?;
    Ok(row.and_then(|row| row.get(0)))
}

/// Those whose keys the `valid` query finds on green.
pub(super) async fn find_valid(
    green: &impl GenericClient,
    rule: &RevocationRule,
    keys: &Keys,
) -> Result<Keys> {
    let sql = effect::valid(rule)?;
    ask(green, &sql, rule, keys, &[]).await
}

/// Those whose keys blue holds revoked now.
pub(super) async fn find_revoked_on_blue(blue: &Client, rule: &RevocationRule, keys: &Keys) -> Result<Keys> {
    if keys.is_empty() {
        return Ok(Keys::new());
    }
    let columns = list_columns(blue, &rule.table).await?;
    ask(blue, &effect::revoked_on_blue(rule, &columns)?, rule, keys, &[]).await
}

/// Those whose rows on green an application has written since green opened.
async fn find_issued_anew(
    green: &Client,
    rule: &RevocationRule,
    keys: &Keys,
    opened_by: Option<&str>,
) -> Result<Keys> {
    if keys.is_empty() || opened_by.is_none() {
        return Ok(Keys::new());
    }
    let columns = list_columns(green, effect::table(rule)?).await?;
    ask(green, &effect::issued_anew(rule, &columns)?, rule, keys, &[&opened_by]).await
}

/// Asks a question of [`effect`] for keys; gives those it returns.
async fn ask(
    client: &impl GenericClient,
    sql: &str,
    rule: &RevocationRule,
    keys: &Keys,
    more: &[&(dyn ToSql + Sync)],
) -> Result<Keys> {
    if keys.is_empty() {
        return Ok(Keys::new());
    }
    let what = || format!("revocation rule `{}`: its keys cannot be looked for", rule.name);
    let columns = columns_of(rule, keys);
    let mut params: Vec<&(dyn ToSql + Sync)> = columns.iter().map(|column| column as _).collect();
    params.extend(more);
    let rows = client.query(sql, &params).await.doing(Kind::Server, what)?;
    let mut found = Keys::new();
    for row in rows {
        let id: String = row.try_get(0).doing(Kind::Server, what)?;
        if let Some(key) = keys.get(&id) {
            found.insert(id, key.clone());
        }
    }
    Ok(found)
}

/// The ids, then each key column: the arrays that [`effect`]'s statements take.
pub(super) fn columns_of<'a>(rule: &RevocationRule, keys: &'a Keys) -> Vec<Vec<&'a str>> {
    let mut columns: Vec<Vec<&str>> = vec![keys.keys().map(String::as_str).collect()];
    for at in 0..rule.key.len() {
        columns.push(keys.values().map(|key| key.get(at).map_or("", String::as_str)).collect());
    }
    columns
}
