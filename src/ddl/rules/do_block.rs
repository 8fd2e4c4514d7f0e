//! DO: what is inside is judged statement by statement. A plain list of statements is dissolved into them; one with conditions
//! runs whole, if every statement in it may run as it is; what only running it would tell is refused.

use super::{
    Outcome, Rule, as_written, blocking,
    drop_table::once,
    expand::{derived, in_turn},
    info,
};
use crate::{
    ddl::{
        block::{self, Block},
        lock::Cost,
        online,
        parse::{self, NodeEnum},
        scene::Scene,
        source::Statement,
    },
    finding::Finding,
};

const RECIPE: &str = "do_block";

pub(super) const RULE: Rule = Rule {
    name: RECIPE,
    about: "What is inside a DO block is judged statement by statement: a plain list is dissolved, one with conditions runs whole if each part may, and what only running it would tell is refused.",
    manual: "sql-do.html",
    apply: rule,
};

fn rule(statement: &Statement, scene: &Scene) -> Option<Outcome> {
    let NodeEnum::DoStmt(_) = &statement.tree else { return None };
    let dark = |what: &str| {
        Outcome::finding(blocking(
            statement,
            "DDL_OPAQUE",
            format!("the DO block holds {what}"),
            "Write out the statements that it would run, one after the other.",
        ))
    };
    let Some(block) = block::read(&statement.sql) else { return dark("a language that cannot be read here") };
    if let Some(what) = &block.opaque {
        return dark(what);
    }
    if !block.has_variables && block.statements.iter().all(|inside| !inside.conditional) {
        return dissolved(statement, scene, &block);
    }
    whole(statement, scene, &block)
}

fn dissolved(statement: &Statement, scene: &Scene, block: &Block) -> Option<Outcome> {
    let sqls: Vec<String> = block.statements.iter().map(|inside| inside.sql.clone()).collect();
    let mut outcome = in_turn(statement, scene, RECIPE, &sqls)?;
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
    use crate::ddl::tests::on_live;

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
            on_live("do $$ begin if to_regclass('i') is null then create index i on t (a); end if; end $$"),
            ["blocking DDL_NO_RULE"]
        );
        assert_eq!(on_live("do $$ begin execute 'drop table ' || 't'; end $$"), ["blocking DDL_OPAQUE"]);
        assert_eq!(on_live("do language plpython3u $$ pass $$"), ["blocking DDL_OPAQUE"]);
    }

    #[test]
    fn what_it_makes_is_known_after_it() {
        let told = on_live(
            "do $$ begin create type m2 as enum ('a'); exception when duplicate_object then null; end $$; alter table t add column m m2",
        );
        assert_eq!(told.last().unwrap(), "brief, ACCESS EXCLUSIVE t: alter table t add column m m2");
    }
}
