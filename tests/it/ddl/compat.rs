//! Views for old clients on live databases of the oldest and the newest major: a client that knows nothing of the plan goes on
//! before, between and after all of its statements, and nothing is left when it is finished.

use crate::support::{
    Majors, Pair,
    busy::Busy,
    installed,
    live::Live,
    run::{Desk, Invocation, Output, migrate},
};
use migrate::ddl::{SqlFile, compat, rewrite};
use migrate::step::ddl::{DdlStep, steps};
use std::time::{Duration, Instant};
use tokio_postgres::{Client, Statement};

const SCHEMA: &str = "
    do $$ begin create role compat_app; exception when duplicate_object then null; end $$;
    do $$ begin create role compat_stranger; exception when duplicate_object then null; end $$;
    create table t (id int primary key, name text not null default 'none', n int, gone text, at timestamptz not null default now());
    insert into t (id, name, n, gone) select n, 'row ' || n, n, 'gone ' || n from generate_series(1, 300) n;
    create table notes (k bigint generated always as identity primary key, body varchar(20), size int generated always as (length(body)) stored);
    insert into notes (body) values ('first');
    grant select, insert, update, delete on t, notes to compat_app;";

const SQL: &str = "
    alter table t rename column name to label;
    alter table t add column added int not null default 7;
    alter table t drop column gone;
    alter table t alter column n type bigint;
    alter table notes add column more text, drop column size;
    alter table t rename to things;
    alter table things rename column id to number;
    alter table notes alter column body type text;";

const OLD_CLIENT: &str = "set role compat_app; set search_path = migrate_compat_ours, public";

async fn planned(here: &Live) -> Vec<DdlStep> {
    let files = [SqlFile::new("a.sql", SQL)];
    let facts = here.facts().await;
    let mut list = rewrite(&files, Some(&facts));
    compat::add(&mut list, "ours", &files, Some(&facts));
    assert!(list.may_run(), "{:#?}", list.findings);
    steps(&list.statements)
}

/// A client of before, with all it ever asks prepared.
struct OldClient {
    client: Client,
    all: Statement,
    by_position: Statement,
    by_name: Statement,
    update: Statement,
    update_gone: Statement,
    delete: Statement,
    note: Statement,
    notes: Statement,
}

impl OldClient {
    async fn connect(here: &Live) -> OldClient {
        let client = here.bare().await;
        client.batch_execute(OLD_CLIENT).await.unwrap();
        let prepare = async |sql| client.prepare(sql).await.unwrap();
        OldClient {
            all: prepare("select * from t where id = $1").await,
            by_position: prepare("insert into t values ($1, $2, $3, $4, default)").await,
            by_name: prepare("insert into t (n, id) values ($1, $2) returning *").await,
            update: prepare("update t set name = $2, n = n + 1 where id = $1 returning n").await,
            update_gone: prepare("update t set gone = 'other', n = 5 where id = $1").await,
            delete: prepare("delete from t where id = $1 returning name").await,
            note: prepare("insert into notes (body) values ($1) returning *").await,
            notes: prepare("select * from notes where body = $1").await,
            client,
        }
    }

    /// Does all of it; `gone` is what it reads in the column that is dropped.
    async fn works(&self, round: i32, gone: Option<&str>) {
        let id = 10_000 + round;
        let row = async |id: i32| {
            let row = self.client.query_one(&self.all, &[&id]).await.unwrap();
            assert_eq!(
                row.columns().iter().map(|one| one.name()).collect::<Vec<_>>(),
                ["id", "name", "n", "gone", "at"]
            );
            let at: std::time::SystemTime = row.get(4);
            assert!(at.elapsed().unwrap() < Duration::from_secs(600));
            (row.get::<_, String>(1), row.get::<_, Option<i32>>(2), row.get::<_, Option<String>>(3))
        };
        let is = |text: &str, n, gone: Option<&str>| (text.to_owned(), Some(n), gone.map(str::to_owned));
        self.client.execute(&self.by_position, &[&id, &"mine", &round, &"here"]).await.unwrap();
        assert_eq!(row(id).await, is("mine", round, gone.map(|_| "here")));
        let updated = self.client.query_one(&self.update, &[&id, &"yours"]).await.unwrap();
        assert_eq!(updated.get::<_, i32>(0), round + 1);
        assert_eq!(self.client.execute(&self.update_gone, &[&id]).await.unwrap(), 1);
        assert_eq!(row(id).await, is("yours", 5, gone.map(|_| "other")));
        let other = id + 10_000;
        let given = self.client.query_one(&self.by_name, &[&round, &other]).await.unwrap();
        assert_eq!((given.get::<_, i32>(0), given.get::<_, String>(1)), (other, "none".to_owned()));
        for (id, name) in [(id, "yours"), (other, "none")] {
            let deleted = self.client.query(&self.delete, &[&id]).await.unwrap();
            assert_eq!(deleted.iter().map(|row| row.get(0)).collect::<Vec<String>>(), [name]);
        }
        // What is not prepared, and what touches no row.
        assert_eq!(self.client.execute(&self.update, &[&id, &"nobody"]).await.unwrap(), 0);
        let count = self
            .client
            .query_one(
                "select count(*) from t join notes on true where t.id = 7 and gone is not distinct from $1",
                &[&gone.map(|_| "gone 7")],
            )
            .await
            .unwrap();
        assert!(count.get::<_, i64>(0) > 0);
        let body = format!("note {round}");
        let noted = self.client.query_one(&self.note, &[&body]).await.unwrap();
        let read = self.client.query_one(&self.notes, &[&body]).await.unwrap();
        assert!(noted.get::<_, i64>(0) > 1);
        assert_eq!(noted.get::<_, i64>(0), read.get::<_, i64>(0));
        assert_eq!(noted.get::<_, Option<i32>>(2), read.get::<_, Option<i32>>(2));
    }
}

#[tokio::test]
async fn an_old_client_goes_on_before_between_and_after_all_statements() {
    let (_pair, heres) = Live::both("ddl_compat", SCHEMA).await;
    for here in &heres {
        let steps = planned(here).await;
        let old = OldClient::connect(here).await;
        old.works(0, Some("")).await;
        let busy = here.bare().await;
        busy.batch_execute(OLD_CLIENT).await.unwrap();
        let busy = Busy::begin(busy, |nth| {
            let id = 100_000 + nth;
            format!(
                "insert into t values ({id}, 'busy', 1, 'x', default); update t set n = n + 1 where id = {id}; \
                 update t set name = 'busier' where id = {id} and n = 2"
            )
        });
        let mut round = 1;
        for step in &steps {
            here.forward(std::slice::from_ref(step)).await;
            let is_there = "select exists (select from pg_attribute where attrelid = coalesce(to_regclass('public.t'), to_regclass('public.things')) and attname = 'gone' and not attisdropped)";
            let is_there: bool = here.client().await.query_one(is_there, &[]).await.unwrap().get(0);
            old.works(round, is_there.then_some("")).await;
            if step.online().sql.contains("migrate_compat_ours") {
                OldClient::connect(here).await.works(round + 1, is_there.then_some("")).await;
            }
            round += 2;
        }
        assert!(round > 20, "{round}");
        let written = busy.end(Duration::from_secs(10)).await;
        here.all_are_done(&steps).await;

        // New clients find what old ones wrote.
        let found = "select count(*)::text from things where number >= 100000 and label = 'busier' and n = 2 and added = 7";
        assert_eq!(here.texts(found).await, [written.to_string()]);
        assert_eq!(
            here.texts("select body from notes where more is null order by k limit 1").await,
            ["first"]
        );
        nothing_is_lost(here).await;
        rights_are_those_of_the_table(here).await;
    }
}

/// What an old client computes from a row that another has changed meanwhile is not written over it.
async fn nothing_is_lost(here: &Live) {
    let new = here.client().await;
    new.batch_execute("begin; update things set n = 100 where number = 1").await.unwrap();
    let old = here.bare().await;
    old.batch_execute(OLD_CLIENT).await.unwrap();
    let update = tokio::spawn(async move {
        let outcome = old.batch_execute("update t set n = n + 1 where id = 1").await;
        (old, outcome)
    });
    here.until(
        "the old client waits",
        "select exists (select from pg_locks where not granted and locktype = 'transactionid')",
    )
    .await;
    new.batch_execute("commit").await.unwrap();
    let (old, outcome) = update.await.unwrap();
    assert_eq!(outcome.unwrap_err().code().unwrap().code(), "40001");
    old.batch_execute("update t set n = n + 1 where id = 1").await.unwrap();
    assert_eq!(here.texts("select n::text from things where number = 1").await, ["101"]);
    // A key is changed like any other column, and one that is too big for the old type is the new clients' own.
    old.batch_execute("update t set id = -5, n = 3 where id = 2").await.unwrap();
    assert_eq!(here.texts("select n::text from things where number = -5").await, ["3"]);
}

async fn rights_are_those_of_the_table(here: &Live) {
    let stranger = here.bare().await;
    stranger
        .batch_execute("set role compat_stranger; set search_path = migrate_compat_ours, public")
        .await
        .unwrap();
    for sql in ["select * from t", "insert into t values (1)", "update t set n = 1", "delete from t"] {
        let refused = stranger.batch_execute(sql).await.unwrap_err();
        assert_eq!(refused.code().unwrap().code(), "42501", "{sql}");
    }
    let owner = here.client().await;
    owner.batch_execute("revoke update on things from compat_app").await.unwrap();
    let old = here.bare().await;
    old.batch_execute(OLD_CLIENT).await.unwrap();
    let refused = old.batch_execute("update t set name = 'x' where id = 3").await.unwrap_err();
    assert_eq!(refused.code().unwrap().code(), "42501");
    old.batch_execute("select * from t").await.unwrap();
}

const PLAN: &str = "version: 1\nname: ours\nkind: in_place\nblue: { url: \"${BLUE_URL}\" }\nschema: { sql: [a.sql], compat: views }\n";

const QUERIES: &str = "select * from t; insert into t values ($1, $2, $3, $4); update t set gone = $1, name = $2; delete from t where n = 1; select * from notes; insert into notes values (default, $1) returning *;";

struct Stage {
    desk: Desk,
    url: String,
}

impl Stage {
    fn new(url: String) -> Stage {
        let stage = Stage { desk: Desk::new("compat"), url };
        stage.desk.write("plan.yaml", PLAN);
        stage.desk.write("a.sql", SQL);
        stage.desk.write("queries.sql", QUERIES);
        stage
    }

    fn migrate(&self, args: &[&str]) -> Invocation {
        let pg_dump = installed::pg_dump_bin(Majors::NEWEST).expect("a pg_dump").join("pg_dump");
        migrate(args).within(self.desk.path()).env("BLUE_URL", &self.url).env("MIGRATE_PG_DUMP", pg_dump)
    }

    /// As soon as the servers have seen that the one before is dead.
    async fn after_a_death(&self, args: &[&str], fail_point: &str) -> Output {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let output = self.migrate(args).env("MIGRATE_FAIL_POINT", fail_point).run().await;
            if !output.stderr.contains("is at work on this migration") || Instant::now() > deadline {
                return output;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// The old version's queries through the views, after each statement.
    async fn rehearsal_finds_nothing(&self) {
        let rehearsed = self.migrate(&["--json", "rehearse", "plan.yaml", "--queries", "queries.sql"]);
        let report = rehearsed.deadline(Duration::from_secs(90)).run().await.expect(0).json();
        let findings: Vec<&str> =
            report["findings"].as_array().unwrap().iter().map(|one| one["code"].as_str().unwrap()).collect();
        assert!(findings.iter().all(|code| *code == "QUERIES_UNSEEN"), "{report:#}");
    }

    async fn client(&self) -> Client {
        crate::support::cluster::connect(&self.url).await.unwrap()
    }

    async fn schemas(&self) -> Vec<String> {
        let sql = "select nspname::text from pg_namespace where nspname ~ '^migrate' order by 1";
        self.client().await.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
    }
}

#[tokio::test]
async fn finish_leaves_nothing_of_the_views_and_drops_nothing_of_others() {
    let pair = Pair::fresh("ddl_compat_finish").await;
    for url in [pair.blue_url(), pair.green_url()] {
        let stage = Stage::new(url);
        let client = stage.client().await;
        client.batch_execute(SCHEMA).await.unwrap();

        let shown = stage.migrate(&["plan", "plan.yaml"]).run().await.expect(0).stdout;
        assert!(
            shown.contains("alter role OLD_CLIENT set search_path = migrate_compat_ours, public"),
            "{shown}"
        );
        assert!(shown.contains("public.t.gone is dropped: old clients read NULL"), "{shown}");
        if stage.url == pair.green_url() {
            stage.rehearsal_finds_nothing().await;
        }

        // Died between two statements, and in the middle of the views' first one.
        for point in ["ddl/make-the-views-for-old-clients:effected", "ddl/alter-things-rename-column:never"] {
            stage.after_a_death(&["apply", "plan.yaml"], point).await;
        }
        assert_eq!(stage.schemas().await, ["migrate", "migrate_compat_ours"]);
        let again = stage.migrate(&["apply", "plan.yaml"]).run().await.expect(0);
        assert!(again.stderr.contains("an earlier run has applied all of it"), "{}", again.stderr);

        // Something of somebody's in it, and something of somebody's on it.
        client.batch_execute("create table migrate_compat_ours.own (id int)").await.unwrap();
        let refused = stage.migrate(&["--yes", "finish", "plan.yaml"]).run().await.expect(3);
        assert!(
            refused.stderr.contains("table migrate_compat_ours.own depends on schema"),
            "{}",
            refused.stderr
        );
        client.batch_execute("drop table migrate_compat_ours.own; create view theirs as select id from migrate_compat_ours.t").await.unwrap();
        let refused = stage.migrate(&["--yes", "finish", "plan.yaml"]).run().await.expect(3);
        assert!(
            refused.stderr.contains("view public.theirs depends on view migrate_compat_ours.t"),
            "{}",
            refused.stderr
        );
        assert_eq!(stage.schemas().await, ["migrate", "migrate_compat_ours"]);
        client.batch_execute(&format!("drop view theirs; {OLD_CLIENT}; select * from t; reset role; reset search_path; do $$ begin execute format('alter role compat_app in database %I set search_path = migrate_compat_ours, public', current_database()); end $$")).await.unwrap();

        let died = stage.after_a_death(&["--yes", "finish", "plan.yaml"], "finish:views-dropped").await;
        assert!(
            died.stderr.contains("warning: the search_path of role compat_app in database"),
            "{}",
            died.stderr
        );
        assert_eq!(stage.schemas().await, ["migrate"]);
        stage.after_a_death(&["--yes", "finish", "plan.yaml"], "none").await.expect(0);
        assert_eq!(stage.schemas().await, Vec::<String>::new());
        let left = "select count(*) from pg_proc where proname ~ '_write$' and pronamespace > 16384";
        assert_eq!(client.query_one(left, &[]).await.unwrap().get::<_, i64>(0), 0);
        client.query("select number, label, n, added from things", &[]).await.unwrap();
    }
}
