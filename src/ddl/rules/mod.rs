//! The rules, one a file. Each looks at one statement in its scene and says how it runs online, or that it is not its business.
//!
//! A rule's tests are its specification: input, output, lock. A statement no rule claims meets [`no_rule`], which stops it.

use super::{
    lock::Cost,
    scene::Scene,
    source::Statement,
    statement::{Class, Clients, Online, Retry, Verify},
};
use crate::finding::{Finding, Severity};

mod access;
pub(super) mod add_column;
mod alter_column;
pub(super) mod alter_table;
pub(super) mod backfill;
mod constraint;
mod create_index;
mod create_object;
mod create_table;
mod do_block;
mod domain;
mod drop_column;
pub(super) mod drop_index;
mod drop_schema;
mod drop_table;
mod drop_view;
mod expand;
mod function;
pub(super) mod index_name;
mod index_tablespace;
mod maintenance;
mod matview;
mod new_object;
mod no_rule;
mod partition;
mod publication;
mod query;
mod reindex;
mod rename;
mod rename_other;
mod sequence;
mod session;
mod set_schema;
mod statistics;
pub(super) mod swap_index;
mod table_option;
mod temporary;
mod transaction;
mod trigger;
mod truncate;
mod user_type;

pub(super) use drop_table::once;

/// What a rule makes of a statement.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub steps: Vec<Online>,
    pub findings: Vec<Finding>,
}

impl Outcome {
    fn step(step: Online) -> Option<Outcome> {
        Some(Outcome { steps: vec![step], findings: Vec::new() })
    }

    fn finding(finding: Finding) -> Option<Outcome> {
        Some(Outcome { steps: Vec::new(), findings: vec![finding] })
    }
}

/// Which statements are its business, and what runs in their place.
pub(super) struct Rule {
    /// Its name, in `Online::recipe`.
    pub name: &'static str,
    /// What it does and why, a sentence.
    pub about: &'static str,
    /// Its page in PostgreSQL's manual.
    pub manual: &'static str,
    apply: fn(&Statement, &Scene) -> Option<Outcome>,
}

/// In the order they are asked; the first that answers decides.
pub(super) const RULES: &[Rule] = &[
    transaction::RULE,
    session::RULE,
    temporary::RULE,
    do_block::RULE,
    new_object::RULE,
    create_index::RULE,
    drop_index::RULE,
    reindex::RULE,
    index_tablespace::RULE,
    rename::RULE,
    backfill::RULE,
    partition::create::RULE,
    partition::attach::RULE,
    partition::detach::RULE,
    partition::constraint::RULE,
    drop_column::RULE,
    alter_table::RULE,
    create_table::RULE,
    create_object::RULE,
    drop_table::RULE,
    drop_view::RULE,
    drop_schema::RULE,
    set_schema::RULE,
    trigger::RULE,
    function::RULE,
    user_type::RULE,
    domain::RULE,
    sequence::RULE,
    matview::RULE,
    statistics::RULE,
    access::RULE,
    publication::RULE,
    truncate::RULE,
    maintenance::RULE,
    query::RULE,
];

/// What becomes of one statement.
pub(super) fn apply(statement: &Statement, scene: &Scene) -> Outcome {
    let mut outcome = RULES
        .iter()
        .find_map(|rule| (rule.apply)(statement, scene))
        .unwrap_or_else(|| Outcome { steps: Vec::new(), findings: vec![no_rule::finding(statement, scene)] });
    // A rule that says so in words need not say it twice.
    let breaks = outcome
        .findings
        .iter()
        .any(|finding| finding.code == "DDL_CLIENT_VISIBLE" && finding.severity == Severity::Warning);
    if let Some(last) = outcome.steps.last_mut().filter(|_| breaks) {
        last.clients = last.clients.max(Clients::Broken);
    }
    outcome
}

/// A step that runs the statement as it is written, in a transaction of its own.
fn as_written(statement: &Statement, recipe: &str, title: String, cost: Cost) -> Online {
    let class = match cost.strongest() {
        Some(lock) if lock.mode.blocks_writers() => Class::Brief,
        _ => Class::Catalog,
    };
    Online {
        id: slug(&title),
        sql: statement.sql.clone(),
        search_path: statement.search_path.clone(),
        settings: statement.settings.clone(),
        from: vec![statement.place.clone()],
        title,
        class,
        cost,
        was: None,
        transactional: true,
        recipe: recipe.to_owned(),
        why: String::new(),
        retry: Retry::BRIEF,
        verify: Verify::Recorded { valid: None },
        undo: None,
        clients: Clients::Unaffected,
        backfill: None,
    }
}

/// Turns a step into one that runs outside a transaction, beside readers and writers.
fn concurrently(mut step: Online, sql: String, verify: Verify) -> Online {
    step.sql = sql;
    step.class = Class::Concurrent;
    step.transactional = false;
    step.retry = Retry::CONCURRENT;
    step.verify = verify;
    step
}

/// A step's name is no longer than this, in characters.
const ID_CHARS_MAX: usize = 100;

/// `create index a on public.t` as a step name: `ddl/create-index-a-on-public.t`.
pub(super) fn slug(title: &str) -> String {
    let mut id = "ddl/".to_owned();
    for c in title.chars() {
        if c.is_alphanumeric() || matches!(c, '_' | '.') {
            id.extend(c.to_lowercase());
        } else if !id.ends_with(['-', '/']) {
            id.push('-');
        }
    }
    // Ten ADD COLUMNs are one step; a name is to be read, and those cut to the same are numbered.
    let end = id.char_indices().nth(ID_CHARS_MAX).map_or(id.len(), |(end, _)| end);
    id[..end].trim_end_matches('-').to_owned()
}

fn finding(statement: &Statement, severity: Severity, code: &str, what: String, help: &str) -> Finding {
    Finding { code: code.to_owned(), severity, place: statement.place.clone(), what, help: help.to_owned() }
}

fn blocking(statement: &Statement, code: &str, what: String, help: &str) -> Finding {
    finding(statement, Severity::Blocking, code, what, help)
}

fn warning(statement: &Statement, code: &str, what: String, help: &str) -> Finding {
    finding(statement, Severity::Warning, code, what, help)
}

fn info(statement: &Statement, code: &str, what: String, help: &str) -> Finding {
    finding(statement, Severity::Info, code, what, help)
}

/// A relation the statement needs and the database does not have.
fn unknown_relation(statement: &Statement, name: &crate::pg::name::TableName) -> Finding {
    blocking(
        statement,
        "DDL_UNKNOWN_RELATION",
        format!("there is no {} on the database, and nothing earlier in these files makes it", name.plain()),
        "Correct the name, set search_path in the file, or put the file that creates it first.",
    )
}
