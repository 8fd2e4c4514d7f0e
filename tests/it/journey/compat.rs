//! Views for old clients on green: there from the plan's SQL on, taken back with it, and gone when all is finished.

use super::stage::{PLAN, Stage};

/// As vendors write it: names without a schema, and a transaction of its own, which must not end ours.
const SQL: &str = "begin; alter table p2 add column extra int not null default 5; alter table p2 alter column note type varchar(60);
    create table p3 (id int); commit;";

const SCHEMAS: &str =
    "select coalesce(string_agg(nspname, ' '), 'none') from pg_namespace where nspname ~ '^migrate'";

#[tokio::test(flavor = "multi_thread")]
async fn green_has_the_views_until_it_is_finished() {
    let stage = Stage::set("compat").await;
    let plan = PLAN.replace("schema: { from: blue }", "schema: { from: blue, sql: [a.sql], compat: views }");
    stage.desk.write("plan.yaml", &plan);
    stage.desk.write("a.sql", SQL);
    let shown = stage.run("plan", &[]).await.expect(0).stdout;
    assert!(shown.contains("create view \"migrate_compat_journey\".\"p2\""), "{shown}");
    stage.run("replicate", &["--until-caught-up"]).await.expect(0);
    stage.run("rollback", &["--all", "--yes"]).await.expect(0);
    assert_eq!(stage.ask_green(SCHEMAS).await, "none");

    stage.run("replicate", &["--until-caught-up"]).await.expect(0);
    assert_eq!(stage.ask_green("select count(*) from migrate_compat_journey.p2").await, "500");
    let old = "set search_path = migrate_compat_journey, public; insert into p2 values (1000, 'old'); update p2 set note = 'older' where id = 1000";
    let refused = stage.pair.green().await.batch_execute(old).await.unwrap_err();
    assert_eq!(refused.code().unwrap().code(), "25006", "green is closed, whichever way one comes");
    stage.run("cutover", &[]).await.expect(0);
    stage.on_green(old).await;
    assert_eq!(stage.ask_green("select note || extra from p2 where id = 1000").await, "older5");
    assert_eq!(
        stage.ask_green("select to_jsonb(v) from migrate_compat_journey.p2 v where id = 1000").await,
        "{\"id\": 1000, \"note\": \"older\"}"
    );

    stage.on_green("create view public.theirs as select id from migrate_compat_journey.p2").await;
    let refused = stage.run("finish", &["--yes"]).await.expect(3);
    assert!(refused.stderr.contains("view public.theirs depends on view"), "{}", refused.stderr);
    stage.on_green("drop view public.theirs").await;
    stage.run("finish", &["--yes"]).await.expect(0);
    assert_eq!(stage.ask_green(SCHEMAS).await, "none");
}
