//! Proving where an entry leads, without waking its clients: a temporary twin of it, with the same target, is asked.

use super::{config::Config, instance::Instance, link::Link};
use crate::{
    error::{Doing, Error, Kind, Result},
    route::{Proof, target::Target},
};
use tokio::time::Instant;
use tokio_postgres::SimpleQueryMessage;

/// How the route was proved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proved {
    /// A query through the pooler reached the expected server.
    ByQuery,
    /// The pooler refuses our login, so only its own word stands: SHOW DATABASES and SHOW SERVERS.
    ByConsole {
        /// Why no query could be made.
        refusal: String,
    },
}

/// By which name a proof is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Through {
    /// The temporary twin.
    Twin,
    /// The name that applications use.
    Entry,
}

/// Where a temporary twin leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeTo {
    /// To green, wherever the entry points: tried before the switch.
    Green,
    /// To where the entry points.
    WhereTheEntryPoints,
}

impl Instance {
    /// Adds the temporary twin of the entry: with green's target, or with the entry's own.
    ///
    /// # Errors
    /// As the file or the console fails. [`Instance::remove_probe`] takes it back.
    pub(super) async fn add_probe(&self, to: ProbeTo, until: Instant) -> Result<()> {
        let target = match to {
            ProbeTo::Green => self.target.clone(),
            ProbeTo::WhereTheEntryPoints => Target::default(),
        };
        let console = self.console(until).await?;
        self.edit(|config| config.with_probe(&self.entry, &target)).await?;
        let twin = Config::probe_name(&self.entry);
        let wanted = self.read_config()?.points_to(&twin)?;
        self.reload(&console, &twin, &wanted, until).await
    }

    /// Removes the temporary twin; fine when there is none.
    ///
    /// # Errors
    /// As the file or the console fails.
    pub(super) async fn remove_probe(&self, until: Instant) -> Result<()> {
        let twin = Config::probe_name(&self.entry);
        self.edit(|config| Ok(config.without_probe(&self.entry))).await?;
        let console = self.console(until).await?;
        if console.databases(until).await?.iter().any(|row| row.name == twin) {
            console.reload(until).await?;
        }
        Ok(())
    }

    /// Asks the proof's query through the twin, or through the entry itself, where it hangs while paused.
    ///
    /// # Errors
    /// [`Kind::Gate`] when another answer comes, so another server is reached, or the server refuses the pooler.
    pub(super) async fn ask(&self, through: Through, proof: &Proof, until: Instant) -> Result<Proved> {
        let database = match through {
            Through::Twin => Config::probe_name(&self.entry),
            Through::Entry => self.entry.clone(),
        };
        let client = self.admin.with_database(&database).with_login_of(&proof.login);
        let link = match Link::open(&client, until).await {
            Ok(link) => link,
            Err(error) => return self.refused(error),
        };
        let messages = link
            .ask(&proof.query, until)
            .await
            .doing(Kind::Gate, || format!("the query that proves {} failed", self.label))?;
        let answer = messages.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.try_get(0).ok().flatten(),
            _ => None,
        });
        if answer == Some(&proof.expect) {
            return Ok(Proved::ByQuery);
        }
        let answer = answer.map_or_else(|| "nothing".to_owned(), |answer| format!("`{answer}`"));
        Err(Error::new(
            Kind::Gate,
            format!(
                "{} leads to another server: it answers {answer}, expected was `{}`",
                self.label, proof.expect
            ),
        )
        .hint("Compare `to` in the plan with `green.url`, as seen from the pooler's machine."))
    }

    /// Tells a login that PgBouncer itself refuses, which says nothing about the route, from a server that refuses PgBouncer.
    fn refused(&self, error: Error) -> Result<Proved> {
        let refusal = error.chain().join(": ");
        let by_pooler =
            ["authentication failed", "no such user", "auth failed", "login rejected", "not allowed"];
        if !refusal.contains("server login") && by_pooler.iter().any(|words| refusal.contains(words)) {
            return Ok(Proved::ByConsole { refusal });
        }
        Err(Error::new(Kind::Gate, format!("nobody gets through {} to its new server", self.label))
            .hint("Green must let the pooler's machine and users in (pg_hba.conf, roles with the same passwords or SCRAM secrets).")
            .source(error))
    }
}
