//! ADD COLUMN: what each form costs, as measured (catalogue rows 1 to 19). Which of them is taken apart, and how, the recipe says.

use super::alter_table::{Part, Verdict};
use crate::ddl::{
    lock::{LockMode, LockRole, LockTaken},
    parse::{NodeEnum, node},
    scene::Known,
    statement::Clients,
    types::SqlType,
    volatility,
};
use node::ConstrType;

pub(super) fn part(part: &Part) -> Option<Verdict> {
    if part.command.subtype() != node::AlterTableType::AtAddColumn {
        return None;
    }
    let Some(NodeEnum::ColumnDef(column)) = part.command.def.as_ref()?.node.as_ref() else { return None };
    let mut verdict = Verdict::brief(String::new(), LockMode::AccessExclusive)?;
    verdict.clients = Clients::PreparedAgain;
    let mut what = "nullable";
    let mut has_default = false;
    let mut not_null = false;
    for item in &column.constraints {
        let Some(NodeEnum::Constraint(constraint)) = &item.node else { return None };
        match constraint.contype() {
            ConstrType::ConstrDefault => {
                let expression = constraint.raw_expr.as_ref()?;
                has_default = !is_null(expression);
                what = "with a constant default";
                let known = volatility::of(expression, part.scene, &part.statement.search_path);
                verdict.rewrite |= known != volatility::Known::OneValue;
            }
            ConstrType::ConstrNotnull => not_null = true,
            ConstrType::ConstrGenerated if constraint.generated_kind == "v" => what = "virtual",
            ConstrType::ConstrGenerated | ConstrType::ConstrIdentity => verdict.rewrite = true,
            ConstrType::ConstrUnique | ConstrType::ConstrPrimary => verdict.build = true,
            ConstrType::ConstrCheck => verdict.scan |= !constraint.skip_validation,
            ConstrType::ConstrForeign => {
                verdict.scan |= has_default;
                let referenced = part.scene.range(constraint.pktable.as_ref()?, &part.statement.search_path);
                if !matches!(part.scene.relation(&referenced), Known::New) {
                    let (mode, role) = (LockMode::ShareRowExclusive, LockRole::Referenced);
                    verdict.others.push(LockTaken { relation: referenced, mode, role });
                }
            }
            _ => {}
        }
    }
    let sql_type = SqlType::of(column.type_name.as_ref()?);
    verdict.rewrite |= !part.is_new && !is_harmless(part, sql_type.as_ref());
    verdict.scan |= verdict.rewrite || (not_null && what == "virtual");
    let is_empty = part.live.is_some_and(|table| table.has_rows == Some(false));
    if not_null && !has_default && what == "nullable" && !part.is_new && !is_empty && !verdict.rewrite {
        return None;
    }
    if verdict.rewrite || verdict.build {
        what = "with values of its own";
    }
    verdict.title = format!("add column {} {what}", column.colname);
    if sql_type.is_some_and(|sql_type| sql_type.name == "json") && !part.is_new {
        verdict.findings.push(super::info(
            part.statement,
            "DDL_JSON",
            format!(
                "column {} is json, which has no equality: SELECT DISTINCT and UNION over it fail",
                column.colname
            ),
            "Use jsonb, unless the very text must be kept.",
        ));
    }
    Some(verdict)
}

pub(in crate::ddl) fn is_null(expression: &node::Node) -> bool {
    match &expression.node {
        Some(NodeEnum::AConst(constant)) => constant.isnull,
        Some(NodeEnum::TypeCast(cast)) => cast.arg.as_ref().is_some_and(|inner| is_null(inner)),
        _ => false,
    }
}

/// Whether a type is certainly no domain with a check (that would rewrite the table) and no serial.
fn is_harmless(part: &Part, sql_type: Option<&SqlType>) -> bool {
    let Some(sql_type) = sql_type else { return false };
    if sql_type.serial().is_some() {
        return false;
    }
    let domain =
        || part.scene.domain(sql_type.schema.as_deref(), &sql_type.name, &part.statement.search_path);
    sql_type.is_builtin()
        || part.scene.is_plain_type(&sql_type.name)
        || (part.scene.looked()
            && !part.scene.is_domain_made_here(&sql_type.name)
            && domain().is_none_or(|domain| !domain.constrained))
}

#[cfg(test)]
mod tests {
    use crate::ddl::tests::{live, on_live, told};

    #[test]
    fn nullable_and_constant_defaults_are_brief() {
        for column in [
            "n int",
            "n int default null",
            "n varchar(10) not null default ''",
            "n timestamptz not null default now()",
            "n timestamptz default current_timestamp",
            "n jsonb not null default '[]'::jsonb",
            "n int[] default array[1, -2]",
            "n numeric(10,2) default -1.5",
            "n int default (1 + 1)",
            "n citext",
            "n text collate \"C\"",
        ] {
            let sql = format!("alter table t add column {column}");
            assert_eq!(on_live(&sql), [format!("brief, ACCESS EXCLUSIVE t: {sql}")]);
        }
    }

    #[test]
    fn a_volatile_default_comes_after_the_column_and_is_filled_in_batches() {
        // Surprise 3: ADD COLUMN and SET DEFAULT in one ALTER TABLE write no row.
        assert_eq!(
            on_live("alter table t add column n uuid default gen_random_uuid()"),
            [
                "brief, ACCESS EXCLUSIVE t: alter table t add column n uuid, alter column \"n\" set default gen_random_uuid()",
                "backfill, ROW EXCLUSIVE t: update \"public\".\"t\" set \"n\" = gen_random_uuid() where \"n\" is null",
            ]
        );
        let with_not_null = on_live("alter table t add column n uuid not null default gen_random_uuid()");
        assert_eq!(with_not_null.len(), 7, "{with_not_null:#?}");
        assert!(
            with_not_null[2].ends_with("add constraint \"t_n_nn_check\" check (\"n\" is not null) not valid")
        );
        assert_eq!(with_not_null[3], with_not_null[1]);
        assert!(with_not_null[6].ends_with("drop constraint \"t_n_nn_check\""));
    }

    #[test]
    fn filling_says_that_triggers_fire() {
        let mut live = live();
        live.update_triggers = vec![crate::pg::name::TableName::new("public", "t")];
        let told = told("alter table t add column n uuid default gen_random_uuid()", Some(&live));
        assert_eq!(told[2..], ["warning DDL_FILL_TRIGGERS"]);
    }

    #[test]
    fn serial_gets_its_sequence_and_then_its_numbers() {
        assert_eq!(
            on_live("alter table t add column n bigserial"),
            [
                "brief, ACCESS EXCLUSIVE t: alter table t add column n bigint",
                "catalog, no lock: create sequence \"public\".\"t_n_seq\" as bigint owned by \"public\".\"t\".\"n\"",
                "brief, ACCESS EXCLUSIVE t: alter table \"public\".\"t\" alter column \"n\" set default nextval('\"public\".\"t_n_seq\"'::regclass)",
                "backfill, ROW EXCLUSIVE t: update \"public\".\"t\" set \"n\" = nextval('\"public\".\"t_n_seq\"'::regclass) where \"n\" is null",
                "brief, ACCESS EXCLUSIVE t: alter table \"public\".\"t\" add constraint \"t_n_nn_check\" check (\"n\" is not null) not valid",
                "backfill, ROW EXCLUSIVE t: update \"public\".\"t\" set \"n\" = nextval('\"public\".\"t_n_seq\"'::regclass) where \"n\" is null",
                "validate, SHARE UPDATE EXCLUSIVE t: alter table \"public\".\"t\" validate constraint \"t_n_nn_check\"",
                "brief, ACCESS EXCLUSIVE t: alter table \"public\".\"t\" alter column \"n\" set not null",
                "brief, ACCESS EXCLUSIVE t: alter table \"public\".\"t\" drop constraint \"t_n_nn_check\"",
            ]
        );
    }

    #[test]
    fn column_constraints_become_the_tables() {
        // Surprise 2: a CHECK with the column reads the table, NOT VALID beside it does not.
        assert_eq!(
            on_live(
                "alter table t add column n int default 1 check (n > 0) constraint u unique references r (id) on delete cascade"
            ),
            [
                "brief, ACCESS EXCLUSIVE t: alter table t add column n int default 1, add constraint \"t_n_check\" check (n > 0) not valid",
                "validate, SHARE UPDATE EXCLUSIVE t: alter table \"public\".\"t\" validate constraint \"t_n_check\"",
                "concurrent, SHARE UPDATE EXCLUSIVE t: create unique index concurrently \"u\" on \"public\".\"t\" (\"n\")",
                "brief, ACCESS EXCLUSIVE t: alter table \"public\".\"t\" add constraint \"u\" unique using index \"u\"",
                "brief, SHARE ROW EXCLUSIVE t + SHARE ROW EXCLUSIVE r: alter table \"public\".\"t\" add constraint \"t_n_fkey\" foreign key (\"n\") references r (id) on delete cascade NOT VALID",
                "validate, SHARE UPDATE EXCLUSIVE t + ROW SHARE r: alter table \"public\".\"t\" validate constraint \"t_n_fkey\"",
            ]
        );
    }

    #[test]
    fn an_identity_column_is_filled_from_a_sequence_that_goes_again() {
        let told = on_live("alter table t add column n int generated always as identity (start with 5)");
        assert_eq!(told[1], "catalog, no lock: create sequence \"public\".\"t_n_fill\" as int start with 5");
        assert_eq!(
            told.last().unwrap(),
            "brief, ACCESS EXCLUSIVE t: alter table \"public\".\"t\" alter column \"n\" drop default, alter column \"n\" add generated always as identity (start with 5);\n\
             select setval(pg_get_serial_sequence('\"public\".\"t\"', 'n'), nextval('\"public\".\"t_n_fill\"'::regclass), false);\n\
             drop sequence \"public\".\"t_n_fill\""
        );
    }

    #[test]
    fn what_has_no_online_form_or_fails_says_so() {
        for (column, code) in [
            ("n int generated always as identity (sequence name n_ids)", "DDL_NO_RULE"),
            ("n int generated always as (a * 2) stored", "DDL_NO_RULE"),
            ("n int generated always as (a * 2) virtual", "DDL_FAILS"),
            ("n int not null", "DDL_FAILS"),
            ("n int not null default null", "DDL_FAILS"),
            ("n int primary key", "DDL_FAILS"),
            ("a int", "DDL_NAME_TAKEN"),
        ] {
            let sql = format!("alter table t add column {column}");
            assert_eq!(on_live(&sql), [format!("blocking {code}")], "{sql}");
        }
    }

    #[test]
    fn if_not_exists_of_a_column_that_is_there_is_left_out() {
        // Surprise 6.
        assert_eq!(on_live("alter table t add column if not exists a int"), ["info DDL_ALREADY_THERE"]);
        assert_eq!(
            on_live("alter table t add column if not exists a int, add column if not exists n int"),
            [
                "brief, ACCESS EXCLUSIVE t: alter table t add column if not exists n int",
                "info DDL_ALREADY_THERE"
            ]
        );
    }

    #[test]
    fn domains_are_read_from_the_database() {
        let mut live = live();
        live.domains = vec![
            crate::facts::Domain {
                name: crate::pg::name::TableName::new("public", "checked"),
                base: "integer".into(),
                constrained: true,
            },
            crate::facts::Domain {
                name: crate::pg::name::TableName::new("public", "plain"),
                base: "integer".into(),
                constrained: false,
            },
        ];
        assert_eq!(told("alter table t add column n checked", Some(&live)), ["blocking DDL_NO_RULE"]);
        assert!(told("alter table t add column n plain", Some(&live))[0].starts_with("brief"));
        assert!(told("alter table t add column n some_enum", Some(&live))[0].starts_with("brief"));
        assert_eq!(told("alter table t add column n some_enum", None), ["blocking DDL_NO_RULE"]);
        assert!(
            told("create domain d as int check (value > 0); alter table t add column n d", Some(&live))[1]
                .contains("DDL_NO_RULE")
        );
    }
}
