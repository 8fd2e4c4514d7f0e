//! The tables that the copy carries, for those who read the plan. Pure; sizes and rows are of the moment they were read, so none
//! of it is in the fingerprint.

use super::tables;
use crate::copy::crew::{Crew, Machine};
use crate::copy::cutting::{self, Chunking};
use crate::facts::{ReplicaIdentity, ServerFacts, Table};
use crate::pg::name::{Ident, TableName};
use crate::plan::Plan;
use serde::Serialize;

/// All tables that are copied.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CopyList {
    /// The biggest first.
    pub tables: Vec<CopiedTable>,
    /// Heap and TOAST on blue, in bytes, of all of them; indexes are built anew and not counted.
    pub bytes: u64,
    /// Rows by the planner's estimates, of those tables that have one.
    pub rows_estimate: u64,
    /// Streams of rows at a time.
    pub streams: usize,
}

/// One table.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CopiedTable {
    /// Its name on blue.
    pub blue: String,
    /// Its name on green; several when it is split.
    pub green: String,
    /// The planner's estimate on blue; never exact. `None` when blue never analyzed the table.
    pub rows_estimate: Option<u64>,
    /// Heap and TOAST on blue, in bytes. COPY's format is usually smaller.
    pub bytes: u64,
    /// Whether it becomes whole at once.
    pub cut: Cut,
    /// Whether its rows go through a mapping.
    pub mapped: bool,
}

/// What a stream takes of a table at a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cut {
    /// All of it.
    Whole,
    /// A range of blocks, under one snapshot: begun again as one when the copy is cut.
    Blocks {
        /// As many as there are streams.
        pieces: usize,
    },
    /// A range of its key, each with a snapshot of its own, and whole by itself.
    Ranges {
        /// The key.
        key: String,
        /// About so many.
        ranges: u64,
    },
    /// The plan wants it in ranges, and its key does not allow that: the copy will refuse it.
    Impossible,
}

/// What the copy carries, by the plan and blue's facts. `green` and `own_cores` decide how many streams there are.
pub fn list(plan: &Plan, blue: &ServerFacts, own_cores: usize, green: Machine) -> CopyList {
    let streams = Crew::of(plan.replicate.workers, own_cores, green).streams;
    let replicated = tables::replicated(plan, blue);
    let merged = plan.replicate.merged();
    // A table that is split is read once.
    let facts: Vec<(&Table, Becomes, bool)> = replicated
        .chunk_by(|one, next| one.blue == next.blue)
        .filter_map(|parts| {
            let greens: Vec<TableName> = match plan.replicate.joined_into(&parts[0].blue) {
                Some(joined) => vec![joined.clone()],
                None => parts.iter().map(|part| part.green.clone()).collect(),
            };
            let becomes =
                Becomes { is_merged: greens.iter().any(|green| merged.contains_key(green)), greens };
            Some((blue.table(&parts[0].blue)?, becomes, parts[0].mapping.is_some()))
        })
        .collect();
    let bytes = facts.iter().map(|(table, ..)| table.heap_bytes).sum();
    let mut listed: Vec<CopiedTable> = facts
        .into_iter()
        .map(|(table, becomes, mapped)| CopiedTable {
            blue: table.name.plain(),
            green: becomes.greens.iter().map(TableName::plain).collect::<Vec<_>>().join(", "),
            rows_estimate: u64::try_from(table.rows_estimate).ok(),
            bytes: table.heap_bytes,
            cut: cut(plan, table, &becomes, bytes, streams),
            mapped,
        })
        .collect();
    listed.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.blue.cmp(&b.blue)));
    let rows_estimate = listed.iter().filter_map(|table| table.rows_estimate).sum();
    CopyList { tables: listed, bytes, rows_estimate, streams }
}

/// The tables of green that one of blue becomes.
struct Becomes {
    greens: Vec<TableName>,
    /// Others of blue become one of them, too.
    is_merged: bool,
}

fn cut(plan: &Plan, table: &Table, becomes: &Becomes, all_bytes: u64, streams: usize) -> Cut {
    let bytes = table.heap_bytes;
    let (range_bytes, must) = match Chunking::of(&plan.replicate.chunks, &table.name, bytes) {
        Chunking::No => (None, false),
        Chunking::IfPossible(bytes) => (Some(bytes), false),
        Chunking::Must(bytes) => (Some(bytes), true),
    };
    let key = range_key(table).filter(|_| becomes.greens.len() == 1 && !becomes.is_merged);
    match (range_bytes, key) {
        (Some(range_bytes), Some(key)) => {
            Cut::Ranges { key: key.as_str().to_owned(), ranges: cutting::ranges(bytes, range_bytes) }
        }
        (Some(_), None) if must => Cut::Impossible,
        // Those that are merged are read as of one moment.
        _ if becomes.is_merged => Cut::Whole,
        _ if cutting::is_cut_by_blocks(bytes, all_bytes, streams) => Cut::Blocks { pieces: streams },
        _ => Cut::Whole,
    }
}

/// The key that the copy may cut the table by, as `sql/copy/read_chunk_key.sql` has it; of green's own it may still refuse.
fn range_key(table: &Table) -> Option<&Ident> {
    let is_told = matches!(table.identity, ReplicaIdentity::Default | ReplicaIdentity::Full);
    let others = |index: &&crate::facts::Index| {
        !index.primary && (index.unique || is_exclusion(table, index.constraint.as_ref()))
    };
    let [column] = table.primary_key()?.columns.as_slice() else { return None };
    let kind = &table.columns.iter().find(|it| it.name == *column)?.type_name;
    let fits = ["smallint", "integer", "bigint", "uuid"].contains(&kind.as_str());
    (is_told && fits && !table.indexes.iter().any(|index| others(&index))).then_some(column)
}

fn is_exclusion(table: &Table, constraint: Option<&Ident>) -> bool {
    let is_it = |it: &&crate::facts::Constraint| Some(&it.name) == constraint;
    table.constraints.iter().find(is_it).is_some_and(|it| it.kind == crate::facts::ConstraintKind::Exclusion)
}
