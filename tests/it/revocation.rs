//! Revocations over real servers: captured from blue, through RabbitMQ, into green.

mod stage;

use crate::support::Pair;
use migrate::error::Kind;
use migrate::pg::lsn::Lsn;
use migrate::plan::Secret;
use migrate::revocation::broker::{Outgoing, Publisher, probe};
use migrate::revocation::{EffectSession, look_early, prove_rules, still_valid, still_valid_since, totals};
use stage::{Stage, refresh_rule, seconds};
use std::time::Duration;

#[tokio::test]
async fn a_rotation_is_not_captured_and_a_revocation_is() {
    let stage = Stage::set("rev_rotation").await;
    let capture = stage.capture().await;
    stage.both("insert into refresh values ('s1', 'r1', true), ('s2', 'r2', true)").await;
    stage.both(ROTATE).await;
    stage.both("update refresh set active = false where signature = 's2'").await;

    let end = stage.finish(&capture).await;
    assert_eq!(end.messages, 1);
    let done = stage.replay(stage.replay_spec()).await.unwrap();
    assert_eq!((done.replayed, done.already_effective), (0, 1), "the stream had made it effective");
    assert_eq!(stage.ledger().await, ["s2"]);
    assert_eq!(stage.count_valid().await, (0, 0));
}

const ROTATE: &str = "begin; update refresh set active = false where signature = 's1';
    insert into refresh values ('s3', 'r1', true); commit";

#[tokio::test]
async fn what_a_crash_between_publish_and_flush_repeats_counts_once() {
    let stage = Stage::set("rev_crash").await;
    let capture = stage.capture().await;
    // The capture publishes, and then cannot record: recording needs the lease's row.
    let mut other = stage.green().await;
    let holding = other.transaction().await.unwrap();
    holding.execute("select 1 from migrate.lease for update", &[]).await.unwrap();
    stage.both("insert into refresh values ('s1', 'r1', true), ('s2', 'r2', true)").await;
    stage.both("update refresh set active = false").await;
    stage.until_ready(2).await;
    let before = stage.slot_position().await;
    assert!(before < stage.blue_position().await, "blue may not forget what green has not recorded");
    capture.stop().await.unwrap();
    holding.rollback().await.unwrap();

    let capture = stage.capture().await;
    let end = stage.finish(&capture).await;
    assert_eq!(end.messages, 2, "distinct");
    assert_eq!(stage.depth().await.ready, 5, "two, the same two again, and END");
    let done = stage.replay(stage.replay_spec()).await.unwrap();
    assert_eq!(done.already_effective, 2);
    assert_eq!(stage.ledger().await, ["s1", "s2"]);
    // A second replay finds everything done.
    assert_eq!(stage.replay(stage.replay_spec()).await.unwrap(), done);
}

#[tokio::test]
async fn with_the_broker_away_blue_goes_on_and_nothing_is_lost() {
    let mut stage = Stage::set("rev_away").await;
    let mut wire = stage.through_a_wire().await;
    let capture = stage.capture().await;
    wire.cut();
    stage.both("insert into refresh select 's' || n, 'r' || n, true from generate_series(1, 300) n").await;
    let slowest = stage.revoke_one_by_one(300).await;
    assert!(slowest < Duration::from_millis(500), "blue noticed: {slowest:?}");

    let late = capture.finish_at(stage.blue_position().await, seconds(3)).await.unwrap_err();
    assert_eq!(late.kind, Kind::Deadline);
    assert!(capture.status().trouble.is_some_and(|why| why.contains("RabbitMQ")), "it says so");
    assert!(stage.slot_position().await < stage.blue_position().await, "blue's log is the buffer");

    wire.mend().await;
    assert_eq!(stage.finish(&capture).await.messages, 300);
    assert!(capture.status().is_alive());
    let done = stage.replay(stage.replay_spec()).await.unwrap();
    assert_eq!(done.already_effective, 300);
    assert_eq!(stage.count_valid().await, (0, 0));
}

#[tokio::test]
async fn order_and_repetition_change_nothing() {
    let stage = Stage::set("rev_shuffled").await;
    let capture = stage.capture().await;
    stage.both("insert into refresh select 's' || n, 'r' || n, true from generate_series(1, 400) n").await;
    // Green has not got the second half: there the replay acts.
    stage.on_blue("update refresh set active = false").await;
    stage.on_green("update refresh set active = false where substr(signature, 2)::int <= 200").await;
    assert_eq!(stage.finish(&capture).await.messages, 400);
    stage.shuffle_and_repeat().await;
    let done = stage.replay(stage.replay_spec()).await.unwrap();
    assert_eq!((done.replayed, done.already_effective), (200, 200));
    assert_eq!(stage.ledger().await.len(), 400);
    assert_eq!(stage.on_green_texts("select signature from refresh where active").await, [""; 0]);
    assert_eq!(stage.depth().await, migrate::revocation::broker::Depth { ready: 0, parked: 0 });
}

#[tokio::test]
async fn a_message_lost_on_the_way_is_noticed() {
    let stage = Stage::set("rev_lost").await;
    let capture = stage.capture().await;
    stage.both("insert into refresh values ('s1', 'r1', true), ('s2', 'r2', true)").await;
    stage.both("update refresh set active = false").await;
    assert_eq!(stage.finish(&capture).await.messages, 2);
    stage.steal_one_message().await;

    let error = stage.replay(stage.replay_spec()).await.unwrap_err();
    assert_eq!(error.kind, Kind::Gate);
    assert!(error.what.contains("2 revocations were captured, and 1 are in the ledger"), "{error}");
}

#[tokio::test]
async fn an_end_with_another_hash_is_noticed() {
    let stage = Stage::set("rev_hash").await;
    let capture = stage.capture().await;
    stage.both("insert into refresh values ('s1', 'r1', true)").await;
    stage.both("update refresh set active = false").await;
    stage.finish(&capture).await;
    capture.stop().await.unwrap();
    let forged = "update migrate.revocation_capture set ids_hash = repeat('a', 32)";
    stage.green().await.execute(forged, &[]).await.unwrap();
    let error = stage.replay(stage.replay_spec()).await.unwrap_err();
    assert_eq!(error.kind, Kind::Gate, "{error}");
}

#[tokio::test]
async fn without_an_end_the_replay_says_what_it_waits_for() {
    let stage = Stage::set("rev_no_end").await;
    let _capture = stage.capture().await;
    stage.both("insert into refresh values ('s1', 'r1', true)").await;
    let error = stage.replay_until(stage.replay_spec(), seconds(2)).await.unwrap_err();
    assert_eq!(error.kind, Kind::Deadline);
    assert!(error.hint.as_ref().is_some_and(|hint| hint.contains("END")), "{:?}", error.hint);
}

#[tokio::test]
async fn an_unroutable_publish_is_an_error() {
    let stage = Stage::set("rev_unroutable").await;
    let publisher = Publisher::open(&stage.broker, &stage.queues()).await.unwrap();
    stage.queues().delete(&stage.broker).await.unwrap();
    let error = publisher.publish(&[Outgoing { id: "x".into(), body: vec![1] }]).await.unwrap_err();
    assert_eq!(error.kind, Kind::Connect);
    assert!(error.what.contains("312"), "{error}");
}

#[tokio::test]
async fn a_queue_made_otherwise_is_refused() {
    let stage = Stage::set("rev_queue").await;
    stage.declare_plain_queue().await;
    let error = Publisher::open(&stage.broker, &stage.queues()).await.err().expect("refused");
    assert_eq!(error.kind, Kind::Request);
    assert!(error.what.contains("is not as we would make it"), "{error}");
}

#[tokio::test]
async fn what_nobody_can_use_is_parked_and_blocks_the_end() {
    let stage = Stage::set("rev_poison").await;
    let capture = stage.capture().await;
    stage.both("insert into refresh values ('s1', 'r1', true)").await;
    stage.both("update refresh set active = false").await;
    stage.finish(&capture).await;
    stage.publish_poison().await;

    let error = stage.replay(stage.replay_spec()).await.unwrap_err();
    assert_eq!(error.kind, Kind::Gate);
    assert!(error.what.contains("3 revocation message(s)"), "{error}");
    let reasons = stage.parked_reasons().await;
    for word in ["not a message of ours", "version is 9", "sealed with key"] {
        assert!(reasons.iter().any(|reason| reason.contains(word)), "{word}: {reasons:?}");
    }
    stage.until_parked(3).await;
    assert_eq!(stage.ledger().await, ["s1"], "the good one is not held up");
    let told = stage.queues().delete(&stage.broker).await.unwrap_err();
    assert_eq!(told.kind, Kind::Gate, "what is parked is not thrown away by accident");
}

#[tokio::test]
async fn with_the_wrong_seal_key_everything_is_parked_and_nothing_dropped() {
    let stage = Stage::set("rev_wrong_key").await;
    let capture = stage.capture().await;
    stage.both("insert into refresh values ('s1', 'r1', true)").await;
    stage.both("update refresh set active = false").await;
    stage.finish(&capture).await;
    let mut spec = stage.replay_spec();
    spec.seal = Some(stage::key("e"));
    let error = stage.replay_until(spec, seconds(3)).await.unwrap_err();
    assert_eq!(error.kind, Kind::Deadline, "no END can be read: {error}");
    stage.until_parked(2).await;
    let reasons = stage.parked_reasons().await;
    assert!(reasons.len() == 2 && reasons.iter().all(|why| why.contains("sealed with key")), "{reasons:?}");
}

#[tokio::test]
async fn a_key_issued_anew_lives() {
    let stage = Stage::set("rev_anew").await;
    let capture = stage.capture().await;
    stage.both("insert into refresh values ('s1', 'r1', true), ('s2', 'r2', true), ('s3', 'r3', true)").await;
    stage.both("update refresh set active = false").await;
    // s1 comes back on blue, and the stream brings it.
    stage.both("update refresh set active = true where signature = 's1'").await;
    // s2 was not carried by the stream: here the replay acts.
    stage.on_green("update refresh set active = true where signature = 's2'").await;
    stage.finish(&capture).await;
    stage.close_gate().await;

    let mut ordinary = stage.replay_spec();
    ordinary.session = EffectSession::Ordinary;
    let refused = stage.replay(ordinary).await.unwrap_err();
    assert!(
        refused.chain().join(" ").contains("25006"),
        "the closed gate holds an ordinary session: {refused}"
    );
    let done = stage.replay(stage.replay_spec()).await.unwrap();
    assert_eq!((done.replayed, done.already_effective), (1, 2));
    assert_eq!(stage.on_green_texts("select signature from refresh order by 1").await, ["s1", "s3"]);
    assert_eq!(stage.count_valid().await, (0, 1), "s1 is valid, and was issued anew on blue");

    // After opening, an application issues s3 anew; then something of ours goes wrong with nothing to show for it.
    stage.open_gate().await;
    stage.on_green("update refresh set active = true where signature = 's3'").await;
    assert_eq!(stage.count_valid().await, (0, 2), "s3 is an application's");
    let sums = totals(&stage.green().await, Some(&stage.blue().await), 1, &[refresh_rule()]).await.unwrap();
    assert_eq!((sums.captured, sums.replayed, sums.acted, sums.parked, sums.still_valid), (3, 3, 1, 0, 0));
}

#[tokio::test]
async fn a_resurrected_key_is_counted() {
    let stage = Stage::set("rev_planted").await;
    let capture = stage.capture().await;
    stage.both("insert into refresh values ('s1', 'r1', true)").await;
    stage.both("update refresh set active = false").await;
    stage.finish(&capture).await;
    stage.replay(stage.replay_spec()).await.unwrap();
    stage.on_green("update refresh set active = true").await;
    assert_eq!(stage.count_valid().await, (1, 0), "the planted fault must be seen");
    let found = still_valid(&stage.green().await, None, 1, &[refresh_rule()]).await.unwrap();
    assert_eq!((found[0].rule.as_str(), found[0].count), ("refresh-revoked", 1));
}

#[tokio::test]
async fn an_earlier_look_spares_only_what_it_did_not_find() {
    let stage = Stage::set("rev_early").await;
    let capture = stage.capture().await;
    stage.both("insert into refresh select 's' || n, 'r' || n, true from generate_series(1, 50) n").await;
    stage.both("update refresh set active = false where signature <> 's50'").await;
    // Valid on green, and rightly so as long as blue has them.
    stage.both("update refresh set active = true where signature in ('s1', 's2')").await;
    stage.until_ready(49).await;
    let mut backlog = stage.replay_spec();
    backlog.extent = migrate::revocation::Extent::Backlog;
    stage.replay(backlog).await.unwrap();
    let (green, blue) = (stage.green().await, stage.blue().await);
    let rules = [refresh_rule()];
    let early = look_early(&green, 1, &rules).await.unwrap();
    assert_eq!(early.looked_at, 49);
    let since = async || {
        let found = still_valid_since(&early, &green, &blue, 1, &rules).await.unwrap();
        (found[0].looked_at, found[0].count, found[0].issued_anew)
    };
    assert_eq!(since().await, (2, 0, 2), "what it found is looked at again");

    // One is gone from blue, which no rule captures; another is revoked now, and something brings it back on green.
    stage.on_blue("delete from refresh where signature = 's1'").await;
    stage.both("update refresh set active = false where signature = 's50'").await;
    stage.finish(&capture).await;
    stage.replay(stage.replay_spec()).await.unwrap();
    assert_eq!(since().await, (3, 1, 1));
    stage.on_green("insert into refresh values ('s50', 'r', true) on conflict (signature) do update set active = true").await;
    assert_eq!(since().await, (3, 2, 1));
    assert_eq!(stage.count_valid().await, (2, 1), "and a look at all says the same");
}

#[tokio::test]
async fn in_snapshot_mode_the_replay_acts() {
    let stage = Stage::set("rev_snapshot").await;
    let capture = stage.capture().await;
    stage.both("insert into refresh values ('s1', 'r1', true), ('s2', 'r2', true)").await;
    // Before the copy: green has it, and s1 came back before the copy too.
    stage.both("update refresh set active = false where signature = 's1'").await;
    stage.both("update refresh set active = true where signature = 's1'").await;
    let consistent_point = stage.blue_position().await;
    stage.on_blue("update refresh set active = false where signature = 's2'").await;
    stage.finish(&capture).await;
    let mut spec = stage.replay_spec();
    spec.carried = migrate::revocation::Carried::Copy { consistent_point };
    let done = stage.replay(spec).await.unwrap();
    assert_eq!((done.replayed, done.already_effective), (1, 1));
    assert_eq!(stage.on_green_texts("select signature from refresh").await, ["s1"]);
}

#[tokio::test]
async fn a_message_waits_until_the_stream_has_its_commit() {
    let stage = Stage::set("rev_waits").await;
    let capture = stage.capture().await;
    stage.both("insert into refresh values ('s1', 'r1', true)").await;
    stage.both("update refresh set active = false").await;
    stage.finish(&capture).await;
    let (applied, position) = tokio::sync::watch::channel(Lsn(1));
    let mut spec = stage.replay_spec();
    spec.carried = migrate::revocation::Carried::Stream { applied: position };
    let early = stage.replay_until(spec.clone(), seconds(2)).await.unwrap_err();
    assert_eq!(early.kind, Kind::Deadline);
    assert!(stage.ledger().await.is_empty());
    applied.send_replace(stage.blue_position().await);
    stage.replay(spec).await.unwrap();
    assert_eq!(stage.ledger().await, ["s1"]);
}

#[tokio::test]
async fn who_lost_the_lease_stops() {
    let stage = Stage::set("rev_lease").await;
    let capture = stage.capture().await;
    stage.on_green("update migrate.lease set epoch = 2").await;
    stage.both("insert into refresh values ('s1', 'r1', true)").await;
    stage.both("update refresh set active = false").await;
    let mut status = capture.watch();
    let failed =
        tokio::time::timeout_at(seconds(10), status.wait_for(|status| status.failed.is_some())).await;
    assert!(failed.unwrap().unwrap().failed.clone().unwrap().contains("epoch 1 is over"));
    let order = capture.finish_at(Lsn(1), seconds(1)).await.unwrap_err();
    assert_eq!(order.kind, Kind::Stopped);
    assert_eq!(capture.stop().await.unwrap_err().kind, Kind::Lease);
    let replay = stage.replay(stage.replay_spec()).await.unwrap_err();
    assert_eq!(replay.kind, Kind::Lease);
}

#[tokio::test]
async fn a_green_restored_from_before_is_refused() {
    let stage = Stage::set("rev_restored").await;
    let capture = stage.capture().await;
    stage.both("insert into refresh values ('s1', 'r1', true)").await;
    stage.finish(&capture).await;
    capture.stop().await.unwrap();
    stage.on_green("update migrate.revocation_capture set commit_lsn = '0/1'").await;
    let capture = stage.start_capture();
    let mut status = capture.watch();
    let failed =
        tokio::time::timeout_at(seconds(10), status.wait_for(|status| status.failed.is_some())).await;
    assert!(failed.unwrap().unwrap().failed.clone().unwrap().contains("blue has forgotten"));
}

#[tokio::test]
async fn what_is_no_revocation_moves_the_position_too() {
    let stage = Stage::set("rev_idle").await;
    let capture = stage.capture().await;
    stage.on_blue("create table other (n int)").await;
    stage.on_blue("insert into other select generate_series(1, 1000)").await;
    let position = stage.blue_position().await;
    let mut status = capture.watch();
    let moved =
        tokio::time::timeout_at(seconds(10), status.wait_for(|status| status.position >= position)).await;
    moved.expect("an idle slot must not hold blue's log").unwrap();
    assert_eq!(stage.finish(&capture).await.messages, 0);
    assert_eq!(stage.replay(stage.replay_spec()).await.unwrap(), Default::default(), "END alone settles it");
}

#[tokio::test]
async fn predicates_are_judged_over_the_columns_own_types() {
    let stage = Stage::set("rev_types").await;
    stage
        .on_blue("alter table refresh add scopes text[], add session jsonb, add until timestamptz; alter table refresh replica identity full")
        .await;
    let mut rule = refresh_rule();
    rule.when.old = Some("active and scopes @> array['a,b \"q\"'] -- a comment".into());
    rule.when.new = Some("session->>'k' = 'ä' and until > timestamptz '2026-01-01' and not active".into());
    let capture = stage.capture_with(vec![rule]).await;
    stage
        .on_blue(
            r#"insert into refresh select 's' || n, 'r' || n, true, case when n <> 2 then array['a,b "q"', 'x'] end,
                   jsonb_build_object('k', case when n <> 3 then 'ä' end, 'large', repeat(md5(n::text), 9999)), '2026-06-01'
               from generate_series(1, 3) n"#,
        )
        .await;
    // Each call is one transaction: an insert in the same one would excuse the update.
    stage.on_blue("update refresh set active = false").await;
    stage.on_blue("update refresh set active = false").await;
    assert_eq!(
        stage.finish(&capture).await.messages,
        1,
        "s1 alone, and once: the second update finds it inactive"
    );
}

#[tokio::test]
async fn rules_are_proved_before_they_are_trusted() {
    let stage = Stage::set("rev_prove").await;
    let (blue, green) = stage.sessions_of_ours().await;
    let codes = async |rule: &migrate::plan::RevocationRule| -> Vec<String> {
        let found = prove_rules(&blue, Some(&green), std::slice::from_ref(rule)).await.unwrap();
        found.into_iter().map(|finding| finding.code).collect()
    };
    assert_eq!(codes(&refresh_rule()).await, ["REVOCATION_OLD_UNKNOWN"]);
    let mut rule = refresh_rule();
    rule.when.new = Some("not activ".into());
    rule.valid = "select 1 from public.refresh where signature = $2".into();
    rule.key = vec![migrate::pg::name::Ident::new("request_id")];
    let found = codes(&rule).await;
    for code in ["REVOCATION_PREDICATE", "REVOCATION_KEY", "REVOCATION_RULE"] {
        assert!(found.iter().any(|found| found == code), "{code}: {found:?}");
    }
    rule.valid = "select 1 from refresh".into();
    rule.table = migrate::pg::name::TableName::new("public", "nowhere");
    let found = codes(&rule).await;
    assert!(
        found.contains(&"REVOCATION_TABLE".into()) && found.contains(&"REVOCATION_VALID".into()),
        "{found:?}"
    );
    stage.on_blue("alter table refresh replica identity full").await;
    assert!(codes(&refresh_rule()).await.is_empty());
}

#[tokio::test]
async fn a_broker_that_cannot_be_used_says_why_and_not_the_password() {
    let stage = Stage::set("rev_probe").await;
    let facts = probe(&stage.broker).await.unwrap();
    assert_eq!(facts.product, "RabbitMQ");
    assert!(facts.version.starts_with(|digit: char| digit.is_ascii_digit()), "{facts:?}");

    let url = stage.broker.expose();
    let password = url.split([':', '@']).nth(2).unwrap();
    let wrong_password = url.replace(password, "hunter2");
    let wrong_vhost = format!("{}/nowhere", url.rsplit_once('/').unwrap().0);
    let postgres = {
        let port = Pair::blue_server(&stage.pair).port;
        format!("amqp://u:hunter2@127.0.0.1:{port}/v")
    };
    let cases = [
        (wrong_password, "refused user or password"),
        (wrong_vhost, "vhost"),
        (postgres, "AMQP"),
        ("amqp://u:hunter2@127.0.0.1:9/v".into(), "Is the broker running"),
    ];
    for (url, word) in cases {
        let error = probe(&Secret::new(&*url)).await.unwrap_err();
        assert_eq!(error.kind, Kind::Connect, "{word}");
        let told = format!("{} {}", error.chain().join(" "), error.hint.clone().unwrap_or_default());
        assert!(told.contains(word), "{word}: {told}");
        assert!(!told.contains("hunter2") && !told.contains(password), "{told}");
    }
}
