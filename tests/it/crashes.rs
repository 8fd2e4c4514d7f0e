//! `kill -9` at every named point of a migration over real servers, under traffic: it goes on, or it goes back.
//!
//! The tests here draw a sample of the cutover's points (`MIGRATE_TEST_SEED`); `scripts/prove crashes` runs all of them.

#[path = "crashes/green_dead.rs"]
mod green_dead;
#[path = "crashes/limited_role.rs"]
mod limited_role;
#[path = "crashes/operators.rs"]
mod operators;
#[path = "crashes/points.rs"]
pub mod points;
#[path = "crashes/proof.rs"]
mod proof;
#[path = "crashes/replicate.rs"]
mod replicate;
#[path = "crashes/scene.rs"]
mod scene;
#[path = "crashes/sleepers.rs"]
mod sleepers;

use points::Point;
use scene::{By, Scene};

const SAMPLE: usize = 4;

/// Dies at a point; the same command goes on and comes to its end.
async fn forward_from(point: &Point) {
    let scene = Scene::caught_up("forward").await;
    scene.dies_at(point).await;
    ends_on_green(&scene, &point.name).await;
    scene.end().await;
}

/// The cutover comes to its end, from wherever it was.
async fn ends_on_green(scene: &Scene, after: &str) {
    scene.run("cutover", &[]).await.expect(0);
    scene.clients_are_served(By::Green, after).await;
    scene.history_is_clean(By::Green, after).await;
}

/// Dies at a point before the point of no return; `rollback` brings everything back to blue.
async fn back_from(scene: &Scene, point: &Point) {
    scene.dies_at(point).await;
    scene.run("rollback", &[]).await.expect(0);
    scene.is_as_before(&point.name).await;
    scene.history_is_clean(By::Blue, &point.name).await;
}

/// Dies at a point after the point of no return; `rollback` refuses and touches nothing, and the cutover goes on.
async fn no_way_back_from(point: &Point) {
    let scene = Scene::caught_up("no_way_back").await;
    scene.dies_at(point).await;
    let before = scene.look().await;
    scene.run("rollback", &[]).await.expect(6);
    assert_eq!(scene.look().await, before, "a refused rollback changed something after {}", point.name);
    ends_on_green(&scene, &point.name).await;
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn die_and_go_on() {
    for point in points::sample(points::all().into_iter(), SAMPLE) {
        forward_from(&point).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn die_and_go_back_then_cut_over_after_all() {
    let scene = Scene::caught_up("back").await;
    assert_eq!(scene.steps().await, points::STEPS, "the list of points is not the program's any more");
    for point in points::sample(points::all().into_iter().filter(|point| !point.past_no_return), SAMPLE) {
        back_from(&scene, &point).await;
    }
    ends_on_green(&scene, "going back and forth").await;
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn past_the_point_of_no_return_rollback_refuses() {
    for point in points::sample(points::all().into_iter().filter(|point| point.past_no_return), 1) {
        no_way_back_from(&point).await;
    }
}

/// The journal knows nothing of the fence that is up: what later steps need of it must be on blue.
#[tokio::test(flavor = "multi_thread")]
async fn die_right_after_the_fence_is_up_and_go_on() {
    let point = points::all().into_iter().find(|point| point.name == "fence:committed");
    forward_from(&point.expect("it is among them")).await;
}
