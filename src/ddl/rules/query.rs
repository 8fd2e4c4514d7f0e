//! A query whose functions have no effect: it is run as it is written, and nobody waits for it.

use super::{Outcome, Rule, as_written, create_object::reads};
use crate::{
    ddl::{
        lock::Cost,
        parse::{self, NodeEnum},
        scene::Scene,
        source::Statement,
        volatility,
    },
    pg::name::TableName,
};

const RECIPE: &str = "query";

pub(super) const RULE: Rule = Rule {
    name: RECIPE,
    about: "A query that calls only functions without an effect is run as it is written: it waits for nobody, and nobody for it.",
    manual: "sql-select.html",
    apply: rule,
};

fn rule(statement: &Statement, scene: &Scene) -> Option<Outcome> {
    let NodeEnum::SelectStmt(select) = &statement.tree else { return None };
    let is_plain = select.into_clause.is_none()
        && !parse::locks_rows(&statement.tree)
        && parse::written(&statement.tree).is_empty();
    if !is_plain || unknown_function(statement, scene).is_some() {
        return None;
    }
    let locks = reads(statement, scene, &TableName::new("", ""));
    let mut step = as_written(statement, RECIPE, "run a query".into(), Cost::brief(locks));
    step.why = "it reads and changes nothing".into();
    Outcome::step(step)
}

/// The first function it calls that may have an effect.
pub(super) fn unknown_function(statement: &Statement, scene: &Scene) -> Option<String> {
    let called = parse::functions(&statement.tree);
    let path = &statement.search_path;
    called.into_iter().find(|name| !volatility::has_no_effect(name, scene, path)).map(|name| name.join("."))
}

#[cfg(test)]
mod tests {
    use crate::ddl::tests::on_live;

    #[test]
    fn what_only_reads_runs() {
        assert_eq!(on_live("select 1"), ["catalog, no lock: select 1"]);
        assert_eq!(
            on_live("select count(*), lower('A') from t where a > 0"),
            ["catalog, ACCESS SHARE t: select count(*), lower('A') from t where a > 0"]
        );
        assert_eq!(on_live("values (1)"), ["catalog, no lock: values (1)"]);
    }

    #[test]
    fn what_may_have_an_effect_does_not() {
        for sql in [
            "select f(1)",
            "select pg_terminate_backend(1)",
            "select nextval('sq')",
            "select lo_unlink(1)",
            "select 1 from t for update",
            "with x as (delete from t returning a) select * from x",
        ] {
            assert_eq!(on_live(sql), ["blocking DDL_NO_RULE"], "{sql}");
        }
    }
}
