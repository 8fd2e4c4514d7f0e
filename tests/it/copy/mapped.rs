//! The copy into another shape.

use super::stage::{Stage, deaf};
use migrate::copy::rows::{self, CopySpec};
use migrate::error::Kind;
use migrate::mapping::{BlueTable, Mapping, TableMap};
use migrate::pg::catalog;
use migrate::pg::name::{Ident, TableName};
use migrate::plan::{Side, TableSelection};
use migrate::step::prove_mapping;
use std::sync::Arc;

const BLUE: &str = "create type public.mood as enum ('sad', 'ok');
    create table public.client (id bigint primary key, title text, uris text, mood public.mood, twice int generated always as (1) stored);
    insert into public.client (id, title, uris, mood) select n, 'it''s ' || n, case when n % 3 > 0 then 'a|' || n end, 'ok' from generate_series(1, 5000) n;
    create table public.same (id int primary key); insert into public.same values (1)";
const GREEN: &str = "create type public.mood as enum ('sad', 'ok');
    create table public.app (key numeric primary key, title varchar(20), tags jsonb, mood text, own int default 7);
    create table public.same (id int primary key)";

fn map(columns: &[(&str, &str)]) -> TableMap {
    TableMap {
        to: Some(TableName::new("public", "app")),
        columns: columns.iter().map(|(name, text)| (Ident::new(*name), (*text).to_owned())).collect(),
        condition: Some("id > 10".into()),
        ..TableMap::default()
    }
}

const COLUMNS: [(&str, &str); 3] =
    [("key", "-id"), ("tags", "to_jsonb(string_to_array(uris, '|'))"), ("mood", "mood::text")];

async fn mapping(stage: &Stage, map: TableMap) -> Mapping {
    let facts = catalog::read(&stage.blue, Side::Blue, &TableSelection::default()).await.unwrap();
    let blue = BlueTable::of(facts.table(&TableName::new("public", "client")).unwrap());
    // Nothing follows here, so what a change tells does not matter.
    Mapping { map, part: None, blue: BlueTable { tells_all: true, ..blue } }
}

async fn spec(stage: &Stage, mapping: &Mapping) -> CopySpec {
    let mut spec = stage.spec().await;
    for table in spec.tables.iter_mut().filter(|table| table.blue.name.as_str() == "client") {
        table.green = TableName::new("public", "app");
        table.mapping = Some(Arc::new(mapping.clone()));
    }
    spec
}

#[tokio::test]
async fn a_mapped_table_arrives_as_the_expressions_say() {
    let stage = Stage::set("copy_mapped").await;
    stage.blue.batch_execute(BLUE).await.unwrap();
    stage.green.batch_execute(GREEN).await.unwrap();
    let mapping = mapping(&stage, map(&COLUMNS)).await;
    assert_eq!(prove_mapping::prove(&stage.green, &mapping).await.unwrap(), []);
    for _ in 0..2 {
        let totals = rows::copy(spec(&stage, &mapping).await, deaf()).await;
        let totals = totals.unwrap_or_else(|error| panic!("{:?}", error.chain()));
        assert_eq!((totals.tables, totals.rows), (2, 4991));
    }
    let digest = |rows: &str| format!("select string_agg(t::text, ',' order by key) from ({rows}) t");
    let blue: String = stage
        .blue
        .query_one(&digest("select (-id)::numeric as key, title::varchar(20), to_jsonb(string_to_array(uris, '|')) as tags, mood::text, 7 as own from public.client where id > 10"), &[])
        .await
        .unwrap()
        .get(0);
    let green: String = stage.green.query_one(&digest("select * from public.app"), &[]).await.unwrap().get(0);
    assert!(blue == green);
    let marked = "select rows from migrate.copy_table where table_name = 'public.client' and state = 'done'";
    assert_eq!(stage.count(&stage.green, marked).await, 4990);

    // A value that does not fit stops the copy, and nothing of the table is there.
    stage
        .blue
        .batch_execute("update public.client set title = repeat('x', 21) where id = 4000")
        .await
        .unwrap();
    stage.green.batch_execute("delete from migrate.copy_table").await.unwrap();
    let error = rows::copy(spec(&stage, &mapping).await, deaf()).await.unwrap_err();
    assert_eq!((error.kind, error.what.as_str()), (Kind::Server, "public.client: green refuses mapped rows"));
}

#[tokio::test]
async fn green_refuses_what_it_cannot_take_or_would_not_give_again() {
    let stage = Stage::set("prove_mapped").await;
    stage.blue.batch_execute(BLUE).await.unwrap();
    stage.green.batch_execute(GREEN).await.unwrap();
    stage
        .green
        .batch_execute(
            "create function public.looks() returns int stable language sql as 'select 1';
             create function public.wild(int) returns int volatile language sql as 'select 1';
             create operator public.@@@ (rightarg = int, procedure = public.wild)",
        )
        .await
        .unwrap();
    let cases = [
        ("now()::text", "columns.title: `now` depends on the time, the session or the server"),
        ("title || random()", "columns.title: `random` may give another value each time (volatile)"),
        (
            "title || current_date",
            "columns.title: `current_timestamp or the like` depends on the time, the session or the server",
        ),
        ("max(title)", "columns.title: `max` is computed over many rows"),
        ("(select title)", "columns.title: `a subquery` reads other rows"),
        ("regexp_split_to_table(title, 'x')", "columns.title: `regexp_split_to_table` gives several rows"),
        (
            "title || public.looks()",
            "columns.title: `looks` may give another value at another time (stable); mark it immutable if it does not",
        ),
        (
            "(operator(public.@@@) id::int)::text",
            "columns.title: `wild` may give another value each time (volatile)",
        ),
        (
            "title || lenght(title)",
            "columns.title: green refuses `title || lenght(title)`: function lenght(text) does not exist",
        ),
    ];
    for (text, expected) in cases {
        let mut columns = COLUMNS.to_vec();
        columns.push(("title", text));
        let mut map = map(&columns);
        map.drop = vec![Ident::new("title")];
        let problems = prove_mapping::prove(&stage.green, &mapping(&stage, map).await).await.unwrap();
        let said: Vec<_> = problems.iter().map(|one| format!("{}: {}", one.field, one.what)).collect();
        assert_eq!(said, [expected], "{text}");
    }
    let columns = [COLUMNS.as_slice(), &[("own", "title || title")]].concat();
    let problems = prove_mapping::prove(&stage.green, &mapping(&stage, map(&columns)).await).await.unwrap();
    let refused = "green does not take mapped rows into public.app: column \"own\" is of type integer but expression is of type text";
    assert_eq!(problems.iter().map(|one| one.what.as_str()).collect::<Vec<_>>(), [refused]);
    let left = "select count(*) from pg_class where relname = 'migrate_expression'";
    assert_eq!(stage.count(&stage.green, left).await, 0);
}
