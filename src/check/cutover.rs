//! Which checks are looked at again right before clients are held.

use crate::plan::Plan;

/// Those that can have become false since the copy began, and then lose data or break clients. What only matters to
/// begin (free slots and names, pg_dump, an empty green) is not asked again; what the cutover's own gates look at more
/// closely (transactions, the capture) is theirs.
const AGAIN: &[&str] = &[
    "NOT_PRIMARY",
    "EXTENSION_MISSING",
    "NO_REPLICATION_RIGHT",
    "NOT_OWNER",
    "NOT_READABLE",
    "NO_REPLICA_ROLE",
    "ROW_SECURITY",
    "FAMILY_SPLIT",
    "REFERENCE_OUT",
    "NO_IDENTITY",
    "UNLOGGED",
    "FOREIGN_TABLE",
    "LARGE_OBJECTS",
    "SUBSCRIPTION_ON_BLUE",
    "SEQUENCE_EXHAUSTED",
    "GREEN_TABLE_MISSING",
    "GREEN_COLUMN_MISSING",
    "GREEN_COLUMN_EXTRA",
    "GENERATED_DIFFERS",
    "GREEN_KEY_MISSING",
    "REPLICA_TRIGGER",
    "PGBOUNCER_UNREACHABLE",
    "PGBOUNCER_SESSION_MODE",
    "PGBOUNCER_ENTRY_MISSING",
    "PGBOUNCER_CONFIG_UNWRITABLE",
    "PGBOUNCER_NOT_ON_BLUE",
];

/// Of them, those about green having blue's shape. Once the vendor's SQL has run it need not, and nothing is applied any more.
const OF_GREENS_SHAPE: &[&str] = &[
    "GREEN_TABLE_MISSING",
    "GREEN_COLUMN_MISSING",
    "GREEN_COLUMN_EXTRA",
    "GENERATED_DIFFERS",
    "GREEN_KEY_MISSING",
    "REPLICA_TRIGGER",
];

/// Whether a blocking finding of this code stops a cutover too.
pub fn stops_cutover(plan: &Plan, code: &str) -> bool {
    AGAIN.contains(&code) && !(plan.is_snapshot() && OF_GREENS_SHAPE.contains(&code))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{check::checks, finding::Severity};

    #[test]
    fn each_is_a_blocking_check_of_the_table() {
        for code in AGAIN {
            let check = checks().find(|check| check.code == *code);
            assert!(check.is_some_and(|check| check.severity == Severity::Blocking), "{code}");
        }
    }
}
