//! What sends clients to blue or green: PgBouncer, or commands of the operator's own.
//!
//! ```text
//! before ─ journal it ─ pause_all ─ (fence) ─ switch_to_green ─ prove_green ─ (opening) ─ resume_all
//!                            └── anything fails: switch_to_blue(before) ─ resume_all
//! ```
//!
//! Every operation has a deadline, looks before it acts, and may be run again by another process that knows only the
//! plan and the journaled [`RouteBefore`]. Nothing is kept in memory between two of them.

pub mod command;
pub mod connstr;
pub mod pgbouncer;
pub mod target;

use crate::{
    error::{Error, Kind, Result},
    event::Ears,
    finding::Finding,
    pg::conninfo::ConnInfo,
    plan,
};
use command::CommandRoute;
use pgbouncer::{EntryBefore, Poolers, ProbeTo, Proved};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tokio::time::Instant;

/// What sends clients to blue or green.
pub enum Route {
    /// PgBouncer instances.
    PgBouncer(Poolers),
    /// The operator's commands.
    Command(CommandRoute),
}

/// For whom the route is moved; the operator's commands see it in their environment.
#[derive(Debug, Clone)]
pub struct OnBehalfOf {
    /// The plan's name: `MIGRATE_PLAN`.
    pub plan: String,
    /// The lease's epoch: `MIGRATE_EPOCH`.
    pub epoch: i64,
}

/// What the route was before us. Journal it before the first change; it holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "route", rename_all = "snake_case")]
pub enum RouteBefore {
    /// Host, port and dbname of each entry, as written.
    PgBouncer {
        /// One for each instance.
        entries: Vec<EntryBefore>,
    },
    /// `to_blue` knows the way.
    Command,
}

/// Where clients are sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pointing {
    /// All to green.
    Green,
    /// None to green.
    Elsewhere,
    /// Some to green.
    Mixed {
        /// The instances that do not.
        elsewhere: Vec<String>,
    },
}

/// A query whose answer tells which server was reached, and the login to ask it with.
///
/// The login must be known both to PgBouncer (unless it takes any) and to the server; green's own is a good choice. Where
/// PgBouncer refuses it, the console's word is taken and a warning given.
#[derive(Debug, Clone)]
pub struct Proof {
    /// Whose role and password to log in with; host and database are the pooler's.
    pub login: ConnInfo,
    /// A query of one row and one column: `select nonce from migrate.identity`.
    pub query: String,
    /// What it must answer, as text.
    pub expect: String,
}

impl Route {
    /// From the plan.
    ///
    /// # Errors
    /// [`Kind::Plan`] when not exactly one way is given, or it cannot be read.
    pub fn from_plan(route: &plan::Route, on_behalf_of: OnBehalfOf, ears: Ears) -> Result<Route> {
        match (&route.pgbouncer, &route.command) {
            (Some(poolers), None) => Ok(Route::PgBouncer(Poolers::from_plan(poolers, ears)?)),
            (None, Some(command)) => Ok(Route::Command(CommandRoute::from_plan(command, on_behalf_of)?)),
            _ => Err(Error::new(Kind::Plan, "cutover.route has not exactly one of pgbouncer and command")
                .hint("Keep one of them.")),
        }
    }

    /// What is there before us. Journal it before [`Route::pause_all`].
    ///
    /// # Errors
    /// [`Kind::Request`] when the route points to green already, so that the way back is unknown.
    pub async fn before(&self) -> Result<RouteBefore> {
        match self {
            Route::PgBouncer(poolers) => Ok(RouteBefore::PgBouncer { entries: poolers.before().await? }),
            Route::Command(_) => Ok(RouteBefore::Command),
        }
    }

    /// Holds all clients, and waits until none of their transactions runs.
    ///
    /// # Errors
    /// [`Kind::Deadline`] when `until` passed; all clients go on as before. [`Kind::Stopped`] when that could not be
    /// had: clients are held, and the hint says what to type.
    pub async fn pause_all(&self, until: Instant) -> Result<()> {
        match self {
            Route::PgBouncer(poolers) => poolers.pause(until).await,
            Route::Command(command) => command.pause(until).await,
        }
    }

    /// Sends held clients to green. They are still held.
    ///
    /// # Errors
    /// As a file, console or command fails; some instances may point to green then. Go on, or [`Route::switch_to_blue`].
    pub async fn switch_to_green(&self, until: Instant) -> Result<()> {
        match self {
            Route::PgBouncer(poolers) => poolers.switch_to_green(until).await,
            Route::Command(command) => command.to_green(until).await,
        }
    }

    /// Sends held clients to where they were. They are still held.
    ///
    /// # Errors
    /// As [`Route::switch_to_green`].
    pub async fn switch_to_blue(&self, before: &RouteBefore, until: Instant) -> Result<()> {
        match (self, before) {
            (Route::PgBouncer(poolers), RouteBefore::PgBouncer { entries }) => {
                poolers.restore(entries, until).await
            }
            (Route::Command(command), RouteBefore::Command) => command.to_blue(until).await,
            _ => Err(Error::new(Kind::Request, "the plan's route is of another kind than the journal's")
                .hint("Put the route back into the plan as it was when the migration began.")),
        }
    }

    /// Lets all clients go on. Tried again until `until`; fine when none is held.
    ///
    /// # Errors
    /// The last failure; some clients may still be held.
    pub async fn resume_all(&self, until: Instant) -> Result<()> {
        match self {
            Route::PgBouncer(poolers) => poolers.resume(until).await,
            Route::Command(command) => command.resume(until).await,
        }
    }

    /// Proves that clients will reach the expected server, without waking them.
    ///
    /// # Errors
    /// [`Kind::Gate`] when they would not.
    pub async fn prove_green(&self, proof: &Proof, until: Instant) -> Result<Vec<Proved>> {
        match self {
            Route::PgBouncer(poolers) => match poolers.pointing_at(until).await? {
                Pointing::Green => poolers.prove(ProbeTo::WhereTheEntryPoints, proof, until).await,
                _ => Err(Error::new(Kind::Gate, "the route does not point to green")),
            },
            Route::Command(command) => command.prove(until).await,
        }
    }

    /// Tries green's target beforehand, through twins of the entries, while clients stay where they are.
    ///
    /// It writes the twins into PgBouncer's file and removes them. Commands have nothing to try.
    ///
    /// # Errors
    /// [`Kind::Gate`] when green would not be reached.
    pub async fn rehearse_green(&self, proof: &Proof, until: Instant) -> Result<Vec<Proved>> {
        match self {
            Route::PgBouncer(poolers) => poolers.prove(ProbeTo::Green, proof, until).await,
            Route::Command(_) => Ok(Vec::new()),
        }
    }

    /// Proves by a query as an application would ask it that clients reach the expected server; after
    /// [`Route::resume_all`].
    ///
    /// # Errors
    /// [`Kind::Gate`] when they do not.
    pub async fn prove_live(&self, proof: &Proof, until: Instant) -> Result<Vec<Proved>> {
        match self {
            Route::PgBouncer(poolers) => poolers.prove_live(proof, until).await,
            Route::Command(command) => command.prove(until).await,
        }
    }

    /// What `check` finds: whether the route can be moved at all. Nothing lasting is changed.
    pub async fn findings(&self, pause_max: Duration, until: Instant) -> Vec<Finding> {
        match self {
            Route::PgBouncer(poolers) => poolers.findings(pause_max, until).await,
            Route::Command(command) => command.findings(),
        }
    }

    /// Whether any client is held; `None` when nobody can know (commands).
    ///
    /// # Errors
    /// As a console fails.
    pub async fn paused(&self, until: Instant) -> Result<Option<bool>> {
        match self {
            Route::PgBouncer(poolers) => poolers.any_paused(until).await.map(Some),
            Route::Command(_) => Ok(None),
        }
    }

    /// Where clients are sent. For commands: what `prove` says.
    ///
    /// # Errors
    /// As a console, file or command fails.
    pub async fn pointing_at(&self, until: Instant) -> Result<Pointing> {
        match self {
            Route::PgBouncer(poolers) => poolers.pointing_at(until).await,
            Route::Command(command) => match command.prove(until).await {
                Ok(_) => Ok(Pointing::Green),
                Err(error) if error.kind == Kind::Gate => Ok(Pointing::Elsewhere),
                Err(error) => Err(error),
            },
        }
    }

    /// What will be done, a line for each action, for `plan` and `--dry-run`.
    pub fn shows(&self, action: Action) -> Vec<String> {
        match self {
            Route::PgBouncer(poolers) => poolers.instances().iter().map(|it| it.shows(action)).collect(),
            Route::Command(command) => vec![command.shows(action)],
        }
    }
}

/// What can be done with a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// [`Route::pause_all`]
    Pause,
    /// [`Route::switch_to_green`]
    ToGreen,
    /// [`Route::switch_to_blue`]
    ToBlue,
    /// [`Route::prove_green`]
    Prove,
    /// [`Route::resume_all`]
    Resume,
}
