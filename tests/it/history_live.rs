//! The checker finds nothing in honest traffic, and finds every fault that was planted.

use crate::support::history::{Baseline, History, Verdict};
use crate::support::traffic::{Load, Traffic};
use crate::support::{Pair, PgBouncer};
use std::sync::Arc;
use std::time::Duration;
use tokio_postgres::Client;

/// Some traffic on blue alone, then stopped.
struct Scene {
    history: Arc<History>,
    baseline: Baseline,
    blue: Client,
    _bouncer: PgBouncer,
    _pair: Pair,
}

impl Scene {
    async fn play(name: &str) -> Scene {
        let pair = Pair::fresh(name).await;
        let loaded = pair.oauth(20_000).await;
        let blue = pair.blue().await;
        let baseline = Baseline::read(&blue, loaded).await.unwrap();
        let bouncer = PgBouncer::start(&pair).await;
        let history = Arc::new(History::default());
        let load = Load { workers: 4, think: Duration::ZERO, seed: 7 };
        let traffic =
            Traffic::start(&bouncer.app_url(), Arc::clone(&history), loaded.clients, &load).await.unwrap();
        tokio::time::sleep(Duration::from_secs(2)).await;
        traffic.stop().await.unwrap();
        Scene { history, baseline, blue, _bouncer: bouncer, _pair: pair }
    }

    async fn verdict(&self) -> Verdict {
        self.history.check(&self.blue, &self.baseline).await.unwrap()
    }

    /// Plants a fault, which must change something, and gives the verdict.
    async fn with(&self, fault: &str) -> Verdict {
        self.blue.batch_execute("begin").await.unwrap();
        assert!(self.blue.execute(fault, &[]).await.unwrap() >= 1, "planted nothing: {fault}");
        let verdict = self.verdict().await;
        self.blue.batch_execute("rollback").await.unwrap();
        verdict
    }
}

#[tokio::test]
async fn honest_traffic_is_clean() {
    let scene = Scene::play("honest").await;
    let verdict = scene.verdict().await;
    assert!(verdict.clean(), "{verdict:#?}");
    assert!(verdict.acknowledged > 100, "{verdict:#?}");
    assert!(verdict.longest_stall_ms() > 0.0);
    let kinds: i64 = scene
        .blue
        .query_one("select count(distinct kind) from oauth_event where signature like 'live-%'", &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(kinds, 3, "every kind of operation took place");
}

#[tokio::test]
async fn planted_faults_are_found() {
    let scene = Scene::play("planted").await;
    assert!(scene.verdict().await.clean());
    let live_refresh =
        "(select signature from oauth_refresh where signature like 'live-%' and active limit 1)";

    // An acknowledged row is gone, or not as it was.
    let lost = [
        format!("delete from oauth_refresh where signature = {live_refresh}"),
        format!("update oauth_refresh set subject = 'somebody else' where signature = {live_refresh}"),
        "delete from oauth_event where signature like 'live-%'".into(),
        "update oauth_session set touched = touched - 1 where id = (select max(id) from oauth_session)".into(),
        "update oauth_client set uses = uses - 1 where id = (select min(id) from oauth_client where uses > 0)".into(),
        // A seeded row that nobody touched.
        "delete from oauth_consent where number = 5".into(),
        "update oauth_client set logo = logo || '!' where id = 1".into(),
    ];
    for fault in lost {
        let verdict = scene.with(&fault).await;
        assert!(
            verdict.lost >= 1 && verdict.invented == 0 && verdict.still_valid == 0,
            "{fault}: {verdict:#?}"
        );
    }

    // A revoked token is valid again.
    let resurrected =
        ["update oauth_refresh set active = true where signature = (select signature from oauth_event
         where kind = 'revoked' and (signature like 'live-%' or at > now() - interval '1 hour') limit 1)"];
    for fault in resurrected {
        let verdict = scene.with(fault).await;
        assert_eq!((verdict.still_valid, verdict.lost, verdict.invented), (1, 0, 0), "{fault}: {verdict:#?}");
    }

    // A row nobody wrote.
    let invented = [
        "insert into oauth_session (subject, remember, last_seen) values ('nobody', true, now())",
        "insert into oauth_refresh (signature, request_id, client, subject, session, issued_at)
         values ('live-r-9-9', gen_random_uuid(), 1, 'nobody', '{}', now())",
        "update oauth_client set uses = uses + 1 where id = 1",
    ];
    for fault in invented {
        let verdict = scene.with(fault).await;
        assert_eq!((verdict.invented, verdict.lost), (1, 0), "{fault}: {verdict:#?}");
    }

    // A sequence that would give out a number that is taken.
    let verdict = scene.with("select setval('oauth_session_id_seq', 3)").await;
    assert_eq!(verdict.collisions, 1, "{verdict:#?}");
    scene.blue.batch_execute("select setval('oauth_session_id_seq', 3)").await.unwrap();
    let refused = scene
        .blue
        .execute("insert into oauth_session (subject, remember, last_seen) values ('s', true, now())", &[])
        .await;
    assert!(refused.is_err(), "and it does");
}

#[tokio::test]
async fn a_lost_pooler_is_an_error_and_its_unanswered_commits_are_judged_whole() {
    let pair = Pair::fresh("doubt").await;
    let loaded = pair.oauth(5_000).await;
    let blue = pair.blue().await;
    let baseline = Baseline::read(&blue, loaded).await.unwrap();
    let mut bouncer = PgBouncer::start(&pair).await;
    let history = Arc::new(History::default());
    let load = Load { workers: 8, think: Duration::ZERO, seed: 3 };
    let traffic =
        Traffic::start(&bouncer.app_url(), Arc::clone(&history), loaded.clients, &load).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    bouncer.kill().unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    traffic.stop().await.unwrap();
    // What PgBouncer had sent before it died may still be on its way into blue.
    let quiet =
        "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()
        and backend_type = 'client backend'";
    while blue.query_one(quiet, &[]).await.unwrap().get::<_, i64>(0) > 0 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let verdict = history.check(&blue, &baseline).await.unwrap();
    assert!(verdict.client_errors >= 1, "{verdict:#?}");
    assert_eq!((verdict.lost, verdict.invented, verdict.still_valid), (0, 0, 0), "{verdict:#?}");
}
