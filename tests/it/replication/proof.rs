//! Many trials on every pair of majors: `scripts/prove replication`.

use super::trial::Ground;
use super::writers;
use crate::crashes::points::seed;

/// Trials of a pair, unless `MIGRATE_TEST_TRIALS` says otherwise.
const TRIALS: u64 = 40;

async fn many(blue: u32, green: u32) {
    let trials = std::env::var("MIGRATE_TEST_TRIALS");
    let trials = trials.map_or(TRIALS, |text| text.parse().expect("MIGRATE_TEST_TRIALS is a number"));
    let mut ground = Ground::of_own_servers(blue, green).await;
    for trial in 0..trials {
        ground.try_one(seed() * 1_000_000 + trial).await;
    }
    println!("proof: {blue} to {green}, in all | {:?}", ground.sum);
    drop(ground);
    writers::none_is_missing(blue, green, 1000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes: scripts/prove replication"]
async fn random_trials_on_15_and_15() {
    many(15, 15).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes: scripts/prove replication"]
async fn random_trials_on_15_and_18() {
    many(15, 18).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes: scripts/prove replication"]
async fn random_trials_on_16_and_17() {
    many(16, 17).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes: scripts/prove replication"]
async fn random_trials_on_18_and_18() {
    many(18, 18).await;
}
