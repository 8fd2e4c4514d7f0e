//! One PgBouncer instance: hold its clients, point it elsewhere, prove it, let them go on.
//!
//! Each operation opens a console session of its own, looks before it acts and may be run again by another process:
//! all that lasts is in PgBouncer and its file. PAUSE outlives whoever gave it, so whoever finds an entry paused must
//! be able to RESUME it, knowing nothing.

use super::{
    config::{Config, Written},
    console::{Console, DatabaseRow, PoolRow, ServerRow},
    file,
};
use crate::{
    error::{Doing, Error, Kind, Result},
    pg::conninfo::ConnInfo,
    plan,
    route::{Action, target::Target},
};
use serde::{Deserialize, Serialize};
use std::{path::PathBuf, sync::Arc, time::Duration};
use tokio::{
    sync::Mutex,
    time::{Instant, sleep},
};

/// How long taking a PAUSE back may take; clients are held meanwhile, so it is tried hard.
const RESUME_WITHIN: Duration = Duration::from_secs(10);
/// A PAUSE still on its way when we gave up could arrive after our RESUME; we look again after this.
const SETTLE: Duration = Duration::from_millis(250);
/// How long PAUSE waits for logins in flight, which it would break off.
const LOGINS_WITHIN: Duration = Duration::from_millis(300);
/// How long after RESUME waiting clients may take to be served before the general settings come back.
const SERVED_WITHIN: Duration = Duration::from_secs(1);
/// Between two looks at the console.
const POLL: Duration = Duration::from_millis(5);
/// Between two tries to RESUME.
const RETRY: Duration = Duration::from_millis(100);

/// One entry of one PgBouncer.
pub struct Instance {
    pub(super) admin: ConnInfo,
    pub(super) entry: String,
    config: PathBuf,
    pub(super) target: Target,
    pub(super) label: String,
    /// Several instances may share a file: reading, editing and writing it is one act.
    edits: Arc<Mutex<()>>,
}

/// What an entry was before us: enough to restore it byte for byte. No secret in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EntryBefore {
    /// The instance, as [`Instance::label`] says it.
    pub instance: String,
    /// Host, port and dbname as they were written.
    pub written: Written,
}

impl Instance {
    /// From the plan. `edits` is shared by all instances of the route.
    ///
    /// # Errors
    /// [`Kind::Plan`] when the connection string or `to` cannot be read.
    pub fn new(plan: &plan::PgBouncer, edits: Arc<Mutex<()>>) -> Result<Instance> {
        let admin = ConnInfo::parse(plan.admin.expose())?;
        let label = format!("PgBouncer {}:{}, entry `{}`", admin.host(), admin.port(), plan.database);
        Ok(Instance {
            admin,
            entry: plan.database.clone(),
            config: PathBuf::from(&plan.config),
            target: plan.to.parse()?,
            label,
            edits,
        })
    }

    /// Names the instance in messages and in the journal: address and entry.
    pub fn label(&self) -> &str {
        &self.label
    }

    pub(super) fn entry(&self) -> &str {
        &self.entry
    }

    pub(super) fn config_path(&self) -> &std::path::Path {
        &self.config
    }

    pub(super) async fn console(&self, until: Instant) -> Result<Console> {
        Console::connect(&self.admin, until).await
    }

    /// The entry's row of `SHOW DATABASES`.
    ///
    /// # Errors
    /// [`Kind::Request`] when PgBouncer has no such entry, else as the console fails.
    async fn row(&self, console: &Console, until: Instant) -> Result<DatabaseRow> {
        let rows = console.databases(until).await?;
        rows.into_iter().find(|row| row.name == self.entry).ok_or_else(|| {
            Error::new(Kind::Request, format!("{} is not among its databases", self.label))
                .hint("`database` in the plan is the name under [databases] that clients connect to.")
        })
    }

    async fn links(&self, console: &Console, until: Instant) -> Result<Vec<ServerRow>> {
        let mut rows = console.servers(until).await?;
        rows.retain(|row| row.database == self.entry);
        Ok(rows)
    }

    /// What the file says of the entry, to be journaled before any change.
    ///
    /// # Errors
    /// [`Kind::Request`] when the file or entry cannot be used, or points to green already, so that the way back is unknown.
    pub async fn before(&self) -> Result<EntryBefore> {
        let config = self.read_config()?;
        if config.with_target(&self.entry, &self.target)? == config.text() {
            return Err(Error::new(
                Kind::Request,
                format!("{} points to green already, in {}", self.label, self.config.display()),
            )
            .hint("Point it to blue and RELOAD, so that we know the way back."));
        }
        Ok(EntryBefore { instance: self.label.clone(), written: config.written(&self.entry)? })
    }

    pub(super) fn read_config(&self) -> Result<Config> {
        Config::read(file::read(&self.config)?)
            .map_err(|error| Error { what: format!("{}: {}", self.config.display(), error.what), ..error })
    }

    /// Holds the entry's clients, and waits until none of its transactions runs on a server. Fine when already paused.
    ///
    /// # Errors
    /// [`Kind::Deadline`] when `until` passes first (a client keeps a transaction open); clients then go on as before.
    /// [`Kind::Stopped`] when it could not be taken back: clients are held. Others: PAUSE was not given.
    pub async fn pause(&self, until: Instant) -> Result<()> {
        let console = self.console(until).await?;
        self.row(&console, until).await?;
        let no_login = |pools: &[PoolRow]| pools.iter().all(|pool| pool.servers_login == 0);
        self.see_pools(&console, no_login, until.min(Instant::now() + LOGINS_WITHIN)).await?;
        console.log_in_at_once(until).await?;
        let Err(error) = self.quiet(&console, until).await else { return Ok(()) };
        // Closed before the RESUME, which its PAUSE must not overtake.
        drop(console);
        let holding = self.who_holds_on().await;
        self.take_pause_back().await?;
        Err(match holding {
            Some(holding) if error.kind == Kind::Deadline => Error::new(
                Kind::Deadline,
                format!("{} was not quiet in time; its clients go on as before", self.label),
            )
            .hint(format!("Still in use: {holding}. End those transactions, or give `pause_max` more time."))
            .source(error),
            _ => error,
        })
    }

    async fn quiet(&self, console: &Console, until: Instant) -> Result<()> {
        console.pause(&self.entry, until).await?;
        // The answer alone proves nothing on 1.18: see Console::pause.
        while !self.links(console, until).await?.is_empty() {
            if Instant::now() >= until {
                return Err(Error::new(
                    Kind::Deadline,
                    format!("{} still has links to a server", self.label),
                ));
            }
            sleep(POLL).await;
        }
        match self.row(console, until).await?.paused {
            true => Ok(()),
            false => Err(Error::new(Kind::Server, format!("{} was resumed by somebody else", self.label))),
        }
    }

    /// Looks at the entry's pools until they are as wished; `false` when they are not in time.
    async fn see_pools(
        &self,
        console: &Console,
        wish: impl Fn(&[PoolRow]) -> bool,
        until: Instant,
    ) -> Result<bool> {
        loop {
            let mut pools = console.pools(until + RETRY).await?;
            pools.retain(|pool| pool.database == self.entry);
            if wish(&pools) {
                return Ok(true);
            }
            if Instant::now() >= until {
                return Ok(false);
            }
            sleep(POLL).await;
        }
    }

    /// The links that kept a PAUSE waiting, in words; `None` when there is none or it cannot be known.
    async fn who_holds_on(&self) -> Option<String> {
        let until = Instant::now() + Duration::from_millis(500);
        let console = self.console(until).await.ok()?;
        let links = self.links(&console, until).await.ok()?;
        let words = links.iter().take(5).map(|link| {
            format!("user {}, application `{}`, backend {}", link.user, link.application, link.remote_pid)
        });
        let words = words.collect::<Vec<_>>().join("; ");
        (!words.is_empty()).then(|| match links.len() {
            0..=5 => words,
            all => format!("{words}; and {} more", all - 5),
        })
    }

    async fn take_pause_back(&self) -> Result<()> {
        let until = Instant::now() + RESUME_WITHIN;
        let twice = async {
            self.resume(until).await?;
            sleep(SETTLE).await;
            self.resume(until).await
        };
        twice.await.map_err(|error| {
            Error::new(Kind::Stopped, format!("{} may still hold its clients: RESUME failed", self.label))
                .hint(format!("Type `RESUME \"{}\"` on its admin console now.", self.entry))
                .source(error)
        })
    }

    /// Lets clients go on, and sees that they may. Fine when nothing is paused. Tried again until `until`.
    ///
    /// # Errors
    /// The last failure; clients may still be held then.
    pub async fn resume(&self, until: Instant) -> Result<()> {
        loop {
            match self.try_resume(until).await {
                Ok(()) => return Ok(()),
                Err(error) if error.kind == Kind::Request || Instant::now() + RETRY >= until => {
                    return Err(error);
                }
                Err(error) => tracing::warn!(instance = self.label, %error, "RESUME failed, trying again"),
            }
            sleep(RETRY).await;
        }
    }

    async fn try_resume(&self, until: Instant) -> Result<()> {
        let console = self.console(until).await?;
        if self.row(&console, until).await?.paused {
            console.log_in_at_once(until).await?;
            console.resume(&self.entry, until).await?;
        }
        if self.row(&console, until).await?.paused {
            return Err(Error::new(Kind::Server, format!("{} is still paused after RESUME", self.label)));
        }
        if let Err(error) = self.settle(&console).await {
            tracing::warn!(instance = self.label, %error, "clients go on, but a RELOAD is still to be done");
        }
        Ok(())
    }

    /// Gives `server_login_retry` its value back once waiting clients are served.
    async fn settle(&self, console: &Console) -> Result<()> {
        let until = Instant::now() + SERVED_WITHIN;
        if !console.logs_in_at_once(until).await? {
            return Ok(());
        }
        // A link that is in is what makes PgBouncer forget the failure.
        let served = |pools: &[PoolRow]| {
            pools.iter().all(|pool| pool.clients_waiting == 0 || pool.servers_active + pool.servers_idle > 0)
        };
        if self.see_pools(console, served, until).await? {
            console.reload(Instant::now() + SERVED_WITHIN).await?;
        } else {
            tracing::warn!(
                instance = self.label,
                "clients still wait; server_login_retry stays 0 until RELOAD"
            );
        }
        Ok(())
    }

    /// Whether PAUSE was given for the entry.
    ///
    /// # Errors
    /// As the console fails.
    pub async fn paused(&self, until: Instant) -> Result<bool> {
        let console = self.console(until).await?;
        Ok(self.row(&console, until).await?.paused)
    }

    /// Whether both the file and the running PgBouncer send the entry to green.
    ///
    /// # Errors
    /// As the console or the file fails.
    pub async fn points_to_green(&self, until: Instant) -> Result<bool> {
        let config = self.read_config()?;
        let console = self.console(until).await?;
        let row = self.row(&console, until).await?;
        let in_file = config.with_target(&self.entry, &self.target)? == config.text();
        Ok(in_file && config.points_to(&self.entry)? == (row.host, row.port, row.database))
    }

    /// Points the paused entry to green: file, RELOAD, and a look that PgBouncer took it and has no link left.
    ///
    /// # Errors
    /// [`Kind::Request`] when the entry is not paused, since clients would write to both sides; [`Kind::Deadline`]; as the
    /// file or the console fails. The file may have changed then; [`Instance::restore`] takes that back.
    pub async fn point_to_green(&self, until: Instant) -> Result<()> {
        if !self.points_to_green(until).await? && !self.paused(until).await? {
            return Err(Error::new(Kind::Request, format!("{} is not paused", self.label))
                .hint("Its clients would write to blue and green at the same time; pause it first."));
        }
        self.point(|config| config.with_target(&self.entry, &self.target), until).await
    }

    /// Points the entry to where it was before us, paused or not: a PgBouncer that was restarted meanwhile has forgotten
    /// its PAUSE, and as long as there is a way back green takes no writes.
    ///
    /// # Errors
    /// [`Kind::Deadline`]; as the file or the console fails.
    pub async fn restore(&self, before: &EntryBefore, until: Instant) -> Result<()> {
        self.point(|config| config.with_written(&self.entry, &before.written), until).await
    }

    async fn point(&self, edit: impl Fn(&Config) -> Result<String>, until: Instant) -> Result<()> {
        let console = self.console(until).await?;
        let old = self.read_config()?;
        let wanted = Config::read(edit(&old)?)?.points_to(&self.entry)?;
        let row = self.row(&console, until).await?;
        let there = wanted == (row.host, row.port, row.database);
        if there && edit(&old)? == old.text() {
            return self.no_stale_link(&console, until).await;
        }
        if Instant::now() >= until {
            // We may have slept past the moment when this was ours to do.
            return Err(Error::new(
                Kind::Deadline,
                format!("it is too late to point {} elsewhere", self.label),
            ));
        }
        self.edit(|config| edit(&Config::read(config.without_probe(&self.entry))?)).await?;
        self.reload(&console, &self.entry, &wanted, until).await?;
        self.no_stale_link(&console, until).await
    }

    /// While paused an entry has no link at all; later, none that was made before the last change of its target.
    async fn no_stale_link(&self, console: &Console, until: Instant) -> Result<()> {
        loop {
            let paused = self.row(console, until).await?.paused;
            let links = self.links(console, until).await?;
            if !links.iter().any(|link| paused || link.close_needed) {
                return Ok(());
            }
            if Instant::now() >= until {
                return Err(Error::new(
                    Kind::Deadline,
                    format!("{} keeps links to the server before", self.label),
                ));
            }
            sleep(POLL).await;
        }
    }

    /// Edits the file as one act; not written when nothing changes.
    ///
    /// A caller that gives up leaves the writing to its thread, which keeps the lock: 1. the disk is slow, and a step gives up;
    /// 2. its undo reads the old file and has nothing to do; 3. the thread replaces the file after all. So the undo waits.
    pub(super) async fn edit(&self, edit: impl Fn(&Config) -> Result<String>) -> Result<()> {
        let alone = Arc::clone(&self.edits).lock_owned().await;
        let old = self.read_config()?;
        let new = edit(&old)?;
        if new == old.text() {
            return Ok(());
        }
        let path = self.config.clone();
        let replacing = move || {
            let _alone = alone;
            file::replace(&path, old.text(), &new)
        };
        tokio::task::spawn_blocking(replacing)
            .await
            .doing(Kind::Bug, || "writing the configuration panicked".into())?
    }

    /// RELOAD, until `SHOW DATABASES` has `entry` with the wanted host, port and database.
    pub(super) async fn reload(
        &self,
        console: &Console,
        entry: &str,
        wanted: &(String, String, String),
        until: Instant,
    ) -> Result<()> {
        console.reload(until).await?;
        if self.row(console, until).await?.paused {
            console.log_in_at_once(until).await?;
        }
        loop {
            let rows = console.databases(until).await?;
            let seen = rows.into_iter().find(|row| row.name == entry);
            if seen.is_some_and(|row| *wanted == (row.host, row.port, row.database)) {
                return Ok(());
            }
            if Instant::now() >= until {
                return Err(Error::new(Kind::Deadline, format!("{} did not take its new file", self.label))
                    .hint(format!("Look for errors about {} in PgBouncer's log.", self.config.display())));
            }
            sleep(POLL).await;
        }
    }
}

impl Instance {
    /// What an action will do here, one line.
    pub fn shows(&self, action: Action) -> String {
        let (label, config) = (&self.label, self.config.display());
        match action {
            Action::Pause => format!("{label}: PAUSE"),
            Action::ToGreen => format!("{label}: set {} in {config}, RELOAD", self.target),
            Action::ToBlue => format!("{label}: restore the entry in {config}, RELOAD"),
            Action::Prove => format!("{label}: a query through a temporary twin of the entry in {config}"),
            Action::Resume => format!("{label}: RESUME"),
        }
    }

    /// Whether the file points the entry to green.
    pub(super) fn file_is_at_green(&self) -> bool {
        self.read_config().is_ok_and(|config| {
            config.with_target(&self.entry, &self.target).is_ok_and(|text| text == config.text())
        })
    }
}
