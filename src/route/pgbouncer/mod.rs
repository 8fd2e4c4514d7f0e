//! PgBouncer as the route: all its instances at once.
//!
//! PAUSE outlives the session that gave it, and an entry's clients wait while it holds. So whatever fails while pausing,
//! every instance is resumed, and any process may resume at any time.

pub mod config;
pub mod console;
pub mod file;
pub mod inspect;
pub mod instance;
mod link;
pub mod probe;

use crate::{
    error::{Error, Kind, Result},
    event::{Ears, Event},
    finding::Finding,
    plan,
    route::{Pointing, Proof},
};
use futures_util::future::join_all;
pub use instance::{EntryBefore, Instance};
use probe::Through;
pub use probe::{ProbeTo, Proved};
use std::{future::Future, sync::Arc, time::Duration};
use tokio::{sync::Mutex, time::Instant};

/// How long resuming may take when one instance could not be paused.
const RESUME_WITHIN: Duration = Duration::from_secs(10);
/// How long removing the twins may take, after whatever failed.
const CLEAN_WITHIN: Duration = Duration::from_secs(5);

/// All instances in front of the database.
pub struct Poolers {
    instances: Vec<Instance>,
    ears: Ears,
}

impl Poolers {
    /// From the plan.
    ///
    /// # Errors
    /// [`Kind::Plan`] when there is no instance, or one cannot be read.
    pub fn from_plan(plans: &[plan::PgBouncer], ears: Ears) -> Result<Poolers> {
        if plans.is_empty() {
            return Err(Error::new(Kind::Plan, "cutover.route.pgbouncer names no instance"));
        }
        let edits = Arc::new(Mutex::new(()));
        let instances = plans.iter().map(|plan| Instance::new(plan, edits.clone())).collect::<Result<_>>()?;
        Ok(Poolers { instances, ears })
    }

    /// The instances, in the plan's order.
    pub fn instances(&self) -> &[Instance] {
        &self.instances
    }

    /// What was there before us, of each instance.
    ///
    /// # Errors
    /// As [`Instance::before`].
    pub async fn before(&self) -> Result<Vec<EntryBefore>> {
        self.each(|instance| instance.before()).await
    }

    /// Holds the clients of all instances.
    ///
    /// # Errors
    /// The first failure; the clients of all instances go on then, unless its kind is [`Kind::Stopped`].
    pub async fn pause(&self, until: Instant) -> Result<()> {
        let paused = join_all(self.instances.iter().map(|instance| instance.pause(until))).await;
        if paused.iter().all(Result::is_ok) {
            return Ok(());
        }
        // An instance that failed has taken its own PAUSE back.
        let back_until = Instant::now() + RESUME_WITHIN;
        let held = self.instances.iter().zip(&paused).filter(|(_, paused)| paused.is_ok());
        let back = join_all(held.map(|(instance, _)| instance.resume(back_until))).await;
        let stopped = back.into_iter().find_map(Result::err).map(|back| Error {
            kind: Kind::Stopped,
            what: format!("{}; its clients are held", back.what),
            ..back
        });
        let mut failures: Vec<Error> =
            stopped.into_iter().chain(paused.into_iter().filter_map(Result::err)).collect();
        // What holds clients is what the operator must hear.
        let worst = failures.iter().position(|error| error.kind == Kind::Stopped).unwrap_or(0);
        Err(failures.swap_remove(worst))
    }

    /// Lets the clients of all instances go on.
    ///
    /// # Errors
    /// The first failure; the other instances were resumed.
    pub async fn resume(&self, until: Instant) -> Result<()> {
        self.each(|instance| instance.resume(until)).await.map(drop)
    }

    /// Points all paused entries to green.
    ///
    /// # Errors
    /// The first failure; other instances may point to green.
    pub async fn switch_to_green(&self, until: Instant) -> Result<()> {
        self.each(|instance| instance.point_to_green(until)).await.map(drop)
    }

    /// Points all paused entries to where they were.
    ///
    /// # Errors
    /// [`Kind::Bug`] when `before` is of another plan, else the first failure.
    pub async fn restore(&self, before: &[EntryBefore], until: Instant) -> Result<()> {
        let restore = |instance| restore_one(instance, before, until);
        self.each(restore).await.map(drop)
    }

    /// Whether any instance is paused.
    ///
    /// # Errors
    /// As the console of an instance fails.
    pub async fn any_paused(&self, until: Instant) -> Result<bool> {
        Ok(self.each(|instance| instance.paused(until)).await?.contains(&true))
    }

    /// Where the instances point.
    ///
    /// # Errors
    /// As a console or file fails.
    pub async fn pointing_at(&self, until: Instant) -> Result<Pointing> {
        let at_green = self.each(|instance| instance.points_to_green(until)).await?;
        let green = at_green.iter().filter(|&&green| green).count();
        Ok(match green {
            0 => Pointing::Elsewhere,
            all if all == self.instances.len() => Pointing::Green,
            _ => {
                let elsewhere = self.instances.iter().zip(at_green).filter(|(_, green)| !green);
                Pointing::Mixed { elsewhere: elsewhere.map(|(it, _)| it.label().to_owned()).collect() }
            }
        })
    }

    /// Asks the proof's query through a temporary twin of each entry, also while the entry is paused.
    ///
    /// Where PgBouncer refuses the login, its own word must do, and a warning says so. The twins are removed, whatever
    /// happens; a crash leaves them, and the next change of the entry or `remove_probes` removes them.
    ///
    /// # Errors
    /// [`Kind::Gate`] when another server answers or nobody gets through, else as a console or file fails.
    pub async fn prove(&self, to: ProbeTo, proof: &Proof, until: Instant) -> Result<Vec<Proved>> {
        // One after the other for all instances, since several may read the same file.
        let proved = async {
            self.each(|instance| instance.add_probe(to, until)).await?;
            self.each(|instance| instance.ask(Through::Twin, proof, until)).await
        };
        let proved = proved.await;
        let removed = self.remove_probes(Instant::now() + CLEAN_WITHIN).await;
        let proved = proved?;
        removed?;
        self.warn_of_refusals(&proved, proof);
        Ok(proved)
    }

    /// Asks the proof's query through the entries themselves, as an application would. Only when they are resumed.
    ///
    /// # Errors
    /// [`Kind::Gate`] when another server answers or nobody gets through.
    pub async fn prove_live(&self, proof: &Proof, until: Instant) -> Result<Vec<Proved>> {
        let proved = self.each(|instance| instance.ask(Through::Entry, proof, until)).await?;
        self.warn_of_refusals(&proved, proof);
        Ok(proved)
    }

    fn warn_of_refusals(&self, proved: &[Proved], proof: &Proof) {
        for (instance, proved) in self.instances.iter().zip(proved) {
            if let Proved::ByConsole { refusal } = proved {
                self.ears.tell(Event::Warning {
                    text: format!(
                        "{} refuses our login, so no query proved where it leads; SHOW DATABASES and SHOW SERVERS \
                         did: {refusal}. To have the proof, let `{}` log in there.",
                        instance.label(),
                        proof.login.user(),
                    ),
                });
            }
        }
    }

    /// What `check` finds about the instances.
    pub async fn findings(&self, pause_max: Duration, until: Instant) -> Vec<Finding> {
        let seen = join_all(self.instances.iter().map(|instance| instance.inspect(until))).await;
        let with_paths = seen.iter().zip(&self.instances);
        with_paths
            .flat_map(|(facts, instance)| {
                facts.findings(&instance.config_path().to_string_lossy(), pause_max)
            })
            .collect()
    }

    /// Removes the temporary twins that a crash may have left.
    ///
    /// # Errors
    /// As a console or file fails.
    pub async fn remove_probes(&self, until: Instant) -> Result<()> {
        self.each(|instance| instance.remove_probe(until)).await.map(drop)
    }

    /// Runs an operation on all instances at once, lets each finish, and gives the first failure.
    async fn each<'a, T, F>(&'a self, operation: impl Fn(&'a Instance) -> F) -> Result<Vec<T>>
    where
        F: Future<Output = Result<T>> + 'a,
    {
        join_all(self.instances.iter().map(operation)).await.into_iter().collect()
    }
}

async fn restore_one(instance: &Instance, before: &[EntryBefore], until: Instant) -> Result<()> {
    let found = before.iter().find(|before| before.instance == instance.label());
    let before = found.ok_or_else(|| {
        Error::new(Kind::Bug, format!("the journal has no way back for {}", instance.label()))
    })?;
    instance.restore(before, until).await
}
