//! Finds pg_dump, and runs it for a schema without rows.

use crate::error::{Doing, Error, Kind, Result};
use crate::pg::conninfo::ConnInfo;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;

/// Names the program, instead of searching.
const VARIABLE: &str = "MIGRATE_PG_DUMP";
/// Where Debian keeps one directory a major.
const DEBIAN: &str = "/usr/lib/postgresql";
/// How long `--version` may take.
const VERSION_MAX: Duration = Duration::from_secs(5);
/// The largest schema we take, in bytes; beyond it something else than a schema comes.
const SCHEMA_BYTES_MAX: u64 = 256 << 20;
/// As much of what pg_dump complains about as we keep, in bytes.
const COMPLAINT_BYTES_MAX: u64 = 64 << 10;

/// A pg_dump that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PgDump {
    /// The program.
    pub path: PathBuf,
    /// Its version.
    pub version: Version,
}

/// Major and minor version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// 18.
    pub major: u32,
    /// 4; 0 for a development version.
    pub minor: u32,
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// Finds the newest pg_dump that can read a server of `blue_major`: the one `MIGRATE_PG_DUMP` names, else of those on
/// `PATH` and in Debian's directories.
///
/// # Errors
/// [`Kind::Request`] when there is none, or the named one is too old or does not run; the hint says what to install.
pub async fn find(blue_major: u32) -> Result<PgDump> {
    if let Some(named) = std::env::var_os(VARIABLE) {
        let path = PathBuf::from(named);
        let version = version_of(&path).await.ok_or_else(|| {
            Error::new(Kind::Request, format!("{VARIABLE} names {}, which does not run", path.display()))
                .hint(remedy(blue_major))
        })?;
        return choose(vec![PgDump { path, version }], blue_major);
    }
    let mut found = Vec::new();
    for path in candidates() {
        if let Some(version) = version_of(&path).await {
            found.push(PgDump { path, version });
        }
    }
    choose(found, blue_major)
}

fn remedy(blue_major: u32) -> String {
    format!(
        "install PostgreSQL's client programs, version {blue_major} or newer (postgresql-client-{blue_major} on Debian), or name a pg_dump in {VARIABLE}"
    )
}

/// The newest; of equals the first.
fn choose(found: Vec<PgDump>, blue_major: u32) -> Result<PgDump> {
    let mut best: Option<PgDump> = None;
    let mut seen = Vec::new();
    for candidate in found {
        seen.push(format!("{} ({})", candidate.path.display(), candidate.version));
        let newer = best.as_ref().is_none_or(|best| candidate.version > best.version);
        if candidate.version.major >= blue_major && newer {
            best = Some(candidate);
        }
    }
    best.ok_or_else(|| {
        let what = if seen.is_empty() {
            "no pg_dump was found".to_owned()
        } else {
            format!("no pg_dump can read blue, which is version {blue_major}; found {}", seen.join(", "))
        };
        Error::new(Kind::Request, what).hint(remedy(blue_major))
    })
}

/// Debian's directories first: what is on `PATH` there is a wrapper that picks a version by itself.
fn candidates() -> Vec<PathBuf> {
    let debian = std::fs::read_dir(DEBIAN)
        .into_iter()
        .flatten()
        .flatten()
        .map(|directory| directory.path().join("bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut seen = BTreeSet::new();
    debian
        .chain(std::env::split_paths(&path))
        .map(|directory| directory.join("pg_dump"))
        .filter_map(|program| std::fs::canonicalize(&program).ok().map(|real| (program, real)))
        .filter(|(_, real)| !real.ends_with("pg_wrapper") && seen.insert(real.clone()))
        .map(|(program, _)| program)
        .collect()
}

/// `None` when it does not run, or says something else than a version.
async fn version_of(path: &Path) -> Option<Version> {
    let output = Command::new(path).arg("--version").stdin(Stdio::null()).kill_on_drop(true).output();
    let output = tokio::time::timeout(VERSION_MAX, output).await.ok()?.ok()?;
    parse_version(&String::from_utf8_lossy(&output.stdout))
}

/// From `pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`, `… 18.4` or `… 19devel`.
fn parse_version(text: &str) -> Option<Version> {
    let rest = text.strip_prefix("pg_dump (PostgreSQL) ")?;
    let number = |text: &str| -> Option<u32> {
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        text[..digits].parse().ok()
    };
    let minor = rest.split_once('.').and_then(|(_, minor)| number(minor)).unwrap_or(0);
    Some(Version { major: number(rest)?, minor })
}

impl PgDump {
    /// Dumps blue's schema: no rows, nothing of ours, no publications or subscriptions.
    ///
    /// Takes ACCESS SHARE locks on blue, waiting ten seconds for each at most. Secrets go through the environment.
    /// The program is killed when this future is dropped.
    ///
    /// # Errors
    /// [`Kind::Server`] with what pg_dump complained about, [`Kind::Deadline`] when it takes longer than `deadline`.
    pub(super) async fn dump_schema(&self, blue: &ConnInfo, deadline: Duration) -> Result<String> {
        let program = self.path.display();
        let mut command = Command::new(&self.path);
        command
            .args(["--schema-only", "--no-password", "--no-publications", "--no-subscriptions"])
            .args(["--exclude-schema=migrate", "--encoding=UTF8", "--lock-wait-timeout=10s"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        blue.lend(&mut command);
        let mut child = command.spawn().doing(Kind::Request, || format!("{program} does not start"))?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let ended = tokio::time::timeout(deadline, async {
            tokio::try_join!(
                read_bounded(stdout, SCHEMA_BYTES_MAX + 1),
                read_bounded(stderr, COMPLAINT_BYTES_MAX),
                child.wait()
            )
        });
        let (schema, complaint, status) = ended
            .await
            .map_err(|_| {
                Error::new(Kind::Deadline, format!("{program} did not end within {} s", deadline.as_secs()))
            })?
            .doing(Kind::Server, || format!("{program} cannot be listened to"))?;
        let complaint = String::from_utf8_lossy(&complaint).trim().to_owned();
        if !status.success() {
            return Err(Error::new(Kind::Server, format!("{program} failed on {} ({status})", blue.label()))
                .source(complaint));
        }
        if !complaint.is_empty() {
            tracing::warn!(complaint, "pg_dump warned");
        }
        if schema.len() as u64 > SCHEMA_BYTES_MAX {
            return Err(Error::new(Kind::Request, "blue's schema is larger than 256 MB as SQL"));
        }
        String::from_utf8(schema).doing(Kind::Server, || format!("{program} wrote something else than UTF-8"))
    }
}

/// Reads to the end, or to the limit; past it the pipe is closed, which ends the writer.
async fn read_bounded(from: Option<impl AsyncRead + Unpin>, limit: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(from) = from {
        from.take(limit).read_to_end(&mut bytes).await?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(path: &str, major: u32, minor: u32) -> PgDump {
        PgDump { path: path.into(), version: Version { major, minor } }
    }

    #[test]
    fn versions_are_read_from_what_pg_dump_prints() {
        let parsed = |text| parse_version(text).map(|version| (version.major, version.minor));
        assert_eq!(parsed("pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"), Some((15, 18)));
        assert_eq!(parsed("pg_dump (PostgreSQL) 19devel\n"), Some((19, 0)));
        assert_eq!(parsed("pg_restore (PostgreSQL) 15.1\n"), None);
    }

    #[test]
    fn the_newest_that_can_read_blue_is_chosen() {
        let found = vec![at("/a", 15, 4), at("/b", 17, 2), at("/c", 17, 2)];
        assert_eq!(choose(found.clone(), 16).unwrap().path, Path::new("/b"));
        let error = choose(found, 18).unwrap_err();
        assert!(error.what.contains("/b (17.2)") && error.what.contains("version 18"), "{}", error.what);
        assert!(error.hint.unwrap().contains(VARIABLE));
        assert_eq!(choose(Vec::new(), 15).unwrap_err().what, "no pg_dump was found");
    }
}
