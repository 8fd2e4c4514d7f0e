//! Blue's rows held against rules of green that are about more than one row: what excludes, and what refers.

use super::stage::Stage;
use migrate::finding::Severity;
use migrate::mapping::{BlueTable, Mapping, TableMap};
use migrate::pg::catalog;
use migrate::pg::name::{Ident, TableName};
use migrate::plan::{Side, TableSelection};
use migrate::step::prove_rows::{Carried, Extent, Lookers, Proof, Tried};
use std::time::{Duration, Instant};

const ROOMS_BLUE: &str = "create table public.stay (id int primary key, room int, start date, days int, note text);
    insert into public.stay select n, n % 50, date '2000-01-01' + 10 * n, 9, null from generate_series(1, 100000) n";
const ROOMS_GREEN: &str = "create extension btree_gist with schema public;
    create table public.stay (id int primary key, room int, during daterange, note text, constraint apart exclude using gist (room with =, during with &&) where (note is distinct from 'off') deferrable,
        constraint \"No te\" exclude using hash (lower(note) with =))";

fn public(name: &str) -> TableName {
    TableName::new("public", name)
}

fn columns<const N: usize>(columns: [(&str, &str); N]) -> TableMap {
    let column = |(name, text): (&str, &str)| (Ident::new(name), text.to_owned());
    TableMap { columns: columns.into_iter().map(column).collect(), ..TableMap::default() }
}

/// A table of blue with its map.
async fn mapping(stage: &Stage, name: &str, map: TableMap) -> Mapping {
    let facts = catalog::read(&stage.blue, Side::Blue, &TableSelection::default()).await.unwrap();
    let blue = BlueTable::of(facts.table(&public(name)).unwrap());
    Mapping { map, part: None, blue: BlueTable { tells_all: true, ..blue } }
}

fn alone(mappings: Vec<Mapping>) -> Carried {
    Carried { mappings, ..Carried::default() }
}

async fn tried(stage: &Stage, carried: &Carried, green: &str) -> Tried {
    let lookers = Lookers::open(&stage.blue_info, &stage.green_info).await.unwrap();
    let proof = lookers.prove(carried, &public(green)).await;
    match proof.unwrap_or_else(|error| panic!("{:?}", error.chain())) {
        Proof::Tried(tried) => tried,
        Proof::Unfinished(why) => panic!("{why}"),
    }
}

/// What is said of a table's rows: a line for each rule that some break, then what was left out.
async fn said(stage: &Stage, carried: &Carried, green: &str) -> Vec<String> {
    let tried = tried(stage, carried, green).await;
    let broken = tried
        .broken
        .iter()
        .map(|broken| format!("{}: {} ({})", broken.rule, broken.rows, broken.keys.join(" ")));
    broken.chain(tried.left_out.iter().map(|rule| format!("not {rule}"))).collect()
}

#[tokio::test]
async fn rows_that_exclude_each_other_are_found_among_many_without_comparing_each_with_all() {
    let stage = Stage::set("excluded_rows").await;
    stage.blue.batch_execute(ROOMS_BLUE).await.unwrap();
    stage.green.batch_execute(ROOMS_GREEN).await.unwrap();
    let carried = alone(vec![
        mapping(
            &stage,
            "stay",
            columns([("during", "case when start is not null then daterange(start, start + days) end")]),
        )
        .await,
    ]);
    let began = Instant::now();
    assert_eq!(said(&stage, &carried, "stay").await, [] as [&str; 0]);
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    stage
        .blue
        .batch_execute(
            "insert into public.stay select 200000 + n, room, start + 5, 1, null from public.stay, generate_series(1, 2) n where id = 500;
             insert into public.stay select 300000, room, start, 9, 'off' from public.stay where id = 600;
             insert into public.stay select 300001, null, start, 9, 'Noted' from public.stay where id = 600;
             insert into public.stay select 300002, room, null, 9, 'noTED' from public.stay where id = 600",
        )
        .await
        .unwrap();
    assert_eq!(
        said(&stage, &carried, "stay").await,
        [
            "No te of public.stay excludes rows beside each other, and these conflict: 2 (300001 300002)",
            "apart of public.stay excludes rows beside each other, and these conflict: 3 (500 200001 200002)",
        ]
    );
}

#[tokio::test]
async fn rows_that_refer_to_what_a_condition_leaves_out_are_found_in_unmapped_tables_too() {
    let stage = Stage::set("referring_rows").await;
    let token = "create table public.token (id int primary key, person bigint references public.person);";
    let blue = format!(
        "create table public.person (id bigint primary key, gone boolean); insert into public.person select n, n % 100 = 0 from generate_series(1, 1000) n;
         {token} insert into public.token select n, n from generate_series(1, 500) n; insert into public.token values (1001, null)"
    );
    stage.blue.batch_execute(&blue).await.unwrap();
    let person = "create table public.person (id bigint primary key)";
    stage.green.batch_execute(&format!("{person}; {token}")).await.unwrap();
    let chosen = TableMap {
        condition: Some("not gone".into()),
        drop: vec![Ident::new("gone")],
        ..TableMap::default()
    };
    let carried = Carried {
        mappings: vec![mapping(&stage, "person", chosen).await],
        unmapped: vec![mapping(&stage, "token", TableMap::default()).await],
        ..Carried::default()
    };
    let said = async || {
        let lookers = Lookers::open(&stage.blue_info, &stage.green_info).await.unwrap();
        let findings = lookers.prove_each(&carried).await.unwrap();
        let said = |finding: migrate::finding::Finding| (finding.severity, finding.what);
        findings.into_iter().map(said).collect::<Vec<_>>()
    };
    assert_eq!(
        said().await,
        [
            (
                Severity::Info,
                "1000 rows of public.person (all there were) fit all 3 of green's rules".to_owned()
            ),
            (
                Severity::Blocking,
                "token_person_fkey of public.token: public.person will not have the row that person names: \
                 5 rows of 501 rows tried (all there were); blue's keys of the first: 100; 200; 300"
                    .to_owned()
            )
        ]
    );
    stage.blue.batch_execute("delete from public.token where id % 100 = 0").await.unwrap();
    assert_eq!(
        said().await[1],
        (
            Severity::Info,
            "496 rows of public.token (all there were) fit all 1 of green's foreign keys to mapped tables"
                .to_owned()
        )
    );
}

#[tokio::test]
async fn foreign_keys_of_all_forms_are_held_against_what_green_will_hold() {
    let stage = Stage::set("referring_forms").await;
    stage
        .blue
        .batch_execute(
            "create table public.person (id bigint primary key, nid text, num smallint, boss bigint, kind text);
             insert into public.person select n, '00000000-0000-0000-0000-00000000000' || n % 2, n, n - 1, case n when 3 then 'z' else 'a' end from generate_series(1, 10) n;
             create table public.token (id int primary key, nid text, num int);
             insert into public.token values (1, '00000000-0000-0000-0000-000000000001', 1), (2, null, null), (3, null, 2),
                 (4, '00000000-0000-0000-0000-000000000001', 7), (5, '00000000-0000-0000-0000-000000000000', 1), (7, null, null)",
        )
        .await
        .unwrap();
    stage
        .green
        .batch_execute(
            "create table public.kind (code text primary key); insert into public.kind values ('a'); create table public.pool (id int primary key);
             create table public.human (key bigint primary key, tenant uuid, num int, boss int references public.human, kind varchar(3) references public.kind, unique (tenant, num));
             create table public.token (id int primary key references public.pool, tenant uuid, num bigint, made bigint generated always as (id * 10) stored references public.human,
                 own bigint default 5 constraint owned references public.human, constraint of foreign key (tenant, num) references public.human (tenant, num) match full);
             alter table public.token add constraint later foreign key (num) references public.human not valid",
        )
        .await
        .unwrap();
    let human = TableMap {
        to: Some(public("human")),
        condition: Some("id <> 7".into()),
        ..columns([("key", "id * 10"), ("tenant", "nid::uuid"), ("boss", "(boss * 10)::int")])
    };
    let carried = Carried {
        mappings: vec![
            mapping(&stage, "person", human).await,
            mapping(&stage, "token", columns([("tenant", "nid::uuid")])).await,
        ],
        joined: vec![public("pool")],
        ..Carried::default()
    };
    assert_eq!(
        said(&stage, &carried, "human").await,
        [
            "human_boss_fkey of public.human: public.human will not have the row that boss names: 2 (1 8)",
            "human_kind_fkey of public.human: public.kind will not have the row that kind names: 1 (3)",
        ]
    );
    assert_eq!(
        said(&stage, &carried, "token").await,
        [
            "of of public.token: public.human will not have the row that tenant, num names: 3 (3 4 5)",
            "token_made_fkey of public.token: public.human will not have the row that made names: 1 (7)",
            "not later (it is NOT VALID on green, and stays so)",
            "not owned (green fills own by itself)",
            "not token_id_fkey (rows of public.pool come of a join)",
        ]
    );
}

#[tokio::test]
async fn of_a_sample_the_rows_referred_to_are_looked_for_among_all_of_blue() {
    let stage = Stage::set("referring_sample").await;
    stage
        .blue
        .batch_execute(
            "create table public.person (id int primary key, boss int, pad text); alter table public.person alter column pad set storage plain;
             insert into public.person select n, case n % 10 when 0 then 17 else n % 8999 + 1 end, repeat('p', 6000) from generate_series(1, 9000) n",
        )
        .await
        .unwrap();
    let person = "create table public.person (id bigint primary key, boss bigint references public.person)";
    stage.green.batch_execute(person).await.unwrap();
    let mut chosen =
        TableMap { condition: Some("id <> 17".into()), drop: vec![Ident::new("pad")], ..TableMap::default() };
    let carried = alone(vec![mapping(&stage, "person", chosen.clone()).await]);
    let found = tried(&stage, &carried, "person").await;
    assert_eq!((found.extent, found.broken.len(), found.left_out.len()), (Extent::Sample, 1, 0), "{found:?}");
    let (broken, tenth) = (&found.broken[0], found.rows / 10);
    assert!(broken.rows > tenth / 2 && broken.rows < tenth * 2, "{found:?}");
    assert!(broken.keys.iter().all(|key| key.ends_with('0') || key == "16"), "{found:?}");

    // A computed key cannot be asked for.
    chosen.columns.insert(Ident::new("id"), "id + 0".to_owned());
    let carried = alone(vec![mapping(&stage, "person", chosen).await]);
    assert_eq!(
        said(&stage, &carried, "person").await,
        [
            "not person_boss_fkey (its key in public.person is computed or of another type, and public.person is larger than 32 MiB)"
        ]
    );
}
