//! Prove on green, in the shape that the vendor's SQL has left, that every revocation can take effect (`mode: snapshot`).

use super::{Notes, Standing, Step, StepId, mark, world::World};
use crate::error::{Error, Kind, Result};
use crate::finding::{Finding, Severity};
use crate::plan::Side;
use crate::revocation;
use async_trait::async_trait;

/// Has green prepare each rule's effect and its `valid` query: better now than when clients are held.
///
/// # Crash
/// It only looks; doing it again looks again.
#[derive(Debug, Clone)]
pub struct ProveRevocations;

const MARK: &str = "revocation rules proved";

#[async_trait]
impl Step<World> for ProveRevocations {
    fn id(&self) -> StepId {
        StepId::new("replicate/prove-revocations")
    }

    fn title(&self) -> String {
        "Prove that green, as it is now, takes every revocation".into()
    }

    fn locks(&self) -> String {
        "none".into()
    }

    async fn check(&self, world: &World, _: &Notes) -> Result<Standing> {
        Ok(if mark::is_set(world, MARK).await? { Standing::Present } else { Standing::Absent })
    }

    async fn apply(&self, world: &World, _: &Notes) -> Result<Option<serde_json::Value>> {
        let problems = problems(world).await?;
        if !problems.is_empty() {
            let named: Vec<String> =
                problems.iter().map(|problem| format!("\n  {}: {}", problem.place, problem.what)).collect();
            return Err(Error::new(
                Kind::Gate,
                format!("after the vendor's SQL, green does not take the plan's revocations:{}", named.concat()),
            )
            .hint("the rules are pinned: give green by hand what they name and run `migrate replicate` again, or begin anew with other rules: `migrate rollback --all`"));
        }
        mark::set(world, MARK).await?;
        Ok(None)
    }

    async fn undo(&self, world: &World, _: &Notes) -> Result<()> {
        mark::clear(world, MARK).await
    }
}

/// What of the rules blue or green refuses.
async fn problems(world: &World) -> Result<Vec<Finding>> {
    let (blue, green) = (world.client(Side::Blue).await?, world.client(Side::Green).await?);
    let mut found = revocation::prove_rules(&blue, Some(&green), &world.plan.revocations).await?;
    found.retain(|finding| finding.severity == Severity::Blocking);
    Ok(found)
}
