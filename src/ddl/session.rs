//! What SET, RESET and `set_config` do to the statements after them.

use super::{
    parse::{self, NodeEnum, node},
    source::Statement,
};
use crate::pg::name::{Ident, literal};
use node::{TransactionStmtKind, VariableSetKind};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A setting changed by a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Setting {
    /// Names are looked up elsewhere from here on; `None`: in the default again.
    SearchPath(Option<Vec<Ident>>),
    /// Something we set ourselves for every session, so it is left out.
    Ours,
    /// How statements are read and what they make by default: given to the session of each statement after it.
    Carried {
        /// The parameter.
        name: String,
        /// Its value as SET takes it, quoted; `None`: the default again.
        value: Option<String>,
    },
    /// RESET ALL.
    Defaults,
    /// Anything else.
    Other(String),
}

/// What SET gave the statements after it, besides `search_path`: parameters, and values as SET takes them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Settings(BTreeMap<String, String>);

/// How long a SET holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    /// To the end of the transaction.
    Transaction,
    /// To the end of the session.
    Session,
}

/// The statements that bring a session to where a statement is to run, without the last semicolon.
pub fn entered(holds: Holds, search_path: &[Ident], settings: &Settings) -> String {
    let set = match holds {
        Holds::Transaction => "set local",
        Holds::Session => "set",
    };
    let names: Vec<String> = search_path.iter().map(ToString::to_string).collect();
    let path = if names.is_empty() { "''".to_owned() } else { names.join(", ") };
    let mut sql = format!("{set} search_path = {path}");
    for (name, value) in &settings.0 {
        sql.push_str(&format!("; {set} {} = {value}", parameter(name)));
    }
    sql
}

impl Settings {
    /// None at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The statements that make a session which has `before` have these, one a line.
    pub fn after(&self, before: &Settings) -> String {
        let gone = before.0.keys().filter(|name| !self.0.contains_key(*name));
        let gone = gone.map(|name| format!("reset {};\n", parameter(name)));
        let new = self.0.iter().filter(|(name, value)| before.0.get(*name) != Some(value));
        gone.chain(new.map(|(name, value)| format!("set {} = {value};\n", parameter(name)))).collect()
    }
}

/// A parameter's name, each of its parts quoted.
fn parameter(name: &str) -> String {
    name.split('.').map(|part| Ident::new(part).to_string()).collect::<Vec<_>>().join(".")
}

/// Where names are looked up, and all other settings, at a place in a file.
#[derive(Debug, Clone)]
struct Session {
    search_path: Vec<Ident>,
    settings: Settings,
}

impl Default for Session {
    fn default() -> Session {
        Session { search_path: vec![Ident::new("public")], settings: Settings::default() }
    }
}

impl Session {
    fn set(&mut self, setting: &Setting) {
        match setting {
            Setting::SearchPath(Some(path)) => self.search_path.clone_from(path),
            Setting::SearchPath(None) => self.search_path = Session::default().search_path,
            Setting::Carried { name, value: Some(value) } => {
                self.settings.0.insert(name.clone(), value.clone());
            }
            Setting::Carried { name, value: None } => {
                self.settings.0.remove(name);
            }
            Setting::Defaults => *self = Session::default(),
            Setting::Ours | Setting::Other(_) => {}
        }
    }
}

/// Gives each statement of a file what the SETs before it say. Every file begins with the defaults; SET LOCAL holds to the end
/// of its transaction, and what was SET beside it stays.
pub(super) fn assign(statements: &mut [Statement]) {
    let mut now = Session::default();
    let mut after_transaction: Option<Session> = None;
    for statement in statements {
        if ends_transaction(&statement.tree) {
            now = after_transaction.take().unwrap_or(now);
        }
        if let Some(setting) = setting(&statement.tree) {
            if is_local(&statement.tree) {
                after_transaction.get_or_insert_with(|| now.clone());
            } else if let Some(after) = &mut after_transaction {
                after.set(&setting);
            }
            now.set(&setting);
        }
        statement.search_path.clone_from(&now.search_path);
        statement.settings.clone_from(&now.settings);
    }
}

fn ends_transaction(tree: &NodeEnum) -> bool {
    matches!(tree, NodeEnum::TransactionStmt(one)
        if matches!(one.kind(), TransactionStmtKind::TransStmtCommit | TransactionStmtKind::TransStmtRollback))
}

/// SET LOCAL, or `set_config(…, true)`.
fn is_local(tree: &NodeEnum) -> bool {
    match tree {
        NodeEnum::VariableSetStmt(set) => set.is_local,
        NodeEnum::SelectStmt(select) => set_config_args(select)
            .and_then(|args| constant(args.get(2)?))
            .is_some_and(|truth| truth == "true"),
        _ => false,
    }
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
    "escape_string_warning",
];

/// What says how a text is read, what is made by default, or how a statement is worked out, and nothing else.
const CARRIED: &[&str] = &[
    "bytea_output",
    "check_function_bodies",
    "datestyle",
    "default_table_access_method",
    "default_tablespace",
    "default_text_search_config",
    "default_toast_compression",
    "extra_float_digits",
    "intervalstyle",
    "jit",
    "lc_monetary",
    "lc_numeric",
    "lc_time",
    "maintenance_work_mem",
    "max_parallel_maintenance_workers",
    "max_parallel_workers_per_gather",
    "temp_tablespaces",
    "timezone",
    "work_mem",
    "xmlbinary",
];

/// Names with a dot are the application's own or an extension's, as its triggers and functions read them.
fn is_carried(name: &str) -> bool {
    CARRIED.contains(&name) || name.contains('.') || name.starts_with("enable_")
}

/// The setting a statement changes, if that is all it does.
pub(super) fn setting(tree: &NodeEnum) -> Option<Setting> {
    match tree {
        NodeEnum::VariableSetStmt(set) => Some(of_set(set)),
        NodeEnum::SelectStmt(select) => set_config(select),
        _ => None,
    }
}

fn of_set(set: &node::VariableSetStmt) -> Setting {
    let name = set.name.to_ascii_lowercase();
    match set.kind() {
        VariableSetKind::VarSetValue => named(&name, &set.args.iter().map(constant).collect::<Vec<_>>()),
        VariableSetKind::VarReset | VariableSetKind::VarSetDefault if name == "search_path" => {
            Setting::SearchPath(None)
        }
        VariableSetKind::VarReset | VariableSetKind::VarSetDefault if OURS.contains(&name.as_str()) => {
            Setting::Ours
        }
        VariableSetKind::VarReset | VariableSetKind::VarSetDefault if is_carried(&name) => {
            Setting::Carried { name, value: None }
        }
        VariableSetKind::VarResetAll => Setting::Defaults,
        _ => Setting::Other(name),
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
        // Servers from 12 know the name and no other value.
        "default_with_oids" if is(&["off", "false"]) => Setting::Ours,
        _ if OURS.contains(&name) => Setting::Ours,
        _ if is_carried(name) && !values.is_empty() => {
            let quoted: Option<Vec<String>> =
                values.iter().map(|value| value.as_deref().map(literal)).collect();
            match quoted {
                Some(quoted) => Setting::Carried { name: name.into(), value: Some(quoted.join(", ")) },
                None => Setting::Other(name.into()),
            }
        }
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
    let args = set_config_args(select)?;
    let name = constant(args.first()?)?.to_ascii_lowercase();
    let value = constant(args.get(1)?)?;
    Some(match name.as_str() {
        "search_path" => {
            let names: Vec<String> =
                value.split(',').map(|name| name.trim().trim_matches('"').to_owned()).collect();
            search_path(&names)
        }
        _ => named(&name, &[Some(value)]),
    })
}

fn set_config_args(select: &node::SelectStmt) -> Option<&[node::Node]> {
    let [only] = select.target_list.as_slice() else { return None };
    let Some(NodeEnum::ResTarget(target)) = &only.node else { return None };
    let Some(NodeEnum::FuncCall(call)) = target.val.as_ref().and_then(|value| value.node.as_ref()) else {
        return None;
    };
    let is_it = select.from_clause.is_empty() && parse::strings(&call.funcname).last()? == "set_config";
    is_it.then_some(call.args.as_slice())
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

    #[test]
    fn what_each_statement_is_given() {
        let file = crate::ddl::source::SqlFile::new(
            "a.sql",
            "set time zone 'UTC'; select 1; begin; set local datestyle = 'ISO', 'DMY'; select set_config('App.User', '7', true);\
             set work_mem = 8; select 2; commit; select 5; set TimeZone to default; set default_with_oids = off; reset work_mem; select 3; set work_mem = 64; reset all; select 4",
        );
        let (mut statements, _) = crate::ddl::source::statements(&file).unwrap();
        assign(&mut statements);
        let at = |text: &str| {
            let found = statements.iter().find(|one| one.sql == text).unwrap();
            entered(Holds::Transaction, &found.search_path, &found.settings)
        };
        let path = "set local search_path = \"public\"";
        assert_eq!(at("select 1"), format!("{path}; set local \"timezone\" = 'UTC'"));
        assert_eq!(
            at("select 2"),
            format!(
                "{path}; set local \"app\".\"user\" = '7'; set local \"datestyle\" = 'ISO', 'DMY'; set local \"timezone\" = 'UTC'; set local \"work_mem\" = '8'"
            )
        );
        assert_eq!(
            at("select 5"),
            format!("{path}; set local \"timezone\" = 'UTC'; set local \"work_mem\" = '8'")
        );
        assert_eq!(at("select 3"), path);
        assert_eq!(at("select 4"), path);
    }
}
