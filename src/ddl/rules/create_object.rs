//! CREATE of views, functions, types, sequences, schemas and extensions, and COMMENT: only the catalog changes.

use super::{Outcome, Rule, as_written};
use crate::{
    ddl::{
        lock::{Cost, LockMode, LockRole, LockTaken},
        parse::{self, NodeEnum, node::ObjectType},
        scene::{Known, Scene},
        source::Statement,
    },
    pg::name::TableName,
};

const RECIPE: &str = "create_object";

pub(super) const RULE: Rule = Rule {
    name: RECIPE,
    about: "Views, functions, types, sequences, schemas, extensions and comments change the catalog only.",
    manual: "sql-commands.html",
    apply: rule,
};

fn rule(statement: &Statement, scene: &Scene) -> Option<Outcome> {
    let name = |parts: &[parse::node::Node]| parse::strings(parts).pop().unwrap_or_default();
    let (title, locks) = match &statement.tree {
        NodeEnum::ViewStmt(view) => {
            let range = view.view.as_ref()?;
            let own = scene.range(range, &statement.search_path);
            let replaces = view.replace && !matches!(scene.relation(&own), Known::New | Known::Missing);
            let mut locks = reads(statement, scene, &own);
            if replaces {
                let mode = LockMode::AccessExclusive;
                locks.push(LockTaken { relation: own, mode, role: LockRole::Target });
            }
            (format!("create view {}", range.relname), locks)
        }
        NodeEnum::CreateFunctionStmt(function) => {
            (format!("create function {}", name(&function.funcname)), Vec::new())
        }
        NodeEnum::CreateEnumStmt(create) => (format!("create type {}", name(&create.type_name)), Vec::new()),
        NodeEnum::CreateRangeStmt(create) => (format!("create type {}", name(&create.type_name)), Vec::new()),
        NodeEnum::CompositeTypeStmt(create) => {
            (format!("create type {}", create.typevar.as_ref()?.relname), Vec::new())
        }
        NodeEnum::CreateDomainStmt(create) => {
            (format!("create domain {}", name(&create.domainname)), Vec::new())
        }
        NodeEnum::CreateSeqStmt(create) => {
            (format!("create sequence {}", create.sequence.as_ref()?.relname), Vec::new())
        }
        NodeEnum::CreateSchemaStmt(create) if create.schema_elts.is_empty() => {
            (format!("create schema {}", create.schemaname), Vec::new())
        }
        NodeEnum::CreateExtensionStmt(create) => (format!("create extension {}", create.extname), Vec::new()),
        NodeEnum::CommentStmt(comment) => commented(statement, scene, comment)?,
        _ => return None,
    };
    let mut step = as_written(statement, RECIPE, title, Cost::brief(locks));
    step.why = "only the catalog changes".into();
    Some(Outcome { steps: vec![step], findings: remarks(statement, scene) })
}

/// What somebody may notice later.
fn remarks(statement: &Statement, scene: &Scene) -> Vec<crate::finding::Finding> {
    let remark = |code: &str, what: String, help: &str| super::info(statement, code, what, help);
    match &statement.tree {
        NodeEnum::ViewStmt(view) => {
            let own = view.view.as_ref().map(|range| scene.range(range, &statement.search_path));
            let replaced = own.filter(|own| matches!(scene.relation(own), Known::LiveOther | Known::Unseen));
            let replaced = replaced.filter(|_| view.replace).map(|own| {
                remark(
                    "DDL_CLIENT_VISIBLE",
                    format!("{} may get columns at its end: statements prepared with SELECT * on it fail once and must be prepared again", own.plain()),
                    "Nothing to do, if clients name the columns they read.",
                )
            });
            let star = parse::has_star(&statement.tree).then(|| {
                remark(
                    "DDL_SELECT_STAR",
                    "the view keeps the columns that SELECT * means now: later ones are not shown, and the server refuses to drop them or change their types".into(),
                    "Name the columns.",
                )
            });
            replaced.into_iter().chain(star).collect()
        }
        NodeEnum::CreateFunctionStmt(function) if function.replace => vec![remark(
            "DDL_BEHAVIOR",
            "whoever calls the function, also in defaults, triggers and indexes, gets the new body from here on".into(),
            "Nothing to do, if the clients that run now can live with it. If an index is over it, REINDEX that.",
        )],
        _ => Vec::new(),
    }
}

/// ACCESS SHARE on what a query reads.
pub(super) fn reads(statement: &Statement, scene: &Scene, own: &TableName) -> Vec<LockTaken> {
    let mut locks: Vec<LockTaken> = parse::relations(&statement.tree)
        .iter()
        .map(|(schema, name)| scene.resolve(schema, name, &statement.search_path))
        .filter(|relation| {
            relation != own && !matches!(scene.relation(relation), Known::New | Known::Missing)
        })
        .map(|relation| LockTaken { relation, mode: LockMode::AccessShare, role: LockRole::Read })
        .collect();
    locks.sort();
    locks.dedup();
    locks
}

/// COMMENT takes SHARE UPDATE EXCLUSIVE on a table, so it waits behind VACUUM and a running CREATE INDEX CONCURRENTLY.
fn commented(
    statement: &Statement,
    scene: &Scene,
    comment: &parse::node::CommentStmt,
) -> Option<(String, Vec<LockTaken>)> {
    let Some(NodeEnum::List(list)) = comment.object.as_ref()?.node.as_ref() else {
        return Some(("comment".into(), Vec::new()));
    };
    let mut parts = parse::strings(&list.items);
    let shown = parts.join(".");
    let of_column = comment.objtype() == ObjectType::ObjectColumn;
    let on_relation = matches!(
        comment.objtype(),
        ObjectType::ObjectTable
            | ObjectType::ObjectView
            | ObjectType::ObjectIndex
            | ObjectType::ObjectMatview
    );
    if of_column {
        parts.pop();
    }
    let mut locks = Vec::new();
    if of_column || on_relation {
        let name = parts.pop()?;
        let relation = scene.resolve(&parts.pop().unwrap_or_default(), &name, &statement.search_path);
        if !matches!(scene.relation(&relation), Known::New) {
            let mode = LockMode::ShareUpdateExclusive;
            locks.push(LockTaken { relation, mode, role: LockRole::Target });
        }
    }
    Some((format!("comment on {shown}"), locks))
}
