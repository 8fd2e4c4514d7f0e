//! What `check` wants to know of an instance, and what it makes of it.

use super::{
    console::{PoolMode, Version},
    file,
    instance::Instance,
};
use crate::{
    error::{Error, Result},
    finding::{Finding, Place, Severity},
};
use serde::{Deserialize, Serialize};
use std::{path::Path, time::Duration};
use tokio::time::Instant;

/// One instance, as it was seen. What could not be seen is the sentence that says why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InstanceFacts {
    /// Address and entry.
    pub label: String,
    /// What the console said.
    pub console: std::result::Result<ConsoleFacts, String>,
    /// What the file said: where the entry points.
    pub file: std::result::Result<Points, String>,
    /// Why the file cannot be replaced, when it cannot.
    pub not_replaceable: Option<String>,
    /// The file points the entry to green already.
    pub at_green: bool,
    /// Entries that the file points elsewhere than the running PgBouncer: a RELOAD would change them too.
    pub not_reloaded: Vec<String>,
}

/// Host, port and database of an entry.
pub type Points = (String, String, String);

/// What the admin console said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConsoleFacts {
    /// Its version.
    pub version: Version,
    /// The entry's mode, its own or the general one.
    pub pool_mode: Option<PoolMode>,
    /// Where the running PgBouncer has the entry; `None` when it has none.
    pub points_to: Option<Points>,
    /// PAUSE was given before us.
    pub paused: bool,
    /// DISABLE was given.
    pub disabled: bool,
    /// After how many seconds a held client is thrown out; 0 for never.
    pub query_wait_timeout_s: u64,
    /// The file it was started with.
    pub config_file: String,
}

impl Instance {
    /// Looks at the console and the file, without any lasting effect.
    ///
    /// To know that the file can be replaced, a temporary file is made beside it and removed.
    pub async fn inspect(&self, until: Instant) -> InstanceFacts {
        let said = |error: Error| error.chain().join(": ");
        let config = self.read_config();
        let file = config
            .as_ref()
            .map_err(|error| error.chain().join(": "))
            .and_then(|config| config.points_to(self.entry()).map_err(said));
        let console = self.inspect_console(until).await;
        let not_reloaded = match (&config, &console) {
            (Ok(config), Ok((_, running))) => {
                let differs = |name: &&str| {
                    let seen = running.iter().find(|(other, _)| other == name).map(|(_, points)| points);
                    **name != *"*" && config.points_to(name).ok().as_ref() != seen
                };
                config.names().filter(differs).map(str::to_owned).collect()
            }
            _ => Vec::new(),
        };
        InstanceFacts {
            label: self.label().to_owned(),
            console: console.map(|(facts, _)| facts).map_err(said),
            file,
            not_replaceable: file::prove_replaceable(self.config_path()).err().map(said),
            at_green: self.file_is_at_green(),
            not_reloaded,
        }
    }

    async fn inspect_console(&self, until: Instant) -> Result<(ConsoleFacts, Vec<(String, Points)>)> {
        let console = self.console(until).await?;
        let version = console.version(until).await?;
        let settings = console.config(until).await?;
        let rows = console.databases(until).await?;
        let row = rows.iter().find(|row| row.name == self.entry());
        let setting = |name: &str| settings.get(name).map(String::as_str).unwrap_or_default();
        let facts = ConsoleFacts {
            version,
            pool_mode: row.and_then(|row| row.pool_mode).or_else(|| PoolMode::parse(setting("pool_mode"))),
            points_to: row.map(|row| (row.host.clone(), row.port.clone(), row.database.clone())),
            paused: row.is_some_and(|row| row.paused),
            disabled: row.is_some_and(|row| row.disabled),
            query_wait_timeout_s: setting("query_wait_timeout").parse().unwrap_or(0),
            config_file: setting("conffile").to_owned(),
        };
        let running = rows.into_iter().map(|row| (row.name, (row.host, row.port, row.database)));
        Ok((facts, running.collect()))
    }
}

/// The oldest version known to work.
const OLDEST: Version = Version { major: 1, minor: 18, patch: 0 };

impl InstanceFacts {
    /// What stops us or should be known. `config` is the plan's path, `pause_max` its pause budget.
    pub fn findings(&self, config: &str, pause_max: Duration) -> Vec<Finding> {
        let mut findings = Findings { label: &self.label, list: Vec::new() };
        match &self.console {
            Ok(console) => self.judge_console(console, config, pause_max, &mut findings),
            Err(why) => findings.blocking(
                "ROUTE_UNREACHABLE",
                format!("its admin console cannot be used: {why}"),
                "Check `admin` in the plan; its user must be in PgBouncer's admin_users.",
            ),
        }
        if let Err(why) = &self.file {
            findings.blocking(
                "ROUTE_CONFIG",
                format!("its configuration cannot be used: {why}"),
                "Give the path of its file on this machine, with one entry of its own for this database.",
            );
        }
        if let Some(why) = &self.not_replaceable {
            findings.blocking(
                "ROUTE_CONFIG_NOT_WRITABLE",
                format!("its configuration cannot be replaced: {why}"),
                "Run migrate as a user that may write in that directory and keep the file's owner: its owner, or root.",
            );
        }
        if self.at_green {
            findings.blocking(
                "ROUTE_AT_GREEN",
                "its entry points to green already".into(),
                "Point it to blue and RELOAD, or correct `to` in the plan.",
            );
        }
        if !self.not_reloaded.is_empty() {
            findings.blocking(
                "ROUTE_NOT_RELOADED",
                format!("its file and the running process differ about {}", self.not_reloaded.join(", ")),
                "RELOAD it or put the file right: our RELOAD would change those entries too.",
            );
        }
        findings.list
    }

    fn judge_console(
        &self,
        console: &ConsoleFacts,
        config: &str,
        pause_max: Duration,
        findings: &mut Findings<'_>,
    ) {
        if console.version < OLDEST {
            findings.warning(
                "ROUTE_VERSION",
                format!("it is PgBouncer {}; {OLDEST} is the oldest we know to work", console.version),
                "Upgrade it, or rehearse the switch.",
            );
        }
        if console.pool_mode == Some(PoolMode::Session) {
            findings.blocking(
                "ROUTE_SESSION_MODE",
                "it pools by session, so PAUSE waits until every client has disconnected".into(),
                "Use pool_mode=transaction for this entry, or a route of commands that restarts the clients.",
            );
        }
        if console.points_to.is_none() {
            findings.blocking(
                "ROUTE_ENTRY",
                "the running process has no such entry".into(),
                "`database` in the plan is the name under [databases] that clients connect to.",
            );
        }
        if console.paused {
            findings.warning(
                "ROUTE_PAUSED",
                "it is paused already, so clients wait now".into(),
                "If nobody means it, RESUME it; the switch would.",
            );
        }
        if console.disabled {
            findings.blocking(
                "ROUTE_DISABLED",
                "the entry is disabled, so clients are refused".into(),
                "ENABLE it first.",
            );
        }
        if console.query_wait_timeout_s > 0 && console.query_wait_timeout_s <= pause_max.as_secs() {
            findings.blocking(
                "ROUTE_WAIT_TIMEOUT",
                format!("held clients are thrown out after {} s", console.query_wait_timeout_s),
                "Raise query_wait_timeout above cutover.pause_max.",
            );
        }
        let real = |path: &str| std::fs::canonicalize(path).unwrap_or_else(|_| Path::new(path).to_owned());
        if !console.config_file.is_empty() && real(&console.config_file) != real(config) {
            findings.blocking(
                "ROUTE_OTHER_CONFIG",
                format!("it was started with {}, the plan names {config}", console.config_file),
                "Name the file that this PgBouncer reads at RELOAD.",
            );
        }
    }
}

struct Findings<'a> {
    label: &'a str,
    list: Vec<Finding>,
}

impl Findings<'_> {
    fn blocking(&mut self, code: &str, what: String, help: &str) {
        self.add(Severity::Blocking, code, what, help);
    }

    fn warning(&mut self, code: &str, what: String, help: &str) {
        self.add(Severity::Warning, code, what, help);
    }

    fn add(&mut self, severity: Severity, code: &str, what: String, help: &str) {
        let place = Place::Outside { object: self.label.to_owned() };
        self.list.push(Finding { code: code.into(), severity, place, what, help: help.into() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sound() -> InstanceFacts {
        let points: Points = ("h".into(), "5432".into(), "app".into());
        InstanceFacts {
            label: "PgBouncer h:6432, entry `app`".into(),
            console: Ok(ConsoleFacts {
                version: OLDEST,
                pool_mode: Some(PoolMode::Transaction),
                points_to: Some(points.clone()),
                paused: false,
                disabled: false,
                query_wait_timeout_s: 120,
                config_file: "/nowhere/pgbouncer.ini".into(),
            }),
            file: Ok(points),
            not_replaceable: None,
            at_green: false,
            not_reloaded: Vec::new(),
        }
    }

    fn codes(facts: &InstanceFacts) -> Vec<String> {
        let findings = facts.findings("/nowhere/pgbouncer.ini", Duration::from_secs(5));
        findings.into_iter().map(|finding| finding.code).collect()
    }

    #[test]
    fn a_sound_instance_has_no_finding() {
        assert_eq!(codes(&sound()), Vec::<String>::new());
    }

    #[test]
    fn what_would_hold_or_lose_clients_stops_us() {
        let mut facts = sound();
        let Ok(console) = &mut facts.console else { unreachable!() };
        console.pool_mode = Some(PoolMode::Session);
        console.query_wait_timeout_s = 5;
        console.config_file = "/elsewhere.ini".into();
        facts.at_green = true;
        facts.not_reloaded = vec!["app".into()];
        facts.not_replaceable = Some("permission denied".into());
        assert_eq!(
            codes(&facts),
            [
                "ROUTE_SESSION_MODE",
                "ROUTE_WAIT_TIMEOUT",
                "ROUTE_OTHER_CONFIG",
                "ROUTE_CONFIG_NOT_WRITABLE",
                "ROUTE_AT_GREEN",
                "ROUTE_NOT_RELOADED",
            ]
        );
    }
}
