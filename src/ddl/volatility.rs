//! Whether an expression gives the same value for every row of a statement.

use super::{
    block::is_harmless,
    parse::{self, NodeEnum, node},
    scene::Scene,
};
use crate::{facts::Volatility, pg::name::Ident};

/// What is known of an expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Known {
    /// One value for all rows.
    OneValue,
    /// Perhaps another value for each row.
    Volatile,
    /// It calls functions nobody has looked at, so it is taken as volatile.
    Assumed {
        /// Which.
        functions: Vec<String>,
    },
}

/// Of pg_catalog, all that can stand in an expression and is volatile on 12 to 18 (`provolatile = 'v'`).
const VOLATILE: &[&str] = &[
    "random",
    "random_normal",
    "setseed",
    "clock_timestamp",
    "timeofday",
    "gen_random_uuid",
    "uuidv4",
    "uuidv7",
    "nextval",
    "currval",
    "lastval",
    "setval",
    "set_config",
    "pg_sleep",
    "pg_sleep_for",
    "pg_sleep_until",
    "txid_current",
    "pg_current_xact_id",
    "pg_advisory_lock",
    "pg_advisory_xact_lock",
    "pg_try_advisory_lock",
    "pg_try_advisory_xact_lock",
    "query_to_xml",
    "lo_create",
    "lo_creat",
    "lo_from_bytea",
    "pg_notify",
    "pg_stat_get_snapshot_timestamp",
    "pg_logical_emit_message",
    "pg_current_wal_lsn",
    "pg_current_wal_insert_lsn",
];

/// Functions that extensions bring and that give another value each time.
const VOLATILE_BROUGHT: &[&str] = &[
    "uuid_generate_v1",
    "uuid_generate_v1mc",
    "uuid_generate_v4",
    "uuid_generate_v7",
    "gen_random_bytes",
    "gen_salt",
    "ulid_generate",
    "gen_ulid",
    "gen_random_ulid",
];

/// What an expression does. Operators and casts are taken as the server's own, none of which is volatile.
pub(super) fn of(expression: &node::Node, scene: &Scene, path: &[Ident]) -> Known {
    let Some(tree) = &expression.node else { return Known::OneValue };
    let mut unknown = Vec::new();
    for name in parse::functions(tree) {
        match of_function(&name, scene, path) {
            Some(Volatility::Volatile) => return Known::Volatile,
            Some(_) => {}
            None => unknown.push(name.join(".")),
        }
    }
    if unknown.is_empty() { Known::OneValue } else { Known::Assumed { functions: unknown } }
}

fn of_function(name: &[String], scene: &Scene, path: &[Ident]) -> Option<Volatility> {
    let (own, schema) = (name.last()?, name.len().checked_sub(2).map(|at| name[at].as_str()));
    let builtin = || if VOLATILE.contains(&own.as_str()) { Volatility::Volatile } else { Volatility::Stable };
    if schema == Some("pg_catalog") {
        return Some(builtin());
    }
    if VOLATILE.contains(&own.as_str()) || VOLATILE_BROUGHT.contains(&own.as_str()) {
        return Some(Volatility::Volatile);
    }
    if let Some(made) = scene.made_function(own) {
        return Some(made);
    }
    // A name of the path found on the database; otherwise, having looked, it can only be the server's.
    let schemas = schema.map_or_else(|| path.iter().map(Ident::as_str).collect(), |schema| vec![schema]);
    let found = schemas.iter().filter_map(|schema| scene.function(schema, own)).max();
    match found {
        Some(volatility) => Some(volatility),
        None if scene.looked() && schema.is_none() => Some(builtin()),
        None if schema.is_none() && STABLE.contains(&own.as_str()) => Some(Volatility::Stable),
        None => None,
    }
}

/// Whether a function, called by itself, leaves everything as it is: one of the server's that is known for it, or one that is
/// declared STABLE or IMMUTABLE, from which the server takes no write.
pub(super) fn has_no_effect(name: &[String], scene: &Scene, path: &[Ident]) -> bool {
    let Some(own) = name.last().map(String::as_str) else { return false };
    let schema = name.len().checked_sub(2).map(|at| name[at].as_str());
    let declared = scene.made_function(own).or_else(|| {
        let schemas = schema.map_or_else(|| path.iter().map(Ident::as_str).collect(), |schema| vec![schema]);
        schemas.iter().filter_map(|schema| scene.function(schema, own)).max()
    });
    let is_known = is_harmless(own) || STABLE.contains(&own);
    match declared {
        Some(volatility) => volatility != Volatility::Volatile,
        None => is_known && schema.is_none_or(|schema| schema == "pg_catalog"),
    }
}

/// Names that nobody gives a function of their own, so that they are taken as the server's without a look.
const STABLE: &[&str] = &[
    "now",
    "transaction_timestamp",
    "statement_timestamp",
    "lower",
    "upper",
    "md5",
    "to_jsonb",
    "jsonb_build_object",
    "jsonb_build_array",
    "json_build_object",
    "to_tsvector",
    "date_trunc",
    "timezone",
    "concat",
    "replace",
    "left",
    "right",
    "length",
    "round",
    "floor",
    "ceil",
    "abs",
    "encode",
    "decode",
    "sha256",
    "make_interval",
    "overlay",
    "current_setting",
    "pg_backend_pid",
    "inet_client_addr",
    "string_to_array",
    "array_to_string",
    "to_timestamp",
    "uuid_in",
    "uuid_nil",
    "char_length",
    "substring",
    "trim",
    "btrim",
    "extract",
    "date_part",
    "array_fill",
];

/// The tree of an expression written as text, for tests and for definitions read from a catalog.
pub(super) fn expression(text: &str) -> Option<node::Node> {
    let NodeEnum::SelectStmt(select) = parse::parse_one(&format!("select ({text})")).ok()? else {
        return None;
    };
    match select.target_list.first()?.node.as_ref()? {
        NodeEnum::ResTarget(target) => target.val.as_deref().cloned(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::ServerFacts;

    fn known(text: &str, live: Option<&ServerFacts>) -> Known {
        of(&expression(text).unwrap(), &Scene::new(live), &[Ident::new("public"), Ident::new("app")])
    }

    #[test]
    fn volatility_is_read_from_the_database_and_assumed_without_one() {
        let mut live = ServerFacts::default();
        live.functions.insert("app.fixed".into(), Volatility::Immutable);
        live.functions.insert("app.other".into(), Volatility::Volatile);
        assert_eq!(known("fixed(1)", Some(&live)), Known::OneValue);
        assert_eq!(known("app.other(1)", Some(&live)), Known::Volatile);
        assert_eq!(known("1 + coalesce(other(), 2)", Some(&live)), Known::Volatile);
        assert_eq!(known("fixed(1)", None), Known::Assumed { functions: vec!["fixed".into()] });
        assert_eq!(known("app.fixed(1)", None), Known::Assumed { functions: vec!["app.fixed".into()] });
    }

    #[test]
    fn the_servers_own_functions_are_known() {
        for text in [
            "now()",
            "pg_catalog.now() + interval '1 day'",
            "current_timestamp",
            "-1.5",
            "'{}'::jsonb",
            "md5('x')",
            "array[1, -2]",
        ] {
            assert_eq!(known(text, None), Known::OneValue, "{text}");
        }
        for text in [
            "clock_timestamp()",
            "gen_random_uuid()",
            "nextval('s')",
            "uuid_in(md5(random()::text)::cstring)",
            "public.uuid_generate_v4()",
        ] {
            assert_eq!(known(text, None), Known::Volatile, "{text}");
        }
    }

    #[test]
    fn columns_are_named_once() {
        let tree = expression("a > 0 and t.a < b or lower(c) = 'x'").unwrap().node.unwrap();
        assert_eq!(parse::columns(&tree), ["a", "b", "c"]);
    }
}
