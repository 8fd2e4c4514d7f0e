//! ADD COLUMN without a default, or with a constant one: the catalog alone changes, and old rows answer from it.

use super::alter_table::{Part, Verdict};
use crate::ddl::{
    lock::LockMode,
    parse::{self, NodeEnum, node},
};

pub(super) fn part(part: &Part) -> Option<Verdict> {
    if part.command.subtype() != node::AlterTableType::AtAddColumn {
        return None;
    }
    let Some(NodeEnum::ColumnDef(column)) = part.command.def.as_ref()?.node.as_ref() else { return None };
    let mut has_default = false;
    let mut not_null = false;
    for item in &column.constraints {
        let Some(NodeEnum::Constraint(constraint)) = &item.node else { return None };
        match constraint.contype() {
            node::ConstrType::ConstrNull => {}
            node::ConstrType::ConstrNotnull => not_null = true,
            node::ConstrType::ConstrDefault => {
                has_default = !is_null(constraint.raw_expr.as_ref()?);
                if !is_constant(constraint.raw_expr.as_ref()?) {
                    return None;
                }
            }
            // UNIQUE, PRIMARY KEY, REFERENCES, CHECK, identity and generated columns build, scan or rewrite.
            _ => return None,
        }
    }
    if (not_null && !has_default && !part.is_new) || !is_known_type(part, column.type_name.as_ref()?) {
        return None;
    }
    let what = if has_default { "with a constant default" } else { "nullable" };
    Verdict::brief(format!("add column {} {what}", column.colname), LockMode::AccessExclusive)
}

fn is_null(expression: &node::Node) -> bool {
    match &expression.node {
        Some(NodeEnum::AConst(constant)) => constant.isnull,
        Some(NodeEnum::TypeCast(cast)) => cast.arg.as_ref().is_some_and(|inner| is_null(inner)),
        _ => false,
    }
}

/// Whether a default is one value for all rows, by its form alone. `now()` is: it is evaluated once.
fn is_constant(expression: &node::Node) -> bool {
    const STABLE: &[&str] = &["now", "transaction_timestamp", "statement_timestamp"];
    let all = |items: &[node::Node]| items.iter().all(is_constant);
    match &expression.node {
        Some(NodeEnum::AConst(_) | NodeEnum::SqlvalueFunction(_)) => true,
        Some(NodeEnum::TypeCast(cast)) => {
            let serial = cast.type_name.as_ref().is_none_or(|name| !is_builtin(name));
            !serial && cast.arg.as_ref().is_some_and(|inner| is_constant(inner))
        }
        Some(NodeEnum::AArrayExpr(array)) => all(&array.elements),
        Some(NodeEnum::FuncCall(call)) => {
            call.args.is_empty()
                && match parse::strings(&call.funcname).as_slice() {
                    [name] => STABLE.contains(&name.as_str()),
                    [schema, name] => schema == "pg_catalog" && STABLE.contains(&name.as_str()),
                    _ => false,
                }
        }
        Some(NodeEnum::AExpr(operation)) => {
            // A sign before a number; other operators may be anybody's.
            operation.lexpr.is_none()
                && matches!(parse::strings(&operation.name).as_slice(), [sign] if sign == "-" || sign == "+")
                && operation.rexpr.as_ref().is_some_and(|inner| is_constant(inner))
        }
        _ => false,
    }
}

/// Whether a type is certainly no domain with a check (that would rewrite the table) and no serial.
fn is_known_type(part: &Part, name: &node::TypeName) -> bool {
    let used_already = || {
        // A type that a column of the database has under this very name, and which is no domain, would do;
        // facts do not tell domains apart, so only types made here are trusted.
        parse::strings(&name.names).last().is_some_and(|name| part.scene.is_plain_type(name))
    };
    is_builtin(name) || used_already()
}

fn is_builtin(name: &node::TypeName) -> bool {
    const BUILTIN: &[&str] = &[
        "text",
        "uuid",
        "json",
        "jsonb",
        "bytea",
        "date",
        "inet",
        "cidr",
        "macaddr",
        "money",
        "xml",
        "tsvector",
        "tsquery",
        "oid",
        "name",
        "int2",
        "int4",
        "int8",
        "float4",
        "float8",
        "numeric",
        "bool",
        "varchar",
        "bpchar",
        "char",
        "timestamp",
        "timestamptz",
        "time",
        "timetz",
        "interval",
        "bit",
        "varbit",
        "point",
        "int4range",
        "int8range",
        "numrange",
        "tsrange",
        "tstzrange",
        "daterange",
        "jsonpath",
        "pg_lsn",
        "regclass",
    ];
    /// Types that extensions bring; none is a domain.
    const EXTENSION: &[&str] =
        &["citext", "hstore", "ltree", "geometry", "geography", "vector", "halfvec", "cube", "semver"];
    match parse::strings(&name.names).as_slice() {
        [schema, name] if schema == "pg_catalog" => BUILTIN.contains(&name.as_str()) || name == "macaddr8",
        [name] | [_, name] if EXTENSION.contains(&name.as_str()) => true,
        [name] => BUILTIN.contains(&name.as_str()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use crate::ddl::tests::on_live;

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
            "n citext",
        ] {
            let sql = format!("alter table t add column {column}");
            assert_eq!(on_live(&sql), [format!("brief, ACCESS EXCLUSIVE t: {sql}")]);
        }
    }

    #[test]
    fn what_may_rewrite_scan_or_build_is_refused() {
        for column in [
            "n uuid default gen_random_uuid()",
            "n int default f(1)",
            "n int default (1 + 1)",
            "n serial",
            "n int generated always as identity",
            "n int generated always as (a * 2) stored",
            "n int not null",
            "n int not null default null",
            "n int unique",
            "n int primary key",
            "n int references r (id)",
            "n int check (n > 0)",
            "n app.money_amount",
            "n int default '5'::app.checked",
        ] {
            let sql = format!("alter table t add column {column}");
            assert_eq!(on_live(&sql), ["blocking DDL_NO_RULE"], "{sql}");
        }
    }
}
