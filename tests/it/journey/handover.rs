//! What one command leaves to the next.

use super::stage::{PATIENCE, Stage};
use rustix::process::Signal;
use std::time::{Duration, Instant};

/// The keys that the fence compared, from the report.
async fn keys_compared(stage: &Stage) -> u64 {
    let report = stage.run("report", &["--format", "json"]).await.expect(0).json();
    report["fence"]["keys_compared"].as_u64().expect("a fence in the report")
}

async fn green_has(stage: &Stage, sql: &str, wanted: &str) {
    let until = Instant::now() + PATIENCE;
    while stage.ask_green(sql).await != wanted {
        assert!(Instant::now() < until, "green does not come to {wanted}: {sql}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_keys_changed_last_outlive_the_one_who_applied_them() {
    let stage = Stage::set("last_keys").await;
    let replicate = stage.following().await;
    stage.on_blue("update p2 set note = 'changed' where id <= 30").await;
    green_has(&stage, "select count(*) from p2 where note = 'changed'", "30").await;
    // Killed after it has written them down, so that the next one has them from green alone.
    green_has(&stage, "select coalesce(max(jsonb_array_length(keys)), 0) from migrate.last_keys", "30").await;
    replicate.kill().await;

    let replicate = stage.following().await;
    stage.on_blue("insert into p1 (note) select 'late' from generate_series(1, 12)").await;
    green_has(&stage, "select count(*) from p1 where note = 'late'", "12").await;
    stage.run("cutover", &[]).await.expect(0);
    replicate.wait(PATIENCE).await.expect(0);
    assert_eq!(keys_compared(&stage).await, 42);
}

/// The follower before the cutover's was wrong; its keys tell, though the cutover's own applied nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_an_earlier_follower_left_wrong_stops_the_fence() {
    let stage = Stage::set("last_keys_differ").await;
    let replicate = stage.following().await;
    stage.on_blue("update p2 set note = 'changed' where id = 7").await;
    green_has(&stage, "select note from p2 where id = 7", "changed").await;
    stage.on_green("set session_replication_role = replica; update p2 set note = 'wrong' where id = 7").await;
    let stopped = stage.run("cutover", &[]).await.expect(3);
    assert!(stopped.stderr.contains("the row 7 of public.p2 differs"), "{}", stopped.stderr);
    replicate.wait(PATIENCE).await.expect(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_truncated_on_blue_does_not_block_the_cutover() {
    let stage = Stage::set("truncated").await;
    let replicate = stage.following().await;
    stage.on_blue("truncate p2; insert into p2 values (1, 'new')").await;
    green_has(&stage, "select count(*) from p2", "1").await;
    stage.run("cutover", &[]).await.expect(0);
    replicate.wait(PATIENCE).await.expect(0);
    assert_eq!(stage.ask_green("select reltuples from pg_class where relname = 'p2'").await, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cutover_that_was_interrupted_does_not_send_replicate_away() {
    let stage = Stage::set("withdrawn").await;
    let mut replicate = stage.following().await;
    let blocker = stage.pair.green().await;
    blocker.batch_execute("begin; lock table p2 in access exclusive mode").await.unwrap();
    stage.on_blue("update p2 set note = 'held up' where id = 1").await;
    tokio::time::sleep(Duration::from_secs(1)).await;

    let cutover = stage.prepare("cutover", &[]).start();
    green_has(&stage, "select count(*) from migrate.request", "1").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    cutover.kill().await;
    blocker.batch_execute("commit").await.unwrap();

    green_has(&stage, "select note from p2 where id = 1", "held up").await;
    stage.on_blue("update p2 set note = 'followed' where id = 1").await;
    green_has(&stage, "select note from p2 where id = 1", "followed").await;
    assert!(!replicate.has_ended(), "it stepped aside for nobody");
    stage.follows().await;
    replicate.signal(Signal::INT);
    replicate.wait(PATIENCE).await;
}
