//! The story of a blue-green migration, as a list of steps.

use super::{Phase, PhaseName, Runbook, tables};
use crate::ddl::compat;
use crate::facts::{ServerFacts, TableKind};
use crate::finding::Finding;
use crate::pg::name::TableName;
use crate::plan::{Compat, Plan, SchemaFrom, Side, TableMaps, load::SqlFile};
use crate::step::{
    Step, StepId, analyze::Analyze, arm_gate::ArmGate, attempt::Attempt, clone_schema::CloneSchema,
    close_blue::CloseBlue, copy_rows::CopyRows, count_lost::CountLost, declare_opening::DeclareOpening,
    defer_objects::DeferObjects, fence_blue::FenceBlue, fill_joined::FillJoined, make_stage::MakeStage,
    open_capture::OpenCapture, open_green::OpenGreen, pause_clients::PauseClients, point_routes::PointRoutes,
    prove_keys::ProveKeys, prove_mapping::ProveMapping, prove_revocations::ProveRevocations,
    publish::Publish, rebuild_objects::RebuildObjects, replay_revocations::ReplayRevocations,
    resume_clients::ResumeClients, run_after_copy::RunAfterCopy, run_sql::RunSql, take_moment::TakeMoment,
    world::World,
};
use std::collections::BTreeSet;

type Steps = Vec<Box<dyn Step<World>>>;

/// A plan's SQL, by when it runs.
#[derive(Debug, Clone, Copy, Default)]
pub struct PlanSql<'a> {
    /// On green's empty tables.
    pub schema: &'a [SqlFile],
    /// On green's copy.
    pub after_copy: &'a [SqlFile],
}

/// Builds the runbook of a blue-green plan.
pub fn build(plan: &Plan, blue: &ServerFacts, attempt: &Attempt, sql: PlanSql<'_>) -> Runbook {
    let mut copying = replicate(plan, blue, attempt);
    if plan.is_snapshot() {
        copying.extend(leave_blue_behind(plan, sql.after_copy));
    }
    Runbook {
        phases: vec![
            Phase { name: PhaseName::Prepare, steps: prepare(plan, blue, sql.schema) },
            Phase { name: PhaseName::Replicate, steps: copying },
            Phase { name: PhaseName::Arm, steps: arm(plan, blue) },
            Phase { name: PhaseName::Switch, steps: switch(plan) },
            Phase { name: PhaseName::Settle, steps: settle(plan) },
        ],
    }
}

/// Green gets its shape, and is closed before anybody could write there.
fn prepare(plan: &Plan, blue: &ServerFacts, sql_files: &[SqlFile]) -> Steps {
    let mut steps: Steps = Vec::new();
    if plan.schema.from == SchemaFrom::Blue {
        steps.push(Box::new(CloneSchema));
    }
    if !sql_files.is_empty() {
        let (views, _) = views_for_old_clients(plan, blue, sql_files);
        steps.push(Box::new(RunSql { files: sql_files.to_vec(), views }));
    }
    if !plan.replicate.map.is_empty() || !plan.replicate.join.is_empty() {
        steps.push(Box::new(ProveMapping { stories: mapping_stories(plan) }));
    }
    if !plan.replicate.join.is_empty() {
        steps.push(Box::new(MakeStage::new(&plan.name, tables::joinings(plan, blue))));
    }
    steps.push(Box::new(ArmGate { side: Side::Green, tables: green_gate_tables(plan, blue) }));
    // Rows load several times faster into a table without them.
    steps.push(Box::new(DeferObjects));
    steps
}

/// What becomes of each mapped table and of joined ones, a line each.
fn mapping_stories(plan: &Plan) -> Vec<(TableName, Vec<String>)> {
    let merged = plan.replicate.merged();
    let story = |(table, maps): (&TableName, &TableMaps)| {
        let others = |green: &TableName| -> Vec<&TableName> {
            merged.get(green).into_iter().flatten().copied().filter(|other| *other != table).collect()
        };
        (table.clone(), maps.story(table, others))
    };
    let joined = plan.replicate.join.iter().map(|(green, join)| (green.clone(), join.story(green)));
    plan.replicate.map.iter().map(story).chain(joined).collect()
}

/// The views that clients of before the plan's SQL find on green, when the plan asks for them, and what is to be known of them.
pub fn views_for_old_clients(
    plan: &Plan,
    blue: &ServerFacts,
    sql_files: &[SqlFile],
) -> (Option<SqlFile>, Vec<Finding>) {
    match plan.schema.compat {
        Compat::None => (None, Vec::new()),
        Compat::Views => compat::on_green(&plan.name, sql_files, blue),
    }
}

/// In this order, since each other one loses data: publication, then slot, then every table as of a later moment.
fn replicate(plan: &Plan, blue: &ServerFacts, attempt: &Attempt) -> Steps {
    let tables = once_each(tables::replicated(plan, blue).into_iter().map(|table| table.blue));
    let mut steps: Steps = Vec::new();
    if !plan.revocations.is_empty() {
        steps.push(Box::new(Publish {
            id: StepId::new("capture/publish-tables"),
            publication: attempt.capture_publication(),
            tables: rule_tables(plan),
        }));
        // Before the copy: a revocation captured twice is harmless, one captured never is not.
        steps.push(Box::new(OpenCapture));
    }
    steps.push(Box::new(Publish {
        id: StepId::new("replicate/publish-tables"),
        publication: attempt.publication(),
        tables,
    }));
    steps.push(Box::new(CopyRows));
    steps.push(Box::new(RebuildObjects));
    if !plan.replicate.join.is_empty() {
        steps.push(Box::new(FillJoined { tables: plan.replicate.join.keys().cloned().collect() }));
    }
    steps.push(Box::new(ProveKeys));
    steps.push(Box::new(Analyze::Copied));
    steps
}

/// `mode: snapshot`: green stays at one moment of blue, and the vendor's SQL runs on it. Statistics come before, since
/// the SQL joins whole tables, and after, since it may have made others.
fn leave_blue_behind(plan: &Plan, after_copy: &[SqlFile]) -> Steps {
    let has_rules = !plan.revocations.is_empty();
    let mut steps: Steps = vec![Box::new(TakeMoment { has_rules })];
    for (at, file) in after_copy.iter().enumerate() {
        steps.push(Box::new(RunAfterCopy { number: at + 1, file: file.clone() }));
    }
    if has_rules {
        steps.push(Box::new(ProveRevocations));
    }
    if !after_copy.is_empty() {
        steps.push(Box::new(Analyze::AfterVendor));
    }
    steps
}

/// The gate costs writers a little, so it goes up only now.
fn arm(plan: &Plan, blue: &ServerFacts) -> Steps {
    vec![Box::new(ArmGate { side: Side::Blue, tables: gate_tables(plan, blue) })]
}

/// From the first held client to the first client on green.
fn switch(plan: &Plan) -> Steps {
    let mut steps: Steps = vec![Box::new(PauseClients)];
    if plan.is_snapshot() {
        steps.push(Box::new(FenceBlue::AtMoment));
        // No stream has carried them: on an open green, whoever lost access would have it.
        if !plan.revocations.is_empty() {
            steps.push(Box::new(ReplayRevocations::BeforeOpening));
        }
    } else {
        steps.push(Box::new(FenceBlue::Drained));
    }
    steps.push(Box::new(PointRoutes));
    steps.push(Box::new(DeclareOpening)); // no way back after this
    steps.push(Box::new(OpenGreen));
    steps.push(Box::new(ResumeClients));
    steps
}

/// What can wait until clients are served again.
fn settle(plan: &Plan) -> Steps {
    let mut steps: Steps = vec![Box::new(CloseBlue)];
    if !plan.revocations.is_empty() {
        steps.push(Box::new(ReplayRevocations::OnceServed));
    }
    if plan.is_snapshot() {
        steps.push(Box::new(CountLost));
    }
    steps
}

/// Every relation an application may write to: tables with rows, and the partitioned tables above them.
pub fn gate_tables(plan: &Plan, blue: &ServerFacts) -> Vec<TableName> {
    let parents = blue
        .tables
        .iter()
        .filter(|table| table.kind == TableKind::Partitioned && plan.replicate.tables.selects(&table.name))
        .map(|table| table.name.clone());
    once_each(tables::replicated(plan, blue).into_iter().map(|table| table.blue).chain(parents))
}

/// In their order: a table that is split is told for each part, and those that are merged for each table of blue.
fn once_each(tables: impl Iterator<Item = TableName>) -> Vec<TableName> {
    let mut seen = BTreeSet::new();
    tables.filter(|table| seen.insert(table.clone())).collect()
}

/// The same relations as green calls them.
pub fn green_gate_tables(plan: &Plan, blue: &ServerFacts) -> Vec<TableName> {
    once_each(gate_tables(plan, blue).iter().flat_map(|table| tables::targets(plan, table)))
}

fn rule_tables(plan: &Plan) -> Vec<TableName> {
    let mut tables: Vec<TableName> = plan.revocations.iter().map(|rule| rule.table.clone()).collect();
    tables.sort_unstable();
    tables.dedup();
    tables
}
