//! Sequences: never decoded, so their positions are carried inside the fence.

use super::world::World;
use crate::error::{Doing, Error, Kind, Result};
use crate::facts::Sequence;
use crate::pg::name::literal;
use crate::plan::Side;

/// One position, as the sequence's own relation tells it.
struct Position {
    last_value: i64,
    is_called: bool,
}

/// What became of the sequences.
#[derive(Debug, Default)]
pub struct Carried {
    /// How many were moved.
    pub count: usize,
    /// Those that green does not have any more, which only the vendor's SQL can bring about.
    pub left_out: Vec<String>,
}

/// Moves green's sequences past blue's by the plan's gap.
///
/// Never `max(id)`, which would hand out ids of deleted rows again. The gap covers values that sessions took ahead
/// (CACHE) and the 32 that a crash of blue skips; no trigger can guard `nextval`, the gap does.
///
/// # Errors
/// [`Kind::Gate`] when a sequence would pass its end.
pub async fn carry(world: &World) -> Result<Carried> {
    let (sequences, left_out) = match world.plan.is_snapshot() {
        true => those_there(world).await?,
        false => (world.sequences.clone(), Vec::new()),
    };
    if sequences.is_empty() {
        return Ok(Carried { count: 0, left_out });
    }
    let positions = read(world, &sequences).await?;
    let mut sets = Vec::with_capacity(sequences.len());
    for (sequence, position) in sequences.iter().zip(&positions) {
        let value = beyond(sequence, position, world.plan.cutover.sequence_gap)?;
        sets.push(format!(
            "setval({}, {}, true)",
            literal(&sequence.name.to_string()),
            goal(world, sequence, value)
        ));
    }
    let mut green = world.client(Side::Green).await?;
    // Under the lease: one of us that slept here while another went through the cutover would set green's sequences
    // back under applications that use them.
    let tx = world.transaction(&mut green, "carry the sequences").await?;
    // Some 1,600 target entries are Postgres' limit for one select.
    for chunk in sets.chunks(1000) {
        tx.batch_execute(&format!("select {}", chunk.join(", ")))
            .await
            .doing(Kind::Deadline, || "cannot set green's sequences".into())?;
    }
    tx.commit().await.doing(Kind::Deadline, || "cannot set green's sequences".into())?;
    Ok(Carried { count: sequences.len(), left_out })
}

/// In `mode: snapshot` the vendor's SQL may have taken numbers on green that are further than blue's.
fn goal(world: &World, sequence: &Sequence, value: i64) -> String {
    if !world.plan.is_snapshot() || sequence.cycle {
        return value.to_string();
    }
    let further = if sequence.increment > 0 { "greatest" } else { "least" };
    format!("{further}({value}, (select last_value from {}))", sequence.name)
}

/// The sequences that green still has by their name, and the names of the others.
async fn those_there(world: &World) -> Result<(Vec<Sequence>, Vec<String>)> {
    let names: Vec<String> = world.sequences.iter().map(|sequence| sequence.name.to_string()).collect();
    let there: Vec<String> = world
        .client(Side::Green)
        .await?
        .query_one(include_str!("../../sql/facts/find_sequences.sql"), &[&names])
        .await
        .doing(Kind::Deadline, || "cannot look for green's sequences".into())?
        .get(0);
    let is_there = |sequence: &Sequence| there.contains(&sequence.name.to_string());
    let (kept, gone): (Vec<Sequence>, Vec<Sequence>) = world.sequences.iter().cloned().partition(is_there);
    Ok((kept, gone.iter().map(|sequence| sequence.name.plain()).collect()))
}

async fn read(world: &World, sequences: &[Sequence]) -> Result<Vec<Position>> {
    let blue = world.client(Side::Blue).await?;
    let mut positions = Vec::with_capacity(sequences.len());
    for chunk in sequences.chunks(500) {
        let selects: Vec<String> = chunk
            .iter()
            .enumerate()
            .map(|(at, sequence)| format!("select {at} as at, last_value, is_called from {}", sequence.name))
            .collect();
        let rows = blue
            .query(&format!("{} order by at", selects.join(" union all ")), &[])
            .await
            .doing(Kind::Deadline, || "cannot read blue's sequences".into())?;
        positions.extend(
            rows.iter()
                .map(|row| Position { last_value: row.get("last_value"), is_called: row.get("is_called") }),
        );
    }
    Ok(positions)
}

/// Where green goes on: blue's value plus the gap, in the sequence's own direction and within its bounds.
fn beyond(sequence: &Sequence, position: &Position, gap: u32) -> Result<i64> {
    let steps = i128::from(gap.max(u32::try_from(sequence.cache).unwrap_or(u32::MAX)));
    let taken = if position.is_called { 0 } else { -i128::from(sequence.increment) };
    let value = i128::from(position.last_value) + taken + steps * i128::from(sequence.increment);
    let (min, max) = (i128::from(sequence.min), i128::from(sequence.max));
    if (min..=max).contains(&value) {
        return i64::try_from(value).map_err(|_| past_end(sequence));
    }
    if sequence.cycle {
        // It starts over anyway, and whoever uses it expects values to come again.
        return Ok(if sequence.increment > 0 { sequence.min } else { sequence.max });
    }
    Err(past_end(sequence))
}

fn past_end(sequence: &Sequence) -> Error {
    Error::new(Kind::Gate, format!("sequence {} has too few values left for the gap", sequence.name.plain()))
        .hint("lower cutover.sequence_gap, or make the sequence a bigint")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pg::name::TableName;

    fn sequence(increment: i64, min: i64, max: i64) -> Sequence {
        Sequence {
            name: TableName::new("public", "s"),
            owner: None,
            data_type: "bigint".into(),
            increment,
            min,
            max,
            cache: 1,
            cycle: false,
            last_value: None,
        }
    }

    fn at(last_value: i64, is_called: bool) -> Position {
        Position { last_value, is_called }
    }

    #[test]
    fn green_goes_on_beyond_blue_in_the_sequences_direction() {
        assert_eq!(beyond(&sequence(1, 1, i64::MAX), &at(41, true), 1000).unwrap(), 1041);
        assert_eq!(beyond(&sequence(-2, -10_000, -1), &at(-40, true), 1000).unwrap(), -2040);
    }

    #[test]
    fn a_sequence_never_called_keeps_its_first_value_free() {
        assert_eq!(beyond(&sequence(1, 1, 100), &at(1, false), 10).unwrap(), 10);
    }

    #[test]
    fn the_end_is_an_error_unless_it_cycles() {
        let mut short = sequence(1, 1, 100);
        assert_eq!(beyond(&short, &at(95, true), 10).unwrap_err().kind, Kind::Gate);
        short.cycle = true;
        assert_eq!(beyond(&short, &at(95, true), 10).unwrap(), 1);
    }

    #[test]
    fn values_sessions_took_ahead_are_within_the_gap() {
        let cached = Sequence { cache: 5000, ..sequence(1, 1, i64::MAX) };
        assert_eq!(beyond(&cached, &at(1, true), 1000).unwrap(), 5001);
    }
}
