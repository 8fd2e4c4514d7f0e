//! ALTER COLUMN: defaults, DROP NOT NULL, statistics, storage.

use super::{
    alter_table::{Part, Verdict},
    warning,
};
use crate::ddl::{lock::LockMode, parse::node::AlterTableType as Type};

pub(super) fn part(part: &Part) -> Option<Verdict> {
    let column = &part.command.name;
    let (what, mode) = match part.command.subtype() {
        Type::AtColumnDefault if part.command.def.is_some() => ("set default", LockMode::AccessExclusive),
        Type::AtColumnDefault => ("drop default", LockMode::AccessExclusive),
        Type::AtDropNotNull => ("drop not null", LockMode::AccessExclusive),
        Type::AtSetStatistics => ("set statistics", LockMode::ShareUpdateExclusive),
        Type::AtSetOptions | Type::AtResetOptions => ("set options", LockMode::ShareUpdateExclusive),
        Type::AtSetStorage => ("set storage", LockMode::AccessExclusive),
        Type::AtSetCompression => ("set compression", LockMode::AccessExclusive),
        _ => return None,
    };
    let mut verdict = Verdict::brief(format!("{what} of {column}"), mode)?;
    if part.command.subtype() == Type::AtDropNotNull && !part.is_new {
        verdict.findings.push(warning(
            part.statement,
            "DDL_CLIENT_VISIBLE",
            format!(
                "{}.{column} may be NULL from here on; a client that does not expect it may fail",
                part.table.plain()
            ),
            "Release clients that read NULL there first.",
        ));
    }
    Some(verdict)
}
