//! Constraints: what adding, proving, altering and dropping each costs, as measured (catalogue rows 48 to 69). Which forms are
//! taken apart, and how, the recipes say.

use super::{
    alter_table::{Part, Verdict},
    expand, info,
};
use crate::{
    ddl::{
        lock::{LockMode, LockTaken},
        parse::{
            self, NodeEnum,
            node::{self, AlterTableType as Type, ConstrType, DropBehavior},
        },
        statement::{Undo, Verify},
    },
    facts::{ConstraintKind, TableKind},
    pg::name::Ident,
};

pub(super) fn part(part: &Part) -> Option<Verdict> {
    match part.command.subtype() {
        Type::AtAddConstraint => {
            let Some(NodeEnum::Constraint(constraint)) = part.command.def.as_ref()?.node.as_ref() else {
                return None;
            };
            let mut verdict = add(part, constraint)?;
            verdict.undo = (!constraint.conname.is_empty()).then(|| Undo::Brief {
                sql: format!(
                    "alter table {} drop constraint {}",
                    part.table,
                    Ident::new(&constraint.conname)
                ),
            });
            Some(verdict)
        }
        Type::AtValidateConstraint => Some(validate(part)),
        Type::AtDropConstraint if part.command.behavior() != DropBehavior::DropCascade => Some(drop(part)),
        Type::AtAlterConstraint => alter(part),
        _ => None,
    }
}

fn validate(part: &Part) -> Verdict {
    let name = &part.command.name;
    Verdict {
        scan: true,
        others: referenced(part, name, LockMode::RowShare),
        verify: Some(Verify::ConstraintValid {
            table: part.table.clone(),
            constraint: Ident::new(name.as_str()),
        }),
        undo: Some(Undo::Nothing),
        ..Verdict::new(format!("validate constraint {name}"), LockMode::ShareUpdateExclusive)
    }
}

fn drop(part: &Part) -> Verdict {
    let name = &part.command.name;
    let mut verdict = Verdict::new(format!("drop constraint {name}"), LockMode::AccessExclusive);
    verdict.others = referenced(part, name, LockMode::AccessExclusive);
    let known = part.scene.constraint(part.table, name);
    let is_key =
        known.is_some_and(|known| matches!(known.kind, ConstraintKind::PrimaryKey | ConstraintKind::Unique));
    if is_key && !part.is_new && !takes_its_place(part, name) {
        verdict.findings.push(info(
            part.statement,
            "DDL_INDEX_GOES",
            format!(
                "the index of {name} goes with it: queries on {} that use it read the table from then on",
                part.table.plain()
            ),
            "Create another index on those columns before this statement, if they are still looked up.",
        ));
    }
    verdict
}

/// Whether the same ALTER TABLE adds a constraint of the name from an index that was built before.
fn takes_its_place(part: &Part, name: &str) -> bool {
    let NodeEnum::AlterTableStmt(alter) = &part.statement.tree else { return false };
    alter.cmds.iter().any(|command| match &command.node {
        Some(NodeEnum::AlterTableCmd(command)) => {
            crate::ddl::recipe::added(command).is_some_and(|added| added.conname == name)
        }
        _ => false,
    })
}

/// The other side of a foreign key, when the part is about one; and its partitions.
fn referenced(part: &Part, name: &str, mode: LockMode) -> Vec<LockTaken> {
    let known =
        part.scene.constraint(part.table, name).filter(|known| known.kind == ConstraintKind::ForeignKey);
    known
        .and_then(|known| known.references)
        .map(|relation| expand::referenced(part.scene, &relation, mode))
        .unwrap_or_default()
}

fn add(part: &Part, constraint: &node::Constraint) -> Option<Verdict> {
    let name = if constraint.conname.is_empty() { "without a name" } else { &constraint.conname };
    let reads = !constraint.skip_validation && constraint.is_enforced && !part.is_new;
    let exclusive = LockMode::AccessExclusive;
    let is_partitioned = part.live.is_some_and(|table| table.kind == TableKind::Partitioned);
    let not_valid = if constraint.skip_validation { " not valid" } else { "" };
    match constraint.contype() {
        ConstrType::ConstrCheck => {
            Some(Verdict { scan: reads, ..Verdict::new(format!("add check {name}{not_valid}"), exclusive) })
        }
        ConstrType::ConstrNotnull => {
            let proved = parse::strings(&constraint.keys)
                .iter()
                .all(|column| part.scene.is_not_null(part.table, column));
            Some(Verdict {
                scan: reads && !proved,
                ..Verdict::new(format!("add not null {name}{not_valid}"), exclusive)
            })
        }
        ConstrType::ConstrForeign => {
            // On a partitioned table NOT VALID exists only from 18 on.
            if is_partitioned && part.scene.major().is_none_or(|major| major < 18) {
                return None;
            }
            let referenced = part.scene.range(constraint.pktable.as_ref()?, &part.statement.search_path);
            let mode = LockMode::ShareRowExclusive;
            let title = format!("add foreign key {name}{not_valid}");
            Some(Verdict {
                scan: reads,
                others: expand::referenced(part.scene, &referenced, mode),
                ..Verdict::new(title, mode)
            })
        }
        ConstrType::ConstrUnique | ConstrType::ConstrPrimary if is_partitioned && !part.is_new => None,
        ConstrType::ConstrUnique if !constraint.indexname.is_empty() => {
            Verdict::brief(format!("add unique {name} using index"), exclusive)
        }
        ConstrType::ConstrPrimary if !constraint.indexname.is_empty() => Some(Verdict {
            scan: !part.is_new && !keys_are_not_null(part, constraint),
            ..Verdict::new(format!("add primary key {name} using index"), exclusive)
        }),
        ConstrType::ConstrUnique | ConstrType::ConstrPrimary | ConstrType::ConstrExclusion => {
            Some(Verdict { scan: true, build: true, ..Verdict::new(format!("add key {name}"), exclusive) })
        }
        _ => None,
    }
}

/// Whether the index's columns are NOT NULL already; else adding the key reads every row to prove it.
fn keys_are_not_null(part: &Part, constraint: &node::Constraint) -> bool {
    let columns = part.scene.index_columns(part.table, &constraint.indexname);
    let is_proved = |column: &String| part.scene.is_not_null(part.table, column);
    columns.is_some_and(|columns| !columns.is_empty() && columns.iter().all(is_proved))
}

/// ALTER CONSTRAINT: brief, but for ENFORCED (18), which reads both tables.
fn alter(part: &Part) -> Option<Verdict> {
    let Some(NodeEnum::AtalterConstraint(change)) = part.command.def.as_ref()?.node.as_ref() else {
        return None;
    };
    let name = &change.conname;
    let mut verdict = Verdict::brief(format!("alter constraint {name}"), LockMode::AccessExclusive)?;
    if change.alter_enforceability {
        let mode = if change.is_enforced { LockMode::ShareRowExclusive } else { LockMode::AccessExclusive };
        verdict.others = referenced(part, name, mode);
        verdict.scan = change.is_enforced;
    }
    Some(verdict)
}

#[cfg(test)]
mod tests {
    use crate::{
        ddl::tests::{constraint, live, on_live, told},
        facts::{ConstraintKind, ServerFacts},
    };

    /// [`live`] with a foreign key of `r` on `t`'s key, and a nullable primary key's absence on `r`.
    fn with_referrer() -> ServerFacts {
        let mut live = live();
        let r = live.tables.iter_mut().find(|table| table.name.name.as_str() == "r").unwrap();
        let mut key = constraint("r_t_fk", ConstraintKind::ForeignKey, Some("t"));
        key.definition = "FOREIGN KEY (a) REFERENCES t(id)".into();
        key.index = Some(crate::pg::name::Ident::new("t_pkey"));
        r.constraints.push(key);
        let t = live.tables.iter_mut().find(|table| table.name.name.as_str() == "t").unwrap();
        let mut key = constraint("t_pkey", ConstraintKind::PrimaryKey, None);
        key.definition = "PRIMARY KEY (id)".into();
        t.constraints.push(key);
        live
    }

    #[test]
    fn not_valid_is_brief_and_validate_reads_beside_the_others() {
        assert_eq!(
            on_live("alter table t add constraint k foreign key (b) references r (id) not valid"),
            [
                "brief, SHARE ROW EXCLUSIVE t + SHARE ROW EXCLUSIVE r: alter table t add constraint k foreign key (b) references r (id) not valid"
            ]
        );
        assert_eq!(
            on_live("alter table t validate constraint t_r_fk"),
            ["validate, SHARE UPDATE EXCLUSIVE t + ROW SHARE r: alter table t validate constraint t_r_fk"]
        );
    }

    #[test]
    fn a_check_is_added_and_proved_in_two_statements() {
        // Surprise 5: in one transaction the first lock would be kept through the scan.
        assert_eq!(
            on_live("alter table t add constraint k check (a > 0) /* why */ no inherit"),
            [
                "brief, ACCESS EXCLUSIVE t: alter table t add constraint k check (a > 0) /* why */ no inherit NOT VALID",
                "validate, SHARE UPDATE EXCLUSIVE t: alter table \"public\".\"t\" validate constraint \"k\"",
            ]
        );
        let both = on_live("alter table t add constraint k check (a > 0) not valid, validate constraint k");
        assert_eq!(both.len(), 2, "{both:?}");
        assert_eq!(both[1], "validate, SHARE UPDATE EXCLUSIVE t: alter table t validate constraint k");
    }

    #[test]
    fn a_foreign_key_too_and_the_other_table_is_named() {
        assert_eq!(
            on_live("alter table t add foreign key (b) references r (id) on delete cascade"),
            [
                "brief, SHARE ROW EXCLUSIVE t + SHARE ROW EXCLUSIVE r: alter table t add constraint \"t_b_fkey\" foreign key (b) references r (id) on delete cascade NOT VALID",
                "validate, SHARE UPDATE EXCLUSIVE t + ROW SHARE r: alter table \"public\".\"t\" validate constraint \"t_b_fkey\"",
                "info DDL_FOREIGN_KEY_UNINDEXED",
            ]
        );
    }

    #[test]
    fn keys_get_their_index_first_and_the_servers_name() {
        assert_eq!(
            on_live(
                "alter table t add unique nulls not distinct (a, b) include (id) with (fillfactor = 70) deferrable initially deferred"
            ),
            [
                "concurrent, SHARE UPDATE EXCLUSIVE t: create unique index concurrently \"t_a_b_id_key\" on \"public\".\"t\" (\"a\", \"b\") include (\"id\") nulls not distinct with (fillfactor = 70)",
                "brief, ACCESS EXCLUSIVE t: alter table t add constraint \"t_a_b_id_key\" unique using index \"t_a_b_id_key\" deferrable initially deferred",
            ]
        );
        let told = on_live("alter table r add primary key (id, a)");
        assert_eq!(told.len(), 6, "{told:#?}");
        assert!(
            told[0]
                .ends_with("create unique index concurrently \"r_pkey\" on \"public\".\"r\" (\"id\", \"a\")")
        );
        assert!(told[1].contains("check (\"a\" is not null) not valid"));
        assert!(told[5].ends_with("add constraint \"r_pkey\" primary key using index \"r_pkey\""));
    }

    #[test]
    fn a_primary_key_over_columns_that_may_be_null_proves_them_first() {
        let with =
            |index: &str| on_live(&format!("alter table t add constraint k primary key using index {index}"));
        assert_eq!(with("t_a").len(), 5);
        assert!(with("t_uq")[0].starts_with("brief, ACCESS EXCLUSIVE t"));
    }

    #[test]
    fn a_second_primary_key_fails() {
        assert_eq!(told("alter table t add primary key (a)", Some(&with_referrer())), ["blocking DDL_FAILS"]);
    }

    #[test]
    fn a_key_falls_with_its_column() {
        let mut live = with_referrer();
        live.tables
            .iter_mut()
            .for_each(|table| table.constraints.retain(|one| one.name.as_str() != "r_t_fk"));
        let with = |sql: &str| told(&format!("alter table t drop column id; {sql}"), Some(&live));
        let key = with("alter table t add primary key (a)");
        assert!(key.iter().any(|line| line.contains("primary key using index")), "{key:#?}");
        let unique = with("alter table t drop column a; drop index t_a");
        assert!(unique.contains(&"warning DDL_ALREADY_ABSENT".to_owned()), "{unique:#?}");
    }

    #[test]
    fn dropping_a_foreign_key_locks_the_other_table_too() {
        // Surprise 4.
        assert_eq!(
            on_live("alter table t drop constraint t_r_fk"),
            ["brief, ACCESS EXCLUSIVE t + ACCESS EXCLUSIVE r: alter table t drop constraint t_r_fk"]
        );
    }

    #[test]
    fn cascade_becomes_a_statement_for_each_foreign_key() {
        assert_eq!(
            told("alter table t drop constraint t_pkey cascade", Some(&with_referrer())),
            [
                "brief, ACCESS EXCLUSIVE r + ACCESS EXCLUSIVE t: alter table \"public\".\"r\" drop constraint \"r_t_fk\"",
                "brief, ACCESS EXCLUSIVE t: alter table t drop constraint \"t_pkey\"",
                "info DDL_INDEX_GOES",
            ]
        );
        assert_eq!(told("alter table t drop constraint t_pkey cascade", None), ["blocking DDL_NO_RULE"]);
    }

    #[test]
    fn cascade_drops_foreign_keys_that_the_plan_made_too() {
        let mut live = with_referrer();
        let t = live.tables.iter_mut().find(|table| table.name.name.as_str() == "t").unwrap();
        t.indexes.retain(|index| index.name.as_str() != "t_uq");
        let told = told(
            "create table n (t_id int references t); alter table t drop constraint t_pkey cascade",
            Some(&live),
        );
        assert_eq!(
            told[1..],
            [
                "brief, ACCESS EXCLUSIVE r + ACCESS EXCLUSIVE t: alter table \"public\".\"r\" drop constraint \"r_t_fk\"",
                "brief, ACCESS EXCLUSIVE n + ACCESS EXCLUSIVE t: alter table \"public\".\"n\" drop constraint \"n_t_id_fkey\"",
                "brief, ACCESS EXCLUSIVE t: alter table t drop constraint \"t_pkey\"",
                "info DDL_INDEX_GOES",
            ]
        );
    }

    #[test]
    fn a_foreign_key_of_the_same_name_is_swapped_without_a_gap() {
        let swapped = [
            "brief, SHARE ROW EXCLUSIVE t + SHARE ROW EXCLUSIVE r: alter table \"public\".\"t\" add constraint \"t_r_fk__new\" foreign key (a) references r (id) NOT VALID",
            "validate, SHARE UPDATE EXCLUSIVE t + ROW SHARE r: alter table \"public\".\"t\" validate constraint \"t_r_fk__new\"",
            "brief, ACCESS EXCLUSIVE t + ACCESS EXCLUSIVE r: alter table t drop constraint t_r_fk",
            "brief, ACCESS EXCLUSIVE t: alter table \"public\".\"t\" rename constraint \"t_r_fk__new\" to \"t_r_fk\"",
        ];
        let one =
            "alter table t drop constraint t_r_fk, add constraint t_r_fk foreign key (a) references r (id)";
        assert_eq!(on_live(one), swapped);
        let two = "begin; alter table t drop constraint t_r_fk; alter table t add constraint t_r_fk foreign key (a) references r (id); commit";
        assert_eq!(on_live(two)[..4], swapped);
    }

    #[test]
    fn a_primary_key_is_swapped_in_one_alter_table() {
        let mut live = with_referrer();
        let sql = "alter table t drop constraint t_pkey; alter table t add primary key (id, a)";
        assert_eq!(told(sql, Some(&live)), ["blocking DDL_FAILS"], "a foreign key rests on it");
        live.tables
            .iter_mut()
            .for_each(|table| table.constraints.retain(|constraint| constraint.name.as_str() != "r_t_fk"));
        let told = told(sql, Some(&live));
        assert!(
            told[0].ends_with(
                "create unique index concurrently \"t_pkey__new\" on \"public\".\"t\" (\"id\", \"a\")"
            ),
            "{told:#?}"
        );
        assert!(told[5].ends_with("alter table t drop constraint t_pkey, add constraint \"t_pkey\" primary key using index \"t_pkey__new\""), "{told:#?}");
    }

    #[test]
    fn what_stands_between_keeps_the_gap_and_says_so() {
        let told = on_live(
            "alter table t drop constraint t_r_fk; update t set a = 1 where a = 2; alter table t add constraint t_r_fk foreign key (a) references r (id)",
        );
        assert!(told.contains(&"warning DDL_CONSTRAINT_GAP".to_owned()), "{told:#?}");
    }

    #[test]
    fn forms_without_an_online_way_are_refused() {
        for sql in [
            "alter table t add exclude using gist (a with =)",
            "alter table t add constraint k unique (a, b without overlaps)",
            "alter table t alter constraint t_r_fk enforced",
        ] {
            assert_eq!(on_live(sql), ["blocking DDL_NO_RULE"], "{sql}");
        }
        assert!(
            on_live("alter table t alter constraint t_r_fk deferrable")[0]
                .starts_with("brief, ACCESS EXCLUSIVE t: ")
        );
    }

    #[test]
    fn enforced_again_is_a_second_constraint_that_takes_the_place_of_the_first() {
        let mut live = live();
        live.version_num = 180_000;
        let t = live.tables.iter_mut().find(|table| table.name.name.as_str() == "t").unwrap();
        t.constraints[0].definition = "FOREIGN KEY (b) REFERENCES r(id) NOT ENFORCED".into();
        let told = told("alter table t alter constraint t_r_fk enforced", Some(&live));
        assert_eq!(told.len(), 5, "{told:#?}");
        assert!(
            told[0].ends_with("add constraint \"t_r_fk__new\" FOREIGN KEY (b) REFERENCES r(id) NOT VALID")
        );
        assert!(told[3].ends_with("rename constraint \"t_r_fk__new\" to \"t_r_fk\""));
    }
}
