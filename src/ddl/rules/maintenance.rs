//! VACUUM and ANALYZE run beside readers and writers; VACUUM FULL and CLUSTER have no online form.

use super::{Outcome, Rule, as_written, concurrently, unknown_relation};
use crate::ddl::{
    lock::{Cost, LockMode, LockRole, LockTaken},
    parse::{NodeEnum, node::Node},
    scene::{Known, Scene},
    source::Statement,
    statement::{Class, Undo, Verify},
};

const RECIPE: &str = "maintenance";

pub(super) const RULE: Rule = Rule {
    name: RECIPE,
    about: "VACUUM and ANALYZE run beside readers and writers; VACUUM FULL and CLUSTER have no online form.",
    manual: "sql-vacuum.html",
    apply: rule,
};

fn rule(statement: &Statement, scene: &Scene) -> Option<Outcome> {
    let NodeEnum::VacuumStmt(vacuum) = &statement.tree else { return None };
    if has_option(&vacuum.options, "full") {
        return None;
    }
    let mut locks = Vec::new();
    for item in &vacuum.rels {
        let Some(NodeEnum::VacuumRelation(one)) = &item.node else { return None };
        let relation = scene.range(one.relation.as_ref()?, &statement.search_path);
        match scene.relation(&relation) {
            Known::New => continue,
            Known::Missing => return Outcome::finding(unknown_relation(statement, &relation)),
            _ => {}
        }
        let mode = LockMode::ShareUpdateExclusive;
        let parts = scene.all_partitions(&relation);
        locks.push(LockTaken { relation, mode, role: LockRole::Target });
        locks.extend(parts.iter().map(|part| LockTaken {
            relation: part.name.clone(),
            mode,
            role: LockRole::Partition,
        }));
    }
    let verb = if vacuum.is_vacuumcmd { "vacuum" } else { "analyze" };
    let cost = Cost { scan: true, ..Cost::brief(locks) };
    let mut step = as_written(statement, RECIPE, title(verb, &cost), cost);
    step.class = Class::Validate;
    step.why = "reads the rows beside readers and writers".into();
    step.undo = Some(Undo::Nothing);
    if vacuum.is_vacuumcmd {
        step = concurrently(step, statement.sql.clone(), Verify::Ran);
    }
    Outcome::step(step)
}

fn title(verb: &str, cost: &Cost) -> String {
    let tables: Vec<String> = cost.locks.iter().map(|lock| lock.relation.plain()).collect();
    if tables.is_empty() { format!("{verb} all tables") } else { format!("{verb} {}", tables.join(", ")) }
}

/// Whether a list of options has one that is not turned off.
pub(super) fn has_option(options: &[Node], name: &str) -> bool {
    options.iter().any(|option| match &option.node {
        Some(NodeEnum::DefElem(option)) if option.defname == name => {
            // `full`, `full true`, `full 1`; only a plain no turns it off.
            match option.arg.as_ref().and_then(|value| value.node.as_ref()) {
                Some(NodeEnum::String(value)) => {
                    !["false", "off"].iter().any(|no| value.sval.eq_ignore_ascii_case(no))
                }
                Some(NodeEnum::Integer(value)) => value.ival != 0,
                _ => true,
            }
        }
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use crate::ddl::tests::on_live;

    #[test]
    fn vacuum_and_analyze_run_beside_the_others() {
        assert_eq!(
            on_live("vacuum (analyze) t"),
            ["concurrent, SHARE UPDATE EXCLUSIVE t: vacuum (analyze) t"]
        );
        assert_eq!(on_live("analyze t (a)"), ["validate, SHARE UPDATE EXCLUSIVE t: analyze t (a)"]);
        for off in ["false", "off", "0"] {
            assert!(on_live(&format!("vacuum (full {off}) t"))[0].starts_with("concurrent"), "{off}");
        }
        assert_eq!(on_live("analyze nowhere"), ["blocking DDL_UNKNOWN_RELATION"]);
    }

    #[test]
    fn what_rewrites_is_refused() {
        for sql in ["vacuum full t", "vacuum (full, analyze) t", "cluster t using t_a", "cluster"] {
            assert_eq!(on_live(sql), ["blocking DDL_NO_RULE"], "{sql}");
        }
    }
}
