//! Gates: conditions that must hold before clients are held.
//!
//! Looked at anew each time, never journaled: what was true a minute ago is not a gate.

use super::{lookout, observe};
use crate::check;
use crate::copy::analyze::analyze;
use crate::error::{Doing, Error, Kind, Result};
use crate::event::Event;
use crate::finding::Severity;
use crate::pg::{connect, name::TableName};
use crate::plan::{Gate, Plan, Side};
use crate::step::{
    blue_shape::{self, ShapeSeen},
    fence_blue, newcomers,
    world::World,
};
use std::time::Duration;

/// One gate, as it was seen.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Seen {
    /// What must hold.
    pub gate: String,
    /// Whether it does.
    pub holds: bool,
    /// What was seen.
    pub seen: String,
}

/// The most WAL green may be behind when the plan names no `lag_max`: about a tenth of a second of apply.
const LAG_MAX_BYTES: u64 = 1 << 20;

/// How long a gate's own query or command may take.
const GATE_DEADLINE: Duration = Duration::from_secs(30);

/// How long tables without statistics may take to be analyzed.
const STATISTICS_DEADLINE: Duration = Duration::from_secs(60);

/// Looks at every gate.
///
/// # Errors
/// Only when a gate cannot be looked at; one that does not hold is in the answer.
pub async fn look(world: &World) -> Result<Vec<Seen>> {
    let mut seen = vec![
        transactions(world).await?,
        prepared(world).await?,
        shape(world).await?,
        completeness(world).await?,
        checks(world).await?,
        statistics(world).await?,
    ];
    if !world.plan.is_snapshot() {
        seen.insert(0, lag(world).await?);
    }
    if !world.plan.revocations.is_empty() {
        seen.push(capture(world).await);
    }
    for gate in world.plan.cutover.gates.iter().filter(|gate| gate.lag_max.is_none()) {
        seen.push(operators(world, gate).await?);
    }
    Ok(seen)
}

/// The error for gates of which some do not hold.
pub fn refuse(seen: &[Seen]) -> Result<()> {
    let failing: Vec<String> = seen
        .iter()
        .filter(|gate| !gate.holds)
        .map(|gate| format!("\n  {}: {}", gate.gate, gate.seen))
        .collect();
    if failing.is_empty() {
        return Ok(());
    }
    Err(Error::new(Kind::Gate, format!("not all gates hold; clients were not touched{}", failing.concat()))
        .hint("wait until they hold, or see to what they name, and run `migrate cutover` again"))
}

/// The lag the plan allows.
pub fn lag_max_bytes(plan: &Plan) -> u64 {
    plan.cutover.gates.iter().find_map(|gate| gate.lag_max).map_or(LAG_MAX_BYTES, |size| size.0)
}

/// Both what green has not applied and what blue has not decoded: measured to the end of what is *inserted*, since
/// `sent = replayed` says nothing about a transaction that is still being decoded.
async fn lag(world: &World) -> Result<Seen> {
    let allowed = lag_max_bytes(&world.plan);
    let lag_bytes = {
        let follower = world.follower.lock().await;
        let applied = follower.as_ref().map(|follower| follower.status().borrow().applied);
        match applied {
            Some(applied) => current_lsn(world).await?.bytes_since(applied),
            None => u64::MAX,
        }
    };
    Ok(Seen {
        gate: format!("green is at most {allowed} bytes of WAL behind"),
        holds: lag_bytes <= allowed,
        seen: if lag_bytes == u64::MAX { "nobody follows blue".into() } else { format!("{lag_bytes} bytes") },
    })
}

/// The end of blue's WAL, inserted and not only flushed.
pub async fn current_lsn(world: &World) -> Result<crate::pg::lsn::Lsn> {
    let blue = world.client(Side::Blue).await?;
    let text: String = blue
        .query_one("select pg_current_wal_insert_lsn()::text", &[])
        .await
        .doing(Kind::Server, || "cannot ask blue for its WAL position".into())?
        .get(0);
    text.parse().map_err(|error: String| Error::new(Kind::Bug, error))
}

/// The end of what blue has written down: behind every commit. What is inserted beyond it may stay unwritten for ever on an
/// idle server, and is not decoded then.
pub async fn written_lsn(world: &World) -> Result<crate::pg::lsn::Lsn> {
    let blue = world.client(Side::Blue).await?;
    fence_blue::written_lsn(&*blue).await
}

/// A long transaction would hold up PAUSE and the fence's lock.
async fn transactions(world: &World) -> Result<Seen> {
    let allowed = world.plan.cutover.transaction_age_max;
    let blue = world.client(Side::Blue).await?;
    let row = blue
        .query_opt(include_str!("../../sql/journey/oldest_transaction.sql"), &[])
        .await
        .doing(Kind::Server, || "cannot look for long transactions on blue".into())?;
    let (holds, seen) = match row {
        Some(row) => {
            let age_ms: i64 = row.get("age_ms");
            let holds = u128::try_from(age_ms).unwrap_or(0) <= allowed.0.as_millis();
            let (pid, state): (i32, String) = (row.get("pid"), row.get("state"));
            (holds, format!("pid {pid}, {state}, open for {age_ms} ms"))
        }
        None => (true, "none".into()),
    };
    Ok(Seen { gate: format!("no transaction on blue is older than {allowed}"), holds, seen })
}

/// What is prepared reaches green only when it is committed, and keeps its locks till then.
async fn prepared(world: &World) -> Result<Seen> {
    let blue = world.client(Side::Blue).await?;
    let count: i64 = blue
        .query_one("select count(*) from pg_prepared_xacts where database = current_database()", &[])
        .await
        .doing(Kind::Server, || "cannot look for prepared transactions on blue".into())?
        .get(0);
    Ok(Seen {
        gate: "no prepared transaction is open on blue".into(),
        holds: count == 0,
        seen: format!("{count}"),
    })
}

async fn shape(world: &World) -> Result<Seen> {
    let (holds, seen) = match blue_shape::look(world).await? {
        ShapeSeen::AsPinned => (true, "unchanged".into()),
        ShapeSeen::Accepted(changes) => {
            changes.iter().for_each(|change| world.warn(lookout::accepted(change)));
            (true, format!("changed without harm: {}", changes.join("; ")))
        }
        ShapeSeen::Changed(why) => {
            let why = if why.is_empty() { String::new() } else { format!(" ({})", why.join("; ")) };
            (false, format!("changed{why}: take it back, or `migrate rollback --all` and begin again"))
        }
    };
    Ok(Seen { gate: "blue's tables have the shape they had when the copy began".into(), holds, seen })
}

/// Whatever the plan's patterns select now is what green has.
async fn completeness(world: &World) -> Result<Seen> {
    let found = newcomers::look(world, &*world.client(Side::Blue).await?).await?;
    for newcomer in found.iter().filter(|newcomer| !newcomer.loses_data()) {
        world.ears.tell(Event::Warning { text: format!("on blue, {newcomer}: green does not have it") });
    }
    let losses = newcomers::losses(&found);
    Ok(Seen {
        gate: "green gets every table and sequence that the plan selects on blue".into(),
        holds: losses.is_none(),
        seen: losses.map_or_else(|| "yes".into(), |losses| format!("{losses}: {}", newcomers::WAY_OUT)),
    })
}

/// The checks of the beginning that can have become false since, on connections of their own.
async fn checks(world: &World) -> Result<Seen> {
    let blue = connect::connect(&world.blue_info, "gates").await?;
    let green = connect::connect(&world.green_info, "gates").await?;
    let findings = observe::observe(&world.plan, &blue, &green, world.ears.clone()).await?.judge(&world.plan);
    let stopping: Vec<String> = findings
        .iter()
        .filter(|finding| {
            finding.severity == Severity::Blocking && check::stops_cutover(&world.plan, &finding.code)
        })
        .map(|finding| format!("{} at {}: {} ({})", finding.code, finding.place, finding.what, finding.help))
        .collect();
    Ok(Seen {
        gate: "the checks that can have become false since the copy began hold".into(),
        holds: stopping.is_empty(),
        seen: if stopping.is_empty() { "yes".into() } else { stopping.join("; ") },
    })
}

/// Without statistics green's first minutes look like an outage.
async fn statistics(world: &World) -> Result<Seen> {
    let missing: Vec<String> = never_analyzed(world).await?.iter().map(ToString::to_string).collect();
    Ok(Seen {
        gate: "every table of green has statistics".into(),
        holds: missing.is_empty(),
        seen: if missing.is_empty() {
            "yes".into()
        } else {
            let names = missing.join(", ");
            format!("never analyzed: {names}; do it by hand: on green, `analyze {names}`")
        },
    })
}

/// Analyzes tables of green that lost their statistics since the copy (a TRUNCATE on blue does that), as far as that
/// takes less than a minute. What could not be analyzed, the gate names.
///
/// # Errors
/// [`Kind::Server`] when green cannot be asked which they are.
pub async fn give_statistics(world: &World) -> Result<()> {
    let missing = never_analyzed(world).await?;
    if missing.is_empty() {
        return Ok(());
    }
    let analyzing = analyze(&world.green_info, &missing, world.epoch, &world.ears);
    match tokio::time::timeout(STATISTICS_DEADLINE, analyzing).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(why = %error.chain().join(": "), "green cannot be analyzed"),
        Err(_) => tracing::warn!("green could not be analyzed in time"),
    }
    Ok(())
}

async fn never_analyzed(world: &World) -> Result<Vec<TableName>> {
    let tables = world.green_tables();
    let names: Vec<String> = tables.iter().map(TableName::to_string).collect();
    let green = world.client(Side::Green).await?;
    let missing: Vec<String> = green
        .query_one(include_str!("../../sql/journey/never_analyzed.sql"), &[&names])
        .await
        .doing(Kind::Server, || "cannot look at green's statistics".into())?
        .get(0);
    Ok(tables.into_iter().filter(|table| missing.contains(&table.to_string())).collect())
}

async fn capture(world: &World) -> Seen {
    let capture = world.capture.lock().await;
    let problem = match capture.as_ref() {
        Some(capture) if capture.status().is_alive() => None,
        Some(capture) => {
            let status = capture.status();
            Some(
                status
                    .failed
                    .or(status.trouble)
                    .unwrap_or_else(|| "the capture has not read anything yet".into()),
            )
        }
        None => Some("no capture runs".into()),
    };
    Seen {
        gate: "revocations are captured".into(),
        holds: problem.is_none(),
        seen: problem.unwrap_or_else(|| "yes".into()),
    }
}

async fn operators(world: &World, gate: &Gate) -> Result<Seen> {
    if let Some(sql) = &gate.sql {
        let side = gate.on.unwrap_or(Side::Green);
        let wanted = gate.expect.clone().unwrap_or_default();
        let answer = tokio::time::timeout(GATE_DEADLINE, ask(world, side, sql)).await;
        let answer = answer.map_err(|_| {
            Error::new(Kind::Gate, format!("the gate `{sql}` gave no answer on {side} within 30 s"))
                .hint("make the query cheaper: it runs right before clients are held")
        })??;
        return Ok(Seen {
            gate: format!("on {side}: {sql} gives `{wanted}`"),
            holds: answer.as_deref() == Some(wanted.as_str()),
            seen: answer.unwrap_or_else(|| "no row".into()),
        });
    }
    Err(Error::new(Kind::Plan, "a gate names nothing to look at").hint("give it `sql`"))
}

/// The first column of the first row, as text.
async fn ask(world: &World, side: Side, sql: &str) -> Result<Option<String>> {
    let client = world.client(side).await?;
    let messages = client
        .simple_query(&format!("begin read only; {sql}; commit"))
        .await
        .doing(Kind::Gate, || format!("the gate `{sql}` fails on {side}"))?;
    Ok(messages.iter().find_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    }))
}
