//! What was seen besides the two databases: programs, poolers, the broker.

use serde::{Deserialize, Serialize};

/// Something besides the two databases that the plan needs: a program, a pooler, the broker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutsideFact {
    /// What was looked at, as an operator would call it: `pg_dump`, `PgBouncer 10.0.0.5:6432`. Never with a secret.
    pub object: String,
    /// Which kind of thing, and what was wrong with it, if anything.
    pub state: OutsideState,
    /// What was seen: a version, a message of the other side. One sentence or empty; never with a secret.
    pub detail: String,
}

/// What was seen of a thing outside. Each state but the `…Good` ones is judged by a check of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutsideState {
    /// pg_dump was found and is new enough.
    PgDumpGood,
    /// No pg_dump was found.
    PgDumpMissing,
    /// pg_dump is of an older major than blue and will refuse it.
    PgDumpTooOld,
    /// The pooler answers, and what we need of it is there.
    PgBouncerGood,
    /// The admin console cannot be reached.
    PgBouncerUnreachable,
    /// The entry pools by session, so PAUSE waits for every client to leave.
    PgBouncerSessionMode,
    /// The entry is not in the configuration, or comes from `*` or an `%include`.
    PgBouncerEntryMissing,
    /// The configuration file cannot be written, or not replaced in its directory.
    PgBouncerConfigUnwritable,
    /// The entry does not lead to blue now.
    PgBouncerNotOnBlue,
    /// The broker answers and keeps quorum queues on several nodes.
    BrokerGood,
    /// The broker cannot be reached or refuses us.
    BrokerUnreachable,
    /// The broker has one node: a lost disk loses the queue.
    BrokerSingleNode,
    /// The broker is too old, or does not offer quorum queues.
    BrokerUnsuitable,
    /// A program the plan names cannot be run.
    CommandMissing,
}
