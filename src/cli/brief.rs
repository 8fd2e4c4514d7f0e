//! What most commands read first: the plan, its SQL files, and what contradicts itself in it.

use crate::error::Result;
use crate::finding::{Finding, any_blocking};
use crate::journey::session::{Brief, stopped_by};
use crate::plan::{load, validate};
use std::path::{Path, PathBuf};

/// Which plan.
#[derive(Debug, Clone, clap::Args)]
pub struct PlanFile {
    /// The plan, a YAML file
    #[arg(value_name = "PLAN")]
    pub plan: PathBuf,
}

/// Reads a plan and its SQL files; findings of the plan alone come with it.
pub fn read(path: &Path) -> Result<(Brief, Vec<Finding>)> {
    let loaded = load::load(path, &|name| std::env::var(name).ok())?;
    let findings = validate::validate(&loaded.plan);
    let sql_files = load::load_sql(&loaded.plan, &loaded.base_dir)?;
    Ok((Brief { plan: loaded.plan, sql_files, fingerprint: None }, findings))
}

/// As [`read`], refusing a plan that contradicts itself or asks for what is not built yet.
pub fn read_valid(path: &Path) -> Result<Brief> {
    let (brief, findings) = read(path)?;
    if any_blocking(&findings) {
        return Err(stopped_by(&findings));
    }
    Ok(brief)
}
