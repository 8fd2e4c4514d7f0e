//! Prove the mappings: green itself says whether it takes them, before any row is there.

use super::{
    Notes, Standing, Step, StepId, mark, prove_join,
    prove_rows::{Carried, Lookers},
    world::World,
};
use crate::error::{Doing, Error, Kind, Result};
use crate::event::Event;
use crate::finding::Severity;
use crate::mapping::{Fitted, Mapping, Parameters, Problem, as_error, lost_in_split};
use crate::pg::{name::TableName, target};
use crate::plan::Side;
use async_trait::async_trait;
use std::sync::Arc;
use std::time::Duration;
use tokio_postgres::Client;

/// Holds every mapping against green's tables, has green prepare the statements that will write them, and holds blue's rows
/// against green's rules.
///
/// # Crash
/// Nothing is changed but a mark of ours.
#[derive(Debug, Clone)]
pub struct ProveMapping {
    /// Blue's tables, and what becomes of them, a line each.
    pub stories: Vec<(TableName, Vec<String>)>,
}

const MARK: &str = "mappings proved";

/// How long green may take for one table.
const DEADLINE: Duration = Duration::from_secs(30);

#[async_trait]
impl Step<World> for ProveMapping {
    fn id(&self) -> StepId {
        StepId::new("prepare/prove-mappings")
    }

    fn title(&self) -> String {
        format!("Have green prove the mappings of {} tables", self.stories.len())
    }

    fn shows(&self) -> Vec<String> {
        let stories = self.stories.iter().flat_map(|(_, story)| story.iter().cloned());
        stories
            .chain(["blue's rows, or a sample of a large table, are held against green's rules".to_owned()])
            .collect()
    }

    fn deadline(&self) -> String {
        format!("{} s a table", DEADLINE.as_secs())
    }

    async fn check(&self, world: &World, _: &Notes) -> Result<Standing> {
        Ok(if mark::is_set(world, MARK).await? { Standing::Present } else { Standing::Absent })
    }

    async fn apply(&self, world: &World, _: &Notes) -> Result<Option<serde_json::Value>> {
        let mappings: Vec<Arc<Mapping>> =
            world.tables.iter().filter_map(|table| table.mapping.clone()).collect();
        {
            let green = world.client(Side::Green).await?;
            for parts in mappings.chunk_by(|one, next| one.blue.name == next.blue.name) {
                let mut problems = Vec::new();
                for mapping in parts {
                    problems.extend(prove(&green, mapping).await?);
                }
                if problems.is_empty() {
                    problems.extend(lost(&green, parts).await?);
                }
                if !problems.is_empty() {
                    return Err(as_error(&parts[0].blue.name, &problems));
                }
            }
            for joining in &world.joinings {
                let problems = prove_join::prove(&green, joining).await?;
                if !problems.is_empty() {
                    return Err(as_error(&joining.green, &problems));
                }
            }
            let missing = missing_sequences(&green, world).await?;
            if !missing.is_empty() {
                let what = format!("green has no sequence {}, whose position is carried", missing.join(", "));
                return Err(Error::new(Kind::Gate, what)
                    .hint("create it on green under blue's name, in the plan's SQL"));
            }
        }
        let found = prove_rows(world, &mappings).await?;
        mark::set(world, MARK).await?;
        Ok(Some(serde_json::json!({ "rows": found })))
    }

    async fn undo(&self, world: &World, _: &Notes) -> Result<()> {
        mark::clear(world, MARK).await
    }
}

/// What all parts of a split lose together.
async fn lost(green: &Client, parts: &[Arc<Mapping>]) -> Result<Vec<Problem>> {
    let mut fitted = Vec::new();
    for mapping in parts {
        let table = target::read(green, &mapping.map.target(&mapping.blue.name)).await?;
        match mapping.fit(&table) {
            Ok(fits) => fitted.push((Mapping::clone(mapping), fits)),
            Err(problems) => return Ok(problems),
        }
    }
    Ok(lost_in_split(&fitted))
}

/// Holds blue's rows against green's rules while green still has them; gives what was found, a line each.
async fn prove_rows(world: &World, mappings: &[Arc<Mapping>]) -> Result<Vec<String>> {
    for joining in &world.joinings {
        world.note(format!(
            "{}: its rows come of a join, and are not held against green's rules before the copy",
            joining.green.plain()
        ));
    }
    let lookers = Lookers::open(world.info(Side::Blue), world.info(Side::Green)).await?;
    let mappings = mappings.iter().map(|mapping| Mapping::clone(mapping)).collect();
    let carried = Carried::of(&world.plan, &world.blue_facts, mappings);
    let findings = lookers.prove_each(&carried).await?;
    for finding in findings.iter().filter(|finding| finding.severity == Severity::Warning) {
        world.ears.tell(Event::Warning { text: finding.what.clone() });
    }
    let refused: Vec<_> = findings
        .iter()
        .filter(|finding| finding.severity == Severity::Blocking)
        .map(|finding| format!("{}: {}", finding.place, finding.what))
        .collect();
    if !refused.is_empty() {
        let what = format!("green would refuse rows of blue:\n{}", refused.join("\n"));
        return Err(Error::new(Kind::Gate, what)
            .hint("nothing was copied; mend these rows on blue and replicate again, or `migrate rollback --all` and mend the plan"));
    }
    Ok(findings.into_iter().map(|finding| finding.what).collect())
}

/// The fence sets green's sequences, and must not find one missing then.
async fn missing_sequences(green: &Client, world: &World) -> Result<Vec<String>> {
    let names: Vec<String> = world.sequences.iter().map(|sequence| sequence.name.to_string()).collect();
    let sql = "select coalesce(array_agg(name order by name), '{}') from unnest($1::text[]) as name where to_regclass(name) is null";
    let row = green
        .query_one(sql, &[&names])
        .await
        .doing(Kind::Server, || "cannot look at green's sequences".into())?;
    Ok(row.get(0))
}

/// What is wrong with a mapping, as far as green's catalog and green's planner say; nothing when it will work.
///
/// Expressions are looked at in a view that is made for the session alone and rolled back: the server then says which
/// functions, operators and casts they really call.
///
/// # Errors
/// [`Kind::Server`] when green cannot be asked, [`Kind::Deadline`] when it does not answer.
pub async fn prove(green: &Client, mapping: &Mapping) -> Result<Vec<Problem>> {
    let proving = async {
        let table = target::read(green, &mapping.map.target(&mapping.blue.name)).await?;
        let fitted = match mapping.fit(&table) {
            Ok(fitted) => fitted,
            Err(problems) => return Ok(problems),
        };
        let mut problems = Vec::new();
        for part in parts(&fitted) {
            problems.extend(look_into(green, &part).await?);
        }
        if problems.is_empty() {
            problems.extend(prepare(green, mapping, &fitted).await);
        }
        Ok(problems)
    };
    match tokio::time::timeout(DEADLINE, proving).await {
        Ok(proved) => proved,
        Err(_) => Err(Error::new(
            Kind::Deadline,
            format!(
                "green does not say in time whether it takes the mapping of {}",
                mapping.blue.name.plain()
            ),
        )
        .hint("look for long locks on green's catalogs")),
    }
}

/// An expression of a map, as a query over a row of nulls.
struct Part {
    field: String,
    text: String,
    query: String,
}

fn parts(fitted: &Fitted) -> Vec<Part> {
    let columns: Vec<_> = fitted
        .sources
        .iter()
        .map(|source| format!("null::{} as {}", source.type_name, source.name))
        .collect();
    let row = format!("(select {}) as {}", columns.join(", "), fitted.blue.name);
    let written = fitted
        .outputs
        .iter()
        .map(|output| (format!("columns.{}", output.name.as_str()), &output.expression, "expression"));
    let condition =
        fitted.condition.iter().map(|(condition, _)| ("where".to_owned(), condition, "condition"));
    written
        .chain(condition)
        .map(|(field, expression, what)| {
            let value = expression.enclosed();
            let query = match what {
                "condition" => format!("select true as value from {row} where {value}"),
                _ => format!("select {value} as value from {row}"),
            };
            Part { field, text: expression.text().to_owned(), query }
        })
        .collect()
}

/// Whether green knows what the expression says, and whether it gives the same again for the same row.
async fn look_into(green: &Client, part: &Part) -> Result<Vec<Problem>> {
    let doing = || "cannot try an expression on green".to_owned();
    green
        .batch_execute("begin read write; set local lock_timeout = '5s'")
        .await
        .doing(Kind::Server, doing)?;
    let made =
        green.batch_execute(&format!("create temporary view migrate_expression as {}", part.query)).await;
    let found = match made {
        Ok(()) => green.query(include_str!("../../sql/mapping/list_unfit_calls.sql"), &[]).await,
        Err(error) => Err(error),
    };
    green.batch_execute("rollback").await.doing(Kind::Server, doing)?;
    let rows = match found {
        Ok(rows) => rows,
        Err(error) => return Ok(vec![refused(part, &error)]),
    };
    Ok(moving(&part.field, &rows))
}

/// What is called that may give another value, as problems of a field.
pub(super) fn moving(field: &str, calls: &[tokio_postgres::Row]) -> Vec<Problem> {
    let problem = |row: &tokio_postgres::Row| {
        Problem {
        field: field.to_owned(),
        what: format!("`{}` {}", row.get::<_, &str>("name"), row.get::<_, &str>("why")),
        help: "use only what gives the same value for the same row at any time: what is applied again after a crash must not differ".into(),
    }
    };
    calls.iter().map(problem).collect()
}

fn refused(part: &Part, error: &tokio_postgres::Error) -> Problem {
    let said = error.as_db_error().map_or_else(|| error.to_string(), |error| error.message().to_owned());
    let hint = error.as_db_error().and_then(|error| error.hint()).map(|hint| hint.trim_end_matches('.'));
    let text = part.text.split_whitespace().collect::<Vec<_>>().join(" ");
    Problem {
        field: part.field.clone(),
        what: format!("green refuses `{text}`: {said}"),
        help: hint.map_or_else(
            || {
                "name functions and types outside pg_catalog with their schema; green must have blue's types"
                    .to_owned()
            },
            str::to_owned,
        ),
    }
}

/// Whether green takes the statements as a whole: then each value fits its column.
async fn prepare(green: &Client, mapping: &Mapping, fitted: &Fitted) -> Option<Problem> {
    let insert = fitted.insert(1, &mut |_, at| format!("${}", at + 1));
    let mut parameters = Parameters::default();
    let update = fitted.update(&fitted.outputs_after(|_| true), &mut |image, at| parameters.place(image, at));
    for sql in [insert, update] {
        if let Err(error) = green.prepare(&sql).await {
            let said =
                error.as_db_error().map_or_else(|| error.to_string(), |error| error.message().to_owned());
            let target = mapping.map.target(&mapping.blue.name).plain();
            return Some(Problem {
                field: String::new(),
                what: format!("green does not take mapped rows into {target}: {said}"),
                help: "give the expression the column's type, as `(…)::type`".into(),
            });
        }
    }
    None
}
