//! `apply`: the rewritten DDL, run online on a live database, resumable.

use super::session::{self, Brief};
use crate::ddl::Online;
use crate::engine::{
    Engine,
    journal::PgJournal,
    keeper::{Keeper, Place},
    lease::{self, Takeover},
    pin::{self, InPlacePin},
    state::{self, Holds},
};
use crate::error::{Doing, Error, Kind, Result};
use crate::event::{Ears, Event, Listener};
use crate::finding::any_blocking;
use crate::pg::{catalog, connect, conninfo::ConnInfo};
use crate::plan::{MigrationKind, Side};
use crate::runbook::in_place;
use crate::step::{
    Step,
    ddl::{Brownout, DdlWorld, Waited, steps},
};
use async_trait::async_trait;
use tokio::sync::watch;
use tokio_postgres::Client;

/// The one database of a migration in place.
struct InPlace {
    info: ConnInfo,
    epoch: i64,
    ears: Ears,
    brownout: Brownout,
}

#[async_trait]
impl DdlWorld for InPlace {
    async fn session(&self, purpose: &str) -> Result<Client> {
        connect::connect(&self.info, purpose).await
    }

    async fn guard(&self, client: &Client) -> Result<()> {
        lease::guard(client, self.epoch).await
    }

    fn ears(&self) -> &dyn Listener {
        self.ears.as_ref()
    }

    fn brownout(&self) -> &Brownout {
        &self.brownout
    }
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// All statements ran.
    Now {
        /// How many.
        statements: usize,
        /// What other sessions waited for them in this run.
        waited: Waited,
    },
    /// An earlier run had finished; nothing was done.
    Before,
}

/// Runs the plan's DDL.
///
/// # Errors
/// [`Kind::Findings`] when a statement has no online form (nothing was changed); [`Kind::Lease`]; [`Kind::Plan`] when
/// the plan was edited since it was pinned; a statement's own error, after which the same command goes on.
///
/// # Crash
/// The rewritten list is pinned before its first statement; each statement's step looks whether its effect is there.
pub async fn run(brief: Brief, ears: Ears, mut stop: watch::Receiver<bool>) -> Result<Applied> {
    if brief.plan.kind != MigrationKind::InPlace {
        return Err(Error::new(Kind::Request, format!("the plan `{}` is not run in place", brief.plan.name))
            .hint("its SQL runs on green, as a step of `migrate replicate`"));
    }
    let info = ConnInfo::parse(brief.plan.blue.url.expose())?;
    let mut client = session::reach(Side::Blue, &info, "lease").await?;
    let fingerprint = fingerprint(&brief)?;
    let known = state::find(&client, Side::Blue, &brief.plan.name).await?.is_some();
    if known && pin::has_ended(&client, &brief.plan.name, &fingerprint).await? {
        return Ok(Applied::Before);
    }
    let begun = known && pin::current::<InPlacePin>(&client, &brief.plan.name).await?.is_some();
    let fresh = if begun { None } else { Some(look_before_beginning(&brief, &client).await?) };

    let identity = state::create(&mut client, Side::Blue, Holds::Everything, &brief.plan.name).await?;
    let holder = format!("apply (process {})", std::process::id());
    let keeper = Keeper::take(
        vec![Place { side: Side::Blue, info: info.clone(), client }],
        &holder,
        Takeover::OnlyWhenFree,
    )
    .await?;
    let info = info.acting_as(keeper.epoch());
    let journal = connect::connect(&info, "journal").await?;
    let pin = match (pin::current::<InPlacePin>(&journal, &brief.plan.name).await?, fresh) {
        (Some(pin), _) => pin,
        (None, Some(statements)) => {
            let attempt = pin::next_number(&journal).await?;
            let pin = InPlacePin {
                attempt,
                fingerprint: fingerprint.clone(),
                database: identity.clone(),
                statements,
            };
            pin::pin(&journal, &brief.plan.name, attempt, &fingerprint, &pin).await?;
            pin
        }
        (None, None) => return Err(session::nothing_begun(&brief.plan)),
    };
    refuse_other(&pin, &fingerprint, &identity)?;

    let brownout = brief.plan.schema.brownout_max.map_or_else(Brownout::default, |max| Brownout::of(max.0));
    let world = InPlace { info: info.clone(), epoch: keeper.epoch(), ears: ears.clone(), brownout };
    let journal = PgJournal::new(info.clone(), journal, pin.attempt, keeper.epoch());
    let list: Vec<Box<dyn Step<InPlace>>> =
        steps(&pin.statements).into_iter().map(|step| Box::new(step) as Box<dyn Step<InPlace>>).collect();
    ears.tell(Event::Phase { name: "apply".into() });
    let forward = async { Engine::open(&world, &journal, ears.as_ref()).await?.forward(&list).await };
    let outcome = tokio::select! {
        done = forward => done,
        error = keeper.lost() => Err(error),
        _ = stop.wait_for(|stop| *stop) => Err(Error::new(Kind::Stopped, "stopped between statements")
            .hint("run `migrate apply` again: it goes on from here")),
    };
    if outcome.is_ok() {
        pin::end(&connect::connect(&info, "end").await?, pin.attempt).await?;
    }
    keeper.release().await;
    outcome.map(|()| Applied::Now { statements: list.len(), waited: world.brownout.waited() })
}

/// Rewrites for the database as it is; blocking findings stop us before anything was changed.
async fn look_before_beginning(brief: &Brief, client: &Client) -> Result<Vec<Online>> {
    let facts = catalog::read(client, Side::Blue, &brief.plan.replicate.tables).await?;
    let rewritten = in_place::rewrite(&brief.plan, &brief.sql_files, Some(&facts));
    if any_blocking(&rewritten.findings) {
        return Err(session::stopped_by(&rewritten.findings));
    }
    Ok(rewritten.statements)
}

/// Of the plan and its files; the rewritten list is pinned itself. What others may be made to wait can be changed between runs.
pub fn fingerprint(brief: &Brief) -> Result<String> {
    let files: Vec<(&str, &str)> =
        brief.sql_files.iter().map(|file| (file.name.as_str(), file.text.as_str())).collect();
    let mut plan = brief.plan.clone();
    plan.schema.brownout_max = None;
    let text = serde_json::to_string(&(&plan, files))
        .doing(Kind::Bug, || "the plan cannot be written as JSON".into())?;
    Ok(blake3::hash(text.as_bytes()).to_hex()[..16].to_owned())
}

fn refuse_other(pin: &InPlacePin, fingerprint: &str, identity: &state::Identity) -> Result<()> {
    if pin.fingerprint != fingerprint {
        return Err(Error::new(
            Kind::Plan,
            format!(
                "the plan was edited since it was pinned (fingerprint {fingerprint}, pinned {})",
                pin.fingerprint
            ),
        )
        .hint("put the plan and its SQL back as they were, and let `migrate apply` come to its end first"));
    }
    if pin.database != *identity {
        return Err(Error::new(
            Kind::Gate,
            "this is another database than the one this migration began with",
        )
        .hint("look at blue.url; a restored copy must not go on with the original's journal"));
    }
    Ok(())
}
