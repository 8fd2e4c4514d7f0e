//! Reads SQL from the disk: the files a plan names, and whole directories of migrations.

use super::{Plan, load, types::glob};
use crate::{
    ddl::{
        SqlFile,
        directory::{self, Entry, Listing, Migrations, Tool},
        encoding,
    },
    error::{Doing, Error, Kind, Result},
    finding::Finding,
};
use std::{fs, io, path::Path};

/// The largest SQL file we read, in bytes.
const SQL_BYTES_MAX: u64 = 64 << 20;
/// The most a directory may hold, in bytes and files, and how deep it may go: a wrong path must not fill memory.
const DIRECTORY_BYTES_MAX: u64 = 512 << 20;
const DIRECTORY_FILES_MAX: usize = 20_000;
const DIRECTORY_DEPTH_MAX: usize = 8;

/// Files that say something to a tool besides its SQL: settings, and migrations that are programs. Only the former are read.
const SETTINGS: &[&str] = &["toml", "conf"];

/// The SQL of a plan.
#[derive(Debug, Default)]
pub struct SqlSource {
    /// Those of `schema.sql`, in the order they run.
    pub files: Vec<SqlFile>,
    /// Those of `schema.after_copy`, in the order they run.
    pub after_copy: Vec<SqlFile>,
    /// What is to be known of how directories were read.
    pub findings: Vec<Finding>,
}

/// Reads the plan's SQL, in the plan's order; a `*` in a path gives its matches in name order, and a directory what the tool
/// that owns it would run.
///
/// # Errors
/// [`Kind::Plan`] when a file is missing, a pattern matches nothing, a file is named twice, or is not UTF-8, and as
/// [`directory::read`].
pub fn load_sql(plan: &Plan, base_dir: &Path) -> Result<SqlSource> {
    let mut source = SqlSource::default();
    let lists = [("schema.sql", &plan.schema.sql), ("schema.after_copy", &plan.schema.after_copy)];
    for (list, patterns) in lists {
        let mut files = Vec::new();
        for (at, pattern) in patterns.iter().enumerate() {
            let field = format!("{list}[{at}]");
            let (found, findings) = load_pattern(base_dir, &field, pattern)?;
            source.findings.extend(findings);
            for file in found {
                if source.files.iter().chain(&files).any(|other| other.name == file.name) {
                    return Err(Error::new(
                        Kind::Plan,
                        format!("`{field}`: {} is already in the list", file.name),
                    )
                    .hint(format!("a file is run once; make the patterns of `{list}` not overlap")));
                }
                files.push(file);
            }
        }
        match list {
            "schema.sql" => source.files = files,
            _ => source.after_copy = files,
        }
    }
    Ok(source)
}

/// The files of one pattern, and what is to be known of how directories were read.
fn load_pattern(base_dir: &Path, field: &str, pattern: &str) -> Result<(Vec<SqlFile>, Vec<Finding>)> {
    let names = matches(base_dir, pattern)
        .doing(Kind::Plan, || format!("`{field}`: cannot look for `{pattern}` in {}", base_dir.display()))?;
    if names.is_empty() {
        return Err(Error::new(
            Kind::Plan,
            format!("`{field}`: nothing matches `{pattern}` in {}", base_dir.display()),
        )
        .hint("paths of a plan are relative to the plan's own directory"));
    }
    let (mut files, mut findings) = (Vec::new(), Vec::new());
    for name in names {
        let path = base_dir.join(&name);
        if path.is_dir() {
            let (of_directory, of_reading) = load_directory(&path, &name, None)?.into_parts();
            files.extend(of_directory);
            findings.extend(of_reading);
        } else {
            let bytes = load::read_bytes(&path, SQL_BYTES_MAX, "SQL file")?;
            files.push(SqlFile::new(name.clone(), encoding::text(&path.display().to_string(), bytes)?));
        }
    }
    Ok((files, findings))
}

/// Reads a directory of migrations; `name` stands for it in messages. With no `tool`, its shape says whose it is.
///
/// # Errors
/// [`Kind::Plan`] when it cannot be read or holds more than a directory of migrations does, and as [`directory::read`].
pub fn load_directory(path: &Path, name: &str, tool: Option<Tool>) -> Result<Migrations> {
    let mut walk = Walk { root: path, bytes: 0, entries: Vec::new() };
    walk.below("", 0)?;
    let mut entries = walk.entries;
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    directory::read(&Listing { name: name.to_owned(), entries }, tool)
}

/// Reads one SQL file of the tool whose directory it would be in; where it would run nothing of it, or its name alone does not
/// say whose it is, as plain SQL.
///
/// # Errors
/// [`Kind::Plan`] when it cannot be read, and as [`directory::read`] with a `tool`.
pub fn load_file(path: &Path, tool: Option<Tool>) -> Result<Migrations> {
    let bytes = load::read_bytes(path, SQL_BYTES_MAX, "SQL file")?;
    let name = match path.parent() {
        Some(parent) if parent != Path::new("") => parent.display().to_string(),
        _ => ".".to_owned(),
    };
    let own = path.file_name().map(|own| own.to_string_lossy().into_owned()).unwrap_or_default();
    let listing = Listing { name, entries: vec![Entry { path: own, bytes }] };
    match tool {
        Some(tool) => directory::read(&listing, Some(tool)),
        None => directory::read(&listing, None).or_else(|_| directory::read(&listing, Some(Tool::Plain))),
    }
}

/// A walk through a directory.
struct Walk<'a> {
    root: &'a Path,
    bytes: u64,
    entries: Vec<Entry>,
}

impl Walk<'_> {
    /// Takes up everything below; names that begin with a dot are not a tool's.
    fn below(&mut self, below: &str, depth: usize) -> Result<()> {
        let directory = self.root.join(below);
        let shown = directory.display().to_string();
        let unreadable = || format!("{shown}: the directory cannot be read");
        for entry in fs::read_dir(&directory).doing(Kind::Plan, unreadable)? {
            let entry = entry.doing(Kind::Plan, unreadable)?;
            let Ok(name) = entry.file_name().into_string() else {
                return Err(
                    Error::new(Kind::Plan, format!("{shown}: a file's name is not UTF-8")).hint("rename it")
                );
            };
            if name.starts_with('.') {
                continue;
            }
            let path = if below.is_empty() { name } else { format!("{below}/{name}") };
            let meta = fs::metadata(entry.path())
                .doing(Kind::Plan, || format!("{}: cannot be read", entry.path().display()))?;
            if meta.is_dir() {
                if depth == DIRECTORY_DEPTH_MAX {
                    let what =
                        format!("{shown}: directories go deeper here than {DIRECTORY_DEPTH_MAX} levels");
                    return Err(
                        Error::new(Kind::Plan, what).hint("name the directory with the migrations alone")
                    );
                }
                self.below(&path, depth + 1)?;
                continue;
            }
            self.take(path, meta.len())?;
        }
        Ok(())
    }

    fn take(&mut self, path: String, length: u64) -> Result<()> {
        let ending = path.rsplit_once('.').map_or("", |(_, ending)| ending);
        let is_read = ending == "sql" || SETTINGS.contains(&ending);
        let bytes = match is_read {
            true => load::read_bytes(&self.root.join(&path), SQL_BYTES_MAX, "SQL file")?,
            // Of the others, the name is enough.
            false => Vec::new(),
        };
        self.bytes += if is_read { length } else { 0 };
        self.entries.push(Entry { path, bytes });
        if self.bytes > DIRECTORY_BYTES_MAX || self.entries.len() > DIRECTORY_FILES_MAX {
            let what = format!(
                "{}: this is more than a directory of migrations holds ({DIRECTORY_FILES_MAX} files, {DIRECTORY_BYTES_MAX} bytes of SQL)",
                self.root.display()
            );
            return Err(Error::new(Kind::Plan, what).hint("name the directory with the migrations alone"));
        }
        Ok(())
    }
}

/// The paths under `base` that match; `*` in a component stands for any run of characters, never for a leading dot.
fn matches(base: &Path, pattern: &str) -> io::Result<Vec<String>> {
    let mut found = vec![String::new()];
    if pattern.starts_with('/') {
        found = vec!["/".into()];
    }
    for component in pattern.split('/').filter(|component| !component.is_empty()) {
        let mut next = Vec::new();
        for parent in &found {
            let join = |name: &str| match parent.as_str() {
                "" => name.to_owned(),
                parent if parent.ends_with('/') => format!("{parent}{name}"),
                parent => format!("{parent}/{name}"),
            };
            if !component.contains('*') {
                next.extend(Some(join(component)).filter(|path| base.join(path).exists()));
                continue;
            }
            let directory = base.join(parent);
            if !directory.is_dir() {
                continue;
            }
            let mut names = Vec::new();
            for entry in fs::read_dir(directory)? {
                names.extend(entry?.file_name().into_string().ok());
            }
            names.retain(|name| !name.starts_with('.') && glob(component, name));
            names.sort();
            next.extend(names.iter().map(|name| join(name)));
        }
        found = next;
    }
    Ok(found)
}
