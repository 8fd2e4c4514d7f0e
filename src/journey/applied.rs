//! Which migrations of a directory have been run: what the tool that owns it wrote down on the database. Read only.

use super::session;
use crate::{
    ddl::directory::{Applied, Tool},
    error::{Doing, Error, Kind, Result},
    pg::conninfo::ConnInfo,
    plan::{Plan, Side},
};
use tokio_postgres::{Client, Row};

/// Where a tool keeps its record.
struct Record {
    table: &'static str,
    /// Text columns of the versions that were run; for [`Tool::GolangMigrate`] the last one, and whether it failed.
    query: &'static str,
}

/// `None`: the tool keeps none.
fn record(tool: Tool) -> Option<Record> {
    let (table, query) = match tool {
        Tool::Plain => return None,
        Tool::GolangMigrate => ("schema_migrations", "select version::text, dirty from schema_migrations"),
        Tool::Goose => (
            "goose_db_version",
            "select version from (select distinct on (version_id) version_id::text as version, is_applied \
             from goose_db_version order by version_id, id desc) newest where is_applied",
        ),
        Tool::Sqlx => ("_sqlx_migrations", "select version::text, not success from _sqlx_migrations"),
        Tool::Diesel => {
            ("__diesel_schema_migrations", "select version::text from __diesel_schema_migrations")
        }
        Tool::Flyway => (
            "flyway_schema_history",
            "select version::text, not success from flyway_schema_history where version is not null",
        ),
        Tool::Popx => ("schema_migration", "select version::text from schema_migration"),
        Tool::Prisma => (
            "_prisma_migrations",
            "select migration_name::text, finished_at is null from _prisma_migrations where rolled_back_at is null",
        ),
        Tool::Dbmate => ("schema_migrations", "select version::text from schema_migrations"),
        Tool::SqlMigrate => ("gorp_migrations", "select id::text from gorp_migrations"),
    };
    Some(Record { table, query })
}

/// What has been run of a tool's migrations on the plan's blue; `None` when the tool keeps no record, or has none there.
///
/// # Errors
/// [`Kind::Connect`] when blue cannot be reached; [`Kind::Request`] when the record says that a migration failed halfway.
pub async fn read(plan: &Plan, tool: Tool) -> Result<Option<Applied>> {
    let Some(record) = record(tool) else { return Ok(None) };
    let info = ConnInfo::parse(plan.blue.url.expose())?;
    let client = session::reach(Side::Blue, &info, "look").await?;
    let table = record.table;
    let unreadable = || format!("cannot read {table}, where {tool} writes down what it has run");
    // The record is where the tool's own sessions find it, and those are not pinned to an empty path as ours are.
    client.batch_execute("reset search_path").await.doing(Kind::Server, unreadable)?;
    let there = client
        .query_one("select to_regclass($1) is not null", &[&table])
        .await
        .doing(Kind::Server, unreadable)?;
    if !there.get::<_, bool>(0) {
        return Ok(None);
    }
    let rows = rows(&client, &record).await.doing(Kind::Server, unreadable)?;
    if let Some((failed, _)) = rows.iter().find(|(_, failed)| *failed) {
        let what = format!("{table} says that migration {failed} failed halfway");
        return Err(Error::new(Kind::Request, what)
            .hint(format!("bring the database to where {tool} can go on, then plan again")));
    }
    let versions: Vec<String> = rows.into_iter().map(|(version, _)| version).collect();
    Ok(Some(match tool {
        Tool::GolangMigrate => Applied::UpTo(versions.into_iter().next()),
        _ => Applied::Each(versions),
    }))
}

/// The versions, and whether each failed.
async fn rows(
    client: &Client,
    record: &Record,
) -> std::result::Result<Vec<(String, bool)>, tokio_postgres::Error> {
    let version = |row: &Row| Ok((row.try_get(0)?, if row.len() > 1 { row.try_get(1)? } else { false }));
    client.query(record.query, &[]).await?.iter().map(version).collect()
}
