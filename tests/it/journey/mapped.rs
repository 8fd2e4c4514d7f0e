//! A whole migration into another shape.

use super::stage::Stage;

const PLAN: &str = r#"version: 1
name: journey
kind: blue_green
blue: { url: "${BLUE_URL}" }
green: { url: "${GREEN_URL}" }
schema: { from: blue, sql: [green.sql] }
replicate:
  tables: { include: ["public.*"] }
  map:
    public.p1: { columns: { loud: "upper(note)", half: "id / 2" } }
    public.p2:
      to: public.notes
      columns: { text: note, label: "'n' || id" }
      where: "id % 2 = 0 or note = 'keep'"
cutover:
  pause_max: 12s
  transaction_age_max: 2m
  route: { pgbouncer: [ { admin: "${PGB_ADMIN}", database: app, config: "${PGB_CONFIG}", to: "${PGB_TO}" } ] }
"#;

const GREEN_SQL: &str = "alter table public.p1 add column loud text not null, add column half bigint; alter table public.p1 add constraint p1_loud check (loud <> 'BAD');
    alter table public.p2 rename to notes; alter table public.notes rename note to text; alter table public.notes add column label text not null;
    alter table public.p3 add constraint p3_notes foreign key (note) references public.notes;";

const CHANGES: &str = "insert into p1 (note) values ('new'); update p1 set note = note || '!' where id % 3 = 0; delete from p1 where id = 7;
    update p2 set note = 'keep' where id < 20; update p2 set note = 'gone' where id in (3, 4, 5); delete from p2 where id = 8;
    update p2 set id = id + 10001 where id > 450; insert into p2 values (20001, 'keep'), (20003, 'odd')";

#[tokio::test(flavor = "multi_thread")]
async fn tables_are_mapped_from_the_plan_to_the_last_key() {
    let stage = Stage::set("mapped").await;
    stage.desk.write("plan.yaml", PLAN);
    stage.desk.write("green.sql", GREEN_SQL);
    stage.on_blue("create table p3 (id bigint primary key, note bigint); insert into p3 values (1, 2)").await;
    let refused = stage.run("check", &[]).await.expect(3);
    assert!(
        refused.stderr.contains("MAPPING_UNFIT") || refused.stdout.contains("MAPPING_UNFIT"),
        "{refused:?}"
    );
    stage.on_blue("alter table p2 replica identity full").await;

    let plan = stage.run("plan", &[]).await.expect(0);
    for line in [
        "public.p1 → public.p1",
        "loud = upper(note)",
        "cannot be reversed: half, loud are computed",
        "public.p2 → public.notes",
        "text is blue's note",
        "MAPPING_UNPROVED",
    ] {
        assert!(plan.stdout.contains(line), "{line}: {}", plan.stdout);
    }

    let early = stage.run("plan", &["--prove-rows"]).await.expect(1);
    assert!(early.stderr.contains("prepare/prove-mappings"), "{early:?}");
    let sample = stage.run("plan", &["--sample", "2"]).await.expect(0);
    for part in [
        "secrets too",
        "loud = \"N1\"",
        "not on green: the condition leaves it out",
        "green has no such table yet",
    ] {
        assert!(sample.stdout.contains(part), "{part}: {}", sample.stdout);
    }
    for out_of_range in ["0", "500"] {
        // Before any database is asked.
        let asked = stage
            .prepare("plan", &["--sample", out_of_range])
            .env("BLUE_URL", "postgres://u@127.0.0.1:1/none");
        let refused = asked.run().await.expect(2);
        assert!(
            refused.stderr.contains("--sample <N>") && refused.stderr.contains("1..=100"),
            "{}",
            refused.stderr
        );
    }
    stage.run("plan", &["--sample", "2", "--format", "markdown"]).await.expect(1);
    stage.run("plan", &["--sample", "2", "--offline"]).await.expect(2);

    // A row that green's check would refuse after the copy stops us before it, and one of an unmapped table that refers to
    // what a condition leaves out.
    stage.on_blue("update p1 set note = 'bad' where id = 7; update p3 set note = 3").await;
    let stopped = stage.run("replicate", &["--until-caught-up"]).await;
    assert_ne!(stopped.code, 0);
    for part in [
        "p1_loud",
        "1 row of 500 rows tried (all there were)",
        "the first: 7",
        "p3_notes of public.p3: public.notes will not have the row",
        "nothing was copied",
    ] {
        assert!(stopped.stderr.contains(part), "{part}: {}", stopped.stderr);
    }
    stage.on_blue("update p1 set note = 'n7' where id = 7; update p3 set note = 2").await;

    stage.run("replicate", &["--until-caught-up"]).await.expect(0);
    stage.on_blue(CHANGES).await;
    stage.run("replicate", &["--until-caught-up"]).await.expect(0);
    stage.on_blue("update p2 set note = 'last' where id % 2 = 0 and id < 100; update p1 set note = 'last' where id < 50").await;
    stage.run("cutover", &[]).await.expect(0);

    let blue = stage.pair.blue().await;
    let same = [
        (
            "select id, note, upper(note) as loud, id / 2 as half from p1",
            "select id, note, loud, half from p1",
        ),
        (
            "select id, note as text, 'n' || id as label from p2 where id % 2 = 0 or note = 'keep'",
            "select id, text, label from notes",
        ),
    ];
    for (on_blue, on_green) in same {
        let text = |rows: &str| format!("select string_agg(t::text, ',' order by id) from ({rows}) t");
        let expected: String = blue.query_one(&text(on_blue), &[]).await.unwrap().get(0);
        assert_eq!(stage.ask_green(&text(on_green)).await, expected, "{on_green}");
    }
    // Green is open under its own names, and its sequence goes on.
    stage.on_green("insert into notes values (5, 'after', 'x'); insert into p1 (note, loud) values ('after', 'AFTER')").await;
    let compared = stage
        .ask_green("select max((note ->> 'keys_compared')::int) from migrate.journal where step = 'switch/fence-blue'")
        .await;
    assert!(compared.parse::<i32>().unwrap() > 50, "{compared}");
}
