//! Two operators at once, a replicate that sleeps, and a client that would not let go.

use super::ends_on_green;
use super::scene::{By, Scene};
use rustix::process::Signal;
use std::time::{Duration, Instant};
use tokio_postgres::{Client, NoTls};

const PATIENCE: Duration = Duration::from_secs(30);

/// A client of the pooler whose transaction stays open: PAUSE waits for it.
pub async fn idle_in_transaction(scene: &Scene) -> Client {
    let (client, connection) = tokio_postgres::connect(&scene.bouncer.app_url(), NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute("begin; select 1").await.unwrap();
    client
}

/// The journal's newest entry is of this step.
pub async fn comes_to(scene: &Scene, step: &str) {
    let until = Instant::now() + PATIENCE;
    let green = scene.pair.green().await;
    let newest = "select coalesce((select step from migrate.journal order by seq desc limit 1), '')";
    while green.query_one(newest, &[]).await.unwrap().get::<_, String>(0) != step {
        assert!(Instant::now() < until, "the cutover does not come to {step}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_operator_is_refused_and_a_following_replicate_steps_aside() {
    let scene = Scene::set("two_operators").await;
    let replicate = scene.following().await;
    let before = scene.look().await;
    scene.run("replicate", &[]).await.expect(3);
    assert_eq!(scene.look().await, before, "the second replicate changed something");

    let idle = idle_in_transaction(&scene).await;
    let cutover = scene.start("cutover", &[]);
    comes_to(&scene, "switch/pause-clients").await;
    let aside = replicate.wait(PATIENCE).await.expect(0);
    assert!(aside.stdout.contains("stepped aside") || aside.stderr.contains("stepped aside"), "{aside:?}");
    let before = scene.look().await;
    for command in ["cutover", "replicate", "rollback"] {
        let refused = scene.run(command, &[]).await.expect(3);
        assert!(refused.stderr.contains("cutover (process"), "it does not say who is at work: {refused:?}");
    }
    assert_eq!(scene.look().await, before, "a second operator changed something");

    idle.batch_execute("commit").await.unwrap();
    cutover.wait(PATIENCE).await.expect(0);
    scene.clients_are_served(By::Green, "two operators").await;
    scene.history_is_clean(By::Green, "two operators").await;
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replicate_that_sleeps_is_taken_over_and_cannot_write_when_it_wakes() {
    let scene = Scene::set("sleeper").await;
    let replicate = scene.following().await;
    replicate.signal(Signal::STOP);
    let began = Instant::now();
    ends_on_green(&scene, "a replicate that slept").await;
    assert!(began.elapsed() >= Duration::from_secs(10), "it was pushed aside without being asked");
    replicate.signal(Signal::CONT);
    replicate.wait(PATIENCE).await.expect(3);
    scene.clients_are_served(By::Green, "it woke").await;
    scene.history_is_clean(By::Green, "it woke").await;
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_let_go_uses_the_budget_up_and_all_is_as_before() {
    let scene = Scene::with("budget", "pause_max: 1s\n  transaction_age_max: 1m").await;
    scene.run("replicate", &["--until-caught-up"]).await.expect(0);
    let idle = idle_in_transaction(&scene).await;
    scene.run("cutover", &[]).await.expect(4);
    scene.is_as_before("a cutover that was called off").await;
    idle.batch_execute("commit").await.unwrap();
    scene.history_is_clean(By::Blue, "a cutover that was called off").await;
    scene.end().await;
}
