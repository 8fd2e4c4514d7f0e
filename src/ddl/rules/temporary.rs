//! Temporary tables, views and sequences: gone with their session, and each statement runs in one of its own.

use super::{Outcome, Rule, blocking};
use crate::ddl::{
    parse::{NodeEnum, node::RangeVar},
    scene::Scene,
    source::Statement,
};

/// `relpersistence` of what is temporary.
const TEMPORARY: &str = "t";

pub(super) const RULE: Rule = Rule {
    name: "temporary",
    about: "A temporary table is gone with the session that made it, and each statement runs in a session of its own, so it is refused.",
    manual: "sql-createtable.html",
    apply: rule,
};

fn rule(statement: &Statement, _: &Scene) -> Option<Outcome> {
    let range = made(&statement.tree)?;
    if range.relpersistence != TEMPORARY && range.schemaname != "pg_temp" {
        return None;
    }
    Outcome::finding(blocking(
        statement,
        "DDL_TEMPORARY",
        format!(
            "{} is gone with the session that made it, and each statement runs in a session of its own",
            range.relname
        ),
        "Make it an ordinary table (UNLOGGED will do), and drop it in the last statement that needs it.",
    ))
}

/// The relation a statement makes.
fn made(tree: &NodeEnum) -> Option<&RangeVar> {
    match tree {
        NodeEnum::CreateStmt(create) => create.relation.as_ref(),
        NodeEnum::CreateTableAsStmt(create) => create.into.as_ref()?.rel.as_ref(),
        NodeEnum::SelectStmt(select) => select.into_clause.as_ref()?.rel.as_ref(),
        NodeEnum::ViewStmt(view) => view.view.as_ref(),
        NodeEnum::CreateSeqStmt(create) => create.sequence.as_ref(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use crate::ddl::tests::on_live;

    #[test]
    fn what_is_temporary_is_refused() {
        for sql in [
            "create temp table n (a int)",
            "create temporary table n as select 1",
            "select 1 as a into temp n",
            "create temp view n as select 1",
            "create temp sequence n",
            "create table pg_temp.n (a int)",
        ] {
            assert_eq!(on_live(sql), ["blocking DDL_TEMPORARY"], "{sql}");
        }
        assert!(on_live("create unlogged table n (a int)")[0].starts_with("catalog"));
    }
}
