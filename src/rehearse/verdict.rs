//! Compares what was predicted with what was measured. Pure.

use super::measured::{Measured, SeenLock};
use crate::ddl::lock::{Cost, LockMode};
use crate::pg::name::TableName;
use serde::Serialize;

/// How a statement came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// As predicted, and nobody waits while rows are read or written.
    Pass,
    /// It was measured, but nothing was predicted: green has no clients yet.
    Measured,
    /// It does other things than were predicted.
    Differs,
    /// Readers or writers would wait while it reads, writes or indexes all rows.
    Blocks,
    /// The server refused it.
    Refused,
    /// One before it was refused.
    NotRun,
}

impl Verdict {
    /// As shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Pass => "pass",
            Verdict::Measured => "measured",
            Verdict::Differs => "differs",
            Verdict::Blocks => "blocks",
            Verdict::Refused => "refused",
            Verdict::NotRun => "not run",
        }
    }
}

/// What a comparison gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgment {
    /// The outcome.
    pub verdict: Verdict,
    /// Why it is not a pass, a sentence each.
    pub faults: Vec<String>,
    /// Where the prediction was too dark, a sentence each.
    pub notes: Vec<String>,
}

/// Judges a statement.
pub fn judge(predicted: &Cost, measured: &Measured) -> Judgment {
    let mut faults = Vec::new();
    let mut notes = Vec::new();
    for lock in &measured.locks {
        compare_lock(predicted, lock, &mut faults, &mut notes);
    }
    for lock in &predicted.locks {
        if !measured.locks.iter().any(|seen| seen.relation == lock.relation) {
            notes.push(format!("predicted {} on {}; no lock was seen", lock.mode, lock.relation.plain()));
        }
    }
    compare_work(predicted, measured, &mut faults, &mut notes);
    let mut verdict = if faults.is_empty() { Verdict::Pass } else { Verdict::Differs };
    if measured.works() && measured.blocking().next().is_some() {
        verdict = Verdict::Blocks;
        let locks: Vec<String> =
            measured.blocking().map(|lock| format!("{} on {}", lock.mode, lock.relation.plain())).collect();
        faults.insert(0, format!("{} while it holds {}", work_of(measured), locks.join(", ")));
    }
    Judgment { verdict, faults, notes }
}

/// What nobody waits for besides DDL is no fault when it is not told.
const HARMLESS: LockMode = LockMode::RowExclusive;

fn compare_lock(predicted: &Cost, seen: &SeenLock, faults: &mut Vec<String>, notes: &mut Vec<String>) {
    let on = |relation: &TableName| {
        predicted.locks.iter().filter(|lock| lock.relation == *relation).map(|lock| lock.mode).max()
    };
    // Whoever locks a table is expected to lock what belongs to it no stronger.
    let hanger_on = seen.of_table.is_some();
    let of_table = seen.of_table.as_ref().and_then(on);
    let expected = on(&seen.relation).max(of_table);
    let name = seen.relation.plain();
    match expected {
        Some(mode) if mode == seen.mode || hanger_on && mode > seen.mode => {}
        Some(mode) if mode > seen.mode => {
            notes.push(format!("predicted {mode} on {name}; it was {}", seen.mode));
        }
        Some(mode) if seen.mode > HARMLESS => {
            faults.push(format!("takes {} on {name}; {mode} was predicted", seen.mode));
        }
        None if seen.mode > HARMLESS => {
            faults.push(format!("takes {} on {name}, which was not predicted", seen.mode));
        }
        _ if hanger_on => {}
        _ => notes.push(format!("also takes {} on {name}", seen.mode)),
    }
}

fn compare_work(predicted: &Cost, measured: &Measured, faults: &mut Vec<String>, notes: &mut Vec<String>) {
    let names = |tables: &std::collections::BTreeSet<TableName>| {
        tables.iter().map(TableName::plain).collect::<Vec<_>>().join(", ")
    };
    // To rewrite or to index is to read.
    let scan = predicted.scan || predicted.rewrite || predicted.build;
    // An index is built again when its table is rewritten.
    let build = predicted.build || predicted.rewrite;
    for (what, expected, seen) in [
        ("reads every row", scan, &measured.scanned),
        ("rewrites the table", predicted.rewrite, &measured.rewritten),
        ("builds an index", build, &measured.built),
    ] {
        if !expected && !seen.is_empty() {
            faults.push(format!("{what} ({}), which was not predicted", names(seen)));
        }
    }
    let scanned =
        !measured.scanned.is_empty() || !measured.rewritten.is_empty() || !measured.built.is_empty();
    for (what, expected, seen) in [
        ("reads every row", predicted.scan, scanned),
        ("rewrites the table", predicted.rewrite, !measured.rewritten.is_empty()),
        ("builds an index", predicted.build, !measured.built.is_empty()),
    ] {
        if expected && !seen {
            notes.push(format!("predicted that it {what}; that was not seen"));
        }
    }
}

fn work_of(measured: &Measured) -> &'static str {
    if !measured.rewritten.is_empty() {
        "rewrites a table"
    } else if !measured.built.is_empty() {
        "builds an index"
    } else {
        "reads every row of a table"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ddl::lock::{LockRole, LockTaken};
    use crate::rehearse::measured::RelationKind;
    use std::collections::BTreeSet;

    fn name(name: &str) -> TableName {
        TableName::new("public", name)
    }

    fn predicted(modes: &[(&str, LockMode)]) -> Cost {
        let locks = modes
            .iter()
            .map(|(on, mode)| LockTaken { relation: name(on), mode: *mode, role: LockRole::Target })
            .collect();
        Cost::brief(locks)
    }

    fn seen(on: &str, mode: LockMode) -> SeenLock {
        SeenLock { relation: name(on), kind: RelationKind::Table, mode, of_table: None }
    }

    fn measured(locks: Vec<SeenLock>) -> Measured {
        Measured { locks, ..Measured::default() }
    }

    #[test]
    fn the_same_passes_and_a_weaker_lock_is_a_note() {
        use LockMode::*;
        let cost = predicted(&[("t", AccessExclusive), ("r", ShareRowExclusive)]);
        let same = measured(vec![seen("t", AccessExclusive), seen("r", ShareRowExclusive)]);
        assert_eq!(judge(&cost, &same), Judgment { verdict: Verdict::Pass, faults: vec![], notes: vec![] });
        let weaker = judge(&cost, &measured(vec![seen("t", ShareUpdateExclusive)]));
        assert_eq!((weaker.verdict, weaker.notes.len()), (Verdict::Pass, 2), "{weaker:?}");
    }

    #[test]
    fn a_stronger_lock_or_another_table_differs() {
        use LockMode::*;
        let cost = predicted(&[("t", ShareUpdateExclusive)]);
        let stronger = judge(&cost, &measured(vec![seen("t", AccessExclusive)]));
        assert_eq!(stronger.verdict, Verdict::Differs);
        assert!(stronger.faults[0].contains("SHARE UPDATE EXCLUSIVE was predicted"), "{stronger:?}");
        let other = judge(&cost, &measured(vec![seen("t", ShareUpdateExclusive), seen("r", Share)]));
        assert_eq!(other.verdict, Verdict::Differs);
        let read = judge(&cost, &measured(vec![seen("t", ShareUpdateExclusive), seen("r", RowShare)]));
        assert_eq!((read.verdict, read.notes.len()), (Verdict::Pass, 1));
    }

    #[test]
    fn an_index_may_be_locked_as_its_table() {
        use LockMode::*;
        let index = |mode| SeenLock {
            relation: name("t_pkey"),
            kind: RelationKind::Index,
            mode,
            of_table: Some(name("t")),
        };
        let locks = |mode| measured(vec![index(mode), seen("t", ShareUpdateExclusive)]);
        let cost = predicted(&[("t", ShareUpdateExclusive)]);
        assert_eq!(judge(&cost, &locks(ShareUpdateExclusive)).verdict, Verdict::Pass);
        assert_eq!(judge(&cost, &locks(AccessExclusive)).verdict, Verdict::Differs);
    }

    #[test]
    fn work_is_predicted_or_it_differs_and_under_a_lock_it_blocks() {
        use LockMode::*;
        let scan =
            |mode| Measured { scanned: BTreeSet::from([name("t")]), ..measured(vec![seen("t", mode)]) };
        let mut cost = predicted(&[("t", ShareUpdateExclusive)]);
        assert_eq!(judge(&cost, &scan(ShareUpdateExclusive)).verdict, Verdict::Differs);
        cost.scan = true;
        assert_eq!(judge(&cost, &scan(ShareUpdateExclusive)).verdict, Verdict::Pass);
        let mut cost = predicted(&[("t", AccessExclusive)]);
        cost.scan = true;
        let blocks = judge(&cost, &scan(AccessExclusive));
        assert_eq!(blocks.verdict, Verdict::Blocks);
        assert!(blocks.faults[0].contains("ACCESS EXCLUSIVE on public.t"), "{blocks:?}");
    }
}
