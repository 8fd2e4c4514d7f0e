//! All points, once forward and once back: `scripts/prove crashes`.

use super::points::{self, Point};
use super::scene::Scene;
use super::{back_from, ends_on_green, forward_from, no_way_back_from};
use std::time::Instant;

/// Says how it went, a line a point.
fn tell(way: &str, point: &Point, began: Instant) {
    println!("proof: {way} | {} | {:.1} s", point.name, began.elapsed().as_secs_f64());
}

/// Every second point, so that two tests share the time. One that fails does not keep the others from being tried.
async fn from_every_second(first: usize) {
    let mut failed = Vec::new();
    for point in points::all().into_iter().skip(first).step_by(2) {
        let (began, tried) = (Instant::now(), point.clone());
        let went = tokio::spawn(async move {
            // Past the point of no return `rollback` is tried first.
            if tried.past_no_return { no_way_back_from(&tried).await } else { forward_from(&tried).await }
        });
        match went.await {
            Ok(()) if point.past_no_return => tell("back refused, then forward", &point, began),
            Ok(()) => tell("forward", &point, began),
            Err(_) => {
                tell("FAILED", &point, began);
                failed.push(point.name);
            }
        }
    }
    assert!(failed.is_empty(), "{failed:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes: scripts/prove crashes"]
async fn forward_from_even_points() {
    from_every_second(0).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes: scripts/prove crashes"]
async fn forward_from_odd_points() {
    from_every_second(1).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes: scripts/prove crashes"]
async fn back_from_every_point() {
    let scene = Scene::caught_up("back").await;
    assert_eq!(scene.steps().await, points::STEPS, "the list of points is not the program's any more");
    for point in points::all().into_iter().filter(|point| !point.past_no_return) {
        let began = Instant::now();
        back_from(&scene, &point).await;
        tell("back", &point, began);
    }
    ends_on_green(&scene, "going back and forth").await;
    scene.end().await;
}
