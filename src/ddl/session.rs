//! What SET, RESET and `set_config` do to the statements after them.

use super::parse::{self, NodeEnum, node};
use crate::pg::name::Ident;
use node::VariableSetKind;

/// A setting changed by a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Setting {
    /// Names are looked up elsewhere from here on; `None`: in the default again.
    SearchPath(Option<Vec<Ident>>),
    /// Something we set ourselves for every session, so it is left out.
    Ours,
    /// Anything else.
    Other(String),
}

/// Timeouts, messages and the like; the value does not matter, or is checked below.
const OURS: &[&str] = &[
    "statement_timeout",
    "lock_timeout",
    "idle_in_transaction_session_timeout",
    "transaction_timeout",
    "client_min_messages",
    "row_security",
    "xmloption",
    "application_name",
];

/// The setting a statement changes, if that is all it does.
pub(super) fn setting(tree: &NodeEnum) -> Option<Setting> {
    match tree {
        NodeEnum::VariableSetStmt(set) => Some(match set.kind() {
            VariableSetKind::VarSetValue => {
                named(&set.name, &set.args.iter().map(constant).collect::<Vec<_>>())
            }
            VariableSetKind::VarReset | VariableSetKind::VarSetDefault if set.name == "search_path" => {
                Setting::SearchPath(None)
            }
            VariableSetKind::VarReset | VariableSetKind::VarSetDefault
                if OURS.contains(&set.name.as_str()) =>
            {
                Setting::Ours
            }
            VariableSetKind::VarResetAll => Setting::SearchPath(None),
            _ => Setting::Other(set.name.clone()),
        }),
        NodeEnum::SelectStmt(select) => set_config(select),
        _ => None,
    }
}

fn named(name: &str, values: &[Option<String>]) -> Setting {
    let is = |wanted: &[&str]| matches!(values, [Some(value)] if wanted.iter().any(|wanted| value.eq_ignore_ascii_case(wanted)));
    match name {
        "search_path" => {
            let path: Option<Vec<String>> = values.iter().cloned().collect();
            path.map_or_else(|| Setting::Other(name.into()), |path| search_path(&path))
        }
        "client_encoding" if is(&["utf8", "utf-8"]) => Setting::Ours,
        "standard_conforming_strings" if is(&["on", "true"]) => Setting::Ours,
        _ if OURS.contains(&name) => Setting::Ours,
        _ => Setting::Other(name.into()),
    }
}

fn search_path(names: &[String]) -> Setting {
    // pg_dump empties the path: every name after it is qualified.
    let names = names.iter().filter(|name| !name.is_empty() && *name != "$user");
    Setting::SearchPath(Some(names.map(Ident::new).collect()))
}

/// `select pg_catalog.set_config('search_path', '', false)`, which pg_dump writes.
fn set_config(select: &node::SelectStmt) -> Option<Setting> {
    let [only] = select.target_list.as_slice() else { return None };
    let Some(NodeEnum::ResTarget(target)) = &only.node else { return None };
    let Some(NodeEnum::FuncCall(call)) = target.val.as_ref().and_then(|value| value.node.as_ref()) else {
        return None;
    };
    if !select.from_clause.is_empty() || parse::strings(&call.funcname).last()? != "set_config" {
        return None;
    }
    let name = constant(call.args.first()?)?;
    let value = constant(call.args.get(1)?)?;
    Some(match name.as_str() {
        "search_path" => {
            let names: Vec<String> =
                value.split(',').map(|name| name.trim().trim_matches('"').to_owned()).collect();
            search_path(&names)
        }
        _ => named(&name, &[Some(value)]),
    })
}

fn constant(item: &node::Node) -> Option<String> {
    use node::a_const::Val;
    let Some(NodeEnum::AConst(constant)) = &item.node else { return None };
    match constant.val.as_ref()? {
        Val::Sval(text) => Some(text.sval.clone()),
        Val::Ival(number) => Some(number.ival.to_string()),
        Val::Fval(number) => Some(number.fval.clone()),
        Val::Boolval(truth) => Some(truth.boolval.to_string()),
        Val::Bsval(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(sql: &str) -> Option<Setting> {
        setting(&parse::parse_one(sql).unwrap())
    }

    #[test]
    fn the_search_path_is_understood_in_every_spelling() {
        let path = |names: &[&str]| {
            Some(Setting::SearchPath(Some(names.iter().map(|name| Ident::new(*name)).collect())))
        };
        assert_eq!(of("set search_path = app, public"), path(&["app", "public"]));
        assert_eq!(of("set search_path to 'App'"), path(&["App"]));
        assert_eq!(of("select pg_catalog.set_config('search_path', '', false)"), path(&[]));
        assert_eq!(of("reset search_path"), Some(Setting::SearchPath(None)));
    }

    #[test]
    fn what_we_set_ourselves_is_told_from_the_rest() {
        assert_eq!(of("set lock_timeout = '2s'"), Some(Setting::Ours));
        assert_eq!(of("set client_encoding = 'UTF8'"), Some(Setting::Ours));
        assert_eq!(of("set client_encoding = 'LATIN1'"), Some(Setting::Other("client_encoding".into())));
        assert_eq!(of("set role app"), Some(Setting::Other("role".into())));
        assert_eq!(of("select 1"), None);
    }
}
