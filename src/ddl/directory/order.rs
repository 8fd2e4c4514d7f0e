//! What can be wrong with a list of versions: two of one kind, or one that is missing.

use super::{Migration, Tool};
use crate::{
    error::{Error, Kind, Result},
    finding::{Finding, Place, Severity},
};

/// Above this, numbers are dates rather than a count.
const COUNTED_MAX: u64 = 999_999;

/// Refuses two files of one version, by name.
pub(super) fn refuse_duplicates(sorted: &[Migration], tool: Tool) -> Result<()> {
    let Some(pair) = sorted.windows(2).find(|pair| pair[0].version == pair[1].version) else { return Ok(()) };
    let (first, second) = (&pair[0], &pair[1]);
    let what =
        format!("{} and {} have the same version, {}", first.file.name, second.file.name, second.version);
    Err(Error::new(Kind::Plan, what)
        .hint(format!("{tool} runs a version once: give one of them a number of its own")))
}

/// Numbers that are missing between others, when files are counted 1, 2, 3.
pub(super) fn gaps(sorted: &[Migration]) -> Vec<Finding> {
    let numbers: Vec<(u64, &Migration)> =
        sorted.iter().filter_map(|one| Some((one.version.as_number()?, one))).collect();
    let (Some((first, _)), Some((last, _))) = (numbers.first(), numbers.last()) else { return Vec::new() };
    let missing = last - first + 1 - numbers.len() as u64;
    // Numbers in steps of ten, or with more holes than files, are no count.
    if *last > COUNTED_MAX || missing >= numbers.len() as u64 {
        return Vec::new();
    }
    numbers
        .windows(2)
        .filter(|pair| pair[1].0 - pair[0].0 > 1)
        .map(|pair| {
            let (from, to) = (pair[0].0 + 1, pair[1].0 - 1);
            let which = if from == to { format!("version {from} is") } else { format!("versions {from} to {to} are") };
            Finding {
                code: "DDL_VERSION_GAP".into(),
                severity: Severity::Warning,
                place: Place::Sql { file: pair[1].1.file.name.clone(), line: 1, column: 1 },
                what: format!("{which} missing between {} and this file", pair[0].1.file.name),
                help: "If the file was removed on purpose, nothing to do; else bring it back before this one runs.".into(),
            }
        })
        .collect()
}
