//! Materialized views and CREATE TABLE AS: filled beside readers and writers; REFRESH becomes CONCURRENTLY.

use super::{Outcome, Rule, as_written, blocking, info, unknown_relation, warning};
use crate::{
    ddl::{
        edit::{self, Edit},
        lock::{Cost, LockMode, LockRole, LockTaken},
        parse::{self, NodeEnum, node},
        scene::{Known, Scene},
        source::Statement,
        statement::Class,
    },
    pg::name::TableName,
};

const RECIPE: &str = "matview";

pub(super) const RULE: Rule = Rule {
    name: RECIPE,
    about: "Materialized views are filled beside readers and writers, and refreshed CONCURRENTLY where the server can.",
    manual: "sql-refreshmaterializedview.html",
    apply: rule,
};

fn rule(statement: &Statement, scene: &Scene) -> Option<Outcome> {
    match &statement.tree {
        NodeEnum::CreateTableAsStmt(create) => created(statement, scene, create),
        NodeEnum::RefreshMatViewStmt(refresh) => refreshed(statement, scene, refresh),
        _ => None,
    }
}

fn created(statement: &Statement, scene: &Scene, create: &node::CreateTableAsStmt) -> Option<Outcome> {
    let into = create.into.as_ref()?;
    let own = scene.range(into.rel.as_ref()?, &statement.search_path);
    // A function of the user's may do anything, and EXECUTE of a prepared statement as well.
    if !matches!(create.query.as_ref()?.node, Some(NodeEnum::SelectStmt(_))) {
        return None;
    }
    let kind =
        if create.objtype() == node::ObjectType::ObjectMatview { "materialized view" } else { "table" };
    let locks = super::create_object::reads(statement, scene, &own);
    let reads = !into.skip_data && !locks.is_empty();
    let cost = Cost { scan: reads, ..Cost::brief(locks) };
    let mut step = as_written(statement, RECIPE, format!("create {kind} {}", own.plain()), cost);
    let mut findings = Vec::new();
    step.why = "nobody uses it yet, and what it reads is only locked against being changed or dropped".into();
    if reads {
        step.class = Class::Validate;
        findings.push(info(
            statement,
            "DDL_LONG_SNAPSHOT",
            format!("the query that fills {} runs in one snapshot: meanwhile VACUUM removes nothing newer, and CREATE INDEX CONCURRENTLY elsewhere waits for it", own.plain()),
            "Nothing to do for small tables. For large ones create it WITH NO DATA and fill it when the database is quiet.",
        ));
    }
    Some(Outcome { steps: vec![step], findings })
}

fn refreshed(statement: &Statement, scene: &Scene, refresh: &node::RefreshMatViewStmt) -> Option<Outcome> {
    let view = scene.range(refresh.relation.as_ref()?, &statement.search_path);
    let known = scene.relation(&view);
    if matches!(known, Known::Missing) {
        return Outcome::finding(unknown_relation(statement, &view));
    }
    let title = format!("refresh {}", view.plain());
    if matches!(known, Known::New) {
        let mut step = as_written(statement, RECIPE, title, Cost::default());
        step.why = "made earlier in these files, so nobody uses it yet".into();
        return Outcome::step(step);
    }
    let reads = reads(scene, &view);
    let own = |mode| LockTaken { relation: view.clone(), mode, role: LockRole::Refreshed };
    if refresh.skip_data {
        let mut step =
            as_written(statement, RECIPE, title, Cost::brief(vec![own(LockMode::AccessExclusive)]));
        step.why = "only its rows go; the lock is held for a moment".into();
        let what = format!("{} cannot be read any more until it is filled again", view.plain());
        let help = "Release clients that do not read it first.";
        return Some(Outcome {
            steps: vec![step],
            findings: vec![warning(statement, "DDL_CLIENT_VISIBLE", what, help)],
        });
    }
    let filled = || scene.view(&view).is_some_and(|seen| seen.refreshable) || scene.has_unique_index(&view);
    if scene.looked() && !filled() {
        return Outcome::finding(blocking(
            statement,
            "DDL_NO_RULE",
            format!(
                "{} has no unique index over plain columns, or holds no rows yet, so it can only be refreshed under ACCESS EXCLUSIVE: its readers would wait for the whole query",
                view.plain()
            ),
            "CREATE UNIQUE INDEX on it first, over columns that name a row; then REFRESH runs CONCURRENTLY.",
        ));
    }
    concurrent(statement, refresh, title, reads, own(LockMode::Exclusive), own(LockMode::AccessExclusive))
}

fn concurrent(
    statement: &Statement,
    refresh: &node::RefreshMatViewStmt,
    title: String,
    reads: Vec<LockTaken>,
    lock: LockTaken,
    was: LockTaken,
) -> Option<Outcome> {
    let mut wanted = refresh.clone();
    wanted.concurrent = true;
    let tokens = parse::tokens(&statement.sql).ok()?;
    let at = tokens.get(edit::find(&tokens, node::Token::View)?)?.end;
    let edits = if refresh.concurrent { Vec::new() } else { vec![Edit::insert(at, " CONCURRENTLY")] };
    let sql = edit::proved(&statement.sql, edits, &NodeEnum::RefreshMatViewStmt(wanted))?;
    let with = |lock: LockTaken| [lock].into_iter().chain(reads.clone()).collect::<Vec<_>>();
    let cost = Cost { scan: true, ..Cost::brief(with(lock)) };
    let mut step = as_written(statement, RECIPE, title, cost);
    step.sql = sql;
    step.class = Class::Validate;
    step.was = (!refresh.concurrent).then(|| Cost { scan: true, rewrite: true, ..Cost::brief(with(was)) });
    step.why = "its readers go on; only another REFRESH waits".into();
    Outcome::step(step)
}

/// ACCESS SHARE on everything the view reads, through other views too.
fn reads(scene: &Scene, view: &TableName) -> Vec<LockTaken> {
    let seen = scene.view(view).map(|view| scene.read_by(view)).unwrap_or_default();
    let lock = |relation| LockTaken { relation, mode: LockMode::AccessShare, role: LockRole::Read };
    seen.into_iter().map(lock).collect()
}

#[cfg(test)]
mod tests {
    use crate::ddl::tests::{on_live, told};

    #[test]
    fn refresh_becomes_concurrent_when_a_unique_index_is_there() {
        assert_eq!(
            on_live("refresh materialized view mv"),
            ["validate, EXCLUSIVE mv + ACCESS SHARE s: refresh materialized view CONCURRENTLY mv"]
        );
        assert_eq!(on_live("refresh materialized view bare"), ["blocking DDL_NO_RULE"]);
        assert_eq!(
            on_live("create unique index b on bare (x); refresh materialized view bare")[1],
            "validate, EXCLUSIVE bare + ACCESS SHARE s: refresh materialized view CONCURRENTLY bare"
        );
        assert_eq!(
            told("refresh materialized view mv", None),
            ["validate, EXCLUSIVE mv: refresh materialized view CONCURRENTLY mv"]
        );
        assert_eq!(on_live("refresh materialized view nowhere"), ["blocking DDL_UNKNOWN_RELATION"]);
        assert_eq!(
            on_live("refresh materialized view mv with no data"),
            [
                "brief, ACCESS EXCLUSIVE mv: refresh materialized view mv with no data",
                "warning DDL_CLIENT_VISIBLE"
            ]
        );
    }

    #[test]
    fn filling_a_new_one_is_told_to_be_a_long_snapshot() {
        assert_eq!(
            on_live("create materialized view n as select a from t"),
            [
                "validate, ACCESS SHARE t: create materialized view n as select a from t",
                "info DDL_LONG_SNAPSHOT"
            ]
        );
        assert_eq!(
            on_live("create table n as select a from t with no data"),
            ["catalog, ACCESS SHARE t: create table n as select a from t with no data"]
        );
    }
}
