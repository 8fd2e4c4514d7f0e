//! `replicate` killed in each of its phases, and taken back wholly.

use super::ends_on_green;
use super::points;
use super::scene::{By, Scene};
use crate::support::run::Running;

/// In the order `replicate` comes to them.
const POINTS: [&str; 6] = [
    "prepare/clone-schema:effected",
    "prepare/defer-objects:started",
    "replicate/copy-rows:started",
    "replicate/copy-rows:effected",
    "replicate/rebuild-objects:effected",
    "replicate/prove-keys:effected",
];

/// In the order `rollback --all` comes to them.
const UNDO_POINTS: [&str; 7] = [
    "replicate/copy-rows:undo-effected",
    "replicate/publish-tables:undone",
    "capture/open-slot:undo-effected",
    "prepare/defer-objects:undo-effected",
    "prepare/close-green:undo-started",
    "prepare/clone-schema:undone",
    "rollback:green-forgotten",
];

/// Each run goes on from where the one before died.
#[tokio::test(flavor = "multi_thread")]
async fn killed_in_every_phase_it_goes_on() {
    let scene = Scene::set("replicate").await;
    for point in POINTS {
        scene.dies("replicate", &["--until-caught-up"], point).await;
    }
    let replicate: Running = scene.following().await;
    scene.clients_are_served(By::Blue, "the copy").await;
    replicate.kill().await;
    scene.clients_are_served(By::Blue, "nobody follows").await;
    scene.run("replicate", &["--until-caught-up"]).await.expect(0);
    ends_on_green(&scene, "seven deaths of replicate").await;
    scene.end().await;
}

/// From the middle of a cutover, killed again and again on the way; after it, all begins anew.
#[tokio::test(flavor = "multi_thread")]
async fn rollback_all_leaves_nothing_and_replicate_begins_again() {
    let scene = Scene::caught_up("rollback_all").await;
    scene.dies("cutover", &[], points::ALL_BUT_OPENED).await;
    for point in UNDO_POINTS {
        scene.dies("rollback", &["--all", "--yes"], point).await;
    }
    scene.run("rollback", &["--all", "--yes"]).await.expect(0);
    scene.nothing_is_left().await;
    scene.run("rollback", &["--all", "--yes"]).await.expect(1);
    scene.clients_are_served(By::Blue, "rollback --all").await;
    scene.history_is_clean(By::Blue, "rollback --all").await;
    scene.run("replicate", &["--until-caught-up"]).await.expect(0);
    ends_on_green(&scene, "beginning again").await;
    scene.end().await;
}
