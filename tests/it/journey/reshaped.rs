//! A whole migration in which tables are split and merged.

use super::stage::Stage;

const PLAN: &str = r#"version: 1
name: journey
kind: blue_green
blue: { url: "${BLUE_URL}" }
green: { url: "${GREEN_URL}" }
schema: { from: blue, sql: [green.sql] }
replicate:
  tables: { include: ["public.*"], exclude: ["public.joined", "public.half"] }
  map:
    public.p1:
      - { drop: [note] }
      - { to: public.half, columns: { owner: id, text: note }, where: "id % 2 = 0" }
    public.p2: { to: public.joined, merge: rows, columns: { origin: "'p2'::text" } }
    public.p3: { to: public.joined, merge: rows, columns: { origin: "'p3'::text" } }
cutover:
  pause_max: 12s
  transaction_age_max: 2m
  route: { pgbouncer: [ { admin: "${PGB_ADMIN}", database: app, config: "${PGB_CONFIG}", to: "${PGB_TO}" } ] }
"#;

const GREEN_SQL: &str = "alter table public.p1 drop column note;
    create table public.half (owner bigint primary key, text text not null);
    create table public.joined (id int primary key, note text, origin text not null);";

/// Rows go from `p2` to `p3` and back.
const CHANGES: &str = "insert into p1 (note) values ('new'), ('other'); update p1 set note = note || '!' where id % 3 = 0; delete from p1 where id = 8;
    with gone as (delete from p2 where id % 4 = 0 returning *) insert into p3 select * from gone;
    begin; insert into p2 select * from p3 where id % 8 = 0; delete from p3 where id % 8 = 0; commit;
    update p3 set note = 'changed' where id % 3 = 0; delete from p2 where id = 7; insert into p3 values (7, 'again')";

#[tokio::test(flavor = "multi_thread")]
async fn tables_are_split_and_merged_from_the_plan_to_the_last_key() {
    let stage = Stage::set("reshaped").await;
    stage.on_blue("create table p3 (id int primary key, note text); insert into p3 select n, 'm' || n from generate_series(501, 900) n; alter table p1 replica identity full").await;
    stage.desk.write("plan.yaml", PLAN);
    stage.desk.write("green.sql", GREEN_SQL);
    let plan = stage.run("plan", &[]).await.expect(0);
    for line in [
        "public.p1 → public.half",
        "cannot be reversed: note is not on green; a row is put together from 2 tables",
        "public.p2 → public.joined",
        "rows of public.p3 are in public.joined, too",
    ] {
        assert!(plan.stdout.contains(line), "{line}: {}", plan.stdout);
    }
    stage.run("replicate", &["--until-caught-up"]).await.expect(0);
    stage.on_blue(CHANGES).await;
    stage.run("replicate", &["--until-caught-up"]).await.expect(0);
    stage.on_blue("update p2 set note = 'last' where id < 50; delete from p3 where id > 800; update p1 set note = 'last' where id < 50; insert into p2 values (850, 'moved')").await;
    stage.run("cutover", &[]).await.expect(0);

    let blue = stage.pair.blue().await;
    for (on_blue, on_green) in [
        ("select id from p1", "select id from p1"),
        ("select id, note from p1 where id % 2 = 0", "select owner as id, text from half"),
        (
            "select id, note, 'p2' as origin from p2 union all select id, note, 'p3' from p3",
            "select id, note, origin from joined",
        ),
    ] {
        let text = |rows: &str| format!("select string_agg(t::text, ',' order by id) from ({rows}) t");
        let expected: String = blue.query_one(&text(on_blue), &[]).await.unwrap().get(0);
        assert_eq!(stage.ask_green(&text(on_green)).await, expected, "{on_green}");
    }
    let compared = stage
        .ask_green("select max((note ->> 'keys_compared')::int) from migrate.journal where step = 'switch/fence-blue'")
        .await;
    assert!(compared.parse::<i32>().unwrap() > 50, "{compared}");
}
