//! A server that restarts in the middle of the copy is no reason to type the command again.

use super::stage::{PATIENCE, PLAN, Stage};
use crate::support::{Majors, Pair};
use migrate::plan::Side;
use std::time::{Duration, Instant};

const THROTTLED: &str = "include: [\"public.*\"] }, throttle: { rate_max: 1MB/s } }";

async fn bytes_copied(stage: &Stage) -> i64 {
    let status = stage.run("status", &["--format", "json"]).await;
    if status.code == 0 { status.json()["copy"]["bytes"].as_i64().unwrap_or_default() } else { 0 }
}

async fn until_copying(stage: &Stage, bytes: i64) {
    let until = Instant::now() + PATIENCE;
    while bytes_copied(stage).await < bytes {
        assert!(Instant::now() < until, "it does not copy");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_command_copies_to_the_end_though_both_servers_restart() {
    let pair = Pair::of_own_servers("restarted", Majors::OLDEST, Majors::NEWEST).await;
    let mut stage = Stage::on("restarted", pair).await;
    let fill = "alter table wide alter column body set storage external;
        insert into wide select n, repeat(md5(n::text), 64) from generate_series(1, 6000) as n";
    stage.on_blue(&format!("create table wide (id int primary key, body text); {fill}")).await;
    stage.desk.write("plan.yaml", &PLAN.replace("include: [\"public.*\"] } }", THROTTLED));
    let mut replicate = stage.prepare("replicate", &["--until-caught-up"]).start();
    for side in [Side::Blue, Side::Green] {
        until_copying(&stage, 2 << 20).await;
        match side {
            Side::Blue => stage.pair.kill_blue(),
            Side::Green => stage.pair.kill_green(),
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        match side {
            Side::Blue => stage.pair.restart_blue().await,
            Side::Green => stage.pair.restart_green().await,
        }
        // What is told is of the try that was cut, until the next one begins the table again.
        let until = Instant::now() + PATIENCE;
        while bytes_copied(&stage).await >= 2 << 20 {
            assert!(!replicate.has_ended() && Instant::now() < until, "it does not begin again");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    stage.desk.write("plan.yaml", PLAN);
    let output = replicate.wait(PATIENCE).await.expect(0);
    assert!(output.stderr.matches("the copy is interrupted").count() >= 2, "{}", output.stderr);
    assert!(output.stderr.contains("tables are whole from an earlier copy, and stay"), "{}", output.stderr);
    assert_eq!(stage.ask_green("select count(*) from public.wide").await, "6000");
    assert_eq!(stage.ask_green("select count(*) from public.p1").await, "500");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_retry_cannot_mend_ends_at_once() {
    let stage = Stage::set("not_retried").await;
    // Green's shape comes from the plan's SQL, and refuses a row of blue's.
    stage.desk.write("strict.sql", "alter table p2 add constraint small check (id < 100);");
    let plan = PLAN.replace("schema: { from: blue }", "schema: { from: blue, sql: [strict.sql] }");
    stage.desk.write("plan.yaml", &plan);
    let output = stage.run("replicate", &["--until-caught-up"]).await;
    assert!(output.code != 0 && output.stderr.contains("small"), "{output:?}");
    assert!(!output.stderr.contains("interrupted"), "{}", output.stderr);
}
