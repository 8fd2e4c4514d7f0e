//! What our roles may do, and the roles that green must know.

use crate::check::{
    Check,
    Concerns::{BlueGreen, Every},
    privileges,
};
use crate::finding::Severity::Blocking;

pub(super) const CHECKS: &[Check] = &[
    Check {
        code: "NO_REPLICATION_RIGHT",
        severity: Blocking,
        concerns: BlueGreen,
        looks_at: "Our role on blue must have REPLICATION to create and read a slot.",
        remedy: "`alter role … replication` on blue",
        source: "hazards A8.8",
        rule: privileges::replication,
    },
    Check {
        code: "NOT_OWNER",
        severity: Blocking,
        concerns: BlueGreen,
        looks_at: "Our role must own the selected tables: only an owner can publish a table, put a gate trigger on it, or drop and rebuild its indexes.",
        remedy: "`grant` the owning role to ours, or connect as the owner",
        source: "hazards A8.8",
        rule: privileges::owner,
    },
    Check {
        code: "NOT_READABLE",
        severity: Blocking,
        concerns: BlueGreen,
        looks_at: "Our role must be able to read the selected tables on blue.",
        remedy: "`grant select` on them to our role",
        source: "hazards A8.8",
        rule: privileges::unreadable,
    },
    Check {
        code: "NO_CREATE_RIGHT",
        severity: Blocking,
        concerns: Every,
        looks_at: "Our role must be able to create schema `migrate`.",
        remedy: "`grant create on database … to` our role",
        source: "DESIGN 6",
        rule: privileges::create,
    },
    Check {
        code: "NO_REPLICA_ROLE",
        severity: Blocking,
        concerns: BlueGreen,
        looks_at: "Our role on green must be able to set `session_replication_role`, so that triggers and foreign keys do not act twice on replicated rows.",
        remedy: "`grant set on parameter session_replication_role to` our role on green",
        source: "DESIGN 8",
        rule: privileges::replica_role,
    },
    Check {
        code: "ROW_SECURITY",
        severity: Blocking,
        concerns: BlueGreen,
        looks_at: "Row-level security must not bind our role, neither on blue, where it would hide rows from the copy, nor on green, where it would refuse them. An owner is bound too when the policies are forced.",
        remedy: "`alter role … bypassrls` on that side, or connect as an owner whom the policies do not bind",
        source: "hazards A2.10",
        rule: privileges::row_security,
    },
    Check {
        code: "ROLE_MISSING",
        severity: Blocking,
        concerns: BlueGreen,
        looks_at: "With `from: blue`, every role that owns something on blue, is granted something or is named by a policy must be there on green: the clone keeps grants, and refuses to drop them silently.",
        remedy: "create the roles on green; `pg_dumpall --roles-only` on blue shows them",
        source: "hazards A2.8",
        rule: privileges::role_missing,
    },
];
