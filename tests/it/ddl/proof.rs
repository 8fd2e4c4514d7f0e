//! Every form, planned and rehearsed: what is measured is what was predicted. `scripts/prove ddl` takes all of them on every
//! major; the usual tests draw a sample.

use crate::crashes::points::seed;
use crate::support::{Majors, Pair};
use migrate::{
    ddl::{SqlFile, rewrite},
    pg::{catalog, connect, conninfo::ConnInfo},
    plan::{Side, TableSelection},
    rehearse::{
        lab::{Lab, Trial},
        verdict::{Verdict, judge},
    },
};
use rand::{SeedableRng, rngs::StdRng, seq::SliceRandom};
use std::collections::BTreeMap;

/// As many forms as the usual tests try on a major.
const SAMPLE: usize = 25;

/// A paragraph of `forms.sql`.
#[derive(Debug, Clone, Default)]
struct Form {
    name: String,
    /// The first major that has it.
    from: u32,
    /// Made in addition to the schema.
    before: String,
    /// Why what is planned is known not to be what happens; to be mended.
    differs: Option<String>,
    sql: String,
}

fn forms() -> Vec<Form> {
    let paragraphs = include_str!("forms.sql").split("\n\n").filter(|text| text.contains("-- form: "));
    paragraphs
        .map(|text| {
            let mut form = Form::default();
            for line in text.lines() {
                if let Some(name) = line.strip_prefix("-- form: ") {
                    form.name = name.to_owned();
                } else if let Some(from) = line.strip_prefix("-- from: ") {
                    form.from = from.parse().unwrap();
                } else if let Some(before) = line.strip_prefix("-- before: ") {
                    form.before = before.to_owned();
                } else if let Some(differs) = line.strip_prefix("-- differs: ") {
                    form.differs = Some(differs.to_owned());
                } else {
                    form.sql.push_str(line);
                    form.sql.push('\n');
                }
            }
            form
        })
        .collect()
}

/// How a form came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    /// Rehearsed as predicted; nobody waits for work.
    Proved,
    /// It has no online form, and the plan says so.
    NoOnlineForm,
    /// The server refuses it, planned or not.
    Fails,
    /// Measured otherwise than predicted, as is known.
    KnownToDiffer,
    /// Measured otherwise than predicted, or it blocks.
    Wrong,
}

impl Outcome {
    fn as_str(self) -> &'static str {
        match self {
            Outcome::Proved => "proved",
            Outcome::NoOnlineForm => "no online form, and said so",
            Outcome::Fails => "the server refuses it",
            Outcome::KnownToDiffer => "differs, as is known",
            Outcome::Wrong => "WRONG",
        }
    }
}

/// Plans a form and rehearses what comes of it.
async fn try_form(url: &str, form: &Form) -> (Outcome, String) {
    let admin = crate::support::cluster::connect(url).await.unwrap();
    let fresh = "drop publication if exists pub; drop schema if exists public, x, x2, x3 cascade; create schema public";
    admin.batch_execute(fresh).await.unwrap();
    admin.batch_execute(include_str!("schema.sql")).await.unwrap();
    admin.batch_execute(&form.before).await.unwrap_or_else(|error| panic!("{}: {error:?}", form.name));
    let info = ConnInfo::parse(url).unwrap();
    let client = connect::connect(&info, "test").await.unwrap();
    let facts = catalog::read(&client, Side::Blue, &TableSelection::default()).await.unwrap();
    let planned = rewrite(&[SqlFile::new("form.sql", form.sql.clone())], Some(&facts));
    if !planned.may_run() {
        let codes: Vec<&str> = planned.findings.iter().map(|finding| finding.code.as_str()).collect();
        return (Outcome::NoOnlineForm, codes.join(" "));
    }
    let mut lab = Lab::open(&info).await.unwrap();
    let mut wrong = Vec::new();
    for online in &planned.statements {
        match lab.measure(Trial::from(online)).await {
            Ok(measured) => {
                let judgment = judge(&online.cost, &measured);
                if judgment.verdict != Verdict::Pass {
                    wrong.push(format!("{}: {}", online.sql, judgment.faults.join("; ")));
                }
            }
            Err(error) => {
                let why = error.chain().join(": ");
                // What was rewritten must run where the original does.
                let as_written = crate::support::cluster::connect(url).await.unwrap();
                let refused =
                    planned.statements.len() == 1 && as_written.batch_execute(&form.sql).await.is_err();
                let outcome = if refused { Outcome::Fails } else { Outcome::Wrong };
                return (outcome, format!("{}: {why}", online.sql));
            }
        }
    }
    if wrong.is_empty() { (Outcome::Proved, String::new()) } else { (Outcome::Wrong, wrong.join(" | ")) }
}

/// Tries forms on a major and prints a line for each. Returns those that came out wrong.
async fn try_all(major: u32, forms: &[Form]) -> Vec<String> {
    let pair = Pair::of_majors("ddl_proof", major, 18).await;
    let mut count: BTreeMap<Outcome, u32> = BTreeMap::new();
    let mut wrong = Vec::new();
    for form in forms.iter().filter(|form| form.from <= major) {
        let (mut outcome, why) = try_form(&pair.blue_url(), form).await;
        if outcome == Outcome::Wrong && form.differs.is_some() {
            outcome = Outcome::KnownToDiffer;
        }
        println!("proof: {major} {} | {} | {why}", outcome.as_str(), form.name);
        *count.entry(outcome).or_default() += 1;
        if outcome == Outcome::Wrong {
            wrong.push(format!("{major} {}: {why}", form.name));
        }
    }
    println!("on {major}: {count:?}");
    wrong
}

async fn prove(major: u32) {
    let wrong = try_all(major, &forms()).await;
    assert!(wrong.is_empty(), "\n  {}\n", wrong.join("\n  "));
}

#[tokio::test]
async fn a_sample_of_forms_is_as_predicted() {
    let mut sample = forms();
    sample.shuffle(&mut StdRng::seed_from_u64(seed()));
    sample.truncate(SAMPLE);
    let mut wrong = try_all(Majors::OLDEST, &sample).await;
    wrong.extend(try_all(Majors::NEWEST, &sample).await);
    assert!(wrong.is_empty(), "\n  {}\n", wrong.join("\n  "));
}

#[tokio::test]
#[ignore = "minutes: scripts/prove ddl"]
async fn every_form_on_15() {
    prove(15).await;
}

#[tokio::test]
#[ignore = "minutes: scripts/prove ddl"]
async fn every_form_on_16() {
    prove(16).await;
}

#[tokio::test]
#[ignore = "minutes: scripts/prove ddl"]
async fn every_form_on_17() {
    prove(17).await;
}

#[tokio::test]
#[ignore = "minutes: scripts/prove ddl"]
async fn every_form_on_18() {
    prove(18).await;
}
