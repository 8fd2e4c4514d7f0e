//! Green dies while clients are held: blue alone takes them back, or the cutover waits for green where there is no way
//! back any more.

use super::ends_on_green;
use super::scene::{By, Scene};
use rustix::process::Signal;
use std::time::{Duration, Instant};

/// A debug build on a busy machine keeps it.
const PAUSE_MAX: &str = "pause_max: 15s";
/// From green's death to the first client that is served: what a green that restarts is waited for, and our own work.
const SERVED_WITHIN: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(60);

/// Held clients are served by blue within a few seconds from now on.
async fn served_soon(scene: &Scene, after: &str) {
    let began = Instant::now();
    scene.clients_are_served(By::Blue, after).await;
    assert!(began.elapsed() < SERVED_WITHIN, "clients were held for {:?} after {after}", began.elapsed());
}

/// What blue says of itself, and what is left there for a way back.
async fn blue_is_open(scene: &Scene) {
    let blue = scene.pair.blue().await;
    let left = "select state || ' ' || (select count(*) from migrate.manifest where object = 'route') from migrate.gate";
    assert_eq!(blue.query_one(left, &[]).await.unwrap().get::<_, String>(0), "OPEN 0");
}

#[tokio::test(flavor = "multi_thread")]
async fn blue_alone_takes_clients_back_and_a_later_cutover_succeeds() {
    let mut scene = Scene::caught_up_on_own_servers("green_dead", PAUSE_MAX).await;

    // Our process lives: clients are held, the route leads to green, and green dies.
    let cutover = scene.asleep("cutover", "switch/point-routes:applied").await;
    scene.pair.kill_green();
    cutover.signal(Signal::CONT);
    served_soon(&scene, "green died, we live").await;
    let called_off = cutover.wait(PATIENCE).await.expect(4);
    assert!(called_off.stderr.contains("over blue alone"), "{called_off:?}");
    blue_is_open(&scene).await;
    // Nothing is held any more, so there is nothing to do without green.
    scene.run("rollback", &[]).await.expect(1);
    scene.run("status", &[]).await.expect(1);
    scene.pair.restart_green().await;
    let status = scene.run("status", &["--format", "json"]).await.expect(0).json();
    assert!(status["summary"].as_str().unwrap().contains("blue alone"), "{status:#}");

    // Our process dies with green, and so does the first who goes back.
    scene.dies("cutover", &[], "switch/declare-opening:planned").await;
    scene.pair.kill_green();
    for point in ["blue-alone:begun", "blue-alone:routed", "blue-alone:opened", "blue-alone:resumed"] {
        scene.dies("rollback", &[], point).await;
    }
    let back = scene.run("rollback", &[]).await.expect(0);
    assert!(
        back.stdout.contains("Green does not answer") || back.stderr.contains("Green does not answer"),
        "{back:?}"
    );
    served_soon(&scene, "green died with us").await;
    blue_is_open(&scene).await;
    scene.history_is_clean(By::Blue, "green died twice").await;

    // Green's journal is told by the next command, which may die too.
    scene.pair.restart_green().await;
    scene.dies("rollback", &[], "switch/fence-blue:undo-effected").await;
    scene.dies("replicate", &["--until-caught-up"], "blue-alone:journal-told").await;
    scene.run("rollback", &[]).await.expect(0);
    scene.is_as_before("green came back").await;
    ends_on_green(&scene, "green died twice").await;
    scene.end().await;
}

/// A stalled synchronous standby: green listens, and no COMMIT comes back.
#[tokio::test(flavor = "multi_thread")]
async fn a_green_that_hangs_in_the_pause_is_left_out_of_the_way_back() {
    let scene = Scene::caught_up_on_own_servers("green_hangs", "pause_max: 10s").await;
    let cutover = scene.asleep("cutover", "switch/fence-blue:applied").await;
    let green = scene.pair.green().await;
    green.batch_execute("alter system set synchronous_standby_names = 'nobody'").await.unwrap();
    green.batch_execute("select pg_reload_conf()").await.unwrap();
    cutover.signal(Signal::CONT);
    let began = Instant::now();
    scene.clients_are_served(By::Blue, "green hung").await;
    assert!(began.elapsed() < Duration::from_secs(20), "clients were held for {:?}", began.elapsed());
    cutover.wait(PATIENCE).await.expect(4);
    green.batch_execute("alter system reset synchronous_standby_names").await.unwrap();
    green.batch_execute("select pg_reload_conf()").await.unwrap();
    ends_on_green(&scene, "green hung").await;
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn past_the_point_of_no_return_a_green_that_restarts_is_waited_for() {
    let mut scene = Scene::caught_up_on_own_servers("green_restarts", PAUSE_MAX).await;
    let cutover = scene.asleep("cutover", "switch/declare-opening:effected").await;
    scene.pair.kill_green();
    cutover.signal(Signal::CONT);
    tokio::time::sleep(Duration::from_secs(3)).await;
    // Another one must not go back over blue alone: green may have been opened.
    scene.run("rollback", &[]).await.expect(6);
    scene.pair.restart_green().await;
    cutover.wait(PATIENCE).await.expect(0);
    scene.clients_are_served(By::Green, "green restarted").await;
    scene.history_is_clean(By::Green, "green restarted").await;
    scene.end().await;
}
