//! Directories of migration files, each read as the tool that owns it would read it.
//!
//! A [`Listing`] is what is in the directory; [`read`] finds out whose it is (or is told), and gives the files that would
//! run, in the tool's order, with the tool's transactions. What is left out (files that undo, other databases' files) is
//! said, never skipped. One tool a file; nothing here touches a disk.

mod choose;
mod dbmate;
mod diesel;
mod flyway;
mod golang_migrate;
mod goose;
mod left_out;
mod name;
mod order;
mod plain;
mod popx;
mod prisma;
mod sections;
mod sql_migrate;
mod sqlx;
mod tool;
mod version;

use super::{encoding, source::SqlFile};
use crate::{
    error::{Error, Kind, Result},
    finding::{Finding, Place, Severity},
};
use left_out::LeftOut;

pub use tool::{Convention, RunAs, Tool};
pub use version::Version;

/// A file below a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its path from the directory, with `/`.
    pub path: String,
    /// What is in it.
    pub bytes: Vec<u8>,
}

/// What is in a directory, sorted by path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// The directory, as the operator named it.
    pub name: String,
    /// Its files, those of directories below included.
    pub entries: Vec<Entry>,
}

/// One migration of a directory.
#[derive(Debug, Clone)]
pub struct Migration {
    /// Its version.
    pub version: Version,
    /// What of it runs; positions are those of the file on disk.
    pub file: SqlFile,
}

/// A directory as its tool reads it.
#[derive(Debug, Clone)]
pub struct Migrations {
    /// The directory, as the operator named it.
    pub name: String,
    /// Whose it is.
    pub tool: Tool,
    /// In the order they run.
    pub list: Vec<Migration>,
    /// What the operator should know of how it was read.
    findings: Vec<Finding>,
    /// Migrations that are programs, each with what stops the plan because of it.
    programs: Vec<(Version, Finding)>,
}

/// What the tool wrote down as run on a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Applied {
    /// Every version up to this one; `None`: none yet.
    UpTo(Option<String>),
    /// These.
    Each(Vec<String>),
}

/// What a tool's reader makes of a listing, before it is ordered.
#[derive(Debug, Default)]
struct Draft {
    list: Vec<Migration>,
    left_out: LeftOut,
    programs: Vec<(Version, Finding)>,
}

/// Reads a directory as `tool` would, or as the one tool whose directory it looks like.
///
/// # Errors
/// [`Kind::Plan`] when it could be two tools' and they would not run the same, when two files have one version, when a
/// file's name or sections are not what the tool expects, and when nothing in it runs.
pub fn read(listing: &Listing, tool: Option<Tool>) -> Result<Migrations> {
    match tool {
        Some(tool) => read_as(listing, tool),
        None => choose::choose(listing),
    }
}

fn read_as(listing: &Listing, tool: Tool) -> Result<Migrations> {
    let draft = match tool {
        Tool::Plain => plain::read(listing),
        Tool::GolangMigrate => golang_migrate::read(listing),
        Tool::Goose => goose::read(listing),
        Tool::Sqlx => sqlx::read(listing),
        Tool::Diesel => diesel::read(listing),
        Tool::Flyway => flyway::read(listing),
        Tool::Popx => popx::read(listing),
        Tool::Prisma => prisma::read(listing),
        Tool::Dbmate => dbmate::read(listing),
        Tool::SqlMigrate => sql_migrate::read(listing),
    }?;
    let mut list = draft.list;
    if list.is_empty() {
        return Err(nothing_runs(listing, tool, &draft.left_out));
    }
    list.sort_by(|a, b| (&a.version, &a.file.name).cmp(&(&b.version, &b.file.name)));
    let mut findings = vec![read_as_finding(listing, tool, list.len())];
    // Names are versions there, and the file system keeps them apart.
    if tool != Tool::Plain {
        order::refuse_duplicates(&list, tool)?;
        findings.extend(order::gaps(&list));
    }
    findings.extend(draft.left_out.findings(listing, tool));
    Ok(Migrations { name: listing.name.clone(), tool, list, findings, programs: draft.programs })
}

/// What a directory without SQL may hold instead, by the endings of its files.
const LANGUAGES: &[(&str, &str)] = &[
    ("py", "Python"),
    ("rb", "Ruby"),
    ("js", "JavaScript"),
    ("ts", "TypeScript"),
    ("java", "Java"),
    ("go", "Go"),
    ("xml", "XML"),
];

fn nothing_runs(listing: &Listing, tool: Tool, left_out: &LeftOut) -> Error {
    let what = match left_out.first_reason() {
        Some(reason) => format!("{}: nothing in it would be run by {tool}; {reason}", listing.name),
        None => format!("{}: there is no SQL in this directory", listing.name),
    };
    let ends_with = |ending| listing.entries.iter().any(|entry| entry.ending() == ending);
    let found = LANGUAGES.iter().find(|(ending, _)| ends_with(*ending));
    Error::new(Kind::Plan, what).hint(match found {
        Some((_, language)) => format!(
            "let the tool that runs this {language} write its SQL into files (sqlmigrate, --sql, --dry-run), and name those"
        ),
        None => format!("migrations of {tool} are named {}; --tool names another tool", tool.pattern()),
    })
}

/// How it was read, so that a wrong guess is seen.
fn read_as_finding(listing: &Listing, tool: Tool, count: usize) -> Finding {
    let transactions = match tool {
        Tool::Plain => "",
        _ => {
            "; its transactions are dissolved: each statement runs by itself, so that no lock is held over the next"
        }
    };
    let files = if count == 1 { "file" } else { "files" };
    let what = format!("{count} {files}, read as {tool} runs them{transactions}");
    listing.finding(Severity::Info, "DDL_DIRECTORY", what, "If they are another tool's, name it with --tool.")
}

impl Migrations {
    /// Leaves out what has been run already: every version up to this one.
    ///
    /// # Errors
    /// [`Kind::Request`] when no migration has that version.
    pub fn keep_after(&mut self, written: &str) -> Result<()> {
        let mut versions =
            self.list.iter().map(|one| &one.version).chain(self.programs.iter().map(|(version, _)| version));
        let wanted = versions.find_map(|one| one.alike(written).filter(|version| version == one));
        let Some(wanted) = wanted else {
            let newest = self.list.iter().rfind(|one| !one.version.is_repeatable());
            let newest = newest.map_or_else(String::new, |one| format!("; the newest is {}", one.version));
            return Err(Error::new(
                Kind::Request,
                format!("{}: no migration has the version {written}", self.name),
            )
            .hint(format!("give the version of the last migration that has been run{newest}")));
        };
        self.list.retain(|one| one.version > wanted);
        self.programs.retain(|(version, _)| *version > wanted);
        Ok(())
    }

    /// Leaves out what the tool's own record on a database says was run; repeatable migrations stay.
    pub fn keep_unapplied(&mut self, applied: &Applied) {
        let total = self.list.len();
        let was_run = |version: &Version| match applied {
            Applied::UpTo(None) => false,
            Applied::UpTo(Some(last)) => version.alike(last).is_some_and(|last| *version <= last),
            Applied::Each(each) => {
                each.iter().any(|one| version.alike(one).is_some_and(|one| one == *version))
            }
        };
        self.list.retain(|one| !was_run(&one.version));
        self.programs.retain(|(version, _)| !was_run(version));
        let place = Place::Outside { object: self.name.clone() };
        let what = format!(
            "{} of {total} migrations have been run, as {}'s own record on the database says",
            total - self.list.len(),
            self.tool
        );
        let (code, help) = ("DDL_APPLIED".to_owned(), "Nothing to do.".to_owned());
        self.findings.push(Finding { code, severity: Severity::Info, place, what, help });
    }

    /// Adds what the caller found out about it.
    pub fn remark(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    /// The files, in order, and what is to be known of them.
    pub fn into_parts(self) -> (Vec<SqlFile>, Vec<Finding>) {
        let files: Vec<SqlFile> = self.list.into_iter().map(|one| one.file).collect();
        let mut findings = self.findings;
        findings.extend(self.programs.into_iter().map(|(_, finding)| finding));
        // Of a file that was run already, nothing is to be known any more.
        findings.retain(|finding| match &finding.place {
            Place::Sql { file, .. } => files.iter().any(|one| one.name == *file),
            _ => true,
        });
        (files, findings)
    }
}

impl Listing {
    /// The path of an entry as the operator would name it.
    fn full(&self, path: &str) -> String {
        match self.name.trim_end_matches('/') {
            "." => path.to_owned(),
            name => format!("{name}/{path}"),
        }
    }

    /// Entries right in the directory whose names end in `.sql`.
    fn top_sql(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| entry.is_sql() && entry.directory().is_none())
    }

    /// An entry by its path.
    fn entry(&self, path: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.path == path)
    }

    /// An entry as a file of SQL, all of which runs.
    fn file(&self, entry: &Entry, tool: Tool, run_as: RunAs) -> Result<SqlFile> {
        let name = self.full(&entry.path);
        let text = encoding::text(&name, entry.bytes.clone())?;
        Ok(SqlFile { name, text, convention: Convention { tool, run_as } })
    }

    /// What is said about the directory itself.
    fn finding(&self, severity: Severity, code: &str, what: String, help: impl Into<String>) -> Finding {
        let place = Place::Outside { object: self.name.clone() };
        Finding { code: code.to_owned(), severity, place, what, help: help.into() }
    }
}

impl Entry {
    /// Its name without directories.
    fn name(&self) -> &str {
        self.path.rsplit_once('/').map_or(self.path.as_str(), |(_, name)| name)
    }

    /// The directories it is in; `None` for an entry right in the listed one.
    fn directory(&self) -> Option<&str> {
        self.path.rsplit_once('/').map(|(directory, _)| directory)
    }

    fn ending(&self) -> &str {
        self.name().rsplit_once('.').map_or("", |(_, ending)| ending)
    }

    fn is_sql(&self) -> bool {
        self.ending() == "sql"
    }

    /// Whether any of its lines begins so; bytes that are no text are no such line.
    fn has_line(&self, beginning: &str) -> bool {
        let text = self.bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&self.bytes);
        text.split(|byte| *byte == b'\n').any(|line| line.starts_with(beginning.as_bytes()))
    }
}

#[cfg(test)]
mod tests;
