//! Processes of ours that sleep at the worst moment while somebody else takes over, and sessions of ours that break
//! while clients are held.

use super::operators::{comes_to, idle_in_transaction};
use super::scene::{By, Scene};
use crate::support::Pair;
use migrate::engine::lease::{self, Takeover};
use migrate::error::Kind;
use migrate::plan::Side;
use rustix::process::Signal;
use std::time::Duration;
use tokio_postgres::NoTls;

const PATIENCE: Duration = Duration::from_secs(60);
/// Longer than a lease is renewed after.
const A_RENEWAL: Duration = Duration::from_secs(4);

/// As if the holder had been silent for a minute.
async fn the_lease_expires(scene: &Scene) {
    for client in [scene.pair.blue().await, scene.pair.green().await] {
        let age = "update migrate.lease set renewed_at = renewed_at - interval '1 minute'";
        assert_eq!(client.execute(age, &[]).await.unwrap(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cutover_that_slept_can_do_no_harm_when_it_wakes() {
    let scene = Scene::caught_up("sleeps").await;

    // Right before the point of no return; somebody goes back meanwhile.
    let sleeper = scene.asleep("cutover", "opening:before").await;
    the_lease_expires(&scene).await;
    scene.run("rollback", &[]).await.expect(0);
    sleeper.signal(Signal::CONT);
    sleeper.wait(PATIENCE).await.expect(3);
    scene.is_as_before("a sleeper woke before OPENING").await;

    // Right before it carries the sequences; somebody goes through the cutover meanwhile.
    let sleeper = scene.asleep("cutover", "fence:drained").await;
    the_lease_expires(&scene).await;
    scene.run("cutover", &[]).await.expect(0);
    scene.clients_are_served(By::Green, "somebody else cut over").await;
    let before = sequences(&scene).await;
    sleeper.signal(Signal::CONT);
    sleeper.wait(PATIENCE).await.expect(3);
    for ((name, before), (_, now)) in before.iter().zip(sequences(&scene).await) {
        assert!(now >= *before, "{name} went back from {before} to {now}");
    }
    scene.clients_are_served(By::Green, "a sleeper woke after the cutover").await;
    scene.history_is_clean(By::Green, "a sleeper woke after the cutover").await;
    scene.end().await;
}

async fn sequences(scene: &Scene) -> Vec<(String, i64)> {
    let green = scene.pair.green().await;
    let all = "select sequencename::text, coalesce(last_value, 0) from pg_sequences where schemaname = 'public' order by 1";
    green.query(all, &[]).await.unwrap().iter().map(|row| (row.get(0), row.get(1))).collect()
}

/// A broken connection is no lost lease, and no reason to leave clients held; and blue is closed only once other
/// sessions were ended, even if PUBLIC could never connect.
#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_break_while_clients_are_held_are_opened_anew() {
    let scene = Scene::with("broken", "pause_max: 40s\n  transaction_age_max: 1m").await;
    scene.run("replicate", &["--until-caught-up"]).await.expect(0);
    let reader = scene.pair.blue().await;
    let database = scene.pair.blue_database();
    reader.batch_execute(&format!("revoke connect on database \"{database}\" from public")).await.unwrap();

    let idle = idle_in_transaction(&scene).await;
    let cutover = scene.start("cutover", &[]);
    comes_to(&scene, "switch/pause-clients").await;
    for client in [scene.pair.blue().await, scene.pair.green().await] {
        let end = "select count(pg_terminate_backend(pid, 5000)) from pg_stat_activity
            where datname = current_database() and application_name ~ '^migrate.*: (lease|journal|steps)$'";
        assert!(client.query_one(end, &[]).await.unwrap().get::<_, i64>(0) > 0, "nothing was broken");
    }
    tokio::time::sleep(A_RENEWAL).await;
    idle.batch_execute("commit").await.unwrap();
    cutover.wait(PATIENCE).await.expect(0);
    assert!(reader.query_one("select 1", &[]).await.is_err(), "a reader of blue was let go on");
    scene.clients_are_served(By::Green, "sessions broke").await;
    scene.history_is_clean(By::Green, "sessions broke").await;
    scene.end().await;
}

/// A PgBouncer that was restarted has forgotten its PAUSE; the file still leads to green.
#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_that_forgot_its_pause_is_pointed_back() {
    let scene = Scene::caught_up("forgot").await;
    {
        // They would be refused by green's gate, loudly and rightly.
        let _resting = scene.traffic.rest().await;
        scene.dies("cutover", &[], "opening:before").await;
        let (console, connection) = tokio_postgres::connect(&scene.bouncer.admin_url(), NoTls).await.unwrap();
        tokio::spawn(connection);
        console.simple_query("RESUME app").await.unwrap();
        scene.run("rollback", &[]).await.expect(0);
    }
    scene.is_as_before("the pooler forgot its PAUSE").await;
    scene.history_is_clean(By::Blue, "the pooler forgot its PAUSE").await;
    scene.end().await;
}

#[tokio::test]
async fn who_was_asked_is_pushed_aside_and_nobody_else() {
    let pair = Pair::fresh("pushed").await;
    let (mut first, mut second, mut third) = (pair.blue().await, pair.blue().await, pair.blue().await);
    first.batch_execute(include_str!("../../../sql/state/create_blue.sql")).await.unwrap();
    let free = Takeover::OnlyWhenFree;
    assert_eq!(lease::take(&mut first, Side::Blue, "replicate", 1, free).await.unwrap(), 1);
    let taken = lease::take(&mut second, Side::Blue, "cutover", 1, Takeover::FromEpoch(1)).await.unwrap();
    assert_eq!(taken, 2);
    let refused =
        lease::take(&mut third, Side::Blue, "rollback", 1, Takeover::FromEpoch(1)).await.unwrap_err();
    assert_eq!(refused.kind, Kind::Lease, "{refused:?}");
}
