//! The plan's throttle is read again while `replicate` copies, and is no part of what is pinned.

use super::stage::{PATIENCE, PLAN, Stage};
use std::time::Instant;

fn plan_with(throttle: &str) -> String {
    PLAN.replace(
        "include: [\"public.*\"] } }",
        &format!("include: [\"public.*\"] }}, throttle: {{ {throttle} }} }}"),
    )
}

async fn until_copy(stage: &Stage, what: &str, reached: impl Fn(&serde_json::Value) -> bool) {
    let until = Instant::now() + PATIENCE;
    loop {
        let status = stage.run("status", &["--format", "json"]).await.expect(0);
        if reached(&status.json()["copy"]) {
            return;
        }
        assert!(Instant::now() < until, "{what}: {status:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_plans_throttle_may_be_changed_while_rows_are_copied() {
    let stage = Stage::set("throttled").await;
    stage
        .on_blue(
            "create table slow (id int primary key, body text); alter table slow alter column body set storage external;
             insert into slow select n, repeat(md5(n::text), 64) from generate_series(1, 2000) as n",
        )
        .await;
    stage.desk.write("plan.yaml", &plan_with("rate_max: 100kB/s"));
    let replicate = stage.prepare("replicate", &["--until-caught-up"]).start();
    until_copy(&stage, "it copies", |copy| copy["bytes"].as_i64() > Some(0)).await;

    stage.desk.write("plan.yaml", &plan_with("rate_max: 1kB/s"));
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    stage.desk.write("plan.yaml", &plan_with("rate_max: 100kB/s, pause_while: \"select true\""));
    until_copy(&stage, "it waits", |copy| copy["throttled_by"] == "pause_while").await;
    let status = stage.run("status", &[]).await.expect(0);
    assert!(status.stdout.contains("throttled    by pause_while"), "{}", status.stdout);

    stage.desk.write("plan.yaml", PLAN);
    let output = replicate.wait(PATIENCE).await.expect(0);
    let told = [
        "the plan's throttle holds for the copy: rate_max 100kB/s",
        "the old throttle stays: plan: replicate.throttle.rate_max: at 1kB/s",
        "the copy's throttle was changed: rate_max 100kB/s, pause_while select true",
        "the copy is throttled by pause_while",
        "the copy's throttle was changed: no limits",
        "goes on",
    ];
    let mut rest = output.stderr.as_str();
    for line in told {
        let at = rest.find(line).unwrap_or_else(|| panic!("`{line}` is not told in {}", output.stderr));
        rest = &rest[at..];
    }
    // What was pinned had a throttle; the plan has none now.
    assert_eq!(stage.ask_green("select count(*) from public.slow").await, "2000");
    stage.run("replicate", &["--until-caught-up"]).await.expect(0);
}
