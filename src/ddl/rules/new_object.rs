//! Statements on what an earlier statement of the same plan made: nobody uses it yet, so they run as they are.

use super::{Outcome, Rule, as_written};
use crate::ddl::{
    lock::Cost,
    parse::{self, NodeEnum, node::ObjectType},
    scene::{self, Known, Scene},
    source::Statement,
};

const RECIPE: &str = "new_object";

pub(super) const RULE: Rule = Rule {
    name: RECIPE,
    about: "What an earlier statement of the same plan made is nobody's yet, so it is changed as it is written.",
    manual: "sql-commands.html",
    apply: rule,
};

fn rule(statement: &Statement, scene: &Scene) -> Option<Outcome> {
    let is_new = |(schema, name): &(String, String)| {
        let relation = scene.resolve(schema, name, &statement.search_path);
        matches!(scene.relation(&relation), Known::New) || scene.is_new_index(&relation)
    };
    let (verb, names) = match &statement.tree {
        NodeEnum::IndexStmt(index) => {
            (if index.concurrent { return None } else { "create index on" }, relations(statement))
        }
        NodeEnum::AlterTableStmt(_) => ("alter", relations(statement)),
        NodeEnum::RenameStmt(_) => ("rename", relations(statement)),
        NodeEnum::InsertStmt(_) => ("insert into", relations(statement)),
        NodeEnum::UpdateStmt(_) => ("update", relations(statement)),
        NodeEnum::DeleteStmt(_) => ("delete from", relations(statement)),
        NodeEnum::TruncateStmt(_) => ("truncate", relations(statement)),
        NodeEnum::CreateTrigStmt(_) => ("create trigger on", relations(statement)),
        NodeEnum::AlterSeqStmt(_) => ("alter sequence", relations(statement)),
        NodeEnum::DropStmt(drop)
            if !drop.concurrent
                && matches!(drop.remove_type(), ObjectType::ObjectTable | ObjectType::ObjectIndex) =>
        {
            ("drop", scene::dropped_names(drop))
        }
        _ => return None,
    };
    if names.is_empty() || !names.iter().all(is_new) {
        return None;
    }
    let title = format!("{verb} new {}", names[0].1);
    let mut step = as_written(statement, RECIPE, title, Cost::default());
    step.why = "made earlier in these files, so nobody uses it yet".into();
    Outcome::step(step)
}

fn relations(statement: &Statement) -> Vec<(String, String)> {
    parse::relations(&statement.tree)
}
