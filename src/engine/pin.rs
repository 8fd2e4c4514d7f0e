//! What the first mutating command pins: the try's number, the runbook's fingerprint, and the facts it was built from.

use super::state::Identity;
use crate::ddl::Online;
use crate::error::{Doing, Error, Kind, Result};
use crate::facts::ServerFacts;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio_postgres::Client;

/// A pinned attempt, as green holds it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pin {
    /// The try's number.
    pub attempt: i32,
    /// The runbook's fingerprint.
    pub fingerprint: String,
    /// Which database blue was.
    pub blue: Identity,
    /// Which database green was.
    pub green: Identity,
    /// Blue as it was.
    pub blue_facts: ServerFacts,
}

/// What an in-place migration pins: the rewritten list, since one made from a database that is halfway would differ.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InPlacePin {
    /// The try's number.
    pub attempt: i32,
    /// Of the plan and its SQL files.
    pub fingerprint: String,
    /// Which database it was.
    pub database: Identity,
    /// What runs, in order.
    pub statements: Vec<Online>,
}

/// The attempt that is on; `None` when none is.
///
/// # Errors
/// [`Kind::Bug`] when it cannot be read as a `P`: another version, or another kind of plan, wrote it.
pub async fn current<P: DeserializeOwned>(client: &Client, plan: &str) -> Result<Option<P>> {
    let row = client
        .query_opt(include_str!("../../sql/engine/read_attempt.sql"), &[&plan])
        .await
        .doing(Kind::Server, || "cannot read the attempt that is on".into())?;
    row.map(|row| {
        serde_json::from_value(row.get("pin")).doing(Kind::Bug, || "the pinned attempt cannot be read".into())
    })
    .transpose()
}

/// The attempt begun last, and whether it has ended; `None` when none was begun.
///
/// # Errors
/// As [`current`].
pub async fn last<P: DeserializeOwned>(client: &Client, plan: &str) -> Result<Option<(P, bool)>> {
    let row = client
        .query_opt(include_str!("../../sql/engine/read_last_attempt.sql"), &[&plan])
        .await
        .doing(Kind::Server, || "cannot read the attempts".into())?;
    let Some(row) = row else { return Ok(None) };
    let pin = serde_json::from_value(row.get("pin"))
        .doing(Kind::Bug, || "the pinned attempt cannot be read".into())?;
    Ok(Some((pin, row.get("ended"))))
}

/// The number the next attempt gets.
pub async fn next_number(client: &Client) -> Result<i32> {
    let row = client
        .query_one("select coalesce(max(attempt), 0) + 1 from migrate.attempt", &[])
        .await
        .doing(Kind::Server, || "cannot number the attempt".into())?;
    Ok(row.get(0))
}

/// Pins an attempt.
pub async fn pin<P: Serialize>(
    client: &Client,
    plan: &str,
    attempt: i32,
    fingerprint: &str,
    pin: &P,
) -> Result<()> {
    let pin = serde_json::to_value(pin).doing(Kind::Bug, || "the attempt cannot be written".into())?;
    client
        .execute(include_str!("../../sql/engine/write_attempt.sql"), &[&attempt, &plan, &fingerprint, &pin])
        .await
        .doing(Kind::Server, || "cannot pin the attempt".into())?;
    Ok(())
}

/// Whether an attempt with this fingerprint has ended.
pub async fn has_ended(client: &Client, plan: &str, fingerprint: &str) -> Result<bool> {
    let row = client
        .query_opt(include_str!("../../sql/engine/find_ended_attempt.sql"), &[&plan, &fingerprint])
        .await
        .doing(Kind::Server, || "cannot read earlier attempts".into())?;
    Ok(row.is_some())
}

/// Ends the attempt that is on.
pub async fn end(client: &Client, attempt: i32) -> Result<()> {
    client
        .execute("update migrate.attempt set ended_at = clock_timestamp() where attempt = $1", &[&attempt])
        .await
        .doing(Kind::Server, || "cannot end the attempt".into())?;
    Ok(())
}

impl Pin {
    /// Refuses a database that is not the one that was pinned: restored, promoted, or another altogether.
    ///
    /// # Errors
    /// [`Kind::Gate`].
    pub fn recognize(&self, seen: &Identity) -> Result<()> {
        let pinned = match seen.side {
            crate::plan::Side::Blue => &self.blue,
            crate::plan::Side::Green => &self.green,
        };
        if pinned == seen {
            return Ok(());
        }
        let what = if pinned.system_identifier != seen.system_identifier || pinned.nonce != seen.nonce {
            "is another database than the one this migration began with"
        } else if pinned.timeline != seen.timeline {
            "was promoted or restored since this migration began; its slots are gone"
        } else {
            "was created anew since this migration began"
        };
        Err(Error::new(Kind::Gate, format!("{} {what}", seen.side)).hint(
            "if that is meant, `migrate rollback --all` and start again; if not, look at the plan's URLs",
        ))
    }
}
