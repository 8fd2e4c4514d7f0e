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
const LIST_LEDGER_SINCE: &str = include_str!("../../sql/revocation/list_ledger_since.sql");
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
    /// How many ledgered keys were looked at.
    pub looked_at: u64,
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
        all.push(still_valid_of(green, blue, attempt, rule, Ledgered::All).await?);
    }
    Ok(all)
}

/// What was looked at while green took writes of nobody but the replay: the less is left to look at in the pause.
#[derive(Debug, Clone)]
pub struct EarlierLook {
    /// How many ledgered keys there were.
    pub looked_at: u64,
    /// What its look at the ledger saw, as a snapshot of green's.
    seen: String,
    /// By rule, the ids whose keys its `valid` query found on green, for whatever reason.
    found: BTreeMap<String, Vec<String>>,
}

/// Has each rule's `valid` query look for every ledgered key of an attempt, for [`still_valid_since`]. It judges nothing: while
/// clients write on blue, a key that is found may be one whose next revocation is on its way.
///
/// # Errors
/// As [`still_valid`].
pub async fn look_early(green: &Client, attempt: i32, rules: &[RevocationRule]) -> Result<EarlierLook> {
    // Before the first page: what is committed later is for the later look.
    let row = green
        .query_one("select pg_current_snapshot()::text", &[])
        .await
        .doing(Kind::Server, || "cannot read green's snapshot".into())?;
    let mut look = EarlierLook { looked_at: 0, seen: row.get(0), found: BTreeMap::new() };
    for rule in rules {
        let (mut found, mut after) = (Vec::new(), String::new());
        loop {
            let keys = page(green, attempt, rule, &after, Ledgered::All).await?;
            let Some(last) = keys.keys().next_back() else { break };
            after = last.clone();
            look.looked_at += keys.len() as u64;
            found.extend(find_valid(green, rule, &keys).await?.into_keys());
        }
        look.found.insert(rule.name.clone(), found);
    }
    Ok(look)
}

/// As [`still_valid`] of all keys, of which it looks only at those that an earlier look did not see or found on green.
///
/// A key that was not on green then is not there now: green's gate is closed, and has been since it has tables, so nobody but the
/// replay has written there. The replay never writes the rows of a key back: its effects delete, or set what the plan says
/// revokes; and whatever it ledgered since is looked at here. What blue did since cannot make a key valid on green either, since
/// nothing else of blue is carried. Only a `valid` query that waits for a time to come, or a rule whose effect makes another rule's
/// keys valid, could differ; the look at all keys after the opening tells those.
///
/// # Errors
/// As [`still_valid`].
pub async fn still_valid_since(
    earlier: &EarlierLook,
    green: &Client,
    blue: &Client,
    attempt: i32,
    rules: &[RevocationRule],
) -> Result<Vec<StillValid>> {
    let mut all = Vec::with_capacity(rules.len());
    for rule in rules {
        all.push(still_valid_of(green, Some(blue), attempt, rule, Ledgered::Since(earlier)).await?);
    }
    Ok(all)
}

/// Which of the ledgered keys.
#[derive(Clone, Copy)]
enum Ledgered<'l> {
    All,
    /// Those it did not see, and those it found on green.
    Since(&'l EarlierLook),
}

async fn still_valid_of(
    green: &Client,
    blue: Option<&Client>,
    attempt: i32,
    rule: &RevocationRule,
    which: Ledgered<'_>,
) -> Result<StillValid> {
    let (mut valid, mut anew) = (BTreeSet::new(), BTreeSet::new());
    let (mut after, mut looked_at) = (String::new(), 0);
    loop {
        let keys = page(green, attempt, rule, &after, which).await?;
        let Some(last) = keys.keys().next_back() else { break };
        after = last.clone();
        looked_at += keys.len() as u64;
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
    let (count, issued_anew) = (valid.len() as u64, anew.len() as u64);
    Ok(StillValid { rule: rule.name.clone(), count, issued_anew, looked_at })
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

async fn page(
    green: &Client,
    attempt: i32,
    rule: &RevocationRule,
    after: &str,
    which: Ledgered<'_>,
) -> Result<Keys> {
    let what = || "cannot read the ledger of revocations on green".into();
    let at_most = count(PAGE as u64);
    let rows = match which {
        Ledgered::All => green.query(LIST_LEDGER, &[&attempt, &rule.name, &after, &at_most]).await,
        Ledgered::Since(EarlierLook { seen, found, .. }) => {
            let found = found.get(&rule.name).map_or(&[][..], Vec::as_slice);
            green.query(LIST_LEDGER_SINCE, &[&attempt, &rule.name, &after, &at_most, seen, &found]).await
        }
    }
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
