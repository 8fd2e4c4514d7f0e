//! Tables of blue that are altered after the copy: refused, or gone on with when the plan says so and no harm is proved.

use super::stage::{PATIENCE, PLAN, Stage};
use crate::support::Pair;
use rustix::process::Signal;
use std::time::{Duration, Instant};

fn harmless() -> String {
    PLAN.replace("include: [\"public.*\"] } }", "include: [\"public.*\"] }, on_ddl: harmless }")
}

/// Green has caught up by a plan that goes on with harmless changes.
async fn caught_up(name: &str) -> Stage {
    let stage = Stage::on(name, Pair::fresh(name).await).await;
    stage.desk.write("plan.yaml", &harmless());
    stage.run("replicate", &["--until-caught-up"]).await.expect(0);
    stage
}

#[tokio::test(flavor = "multi_thread")]
async fn by_default_any_change_stops_the_cutover() {
    let stage = Stage::caught_up("altered_stop").await;
    stage.on_blue("create index late on p2 (note)").await;
    let told = stage.run("replicate", &["--until-caught-up"]).await.expect(0);
    assert!(told.stderr.contains("the shape of its tables was changed"), "{}", told.stderr);
    let refused = stage.run("cutover", &[]).await.expect(3);
    assert!(refused.stderr.contains("have the shape they had"), "{}", refused.stderr);
    stage.on_blue("drop index late").await;
    stage.run("cutover", &[]).await.expect(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn harmless_changes_are_told_and_reported_and_cut_over_with() {
    let stage = caught_up("altered_harmless").await;
    let replicate = stage.following().await;
    stage
        .on_blue(
            "create index late on p2 (note); alter table p2 alter note set default 'x'; insert into p2 values (1000);
             alter table p1 add constraint nonempty check (note <> '') not valid",
        )
        .await;
    stage.on_green("alter table p2 alter note set default 'x'; alter table p1 add constraint nonempty check (note <> '') not valid").await;
    let changes = [
        "index late of public.p2 is new",
        "column note of public.p2 was changed",
        "constraint nonempty of public.p1 is new",
    ];
    // Once they are written down, they were told.
    let until = Instant::now() + PATIENCE;
    while stage.ask_green("select count(*) from migrate.manifest where object like '%shape%'").await == "0" {
        assert!(Instant::now() < until, "they are not accepted");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    replicate.signal(Signal::INT);
    let output = replicate.wait(PATIENCE).await;
    for change in changes {
        assert_eq!(output.stderr.matches(change).count(), 1, "{change}: {}", output.stderr);
    }
    stage.run("cutover", &[]).await.expect(0);
    let report = stage.run("report", &[]).await.expect(0);
    for change in changes {
        assert!(report.stdout.contains(&format!("{change}: harmless")), "{}", report.stdout);
    }
    assert_eq!(stage.ask_green("select note from public.p2 where id = 1000").await, "x");
}

/// What somebody does on blue, how it is taken back, and what the refusal names.
const HARMFUL: [(&str, &str, &str); 6] = [
    (
        "alter table p2 alter note set default 'x'",
        "alter table p2 alter note drop default",
        "set it there too",
    ),
    (
        "create unique index late on p2 (note)",
        "drop index late",
        "index late of public.p2 is new, and it enforces something",
    ),
    (
        "alter table p2 add constraint nonempty check (id > 0)",
        "alter table p2 drop constraint nonempty",
        "add it there too",
    ),
    (
        "alter table p1 alter note drop not null",
        "alter table p1 alter note set not null",
        "column note of public.p1 was changed",
    ),
    (
        "create function f() returns trigger language plpgsql as 'begin return new; end'; create trigger late before insert on p2 for each row execute function f()",
        "drop function f() cascade",
        "trigger late of public.p2 is new",
    ),
    (
        "alter table p2 replica identity full",
        "alter table p2 replica identity default",
        "table public.p2 was changed",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_proved_to_be_harmless_stops_the_cutover() {
    let stage = caught_up("altered_harmful").await;
    for (alter, back, named) in HARMFUL {
        stage.on_blue(alter).await;
        // A harmless one beside it does not help.
        stage.on_blue("create index beside on p2 (note)").await;
        let refused = stage.run("cutover", &[]).await.expect(3);
        assert!(refused.stderr.contains(named), "{named}: {}", refused.stderr);
        assert!(refused.stderr.contains("clients were not touched"), "{}", refused.stderr);
        stage.on_blue(&format!("{back}; drop index beside")).await;
    }
    stage.run("cutover", &[]).await.expect(0);
}

/// Between the gates and the fence nobody is told any more.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_accepted_before_is_refused_inside_the_fence() {
    let stage = caught_up("altered_fence").await;
    stage.on_blue("create index early on p2 (note)").await;
    let (idle, connection) =
        tokio_postgres::connect(&stage.bouncer.app_url(), tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    idle.batch_execute("begin; select 1").await.unwrap();
    let cutover = stage.prepare("cutover", &[]).start();
    stage.comes_to("switch/pause-clients").await;
    stage.on_blue("create index late on p2 (note)").await;
    idle.batch_execute("commit").await.unwrap();
    let refused = cutover.wait(PATIENCE).await.expect(3);
    assert!(refused.stderr.contains("index early of public.p2 is new"), "{}", refused.stderr);
    assert!(refused.stderr.contains("have changed shape"), "{}", refused.stderr);
    let over = stage.run("cutover", &[]).await.expect(0);
    assert!(over.stderr.contains("index late of public.p2 is new"), "{}", over.stderr);
}
