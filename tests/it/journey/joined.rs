//! A whole migration in which rows of several tables become one.

use super::stage::{PATIENCE, Stage};
use crate::support::run::Output;
use std::time::{Duration, Instant};

const PLAN: &str = r#"version: 1
name: journey
kind: blue_green
blue: { url: "${BLUE_URL}" }
green: { url: "${GREEN_URL}" }
schema: { from: blue, sql: [green.sql] }
replicate:
  tables: { include: ["public.*"], exclude: ["public.flow"] }
  join:
    public.flow:
      key: [login_challenge]
      query: |
        select l.challenge as login_challenge, l.subject, h.used as was_used, c.challenge as consent_challenge, ch.granted
          from public.login as l
          left join public.login_handled as h on h.challenge = l.challenge
          left join public.consent as c on c.login_challenge = l.challenge
          left join public.consent_handled as ch on ch.challenge = c.challenge
      from:
        public.login: { key: [challenge] }
        public.login_handled: { key: [challenge] }
        public.consent: { key: [login_challenge], indexes: [login_challenge] }
        public.consent_handled:
          key: ["(select c.login_challenge from public.consent as c where c.challenge = consent_handled.challenge)"]
cutover:
  pause_max: 12s
  transaction_age_max: 2m
  route: { pgbouncer: [ { admin: "${PGB_ADMIN}", database: app, config: "${PGB_CONFIG}", to: "${PGB_TO}" } ] }
"#;

const BLUE_SQL: &str = "create table login (challenge text primary key, subject text not null);
    create table login_handled (challenge text primary key references login, used boolean not null);
    create table consent (challenge text primary key, login_challenge text unique references login);
    create table consent_handled (challenge text primary key references consent, granted text);
    create table token (id int primary key, consent text not null references consent);
    insert into login select 'l' || n, 's' || n from generate_series(1, 3000) n;
    insert into login_handled select 'l' || n, n % 2 = 0 from generate_series(1, 2500) n;
    insert into consent select 'c' || n, 'l' || n from generate_series(1, 2000) n;
    insert into consent_handled select 'c' || n, 'g' || n from generate_series(1, 1500) n;
    insert into token select n, 'c' || n from generate_series(1, 1000) n";

/// The tables that are joined are not on green, and tokens hang on their flow, which is not filled when they are copied.
const GREEN_SQL: &str = "create table public.flow (login_challenge varchar(40) primary key, subject text not null, was_used boolean, consent_challenge text unique, granted text, own int default 7);
    alter table public.token drop constraint token_consent_fkey;
    alter table public.token add constraint token_flow foreign key (consent) references public.flow (consent_challenge);
    drop table public.consent_handled; drop table public.consent; drop table public.login_handled; drop table public.login";

/// Rows of all the tables come, change and go; `round` tells the rounds apart.
fn changes(round: u32) -> String {
    format!(
        "begin; insert into login values ('n{round}', 'new'); insert into login_handled values ('n{round}', false); insert into consent values ('d{round}', 'n{round}'); commit;
        begin; insert into consent_handled values ('d{round}', 'all'); insert into token values ({round} + 100000, 'd{round}'); commit;
        update login set subject = subject || '{round}' where challenge like '%{round}'; update login_handled set used = not used where challenge like '%{round}1';
        begin; delete from token where id % 1000 = {round}; delete from consent_handled where challenge = 'c{round}'; delete from consent where challenge = 'c{round}'; commit;
        update consent set login_challenge = 'l' || (2504 + {round}) where challenge = 'c' || (1104 + {round}); update consent_handled set granted = 'g' where challenge like '%{round}5'"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_are_joined_from_the_plan_to_the_last_key() {
    let stage = Stage::set("joined").await;
    stage.on_blue(BLUE_SQL).await;
    stage.desk.write("green.sql", GREEN_SQL);

    // What green cannot take stops before any row is there, and says where.
    for (good, bad, said) in [
        ("h.used as was_used", "now() as was_used", "`now` depends on the time, the session or the server"),
        (
            "l.subject, h.used",
            "l.subjekt, h.used",
            "green refuses the query: column l.subjekt does not exist",
        ),
        ("h.used as was_used", "'x'::text as was_used", "green does not take joined rows into public.flow"),
        (
            "key: [login_challenge]\n",
            "key: [subject]\n",
            "no unique index of just these NOT NULL columns: subject",
        ),
    ] {
        stage.desk.write("plan.yaml", &PLAN.replace(good, bad));
        let refused: Output = stage.run("replicate", &["--until-caught-up"]).await;
        assert!(refused.code != 0 && refused.stderr.contains(said), "{bad}: {refused:?}");
        stage.run("rollback", &["--all", "--yes"]).await.expect(0);
    }

    stage.desk.write("plan.yaml", PLAN);
    let plan = stage.run("plan", &["--sample", "2"]).await.expect(0);
    for line in [
        "public.consent, public.consent_handled, public.login, public.login_handled → public.flow",
        "a row of public.consent concerns the one of login_challenge",
        "cannot be reversed: a row is put together from several tables by a query",
        "(joined by the query as blue evaluates it)",
    ] {
        assert!(plan.stdout.contains(line), "{line}: {}", plan.stdout);
    }

    // Killed in the middle while blue goes on, and again while it follows.
    let (replicate, began) = (stage.prepare("replicate", &[]).start(), Instant::now());
    let green = stage.pair.green().await;
    let begun = "select from migrate.journal where step = 'replicate/fill-joined'";
    // The journal is not there at first.
    while green.query(begun, &[]).await.map_or(true, |found| found.is_empty()) {
        assert!(began.elapsed() < PATIENCE, "the joined table is not filled");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    stage.on_blue(&changes(1)).await;
    replicate.kill().await;
    stage.on_blue(&changes(2)).await;
    let replicate = stage.following().await;
    stage.on_blue(&changes(3)).await;
    replicate.kill().await;
    stage.on_blue(&changes(4)).await;
    stage.run("replicate", &["--until-caught-up"]).await.expect(0);
    stage.on_blue(&changes(5)).await;
    // The fence sees a joined row that is not as it should be.
    let tampered = |with: &str| {
        format!(
            "set session_replication_role = replica; update flow set granted = {with} where login_challenge = 'n5'"
        )
    };
    stage.run("replicate", &["--until-caught-up"]).await.expect(0);
    stage.on_green(&tampered("'tampered'")).await;
    let refused = stage.run("cutover", &[]).await;
    let said = "the joined row (n5) of public.flow on green is not what the plan's query gives";
    assert!(refused.code != 0 && refused.stderr.contains(said), "{refused:?}");
    stage.on_green(&tampered("'all'")).await;
    stage.run("cutover", &[]).await.expect(0);

    let blue = stage.pair.blue().await;
    let on_blue = "select l.challenge as id, l.subject, h.used, c.challenge, ch.granted from login l left join login_handled h using (challenge)
        left join consent c on c.login_challenge = l.challenge left join consent_handled ch on ch.challenge = c.challenge";
    let on_green = "select login_challenge as id, subject, was_used, consent_challenge, granted from flow";
    let text = |rows: &str| format!("select string_agg(t::text, ',' order by id) from ({rows}) t");
    let expected: String = blue.query_one(&text(on_blue), &[]).await.unwrap().get(0);
    assert_eq!(stage.ask_green(&text(on_green)).await, expected);
    let compared = stage
        .ask_green("select max((note ->> 'keys_compared')::int) from migrate.journal where step = 'switch/fence-blue'")
        .await;
    assert!(compared.parse::<i32>().unwrap() > 10, "{compared}");
    let stages = "select count(*) from pg_namespace where nspname like 'migrate_stage%'";
    assert_eq!(stage.ask_green(stages).await, "1");
    stage.run("finish", &["--yes"]).await.expect(0);
    assert_eq!(stage.ask_green(stages).await, "0");
}
