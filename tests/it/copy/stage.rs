//! A pair with our state on green, and what the copy's tests do with it.

use crate::support::Pair;
use migrate::copy::builds::Builds;
use migrate::copy::cutting::Chunking;
use migrate::copy::pg_dump::{self, PgDump};
use migrate::copy::rebuild::{self, Extent, RebuildSpec};
use migrate::copy::rows::{self, CopySpec, CopyTable, CopyTotals};
use migrate::copy::throttle::{HELD_MAX, Throttling};
use migrate::copy::{deferred, schema};
use migrate::error::Error;
use migrate::event::{Deaf, Ears, Event, Listener};
use migrate::pg::connect::connect;
use migrate::pg::conninfo::ConnInfo;
use migrate::pg::name::{Ident, TableName};
use migrate::plan::Throttle;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;
use tokio_postgres::Client;

pub const EPOCH: i64 = 7;
pub const ATTEMPT: i32 = 1;
const REBUILD: RebuildSpec =
    RebuildSpec { attempt: ATTEMPT, epoch: EPOCH, workers: 3, memory_bytes: 64 << 20 };

/// One of each thing that a copy stumbles over.
pub const SHAPES: &str = include_str!("shapes.sql");

/// Blue and green with our state on green, and pinned sessions on both.
pub struct Stage {
    pub pair: Pair,
    pub blue_info: ConnInfo,
    pub green_info: ConnInfo,
    pub blue: Client,
    pub green: Client,
    pub pg_dump: PgDump,
}

impl Stage {
    pub async fn set(name: &str) -> Stage {
        Stage::on(Pair::fresh(name).await).await
    }

    /// After a server was killed and started again.
    pub async fn connect_again(&mut self) {
        self.blue = connect(&self.blue_info, "test").await.unwrap();
        self.green = connect(&self.green_info, "test").await.unwrap();
    }

    pub async fn on(pair: Pair) -> Stage {
        let blue_info = ConnInfo::parse(&pair.blue_url()).unwrap();
        let green_info = ConnInfo::parse(&pair.green_url()).unwrap();
        let blue = connect(&blue_info, "test").await.unwrap();
        let green = connect(&green_info, "test").await.unwrap();
        green.batch_execute(include_str!("../../../sql/state/create_blue.sql")).await.unwrap();
        green.batch_execute(include_str!("../../../sql/state/create_green.sql")).await.unwrap();
        green
            .execute("insert into migrate.lease (epoch, holder) values ($1, 'the test')", &[&EPOCH])
            .await
            .unwrap();
        let pg_dump = pg_dump::find(15).await.unwrap();
        Stage { pair, blue_info, green_info, blue, green, pg_dump }
    }

    pub async fn clone_schema(&self) -> Result<(), Error> {
        let spec = schema::CloneSpec { epoch: EPOCH, deadline: Duration::from_secs(60) };
        schema::clone(&self.pg_dump, &self.blue_info, &self.green_info, spec, &deaf()).await
    }

    /// Every table with rows of its own, as facts would give it.
    pub async fn tables(&self) -> Vec<CopyTable> {
        let rows = self
            .blue
            .query(
                "select n.nspname::text, c.relname::text, pg_table_size(c.oid),
                        array(select attname::text from pg_attribute
                               where attrelid = c.oid and attnum > 0 and not attisdropped and attgenerated = ''
                               order by attnum)
                   from pg_class c join pg_namespace n on n.oid = c.relnamespace
                  where c.relkind = 'r' and n.nspname not in ('pg_catalog', 'information_schema', 'migrate')",
                &[],
            )
            .await
            .unwrap();
        rows.iter()
            .map(|row| {
                let name = TableName::new(row.get::<_, String>(0), row.get::<_, String>(1));
                let columns = row.get::<_, Vec<String>>(3).into_iter().map(Ident::new).collect();
                let bytes = u64::try_from(row.get::<_, i64>(2)).unwrap();
                CopyTable {
                    blue: name.clone(),
                    green: name,
                    columns,
                    mapping: None,
                    bytes,
                    chunking: Chunking::No,
                }
            })
            .collect()
    }

    pub async fn spec(&self) -> CopySpec {
        CopySpec {
            blue: self.blue_info.clone(),
            green: self.green_info.clone(),
            tables: self.tables().await,
            workers: 3,
            attempt: ATTEMPT,
            epoch: EPOCH,
            throttle: unthrottled(),
            builds: Arc::new(Builds::open(&self.green_info, REBUILD, [], deaf()).await.unwrap()),
        }
    }

    pub async fn copy(&self) -> Result<CopyTotals, Error> {
        rows::copy(self.spec().await, deaf()).await
    }

    /// Every table's digest, whatever the order of rows, on one side.
    pub async fn digests(&self, side: &Client) -> Vec<(String, String)> {
        let mut digests = Vec::new();
        for table in self.tables().await {
            let columns: Vec<String> = table.columns.iter().map(Ident::to_string).collect();
            // Over 1600 arguments a row constructor is refused; 500 are fine.
            let row =
                if columns.is_empty() { "row()".to_owned() } else { format!("row({})", columns.join(",")) };
            let sql = format!(
                "select count(*) || ' ' || coalesce(sum(hashtextextended({row}::text, 0)), 0) from only {}",
                table.blue
            );
            let digest: String = side.query_one(&sql, &[]).await.unwrap().get(0);
            digests.push((table.blue.plain(), digest));
        }
        digests.sort();
        digests
    }

    pub async fn count(&self, side: &Client, sql: &str) -> i64 {
        side.query_one(sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error:?}")).get(0)
    }
}

/// A spec in which a table of `public` is so large that it is cut.
pub fn in_pieces(mut spec: CopySpec, table: &str) -> CopySpec {
    for table in spec.tables.iter_mut().filter(|it| it.blue.name.as_str() == table) {
        table.bytes = 1 << 30;
    }
    spec
}

/// A spec in which a table of `public` is copied in a few ranges of its key.
pub fn in_ranges(mut spec: CopySpec, table: &str) -> CopySpec {
    for table in spec.tables.iter_mut().filter(|it| it.blue.name.as_str() == table) {
        table.chunking = Chunking::Must(table.bytes / 8);
    }
    spec
}

/// No limits, and none to come.
pub fn unthrottled() -> Throttling {
    throttled(Throttle::default()).1
}

/// Limits that may be changed.
pub fn throttled(limits: Throttle) -> (watch::Sender<Throttle>, Throttling) {
    let (change, limits) = watch::channel(limits);
    (change, Throttling { limits, held_max: HELD_MAX })
}

pub fn deaf() -> Ears {
    Arc::new(Deaf)
}

/// Indexes and constraints as the server tells them, with all that can be lost on the way.
pub const DEFINITIONS: &str = "
    select coalesce(string_agg(line, E'\n' order by line collate \"C\"), '') from (
        select pg_get_indexdef(x.indexrelid) || ' valid ' || x.indisvalid || ' clustered ' || x.indisclustered
               || ' replident ' || x.indisreplident || ' child of ' || coalesce((select inhparent::regclass::text from pg_inherits where inhrelid = x.indexrelid), 'none')
               || ' targets ' || array(select attstattarget from pg_attribute where attrelid = x.indexrelid and attstattarget >= 0)::text
               || ' comment ' || coalesce(obj_description(x.indexrelid, 'pg_class'), '') as line
          from pg_index x join pg_class c on c.oid = x.indexrelid
         where c.relnamespace::regnamespace::text !~ '^(pg_|information_schema|migrate)'
        union all
        select conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(k.oid) || ' valid ' || convalidated
               || ' local ' || conislocal || ' inherited ' || coninhcount || ' comment ' || coalesce(obj_description(k.oid, 'pg_constraint'), '')
          from pg_constraint k
         where contype <> 'n' and connamespace::regnamespace::text !~ '^(pg_|information_schema|migrate)'
        union all
        select attrelid::regclass || '.' || attname || ' not null'
          from pg_attribute a join pg_class c on c.oid = a.attrelid
         where attnotnull and attnum > 0 and relkind in ('r', 'p') and relnamespace::regnamespace::text !~ '^(pg_|information_schema|migrate)') as lines (line)";

impl Stage {
    pub async fn definitions(&self) -> String {
        self.green.query_one(DEFINITIONS, &[]).await.unwrap().get(0)
    }

    pub async fn defer(&self) -> u64 {
        let tables: Vec<TableName> = self.tables().await.into_iter().map(|table| table.green).collect();
        deferred::defer(&self.green_info, &tables, ATTEMPT, EPOCH).await.unwrap()
    }

    pub async fn rebuild_unproved(&self) -> Result<u64, Error> {
        rebuild::rebuild(&self.green_info, REBUILD, Extent::Unproved, &deaf()).await
    }

    pub async fn rebuild(&self) -> Result<u64, Error> {
        rebuild::rebuild(&self.green_info, REBUILD, Extent::Whole, &deaf()).await
    }
}

pub fn similar(before: &str, after: &str) {
    let only = |one: &str, other: &str| -> Vec<String> {
        one.lines().filter(|line| !other.lines().any(|it| it == *line)).map(str::to_owned).collect()
    };
    assert!(before == after, "lost: {:#?}\nnew: {:#?}", only(before, after), only(after, before));
}

/// Keeps what it hears.
#[derive(Default)]
pub struct Notebook(pub Mutex<Vec<Event>>);

impl Listener for Notebook {
    fn tell(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }
}

/// A table that green takes slowly, so that there is a middle of the copy to break into. Half of it, a piece, is more than the sockets
/// on the way may hold (tens of megabytes, when the kernel lets them grow): what fits there is the end of the copy for blue.
pub const SLOW: &str = "
    create table public.slow (id int primary key, body text);
    alter table public.slow alter column body set storage external;
    insert into public.slow select n, repeat(md5(n::text), 900) from generate_series(1, 3000) as n;";
pub const SLOW_DOWN: &str = "
    create function public.sleep() returns trigger language plpgsql as $$ begin perform pg_sleep(0.01); return new; end $$;
    create trigger sleep before insert on public.slow for each row execute function public.sleep();
    alter table public.slow enable replica trigger sleep;";

impl Stage {
    pub async fn slow(name: &str) -> Stage {
        let stage = Stage::set(name).await;
        stage.blue.batch_execute(SLOW).await.unwrap();
        stage.clone_schema().await.unwrap();
        stage.green.batch_execute(SLOW_DOWN).await.unwrap();
        stage
    }

    pub async fn until_copying(&self) {
        let copying = "select count(*) from pg_stat_progress_copy where bytes_processed > 0";
        for _ in 0..200 {
            if self.count(&self.blue, copying).await > 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("no copy has begun");
    }

    pub async fn sessions_of_copy(&self) -> i64 {
        let sessions = "select count(*) from pg_stat_activity where application_name like 'migrate 7: copy%'";
        self.count(&self.blue, sessions).await + self.count(&self.green, sessions).await
    }
}
