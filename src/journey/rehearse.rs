//! `rehearse`: the plan's DDL on a scratch database, measured statement by statement.

use super::session::{self, Brief};
use crate::ddl::{
    Online, Settings, SqlFile, compat,
    lock::Cost,
    parse::NodeEnum,
    source::{self, Statement},
};
use crate::error::{Doing, Error, Kind, Result};
use crate::event::{Ears, Event};
use crate::facts::ServerFacts;
use crate::finding::{Finding, Place, Severity, any_blocking};
use crate::pg::{catalog, connect, conninfo::ConnInfo, name::Ident};
use crate::plan::{Compat, MigrationKind, SchemaFrom, Side};
use crate::rehearse::{
    clients::Clients,
    columns::{self, Columns},
    lab::{Lab, Trial},
    queries::{self, Query},
    report::{Rehearsed, Report},
    scratch::{Scratch, Server},
    shape,
    verdict::{Verdict, judge},
};
use crate::runbook::{blue_green, in_place};
use std::path::PathBuf;
use tokio::sync::watch;
use tokio_postgres::Client;

/// What the operator asked for.
#[derive(Debug, Clone)]
pub struct Request {
    /// The connection string of another server to rehearse on.
    pub on: Option<String>,
    /// Files of the applications' queries.
    pub queries: Vec<SqlFile>,
    /// As many queries of `pg_stat_statements` as are looked at.
    pub top: u32,
    /// This program, for the process that removes the scratch database when we are killed.
    pub program: PathBuf,
}

/// A statement to rehearse.
struct Item {
    id: String,
    title: String,
    sql: String,
    from: Vec<Place>,
    search_path: Vec<Ident>,
    settings: Settings,
    transactional: bool,
    /// None where nobody has clients yet.
    predicted: Option<Cost>,
}

/// What is looked at on blue before the scratch database is made.
struct Blue {
    info: ConnInfo,
    client: Client,
    facts: ServerFacts,
    /// The one applications begin with.
    search_path: String,
}

/// Rehearses the plan.
///
/// # Errors
/// [`Kind::Findings`] when a statement has no online form; [`Kind::Request`] when the scratch database cannot be made;
/// [`Kind::Stopped`] when the operator stopped it. What a statement does wrong is no error, but in the report.
///
/// # Crash
/// The scratch database is removed by a process of its own, or else by the next rehearsal. Blue is only read.
pub async fn run(
    brief: Brief,
    request: Request,
    ears: Ears,
    mut stop: watch::Receiver<bool>,
) -> Result<Report> {
    let blue = look(&brief).await?;
    let items = items(&brief, &blue.facts)?;
    let mut findings = Vec::new();
    let mut queries = queries::from_files(&request.queries)?;
    if request.top > 0 {
        let (seen, note) = queries::from_blue(&blue.client, request.top).await?;
        queries.extend(seen);
        findings.extend(note.map(unseen));
    }
    let url = request.on.as_deref().unwrap_or_else(|| brief.plan.blue.url.expose());
    let info = ConnInfo::parse(url)?;
    let server = Server { url, info: &info };
    let scratch = Scratch::create(server, &blue.client, &brief.plan.name, &request.program).await?;
    for name in &scratch.swept {
        let text = format!("removed {name}, left by a rehearsal that was killed");
        ears.tell(Event::Note { text });
    }
    let rehearsing = on_scratch(&brief, &blue, &scratch, items, queries, &ears);
    let outcome = tokio::select! {
        done = rehearsing => done,
        _ = stop.wait_for(|stop| *stop) => Err(Error::new(Kind::Stopped, "the rehearsal was stopped")
            .hint("nothing of it is left; run it again from its beginning")),
    };
    let ended = scratch.end().await;
    let mut report = outcome?;
    ended?;
    report.server = format!("{}:{}", info.host(), info.port());
    findings.append(&mut report.findings);
    report.findings = findings;
    Ok(report)
}

async fn look(brief: &Brief) -> Result<Blue> {
    let info = ConnInfo::parse(brief.plan.blue.url.expose())?;
    let client = session::reach(Side::Blue, &info, "rehearsal look").await?;
    let facts = catalog::read(&client, Side::Blue, &brief.plan.replicate.tables).await?;
    // Ours is pinned to nothing; what a session begins with is kept beside.
    let search_path = client
        .query_one("select reset_val from pg_settings where name = 'search_path'", &[])
        .await
        .doing(Kind::Server, || "cannot read blue's search_path".into())?
        .get(0);
    Ok(Blue { info, client, facts, search_path })
}

/// In place, the rewritten list; to green, what the operator wrote, since green has no clients while it runs.
fn items(brief: &Brief, facts: &ServerFacts) -> Result<Vec<Item>> {
    if brief.plan.kind == MigrationKind::InPlace {
        let rewritten = in_place::rewrite(&brief.plan, &brief.sql_files, Some(facts));
        if any_blocking(&rewritten.findings) {
            return Err(session::stopped_by(&rewritten.findings));
        }
        return Ok(rewritten.statements.into_iter().map(Item::from).collect());
    }
    let mut items = Vec::new();
    let (views, _) = blue_green::views_for_old_clients(&brief.plan, facts, &brief.sql_files);
    for file in brief.sql_files.iter().chain(&views) {
        let (statements, _) = source::statements(file).map_err(|error| source::explain(file, &error))?;
        let wanted = statements
            .into_iter()
            .filter(|statement| !matches!(statement.tree, NodeEnum::TransactionStmt(_)));
        items.extend(wanted.map(Item::from));
    }
    Ok(items)
}

impl From<Online> for Item {
    fn from(online: Online) -> Item {
        Item {
            id: online.id,
            title: online.title,
            sql: online.sql,
            from: online.from,
            search_path: online.search_path,
            settings: online.settings,
            transactional: online.transactional,
            predicted: Some(online.cost),
        }
    }
}

impl From<Statement> for Item {
    fn from(statement: Statement) -> Item {
        let title = statement.sql.split_whitespace().take(8).collect::<Vec<_>>().join(" ");
        let search_path =
            if statement.search_path.is_empty() { vec![Ident::new("public")] } else { statement.search_path };
        Item {
            id: statement.place.to_string(),
            title,
            sql: statement.sql,
            from: vec![statement.place],
            search_path,
            settings: statement.settings,
            transactional: true,
            predicted: None,
        }
    }
}

/// Everything that happens while the scratch database is there.
async fn on_scratch(
    brief: &Brief,
    blue: &Blue,
    scratch: &Scratch,
    items: Vec<Item>,
    queries: Vec<Query>,
    ears: &Ears,
) -> Result<Report> {
    let filled = brief.plan.kind == MigrationKind::InPlace || brief.plan.schema.from == SchemaFrom::Blue;
    let left_out = if filled { scratch.fill(&blue.info, blue.facts.major()).await? } else { Vec::new() };
    let text = format!("made {} from blue's schema, without rows", scratch.name());
    ears.tell(Event::Note { text });
    // As old clients are told to: a schema that is not there yet does no harm.
    let views = (brief.plan.schema.compat == Compat::Views).then(|| compat::schema(&brief.plan.name));
    let first = views.iter().map(|schema| format!("{schema}, ")).collect::<String>();
    let search_path = format!("{first}{}", blue.search_path);
    let clients = Clients::prepare(&scratch.info, &search_path, queries).await?;
    let look = connect::connect(&scratch.info, "rehearsal look").await?;
    let mut report = Report {
        plan: brief.plan.name.clone(),
        server: String::new(),
        statements: Vec::new(),
        queries: clients.len(),
        left_out,
        findings: clients.unusable.iter().map(|(query, why)| not_prepared(query, why)).collect(),
    };
    let mut stage = Stage {
        lab: Lab::open(&scratch.info).await?,
        columns: columns::read(&look).await?,
        look,
        clients,
        views,
        reconnects: brief.plan.kind == MigrationKind::BlueGreen,
    };
    let mut refused = false;
    for item in items {
        ears.tell(Event::StepStarted { step: item.id.clone(), title: item.title.clone() });
        let (rehearsed, findings) =
            if refused { (Rehearsed::from(item), Vec::new()) } else { stage.rehearse(item).await? };
        refused |= rehearsed.verdict == Verdict::Refused;
        report.statements.push(rehearsed);
        report.findings.extend(findings);
    }
    Ok(report)
}

/// The sessions on the scratch database.
struct Stage {
    lab: Lab,
    clients: Clients,
    look: Client,
    columns: Columns,
    /// The schema with the views for old clients.
    views: Option<Ident>,
    /// Clients come anew afterwards, so what they hold prepared does not matter.
    reconnects: bool,
}

impl Stage {
    async fn rehearse(&mut self, item: Item) -> Result<(Rehearsed, Vec<Finding>)> {
        let trial = Trial {
            sql: &item.sql,
            search_path: &item.search_path,
            settings: &item.settings,
            transactional: item.transactional,
        };
        let measured = match self.lab.measure(trial).await {
            Ok(measured) => measured,
            Err(error) if error.kind == Kind::Request => {
                let mut rehearsed = Rehearsed::from(item);
                rehearsed.verdict = Verdict::Refused;
                rehearsed.faults = vec![error.chain().join(": ")];
                let finding = rehearsed.finding();
                return Ok((rehearsed, finding.into_iter().collect()));
            }
            Err(error) => return Err(error),
        };
        let mut rehearsed = Rehearsed::from(item);
        match &rehearsed.predicted {
            Some(predicted) => rehearsed.judged(judge(predicted, &measured)),
            None => rehearsed.verdict = Verdict::Measured,
        }
        rehearsed.measured = Some(measured);
        let mut findings: Vec<Finding> = rehearsed.finding().into_iter().collect();
        findings.extend(self.who_breaks(&rehearsed).await?);
        Ok((rehearsed, findings))
    }

    async fn who_breaks(&mut self, rehearsed: &Rehearsed) -> Result<Vec<Finding>> {
        let broken = self.clients.find_broken().await;
        let mut findings: Vec<Finding> = broken
            .iter()
            .filter(|broken| !(broken.works_anew && self.reconnects))
            .map(|broken| rehearsed.breaks(broken))
            .collect();
        let columns = columns::read(&self.look).await?;
        // The old client finds the view of that name, which is as it was.
        let in_view = |name: &str| {
            self.views.as_ref().is_some_and(|schema| {
                columns.values().any(|(view, _)| view.schema == *schema && view.name.as_str() == name)
            })
        };
        for change in columns::compare(&self.columns, &columns) {
            // What is told to break already is not told to depend as well.
            let others =
                self.clients.working().filter(|query| !broken.iter().any(|one| one.query == **query));
            for query in others {
                for (schema, name, how) in shape::reliances(&query.tree) {
                    let same = name == change.table.name.as_str()
                        && (schema.is_empty() || schema == change.table.schema.as_str())
                        && !(schema.is_empty() && in_view(&name));
                    if same {
                        findings.push(rehearsed.touches(query, how.as_str(), &change));
                    }
                }
            }
        }
        self.columns = columns;
        Ok(findings)
    }
}

impl From<Item> for Rehearsed {
    fn from(item: Item) -> Rehearsed {
        Rehearsed {
            id: item.id,
            title: item.title,
            sql: item.sql,
            from: item.from,
            predicted: item.predicted,
            measured: None,
            verdict: Verdict::NotRun,
            faults: Vec::new(),
            notes: Vec::new(),
        }
    }
}

fn unseen(what: String) -> Finding {
    Finding {
        code: "QUERIES_UNSEEN".into(),
        severity: Severity::Info,
        place: Place::Blue { object: "pg_stat_statements".into() },
        what: format!("{what}, so it is not known what applications ask"),
        help: "Give their queries in files: --queries FILE.".into(),
    }
}

fn not_prepared(query: &Query, why: &str) -> Finding {
    Finding {
        code: "QUERY_NOT_PREPARED".into(),
        severity: Severity::Info,
        place: query.place(),
        what: format!("{} is refused before anything has changed: {why}", query.named()),
        help: "Nothing, if it is not meant for this database; else look at its search_path and types.".into(),
    }
}
