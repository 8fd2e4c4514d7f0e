//! What others wait for a brief lock is measured as they measure it themselves, and no more than the budget allows. (Surprise 12 of
//! the catalogue: who waits for a strong lock makes plain readers wait behind it.)

use super::both;
use migrate::{error::Kind, step::ddl::Brownout};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio_postgres::Client;

const BUDGET: Duration = Duration::from_millis(1_000);
/// A query of these clients that nobody holds up is through by then, also on a busy machine.
const UNDISTURBED: Duration = Duration::from_millis(100);

/// Asks again and again, and says how long it was held up in all.
async fn held_up(client: Client, stop: Arc<AtomicBool>) -> Duration {
    let mut all = Duration::ZERO;
    while !stop.load(Ordering::Relaxed) {
        let asked = Instant::now();
        client.batch_execute("select 1 from t limit 1").await.unwrap();
        all += Some(asked.elapsed()).filter(|took| *took > UNDISTURBED).unwrap_or_default();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    all
}

#[tokio::test]
async fn others_wait_no_longer_than_the_budget_and_the_run_stops_with_a_name() {
    let (_pair, mut heres) = both("ddl_brownout").await;
    for here in &mut heres {
        here.brownout = Brownout::of(BUDGET);
        let list = here.steps("alter table t add column n int").await;
        let reader = here.client().await;
        reader.batch_execute("begin; select 1 from t limit 1").await.unwrap();
        let pid: i32 = reader.query_one("select pg_backend_pid()", &[]).await.unwrap().get(0);
        let stop = Arc::new(AtomicBool::new(false));
        let mut others = Vec::new();
        for _ in 0..4 {
            others.push(tokio::spawn(held_up(here.client().await, stop.clone())));
        }
        let error = here.apply(&list[0]).await.unwrap_err();
        stop.store(true, Ordering::Relaxed);
        let mut felt = Duration::ZERO;
        for other in others {
            felt += other.await.unwrap();
        }
        assert_eq!(error.kind, Kind::Stopped, "{error:?}");
        assert!(
            error.what.contains("1 s in all") && error.what.contains(&format!("pid {pid}")),
            "{}",
            error.what
        );
        let measured = here.brownout.waited();
        // It is noticed at the next look that it is spent, and looks are late on a busy machine.
        let limit = 2 * BUDGET;
        assert!(measured.total >= BUDGET && measured.total < limit, "{measured:?}");
        // What they felt has the machine's own delays in it, so it tells only that we do not see waits that nobody had.
        assert!(felt > BUDGET / 2, "they waited {felt:?}, we saw {measured:?}");
        assert!(
            here.warned("to alter public.t: add column n nullable, sessions waited"),
            "{:?}",
            here.heard()
        );

        // Nothing has happened, and with nobody in the way a run with a new budget goes on from there.
        let added =
            "select count(*)::text from pg_attribute where attrelid = 't'::regclass and attname = 'n'";
        assert_eq!(here.texts(added).await, ["0"]);
        reader.batch_execute("commit").await.unwrap();
        here.brownout = Brownout::of(BUDGET);
        here.forward(&list).await;
        assert_eq!(here.texts(added).await, ["1"]);
    }
}
