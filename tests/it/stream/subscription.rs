//! PostgreSQL's own subscription tests (`src/test/subscription/t`), file by file: what each is about, as scenarios of
//! our own. Carried, refused with the reason, or no concern of a follower's; `docs/proofs.md` has the table.

mod carried;
mod refused;
mod surroundings;
mod types;

use super::{PATIENCE, Scene, followed};
use crate::support::Pair;
use migrate::pg::conninfo::ConnInfo;
use migrate::pg::name::TableName;
use migrate::stream::follow::{FollowStatus, FollowTable};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// A table of a scenario.
struct Table {
    blue: &'static str,
    green: &'static str,
    key: &'static [&'static str],
    /// What the publication says of it besides its name.
    published: &'static str,
    /// What must be the same on both sides of a row `t`; nothing is compared when empty.
    row: &'static str,
}

const fn table(name: &'static str, key: &'static [&'static str]) -> Table {
    Table { blue: name, green: name, key, published: "", row: "t" }
}

/// Something that happens on blue, and must be the same on green afterwards.
struct Carried {
    file: &'static str,
    what: &'static str,
    /// Both sides must be of this major at least.
    since: u32,
    /// Blue must not be of a later one.
    blue_until: u32,
    /// Runs on both sides, then the rest on one.
    ddl: &'static str,
    blue: &'static str,
    green: &'static str,
    tables: &'static [Table],
    /// On blue, one after the other; green is compared after each. `;;` ends what is sent at once.
    steps: &'static [&'static str],
    /// Questions with the same answer on both sides, after each step.
    alike: &'static [&'static str],
    /// Questions to green after the last step, and their answers.
    ends: &'static [(&'static str, &'static str)],
}

const CARRIED: Carried = Carried {
    file: "",
    what: "",
    since: 15,
    blue_until: 18,
    ddl: "",
    blue: "",
    green: "",
    tables: &[],
    steps: &[],
    alike: &[],
    ends: &[],
};

/// Files about what a follower has no part in.
const NOT_OURS: [(&str, &str); 9] = [
    ("004_sync", "the first rows are the copy's, which hands over where the slot begins: `tests/it/copy.rs`"),
    ("014_binary", "an option of subscriptions: every value comes in its type's text form"),
    ("026_stats", "a view of subscriptions: the follower's own status counts transactions, rows and lag"),
    ("033_run_as_table_owner", "an option of subscriptions: rows are written by the role of the plan"),
    ("036_sequences", "of PostgreSQL 19; sequences are carried at the fence"),
    ("037_except", "of PostgreSQL 19; our publication names each table"),
    ("038_walsnd_shutdown_timeout", "of PostgreSQL 19, and about blue's shutdown"),
    ("021_alter_sub_pub", "an option of subscriptions: the publication of a follower is never another one"),
    ("032_apply_delay", "an option of subscriptions, taken out again: rows are written as they come"),
];

fn all_carried() -> Vec<&'static Carried> {
    carried::CASES.iter().chain(types::CASES).collect()
}

/// Every scenario that these majors can have, on one pair.
struct Stage {
    scene: Scene,
    cases: Vec<&'static Carried>,
}

impl Stage {
    async fn set(name: &str, blue: u32, green: u32, chosen: impl Fn(&Carried) -> bool) -> Stage {
        let cases: Vec<_> = all_carried()
            .into_iter()
            .filter(|case| case.since <= blue.min(green) && blue <= case.blue_until && chosen(case))
            .collect();
        let mut scene = Scene::bare(Pair::of_majors(name, blue, green).await).await;
        for case in &cases {
            for (client, own) in [(&scene.blue, case.blue), (&scene.green, case.green)] {
                for sql in [case.ddl, own] {
                    client
                        .batch_execute(sql)
                        .await
                        .unwrap_or_else(|error| panic!("{}: {error:?}", case.file));
                }
            }
        }
        let tables: Vec<(FollowTable, &str)> = cases
            .iter()
            .flat_map(|case| case.tables)
            .map(|table| (followed(table.blue, table.green, table.key), table.published))
            .collect();
        scene.spec = scene.publish("follow", &tables).await;
        // Large transactions are put on blue's disk, and read from there.
        let url = format!("{}?options=-c%20logical_decoding_work_mem%3D64kB", scene.pair.blue_url());
        scene.spec.blue = ConnInfo::parse(&url).unwrap();
        Stage { scene, cases }
    }

    async fn step(&self, case: &Carried, number: usize) {
        for sql in case.steps.get(number).into_iter().flat_map(|step| step.split(";;")) {
            let ran = self.scene.blue.batch_execute(sql).await;
            ran.unwrap_or_else(|error| panic!("{}, step {number}: {error:?}", case.file));
        }
    }

    async fn compare(&self, case: &Carried, number: usize) {
        for table in case.tables.iter().filter(|table| !table.row.is_empty()) {
            let (name, row) = (TableName::new("public", table.blue), table.row);
            let rows = format!(
                "select coalesce(string_agg(({row})::text, E'\\n' order by ({row})::text collate \"C\"), '') from {name} t"
            );
            self.assert_alike(case, number, &rows).await;
        }
        for question in case.alike {
            self.assert_alike(case, number, question).await;
        }
        if number + 1 == case.steps.len() {
            for (question, answer) in case.ends {
                let given: String = self.scene.green.query_one(*question, &[]).await.unwrap().get(0);
                assert_eq!(given, *answer, "{}: {question}", case.file);
            }
        }
    }

    async fn assert_alike(&self, case: &Carried, number: usize, question: &str) {
        let blue: String = self.scene.blue.query_one(question, &[]).await.unwrap().get(0);
        let green: String = self.scene.green.query_one(question, &[]).await.unwrap().get(0);
        assert_eq!(blue, green, "{}, step {number}: {question}", case.file);
    }

    /// All scenarios at once, step by step, with a follower that is close behind.
    async fn close_behind(&self) {
        let follower = self.scene.follow();
        let steps = self.cases.iter().map(|case| case.steps.len()).max().unwrap_or_default();
        for number in 0..steps {
            for case in &self.cases {
                self.step(case, number).await;
            }
            self.scene.drained(&follower, &format!("step {number}")).await;
            for case in self.cases.iter().filter(|case| number < case.steps.len()) {
                self.compare(case, number).await;
            }
        }
        follower.stop(PATIENCE).await.unwrap_or_else(|error| panic!("{:?}", error.chain()));
    }

    /// One scenario after the other, each step a backlog for a follower of its own.
    async fn far_behind(&self) -> FollowStatus {
        let mut sum = FollowStatus::default();
        for case in &self.cases {
            for number in 0..case.steps.len() {
                self.step(case, number).await;
                let follower = self.scene.follow();
                // Nobody waits for green's next flush then.
                follower.durable(true).await.unwrap_or_else(|error| panic!("{:?}", error.chain()));
                self.scene.drained(&follower, &format!("{} step {number}", case.file)).await;
                let status = follower.stop(PATIENCE).await;
                let status = status.unwrap_or_else(|error| panic!("{}: {:?}", case.file, error.chain()));
                assert_eq!(status.replayed, 0, "{}, step {number}: sets were refused", case.file);
                sum.set_based += status.set_based;
                self.compare(case, number).await;
            }
        }
        sum
    }
}

#[tokio::test]
async fn what_postgres_tests_of_subscriptions_is_carried_from_15_to_18() {
    Stage::set("subs", 15, 18, |_| true).await.close_behind().await;
}

#[tokio::test]
async fn what_postgres_tests_of_subscriptions_is_carried_in_sets_from_18_to_15() {
    let sum = Stage::set("subs_sets", 18, 15, |_| true).await.far_behind().await;
    assert!(sum.set_based > 20, "only {} batches were written set by set", sum.set_based);
}

#[tokio::test]
async fn what_only_postgres_18_has_is_carried() {
    let stage = Stage::set("subs_18", 18, 18, |case| case.since == 18).await;
    assert!(!stage.cases.is_empty());
    stage.close_behind().await;
}

/// The rows of the table in `docs/proofs.md`: file, what becomes of it, and of what.
fn expected_rows() -> String {
    let mut rows: BTreeMap<&str, (Vec<&str>, Vec<String>)> = BTreeMap::new();
    let carried = all_carried().into_iter().map(|case| (case.file, "carried", case.what));
    let around = surroundings::CASES.iter().map(|(file, outcome, what)| (*file, *outcome, *what));
    let refused = refused::CASES.iter().map(|case| (case.file, "refused", case.what));
    let not_ours = NOT_OURS.iter().map(|(file, why)| (*file, "not ours", *why));
    for (file, outcome, what) in carried.chain(around).chain(refused).chain(not_ours) {
        let (outcomes, whats) = rows.entry(file).or_default();
        if !outcomes.contains(&outcome) {
            outcomes.push(outcome);
        }
        whats.push(if outcome == "refused" { format!("refused: {what}") } else { what.to_owned() });
    }
    let mut text = String::new();
    for (file, (outcomes, whats)) in rows {
        let _ = writeln!(text, "| {file} | {} | {} |", outcomes.join(", "), whats.join("; "));
    }
    text
}

#[test]
fn the_table_of_subscription_tests_says_what_the_cases_do() {
    let page = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/proofs.md");
    let page = std::fs::read_to_string(page).expect("docs/proofs.md");
    let written: String = page
        .lines()
        .filter(|line| line.starts_with("| ") && line.as_bytes().get(2).is_some_and(u8::is_ascii_digit))
        .filter(|line| line.as_bytes().get(5) == Some(&b'_'))
        .flat_map(|line| [line, "\n"])
        .collect();
    assert!(written == expected_rows(), "docs/proofs.md should have:\n{}", expected_rows());
}
