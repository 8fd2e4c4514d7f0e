//! DO: what is inside is judged statement by statement. A plain list of statements is dissolved into them, and so is one whose
//! conditions the database as it was seen decides; one with other conditions runs whole, if every statement in it may run as it
//! is; what only running it would tell is refused.

use super::{
    Outcome, Rule, as_written, blocking,
    drop_table::once,
    expand::{derived, in_turn},
    info,
};
use crate::{
    ddl::{
        block::{self, Block, Under},
        condition,
        lock::Cost,
        online,
        parse::{self, NodeEnum},
        scene::{Known, Scene},
        source::Statement,
    },
    finding::{Finding, any_blocking},
};
use std::collections::BTreeMap;

const RECIPE: &str = "do_block";

pub(super) const RULE: Rule = Rule {
    name: RECIPE,
    about: "What is inside a DO block is judged statement by statement: a plain list is dissolved, also under conditions that the database as it was seen decides; one with other conditions runs whole if each part may, and what only running it would tell is refused.",
    manual: "sql-do.html",
    apply: rule,
};

fn rule(statement: &Statement, scene: &Scene) -> Option<Outcome> {
    let NodeEnum::DoStmt(_) = &statement.tree else { return None };
    let Some(block) = block::read(&statement.sql) else {
        return dark(statement, "a language that cannot be read here");
    };
    if let Some(what) = &block.opaque {
        return dark(statement, what);
    }
    if !block.has_variables && block.statements.iter().all(|inside| !inside.conditional()) {
        let sqls: Vec<String> = block.statements.iter().map(|inside| inside.sql.clone()).collect();
        return dissolved(statement, scene, &sqls);
    }
    let as_it_is = whole(statement, scene, &block)?;
    if !any_blocking(&as_it_is.findings) {
        return Some(as_it_is);
    }
    // What may not run there may run by itself, when it is known whether it runs.
    match decided(statement, scene, &block) {
        Some(sqls) => told(statement, &block, dissolved(statement, scene, &sqls)?),
        None => Some(as_it_is),
    }
}

fn dark(statement: &Statement, what: &str) -> Option<Outcome> {
    Outcome::finding(blocking(
        statement,
        "DDL_OPAQUE",
        format!("the DO block holds {what}"),
        "Write out the statements that it would run, one after the other.",
    ))
}

/// Reads and writes rows of tables that the plan made, and nothing else: however often it runs, nobody waits.
fn only_new(one: &Statement, scene: &Scene) -> bool {
    use NodeEnum::{DeleteStmt, InsertStmt, SelectStmt, UpdateStmt};
    let is_rows = matches!(one.tree, SelectStmt(_) | InsertStmt(_) | UpdateStmt(_) | DeleteStmt(_));
    is_rows
        && parse::relations(&one.tree).iter().all(|(schema, name)| {
            matches!(scene.relation(&scene.resolve(schema, name, &one.search_path)), Known::New)
        })
}

/// The statements that run, when what was seen and what the plan did before decides every condition. A condition is looked at
/// where it stands: before the statements under it, and after those above.
fn decided(statement: &Statement, scene: &Scene, block: &Block) -> Option<Vec<String>> {
    if block.has_variables {
        return None;
    }
    let path = &statement.search_path;
    let mut scene = scene.clone();
    let mut known: BTreeMap<usize, bool> = BTreeMap::new();
    let mut run = Vec::new();
    for inside in &block.statements {
        let one = derived(statement, inside.sql.clone())?;
        let mut runs = true;
        for under in &inside.under {
            let holds = match under {
                Under::Condition { nth, text, holds } => {
                    let truth = match known.get(nth) {
                        Some(truth) => *truth,
                        None => condition::holds(text, &scene, path)?,
                    };
                    known.insert(*nth, truth);
                    truth == *holds
                }
                Under::UnlessDuplicate => !condition::meets_duplicate(&one.tree, &scene, path)?,
                Under::Dark => return None,
            };
            if !holds {
                runs = false;
                break;
            }
        }
        if runs && !reads_only(&one.tree) {
            online(&one, &mut scene, 1);
            run.push(inside.sql.clone());
        }
    }
    Some(run)
}

/// Says which way the conditions went.
fn told(statement: &Statement, block: &Block, mut outcome: Outcome) -> Option<Outcome> {
    let left_out = block.statements.len() - outcome.steps.len().min(block.statements.len());
    let what = if outcome.steps.is_empty() && !any_blocking(&outcome.findings) {
        "the conditions of the DO block do not hold on the database as it was seen: nothing in it is run"
            .into()
    } else if left_out > 0 {
        "the conditions of the DO block are decided by the database as it was seen: only what runs there by them is run".to_owned()
    } else {
        "the conditions of the DO block are decided by the database as it was seen: what they allow is run"
            .into()
    };
    outcome.findings.push(info(
        statement,
        "DDL_CONDITION_DECIDED",
        what,
        "Nothing to do. If the database is changed by others between planning and running, plan again.",
    ));
    Some(outcome)
}

fn dissolved(statement: &Statement, scene: &Scene, sqls: &[String]) -> Option<Outcome> {
    let mut outcome = in_turn(statement, scene, RECIPE, sqls)?;
    if sqls.is_empty() {
        return Some(outcome);
    }
    outcome.findings.push(info(
        statement,
        "DDL_TRANSACTION_DISSOLVED",
        "the DO block is dissolved: each statement in it runs by itself, in this order, so that no lock is held over the next".into(),
        "Nothing to do. If the run stops in between, it is resumed there; what is done stays done.",
    ));
    Some(outcome)
}

fn whole(statement: &Statement, scene: &Scene, block: &Block) -> Option<Outcome> {
    let mut scene = scene.clone();
    let (mut locks, mut findings): (Vec<_>, Vec<Finding>) = (Vec::new(), Vec::new());
    for inside in &block.statements {
        let one = derived(statement, inside.sql.clone())?;
        if inside.in_loop && !only_new(&one, &scene) {
            return dark(statement, block::LOOP);
        }
        if reads_only(&one.tree) {
            continue;
        }
        let outcome = online(&one, &mut scene, 1);
        let as_it_is = match outcome.steps.as_slice() {
            [step] => step.sql == one.sql && step.transactional && !step.cost.scan && !step.cost.rewrite,
            _ => false,
        };
        if !as_it_is {
            let why = outcome
                .findings
                .iter()
                .find(|finding| finding.severity == crate::finding::Severity::Blocking);
            let why = why.map_or_else(
                || "online it is done in another way".to_owned(),
                |finding| finding.what.clone(),
            );
            return Outcome::finding(blocking(
                statement,
                "DDL_NO_RULE",
                format!(
                    "the DO block holds `{}`, which cannot run there beside readers and writers: {why}",
                    inside.sql
                ),
                "Take the statement out of the block, with IF NOT EXISTS where the form has it.",
            ));
        }
        locks.extend(outcome.steps.into_iter().flat_map(|step| step.cost.locks));
        findings.extend(outcome.findings);
    }
    let mut step = as_written(statement, RECIPE, "run a DO block".into(), Cost::brief(once(locks)));
    step.why = "every statement that may run in it only changes the catalog".into();
    Some(Outcome { steps: vec![step], findings })
}

/// A query without an effect.
fn reads_only(tree: &NodeEnum) -> bool {
    matches!(tree, NodeEnum::SelectStmt(select) if select.into_clause.is_none() && select.locking_clause.is_empty())
        && parse::function_names(tree).all(|name| block::is_harmless(&name))
}

#[cfg(test)]
mod tests {
    use crate::ddl::tests::{on_live, told};

    #[test]
    fn a_plain_list_is_dissolved() {
        assert_eq!(
            on_live("do $$ begin alter table t add column n int; execute 'create index i on t (n)'; end $$"),
            [
                "brief, ACCESS EXCLUSIVE t: alter table t add column n int",
                "concurrent, SHARE UPDATE EXCLUSIVE t: create index CONCURRENTLY i on t (n)",
                "info DDL_TRANSACTION_DISSOLVED",
            ]
        );
    }

    #[test]
    fn conditions_keep_it_whole_when_all_in_it_is_brief() {
        let sql = "do $$ begin if not exists (select from pg_type where typname = 'm2') then create type m2 as enum ('a'); end if; end $$";
        assert_eq!(on_live(sql), [format!("catalog, no lock: {sql}")]);
        let sql = "do $$ begin alter table t add column n int; exception when duplicate_column then raise notice 'there'; end $$";
        assert_eq!(on_live(sql), [format!("brief, ACCESS EXCLUSIVE t: {sql}")]);
    }

    #[test]
    fn what_would_build_or_cannot_be_told_is_refused() {
        assert_eq!(
            on_live("do $$ begin if current_user = 'a' then create index i on t (a); end if; end $$"),
            ["blocking DDL_NO_RULE"]
        );
        assert_eq!(on_live("do $$ begin execute 'drop table ' || 't'; end $$"), ["blocking DDL_OPAQUE"]);
        assert_eq!(on_live("do language plpython3u $$ pass $$"), ["blocking DDL_OPAQUE"]);
    }

    #[test]
    fn a_loop_over_new_tables_runs_as_it_is() {
        let turn = "do $$ declare r record; begin for r in select a from n loop update n set a = r.a + 1 where a = r.a; end loop; end $$";
        assert_eq!(
            on_live(&format!("create table n (a int); {turn}"))[1..],
            [format!("catalog, no lock: {turn}")]
        );
        let on_used = turn.replace("from n", "from t");
        assert_eq!(on_live(&format!("create table n (a int); {on_used}"))[1..], ["blocking DDL_OPAQUE"]);
        assert_eq!(on_live(&turn.replace(" n ", " t ")), ["blocking DDL_OPAQUE"]);
        let called = turn.replace("r.a + 1", "f(r.a)");
        assert_eq!(
            on_live(&format!("create table n (a int); {called}"))[1..],
            [format!("catalog, no lock: {called}")]
        );
    }

    /// A DO block with a constraint under a condition.
    fn guarded(condition: &str, then: &str) -> String {
        format!("do $$ begin if {condition} then {then}; end if; end $$")
    }

    const ADD: &str = "alter table t add constraint k foreign key (a) references r (id)";

    #[test]
    fn a_condition_that_the_catalog_decides_is_taken_away() {
        let added = [
            "brief, SHARE ROW EXCLUSIVE t + SHARE ROW EXCLUSIVE r: alter table t add constraint k foreign key (a) references r (id) NOT VALID",
            "validate, SHARE UPDATE EXCLUSIVE t + ROW SHARE r: alter table \"public\".\"t\" validate constraint \"k\"",
            "info DDL_TRANSACTION_DISSOLVED",
            "info DDL_CONDITION_DECIDED",
        ];
        for condition in [
            "not exists (select 1 from pg_constraint where conname = 'k')",
            "not exists (select from pg_catalog.pg_constraint c where c.conname = 'k' and conrelid = 'public.t'::regclass)",
            "not exists (select 1 from information_schema.table_constraints where table_name = 't' and constraint_name = 'k' and constraint_type = 'FOREIGN KEY' and table_schema = current_schema())",
            "exists (select 1 from information_schema.columns where table_name = 't' and column_name = 'a') and to_regclass('t_a') is not null",
            "exists (select 1 from pg_indexes where indexname = 't_a' and tablename = 't') or exists (select 1 from information_schema.tables where table_name = 'nowhere')",
        ] {
            assert_eq!(on_live(&guarded(condition, ADD)), added, "{condition}");
            let otherwise = guarded(&format!("not ({condition})"), ADD);
            assert_eq!(on_live(&otherwise), ["info DDL_CONDITION_DECIDED"], "{condition}");
        }
        let there = guarded(
            "not exists (select from pg_constraint where conname = 't_r_fk')",
            "alter table t add constraint t_r_fk check (a > 0)",
        );
        assert_eq!(on_live(&there), ["info DDL_CONDITION_DECIDED"]);
    }

    #[test]
    fn a_condition_is_looked_at_where_it_stands() {
        let twice = format!(
            "do $$ begin if not exists (select from pg_constraint where conname = 'k') then {ADD}; end if; if exists (select from pg_constraint where conname = 'k') then alter table t drop constraint k; else alter table t drop constraint t_r_fk; end if; end $$"
        );
        let told = on_live(&twice);
        assert!(told.iter().any(|line| line.ends_with(": alter table t drop constraint k")), "{told:#?}");
        assert!(!told.iter().any(|line| line.ends_with("drop constraint t_r_fk")), "{told:#?}");
        let made =
            format!("{ADD}; {}", guarded("not exists (select from pg_constraint where conname = 'k')", ADD));
        assert_eq!(
            on_live(&made).iter().filter(|line| line.starts_with("brief")).count(),
            1,
            "the plan made it before"
        );
    }

    #[test]
    fn an_exception_that_lets_a_duplicate_stand_is_a_condition() {
        let sql = |add: &str| {
            format!("do $$ begin {add}; exception when duplicate_object then raise notice 'there'; end $$")
        };
        assert_eq!(on_live(&sql(ADD)).last().unwrap(), "info DDL_CONDITION_DECIDED");
        assert_eq!(on_live(&sql(ADD)).len(), 4);
        let there = sql("alter table t add constraint t_r_fk foreign key (b) references r (id)");
        assert_eq!(on_live(&there), ["info DDL_CONDITION_DECIDED"]);
        let other = "do $$ begin alter table t add constraint k check (a > 0); exception when others then null; end $$";
        assert_eq!(on_live(other), ["blocking DDL_NO_RULE"]);
    }

    #[test]
    fn a_condition_that_only_the_server_can_tell_keeps_the_refusal() {
        for condition in [
            "(select count(*) from t) = 0",
            "not exists (select 1 from pg_constraint where conname like 'k%')",
            "not exists (select 1 from pg_constraint where conname = 'k' and convalidated)",
            "not exists (select 1 from t where a = 7)",
        ] {
            assert_eq!(on_live(&guarded(condition, ADD)), ["blocking DDL_NO_RULE"], "{condition}");
        }
        let offline =
            told(&guarded("not exists (select 1 from pg_constraint where conname = 'k')", ADD), None);
        assert_eq!(offline, ["blocking DDL_NO_RULE"]);
    }

    #[test]
    fn what_it_makes_is_known_after_it() {
        let told = on_live(
            "do $$ begin create type m2 as enum ('a'); exception when duplicate_object then null; end $$; alter table t add column m m2",
        );
        assert_eq!(told.last().unwrap(), "brief, ACCESS EXCLUSIVE t: alter table t add column m m2");
    }
}
