//! Flyway: `V1_2__name.sql` in the order of the versions part by part, then `R__name.sql` by name, from all directories below.
//! A file is one transaction, unless all of it cannot be, or its `.conf` says `executeInTransaction=false`.

use super::{Draft, Entry, Listing, Migration, RunAs, Tool, Version, left_out::Why};
use crate::{
    ddl::{
        encoding,
        source::{self, SqlFile},
    },
    error::{Error, Kind, Result},
};

pub(super) fn read(listing: &Listing) -> Result<Draft> {
    let mut draft = Draft::default();
    for entry in listing.entries.iter().filter(|entry| entry.is_sql()) {
        match kind(entry.name()) {
            Some(Named::Runs(version)) => {
                let script = Script::of(listing, entry)?;
                let file = listing.file(entry, Tool::Flyway, script.run_as)?;
                if script.fills_placeholders {
                    refuse_placeholder(&file)?;
                }
                draft.list.push(Migration { version, file });
            }
            Some(Named::LeftOut(why)) => draft.left_out.add(why, &entry.path),
            None => {
                let called =
                    ["before", "after", "createSchema"].iter().any(|word| entry.name().starts_with(word));
                draft.left_out.add(if called { Why::Callback } else { Why::Unnamed }, &entry.path);
            }
        }
    }
    Ok(draft)
}

/// What a name of Flyway's says.
enum Named {
    Runs(Version),
    LeftOut(Why),
}

/// Whether a name is one of Flyway's.
pub(super) fn is_named(file_name: &str) -> bool {
    kind(file_name).is_some()
}

fn kind(file_name: &str) -> Option<Named> {
    let stem = file_name.strip_suffix(".sql")?;
    let (head, description) = stem.split_once("__")?;
    match (head.split_at_checked(1)?, description) {
        (("V", version), _) => Version::parts(version).map(Named::Runs),
        (("R", ""), description) => Some(Named::Runs(Version::after_all(description.replace('_', " ")))),
        (("U", version), _) => Version::parts(version).map(|_| Named::LeftOut(Why::Undoes)),
        (("B", version), _) => Version::parts(version).map(|_| Named::LeftOut(Why::Baseline)),
        _ => None,
    }
}

/// What `V1__name.sql.conf` says of `V1__name.sql`.
struct Script {
    run_as: RunAs,
    fills_placeholders: bool,
}

impl Script {
    fn of(listing: &Listing, entry: &Entry) -> Result<Script> {
        let mut script = Script { run_as: RunAs::TransactionIfAny, fills_placeholders: true };
        let path = format!("{}.conf", entry.path);
        let Some(conf) = listing.entry(&path) else { return Ok(script) };
        let name = listing.full(&path);
        let text = encoding::text(&name, conf.bytes.clone())?;
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            let parts = line.split_once('=').map(|(key, value)| (key.trim(), value.trim()));
            match parts {
                None if line.is_empty() || line.starts_with('#') => {}
                Some(("executeInTransaction", "true")) => script.run_as = RunAs::TransactionIfAny,
                Some(("executeInTransaction", "false")) => script.run_as = RunAs::Statements,
                Some(("placeholderReplacement", "true")) => script.fills_placeholders = true,
                Some(("placeholderReplacement", "false")) => script.fills_placeholders = false,
                Some(("encoding", value)) if value.eq_ignore_ascii_case("utf-8") => {}
                _ => {
                    let what = format!("{name}:{}:1: `{line}` is not understood", index + 1);
                    return Err(Error::new(Kind::Plan, what).hint(
                        "of Flyway's script settings executeInTransaction, placeholderReplacement and encoding=UTF-8 are read; remove the line, and write its effect into the SQL",
                    ));
                }
            }
        }
        Ok(script)
    }
}

fn refuse_placeholder(file: &SqlFile) -> Result<()> {
    let Some(start) = file.text.find("${") else { return Ok(()) };
    let end = file.text[start..].find('}').map_or(start + 2, |at| start + at + 1);
    let placeholder = &file.text[start..end];
    Err(source::explain_at(
        file,
        source::Span { start, end },
        &format!("Flyway would put a value in place of `{placeholder}`, and it is not known here"),
        "write the value; if it is meant as it is, set placeholderReplacement=false in the file's .conf",
    ))
}
