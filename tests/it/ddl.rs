//! The rewritten list on live databases of the oldest and the newest major: who waits, what is left after a crash.

mod brownout;
mod columns;
mod compat;
mod form;
pub mod matrix;
mod objects;
pub mod pages;
mod proof;
mod surprises;

pub use form::forms;

use crate::support::{
    Pair,
    busy::Busy,
    live::{self, Live},
};
use migrate::{
    ddl::lock::LockMode,
    error::Kind,
    step::{Notes, Standing, Step},
};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio_postgres::Client;

const SCHEMA: &str = "
    create table r (id bigint primary key);
    insert into r select generate_series(1, 10);
    create table t (id bigint generated always as identity primary key, a int, b text, r_id bigint references r);
    insert into t (a, b, r_id) select n, 'row ' || n, 1 + n % 10 from generate_series(1, 40000) n;
    create index t_a on t (a);
    create unique index t_uq on t (b);
    create table p (id bigint, a int, primary key (id)) partition by range (id);
    create table p1 partition of p for values from (0) to (10000);
    create table sub partition of p for values from (10000) to (20000) partition by range (id);
    create table sub1 partition of sub for values from (10000) to (15000);
    create table sub2 partition of sub for values from (15000) to (20000);
    insert into p select n, n from generate_series(0, 19999) n;
    create index p_a on p (a);
    analyze;";

async fn both(name: &str) -> (Pair, [Live; 2]) {
    Live::both(name, SCHEMA).await
}

/// Every index as `name: valid: definition`.
async fn indexes(here: &Live) -> Vec<String> {
    here.texts(
        "select format('%s: %s: %s', indexrelid::regclass, indisvalid, pg_get_indexdef(indexrelid)) from pg_index
          where indrelid::regclass::text in ('t', 'p', 'p1', 'sub', 'sub1', 'sub2') order by 1",
    )
    .await
}

/// Strongest lock per table at least SHARE UPDATE EXCLUSIVE, as `table: mode`.
const LOCKS: &str = "
    select c.relname::text, array_agg(l.mode) from pg_locks l join pg_class c on c.oid = l.relation
     where l.pid = pg_backend_pid() and l.locktype = 'relation' and c.relkind in ('r', 'p', 'v')
       and c.relnamespace = 'public'::regnamespace and c.oid < $1
     group by 1";

#[tokio::test]
async fn brief_statements_take_the_locks_told_and_neither_scan_nor_rewrite() {
    let (_pair, heres) = both("ddl_locks").await;
    let cases = [
        "alter table t add column n int, add column m text not null default 'x'",
        "alter table t add column n timestamptz not null default now()",
        "alter table t alter a set default 5",
        "alter table t alter a drop not null",
        "alter table t alter a set statistics 10",
        "alter table t set (fillfactor = 70)",
        "alter table t drop column a",
        "alter table t rename column a to c",
        "alter table t rename to t2",
        "alter table t add constraint k check (a > 0) not valid",
        "alter table t add constraint k foreign key (a) references r (id) not valid",
        "alter table t validate constraint t_r_id_fkey",
        "alter table t drop constraint t_r_id_fkey",
        "alter table t add constraint k unique using index t_uq",
        "alter table t replica identity full",
        "alter table p add column n int",
        "create index i on only p (a)",
        "drop index p_a",
        "create table n (id int primary key, r_id bigint references r)",
        "create view v as select a from t",
        "comment on table t is 'x'",
        "create type mood as enum ('a'); alter table t add column m mood not null default 'a'",
    ];
    for here in &heres {
        for sql in cases {
            let client = here.client().await;
            let newest: u32 = client
                .query_one("select (max(oid::bigint) + 1)::oid from pg_class", &[])
                .await
                .unwrap()
                .get(0);
            let files = "select string_agg(oid || ':' || relfilenode, ',' order by oid) from pg_class where relkind in ('r', 'i') and oid < $1 and relnamespace = 'public'::regnamespace and relname <> 't2'";
            for step in here.online(sql).await.iter().filter(|step| step.transactional) {
                client.batch_execute("begin").await.unwrap();
                let before: String = client.query_one(files, &[&newest]).await.unwrap().get(0);
                client.batch_execute(&step.sql).await.unwrap();
                let renamed = |name: &str| {
                    if sql.ends_with("to t2") && name == "t2" { "t".into() } else { name.to_owned() }
                };
                let mut taken: BTreeMap<String, LockMode> = BTreeMap::new();
                for row in client.query(LOCKS, &[&newest]).await.unwrap() {
                    let modes: Vec<&str> = row.get(1);
                    taken.extend(live::strongest(modes).map(|mode| (renamed(row.get(0)), mode)));
                }
                assert_eq!(taken, live::told(step), "{sql}");
                let read: i64 = client
                    .query_one("select coalesce(sum(seq_tup_read), 0)::bigint from pg_stat_xact_user_tables where relname in ('t', 'p1', 'sub1', 'sub2')", &[])
                    .await
                    .unwrap()
                    .get(0);
                assert!(step.cost.scan || read == 0, "{sql} read {read} rows");
                let after: String = client.query_one(files, &[&newest]).await.unwrap().get(0);
                if !sql.contains("drop") && !sql.contains("to t2") {
                    assert_eq!(after, before, "{sql} rewrote something");
                }
                // The next one of the same case may build on it.
            }
            client.batch_execute("rollback").await.unwrap();
        }
    }
}

/// Writes to `t` and `p`.
fn write(count: i64) -> String {
    format!(
        "insert into t (a, b, r_id) values ({count}, 'new {count}', 1); update p set a = a + 1 where id = {}; select 1 from t where a = 7",
        count % 20_000
    )
}

/// Locks that writers wait for, seen on tables while one of our long statements runs.
async fn sample(client: Client, stop: Arc<AtomicBool>) -> Vec<String> {
    let sql = "select distinct l.mode || ' on ' || c.relname || ': ' || a.query
                 from pg_locks l join pg_class c on c.oid = l.relation join pg_stat_activity a on a.pid = l.pid
                where l.granted and c.relkind in ('r', 'p') and c.relnamespace = 'public'::regnamespace
                  and l.mode in ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
                  and a.query ~* 'concurrently'";
    let mut seen = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        seen.extend(client.query(sql, &[]).await.unwrap().iter().map(|row| row.get::<_, String>(0)));
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    seen
}

#[tokio::test]
async fn writers_go_on_while_a_whole_list_runs() {
    let (_pair, heres) = both("ddl_writers").await;
    for here in &heres {
        let list = here
            .steps(
                "begin; create index t_b on t (b, a); create unique index p_ia on p (id, a); drop index if exists t_uq;
                 drop index t_a; create index t_a on t (a, id); drop index p_a; create index p_a on p (a, id);
                 reindex index t_b; reindex table t; alter table t add column n int; create index on t (n, lower(b));
                 alter table t add constraint k check (a > -1); alter table t add constraint f foreign key (r_id) references r (id); commit",
            )
            .await;
        let stop = Arc::new(AtomicBool::new(false));
        let writer = Busy::begin(here.client().await, write);
        let sampler = tokio::spawn(sample(here.client().await, stop.clone()));
        here.forward(&list).await;
        stop.store(true, Ordering::Relaxed);
        writer.end(Duration::from_secs(5)).await;
        assert_eq!(sampler.await.unwrap(), Vec::<String>::new());
        let indexes = indexes(here).await;
        assert!(indexes.iter().all(|index| index.contains(": t: ")), "{indexes:?}");
        for wanted in [
            "t_a ON public.t USING btree (a, id)",
            "p_a ON ONLY public.p USING btree (a, id)",
            "t_n_lower_idx",
            "p_ia ON ONLY public.p",
        ] {
            assert!(indexes.iter().any(|index| index.contains(wanted)), "{wanted}: {indexes:?}");
        }
        assert!(
            !indexes.iter().any(|index| index.contains("t_uq")
                || index.contains("t_a__new")
                || index.starts_with("p_a__new")),
            "{indexes:?}"
        );
        here.all_are_done(&list).await;
    }
}

#[tokio::test]
async fn a_list_is_taken_back_to_where_it_began() {
    let (_pair, heres) = both("ddl_undo").await;
    for here in &heres {
        let before = indexes(here).await;
        let list = here
            .steps("drop index t_a; create index t_a on t (a, id); create index p_ia on p (id, a); drop index t_uq; reindex index t_pkey")
            .await;
        here.forward(&list).await;
        assert_ne!(indexes(here).await, before);
        for step in list.iter().rev() {
            step.undo(here, &Notes::default()).await.unwrap();
            step.undo(here, &Notes::default()).await.unwrap();
            assert_eq!(here.standing(step).await, Standing::Absent, "{}", step.online().title);
        }
        assert_eq!(indexes(here).await, before);
        assert_eq!(here.texts("select object from migrate.manifest").await, Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_killed_build_is_healed_and_a_build_that_outlived_us_is_waited_for() {
    let (_pair, heres) = both("ddl_killed").await;
    for here in &heres {
        let list = here.steps("create unique index if not exists t_b on t (b, a)").await;
        let invalid =
            "select exists (select from pg_index where indexrelid = to_regclass('t_b') and not indisvalid)";
        let writer = here.client().await;
        let hold = "begin; update t set a = a where id = 1";

        writer.batch_execute(hold).await.unwrap();
        let killed = tokio::join!(here.apply(&list[0]), async {
            here.until("the INVALID index", invalid).await;
            let kill = "select pg_terminate_backend(pid) from pg_stat_activity where application_name like '%ddl build'";
            here.client().await.batch_execute(kill).await.unwrap();
        });
        assert_eq!(killed.0.unwrap_err().kind, Kind::Server);
        assert_eq!(here.standing(&list[0]).await, Standing::Absent);

        // As after kill -9 of ours: the server still builds.
        writer.batch_execute("commit").await.unwrap();
        here.client().await.batch_execute("drop index t_b").await.unwrap();
        writer.batch_execute(hold).await.unwrap();
        let orphan = here.client().await;
        let orphan = tokio::spawn(async move {
            orphan.batch_execute("create unique index concurrently t_b on t (b, a)").await.unwrap();
        });
        here.until("the orphan's index", invalid).await;
        let (applied, ()) = tokio::join!(here.apply(&list[0]), async {
            tokio::time::sleep(Duration::from_millis(1500)).await;
            writer.batch_execute("commit").await.unwrap();
        });
        applied.unwrap();
        orphan.await.unwrap();
        assert_eq!(here.standing(&list[0]).await, Standing::Present);
        assert!(here.warned("is being built by pid"));

        // A leftover that nobody builds any more is dropped, and building waits for whoever writes, by name.
        let client = here.client().await;
        client.batch_execute("drop index t_b; insert into t (a, b) values (1, 'row 1') ").await.unwrap_err();
        client
            .batch_execute(
                "drop index if exists t_b; drop index t_uq; insert into t (a, b) values (1, 'row 1')",
            )
            .await
            .unwrap();
        client.batch_execute("create unique index concurrently t_b on t (b, a)").await.unwrap_err();
        client.batch_execute("delete from t where b = 'row 1'").await.unwrap();
        assert_eq!(here.standing(&list[0]).await, Standing::Absent);
        writer.batch_execute(hold).await.unwrap();
        let (applied, ()) = tokio::join!(here.apply(&list[0]), async {
            tokio::time::sleep(Duration::from_millis(1500)).await;
            writer.batch_execute("commit").await.unwrap();
        });
        applied.unwrap();
        assert_eq!(here.standing(&list[0]).await, Standing::Present);
        assert!(here.warned("for the transaction of pid"), "{:?}", here.heard());
    }
}

#[tokio::test]
async fn a_build_that_meets_duplicates_leaves_nothing_behind() {
    let (_pair, heres) = both("ddl_duplicates").await;
    for here in &heres {
        let list = here.steps("create unique index t_dup on t (r_id)").await;
        let error = here.apply(&list[0]).await.unwrap_err();
        assert!(error.chain().iter().any(|line| line.contains("23505")), "{:?}", error.chain());
        assert!(error.what.contains("a.sql:1:1"), "{}", error.what);
        assert!(!indexes(here).await.iter().any(|index| index.contains("t_dup")));
        let taken = here.steps("create index if not exists t_x on t (a)").await;
        here.client().await.batch_execute("create index t_x on r (id)").await.unwrap();
        assert!(matches!(here.standing(&taken[0]).await, Standing::Conflict(_)));
    }
}

#[tokio::test]
async fn a_brief_lock_waits_for_a_long_reader_without_holding_up_others() {
    let (_pair, heres) = both("ddl_brief").await;
    for here in &heres {
        let list = here.steps("alter table t add column n int not null default 5").await;
        let reader = here.client().await;
        reader.batch_execute("begin; select count(*) from t").await.unwrap();
        tokio::time::sleep(Duration::from_millis(1100)).await;
        let other = here.client().await;
        let (applied, longest) = tokio::join!(here.apply(&list[0]), async {
            let (began, mut longest) = (Instant::now(), Duration::ZERO);
            while began.elapsed() < Duration::from_secs(3) {
                let asked = Instant::now();
                other.batch_execute("select 1 from t limit 1").await.unwrap();
                longest = longest.max(asked.elapsed());
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            reader.batch_execute("commit").await.unwrap();
            longest
        });
        applied.unwrap();
        assert!(longest < Duration::from_millis(1500), "{longest:?}");
        assert!(here.warned("holds AccessShareLock on public.t"), "{:?}", here.heard());
        assert_eq!(here.standing(&list[0]).await, Standing::Present);
        // Exactly once: the record is in the statement's own transaction.
        assert!(here.apply(&list[0]).await.is_err());
    }
}
