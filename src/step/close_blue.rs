//! Close blue behind us: nobody new comes in, and those who are still there are sent away.

use super::{Notes, Standing, Step, StepId, mark, world::World};
use crate::error::{Doing, Kind, Result};
use crate::pg::name::Ident;
use crate::plan::Side;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio_postgres::{Client, error::SqlState};

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

    fn locks(&self) -> String {
        "blue: none; other sessions are ended".into()
    }

    async fn intent(&self, world: &World, _: &Notes) -> Result<Option<serde_json::Value>> {
        let client = world.client(Side::Blue).await?;
        Ok(Some(serde_json::json!(Before { public_could_connect: public_can_connect(&client).await? })))
    }

    async fn check(&self, world: &World, _: &Notes) -> Result<Standing> {
        // What was granted tells nothing of the sessions that were there before.
        Ok(if mark::is_set(world, MARK).await? { Standing::Present } else { Standing::Absent })
    }

    async fn apply(&self, world: &World, notes: &Notes) -> Result<Option<serde_json::Value>> {
        let doing = || "cannot close blue".to_owned();
        let before: Option<Before> = notes.get(&self.id());
        let was_open = before.is_none_or(|before| before.public_could_connect);
        let mut client = world.client(Side::Blue).await?;
        let tx = world.transaction(&mut client, "close blue").await?;
        if was_open {
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
        if was_open && public_can_connect(&client).await? {
            world.warn(format!(
                "PUBLIC can still connect to blue's database {database}: our role may not revoke it. Run as its owner: \
                 revoke connect on database {database} from public"
            ));
        }
        end_other_sessions(world, &client).await?;
        mark::set(world, MARK).await?;
        Ok(None)
    }

    /// Unreachable in a runbook: the point of no return comes before.
    async fn undo(&self, _: &World, _: &Notes) -> Result<()> {
        Ok(())
    }
}

async fn public_can_connect(client: &Client) -> Result<bool> {
    let row = client
        .query_one(include_str!("../../sql/cutover/public_can_connect.sql"), &[])
        .await
        .doing(Kind::Server, || "cannot read who may connect to blue".into())?;
    Ok(row.get(0))
}

/// Ends them one by one: a superuser's session that we may not end must not keep us from the others, nor from what comes
/// after. Blue refuses writes already; who is left can only read what was true at the switch, and is named.
async fn end_other_sessions(world: &World, client: &Client) -> Result<()> {
    let sessions = client
        .query(include_str!("../../sql/cutover/list_other_sessions.sql"), &[])
        .await
        .doing(Kind::Stopped, || "cannot list the sessions that are left on blue".into())?;
    let mut left = Vec::new();
    for session in sessions {
        let (pid, role): (i32, String) = (session.get(0), session.get(1));
        let ended = client.execute("select pg_catalog.pg_terminate_backend($1)", &[&pid]).await;
        match ended {
            Ok(_) => {}
            Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
                left.push(format!("{role} (pid {pid})"));
            }
            Err(error) => {
                return Err(error).doing(Kind::Stopped, || "cannot end the sessions left on blue".into());
            }
        }
    }
    if !left.is_empty() {
        world.warn(format!(
            "sessions stay open on blue and read what was true at the switch, since our role may not end them: {}. \
             End them as a superuser, or grant our role pg_signal_backend",
            left.join(", ")
        ));
    }
    Ok(())
}
