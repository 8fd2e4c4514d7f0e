//! Beginning a migration: deaths and rivals while our schema is made.

use super::stage::{PATIENCE, Stage};
use crate::support::run::Running;
use rustix::process::Signal;
use std::time::{Duration, Instant};

/// In the order `replicate` comes to them, and whether anything of ours is there then.
const DEATHS: [(&str, bool); 4] = [
    ("begin:blue-making", false),
    ("begin:blue-made", true),
    ("begin:green-making", true),
    ("begin:green-made", true),
];

/// What an older version, which made schema and identity one after the other, left when it died in between.
async fn unclaimed(client: &tokio_postgres::Client) {
    client.batch_execute(include_str!("../../../sql/state/create_blue.sql")).await.unwrap();
    client.batch_execute(include_str!("../../../sql/state/create_green.sql")).await.unwrap();
}

async fn schemas(stage: &Stage) -> [bool; 2] {
    let sql = "select to_regnamespace('migrate') is not null";
    [
        stage.pair.blue().await.query_one(sql, &[]).await.unwrap().get(0),
        stage.pair.green().await.query_one(sql, &[]).await.unwrap().get(0),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_death_while_our_schema_is_made_can_be_cleaned_and_begun_anew() {
    let stage = Stage::set("born_dead").await;
    for (point, leaves_something) in DEATHS {
        let died =
            stage.prepare("replicate", &["--until-caught-up"]).env("MIGRATE_FAIL_POINT", point).run().await;
        assert_eq!(died.signal, Some(9), "{point}: {died:?}");
        stage.run("rollback", &["--all", "--yes"]).await.expect(i32::from(!leaves_something));
        assert_eq!(schemas(&stage).await, [false, false], "{point}");
    }
    let died = stage.prepare("replicate", &[]).env("MIGRATE_FAIL_POINT", DEATHS[3].0).run().await;
    assert_eq!(died.signal, Some(9), "{died:?}");
    stage.run("replicate", &["--until-caught-up"]).await.expect(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_that_nobody_claimed_is_ours_to_remove_and_to_use() {
    let stage = Stage::set("unclaimed").await;
    unclaimed(&stage.pair.green().await).await;
    stage.run("rollback", &["--all", "--yes"]).await.expect(0);
    assert_eq!(schemas(&stage).await, [false, false]);

    unclaimed(&stage.pair.green().await).await;
    stage.on_blue(include_str!("../../../sql/state/create_blue.sql")).await;
    stage.run("replicate", &["--until-caught-up"]).await.expect(0);
    stage.run("rollback", &["--all", "--yes"]).await.expect(0);

    stage.on_green("create schema migrate; create table migrate.theirs (id int)").await;
    let refused = stage.run("replicate", &["--until-caught-up"]).await.expect(3);
    assert!(refused.stderr.contains("NAME_TAKEN"), "{}", refused.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_that_begin_at_once_one_is_told_of_the_other() {
    let stage = Stage::set("rivals").await;
    for round in 0..3 {
        let rivals = [stage.prepare("replicate", &[]).start(), stage.prepare("replicate", &[]).start()];
        let (loser, winner) = first_to_end(rivals).await;
        let lost = loser.wait(PATIENCE).await.expect(3);
        let told = lost.stderr.contains("is at work on this migration") || lost.stderr.contains("took over");
        assert!(told, "round {round}: {lost:?}");
        stage.follows().await;
        winner.signal(Signal::INT);
        winner.wait(PATIENCE).await;
        stage.run("rollback", &["--all", "--yes"]).await.expect(0);
    }
}

async fn first_to_end(mut rivals: [Running; 2]) -> (Running, Running) {
    let until = Instant::now() + PATIENCE;
    loop {
        if rivals[0].has_ended() {
            return rivals.into();
        }
        if rivals[1].has_ended() {
            let [first, second] = rivals;
            return (second, first);
        }
        assert!(Instant::now() < until, "both go on");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
