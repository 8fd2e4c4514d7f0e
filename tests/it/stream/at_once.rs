//! Small batches: one statement that commits by itself, and refuses all of it when any row is not as it should be.

use super::{BANK, BANK_TABLES, PATIENCE, Scene};
use crate::support::Pair;
use migrate::error::Kind;
use migrate::stream::follow::{DirtyKey, Follower};

/// Transactions of one kind, one after the other, until they are written at once.
async fn warm(scene: &Scene, follower: &Follower, account: u32) {
    for turn in 0..4 {
        scene.run(&transfer(account, &format!("{account}{turn}"))).await;
        scene.drained(follower, &format!("warm {account} {turn}")).await;
    }
    let at_once = follower.status().borrow().at_once;
    assert!(at_once > 0, "nothing was written at once");
}

fn transfer(account: u32, entry: &str) -> String {
    format!(
        "begin; update account set balance = balance + 1 where id = {account}; \
         insert into entry values ({entry}, {account}, 1); commit"
    )
}

async fn count(scene: &Scene, sql: &str) -> i64 {
    scene.green.query_one(sql, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn small_transactions_are_written_at_once() {
    let scene = Scene::set(Pair::fresh("at_once").await, BANK, &BANK_TABLES).await;
    let follower = scene.follow();
    warm(&scene, &follower, 1).await;
    let transactions = follower.status().borrow().transactions;
    for turn in 0..10 {
        scene.run(&transfer(2 + turn, &(100 + turn).to_string())).await;
        scene.run(&format!("delete from entry where id = {}", 100 + turn)).await;
    }
    // Twice the same row, a key that changes, a row that goes and comes: those are written in their order.
    scene.run("begin; update account set balance = 1 where id = 1; update account set balance = balance * 7 where id = 1; commit").await;
    scene
        .run("begin; update account set id = 100 where id = 1; insert into account values (1, 3); commit")
        .await;
    scene.run("begin; delete from account where id = 2; insert into account values (2, 9); commit").await;
    scene.drained(&follower, "end").await;
    scene.assert_same().await;
    let status = follower.stop(PATIENCE).await.unwrap();
    assert_eq!(status.durable, status.applied);
    assert_eq!(status.transactions - transactions, 24, "{status:?}");
    // What the progress row says is what the follower said.
    let sql = "select transactions from migrate.progress where slot = 'follow_slot'";
    assert_eq!(count(&scene, sql).await, i64::try_from(status.transactions).unwrap());
}

#[tokio::test]
async fn a_row_that_is_missing_undoes_the_whole_statement_and_has_a_name() {
    let scene = Scene::set(Pair::fresh("at_once_missing").await, BANK, &BANK_TABLES).await;
    let follower = scene.follow();
    warm(&scene, &follower, 1).await;
    scene.green.batch_execute("delete from account where id = 5").await.unwrap();
    scene.run(&transfer(5, "1000")).await;
    let error = tokio::time::timeout(PATIENCE, follower.wait_failed()).await.unwrap();
    assert_eq!(error.kind, Kind::Gate, "{:?}", error.chain());
    assert!(error.what.contains("public.account (5)"), "{error}");
    assert_eq!(count(&scene, "select count(*) from entry where id = 1000").await, 0);
    let follower = scene.follow();
    follower.exempt([DirtyKey {
        table: migrate::pg::name::TableName::new("public", "account"),
        key: vec!["5".into()],
    }]);
    scene.drained(&follower, "exempt").await;
    assert_eq!(count(&scene, "select count(*) from entry where id = 1000").await, 1);
    assert_eq!(follower.stop(PATIENCE).await.unwrap().exempted, 1);
}

#[tokio::test]
async fn a_lease_that_is_lost_between_two_statements_stops_the_second() {
    let scene = Scene::set(Pair::fresh("at_once_lease").await, BANK, &BANK_TABLES).await;
    let follower = scene.follow();
    warm(&scene, &follower, 1).await;
    scene.green.batch_execute("update migrate.lease set epoch = 8").await.unwrap();
    scene.run(&transfer(1, "1000")).await;
    let error = tokio::time::timeout(PATIENCE, follower.wait_failed()).await.unwrap();
    assert_eq!(error.kind, Kind::Lease, "{:?}", error.chain());
    assert_eq!(count(&scene, "select count(*) from entry where id = 1000").await, 0);
}

#[tokio::test]
async fn a_progress_row_that_is_ahead_stops_it_too() {
    let scene = Scene::set(Pair::fresh("at_once_progress").await, BANK, &BANK_TABLES).await;
    let follower = scene.follow();
    warm(&scene, &follower, 1).await;
    scene.green.batch_execute("update migrate.progress set commit_lsn = 'FFFFFFFF/0'").await.unwrap();
    scene.run(&transfer(1, "1000")).await;
    let error = tokio::time::timeout(PATIENCE, follower.wait_failed()).await.unwrap();
    assert_eq!(error.kind, Kind::Gate, "{:?}", error.chain());
    assert_eq!(count(&scene, "select count(*) from entry where id = 1000").await, 0);
}

#[tokio::test]
async fn a_statement_under_way_when_the_stream_breaks_is_not_written_twice() {
    let scene = Scene::set(Pair::fresh("at_once_cut_off").await, BANK, &BANK_TABLES).await;
    let follower = scene.follow();
    warm(&scene, &follower, 1).await;
    let blocker = scene.pair.green().await;
    blocker.batch_execute("begin; lock table account in exclusive mode").await.unwrap();
    scene.run(&transfer(1, "1000")).await;
    let waits = "select count(*) from pg_locks where not granted and relation = 'account'::regclass and pid in \
                 (select pid from pg_stat_activity where application_name like '%migrate: apply%')";
    until(&scene, waits, 1).await;
    let first: i32 = scene
        .green
        .query_one("select pid from pg_locks where not granted and relation = 'account'::regclass", &[])
        .await
        .unwrap()
        .get(0);
    scene
        .run(
            "select pg_terminate_backend(pid) from pg_stat_activity \
             where datname = current_database() and application_name like '%migrate: %'",
        )
        .await;
    // Another session has taken its place.
    let other = format!("{waits} and pid <> {first}");
    until(&scene, &other, 1).await;
    blocker.batch_execute("rollback").await.unwrap();
    scene.drained(&follower, "end").await;
    scene.assert_same().await;
    follower.stop(PATIENCE).await.unwrap();
}

async fn until(scene: &Scene, sql: &str, wanted: i64) {
    let began = std::time::Instant::now();
    while count(scene, sql).await != wanted {
        assert!(began.elapsed() < PATIENCE, "{sql}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}
