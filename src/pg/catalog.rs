//! Reads the facts of a database from its catalogs.

use super::name::TableName;
use crate::{
    error::{Doing, Error, Kind, Result},
    facts::{Ours, Sequence, ServerFacts, ShapeKind, ShapeLine, Table, TableKind},
    plan::{Side, TableSelection},
};
use serde::de::DeserializeOwned;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio_postgres::Client;

const SERVER: &str = include_str!("../../sql/facts/read_server.sql");
const LISTS: &str = include_str!("../../sql/facts/read_lists.sql");
const SURROUNDINGS: &str = include_str!("../../sql/facts/read_surroundings.sql");
const OBJECTS: &str = include_str!("../../sql/facts/read_objects.sql");
const TABLES: &str = include_str!("../../sql/facts/read_tables.sql");
const SEQUENCES: &str = include_str!("../../sql/facts/read_sequences.sql");
const LIST_SHAPE: &str = include_str!("../../sql/facts/list_shape.sql");
const OURS: &str = include_str!("../../sql/facts/read_ours.sql");
const ATTEMPT: &str = include_str!("../../sql/facts/read_attempt.sql");
const UNCLAIMED: &str = include_str!("../../sql/facts/find_unclaimed.sql");
const SEE_LOCK: &str = include_str!("../../sql/facts/see_lock.sql");

/// How long all reading may take; the server ends a single statement after half of it.
const READ_DEADLINE: Duration = Duration::from_secs(60);
/// Tables asked for a first row in one statement.
const ROWS_BATCH: usize = 100;

/// Up to this size a table of blue is asked for a first row too.
const SMALL_TABLE_BYTES: u64 = 1 << 20;

/// Asking for sizes takes ACCESS SHARE, so somebody's ACCESS EXCLUSIVE would hold us up: not for long.
const BEGIN: &str = "begin isolation level repeatable read read only; \
    set local statement_timeout = '30s'; set local lock_timeout = '5s'; set local search_path = ''";

/// Reads everything a plan or a check needs to know of a database, in one snapshot, changing nothing.
///
/// All tables are read, since unselected ones matter too (foreign keys, typos in a pattern); `selection` says which go
/// into the fingerprint and which are asked whether they have a row. The connection must not be inside a
/// transaction; when this future is dropped midway, the connection is left in one and must be closed.
///
/// # Errors
/// [`Kind::Server`] when a query fails, [`Kind::Deadline`] after a minute. Nothing is ever changed.
pub async fn read(client: &Client, side: Side, selection: &TableSelection) -> Result<ServerFacts> {
    let reading = async {
        client.batch_execute(BEGIN).await.doing(Kind::Server, || format!("cannot begin to read {side}"))?;
        let facts = read_in_transaction(client, side, selection).await;
        let ended = client.batch_execute("rollback").await;
        let facts = facts?;
        ended.doing(Kind::Server, || format!("cannot end reading {side}"))?;
        Ok(facts)
    };
    match tokio::time::timeout(READ_DEADLINE, reading).await {
        Ok(facts) => facts,
        Err(_) => Err(Error::new(Kind::Deadline, format!("{side} did not give its facts within a minute"))
            .hint("look for long locks on its catalogs, and at the network between")),
    }
}

async fn read_in_transaction(client: &Client, side: Side, selection: &TableSelection) -> Result<ServerFacts> {
    let mut parts = read_object(client, side, SERVER).await?;
    parts.append(&mut read_object(client, side, LISTS).await?);
    parts.append(&mut read_object(client, side, SURROUNDINGS).await?);
    parts.insert("clock_ahead_ms".into(), clock_ahead_ms(client, side).await?.into());
    parts.insert("tables".into(), serde_json::Value::Array(Vec::new()));
    parts.insert("sequences".into(), serde_json::Value::Array(Vec::new()));
    parts.insert("ddl_fingerprint".into(), "".into());
    parts.insert("objects".into(), serde_json::Value::Object(read_object(client, side, OBJECTS).await?));
    let mut facts: ServerFacts = serde_json::from_value(serde_json::Value::Object(parts))
        .doing(Kind::Bug, || format!("the facts of {side} are not of the expected shape"))?;
    facts.tables = read_rows::<Table>(client, side, TABLES).await?;
    facts.sequences = read_rows::<Sequence>(client, side, SEQUENCES).await?;
    facts.ours = read_ours(client, side).await?;
    let selected: Vec<TableName> = facts
        .tables
        .iter()
        .filter(|table| selection.selects(&table.name))
        .map(|table| table.name.clone())
        .collect();
    facts.ddl_fingerprint = ddl_fingerprint(client, &selected).await?;
    let asked = facts.tables.iter_mut().filter(|table| {
        // Finding out that a big table is empty may mean to read it whole, which is not done to blue. With
        // `row_security = off` a table that hides rows from us answers with an error.
        table.kind == TableKind::Plain
            && table.readable
            && (side == Side::Green || table.heap_bytes <= SMALL_TABLE_BYTES)
            && !table.row_security
            && selection.selects(&table.name)
    });
    read_first_rows(client, side, asked.collect()).await?;
    Ok(facts)
}

/// By how much the server's clock is ahead of this machine's, as it was in the middle of the round trip.
async fn clock_ahead_ms(client: &Client, side: Side) -> Result<i64> {
    const SQL: &str = "select (extract(epoch from clock_timestamp()) * 1000)::bigint";
    let (asked_at, asked) = (SystemTime::now(), Instant::now());
    let row =
        client.query_one(SQL, &[]).await.doing(Kind::Server, || format!("{side} does not tell the time"))?;
    let ours = asked_at + asked.elapsed() / 2;
    let since_epoch = ours.duration_since(UNIX_EPOCH).unwrap_or_default();
    let ours_ms = i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX);
    Ok(row.get::<_, i64>(0) - ours_ms)
}

async fn read_object(
    client: &Client,
    side: Side,
    sql: &str,
) -> Result<serde_json::Map<String, serde_json::Value>> {
    let row = client.query_one(sql, &[]).await.doing(Kind::Server, || cannot_read(side, sql))?;
    parse_facts(side, row.get(0))
}

async fn read_rows<T: DeserializeOwned>(client: &Client, side: Side, sql: &str) -> Result<Vec<T>> {
    let rows = client.query(sql, &[]).await.doing(Kind::Server, || cannot_read(side, sql))?;
    rows.iter().map(|row| parse_facts(side, row.get(0))).collect()
}

fn parse_facts<T: DeserializeOwned>(side: Side, text: &str) -> Result<T> {
    serde_json::from_str(text)
        .doing(Kind::Bug, || format!("the facts of {side} are not of the expected shape: {text}"))
}

/// Names the query by the first line of its file.
fn cannot_read(side: Side, sql: &str) -> String {
    let title = sql.lines().next().and_then(|line| line.strip_prefix("-- ")).unwrap_or("facts");
    format!("cannot read {side} ({title})")
}

async fn read_ours(client: &Client, side: Side) -> Result<Option<Ours>> {
    let there = client
        .query_one(
            "select to_regnamespace('migrate') is not null, to_regclass('migrate.identity') is not null, \
             to_regclass('migrate.attempt') is not null",
            &[],
        )
        .await
        .doing(Kind::Server, || format!("cannot look for schema migrate on {side}"))?;
    let (schema, identity, attempt): (bool, bool, bool) = (there.get(0), there.get(1), there.get(2));
    if !schema || has_unclaimed_schema(client, side).await? {
        return Ok(None);
    }
    let mut ours = Ours::default();
    if identity {
        let row = client.query_opt(OURS, &[]).await.doing(Kind::Server, || cannot_read(side, OURS))?;
        if let Some(row) = row {
            ours.side = row.get(0);
            ours.plan = row.get(1);
            ours.nonce = row.get(2);
        }
    }
    if attempt {
        let row = client.query_opt(ATTEMPT, &[]).await.doing(Kind::Server, || cannot_read(side, ATTEMPT))?;
        ours.attempt = row.and_then(|row| u32::try_from(row.get::<_, i32>(0)).ok());
    }
    Ok(Some(ours))
}

/// Whether schema `migrate` is one that we made and never said whose it is: the maker died in between. Nothing was
/// done yet then, since all that is ours is done under the lease, whose table is empty.
///
/// # Errors
/// [`Kind::Server`] when a query fails.
pub async fn has_unclaimed_schema(client: &Client, side: Side) -> Result<bool> {
    let doing = || format!("cannot look for schema migrate on {side}");
    let made = "select to_regclass('migrate.identity') is not null and to_regclass('migrate.lease') is not null \
                and to_regclass('migrate.gate') is not null and to_regprocedure('migrate.gate_check()') is not null";
    let made: bool = client.query_one(made, &[]).await.doing(Kind::Server, doing)?.get(0);
    if !made {
        return Ok(false);
    }
    Ok(client.query_one(UNCLAIMED, &[]).await.doing(Kind::Server, doing)?.get(0))
}

/// Asks tables that hold rows of their own for a first row.
async fn read_first_rows(client: &Client, side: Side, mut asked: Vec<&mut Table>) -> Result<()> {
    for batch in asked.chunks_mut(ROWS_BATCH) {
        let questions: Vec<String> =
            batch.iter().map(|table| format!("exists (select from only {})", table.name)).collect();
        let row = client
            .query_one(&format!("select array[{}]", questions.join(", ")), &[])
            .await
            .doing(Kind::Server, || format!("cannot ask tables of {side} for a first row"))?;
        let answers: Vec<bool> = row.get(0);
        for (table, answer) in batch.iter_mut().zip(answers) {
            table.has_rows = Some(answer);
        }
    }
    Ok(())
}

/// A digest of the shape of these tables and of what hangs on them: columns, constraints, indexes, triggers, rules,
/// partitions, enums, domains. It says whether *this* side changed since; two servers' digests never compare. The
/// gate's own triggers are left out.
///
/// # Errors
/// [`Kind::Server`] when the query fails.
pub async fn ddl_fingerprint(client: &Client, tables: &[TableName]) -> Result<String> {
    let schemas: Vec<&str> = tables.iter().map(|table| table.schema.as_str()).collect();
    let names: Vec<&str> = tables.iter().map(|table| table.name.as_str()).collect();
    // Taken on the server: inside the fence there is no time to carry the lines.
    let digest = format!(
        "select coalesce(md5(string_agg(line, e'\\n' order by line collate \"C\")), md5('')) as fingerprint
           from (select array_to_string(array[kind, relation, object] || detail, '|', '~') as line from ({LIST_SHAPE}) as shape) as lines"
    );
    let row = client
        .query_one(&digest, &[&schemas, &names])
        .await
        .doing(Kind::Server, || "cannot take the DDL fingerprint".into())?;
    Ok(row.get(0))
}

/// The lines that [`ddl_fingerprint`] is the digest of.
///
/// # Errors
/// [`Kind::Server`] when the query fails.
pub async fn shape(client: &Client, tables: &[TableName]) -> Result<Vec<ShapeLine>> {
    let schemas: Vec<&str> = tables.iter().map(|table| table.schema.as_str()).collect();
    let names: Vec<&str> = tables.iter().map(|table| table.name.as_str()).collect();
    let rows = client
        .query(LIST_SHAPE, &[&schemas, &names])
        .await
        .doing(Kind::Server, || "cannot read the shape of the tables".into())?;
    rows.iter()
        .map(|row| {
            let kind = ShapeKind::parse(row.get("kind"))
                .ok_or_else(|| Error::new(Kind::Bug, "a part of a table's shape is of no known kind"))?;
            let (relation, object, detail) = (row.get("relation"), row.get("object"), row.get("detail"));
            Ok(ShapeLine { kind, relation, object, detail })
        })
        .collect()
}

/// Whether two connections lead to the same database: a lock with a random key is taken on one and looked for on the
/// other. Neither host names nor system identifiers can prove that: a pooler hides the first, a physical clone shares
/// the second. Both must be direct connections or a pooler's session mode.
///
/// # Errors
/// [`Kind::Server`] when a query fails. The lock ends with the question, or with the connection.
pub async fn same_database(a: &Client, b: &Client) -> Result<bool> {
    let (high, low): (i32, i32) = (rand::random(), rand::random());
    let asking = "cannot ask whether blue and green are one database";
    a.query_one("select pg_catalog.pg_advisory_lock($1, $2)", &[&high, &low])
        .await
        .doing(Kind::Server, || asking.into())?;
    let seen = b.query_one(SEE_LOCK, &[&high, &low]).await;
    let freed = a.query_one("select pg_catalog.pg_advisory_unlock($1, $2)", &[&high, &low]).await;
    let seen = seen.doing(Kind::Server, || asking.into())?;
    freed.doing(Kind::Server, || asking.into())?;
    Ok(seen.get(0))
}
