//! Table-level parts of ALTER TABLE that only change the catalog.

use super::alter_table::{Part, Verdict};
use crate::ddl::{
    lock::LockMode,
    parse::{NodeEnum, node, node::AlterTableType as Type},
};

pub(super) fn part(part: &Part) -> Option<Verdict> {
    match part.command.subtype() {
        Type::AtSetRelOptions | Type::AtResetRelOptions => {
            let mode = if needs_exclusive(part.command) {
                LockMode::AccessExclusive
            } else {
                LockMode::ShareUpdateExclusive
            };
            Verdict::brief("set storage options", mode)
        }
        Type::AtClusterOn | Type::AtDropCluster => {
            Verdict::brief("set the clustering index", LockMode::ShareUpdateExclusive)
        }
        Type::AtChangeOwner => Verdict::brief("change the owner", LockMode::AccessExclusive),
        Type::AtReplicaIdentity => Verdict::brief("set the replica identity", LockMode::AccessExclusive),
        _ => None,
    }
}

fn needs_exclusive(command: &node::AlterTableCmd) -> bool {
    let Some(NodeEnum::List(list)) = command.def.as_ref().and_then(|def| def.node.as_ref()) else {
        return true;
    };
    list.items.iter().any(|item| {
        !matches!(&item.node, Some(NodeEnum::DefElem(option)) if option.defname != "user_catalog_table")
    })
}
