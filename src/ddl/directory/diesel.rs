//! diesel: `VERSION_name/up.sql`, in the order of the versions (dashes do not count); a directory's file is one transaction,
//! unless its metadata.toml says `run_in_transaction = false`.

use super::{Draft, Listing, Migration, RunAs, Tool, Version, left_out::Why};
use crate::{
    ddl::encoding,
    error::{Error, Kind, Result},
};
use std::collections::BTreeSet;

pub(super) fn read(listing: &Listing) -> Result<Draft> {
    let mut draft = Draft::default();
    let mut backward = BTreeSet::new();
    for entry in listing.entries.iter().filter(|entry| entry.is_sql()) {
        match (entry.directory(), entry.name()) {
            (Some(directory), "up.sql") if !directory.contains('/') => {
                let Some(version) = version(directory) else {
                    draft.left_out.add(Why::Unnamed, &entry.path);
                    continue;
                };
                let file = listing.file(entry, Tool::Diesel, run_as(listing, directory)?)?;
                draft.list.push(Migration { version, file });
            }
            (Some(directory), "down.sql") if !directory.contains('/') => {
                backward.insert(directory);
                draft.left_out.add(Why::Undoes, &entry.path);
            }
            (Some(_), _) => draft.left_out.add(Why::Deeper, &entry.path),
            (None, _) => draft.left_out.add(Why::Unnamed, &entry.path),
        }
    }
    match backward.iter().find(|directory| listing.entry(&format!("{directory}/up.sql")).is_none()) {
        Some(directory) => {
            Err(Error::new(Kind::Plan, format!("{} has a down.sql and no up.sql", listing.full(directory)))
                .hint("bring up.sql back, or remove the directory"))
        }
        None => Ok(draft),
    }
}

/// `2024-01-31-120000_create_users` is `20240131120000`.
fn version(directory: &str) -> Option<Version> {
    let (version, _) = directory.split_once('_')?;
    let version = version.replace('-', "");
    (!version.is_empty() && version.bytes().all(|byte| byte.is_ascii_digit())).then(|| Version::text(version))
}

fn run_as(listing: &Listing, directory: &str) -> Result<RunAs> {
    let path = format!("{directory}/metadata.toml");
    let Some(metadata) = listing.entry(&path) else { return Ok(RunAs::Transaction) };
    let name = listing.full(&path);
    let text = encoding::text(&name, metadata.bytes.clone())?;
    let mut run_as = RunAs::Transaction;
    for (index, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        let parts = line.split_once('=').map(|(key, value)| (key.trim(), value.trim()));
        match parts {
            None if line.is_empty() => {}
            Some(("run_in_transaction", "true")) => run_as = RunAs::Transaction,
            Some(("run_in_transaction", "false")) => run_as = RunAs::Message,
            _ => {
                let what = format!("{name}:{}:1: `{line}` is not understood", index + 1);
                return Err(Error::new(Kind::Plan, what)
                    .hint("metadata.toml of diesel holds `run_in_transaction = true` or `= false`"));
            }
        }
    }
    Ok(run_as)
}
