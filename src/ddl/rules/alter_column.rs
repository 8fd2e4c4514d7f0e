//! ALTER COLUMN: type, default, NOT NULL, statistics, storage, identity and generation, as measured (catalogue rows 20 to 37).

use super::{
    alter_table::{Part, Verdict},
    warning,
};
use crate::{
    ddl::{
        lock::{LockMode, LockRole, LockTaken},
        parse::{NodeEnum, node::AlterTableType as Type},
        statement::{Clients, Undo, Verify},
        types::{self, Change, SqlType},
    },
    facts::Generated,
    pg::name::Ident,
};

pub(super) fn part(part: &Part) -> Option<Verdict> {
    let column = &part.command.name;
    let exclusive = LockMode::AccessExclusive;
    let (what, mode) = match part.command.subtype() {
        Type::AtColumnDefault if part.command.def.is_some() => ("set default", exclusive),
        Type::AtColumnDefault => ("drop default", exclusive),
        Type::AtDropNotNull => ("drop not null", exclusive),
        Type::AtSetNotNull => return Some(set_not_null(part)),
        Type::AtSetStatistics => ("set statistics", LockMode::ShareUpdateExclusive),
        Type::AtSetOptions | Type::AtResetOptions => ("set options", LockMode::ShareUpdateExclusive),
        Type::AtSetStorage => ("set storage", exclusive),
        Type::AtSetCompression => ("set compression", exclusive),
        Type::AtAddIdentity => ("add identity", exclusive),
        Type::AtSetIdentity => ("set identity", exclusive),
        Type::AtDropIdentity => ("drop identity", exclusive),
        Type::AtDropExpression => ("drop expression", exclusive),
        Type::AtSetExpression => ("set expression", exclusive),
        Type::AtAlterColumnType => return alter_type(part),
        _ => return None,
    };
    let mut verdict = Verdict::brief(format!("{what} of {column}"), mode)?;
    match part.command.subtype() {
        Type::AtDropNotNull if !part.is_new => verdict.findings.push(nullable(part)),
        Type::AtSetIdentity => verdict.others.extend(sequence(part, LockMode::ShareRowExclusive)),
        Type::AtDropIdentity => verdict.others.extend(sequence(part, LockMode::AccessExclusive)),
        Type::AtSetExpression if !part.is_new => {
            // A stored value is computed again for every row; a virtual one when it is read. Unknown counts as stored.
            let seen = part.scene.live_column(part.table, column).map(|column| column.generated);
            verdict.rewrite = seen != Some(Generated::Virtual);
            verdict.scan = verdict.rewrite;
        }
        _ => {}
    }
    Some(verdict)
}

fn nullable(part: &Part) -> crate::finding::Finding {
    warning(
        part.statement,
        "DDL_CLIENT_VISIBLE",
        format!(
            "{}.{} may be NULL from here on; a client that does not expect it may fail",
            part.table.plain(),
            part.command.name
        ),
        "Release clients that read NULL there first.",
    )
}

fn set_not_null(part: &Part) -> Verdict {
    let column = &part.command.name;
    let proof = part
        .scene
        .says_not_null(part.table, column)
        .filter(|(name, now)| now.validated && !drops(part, name));
    let scan = !part.is_new && proof.is_none() && !part.scene.is_not_null(part.table, column);
    Verdict {
        scan,
        verify: Some(Verify::NotNull { table: part.table.clone(), column: Ident::new(column.as_str()) }),
        undo: Some(Undo::Brief {
            sql: format!(
                "alter table {} alter column {} drop not null",
                part.table,
                Ident::new(column.as_str())
            ),
        }),
        ..Verdict::new(format!("set not null of {column}"), LockMode::AccessExclusive)
    }
}

/// Whether the same ALTER TABLE drops the constraint that proves it: drops run first, wherever they are written.
fn drops(part: &Part, constraint: &str) -> bool {
    let NodeEnum::AlterTableStmt(alter) = &part.statement.tree else { return false };
    alter.cmds.iter().any(|command| {
        matches!(&command.node, Some(NodeEnum::AlterTableCmd(command))
            if command.subtype() == Type::AtDropConstraint && command.name == constraint)
    })
}

fn alter_type(part: &Part) -> Option<Verdict> {
    let column = &part.command.name;
    let Some(NodeEnum::ColumnDef(wanted)) = part.command.def.as_ref()?.node.as_ref() else { return None };
    let from = part.scene.column_type(part.table, column);
    let to = SqlType::of(wanted.type_name.as_ref()?);
    let change = match (&from, &to) {
        (Some(_), Some(to)) if types::is_computed(wanted, column, to) => Change::Rewrite,
        (Some(from), Some(to)) => types::change(from, to),
        _ => Change::Rewrite,
    };
    let builds = types::orders_anew(wanted) && part.scene.is_indexed(part.table, column)
        || part.scene.is_in_expression(part.table, column);
    // What is not free, or costs more than it seems, the recipe has refused before a statement of its own comes here.
    let leaves_domain = from.is_some_and(|from| {
        part.scene.domain(from.schema.as_deref(), &from.name, &part.statement.search_path).is_some()
    });
    let rewrite =
        !part.is_new && !leaves_domain && matches!(change, Change::Rewrite | Change::Shorter { .. });
    Some(Verdict {
        rewrite,
        build: !part.is_new && (rewrite || builds),
        scan: !part.is_new && (rewrite || builds),
        clients: Clients::PreparedAgain,
        ..Verdict::new(format!("change the type of {column}"), LockMode::AccessExclusive)
    })
}

/// The sequence of an identity column, by the name the server gave it.
fn sequence(part: &Part, mode: LockMode) -> Option<LockTaken> {
    let owned = part.scene.sequence_of(part.table, &part.command.name)?;
    Some(LockTaken { relation: owned, mode, role: LockRole::Sequence })
}

#[cfg(test)]
mod tests {
    use crate::ddl::tests::{live, on_live, told};
    use crate::facts::{ConstraintKind, Volatility};

    #[test]
    fn set_not_null_is_proved_by_a_check_first() {
        assert_eq!(
            on_live("alter table t alter a set not null"),
            [
                "brief, ACCESS EXCLUSIVE t: alter table t add constraint \"t_a_nn_check\" check (\"a\" is not null) not valid",
                "validate, SHARE UPDATE EXCLUSIVE t: alter table \"public\".\"t\" validate constraint \"t_a_nn_check\"",
                "brief, ACCESS EXCLUSIVE t: alter table t alter a set not null",
                "brief, ACCESS EXCLUSIVE t: alter table \"public\".\"t\" drop constraint \"t_a_nn_check\"",
            ]
        );
        assert_eq!(
            on_live("alter table t alter id set not null"),
            ["brief, ACCESS EXCLUSIVE t: alter table t alter id set not null"]
        );
    }

    #[test]
    fn from_18_on_not_null_itself_is_added_not_valid() {
        let mut live = live();
        live.version_num = 180_000;
        assert_eq!(
            told("alter table t alter a set not null", Some(&live)),
            [
                "brief, ACCESS EXCLUSIVE t: alter table t add constraint \"t_a_not_null\" not null \"a\" not valid",
                "validate, SHARE UPDATE EXCLUSIVE t: alter table \"public\".\"t\" validate constraint \"t_a_not_null\"",
            ]
        );
        // Surprise 17: SET NOT NULL over a NOT VALID one reads the table; VALIDATE does it beside the others.
        let table = live.tables.iter_mut().find(|table| table.name.name.as_str() == "t").unwrap();
        table.columns[1].not_null = true;
        let mut unproved = crate::ddl::tests::constraint("nn", ConstraintKind::NotNull, None);
        (unproved.definition, unproved.validated) = ("NOT NULL a NOT VALID".into(), false);
        table.constraints.push(unproved);
        assert_eq!(
            told("alter table t alter a set not null", Some(&live)),
            ["validate, SHARE UPDATE EXCLUSIVE t: alter table \"public\".\"t\" validate constraint \"nn\""]
        );
    }

    #[test]
    fn a_check_that_is_there_serves_and_is_dropped_in_a_statement_of_its_own() {
        let mut live = live();
        let table = live.tables.iter_mut().find(|table| table.name.name.as_str() == "t").unwrap();
        let mut check = crate::ddl::tests::constraint("nn", ConstraintKind::Check, None);
        check.definition = "CHECK ((a IS NOT NULL))".into();
        table.constraints.push(check);
        let own = "brief, ACCESS EXCLUSIVE t: alter table \"public\".\"t\" alter column \"a\" set not null";
        // Surprise 1: in one ALTER TABLE the drop runs first, and the scan comes back.
        assert_eq!(
            told("alter table t alter a set not null, drop constraint nn", Some(&live)),
            [own, "brief, ACCESS EXCLUSIVE t: alter table t drop constraint nn"]
        );
        assert_eq!(
            told("alter table t alter a set not null", Some(&live)),
            ["brief, ACCESS EXCLUSIVE t: alter table t alter a set not null"]
        );
        let table = live.tables.iter_mut().find(|table| table.name.name.as_str() == "t").unwrap();
        table.constraints.last_mut().unwrap().validated = false;
        assert_eq!(
            told("alter table t alter a set not null", Some(&live)),
            [
                "validate, SHARE UPDATE EXCLUSIVE t: alter table \"public\".\"t\" validate constraint \"nn\"",
                own
            ]
        );
    }

    #[test]
    fn filling_and_not_null_are_one_change() {
        let told = on_live("update t set a = 0 where a is null; alter table t alter a set not null");
        assert_eq!(
            told[..4],
            [
                "backfill, ROW EXCLUSIVE t: update t set a = 0 where a is null",
                "brief, ACCESS EXCLUSIVE t: alter table t add constraint \"t_a_nn_check\" check (\"a\" is not null) not valid",
                "backfill, ROW EXCLUSIVE t: update t set a = 0 where a is null",
                "validate, SHARE UPDATE EXCLUSIVE t: alter table \"public\".\"t\" validate constraint \"t_a_nn_check\"",
            ]
        );
    }

    #[test]
    fn a_type_that_changes_for_free_is_brief_and_the_rest_grows_a_second_column() {
        let mut live = live();
        live.settings.insert("TimeZone".into(), "Etc/UTC".into());
        live.functions.insert("public.f".into(), Volatility::Stable);
        let table = live.tables.iter_mut().find(|table| table.name.name.as_str() == "r").unwrap();
        for (column, type_name) in
            [(0, "character varying(50)"), (1, "timestamp without time zone"), (2, "integer")]
        {
            table.columns[column].type_name = type_name.into();
        }
        let is_brief = |sql: &str| told(sql, Some(&live)) == [format!("brief, ACCESS EXCLUSIVE r: {sql}")];
        assert!(is_brief("alter table r alter id type varchar(100)"));
        assert!(is_brief("alter table r alter id type text using id::text"));
        assert!(is_brief("alter table r alter a type timestamptz"));
        for sql in [
            "alter table r alter b type bigint",
            "alter table r alter id type text using lower(id)",
            "alter table r alter a type timestamptz using a at time zone 'Europe/Paris'",
        ] {
            let told = told(sql, Some(&live));
            assert!(told.iter().any(|line| line.contains("__new")), "{sql}: {told:#?}");
        }
        let both = "alter table r alter id type varchar(10), alter b set default 5";
        assert_eq!(told(both, Some(&live)), ["blocking DDL_NO_RULE"]);
        assert_eq!(
            told("alter table r alter id type varchar(10)", Some(&live)),
            [
                "brief, ACCESS EXCLUSIVE r: alter table r add constraint \"r_id_check\" check (length(\"id\") <= 10) not valid",
                "validate, SHARE UPDATE EXCLUSIVE r: alter table \"public\".\"r\" validate constraint \"r_id_check\"",
                "warning DDL_TYPE_KEPT",
            ]
        );
        live.settings.insert("TimeZone".into(), "Europe/Paris".into());
        assert_eq!(told("alter table r alter a type timestamptz", Some(&live)), ["blocking DDL_NO_RULE"]);
        assert_eq!(told("alter table r alter id type text", None), ["blocking DDL_NO_RULE"]);
    }

    #[test]
    fn views_indexes_and_checks_on_the_column_stand_in_the_way() {
        use crate::pg::name::{Ident, TableName};
        let mut live = live();
        live.viewed_columns = vec![crate::facts::ViewedColumn {
            table: TableName::new("public", "t"),
            column: Ident::new("b"),
            view: TableName::new("public", "v"),
        }];
        live.settings.insert("TimeZone".into(), "UTC".into());
        let table = live.tables.iter_mut().find(|table| table.name.name.as_str() == "t").unwrap();
        table.columns[1].type_name = "timestamp without time zone".into();
        table.columns[2].type_name = "text".into();
        let mut check = crate::ddl::tests::constraint("k", ConstraintKind::Check, None);
        check.definition = "CHECK ((b <> ''::text))".into();
        table.constraints.push(check);
        assert_eq!(told("alter table t alter b type varchar", Some(&live)), ["blocking DDL_FAILS"]);
        let without_view = told("drop view v; alter table t alter b type varchar", Some(&live));
        assert_eq!(without_view.last().unwrap(), "blocking DDL_NO_RULE", "{without_view:?}");
        // Surprise 16: the rows stay, an index of the column is rebuilt.
        assert_eq!(told("alter table t alter a type timestamptz", Some(&live)), ["blocking DDL_NO_RULE"]);
    }

    #[test]
    fn a_stored_expression_cannot_be_changed_online() {
        assert_eq!(on_live("alter table t alter a set expression as (b * 2)"), ["blocking DDL_NO_RULE"]);
        let brief = "alter table t alter a drop expression, alter b drop identity";
        assert_eq!(on_live(brief), [format!("brief, ACCESS EXCLUSIVE t: {brief}")]);
    }
}
