//! DETACH PARTITION CONCURRENTLY works in two transactions; one that was interrupted between them is ended with FINALIZE.

use super::{DdlStep, DdlWorld, Standing};
use crate::{
    error::{Doing, Kind, Result},
    pg::name::TableName,
};
use tokio_postgres::Client;

/// What FINALIZE may wait for its locks, so that nobody waits behind it for long.
const LOCK_TIMEOUT: &str = "set lock_timeout = '2s'";

/// How far the detaching is.
enum Progress {
    Attached,
    /// The first transaction is through: new queries do not see the partition any more.
    Pending,
    Detached,
}

async fn progress(client: &Client, parent: &TableName, partition: &TableName) -> Result<Progress> {
    let row = client
        .query_opt(
            include_str!("../../../sql/ddl/read_detach.sql"),
            &[&parent.to_string(), &partition.to_string()],
        )
        .await
        .doing(Kind::Server, || format!("cannot look whether {} is detached", partition.plain()))?;
    Ok(match row.map(|row| row.get::<_, bool>("pending")) {
        None => Progress::Detached,
        Some(true) => Progress::Pending,
        Some(false) => Progress::Attached,
    })
}

/// Whether the one is no partition of the other any more. One that is half detached is as good as attached: applying ends it.
pub(super) async fn look(client: &Client, parent: &TableName, partition: &TableName) -> Result<Standing> {
    Ok(match progress(client, parent, partition).await? {
        Progress::Detached => Standing::Present,
        Progress::Pending | Progress::Attached => Standing::Absent,
    })
}

/// Ends what an earlier try began. `true` when nothing is left to do.
pub(super) async fn finish(
    world: &dyn DdlWorld,
    client: &Client,
    step: &DdlStep,
    parent: &TableName,
    partition: &TableName,
) -> Result<bool> {
    match progress(client, parent, partition).await? {
        Progress::Attached => Ok(false),
        Progress::Detached => Ok(true),
        Progress::Pending => {
            world.guard(client).await?;
            client.batch_execute(LOCK_TIMEOUT).await.doing(Kind::Server, || step.doing())?;
            let sql = format!("alter table {parent} detach partition {partition} finalize");
            let ended = client.batch_execute(&sql).await;
            client.batch_execute("reset lock_timeout").await.doing(Kind::Server, || step.doing())?;
            ended
                .doing(Kind::Server, || format!("{}: cannot end what an earlier try began", step.doing()))?;
            Ok(true)
        }
    }
}
