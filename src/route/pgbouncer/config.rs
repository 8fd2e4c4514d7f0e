//! `pgbouncer.ini`, edited as text: of one entry under `[databases]` only host, port and dbname change, and every
//! other byte of the file stays. Pure.
//!
//! What we are not sure to read as PgBouncer does is refused by line: `%include`, an entry that is missing, doubled
//! or only covered by `*`, and text after a section's bracket.

use crate::{
    error::{Error, Kind, Result},
    route::{
        connstr::{self, Pair, is_blank},
        target::Target,
    },
};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Host, port and dbname of an entry as they are written, quotes included; `None` where the entry has no such key.
///
/// This is what the journal keeps to restore the entry byte for byte. It holds no password.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Written {
    /// The host.
    pub host: Option<String>,
    /// The port.
    pub port: Option<String>,
    /// The database.
    pub dbname: Option<String>,
}

/// A configuration file's text, and where its `[databases]` entries stand.
#[derive(Debug, Clone)]
pub struct Config {
    text: String,
    entries: Vec<EntryAt>,
}

#[derive(Debug, Clone)]
struct EntryAt {
    name: String,
    line_number: usize,
    /// The line without its newline.
    line: Range<usize>,
    /// What is right of `=`, without blanks at its end; empty right after `=` when there is nothing.
    value: Range<usize>,
}

/// An entry's keys, with their places counted in the file's text.
struct Entry<'a> {
    at: &'a EntryAt,
    pairs: Vec<Pair>,
}

impl Entry<'_> {
    fn pair(&self, key: &str) -> Option<&Pair> {
        self.pairs.iter().find(|pair| pair.key == key)
    }
}

impl Config {
    /// Finds the entries.
    ///
    /// # Errors
    /// [`Kind::Request`] for `%include`, and for a line of `[databases]` that is not `name = value`.
    pub fn read(text: impl Into<String>) -> Result<Config> {
        let text = text.into();
        let mut entries = Vec::new();
        let mut in_databases = false;
        let mut start = 0;
        for (index, full) in text.split_inclusive('\n').enumerate() {
            let line_number = index + 1;
            let line = full.strip_suffix('\n').unwrap_or(full);
            let line = line.strip_suffix('\r').unwrap_or(line);
            let content = line.trim_start_matches(is_blank);
            let content_at = start + line.len() - content.len();
            if content.starts_with("%include") {
                return Err(refused(line_number, "it has `%include`").hint(
                    "Put the [databases] entry into a file of its own without includes, and name that file.",
                ));
            } else if let Some(section) = content.strip_prefix('[') {
                in_databases = section_name(section, line_number)? == "databases";
            } else if in_databases && !content.is_empty() && !content.starts_with([';', '#']) {
                let (name, value) = name_and_value(content)
                    .ok_or_else(|| refused(line_number, "it is not `name = value`"))?;
                let value = content_at + value.start..content_at + value.end;
                entries.push(EntryAt { name, line_number, line: start..start + line.len(), value });
            }
            start += full.len();
        }
        Ok(Config { text, entries })
    }

    /// The whole text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The names of all entries, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|entry| entry.name.as_str())
    }

    fn entry(&self, name: &str) -> Result<Entry<'_>> {
        let mut found = self.entries.iter().filter(|entry| entry.name == name);
        let at = match (found.next(), found.next()) {
            (Some(entry), None) => entry,
            (Some(_), Some(second)) => {
                return Err(refused(second.line_number, &format!("`{name}` is there a second time"))
                    .hint("Keep one of them."));
            }
            (None, _) => return Err(self.missing(name)),
        };
        let value = &self.text[at.value.clone()];
        let mut pairs = connstr::pairs(value)
            .map_err(|what| refused(at.line_number, &format!("in the entry `{name}` {what}")))?;
        for range in pairs.iter_mut().flat_map(|pair| [&mut pair.written, &mut pair.whole]) {
            *range = range.start + at.value.start..range.end + at.value.start;
        }
        Ok(Entry { at, pairs })
    }

    fn missing(&self, name: &str) -> Error {
        let what = if self.names().any(|other| other == "*") {
            format!("[databases] has no entry `{name}`, only `*`, which also serves other databases")
        } else {
            format!("[databases] has no entry `{name}`")
        };
        Error::new(Kind::Request, what)
            .hint(format!("Add a line `{name} = host=… port=… dbname=…` that points to blue, and RELOAD."))
    }

    /// Host, port and dbname of an entry, as written.
    ///
    /// # Errors
    /// [`Kind::Request`] when there is not exactly one such entry, or its value cannot be read.
    pub fn written(&self, name: &str) -> Result<Written> {
        let entry = self.entry(name)?;
        let written = |key| entry.pair(key).map(|pair| self.text[pair.written.clone()].to_owned());
        Ok(Written { host: written("host"), port: written("port"), dbname: written("dbname") })
    }

    /// Where an entry points, by PgBouncer's rules: no host is a Unix socket (empty), no port is 5432, no dbname is
    /// the entry's name.
    ///
    /// # Errors
    /// As [`Config::written`].
    pub fn points_to(&self, name: &str) -> Result<(String, String, String)> {
        let entry = self.entry(name)?;
        let or = |key: &str, default: &str| match entry.pair(key) {
            Some(pair) if !pair.value.is_empty() => pair.value.clone(),
            _ => default.to_owned(),
        };
        Ok((or("host", ""), or("port", "5432"), or("dbname", name)))
    }

    /// The text with the entry pointing to `target`. The same text when it does already.
    ///
    /// # Errors
    /// As [`Config::written`].
    pub fn with_target(&self, name: &str, target: &Target) -> Result<String> {
        let entry = self.entry(name)?;
        let mut written = self.written(name)?;
        let port = target.port.map(|port| port.to_string());
        for (key, wanted, slot) in [
            ("host", target.host.as_ref(), &mut written.host),
            ("port", port.as_ref(), &mut written.port),
            ("dbname", target.dbname.as_ref(), &mut written.dbname),
        ] {
            let Some(wanted) = wanted else { continue };
            if entry.pair(key).is_none_or(|pair| pair.value != *wanted) {
                *slot = Some(connstr::write_value(wanted));
            }
        }
        self.with_written(name, &written)
    }

    /// The text with the entry's three keys written exactly so: the way back from [`Config::with_target`].
    ///
    /// # Errors
    /// As [`Config::written`].
    pub fn with_written(&self, name: &str, written: &Written) -> Result<String> {
        let entry = self.entry(name)?;
        let mut edits: Vec<(Range<usize>, String)> = Vec::new();
        for (key, wanted) in [("host", &written.host), ("port", &written.port), ("dbname", &written.dbname)] {
            match (entry.pair(key), wanted) {
                (Some(pair), Some(wanted)) => edits.push((pair.written.clone(), wanted.clone())),
                (None, Some(wanted)) => {
                    edits.push((entry.at.value.end..entry.at.value.end, format!(" {key}={wanted}")));
                }
                (Some(pair), None) => edits.push((self.with_blanks_before(&pair.whole), String::new())),
                (None, None) => {}
            }
        }
        Ok(edited(&self.text, edits))
    }

    fn with_blanks_before(&self, range: &Range<usize>) -> Range<usize> {
        self.text[..range.start].trim_end_matches(is_blank).len()..range.end
    }

    /// The name of the temporary twin of an entry.
    pub fn probe_name(name: &str) -> String {
        let twin = format!("{name}__migrate_probe");
        // PgBouncer keeps 63 bytes of a database name.
        if twin.len() <= 63 {
            twin
        } else {
            format!("migrate_probe_{}", &blake3::hash(name.as_bytes()).to_hex()[..16])
        }
    }

    /// The text with a temporary twin of the entry right after it, pointing to `target` where that says so and else to
    /// where the entry points. An earlier twin is replaced.
    ///
    /// The twin has the entry's other keys, its user and password included, but a pool of one.
    ///
    /// # Errors
    /// As [`Config::written`].
    pub fn with_probe(&self, name: &str, target: &Target) -> Result<String> {
        let clean = Config::read(self.without_probe(name))?;
        let entry = clean.entry(name)?;
        let (host, port, dbname) = clean.points_to(name)?;
        let host = target.host.clone().unwrap_or(host);
        let port = target.port.map_or(port, |port| port.to_string());
        let dbname = target.dbname.clone().unwrap_or(dbname);
        let mut twin = format!("{} =", write_name(&Config::probe_name(name)));
        for (key, value) in [("host", host), ("port", port), ("dbname", dbname)] {
            if !value.is_empty() {
                twin.push_str(&format!(" {key}={}", connstr::write_value(&value)));
            }
        }
        for pair in entry.pairs.iter().filter(|pair| !NOT_FOR_THE_TWIN.contains(&pair.key.as_str())) {
            twin.push(' ');
            twin.push_str(&clean.text[pair.whole.clone()]);
        }
        twin.push_str(" pool_size=1");
        let end = entry.at.line.end;
        let newline = if clean.text[end..].starts_with('\r') { "\r\n" } else { "\n" };
        Ok(edited(&clean.text, vec![(end..end, format!("{newline}{twin}"))]))
    }

    /// The text without the entry's temporary twin.
    pub fn without_probe(&self, name: &str) -> String {
        let twin = Config::probe_name(name);
        let newline_before = |at: usize| {
            let before = &self.text[..at];
            let before = before.strip_suffix('\n').unwrap_or(before);
            before.strip_suffix('\r').unwrap_or(before).len()
        };
        let twins = self.entries.iter().filter(|entry| entry.name == twin);
        let edits = twins.map(|entry| (newline_before(entry.line.start)..entry.line.end, String::new()));
        edited(&self.text, edits.collect())
    }
}

/// The three keys are written anew, and a probe needs no pool.
const NOT_FOR_THE_TWIN: [&str; 7] =
    ["host", "port", "dbname", "pool_size", "min_pool_size", "reserve_pool", "reserve_pool_size"];

fn refused(line_number: usize, what: &str) -> Error {
    Error::new(
        Kind::Request,
        format!("line {line_number} of the PgBouncer configuration cannot be used: {what}"),
    )
}

fn section_name(after_bracket: &str, line_number: usize) -> Result<&str> {
    match after_bracket.split_once(']') {
        Some((name, rest)) if rest.trim_matches(is_blank).is_empty() => Ok(name),
        Some(_) => Err(refused(line_number, "there is text after the section's `]`")),
        None => Err(refused(line_number, "the section's `]` is missing")),
    }
}

/// The name, unquoted, and the range of the value in `content`.
fn name_and_value(content: &str) -> Option<(String, Range<usize>)> {
    let (name, after) = if let Some(quoted) = content.strip_prefix('"') {
        let mut end = 0;
        loop {
            end += quoted[end..].find('"')?;
            if !quoted[end + 1..].starts_with('"') {
                break (quoted[..end].replace("\"\"", "\""), end + 2);
            }
            end += 2;
        }
    } else {
        let end = content.find(|c| !is_name_char(c))?;
        (content[..end].to_owned(), end)
    };
    let sign = content[after..].find(|c| c != ' ' && c != '\t')? + after;
    if name.is_empty() || !content[sign..].starts_with('=') {
        return None;
    }
    let rest = &content[sign + 1..];
    Some((name, sign + 1..sign + 1 + rest.trim_end_matches(is_blank).len()))
}

fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_-.*".contains(c)
}

fn write_name(name: &str) -> String {
    if name.chars().all(is_name_char) {
        name.to_owned()
    } else {
        format!("\"{}\"", name.replace('"', "\"\""))
    }
}

/// Applies edits that do not overlap; those at one place keep their order.
fn edited(text: &str, mut edits: Vec<(Range<usize>, String)>) -> String {
    edits.sort_by_key(|(range, _)| range.start);
    let mut result = String::with_capacity(text.len() + 64);
    let mut at = 0;
    for (range, new) in edits {
        result.push_str(&text[at..range.start]);
        result.push_str(&new);
        at = range.end;
    }
    result.push_str(&text[at..]);
    result
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
