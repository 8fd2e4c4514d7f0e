//! Random tables, random transactions on blue, and followers that die at random moments: green is as blue after each
//! catch-up.
//!
//! The tests here draw a sample (`MIGRATE_TEST_SEED`); `scripts/prove replication` runs many more. A trial's tables and
//! transactions follow from its seed alone; when its followers die depends on the machine.

mod history;
mod proof;
mod tables;
mod trial;
mod writers;

use crate::crashes::points::seed;
use trial::Ground;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_tables_end_the_same_on_15_and_18() {
    let mut ground = Ground::of_own_servers(15, 18).await;
    for trial in 0..3 {
        ground.try_one(seed() * 1000 + trial).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_tables_end_the_same_on_16_and_17() {
    let mut ground = Ground::of_shared_servers(16, 17).await;
    for trial in 0..3 {
        ground.try_one(seed() * 1000 + 100 + trial).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn not_one_transaction_of_eight_writers_is_missing() {
    writers::none_is_missing(15, 18, 120).await;
}
