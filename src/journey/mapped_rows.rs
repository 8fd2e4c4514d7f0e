//! What `plan` does with blue's rows when it is asked to: hold them against green's rules, or show a few.

use super::session;
use crate::check;
use crate::error::{Error, Kind, Result};
use crate::facts::Facts;
use crate::finding::{Finding, Place, Severity};
use crate::pg::name::TableName;
use crate::plan::{Plan, Side};
use crate::step::prove_rows::{Carried, Lookers};
use crate::step::sample_rows::{self, Sample};

/// No more rows of a table are shown.
pub const SAMPLE_MAX: u32 = 100;

/// Holds the rows of every mapped table against green's rules.
///
/// # Errors
/// [`Kind::Request`] when there is nothing to hold, or green has no rules yet.
pub async fn prove(plan: &Plan, facts: &Facts) -> Result<Vec<Finding>> {
    refuse_without_map(plan)?;
    let mappings = check::mappings_that_fit(plan, facts);
    let unproved: Vec<Finding> = plan.replicate.join.keys().map(unproved).collect();
    if plan.replicate.map.is_empty() {
        return Ok(unproved);
    }
    if mappings.is_empty() {
        return Err(Error::new(Kind::Request, "green has not its tables and keys now, or no mapping fits them, so rows cannot be held against its rules")
            .hint("`migrate replicate` does it by itself in `prepare/prove-mappings`, when green has its shape and before a row is copied"));
    }
    let (blue, green) = session::connections(plan)?;
    let lookers = Lookers::open(&blue, &green).await?;
    let blue_facts = facts.blue.as_ref().ok_or_else(|| Error::new(Kind::Bug, "blue was not looked at"))?;
    let carried = Carried::of(plan, blue_facts, mappings);
    let mut findings = lookers.prove_each(&carried).await?;
    findings.extend(unproved);
    Ok(findings)
}

/// Reads up to `rows` rows of every mapped table, before and after.
///
/// # Errors
/// [`Kind::Request`] when nothing is mapped; [`Kind::Gate`] when a map does not fit.
pub async fn sample(plan: &Plan, facts: &Facts, rows: u32) -> Result<Vec<Sample>> {
    refuse_without_map(plan)?;
    let (blue, green) = session::connections(plan)?;
    let blue = session::reach(Side::Blue, &blue, "sample").await?;
    let green = session::reach(Side::Green, &green, "sample").await?;
    let mut samples = Vec::new();
    for mapping in check::mappings(plan, facts) {
        samples.push(sample_rows::sample(&blue, &green, &mapping, rows).await?);
    }
    for joining in check::joinings(plan, facts) {
        samples.extend(sample_rows::sample_joined(&blue, &joining, rows).await?);
    }
    Ok(samples)
}

fn unproved(green: &TableName) -> Finding {
    Finding {
        code: "MAPPED_ROWS_UNPROVED".into(),
        severity: Severity::Warning,
        place: Place::Plan { field: format!("replicate.join.{}", green.plain()) },
        what: format!(
            "the rows of {} come of a join, and holding those against green's rules is not built yet",
            green.plain()
        ),
        help: "run the query on blue, which has the tables it reads, and look for what green would refuse; that stops `replicate/fill-joined`".into(),
    }
}

fn refuse_without_map(plan: &Plan) -> Result<()> {
    if plan.replicate.map.is_empty() && plan.replicate.join.is_empty() {
        return Err(Error::new(Kind::Request, format!("the plan `{}` maps no table", plan.name))
            .hint("tables of one shape on both sides are carried as they are; `replicate.map` says how others become green's"));
    }
    Ok(())
}
