//! What comes to blue after the copy began must not be left behind in silence.

use super::stage::{PATIENCE, Stage};
use rustix::process::Signal;

/// What somebody does on blue after the copy, how it is taken away again, and what the refusal names.
const NEWCOMERS: [(&str, &str, &str); 6] = [
    (
        "create table late (id int primary key); insert into late values (1)",
        "drop table late",
        "table public.late is new",
    ),
    (
        "create table parts (id int primary key) partition by range (id)",
        "drop table parts",
        "table public.parts is new",
    ),
    (
        "create unlogged table fleeting (id int primary key)",
        "drop table fleeting",
        "table public.fleeting is new, and unlogged or foreign",
    ),
    ("create sequence late_number", "drop sequence late_number", "sequence public.late_number is new"),
    (
        "create schema parked; create table parked.kept (id int primary key); alter table parked.kept set schema public",
        "drop table kept; drop schema parked",
        "table public.kept is new",
    ),
    ("select lo_from_bytea(4711, 'x')", "select lo_unlink(4711)", "large object 4711 is new"),
];

/// Its name and shape are as before, but nothing decodes it any more.
const REPLACE: &str = "begin; create table p3 (like p2 including all); insert into p3 select * from p2;
    drop table p2; alter table p3 rename to p2; alter index p3_pkey rename to p2_pkey; commit";

/// A cutover that is refused before anybody is held, and says this much.
async fn is_refused(stage: &Stage, named: &[&str]) {
    let refused = stage.run("cutover", &[]).await.expect(3);
    for named in [named, &["clients were not touched", "migrate rollback --all"]].concat() {
        assert!(refused.stderr.contains(named), "{named}: {}", refused.stderr);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_new_on_blue_stops_the_cutover_before_anybody_is_held() {
    let stage = Stage::caught_up("newcomers").await;
    for (come, _, _) in NEWCOMERS {
        stage.on_blue(come).await;
    }
    is_refused(&stage, &NEWCOMERS.map(|(_, _, named)| named)).await;
    for (_, go, _) in NEWCOMERS {
        stage.on_blue(go).await;
    }
    stage.on_blue(REPLACE).await;
    is_refused(&stage, &["table public.p2 was created anew"]).await;
}

/// It comes between the gates and the fence, while the cutover waits for a client that does not let go.
#[tokio::test(flavor = "multi_thread")]
async fn what_comes_after_the_gates_is_seen_inside_the_fence() {
    let stage = Stage::caught_up("newcomers_fence").await;
    let (idle, connection) =
        tokio_postgres::connect(&stage.bouncer.app_url(), tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    idle.batch_execute("begin; select 1").await.unwrap();
    let cutover = stage.prepare("cutover", &[]).start();
    stage.comes_to("switch/pause-clients").await;
    stage.on_blue("create table late (id int primary key)").await;
    idle.batch_execute("commit").await.unwrap();
    let refused = cutover.wait(PATIENCE).await.expect(3);
    assert!(refused.stderr.contains("table public.late is new"), "{}", refused.stderr);
    assert!(refused.stderr.contains("everything is as before"), "{}", refused.stderr);
    stage.on_blue("insert into late values (1); drop table late").await;
    stage.run("cutover", &[]).await.expect(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_plan_does_not_select_stops_nobody() {
    let stage = Stage::caught_up("newcomers_aside").await;
    stage
        .on_blue("create schema aside; create table aside.t (id int); create sequence aside.s; create view seen as select * from p1")
        .await;
    let over = stage.run("cutover", &[]).await.expect(0);
    assert!(over.stderr.contains("view public.seen is new"), "{}", over.stderr);
}

/// A check that held when the copy began, and does not hold any more.
#[tokio::test(flavor = "multi_thread")]
async fn a_check_that_has_become_false_stops_the_cutover() {
    let stage = Stage::caught_up("checks_again").await;
    stage.on_green("alter table p2 drop column note").await;
    let refused = stage.run("cutover", &[]).await.expect(3);
    assert!(refused.stderr.contains("GREEN_COLUMN_MISSING at "), "{}", refused.stderr);
    assert!(refused.stderr.contains("clients were not touched"), "{}", refused.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replicate_that_follows_names_what_is_new_once() {
    let stage = Stage::set("newcomers_named").await;
    let replicate = stage.following().await;
    stage.on_blue("create table late (id int primary key)").await;
    tokio::time::sleep(std::time::Duration::from_secs(12)).await;
    replicate.signal(Signal::INT);
    let output = replicate.wait(PATIENCE).await;
    assert_eq!(output.stderr.matches("table public.late is new").count(), 1, "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replicate_that_follows_stops_when_a_table_leaves_the_publication() {
    let stage = Stage::set("newcomers_unsent").await;
    let replicate = stage.following().await;
    stage
        .on_blue("do $$ begin execute (select format('alter publication %I drop table p2', pubname) from pg_publication); end $$; insert into p2 values (1001, 'unsent')")
        .await;
    let says = "table public.p2 was created anew or taken out of our publication";
    let stopped = replicate.wait(PATIENCE).await.expect(3);
    assert!(stopped.stderr.contains(says) && stopped.stderr.contains("rollback --all"), "{stopped:?}");
    let again = stage.run("replicate", &["--until-caught-up"]).await.expect(5);
    assert!(again.stderr.contains("holds other tables than the plan's"), "{again:?}");
}
