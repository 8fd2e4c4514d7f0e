//! `migrate plan DIR` and `migrate plan FILE.sql`: migrations without a plan file.

use crate::ddl::directory::{Migrations, Tool};
use crate::error::{Error, Kind, Result};
use crate::finding::{Finding, Place, Severity};
use crate::plan::{Plan, load, sql_files};
use std::path::Path;

/// Whether a path names migrations, and not a plan.
pub fn is_migrations(path: &Path) -> bool {
    path.is_dir() || path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("sql"))
}

/// What is asked of a directory or a file of migrations.
#[derive(Debug, clap::Args)]
pub struct DirectoryArgs {
    /// The database the migrations are for; a password comes from PGPASSWORD or the password file
    #[arg(long, value_name = "URL", conflicts_with_all = ["offline", "facts"])]
    blue: Option<String>,
    /// Whose migrations they are, where their names do not say
    #[arg(long, value_enum)]
    tool: Option<ToolWord>,
    /// The version of the last migration that has been run; only those after it are shown
    #[arg(long, value_name = "VERSION")]
    after: Option<String>,
}

/// A tool's name on the command line.
#[derive(Debug, Clone, Copy)]
struct ToolWord(Tool);

impl clap::ValueEnum for ToolWord {
    fn value_variants<'a>() -> &'a [Self] {
        const ALL: [ToolWord; Tool::ALL.len()] = {
            let mut all = [ToolWord(Tool::Plain); Tool::ALL.len()];
            let mut at = 0;
            while at < all.len() {
                all[at] = ToolWord(Tool::ALL[at]);
                at += 1;
            }
            all
        };
        &ALL
    }

    fn to_possible_value(&self) -> Option<clap::builder::PossibleValue> {
        Some(clap::builder::PossibleValue::new(self.0.word()))
    }
}

/// Migrations, and the plan they would have.
pub struct AsPlan {
    /// A plan in place that names only the database.
    pub plan: Plan,
    /// What has not been run, in order, as far as the operator said.
    pub migrations: Migrations,
    /// No database was named.
    pub offline: bool,
    /// Whether the tool's own record says what has been run.
    pub asks_record: bool,
}

impl DirectoryArgs {
    /// Refuses what means nothing for a plan file.
    ///
    /// # Errors
    /// [`Kind::Request`] naming the option.
    pub fn refuse_for_file(&self) -> Result<()> {
        let given = [
            ("--blue", self.blue.is_some()),
            ("--tool", self.tool.is_some()),
            ("--after", self.after.is_some()),
        ];
        match given.iter().find(|(_, given)| *given) {
            Some((option, _)) => Err(Error::new(
                Kind::Request,
                format!("{option} is for a directory or a file of migrations, not for a plan file"),
            )
            .hint("a plan file names its databases and its SQL itself")),
            None => Ok(()),
        }
    }

    /// Reads a directory or a file. A file alone is what is to run, also where a record says that it was.
    ///
    /// # Errors
    /// As [`sql_files::load_directory`] and [`sql_files::load_file`]; [`Kind::Request`] when `--after` names no version.
    pub fn read(&self, path: &Path, offline: bool) -> Result<AsPlan> {
        let shown = path.display().to_string();
        let tool = self.tool.map(|word| word.0);
        let is_directory = path.is_dir();
        let mut migrations = match is_directory {
            true => sql_files::load_directory(path, shown.trim_end_matches('/'), tool)?,
            false => sql_files::load_file(path, tool)?,
        };
        if let Some(after) = &self.after {
            migrations.keep_after(after)?;
        }
        let url = match (&self.blue, offline) {
            (Some(url), _) => Some(url.clone()),
            (None, true) => None,
            (None, false) => std::env::var("DATABASE_URL").ok().filter(|url| !url.is_empty()),
        };
        let offline = url.is_none();
        if is_directory && self.after.is_none() && offline && migrations.tool != Tool::Plain {
            let warning = from_the_first(&migrations);
            migrations.remark(warning);
        }
        let plan = plan_for(path, url)?;
        Ok(AsPlan {
            plan,
            migrations,
            offline,
            asks_record: is_directory && !offline && self.after.is_none(),
        })
    }
}

fn from_the_first(migrations: &Migrations) -> Finding {
    Finding {
        code: "DDL_FROM_THE_FIRST".into(),
        severity: Severity::Warning,
        place: Place::Outside { object: migrations.name.clone() },
        what: "planned from the first migration, as on an empty database: what these files make is taken as not in use yet".into(),
        help: "To judge only what has not been run, give --after VERSION, or name the database with --blue.".into(),
    }
}

/// A plan in place that names nothing but the database.
fn plan_for(path: &Path, url: Option<String>) -> Result<Plan> {
    let name: String = path
        .canonicalize()
        .ok()
        .and_then(|path| path.file_name().map(|name| name.to_string_lossy().into_owned()))
        .unwrap_or_default()
        .to_ascii_lowercase()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    let name = name.trim_matches('-').chars().take(30).collect::<String>();
    let name =
        if name.starts_with(|c: char| c.is_ascii_lowercase()) { name } else { "migrations".to_owned() };
    let text = format!(
        "version: 1\nname: {name}\nkind: in_place\nblue: {{ url: \"${{URL}}\" }}\nreplicate: {{ tables: {{ include: [\"*.*\"] }} }}\n"
    );
    load::parse(&text, "the plan of the migrations", &|_| Some(url.clone().unwrap_or_default()))
}
