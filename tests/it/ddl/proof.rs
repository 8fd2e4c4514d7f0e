//! Every form, planned and rehearsed: what is measured is what was predicted. `scripts/prove ddl` takes all of them on every
//! major and writes the page; the usual tests draw a sample.

use super::{
    form::{DATABASE, Form, forms},
    matrix::{self, Came, OnMajor, Outcome},
};
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

/// Plans a form and rehearses what comes of it.
async fn try_form(url: &str, form: &Form) -> Came {
    let admin = crate::support::cluster::connect(url).await.unwrap();
    let fresh = "drop publication if exists pub; drop schema if exists public, x, x2, x3 cascade; create schema public";
    admin.batch_execute(fresh).await.unwrap();
    admin.batch_execute(DATABASE).await.unwrap();
    admin.batch_execute(&form.before).await.unwrap_or_else(|error| panic!("{}: {error:?}", form.name));
    let info = ConnInfo::parse(url).unwrap();
    let client = connect::connect(&info, "test").await.unwrap();
    let facts = catalog::read(&client, Side::Blue, &TableSelection::default()).await.unwrap();
    let planned = rewrite(&[SqlFile::new("form.sql", form.sql.clone())], Some(&facts));
    let mut came = Came { outcome: Outcome::Proved, steps: Vec::new(), why: String::new() };
    if !planned.may_run() {
        let codes: Vec<&str> = planned.findings.iter().map(|finding| finding.code.as_str()).collect();
        return Came { outcome: Outcome::NoOnlineForm, why: codes.join(" "), ..came };
    }
    let mut lab = Lab::open(&info).await.unwrap();
    let mut wrong = Vec::new();
    for online in &planned.statements {
        match lab.measure(Trial::from(online)).await {
            Ok(measured) => {
                came.steps.push(matrix::step(online, &measured));
                let judgment = judge(&online.cost, &measured);
                if judgment.verdict != Verdict::Pass {
                    wrong.push(format!("{}: {}", online.sql, judgment.faults.join("; ")));
                }
                for note in judgment.notes {
                    println!("note: {} | {} | {note}", form.name, online.sql);
                }
            }
            Err(error) => {
                // What was rewritten must run where the original does.
                let as_written = crate::support::cluster::connect(url).await.unwrap();
                let refused =
                    planned.statements.len() == 1 && as_written.batch_execute(&form.sql).await.is_err();
                came.outcome = if refused { Outcome::Fails } else { Outcome::Wrong };
                came.why = error.chain().join(": ");
                return came;
            }
        }
    }
    if !wrong.is_empty() {
        came.outcome = Outcome::Wrong;
        came.why = wrong.join(" ; ");
    }
    came
}

/// Tries forms on a major and prints a line for each.
async fn try_all(major: u32, url: &str, forms: &[Form]) -> OnMajor {
    let admin = crate::support::cluster::connect(url).await.unwrap();
    let version: String = admin.query_one("show server_version", &[]).await.unwrap().get(0);
    let version = version.split(' ').next().unwrap_or_default().to_owned();
    let mut on = OnMajor { version, came: BTreeMap::new() };
    for form in forms.iter().filter(|form| form.from <= major) {
        let mut came = try_form(url, form).await;
        if let Some(differs) = form.differs.as_ref().filter(|_| came.outcome == Outcome::Wrong) {
            came = Came { outcome: Outcome::KnownToDiffer, why: differs.clone(), ..came };
        }
        println!("proof: {major} {} | {} | {}", came.outcome.as_str(), form.name, came.why);
        on.came.insert(form.name.clone(), came);
    }
    on
}

/// Those that came out wrong, and those that are told to differ and do not.
fn wrong(forms: &[Form], majors: &BTreeMap<u32, OnMajor>) -> Vec<String> {
    let mut wrong = Vec::new();
    for form in forms {
        let came: Vec<(&u32, &Came)> =
            majors.iter().filter_map(|(major, on)| Some((major, on.came.get(&form.name)?))).collect();
        let is = |outcome| came.iter().any(|(_, came)| came.outcome == outcome);
        if form.differs.is_some() && !came.is_empty() && !is(Outcome::KnownToDiffer) {
            wrong.push(format!("{}: it does not differ any more, take the mark away", form.name));
        }
        let bad = came.iter().filter(|(_, came)| came.outcome == Outcome::Wrong);
        wrong.extend(bad.map(|(major, came)| format!("{major} {}: {}", form.name, came.why)));
    }
    wrong
}

/// Forms on blue's major and on green's, side by side.
async fn try_both(blue: u32, green: u32, forms: &[Form]) -> BTreeMap<u32, OnMajor> {
    let pair = Pair::of_majors("ddl_proof", blue, green).await;
    let (blue_url, green_url) = (pair.blue_url(), pair.green_url());
    let (on_blue, on_green) =
        tokio::join!(try_all(blue, &blue_url, forms), try_all(green, &green_url, forms));
    BTreeMap::from([(blue, on_blue), (green, on_green)])
}

#[tokio::test]
async fn a_sample_of_forms_is_as_predicted() {
    let mut sample = forms();
    sample.shuffle(&mut StdRng::seed_from_u64(seed()));
    sample.truncate(SAMPLE);
    let majors = try_both(Majors::OLDEST, Majors::NEWEST, &sample).await;
    let wrong = wrong(&sample, &majors);
    assert!(wrong.is_empty(), "\n  {}\n", wrong.join("\n  "));
}

/// After as many forms the page is written, so that a run that is broken off has not been for nothing.
const WRITTEN_EVERY: usize = 20;

/// With `MIGRATE_TEST_FORMS=index,partition` only the forms with one of these in their names; with `PROVED_COMMIT` their lines
/// of the page are written anew.
#[tokio::test]
#[ignore = "minutes: scripts/prove ddl"]
async fn every_form_on_every_major() {
    let mut chosen = forms();
    if let Ok(only) = std::env::var("MIGRATE_TEST_FORMS") {
        chosen.retain(|form| only.split(',').any(|part| form.name.contains(part)));
    }
    let mut all_wrong = Vec::new();
    for some in chosen.chunks(WRITTEN_EVERY) {
        let (mut majors, others) = tokio::join!(try_both(15, 18, some), try_both(16, 17, some));
        majors.extend(others);
        assert!(majors.keys().copied().eq(Majors::ALL));
        if let Ok(commit) = std::env::var("PROVED_COMMIT") {
            let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(matrix::PAGE);
            let old = std::fs::read_to_string(&path).unwrap_or_default();
            std::fs::write(path, matrix::page(&old, &forms(), &majors, &commit)).unwrap();
        }
        all_wrong.extend(wrong(some, &majors));
    }
    assert!(all_wrong.is_empty(), "\n  {}\n", all_wrong.join("\n  "));
}
