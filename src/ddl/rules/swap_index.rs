//! DROP INDEX x … CREATE INDEX x: the new one is built under another name, the old one dropped, the name given back.
//!
//! As two statements there would be a time without the index, in which every query that needs it scans the table.

use super::{Outcome, as_written, create_index, drop_index, index_name};
use crate::{
    ddl::{
        Way,
        lock::{Cost, LockMode, LockRole, LockTaken},
        parse::NodeEnum,
        scene::Scene,
        source::Statement,
        statement::{Undo, Verify},
    },
    pg::name::{Ident, TableName},
};

const RECIPE: &str = "swap_index";

pub(in crate::ddl) const WAY: Way = Way {
    name: RECIPE,
    about: "An index that is dropped and made again under its name: the new one is built under another name, the old one dropped, the name given back.",
    manual: "sql-createindex.html",
};

/// Both statements at once; `None` when one of the two cannot be done that way, and each must speak for itself.
pub(in crate::ddl) fn rule(
    drop: &Statement,
    create: &Statement,
    index: &TableName,
    scene: &Scene,
) -> Option<Outcome> {
    let index = scene.resolve(index.schema.as_str(), index.name.as_str(), &create.search_path);
    let interim = Ident::new(index_name::with_suffix(index.name.as_str(), "__new"));
    let made = create_index::under_name(create, scene, &interim)?;
    let dropped = (super::drop_index::RULE.apply)(drop, scene)?;
    if made.steps.is_empty() || dropped.steps.is_empty() {
        let findings = made.findings.into_iter().chain(dropped.findings).collect();
        return Some(Outcome { steps: Vec::new(), findings });
    }
    let NodeEnum::IndexStmt(wanted) = &create.tree else { return None };
    let lock = LockTaken {
        relation: scene.range(wanted.relation.as_ref()?, &create.search_path),
        mode: LockMode::ShareUpdateExclusive,
        role: LockRole::Table,
    };
    let title = format!("rename index {} to {}", interim.as_str(), index.name.as_str());
    let from = TableName { schema: index.schema.clone(), name: interim.clone() };
    let mut rename = as_written(create, RECIPE, title, Cost::brief(vec![lock]));
    rename.sql = format!("alter index {from} rename to {}", index.name);
    rename.why = "gives the new index the old one's name".into();
    rename.verify = Verify::IndexRenamed { from: from.clone(), to: index.clone() };
    rename.undo = Some(Undo::Brief { sql: format!("alter index {index} rename to {interim}") });
    let mut steps = made.steps;
    steps.extend(dropped.steps);
    steps.push(rename);
    for step in &mut steps {
        step.recipe = RECIPE.into();
        step.from = vec![drop.place.clone(), create.place.clone()];
    }
    let findings = made.findings.into_iter().chain(dropped.findings).collect();
    Some(Outcome { steps, findings })
}

/// The index a DROP names, when it names one and does not cascade.
pub(in crate::ddl) fn dropped(statement: &Statement) -> Option<(String, String)> {
    use crate::ddl::parse::node::DropBehavior;
    let drop = drop_index::of(statement)?;
    let [name] = crate::ddl::scene::dropped_names(drop).try_into().ok()?;
    (drop.behavior() != DropBehavior::DropCascade).then_some(name)
}

#[cfg(test)]
mod tests {
    use crate::ddl::tests::{on_live, told};

    const SWAPPED: [&str; 3] = [
        "concurrent, SHARE UPDATE EXCLUSIVE t: create index CONCURRENTLY \"t_a__new\" on t (a, b)",
        "concurrent, SHARE UPDATE EXCLUSIVE t: drop index CONCURRENTLY t_a",
        "brief, SHARE UPDATE EXCLUSIVE t: alter index \"public\".\"t_a__new\" rename to \"t_a\"",
    ];

    #[test]
    fn the_new_one_is_built_before_the_old_one_goes() {
        let told = on_live("drop index t_a; create index t_a on t (a, b)");
        assert_eq!(told[..2], SWAPPED[..2]);
        assert!(told[2].ends_with(SWAPPED[2].split_once(": ").unwrap().1), "{told:?}");
    }

    #[test]
    fn statements_between_that_do_not_need_the_gap_keep_their_place() {
        let told = on_live(
            "begin; drop index t_a; alter table t add column n int; drop index t_uq; create index t_a on t (a, b); commit",
        );
        assert!(told[0].contains("add column n"), "{told:?}");
        assert!(told[1].contains("drop index CONCURRENTLY t_uq"), "{told:?}");
        assert!(told[2].contains("t_a__new"), "{told:?}");
        assert_eq!(told.len(), 6);
    }

    #[test]
    fn a_change_of_rows_between_keeps_the_gap_and_says_so() {
        let told = told(
            "drop index u; insert into n values (1); update t set a = 1; create unique index u on t (a)",
            None,
        );
        assert!(told.contains(&"warning DDL_INDEX_GAP".to_owned()), "{told:?}");
    }

    #[test]
    fn a_partitioned_index_is_swapped_as_a_whole() {
        let told = on_live("drop index p_a; create index p_a on p (b)");
        assert!(told[0].contains("\"p_a__new\" on ONLY p"), "{told:?}");
        assert!(told[told.len() - 2].ends_with(": drop index p_a"), "{told:?}");
        assert!(told[told.len() - 1].contains("rename to \"p_a\""), "{told:?}");
    }

    #[test]
    fn across_files_too() {
        use crate::ddl::{SqlFile, rewrite};
        let files =
            [SqlFile::new("1.sql", "drop index t_a;"), SqlFile::new("2.sql", "create index t_a on t (b);")];
        let result = rewrite(&files, Some(&crate::ddl::tests::live()));
        assert_eq!(result.statements.len(), 3);
        let places: Vec<String> = result.statements[0].from.iter().map(ToString::to_string).collect();
        assert_eq!(places, ["1.sql:1:1", "2.sql:1:1"]);
    }
}
