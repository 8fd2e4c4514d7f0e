//! Looking at everything a runbook or a check needs: both servers, the route, the broker, the programs on this machine.

use super::{session, writes};
use crate::check;
use crate::copy::pg_dump;
use crate::error::Result;
use crate::event::Ears;
use crate::facts::{Facts, OurNames, OutsideFact, OutsideState, ServerFacts};
use crate::finding::Finding;
use crate::pg::{catalog, conninfo::ConnInfo};
use crate::plan::{MigrationKind, Plan, SchemaFrom, Side};
use crate::revocation::{self, broker};
use crate::route::{OnBehalfOf, Route};
use crate::step::{attempt::Attempt, prove_join, prove_mapping};
use std::time::Duration;
use tokio::time::Instant;
use tokio_postgres::Client;

/// What was seen, and what those who looked already judged by themselves.
pub struct Observed {
    /// For the checks and the runbook.
    pub facts: Facts,
    /// Findings of the route and of the revocation rules, which only their own rooms can judge.
    pub findings: Vec<Finding>,
}

impl Observed {
    /// All findings: the checks' over the facts, and the others.
    pub fn judge(&self, plan: &Plan) -> Vec<Finding> {
        let mut findings = check::run(plan, &self.facts);
        findings.extend(self.findings.iter().cloned());
        findings
    }
}

/// For the consoles of all poolers together.
const ROUTE_DEADLINE: Duration = Duration::from_secs(10);

/// Connects to both sides and looks at them.
///
/// # Errors
/// [`crate::error::Kind::Connect`] naming the side that cannot be reached.
pub async fn connect_and_observe(plan: &Plan, ears: Ears) -> Result<Observed> {
    if plan.kind == MigrationKind::InPlace {
        let info = ConnInfo::parse(plan.blue.url.expose())?;
        let blue = session::reach(Side::Blue, &info, "look").await?;
        let facts = catalog::read(&blue, Side::Blue, &plan.replicate.tables).await?;
        let facts = Facts { blue: Some(facts), ..Facts::default() };
        return Ok(Observed { facts, findings: Vec::new() });
    }
    let (blue_info, green_info) = session::connections(plan)?;
    let (blue, green) = tokio::try_join!(
        session::reach(Side::Blue, &blue_info, "look"),
        session::reach(Side::Green, &green_info, "look")
    )?;
    let mut observed = observe(plan, &blue, &green, ears).await?;
    if let Some(facts) = observed.facts.blue.as_ref().filter(|_| plan.is_snapshot()) {
        observed.facts.writes = writes::measure(plan, &blue, facts).await?;
    }
    Ok(observed)
}

/// Looks at blue and green over connections that exist, and at what is outside.
pub async fn observe(plan: &Plan, blue: &Client, green: &Client, ears: Ears) -> Result<Observed> {
    let selection = &plan.replicate.tables;
    let on_green = plan.replicate.tables_on_green();
    let (blue_facts, green_facts) = tokio::try_join!(
        catalog::read(blue, Side::Blue, selection),
        catalog::read(green, Side::Green, &on_green)
    )?;
    let same_database = catalog::same_database(blue, green).await?;
    let outside = look_outside(plan, &blue_facts).await;
    let mut findings = look_at_route(plan, ears).await?;
    if !plan.revocations.is_empty() {
        findings.extend(revocation::prove_rules(blue, None, &plan.revocations).await?);
        findings.extend(plan.broker.as_ref().and_then(revocation::seal::unsealed_finding));
    }
    let facts = Facts {
        blue: Some(blue_facts),
        green: Some(green_facts),
        same_database,
        outside,
        names: our_names(plan),
        writes: None,
    };
    findings.extend(prove_mappings(plan, &facts, green).await?);
    Ok(Observed { facts, findings })
}

/// What green's own planner says of the mappings that fit by the catalogs.
async fn prove_mappings(plan: &Plan, facts: &Facts, green: &Client) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for mapping in check::mappings_that_fit(plan, facts) {
        for problem in prove_mapping::prove(green, &mapping).await? {
            findings.push(check::mapping_refused(&mapping, problem));
        }
    }
    for joining in check::joinings_that_fit(plan, facts) {
        for problem in prove_join::prove(green, &joining).await? {
            findings.push(check::join_refused(&joining, problem));
        }
    }
    Ok(findings)
}

fn our_names(plan: &Plan) -> OurNames {
    let attempt = Attempt::new(&plan.name, 1);
    let mut names = OurNames { slots: vec![attempt.slot()], publications: vec![attempt.publication()] };
    if !plan.revocations.is_empty() {
        names.slots.push(attempt.capture_slot());
        names.publications.push(attempt.capture_publication());
    }
    names
}

async fn look_outside(plan: &Plan, blue: &ServerFacts) -> Vec<OutsideFact> {
    let mut seen = Vec::new();
    if plan.schema.from == SchemaFrom::Blue {
        let (state, detail) = match pg_dump::find(blue.major()).await {
            Ok(found) => (OutsideState::PgDumpGood, found.version.to_string()),
            Err(error) => (OutsideState::PgDumpMissing, error.chain().join(": ")),
        };
        seen.push(OutsideFact { object: "pg_dump".into(), state, detail });
    }
    if let Some(plan_broker) = plan.broker.as_ref().filter(|_| !plan.revocations.is_empty()) {
        let (state, detail) = match broker::probe(&plan_broker.url).await {
            Ok(facts) if facts.nodes == Some(1) && !plan_broker.allow_single_node => {
                (OutsideState::BrokerSingleNode, format!("{} {}", facts.product, facts.version))
            }
            Ok(facts) => (OutsideState::BrokerGood, format!("{} {}", facts.product, facts.version)),
            Err(error) => (OutsideState::BrokerUnreachable, error.chain().join(": ")),
        };
        seen.push(OutsideFact { object: "the broker".into(), state, detail });
    }
    seen
}

async fn look_at_route(plan: &Plan, ears: Ears) -> Result<Vec<Finding>> {
    let Some(route) = &plan.cutover.route else { return Ok(Vec::new()) };
    // Nothing is moved, so nobody's epoch is needed.
    let nobody = OnBehalfOf { plan: plan.name.clone(), epoch: 0 };
    let route = Route::from_plan(route, nobody, ears)?;
    Ok(route.findings(plan.cutover.pause_max.0, Instant::now() + ROUTE_DEADLINE).await)
}
