//! The story of a migration in place: the plan's SQL as it runs online, and the views for clients that do not know it yet.

use crate::ddl::{self, Rewritten, compat};
use crate::facts::ServerFacts;
use crate::plan::{Compat, Plan, load::SqlFile};

/// Rewrites a plan's SQL for the database as it was seen; `None` when nobody looked.
pub fn rewrite(plan: &Plan, files: &[SqlFile], live: Option<&ServerFacts>) -> Rewritten {
    let mut rewritten = ddl::rewrite(files, live);
    if plan.schema.compat == Compat::Views {
        compat::add(&mut rewritten, &plan.name, files, live);
    }
    rewritten
}
