//! Table-level parts of ALTER TABLE that only change the catalog: options, owner, triggers, row security, inheritance.

use super::{
    alter_table::{Part, Verdict},
    info, warning,
};
use crate::{
    ddl::{
        lock::{LockMode, LockRole, LockTaken},
        parse::{NodeEnum, node, node::AlterTableType as Type},
        scene::Known,
    },
    facts::TableKind,
};

pub(super) fn part(part: &Part) -> Option<Verdict> {
    let is_alone = !switches_triggers(part.command.subtype()) || !part.scene.has_row_triggers(part.table);
    Some(Verdict { is_alone, ..change(part)? })
}

/// Triggers have copies on the partitions, foreign keys have triggers; nothing else here reaches a partition.
fn switches_triggers(kind: Type) -> bool {
    matches!(
        kind,
        Type::AtEnableTrig
            | Type::AtEnableAlwaysTrig
            | Type::AtEnableReplicaTrig
            | Type::AtDisableTrig
            | Type::AtEnableTrigAll
            | Type::AtDisableTrigAll
            | Type::AtEnableTrigUser
            | Type::AtDisableTrigUser
    )
}

fn change(part: &Part) -> Option<Verdict> {
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
        Type::AtReplicaIdentity => replica_identity(part),
        Type::AtEnableRule | Type::AtEnableAlwaysRule | Type::AtEnableReplicaRule | Type::AtDisableRule => {
            behavior(part, "switch a rule", LockMode::AccessExclusive)
        }
        kind if switches_triggers(kind) => behavior(part, "switch triggers", LockMode::ShareRowExclusive),
        Type::AtEnableRowSecurity | Type::AtForceRowSecurity => row_security(part),
        Type::AtDisableRowSecurity | Type::AtNoForceRowSecurity => {
            Verdict::brief("switch row security off", LockMode::AccessExclusive)
        }
        Type::AtAddInherit => related(part, "inherit", LockMode::ShareUpdateExclusive),
        Type::AtDropInherit => related(part, "inherit no more", LockMode::AccessShare),
        Type::AtAddOf | Type::AtDropOf => {
            Verdict::brief("change the type it is made of", LockMode::AccessExclusive)
        }
        // A partitioned table has no file itself: partitions made later get it.
        Type::AtSetTableSpace | Type::AtSetAccessMethod
            if part.live.is_some_and(|table| table.kind == TableKind::Partitioned) =>
        {
            Verdict::brief("set where partitions to come are stored", LockMode::AccessExclusive)
        }
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

fn replica_identity(part: &Part) -> Option<Verdict> {
    let mut verdict = Verdict::brief("set the replica identity", LockMode::AccessExclusive)?;
    if !part.is_new {
        verdict.findings.push(info(
            part.statement,
            "DDL_REPLICATION",
            format!("replication sends other columns of changed rows of {} from here on", part.table.plain()),
            "Nothing to do, unless a subscriber or decoder counts on the old ones.",
        ));
    }
    Some(verdict)
}

fn behavior(part: &Part, title: &str, mode: LockMode) -> Option<Verdict> {
    let mut verdict = Verdict::brief(title, mode)?;
    if !part.is_new {
        verdict.findings.push(info(
            part.statement,
            "DDL_BEHAVIOR",
            format!("{} does something else when rows are written from here on", part.table.plain()),
            "Nothing to do, if the clients that run now can live with it. A foreign key is not checked while its triggers are off.",
        ));
    }
    Some(verdict)
}

fn row_security(part: &Part) -> Option<Verdict> {
    let mut verdict = Verdict::brief("switch row security on", LockMode::AccessExclusive)?;
    let forced = part.command.subtype() == Type::AtForceRowSecurity;
    let has_policy = part.scene.has_policy(part.table);
    if !part.is_new && (forced || !has_policy) {
        let who = if forced { "its owner as well" } else { "every role but its owner" };
        let seen =
            if has_policy { "only the rows its policies allow" } else { "no rows, since it has no policy" };
        verdict.findings.push(warning(
            part.statement,
            "DDL_CLIENT_VISIBLE",
            format!("{who} sees {seen} in {} from here on", part.table.plain()),
            "CREATE POLICY first; policies do nothing until row security is on.",
        ));
    }
    Some(verdict)
}

/// The parent by inheritance is locked with its child.
fn related(part: &Part, title: &str, mode: LockMode) -> Option<Verdict> {
    let Some(NodeEnum::RangeVar(range)) = part.command.def.as_ref()?.node.as_ref() else { return None };
    let relation = part.scene.range(range, &part.statement.search_path);
    let mut verdict = Verdict::brief(format!("{title} {}", relation.plain()), LockMode::AccessExclusive)?;
    if !matches!(part.scene.relation(&relation), Known::New) {
        verdict.others.push(LockTaken { relation, mode, role: LockRole::Parent });
    }
    Some(verdict)
}

#[cfg(test)]
mod tests {
    use crate::ddl::tests::on_live;

    #[test]
    fn each_is_brief_and_behavior_that_changes_is_told() {
        assert_eq!(
            on_live("alter table t disable trigger all"),
            ["brief, SHARE ROW EXCLUSIVE t: alter table t disable trigger all", "info DDL_BEHAVIOR"]
        );
        assert_eq!(
            on_live("alter table t enable row level security"),
            [
                "brief, ACCESS EXCLUSIVE t: alter table t enable row level security",
                "warning DDL_CLIENT_VISIBLE"
            ]
        );
        let told = on_live("create policy y on t using (true); alter table t enable row level security");
        assert!(!told.contains(&"warning DDL_CLIENT_VISIBLE".to_owned()), "{told:?}");
        assert_eq!(
            on_live("alter table t inherit s"),
            ["brief, ACCESS EXCLUSIVE t + SHARE UPDATE EXCLUSIVE s: alter table t inherit s"]
        );
        assert_eq!(
            on_live("alter table t no inherit s"),
            ["brief, ACCESS EXCLUSIVE t + ACCESS SHARE s: alter table t no inherit s"]
        );
    }

    #[test]
    fn partitions_are_left_alone_unless_triggers_have_copies_there() {
        for sql in ["owner to current_user", "replica identity full", "force row level security"] {
            let told = on_live(&format!("alter table p {sql}"));
            assert!(told[0].starts_with("brief, ACCESS EXCLUSIVE p: "), "{told:?}");
        }
        let all = on_live("alter table p disable trigger all");
        assert!(all[0].starts_with("brief, SHARE ROW EXCLUSIVE p: "), "{all:?}");
        let create = "create trigger g before insert on p for each row execute function f()";
        let made = on_live(&format!("{create}; alter table p disable trigger g"));
        assert!(made[1].contains("SHARE ROW EXCLUSIVE p1"), "{made:?}");
    }

    #[test]
    fn what_copies_the_table_is_refused() {
        for sql in ["set tablespace x", "set access method heap", "set unlogged", "set logged"] {
            assert_eq!(on_live(&format!("alter table t {sql}")), ["blocking DDL_NO_RULE"], "{sql}");
        }
        assert_eq!(on_live("alter table p set tablespace x").len(), 1);
    }
}
