//! Our schema on both sides: made once, recognized later, never mistaken for another migration's.

use super::failpoint;
use crate::error::{Doing, Error, Kind, Result};
use crate::pg::catalog;
use crate::plan::Side;
use serde::{Deserialize, Serialize};
use tokio_postgres::Client;

/// Which database this is, by what we wrote there and by what its server says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// A random value of ours.
    pub nonce: String,
    /// The migration it belongs to.
    pub plan: String,
    /// The side it was made for.
    pub side: Side,
    /// `pg_control_system()`.
    pub system_identifier: String,
    /// `pg_control_checkpoint()`.
    pub timeline: i32,
    /// `pg_database.oid`.
    pub database_oid: u32,
}

/// What of ours a database holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    /// Lease, gate and manifest: blue of a blue-green migration, which is fenced at the worst moment.
    LeaseAndGate,
    /// Those, and the journal with all ledgers: green, or the one database of a migration in place.
    Everything,
}

/// How long a rival that makes our schema at the same moment is waited for; making it takes milliseconds.
const RIVAL: &str = "15s";

/// Makes our schema where it is missing, and says which database this is.
///
/// # Errors
/// [`Kind::Gate`] when the schema is another migration's, or was made for the other side: blue and green are swapped.
///
/// # Crash
/// All of it or nothing is there: schema, identity and gate are one transaction.
pub async fn create(client: &mut Client, side: Side, holds: Holds, plan: &str) -> Result<Identity> {
    // Refuse before the first change: it may be another migration's.
    find(client, side, plan).await?;
    let doing = || format!("cannot create schema migrate on {side}");
    let tx = client.transaction().await.doing(Kind::Server, doing)?;
    // `if not exists` is no help against one that makes it at the same moment: both would insert the same name.
    tx.batch_execute(&format!(
        "set local lock_timeout = '{RIVAL}'; select pg_advisory_xact_lock(7747002); set local lock_timeout = '5s'"
    ))
    .await
    .doing(Kind::Server, doing)?;
    tx.batch_execute(include_str!("../../sql/state/create_blue.sql")).await.doing(Kind::Server, doing)?;
    if holds == Holds::Everything {
        tx.batch_execute(include_str!("../../sql/state/create_green.sql"))
            .await
            .doing(Kind::Server, doing)?;
    }
    let nonce = format!("{:032x}", rand::random::<u128>());
    tx.execute(include_str!("../../sql/state/write_identity.sql"), &[&side.to_string(), &nonce, &plan])
        .await
        .doing(Kind::Server, doing)?;
    let (closed, state) = match side {
        Side::Blue => (false, "OPEN"),
        Side::Green => (true, "CLOSED"),
    };
    tx.execute(include_str!("../../sql/state/write_gate.sql"), &[&closed, &state])
        .await
        .doing(Kind::Server, doing)?;
    failpoint::hit(&format!("begin:{side}-making"));
    tx.commit().await.doing(Kind::Server, doing)?;
    failpoint::hit(&format!("begin:{side}-made"));
    match find(client, side, plan).await? {
        Some(identity) => Ok(identity),
        None => {
            Err(Error::new(Kind::Server, format!("schema migrate vanished from {side} while we made it"))
                .hint("somebody drops it at the same time; find out who, then run this again"))
        }
    }
}

/// Whether anything of ours is there: this migration's, or a schema whose maker died before it said whose it is.
///
/// # Errors
/// As [`create`].
pub async fn is_there(client: &Client, side: Side, plan: &str) -> Result<bool> {
    Ok(find(client, side, plan).await?.is_some() || catalog::has_unclaimed_schema(client, side).await?)
}

/// Says which database this is; `None` when our schema is not there.
///
/// # Errors
/// As [`create`].
pub async fn find(client: &Client, side: Side, plan: &str) -> Result<Option<Identity>> {
    let doing = || format!("cannot read schema migrate on {side}");
    let there: bool = client
        .query_one("select to_regclass('migrate.identity') is not null", &[])
        .await
        .doing(Kind::Server, doing)?
        .get(0);
    if !there {
        return Ok(None);
    }
    let row = client
        .query_opt(include_str!("../../sql/state/read_identity.sql"), &[])
        .await
        .doing(Kind::Server, doing)?;
    let Some(row) = row else { return Ok(None) };
    let (made_for, owner): (String, String) = (row.get("side"), row.get("plan"));
    if owner != plan {
        return Err(Error::new(
            Kind::Gate,
            format!("{side} belongs to the migration `{owner}`, not to `{plan}`"),
        )
        .hint("finish that one, or roll it back, before you begin another on the same database"));
    }
    if made_for != side.to_string() {
        return Err(Error::new(
            Kind::Gate,
            format!("what the plan calls {side} is the {made_for} of this migration"),
        )
        .hint("blue.url and green.url are swapped"));
    }
    Ok(Some(Identity {
        nonce: row.get("nonce"),
        plan: owner,
        side,
        system_identifier: row.get("system_identifier"),
        timeline: row.get("timeline"),
        database_oid: row.get("database_oid"),
    }))
}

/// Drops our schema and all in it. Nothing of ours may be needed any more.
pub async fn drop(client: &Client, side: Side) -> Result<()> {
    client
        .batch_execute("set lock_timeout = '5s'; drop schema if exists migrate cascade; set lock_timeout = 0")
        .await
        .doing(Kind::Server, || format!("cannot drop schema migrate on {side}"))
}
