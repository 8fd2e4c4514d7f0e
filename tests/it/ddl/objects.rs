//! Tables, indexes, partitions, views and what rests on them, on live databases of the oldest and the newest major: the rewritten
//! list gives the schema that the statement gives, takes the locks told and reads nothing while others wait.

use crate::support::{
    Pair,
    live::{self, Live},
};
use migrate::{
    ddl::{Online, lock::LockMode},
    step::{Notes, Standing, Step},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use tokio_postgres::Client;

const TABLES: &str = "
    drop schema if exists public, old, app cascade;
    create schema public; create schema app; create schema old;
    create type mood as enum ('ok', 'sad');
    create type shape as (a int);
    create domain pos as int check (value > 0);
    create function f() returns trigger language plpgsql as 'begin return new; end';
    create table r (id bigint primary key, u int);
    insert into r select n, n from generate_series(1, 10) n;
    create unique index r_uq on r (u);
    create table t (id bigint primary key, a int, b int constraint t_r_fk references r (u), c text);
    insert into t select n, n, 1 + n % 10, 'row ' || n from generate_series(1, 3000) n;
    create index t_a on t (a);
    create statistics t_s on a, b from t;
    create table s (id int, a int, m mood, p pos);
    create table typed of shape;
    create trigger s_g after insert on s for each row execute function f();
    create view v as select a from s; comment on view v is 'x'; grant select on v to public;
    create view w as select a from v;
    create materialized view mv as select a, count(*) as n from t group by a;
    create unique index mv_a on mv (a);
    create table p (id int not null, a int, b int) partition by list (id);
    create table p1 partition of p for values in (1);
    create table p2 partition of p for values in (2, 3) partition by range (a);
    create table p21 partition of p2 for values from (0) to (100000);
    insert into p select 1 + n % 3, n, 1 + n % 10 from generate_series(1, 3000) n;
    create index p_a on p (a);
    create table d (id int, a int) partition by range (id);
    create table d1 partition of d for values from (0) to (1000);
    create table dd partition of d default;
    insert into d select n, n from generate_series(1, 3000) n;
    create table spare (id int not null, a int, b int);
    insert into spare select 7, n, 1 from generate_series(1, 3000) n;
    create table spared (id int, a int);
    insert into spared select 5000, n from generate_series(1, 3000) n;
    create table pr (id int primary key) partition by range (id);
    create table pr1 partition of pr for values from (0) to (1000);
    create table pc (id int, pr_id int references pr) partition by range (id);
    create table pc1 (id int, pr_id int);
    create table k (id int primary key, p_id int);
    create sequence sq;
    create table old.o (id serial primary key, r_id bigint references public.r);
    create view old.ov as select id from old.o;";

/// A statement, and whether it leaves exactly the schema that it leaves when run as it is written.
const CASES: &[(&str, bool)] = &[
    ("alter table t drop column b", true),
    ("alter table r drop column u cascade", true),
    ("alter table s drop column a cascade", true),
    ("alter table t rename column a to n", true),
    ("alter table p rename column a to n", true),
    ("alter table t rename to t2; alter table t2 add column n int", true),
    ("alter table t set schema app", true),
    ("alter table t_a rename to t_b", true),
    ("drop table t cascade", true),
    ("drop table r cascade", true),
    ("drop table p1", true),
    ("drop table d1", true),
    ("drop table p", true),
    ("drop schema old cascade", true),
    ("drop index r_uq cascade", true),
    (
        "create table n (id int primary key, u int constraint n_r references r (u)); alter table t add constraint t_r2 foreign key (a) references r (u) not valid; drop index r_uq cascade",
        true,
    ),
    ("create table n (t_id bigint references t); alter table t drop constraint t_pkey cascade", true),
    (
        "create table n (id bigint references r, t_id bigint references t); alter table n drop column id; drop table n",
        true,
    ),
    ("alter index t_a set tablespace pg_default", true),
    ("create statistics x on a, b from t", true),
    ("drop statistics t_s", true),
    (
        "alter statistics t_s set statistics 100; alter statistics t_s rename to t_s2; drop statistics t_s2",
        true,
    ),
    // The server names the parts otherwise.
    ("create index i on p (b)", false),
    ("reindex index p_a", true),
    ("reindex table p", true),
    ("alter table s owner to current_user", true),
    ("alter table p owner to current_user", true),
    ("alter table p force row level security", true),
    ("alter table p replica identity full", true),
    ("alter table s enable row level security", true),
    ("alter table p disable trigger all", true),
    ("create table h () inherits (t); alter table h no inherit t; alter table h inherit t", true),
    ("create table p9 partition of p for values in (9)", true),
    ("create table p9 partition of p for values in (9) partition by range (a)", true),
    ("create table d9 partition of d for values from (9000) to (10000)", true),
    ("alter table p attach partition spare for values in (7)", true),
    ("alter table d attach partition spared for values from (5000) to (6000)", true),
    ("alter table pc attach partition pc1 for values from (0) to (10)", true),
    // The CONCURRENTLY form leaves a CHECK that says the old bound.
    ("alter table p detach partition p1", false),
    ("alter table d detach partition d1", true),
    ("alter table p add constraint k foreign key (b) references r (id)", true),
    ("create or replace view v as select a, id from s", true),
    ("drop view w; create view w as select a, a as b from v", true),
    ("drop view v cascade", true),
    ("alter view w rename to w2", true),
    ("create materialized view mv2 as select a from t", true),
    ("refresh materialized view mv", true),
    ("create trigger g before insert on p for each row execute function f()", true),
    ("drop trigger s_g on s; create trigger s_g before insert on s for each row execute function f()", true),
    ("drop trigger s_g on s", true),
    ("create rule y as on insert to t do also nothing; drop rule y on t", true),
    ("create policy y on t using (a in (select u from r)); drop policy y on t", true),
    ("drop function f() cascade", true),
    ("alter type mood add value 'fine'", true),
    ("alter type mood rename value 'ok' to 'fine'", true),
    ("drop type mood cascade", true),
    ("alter type shape add attribute n int cascade", true),
    ("alter domain pos add constraint k check (value < 100) not valid", true),
    ("alter sequence sq restart with 100", true),
    ("alter sequence sq owned by t.a", true),
    ("drop sequence sq", true),
    ("select setval('sq', 100)", true),
    ("grant select on t to public; comment on table t is 'x'", true),
    ("truncate t", true),
    ("truncate r cascade", true),
    ("vacuum (analyze) t; analyze p", true),
    ("create publication y for table t; alter publication y add table s; drop publication y", true),
    ("do $$ begin alter table t add column n int; create index i on t (n); end $$", true),
    (
        "do $$ begin create type color as enum ('red'); exception when duplicate_object then null; end $$",
        true,
    ),
];

async fn afresh(here: &Live) {
    here.client().await.batch_execute(TABLES).await.unwrap();
}

/// What of the schema must be the same, however it was made.
async fn schema(here: &Live) -> String {
    let facts = here.facts().await;
    let mut tables = facts.tables;
    for table in &mut tables {
        (table.total_bytes, table.heap_bytes, table.rows_estimate, table.has_rows) = (0, 0, 0, None);
    }
    format!("{tables:#?} {:#?} {:#?}", facts.sequences, facts.objects)
}

/// Names by oid before a statement: afterwards a dropped relation has none. An index goes by its table: who plans a
/// query of the table locks every index of it.
const NAMES: &str = "
    select c.oid::bigint, t.relname::text
      from pg_class c left join pg_index i on i.indexrelid = c.oid join pg_class t on t.oid = coalesce(i.indrelid, c.oid)
     where t.relkind in ('r', 'p', 'v', 'm', 'S') and c.oid >= 16384";

const HELD: &str = "
    select l.relation::bigint, l.mode from pg_locks l where l.pid = pg_backend_pid() and l.locktype = 'relation'";

const READ: &str = "select coalesce(sum(seq_tup_read), 0)::bigint from pg_stat_xact_user_tables";

async fn names(client: &Client) -> BTreeMap<i64, String> {
    client.query(NAMES, &[]).await.unwrap().iter().map(|row| (row.get(0), row.get(1))).collect()
}

/// Runs one transactional step; what was seen, where it is not what was told.
async fn measured(client: &Client, sql: &str, step: &Online, before: &BTreeMap<i64, String>) -> Vec<String> {
    let path: Vec<String> = step.search_path.iter().map(ToString::to_string).collect();
    client.batch_execute(&format!("set search_path = {}", path.join(", "))).await.unwrap();
    let mut known = names(client).await;
    // An index made on a table that was there is in use with it.
    let tables: BTreeSet<String> =
        known.iter().filter(|(oid, _)| before.contains_key(oid)).map(|(_, name)| name.clone()).collect();
    known.retain(|_, name| tables.contains(name));
    client.batch_execute("begin").await.unwrap();
    client.batch_execute(&step.sql).await.unwrap_or_else(|error| panic!("{sql}: {}: {error:?}", step.sql));
    let mut held: BTreeMap<String, LockMode> = BTreeMap::new();
    for row in client.query(HELD, &[]).await.unwrap() {
        let mode = live::strongest([row.get::<_, &str>(1)]);
        if let (Some(name), Some(mode)) = (known.get(&row.get::<_, i64>(0)), mode) {
            let strongest = held.entry(name.clone()).or_insert(mode);
            *strongest = mode.max(*strongest);
        }
    }
    let mut told = live::told(step);
    told.retain(|name, _| known.values().any(|known| known == name));
    // The sequence of a column goes with its table, and is nobody's who does not use the table.
    held.retain(|name, _| !name.ends_with("_id_seq"));
    let mut wrong = Vec::new();
    if held != told {
        wrong.push(format!("{sql}: {}: held {held:?}, told {told:?}", step.sql));
    }
    let read: i64 = client.query_one(READ, &[]).await.unwrap().get(0);
    if read > 0 && !step.cost.scan {
        wrong.push(format!("{sql}: {} read {read} rows", step.sql));
    }
    client.batch_execute("commit").await.unwrap();
    wrong
}

async fn both(name: &str) -> (Pair, [Live; 2]) {
    Live::both(name, "").await
}

#[tokio::test]
async fn each_takes_the_locks_told_reads_nothing_while_others_wait_and_gives_the_same_schema_on_blue() {
    let (_pair, [blue, _]) = both("ddl_objects_blue").await;
    all_are_as_told(&blue).await;
}

#[tokio::test]
async fn each_takes_the_locks_told_reads_nothing_while_others_wait_and_gives_the_same_schema_on_green() {
    let (_pair, [_, green]) = both("ddl_objects_green").await;
    all_are_as_told(&green).await;
}

async fn all_are_as_told(here: &Live) {
    let mut wrong = Vec::new();
    for (sql, same) in CASES {
        afresh(here).await;
        let before = names(&here.client().await).await;
        for step in here.online(sql).await {
            // What a session has read is counted on over its transactions.
            let client = here.client().await;
            if step.transactional {
                wrong.extend(measured(&client, sql, &step, &before).await);
            } else {
                client.batch_execute(&step.sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
            }
        }
        if *same {
            let after = schema(here).await;
            afresh(here).await;
            let client = here.client().await;
            for statement in as_written(sql) {
                client.batch_execute(&statement).await.unwrap();
            }
            let wanted = schema(here).await;
            let differs = after.lines().zip(wanted.lines()).find(|(left, right)| left != right);
            if after != wanted {
                wrong.push(format!("{sql}: not the schema the plain statement leaves: {differs:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// VACUUM runs alone, so each statement goes by itself; a DO block holds semicolons.
fn as_written(sql: &str) -> Vec<String> {
    if sql.starts_with("do ") {
        return vec![sql.to_owned()];
    }
    sql.split("; ").map(str::to_owned).collect()
}

#[tokio::test]
async fn a_detaching_that_was_killed_is_ended_and_can_be_taken_back() {
    let (_pair, heres) = both("ddl_detach").await;
    for here in &heres {
        afresh(here).await;
        let list = here.steps("alter table p detach partition p1").await;
        let [detach] = list.as_slice() else { panic!("{list:?}") };
        let reader = here.client().await;
        reader.batch_execute("begin; select count(*) from p").await.unwrap();
        let pending = "select exists (select from pg_inherits where inhdetachpending)";
        let watcher = here.client().await;
        let (applied, ()) = tokio::join!(here.apply(detach), async {
            let deadline = std::time::Instant::now() + Duration::from_secs(20);
            while !watcher.query_one(pending, &[]).await.unwrap().get::<_, bool>(0) {
                assert!(std::time::Instant::now() < deadline, "it never began");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            let kill = "select pg_terminate_backend(pid) from pg_stat_activity where query ilike '%detach partition%' and pid <> pg_backend_pid()";
            watcher.batch_execute(kill).await.unwrap();
        });
        applied.unwrap_err();
        assert_eq!(here.standing(detach).await, Standing::Absent);
        reader.batch_execute("commit").await.unwrap();
        here.apply(detach).await.unwrap();
        assert_eq!(here.standing(detach).await, Standing::Present);
        detach.undo(here, &Notes::default()).await.unwrap();
        assert_eq!(here.standing(detach).await, Standing::Absent);
        let parent = "select inhparent::regclass::text from pg_inherits where inhrelid = 'p1'::regclass";
        assert_eq!(watcher.query_one(parent, &[]).await.unwrap().get::<_, String>(0), "p");
    }
}

#[tokio::test]
async fn what_leaves_no_trace_is_run_once_and_remembered() {
    let (_pair, heres) = both("ddl_traceless").await;
    for here in &heres {
        afresh(here).await;
        let list = here.steps("vacuum t; refresh materialized view mv; select setval('sq', 7)").await;
        assert_eq!(list.len(), 3);
        here.forward(&list).await;
    }
}
