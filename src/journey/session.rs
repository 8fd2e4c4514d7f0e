//! A session: the right to act on a migration, and everything needed to do so.

use super::{blue_alone, handover, observe};
use crate::engine::{
    Engine,
    journal::PgJournal,
    keeper::{Keeper, Place},
    lease::Takeover,
    pin::{self, Pin},
    state::{self, Holds, Identity},
};
use crate::error::{Doing, Error, Kind, Result};
use crate::event::Ears;
use crate::finding::{Finding, any_blocking};
use crate::pg::{catalog, connect, conninfo::ConnInfo};
use crate::plan::{OnDdl, Plan, Side, Throttle, load::SqlFile};
use crate::route::{OnBehalfOf, Route};
use crate::runbook::{
    Runbook,
    blue_green::{self, PlanSql},
    tables,
};
use crate::step::{
    attempt::Attempt,
    fence_blue::gate_state,
    world::{Setting, World},
};
use std::sync::Arc;
use tokio::sync::watch;
use tokio_postgres::Client;

/// What a command wants of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// Begin a migration, or go on with one: `replicate`.
    Begin,
    /// Go on with one that this process has begun or gone on with; never begin another: `replicate`, after an interruption.
    GoOn,
    /// Go on with one whose `replicate` is asked to step aside: `cutover`, `rollback`, `finish`.
    TakeOver(handover::RequestKind),
}

/// The plan with its files, as a command got it.
#[derive(Debug, Clone)]
pub struct Brief {
    /// What the operator wrote.
    pub plan: Plan,
    /// The files of `schema.sql`.
    pub sql_files: Vec<SqlFile>,
    /// The files of `schema.after_copy`.
    pub after_copy: Vec<SqlFile>,
    /// The fingerprint that CI demands, if it does.
    pub fingerprint: Option<String>,
}

impl Brief {
    /// The SQL by when it runs.
    pub fn sql(&self) -> PlanSql<'_> {
        PlanSql { schema: &self.sql_files, after_copy: &self.after_copy }
    }
}

/// The right to act, and everything needed to do so.
pub struct Session {
    /// What steps act upon.
    pub world: World,
    /// What there is to do.
    pub runbook: Runbook,
    /// What was pinned.
    pub pin: Pin,
    /// Findings of the checks, when an attempt was begun.
    pub findings: Vec<Finding>,
    /// The limits of the copy; `replicate` changes them when the plan's file changes.
    pub(super) throttle: watch::Sender<Throttle>,
    journal: PgJournal,
    keeper: Keeper,
}

impl Session {
    /// Opens a session: recognizes the databases, takes the lease on both, pins or compares the runbook.
    ///
    /// # Errors
    /// [`Kind::Findings`] when an attempt would begin and a check stops it (nothing was changed then); [`Kind::Lease`]
    /// when somebody else is at work; [`Kind::Plan`] when the plan was edited since it was pinned; [`Kind::Gate`] when
    /// a database is not the one that was pinned; [`Kind::Request`] when nothing has begun and `wish` needs that.
    ///
    /// When blue was taken back while green could not be reached, green's journal is told first.
    pub async fn open(brief: Brief, wish: Wish, ears: Ears) -> Result<Session> {
        let (blue_info, green_info) = connections(&brief.plan)?;
        let mut blue = reach(Side::Blue, &blue_info, "lease").await?;
        let mut green = reach(Side::Green, &green_info, "lease").await?;
        let begun = begun(&green, &brief.plan).await?;
        let mut fresh = None;
        match (&begun, wish) {
            (None, Wish::TakeOver(_) | Wish::GoOn) => return Err(nothing_begun(&brief.plan)),
            (None, Wish::Begin) => {
                fresh = Some(look_before_beginning(&brief, &blue, &green, ears.clone()).await?)
            }
            (Some(_), _) => {}
        }
        let (seen_blue, seen_green) = match &begun {
            Some(_) => (known(&blue, Side::Blue, &brief).await?, known(&green, Side::Green, &brief).await?),
            None => (
                state::create(&mut blue, Side::Blue, Holds::LeaseAndGate, &brief.plan.name).await?,
                state::create(&mut green, Side::Green, Holds::Everything, &brief.plan.name).await?,
            ),
        };

        let takeover = match wish {
            Wish::Begin | Wish::GoOn => Takeover::OnlyWhenFree,
            Wish::TakeOver(kind) => handover::ask(&green, kind).await?,
        };
        for (client, info) in [(&mut blue, &blue_info), (&mut green, &green_info)] {
            if client.is_closed() {
                *client = connect::connect(info, "lease").await?;
            }
        }
        let holder = holder_name(wish);
        let places = vec![
            Place { side: Side::Blue, info: blue_info.clone(), client: blue },
            Place { side: Side::Green, info: green_info.clone(), client: green },
        ];
        let keeper = Keeper::take(places, &holder, takeover).await?;
        let epoch = keeper.epoch();
        let (blue_info, green_info) = (blue_info.acting_as(epoch), green_info.acting_as(epoch));
        let client = connect::connect(&green_info, "journal").await?;

        // Read again under the lease: somebody may have begun or ended an attempt while we waited for it.
        let pinned = pin::current(&client, &brief.plan.name).await?;
        let (pin, findings) = match (pinned, fresh) {
            (Some(pin), _) => (pin, Vec::new()),
            (None, Some(fresh)) => {
                let number = pin::next_number(&client).await?;
                let attempt = Attempt::new(&brief.plan.name, number);
                let runbook = blue_green::build(&brief.plan, &fresh.blue_facts, &attempt, brief.sql());
                let pin = Pin {
                    attempt: number,
                    fingerprint: runbook.fingerprint(&brief.plan)?,
                    blue: seen_blue.clone(),
                    green: seen_green.clone(),
                    blue_facts: fresh.blue_facts,
                };
                demand(&brief, &pin.fingerprint)?;
                pin::pin(&client, &brief.plan.name, number, &pin.fingerprint, &pin).await?;
                (pin, fresh.findings)
            }
            (None, None) => return Err(nothing_begun(&brief.plan)),
        };
        pin.recognize(&seen_blue)?;
        pin.recognize(&seen_green)?;
        let attempt = Attempt::new(&brief.plan.name, pin.attempt);
        let runbook = blue_green::build(&brief.plan, &pin.blue_facts, &attempt, brief.sql());
        compare_fingerprint(&brief, &runbook, &pin)?;

        let route = match &brief.plan.cutover.route {
            Some(route) => Some(Route::from_plan(
                route,
                OnBehalfOf { plan: brief.plan.name.clone(), epoch },
                ears.clone(),
            )?),
            None => None,
        };
        let throttle = watch::Sender::new(brief.plan.replicate.throttle.clone());
        let world = World::open(Setting {
            throttle: throttle.subscribe(),
            tables: tables::replicated(&brief.plan, &pin.blue_facts),
            joinings: tables::joinings(&brief.plan, &pin.blue_facts).into_iter().map(Arc::new).collect(),
            gate_tables: blue_green::gate_tables(&brief.plan, &pin.blue_facts),
            green_gate_tables: blue_green::green_gate_tables(&brief.plan, &pin.blue_facts),
            sequences: tables::sequences(&brief.plan, &pin.blue_facts),
            blue_facts: pin.blue_facts.clone(),
            plan: brief.plan,
            attempt,
            blue_info,
            green_info,
            epoch,
            ears,
            route,
        })
        .await?;
        let journal = PgJournal::new(world.green_info.clone(), client, pin.attempt, epoch);
        let session = Session { world, runbook, pin, findings, throttle, journal, keeper };
        match blue_alone::tell_journal(&session).await {
            Ok(()) => Ok(session),
            Err(error) => session.close(Err(error)).await,
        }
    }

    /// An engine that has read the journal.
    pub async fn engine(&self) -> Result<Engine<'_, World>> {
        Engine::open(&self.world, &self.journal, self.world.ears.as_ref()).await
    }

    /// Opens every connection that steps and journal use anew.
    pub async fn reconnect(&self) -> Result<()> {
        self.journal.reconnect().await?;
        self.world.reconnect().await
    }

    /// Returns the error that ends us once the lease is gone.
    pub async fn lost(&self) -> Error {
        self.keeper.lost().await
    }

    /// Whether the lease was lost only since a side did not answer for too long.
    pub fn fell_silent(&self) -> bool {
        self.keeper.fell_silent()
    }

    /// Gives the lease up. What failed only because somebody took the lease over fails with that.
    ///
    /// # Errors
    /// The outcome's; [`Kind::Lease`] instead, with the outcome's as its cause, when the lease is lost.
    pub async fn close<T>(self, outcome: Result<T>) -> Result<T> {
        if let Err(error) = self.world.stop_following().await {
            tracing::warn!(%error, "the follower did not stop in time; its progress is in green");
        }
        let outcome = match outcome {
            // Whoever takes over ends our sessions first: we see broken connections before we see another epoch.
            Err(error) if matches!(error.kind, Kind::Connect | Kind::Server | Kind::Stopped) => {
                match self.world.prove_lease().await {
                    Err(lost) if lost.kind == Kind::Lease => Err(lost.source(error)),
                    Ok(()) | Err(_) => Err(error),
                }
            }
            outcome => outcome,
        };
        self.keeper.release().await;
        outcome
    }
}

/// How to reach both sides.
///
/// # Errors
/// [`Kind::Plan`] when a connection string is wrong; [`Kind::Request`] when the plan has no green.
pub fn connections(plan: &Plan) -> Result<(ConnInfo, ConnInfo)> {
    let green = plan.green.as_ref().ok_or_else(|| {
        Error::new(Kind::Request, format!("the plan `{}` has no green: it is run in place", plan.name))
            .hint("run it with `migrate apply`")
    })?;
    let parse = |side: Side, text: &str| {
        ConnInfo::parse(text).map_err(|error| Error { what: format!("{side}.url: {}", error.what), ..error })
    };
    Ok((parse(Side::Blue, plan.blue.url.expose())?, parse(Side::Green, green.url.expose())?))
}

/// Connects to a side; a failure names it.
///
/// # Errors
/// [`Kind::Connect`].
pub async fn reach(side: Side, info: &ConnInfo, purpose: &str) -> Result<Client> {
    connect::connect(info, purpose)
        .await
        .map_err(|error| Error { what: format!("{side}: {}", error.what), ..error })
}

/// The pin of the attempt that is on, looked for without the lease and without making anything.
///
/// # Errors
/// [`Kind::Gate`] when green belongs to another migration.
pub async fn begun(green: &Client, plan: &Plan) -> Result<Option<Pin>> {
    match state::find(green, Side::Green, &plan.name).await? {
        Some(_) => pin::current(green, &plan.name).await,
        None => Ok(None),
    }
}

struct Fresh {
    blue_facts: crate::facts::ServerFacts,
    findings: Vec<Finding>,
}

/// Everything that must be known before the first thing is changed.
async fn look_before_beginning(brief: &Brief, blue: &Client, green: &Client, ears: Ears) -> Result<Fresh> {
    refuse_left(brief, blue).await?;
    let observed = observe::observe(&brief.plan, blue, green, ears).await?;
    let mut findings = observed.judge(&brief.plan);
    let mut blue_facts =
        observed.facts.blue.ok_or_else(|| Error::new(Kind::Bug, "blue was not looked at"))?;
    findings.extend(blue_green::views_for_old_clients(&brief.plan, &blue_facts, &brief.sql_files).1);
    if any_blocking(&findings) {
        return Err(stopped_by(&findings));
    }
    // Over exactly the relations that the fence looks at again.
    let parts = blue_green::gate_tables(&brief.plan, &blue_facts);
    blue_facts.ddl_fingerprint = catalog::ddl_fingerprint(blue, &parts).await?;
    if brief.plan.replicate.on_ddl == OnDdl::Harmless {
        blue_facts.shape = catalog::shape(blue, &parts).await?;
    }
    let attempt = Attempt::new(&brief.plan.name, first_free_number(green).await?);
    let runbook = blue_green::build(&brief.plan, &blue_facts, &attempt, brief.sql());
    demand(brief, &runbook.fingerprint(&brief.plan)?)?;
    Ok(Fresh { blue_facts, findings })
}

/// The next attempt's number, when our schema may not be there yet.
async fn first_free_number(green: &Client) -> Result<i32> {
    let there: bool = green
        .query_one("select to_regclass('migrate.attempt') is not null", &[])
        .await
        .doing(Kind::Server, || "cannot look for earlier attempts on green".into())?
        .get(0);
    if there { pin::next_number(green).await } else { Ok(1) }
}

/// A blue that an earlier migration of this name has left must not be left a second time: its gate would be taken for
/// our own fence.
async fn refuse_left(brief: &Brief, blue: &Client) -> Result<()> {
    if state::find(blue, Side::Blue, &brief.plan.name).await?.is_none() {
        return Ok(());
    }
    let gate = gate_state(blue).await?;
    if gate == "OPEN" {
        return Ok(());
    }
    Err(Error::new(Kind::Gate, format!("an earlier migration `{}` has left blue (its gate is {gate})", brief.plan.name))
        .hint("blue.url should name the database that applications use now; if this one is to be used again, drop its schema migrate by hand"))
}

/// The error for findings of which one is blocking; each is named.
pub fn stopped_by(findings: &[Finding]) -> Error {
    let blocking: Vec<&Finding> =
        findings.iter().filter(|finding| finding.severity == crate::finding::Severity::Blocking).collect();
    let stops = if blocking.len() == 1 { "stops" } else { "stop" };
    let mut what = format!("{} of the checks {stops} us; nothing was changed", blocking.len());
    for finding in &blocking {
        what.push_str(&format!(
            "\n  {} at {}: {}\n    help: {}",
            finding.code, finding.place, finding.what, finding.help
        ));
    }
    Error::new(Kind::Findings, what).hint("`migrate check` shows them all, with what to do")
}

/// Which database this is, of a migration that has begun.
async fn known(client: &Client, side: Side, brief: &Brief) -> Result<Identity> {
    state::find(client, side, &brief.plan.name).await?.ok_or_else(|| {
        Error::new(
            Kind::Gate,
            format!("{side} has no trace of the migration `{}`, which has begun", brief.plan.name),
        )
        .hint(
            "it is another database than before, or somebody dropped schema migrate: look at the plan's URLs",
        )
    })
}

pub(super) fn nothing_begun(plan: &Plan) -> Error {
    Error::new(Kind::Request, format!("the migration `{}` has not begun", plan.name))
        .hint("begin it with `migrate replicate`; `migrate plan` shows what that will do")
}

fn demand(brief: &Brief, fingerprint: &str) -> Result<()> {
    match &brief.fingerprint {
        Some(wanted) if wanted != fingerprint => Err(Error::new(
            Kind::Gate,
            format!("the runbook's fingerprint is {fingerprint}, and {wanted} was demanded"),
        )
        .hint(
            "the plan, its SQL or blue's tables changed since it was reviewed: review `migrate plan` again",
        )),
        _ => Ok(()),
    }
}

pub(super) fn compare_fingerprint(brief: &Brief, runbook: &Runbook, pin: &Pin) -> Result<()> {
    let now = runbook.fingerprint(&brief.plan)?;
    if now != pin.fingerprint {
        return Err(Error::new(
            Kind::Plan,
            format!("the plan was edited since it was pinned (fingerprint {now}, pinned {})", pin.fingerprint),
        )
        .hint("put it back as it was; or `migrate rollback --all` with the old plan, and begin again with this one"));
    }
    demand(brief, &now)
}

fn holder_name(wish: Wish) -> String {
    let command = match wish {
        Wish::Begin | Wish::GoOn => "replicate",
        Wish::TakeOver(kind) => kind.as_str(),
    };
    format!("{command} (process {})", std::process::id())
}
