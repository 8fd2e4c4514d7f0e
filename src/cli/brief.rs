//! What most commands read first: the plan, its SQL files, and what contradicts itself in it.

use crate::ddl;
use crate::error::{Error, Kind, Result};
use crate::finding::{Finding, any_blocking};
use crate::journey::session::{Brief, stopped_by};
use crate::plan::{
    MigrationKind, Plan,
    load::{self, Loaded, SqlFile, SqlSource},
    validate,
    variables::UnsetVariable,
};
use std::path::{Path, PathBuf};

/// Which plan.
#[derive(Debug, Clone, clap::Args)]
pub struct PlanFile {
    /// The plan, a YAML file
    #[arg(value_name = "PLAN")]
    pub plan: PathBuf,
}

/// Reads a plan and its SQL files; findings of the plan alone come with it.
///
/// # Errors
/// [`Kind::Plan`] when a file cannot be read or does not parse, with the line and a caret.
pub fn read(path: &Path) -> Result<(Brief, Vec<Finding>)> {
    let loaded = load::load(path, &environment)?;
    let SqlSource { files: sql_files, after_copy, mut findings } = read_sql(&loaded)?;
    findings.extend(validate::validate(&loaded.plan));
    Ok((Brief { plan: loaded.plan, sql_files, after_copy, fingerprint: None }, findings))
}

/// A plan that is shown and not run; nothing that connects takes one.
pub struct Sketch {
    /// The plan; a value that nobody has is its own placeholder.
    pub plan: Plan,
    /// The files of `schema.sql`.
    pub sql_files: Vec<SqlFile>,
    /// The files of `schema.after_copy`.
    pub after_copy: Vec<SqlFile>,
    /// Of the plan alone, and a note for each variable that is not set.
    pub findings: Vec<Finding>,
    /// The variables that are not set.
    pub unset: Vec<UnsetVariable>,
}

/// As [`read`], without demanding the environment variables of those who run the plan.
///
/// # Errors
/// As [`read`].
pub fn sketch(path: &Path) -> Result<Sketch> {
    let load::Sketch { loaded, unset } = load::sketch(path, &environment)?;
    let SqlSource { files: sql_files, after_copy, mut findings } = read_sql(&loaded)?;
    findings.extend(validate::validate_sketch(&loaded.plan, &unset));
    Ok(Sketch { plan: loaded.plan, sql_files, after_copy, findings, unset })
}

fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn read_sql(loaded: &Loaded) -> Result<SqlSource> {
    let mut sql = load::load_sql(&loaded.plan, &loaded.base_dir)?;
    if let Some(error) = sql.files.iter().chain(&sql.after_copy).find_map(ddl::explain_error) {
        return Err(error);
    }
    for file in &sql.after_copy {
        sql.findings.extend(ddl::as_written::unfit(file)?);
    }
    Ok(sql)
}

/// As [`read`], refusing a plan that contradicts itself or asks for what is not built yet.
pub fn read_valid(path: &Path) -> Result<Brief> {
    let (brief, findings) = read(path)?;
    if any_blocking(&findings) {
        return Err(stopped_by(&findings));
    }
    Ok(brief)
}

/// As [`read_valid`], for a command that moves clients from blue to green.
///
/// # Errors
/// [`Kind::Request`] for a plan that is run in place.
pub fn read_blue_green(path: &Path, command: &str) -> Result<Brief> {
    let brief = read_valid(path)?;
    if brief.plan.kind == MigrationKind::InPlace {
        let what =
            format!("`migrate {command}` needs a green, and the plan `{}` is run in place", brief.plan.name);
        return Err(Error::new(Kind::Request, what)
            .hint("`migrate apply` runs it; `migrate status` and `migrate report` tell how far it is"));
    }
    Ok(brief)
}
