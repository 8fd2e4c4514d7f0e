//! What blue must know to take clients back by itself, when green and its journal cannot be reached: where clients were
//! sent before us, and whether that way was gone. Both are rows of blue's manifest.

use super::world::World;
use crate::error::{Doing, Error, Kind, Result};
use crate::plan::Side;
use crate::route::RouteBefore;
use tokio_postgres::GenericClient;

/// Under this name: where clients were sent. It is there from before the PAUSE until after the RESUME on blue.
const ROUTE: &str = "route";
/// Under this name: blue was taken back alone, and green's journal was not told yet.
const GONE: &str = "taken back without green";

/// Remembers on blue where clients are sent, unless it is remembered already: after a crash, a second look would see our
/// own half-made effect as what was there before.
///
/// # Errors
/// [`Kind::Request`] when the route leads to green already.
pub(super) async fn remember(world: &World) -> Result<()> {
    let Some(route) = &world.route else { return Ok(()) };
    if read(&*world.client(Side::Blue).await?).await?.is_some() {
        return Ok(());
    }
    let before = serde_json::to_value(route.before().await?)
        .doing(Kind::Bug, || "the way back cannot be written".into())?;
    let doing = || "cannot remember on blue where clients are sent".to_owned();
    let mut blue = world.client(Side::Blue).await?;
    let tx = world.transaction(&mut blue, "remember where clients are sent").await?;
    tx.execute("insert into migrate.manifest (object, prior) values ($1, $2)", &[&ROUTE, &before])
        .await
        .doing(Kind::Server, doing)?;
    tx.commit().await.doing(Kind::Server, doing)
}

/// Where clients were sent before us; `None` when nobody can be held.
pub async fn read<C: GenericClient>(blue: &C) -> Result<Option<RouteBefore>> {
    let row = blue
        .query_opt("select prior from migrate.manifest where object = $1", &[&ROUTE])
        .await
        .doing(Kind::Server, || "cannot read from blue where clients were sent".into())?;
    row.map(|row| {
        serde_json::from_value(row.get(0))
            .map_err(|error| Error::new(Kind::Bug, "where clients were sent cannot be read").source(error))
    })
    .transpose()
}

/// Forgets where clients were sent: they are there again. In a transaction that has proved the lease.
pub async fn forget<C: GenericClient>(blue: &C) -> Result<()> {
    remove(blue, ROUTE).await
}

/// Says on blue that it is taken back without green. In a transaction that has proved the lease.
pub async fn say_gone<C: GenericClient>(blue: &C, epoch: i64) -> Result<()> {
    let prior = serde_json::json!({ "epoch": epoch });
    blue.execute(
        "insert into migrate.manifest (object, prior) values ($1, $2) on conflict (object) do update set prior = excluded.prior",
        &[&GONE, &prior],
    )
    .await
    .doing(Kind::Server, || "cannot write on blue that it is taken back".into())?;
    Ok(())
}

/// Whether blue was taken back without green, and green's journal was not told yet.
pub async fn was_gone<C: GenericClient>(blue: &C) -> Result<bool> {
    let row = blue
        .query_opt("select from migrate.manifest where object = $1", &[&GONE])
        .await
        .doing(Kind::Server, || "cannot look whether blue was taken back without green".into())?;
    Ok(row.is_some())
}

/// Green's journal was told. In a transaction that has proved the lease.
pub async fn say_told<C: GenericClient>(blue: &C) -> Result<()> {
    remove(blue, GONE).await
}

async fn remove<C: GenericClient>(blue: &C, object: &str) -> Result<()> {
    blue.execute("delete from migrate.manifest where object = $1", &[&object])
        .await
        .doing(Kind::Server, || format!("cannot take `{object}` out of blue's manifest"))?;
    Ok(())
}
