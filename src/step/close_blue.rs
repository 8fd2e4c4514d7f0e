//! Close blue behind us: nobody new comes in, and those who are still there are sent away.

use super::{Notes, Standing, Step, StepId, mark, world::World};
use crate::error::{Doing, Kind, Result};
use crate::pg::name::Ident;
use crate::plan::Side;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};

/// Revokes CONNECT on blue's database and ends other sessions, so that no reader takes a stale, revoked token for valid.
///
/// What was granted before is in the manifest on blue, so that whoever reopens blue knows what to grant again.
#[derive(Debug, Clone)]
pub struct CloseBlue;

const MARK: &str = "blue closed";

#[derive(Debug, Serialize, Deserialize)]
struct Before {
    public_could_connect: bool,
}

#[async_trait]
impl Step<World> for CloseBlue {
    fn id(&self) -> StepId {
        StepId::new("settle/close-blue")
    }

    fn title(&self) -> String {
        "End other sessions on blue and let no new ones in".into()
    }

    fn shows(&self) -> Vec<String> {
        vec![
            "blue: revoke connect on database <blue> from public".into(),
            "blue: select pg_terminate_backend(pid) for every other client session".into(),
        ]
    }

    async fn intent(&self, world: &World, _: &Notes) -> Result<Option<serde_json::Value>> {
        let client = world.client(Side::Blue).await?;
        let row = client
            .query_one(include_str!("../../sql/cutover/public_can_connect.sql"), &[])
            .await
            .doing(Kind::Server, || "cannot read who may connect to blue".into())?;
        Ok(Some(serde_json::json!(Before { public_could_connect: row.get(0) })))
    }

    async fn check(&self, world: &World, _: &Notes) -> Result<Standing> {
        // What was granted tells nothing of the sessions that were there before.
        Ok(if mark::is_set(world, MARK).await? { Standing::Present } else { Standing::Absent })
    }

    async fn apply(&self, world: &World, notes: &Notes) -> Result<Option<serde_json::Value>> {
        let doing = || "cannot close blue".to_owned();
        let before: Option<Before> = notes.get(&self.id());
        let mut client = world.client(Side::Blue).await?;
        let tx = world.transaction(&mut client, "close blue").await?;
        if before.is_none_or(|before| before.public_could_connect) {
            tx.execute(include_str!("../../sql/cutover/keep_connect_grant.sql"), &[])
                .await
                .doing(Kind::Stopped, doing)?;
        }
        let database = Ident::new(&world.blue_facts.database);
        // Ourselves first: we may be connected by PUBLIC's right.
        tx.batch_execute(&format!(
            "grant connect on database {database} to current_user; revoke connect on database {database} from public"
        ))
            .await
            .doing(Kind::Stopped, doing)?;
        tx.commit().await.doing(Kind::Stopped, doing)?;
        client
            .execute(include_str!("../../sql/cutover/end_other_sessions.sql"), &[])
            .await
            .doing(Kind::Stopped, doing)?;
        mark::set(world, MARK).await?;
        Ok(None)
    }

    /// Unreachable in a runbook: the point of no return comes before.
    async fn undo(&self, _: &World, _: &Notes) -> Result<()> {
        Ok(())
    }
}
