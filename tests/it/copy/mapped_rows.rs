//! Blue's rows held against green's rules, and shown, before a copy.

use super::stage::Stage;
use migrate::mapping::{BlueTable, Mapping, TableMap};
use migrate::pg::catalog;
use migrate::pg::name::{Ident, TableName};
use migrate::plan::{Side, TableSelection};
use migrate::step::prove_rows::{Against, Carried, Extent, Lookers, Proof, Tried};
use migrate::step::sample_rows;

const BLUE: &str = "create table public.client (id bigint primary key, title text, mail text, age int, score text not null);
    insert into public.client select n, 'title ' || n, 'm' || n || '@x', n, n::text from generate_series(1, 1000) n";
const GREEN: &str = "create domain public.mail as text constraint has_at check (value like '%@%') not null;
    create table public.app (key bigint primary key, title varchar(20) not null, mail public.mail, age int constraint grown check (age < 2000),
        twice int generated always as (age * 2) stored, score numeric(6), own serial, constraint odd check (twice <> 14 or title = 'seven'));
    create unique index app_title on public.app (lower(title)) where age > 10;
    create unique index app_age on public.app (age) nulls not distinct";

async fn mapping(stage: &Stage) -> Mapping {
    let facts = catalog::read(&stage.blue, Side::Blue, &TableSelection::default()).await.unwrap();
    let blue = BlueTable::of(facts.table(&TableName::new("public", "client")).unwrap());
    let map = TableMap {
        to: Some(TableName::new("public", "app")),
        columns: [(Ident::new("key"), "id".to_owned()), (Ident::new("score"), "score::numeric".to_owned())]
            .into(),
        condition: Some("id > 0".into()),
        ..TableMap::default()
    };
    Mapping { map, part: None, blue: BlueTable { tells_all: true, ..blue } }
}

fn app() -> TableName {
    TableName::new("public", "app")
}

/// Nothing else is carried.
fn alone(mappings: Vec<Mapping>) -> Carried {
    Carried { mappings, ..Carried::default() }
}

async fn tried(stage: &Stage) -> Tried {
    let lookers = Lookers::open(&stage.blue_info, &stage.green_info).await.unwrap();
    let proof = lookers.prove(&alone(vec![mapping(stage).await]), &app()).await;
    match proof.unwrap_or_else(|error| panic!("{:?}", error.chain())) {
        Proof::Tried(tried) => tried,
        Proof::Unfinished(why) => panic!("{why}"),
    }
}

#[tokio::test]
async fn rows_that_green_would_refuse_are_counted_under_each_rule_with_their_keys() {
    let stage = Stage::set("mapped_rows").await;
    stage.blue.batch_execute(BLUE).await.unwrap();
    stage.green.batch_execute(GREEN).await.unwrap();
    stage.blue.batch_execute("update public.client set title = 'seven' where id = 7").await.unwrap();
    let held = tried(&stage).await;
    assert_eq!((held.rows, held.extent), (1000, Extent::All));
    assert_eq!(held.broken, []);
    assert!(held.rules >= 6, "{held:?}");

    stage
        .blue
        .batch_execute(
            "update public.client set title = 'seventh' where id = 7;
             update public.client set title = repeat('x', 21) where id in (100, 300, 500, 700);
             update public.client set mail = 'secret' where id = 101; update public.client set mail = null where id = 102;
             update public.client set title = null, age = 3000 where id = 103; update public.client set score = 'secret' where id = 104;
             update public.client set score = '1234567' where id = 105; update public.client set title = 'TITLE 5' where id = 6;
             update public.client set title = 'TITLE 11' where id in (12, 13); update public.client set age = null where id in (50, 51);
             insert into public.client values (-1, repeat('x', 30), 'no', 1, 'outside of the condition')",
        )
        .await
        .unwrap();
    let said: Vec<String> = tried(&stage)
        .await
        .broken
        .into_iter()
        .map(|broken| format!("{}: {} ({})", broken.rule, broken.rows, broken.keys.join(" ")))
        .collect();
    assert_eq!(
        said,
        [
            "public.app.title is longer than its type takes (SQLSTATE 22001): 4 (100 300 500)",
            "public.app.score is out of its type's range (SQLSTATE 22003): 1 (105)",
            "public.app.score is no value of its type (SQLSTATE 22P02): 1 (104)",
            "public.app.mail takes no null of the domain mail (SQLSTATE 23502): 1 (102)",
            "public.app.mail breaks a check (has_at of the domain mail) (SQLSTATE 23514): 1 (101)",
            "check grown of public.app: 1 (103)",
            "check odd of public.app: 1 (7)",
            "public.app.title takes no null: 1 (103)",
            "app_age of public.app takes each value once, and these rows share theirs: 2 (50 51)",
            "app_title of public.app takes each value once, and these rows share theirs: 3 (11 12 13)",
        ]
    );
    // Nothing of it stays, and green's sequence has not moved.
    let left = "select count(*) from pg_class where relname like 'migrate\\_%' and relkind = 'r'";
    assert_eq!(stage.count(&stage.green, left).await, 0);
    assert_eq!(stage.count(&stage.green, "select count(*) from public.app_own_seq where is_called").await, 0);
    assert_eq!(stage.count(&stage.green, "select count(*) from public.app").await, 0);
}

#[tokio::test]
async fn of_a_large_table_a_sample_is_tried_and_called_that() {
    let stage = Stage::set("mapped_sample").await;
    stage.blue.batch_execute(BLUE).await.unwrap();
    stage.green.batch_execute(GREEN).await.unwrap();
    stage
        .blue
        .batch_execute(
            "alter table public.client alter column title set storage external; alter table public.client add column pad text;
             alter table public.client alter column pad set storage plain; update public.client set title = 'seven' where id = 7;
             update public.client set pad = repeat('p', 6000); insert into public.client select n, 'title ' || n, '@', null, '1', repeat('p', 6000) from generate_series(1001, 9000) n",
        )
        .await
        .unwrap();
    let mut mapping = mapping(&stage).await;
    mapping.map.drop = vec![Ident::new("pad")];
    mapping.map.columns.insert(Ident::new("age"), "coalesce(age, -id::int)".to_owned());
    let lookers = Lookers::open(&stage.blue_info, &stage.green_info).await.unwrap();
    let Proof::Tried(tried) = lookers.prove(&alone(vec![mapping.clone()]), &app()).await.unwrap() else {
        panic!("it is not finished")
    };
    assert_eq!((tried.extent, tried.broken.as_slice()), (Extent::Sample, [].as_slice()), "{tried:?}");
    assert!((100..8900).contains(&tried.rows), "{tried:?}");

    // Somebody's lock on blue is waited for a moment only.
    let holder = stage.pair.blue().await;
    holder.batch_execute("begin; lock table public.client in access exclusive mode").await.unwrap();
    let proof = lookers.prove(&alone(vec![mapping.clone()]), &app()).await.unwrap();
    assert_eq!(proof, Proof::Unfinished("somebody holds a lock on it".to_owned()));
    let findings = proof.findings(&[&mapping], Against::AllRules);
    assert_eq!(findings[0].code, "MAPPED_ROWS_UNPROVED");
}

#[tokio::test]
async fn a_sample_shows_rows_before_and_after_even_before_green_has_the_table() {
    let stage = Stage::set("sample_rows").await;
    stage.blue.batch_execute(BLUE).await.unwrap();
    stage.blue.batch_execute("update public.client set title = null where id = 1").await.unwrap();
    let mut mapping = mapping(&stage).await;
    mapping.map.condition = Some("id <> 3".into());
    mapping.map.columns.insert(Ident::new("key"), "-id".to_owned());
    for is_supposed in [true, false] {
        let sample = sample_rows::sample(&stage.blue, &stage.green, &mapping, 3).await;
        let sample = sample.unwrap_or_else(|error| panic!("{:?}", error.chain()));
        assert_eq!(sample.is_supposed, is_supposed);
        assert_eq!(sample.rows.len(), 3);
        let row = |id: &str| {
            let at = sample.columns_before.iter().position(|name| name == "id").unwrap();
            sample.rows.iter().find(|row| row.before[at].as_deref() == Some(id)).cloned()
        };
        let after = |id: &str, column: &str| {
            let at = sample.columns_after.iter().position(|name| name == column).unwrap();
            row(id).unwrap().after.map(|after| after[at].clone())
        };
        assert_eq!(after("2", "key"), Some(Some("-2".to_owned())));
        assert_eq!(after("3", "key"), None);
        assert_eq!(after("4", "mail"), Some(Some("m4@x".to_owned())));
        stage.green.batch_execute(GREEN).await.unwrap_or_default();
    }
}

#[tokio::test]
async fn rows_of_merged_tables_are_tried_together() {
    let stage = Stage::set("merged_rows").await;
    stage
        .blue
        .batch_execute(
            "create table public.hot (id int primary key, note text); create table public.cold (id int primary key, note text);
             insert into public.hot select n, 'h' from generate_series(1, 100) n; insert into public.cold select n, 'c' from generate_series(100, 200) n",
        )
        .await
        .unwrap();
    let record = "create table public.record (id int primary key, note text not null, origin text)";
    stage.green.batch_execute(record).await.unwrap();
    let facts = catalog::read(&stage.blue, Side::Blue, &TableSelection::default()).await.unwrap();
    let mapping = |name: &str, key: &str| {
        let map = TableMap {
            to: Some(TableName::new("public", "record")),
            columns: [(Ident::new("origin"), format!("'{name}'::text")), (Ident::new("id"), key.to_owned())]
                .into(),
            ..TableMap::default()
        };
        let blue = BlueTable::of(facts.table(&TableName::new("public", name)).unwrap());
        Mapping { map, part: None, blue: BlueTable { tells_all: true, ..blue } }
    };
    let lookers = Lookers::open(&stage.blue_info, &stage.green_info).await.unwrap();
    let findings =
        lookers.prove_each(&alone(vec![mapping("hot", "id"), mapping("cold", "id")])).await.unwrap();
    let said: Vec<_> = findings.iter().map(|finding| finding.what.as_str()).collect();
    assert_eq!(
        said,
        [
            "record_pkey of public.record takes each value once, and these rows share theirs: 2 rows of 201 rows tried (all there were); blue's keys of the first: public.hot 100; public.cold 100"
        ]
    );
    let apart = lookers.prove_each(&alone(vec![mapping("hot", "id"), mapping("cold", "-id")])).await.unwrap();
    assert_eq!(
        apart[0].what,
        "201 rows of public.hot and public.cold (all there were) fit all 9 of green's rules"
    );
}
