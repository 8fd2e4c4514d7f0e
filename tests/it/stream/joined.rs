//! Following tables that are joined: rows of four tables of blue are one row of green, the request tables of Hydra 1.x.

use super::{PATIENCE, Scene};
use crate::support::Pair;
use migrate::error::Kind;
use migrate::mapping::{Join, JoinSource, Joining};
use migrate::pg::catalog;
use migrate::pg::name::{Ident, TableName};
use migrate::pg::target;
use migrate::plan::{Side, TableSelection};
use migrate::stream::follow::FollowStatus;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// `login` and `consent` stand for authentication and consent requests, `*_done` for the rows that say how they were handled.
const BLUE: &str = "create table public.login (challenge varchar(40) primary key, client text not null, subject text not null, scope text, verifier text);
    alter table public.login alter column scope set storage external;
    create table public.login_done (challenge varchar(40) primary key, remember boolean not null, error text, used boolean not null);
    create table public.consent (challenge varchar(40) primary key, login_challenge varchar(40), verifier text);
    create table public.consent_done (challenge varchar(40) primary key, granted text, used boolean not null);
    alter table public.consent_done replica identity full";
const GREEN: &str = "create table public.flow (login_challenge varchar(40) primary key, client text not null, subject text not null, state int not null check (state between 1 and 6),
        scope jsonb not null default '[]', login_remember boolean, login_error jsonb, consent_challenge varchar(40) unique, granted jsonb, twice int generated always as (state * 2) stored, note text default 'own')";

const QUERY: &str = r"
    with done as (select challenge, granted, used from public.consent_done)
    select l.challenge as login_challenge, l.client, l.subject,
           case when done.used then 6 when done.challenge is not null then 5 when c.challenge is not null then 4
                when login_done.used then 3 when login_done.challenge is not null then 2 else 1 end as state,
           coalesce(to_jsonb(string_to_array(nullif(l.scope, ''), '|')), '[]') as scope,
           login_done.remember as login_remember, to_jsonb(login_done.error) as login_error,
           c.challenge as consent_challenge,
           to_jsonb(string_to_array(done.granted, '|')) as granted
      from public.login as l
      left join public.login_done on login_done.challenge = l.challenge
      left join lateral (select challenge from public.consent where consent.login_challenge = l.challenge order by challenge limit 1) as c on true
      left join done on done.challenge = c.challenge -- the end";

type Sources = [(&'static str, &'static [&'static str], &'static [&'static str]); 4];

const BY_LOGIN: Sources = [
    ("login", &["challenge"], &[]),
    ("login_done", &["challenge"], &[]),
    ("consent", &["login_challenge"], &["login_challenge"]),
    (
        "consent_done",
        &["(select c.login_challenge from public.consent as c where c.challenge = consent_done.challenge)"],
        &[],
    ),
];

/// Green's key is of two columns, one of which only the login tells.
const BY_CLIENT: Sources = [
    ("login", &["client", "challenge"], &[]),
    (
        "login_done",
        &["(select client from public.login where login.challenge = login_done.challenge)", "challenge"],
        &[],
    ),
    (
        "consent",
        &["(select client from public.login where login.challenge = login_challenge)", "login_challenge"],
        &["login_challenge"],
    ),
    (
        "consent_done",
        &[
            "(select l.client from public.consent c join public.login l on l.challenge = c.login_challenge where c.challenge = consent_done.challenge)",
            "(select login_challenge from public.consent where consent.challenge = consent_done.challenge)",
        ],
        &[],
    ),
];

async fn set(name: &str, blue: u32, green: u32, green_ddl: &str, sources: Sources) -> Scene {
    let pair = Pair::of_majors(name, blue, green).await;
    set_with(pair, BLUE, green_ddl, sources, "=").await
}

/// Where the plan's SQL compares keys with another operator.
async fn set_with(pair: Pair, ddl: &str, green_ddl: &str, sources: Sources, equals: &str) -> Scene {
    let tables = sources.map(|(name, ..)| (name, &["challenge"] as &[&str]));
    let mut scene = Scene::set(pair, ddl, &tables).await;
    let comparing = |text: &str| text.replace(" = ", &format!(" {equals} "));
    scene.green.batch_execute(green_ddl).await.unwrap();
    let facts = catalog::read(&scene.blue, Side::Blue, &TableSelection::default()).await.unwrap();
    let texts = |texts: &[&str]| texts.iter().map(|text| comparing(text)).collect::<Vec<String>>();
    let source = |(name, key, indexes): (&str, &[&str], &[&str])| {
        (TableName::new("public", name), JoinSource { key: texts(key), indexes: texts(indexes) })
    };
    let key = if sources[0].1.len() == 1 {
        &["login_challenge"] as &[&str]
    } else {
        &["client", "login_challenge"]
    };
    let join = Join {
        key: key.iter().map(|name| Ident::new(*name)).collect(),
        query: comparing(QUERY),
        from: sources.map(source).into(),
    };
    let joins = [(TableName::new("public", "flow"), join)].into();
    let joining = Joining::all("joined", &joins, &facts).remove(0);
    scene.green.batch_execute("create schema migrate_stage_joined").await.unwrap();
    for source in &joining.sources {
        let name = source.stage.to_string();
        let make = Joining::make_stage(source, "table", &name);
        for sql in std::iter::once(make).chain(joining.index_stage(source, &name)) {
            scene.green.batch_execute(&sql).await.unwrap();
        }
        let table = scene.spec.tables.iter_mut().find(|table| table.blue == source.blue.name).unwrap();
        table.green = source.stage.clone();
    }
    scene.spec.joined = vec![Arc::new(joining)];
    scene
}

/// Applies what blue has, and compares.
async fn caught_up(scene: &Scene) -> FollowStatus {
    let follower = scene.follow();
    scene.drained(&follower, &format!("{:016x}", rand::random::<u64>())).await;
    let status = follower.stop(PATIENCE).await.unwrap_or_else(|error| panic!("{:?}", error.chain()));
    assert_joined(scene).await;
    status
}

/// What the query gives on blue itself is what green has.
async fn assert_joined(scene: &Scene) {
    let text = |rows: &str| {
        format!(
            "select coalesce(string_agg(t::text, E'\\n' order by t::text collate \"C\"), '') from ({rows}\n) t"
        )
    };
    let query = &scene.spec.joined[0].join.query;
    let blue: String = scene.blue.query_one(&text(query), &[]).await.unwrap().get(0);
    let columns = "select login_challenge, client, subject, state, scope, login_remember, login_error, consent_challenge, granted from flow";
    let green: String = scene.green.query_one(&text(columns), &[]).await.unwrap().get(0);
    let only = |one: &str, other: &str| -> Vec<String> {
        let lines = one.lines().filter(|line| !other.lines().any(|it| it == *line));
        lines.map(|line| line.chars().take(160).collect()).collect()
    };
    assert!(blue == green, "blue: {:#?}\n green: {:#?}", only(&blue, &green), only(&green, &blue));
}

const CROWD: &str = "insert into login select 'l' || n, 'app', 's' || n, 'openid|' || repeat('x', 3000), 'v' from generate_series(1, 300) n;
    insert into login_done select 'l' || n, n % 2 = 0, case when n % 5 = 0 then 'denied' end, n % 3 = 0 from generate_series(1, 250) n;
    insert into consent_done select 'c' || n, 'openid|' || n, n % 7 = 0 from generate_series(1, 150) n;
    insert into consent select 'c' || n, 'l' || n, 'v' from generate_series(1, 200) n;";

const EVERY_CHANGE: &str = "
    begin; update login_done set remember = not remember where challenge like '%8'; update login set client = 'other' where challenge like '%8'; commit;
    update login set subject = subject || '!' where challenge like '%1'; update login set scope = '' where challenge like '%2';
    update login_done set used = not used; delete from login_done where challenge like '%3'; insert into login_done values ('l300', true, 'late', false);
    begin; update consent set login_challenge = 'l' || (300 - substr(challenge, 2)::int); update consent_done set granted = 'all'; commit;
    begin; delete from consent where challenge like '%4'; delete from consent_done where challenge like '%4'; commit;
    delete from consent where challenge like '%5'; insert into consent values ('a9', 'l9', 'v'), ('z9', 'l9', 'v'), ('n1', null, 'v');
    delete from login where challenge like '%6'; update login set challenge = 'm' || challenge where challenge like '%7';
    update consent_done set challenge = 'a9' where challenge = 'c1'; update consent_done set used = true where challenge = 'a9';";

#[tokio::test]
async fn a_change_of_any_of_the_tables_makes_the_rows_anew_that_it_concerns() {
    let scene = set(
        "joined",
        15,
        18,
        &GREEN
            .replace("varchar(40) primary key", "varchar(40)")
            .replace("note text", "primary key (login_challenge, client), note text"),
        BY_CLIENT,
    )
    .await;
    scene.run(CROWD).await;
    let status = caught_up(&scene).await;
    assert!(status.set_based > 0 && status.replayed == 0, "{status:?}");
    scene.green.batch_execute("update flow set note = 'mine'").await.unwrap();
    scene.run(EVERY_CHANGE).await;
    caught_up(&scene).await;
    // What is green's own stays with the row, whatever else of it changes; the rows that came since have the default.
    let own: i64 =
        scene.green.query_one("select count(*) from flow where note = 'own'", &[]).await.unwrap().get(0);
    let moved: i64 = scene
        .blue
        .query_one("select count(*) from login where challenge like 'm%' or client = 'other'", &[])
        .await
        .unwrap()
        .get(0);
    assert!(own == moved && moved > 0, "{own} {moved}");
    // Two rows change places in what is unique on green.
    scene.run("update consent set login_challenge = case challenge when 'c21' then 'l22' else 'l21' end where challenge in ('c21', 'c22')").await;
    caught_up(&scene).await;
    scene.run("update consent set login_challenge = case challenge when 'c21' then 'l21' else 'l22' end where challenge in ('c21', 'c22')").await;
    caught_up(&scene).await;
    // A copy is emptied, alone and with more in the transaction; all of them are.
    scene.run("begin; insert into login_done values ('l9', true, null, true) on conflict do nothing; truncate login_done; insert into login_done values ('l8', true, null, true); commit").await;
    caught_up(&scene).await;
    scene.run("truncate login, login_done, consent, consent_done; insert into login values ('l1', 'app', 's', null, null)").await;
    caught_up(&scene).await;
    // A transaction that is written in parts: halfway through, two rows have what is unique on green.
    scene.green.batch_execute("alter table flow add unique (login_error)").await.unwrap();
    scene.run("insert into login values ('q1', 'app', 's', null, null), ('q2', 'app', 's', null, null); insert into login_done values ('q1', true, 'once', false)").await;
    scene
        .run(
            "begin; insert into login_done values ('q2', true, 'once', false); insert into consent values ('b1', 'l1', 'v');
            insert into login select 'p' || n, 'app', 's', null, null from generate_series(1, 45000) n;
            delete from login_done where challenge = 'q1'; update consent set login_challenge = 'p1'; commit",
        )
        .await;
    caught_up(&scene).await;
}

#[tokio::test]
async fn keys_that_are_equal_in_another_case_are_one_row() {
    let citext = |ddl: &str| ddl.replace("varchar(40)", "citext");
    let blue = format!("create extension citext; {}", citext(BLUE));
    let pair = Pair::of_majors("joined_citext", 15, 18).await;
    let scene = set_with(pair, &blue, &citext(GREEN), BY_LOGIN, "operator(public.=)").await;
    scene.run(CROWD).await;
    caught_up(&scene).await;
    for changes in [
        "update login set challenge = 'L1' where challenge = 'l1'; update consent set login_challenge = 'L2' where challenge = 'c2'",
        "update login set challenge = upper(challenge); delete from login where challenge = 'L4'; insert into login values ('l4', 'app', 's', null, null)",
        "update consent_done set challenge = upper(challenge), granted = 'all'; update consent set login_challenge = upper(login_challenge)",
        EVERY_CHANGE,
    ] {
        scene.run(changes).await;
        caught_up(&scene).await;
    }
    // As the fence compares them.
    let joining = &scene.spec.joined[0];
    scene.green.batch_execute("set search_path = ''").await.unwrap();
    let joined = target::join(&scene.green, joining).await.unwrap();
    let source = joining.source(&TableName::new("public", "login")).unwrap();
    let sql = joining.statements(&joined, 0).unwrap().compare(source).unwrap();
    let rows = scene.green.query(&sql, &[&vec!["l2", "no"]]).await.unwrap();
    assert_eq!(rows.len(), 1, "L2 is found");
    let row = |at: usize| rows[0].get::<_, Option<String>>(at);
    assert!(row(1).is_some() && row(1) == row(2), "{:?} {:?}", row(1), row(2));
}

/// Transactions over few keys, so that rows meet and part again, in whatever order.
fn random_history(seed: u64, transactions: u64) -> Vec<String> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut history = Vec::new();
    for number in 0..transactions {
        let mut sql = String::from("begin;");
        for _ in 0..random.random_range(1..6) {
            let (a, b) = (random.random_range(1..12), random.random_range(1..12));
            let flag = random.random_bool(0.5);
            let long = random.random_range(0..4000);
            let _ = match random.random_range(0..18) {
                0 | 1 => writeln!(
                    sql,
                    "insert into login values ('l{a}', 'app', 's{b}', repeat('x|', {long}), null) on conflict do nothing;"
                ),
                2 => writeln!(
                    sql,
                    "insert into login_done values ('l{a}', {flag}, null, {flag}) on conflict do nothing;"
                ),
                3 | 4 => {
                    writeln!(sql, "insert into consent values ('c{a}', 'l{b}', null) on conflict do nothing;")
                }
                5 => writeln!(
                    sql,
                    "insert into consent_done values ('c{a}', 'g|{number}', {flag}) on conflict do nothing;"
                ),
                6 => writeln!(
                    sql,
                    "update login set subject = 's{number}' where challenge = 'l{a}'; update login_done set used = {flag};"
                ),
                7 => writeln!(sql, "update consent set login_challenge = 'l{b}' where challenge = 'c{a}';"),
                8 => writeln!(sql, "update consent set login_challenge = null where challenge = 'c{a}';"),
                9 => writeln!(
                    sql,
                    "update consent_done set used = not used, granted = 'h{number}' where challenge in ('c{a}', 'c{b}');"
                ),
                10 => writeln!(
                    sql,
                    "update login set challenge = 'l{b}' where challenge = 'l{a}' and not exists (select from login where challenge = 'l{b}');"
                ),
                11 => writeln!(
                    sql,
                    "update consent set challenge = 'c{b}' where challenge = 'c{a}' and not exists (select from consent where challenge = 'c{b}');"
                ),
                12 => writeln!(
                    sql,
                    "update consent_done set challenge = 'c{b}' where challenge = 'c{a}' and not exists (select from consent_done where challenge = 'c{b}');"
                ),
                13 => writeln!(
                    sql,
                    "delete from login where challenge = 'l{a}'; delete from consent_done where challenge = 'c{b}';"
                ),
                14 => writeln!(
                    sql,
                    "delete from consent where challenge = 'c{a}'; delete from login_done where challenge = 'l{b}';"
                ),
                15 => writeln!(
                    sql,
                    "savepoint s; delete from consent; update login set subject = 'never'; rollback to s;"
                ),
                16 if number % 9 == 0 => writeln!(sql, "truncate login_done;"),
                _ => writeln!(
                    sql,
                    "update consent set login_challenge = case challenge when 'c{a}' then 'l{b}' else 'l{a}' end where challenge in ('c{a}', 'c{b}');"
                ),
            };
        }
        let _ = writeln!(sql, "commit;");
        history.push(sql);
    }
    history
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_histories_end_as_the_query_says_whenever_the_follower_dies() {
    let scene = set("joined_random", 18, 15, GREEN, BY_LOGIN).await;
    for seed in 0..2 {
        for some in random_history(seed, 90).chunks(30) {
            scene.run(&some.concat()).await;
            caught_up(&scene).await;
        }
    }
    for seed in 2..5 {
        let dead = AtomicBool::new(false);
        // While it is followed, transaction by transaction.
        let writing = async {
            let mut history = random_history(seed, 5000).into_iter();
            while !dead.load(Ordering::Relaxed) {
                scene.run(&history.next().expect("the follower is too slow")).await;
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let dying = async {
            for applied in [40, 1, 17, 60] {
                let follower = scene.follow();
                let mut status = follower.status();
                let far = status.wait_for(|status| status.transactions >= applied || status.failed.is_some());
                let far = tokio::time::timeout(PATIENCE, far).await.expect("it follows").unwrap().clone();
                assert_eq!(far.failed, None);
            }
            dead.store(true, Ordering::Relaxed);
        };
        tokio::join!(writing, dying);
        caught_up(&scene).await;
    }
}

#[tokio::test]
async fn what_green_does_not_take_is_told() {
    let scene = set(
        "joined_refused",
        15,
        18,
        &GREEN.replace("check (state between 1 and 6)", "check (state < 6)"),
        BY_LOGIN,
    )
    .await;
    scene.run("insert into login values ('l1', 'app', 's', null, null); insert into consent values ('c1', 'l1', null)").await;
    caught_up(&scene).await;
    // One change at a time, as when green is close behind blue.
    let follower = scene.follow();
    for round in 0..4 {
        scene.run(&format!("update login set subject = 's{round}' where challenge = 'l1'")).await;
        scene.drained(&follower, &format!("round {round}")).await;
        assert_joined(&scene).await;
    }
    follower.stop(PATIENCE).await.unwrap();
    scene.run("insert into consent_done values ('c1', 'g', true)").await;
    let error = scene.failure().await;
    assert_eq!(error.kind, Kind::Server, "{:?}", error.chain());
    assert_eq!(error.what, "green refuses joined rows of public.flow");
    assert!(error.chain().join(": ").contains("violates check constraint"), "{:?}", error.chain());
}

/// Which login a handled consent belongs to is asked by what was granted, which may be told of several.
const BY_GRANT: Sources = {
    let mut sources = BY_LOGIN;
    sources[3].1 =
        &["(select c.login_challenge from public.consent as c where c.verifier = consent_done.granted)"];
    sources
};

#[tokio::test]
async fn a_key_that_cannot_be_evaluated_is_told_as_that() {
    const FILLED: &str = "insert into login values ('l1', 'app', 's', null, null); insert into consent values ('c1', 'l1', 'v');
        insert into consent_done values ('d1', 'v', true)";
    let many = |n: u32| {
        format!("insert into login select 'n' || n, 'app', 's', null, null from generate_series(1, {n}) n")
    };
    let once = "delete from consent_done where challenge = 'd1'";
    let twice = "insert into consent values ('c2', 'l1', 'v')";
    // What one part wrote must not be lost when another fails before anything of it is written.
    let in_parts = format!("{twice}; {}", many(45_000));
    for (name, before, transaction) in
        [("joined_fails", twice, many(300)), ("joined_fails_late", "select", in_parts)]
    {
        let scene = set(name, 15, 18, GREEN, BY_GRANT).await;
        let follower = scene.follow();
        for (number, written) in [FILLED, before].iter().enumerate() {
            scene.run(written).await;
            scene.drained(&follower, &format!("written {number}")).await;
        }
        follower.stop(PATIENCE).await.unwrap();
        let transaction = format!("begin; {transaction}; {once}; commit");
        scene.run(&transaction).await;
        let error = scene.failure().await;
        assert_eq!(error.what, "green refuses joined rows of public.flow", "{:?}", error.chain());
        assert!(
            error.chain().join(": ").contains("more than one row returned by a subquery"),
            "{:?}",
            error.chain()
        );
    }
}
