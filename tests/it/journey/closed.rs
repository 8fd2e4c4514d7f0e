//! Nobody writes on blue once it is fenced, by whatever way they came.

use super::stage::{PATIENCE, Stage};
use rustix::process::Signal;
use std::time::Duration;

/// A gate is on tables that were there when it was armed. What a session makes behind the fence has none; so there is a
/// last look, right before the point of no return.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_made_behind_the_fence_is_seen_before_green_opens() {
    let stage = Stage::caught_up("behind_the_fence").await;
    let mut cutover = stage.prepare("cutover", &[]).env("MIGRATE_SLEEP_POINT", "opening:before").start();
    cutover.falls_asleep().await;
    stage.on_blue("create table late (id int primary key); insert into late values (1)").await;
    cutover.signal(Signal::CONT);
    let refused = cutover.wait(PATIENCE).await.expect(3);
    assert!(refused.stderr.contains("table public.late is new"), "{}", refused.stderr);
    assert!(refused.stderr.contains("everything is as before"), "{}", refused.stderr);
    stage.on_blue("drop table late; insert into p1 (note) values ('blue serves again')").await;
    stage.run("cutover", &[]).await.expect(0);
}

/// `session_replication_role = replica` switches ordinary triggers off, and is what restores and clever scripts set.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_in_whatever_role_is_refused() {
    let stage = Stage::caught_up("whatever_role").await;
    stage.run("cutover", &[]).await.expect(0);
    let blue = stage.pair.blue().await;
    for role in ["origin", "replica", "local"] {
        blue.batch_execute(&format!("set session_replication_role = {role}")).await.unwrap();
        for write in [
            "insert into p1 (note) values ('lost')",
            "update p2 set note = 'lost' where id = 1",
            "delete from p2 where id = 2",
            "truncate p1",
            "copy p2 (id) from program 'echo 4711'",
        ] {
            let refused = blue.batch_execute(write).await.expect_err(write);
            assert_eq!(refused.code().map(|code| code.code()), Some("25006"), "{role}: {write}: {refused:?}");
        }
    }
}

/// A process dies while its COMMIT of the opening is on its way: whoever goes back waits to see it arrive, and then says
/// that there is no way back, instead of opening blue beside green.
#[tokio::test(flavor = "multi_thread")]
async fn going_back_waits_for_an_opening_that_is_on_its_way() {
    let stage = Stage::caught_up("opening_on_its_way").await;
    let mut cutover = stage.prepare("cutover", &[]).env("MIGRATE_SLEEP_POINT", "opening:before").start();
    cutover.falls_asleep().await;
    cutover.signal(Signal::KILL);
    cutover.wait(PATIENCE).await;

    let on_its_way = stage.pair.blue().await;
    on_its_way.batch_execute("begin; update migrate.gate set state = 'OPENING'").await.unwrap();
    let rollback = stage.prepare("rollback", &[]).start();
    let blue = stage.pair.blue().await;
    let waits = "select exists (select from pg_stat_activity where datname = current_database()
        and wait_event_type = 'Lock' and query like 'select from migrate.gate%')";
    let until = std::time::Instant::now() + PATIENCE;
    while !blue.query_one(waits, &[]).await.unwrap().get::<_, bool>(0) {
        assert!(std::time::Instant::now() < until, "nobody waits for the row");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    on_its_way.batch_execute("commit").await.unwrap();
    let refused = rollback.wait(PATIENCE).await.expect(6);
    assert!(refused.stderr.contains("migrate cutover"), "it does not name the way: {}", refused.stderr);
    stage.run("cutover", &[]).await.expect(0);
}
