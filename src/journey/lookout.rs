//! What happens to blue while green follows, beside its rows: told once, each thing.

use crate::error::{Error, Kind, Result};
use crate::event::Event;
use crate::plan::Side;
use crate::step::blue_shape::{self, ShapeSeen};
use crate::step::newcomers::{self, Newcomer};
use crate::step::world::World;
use std::collections::HashSet;
use std::time::{Duration, Instant};

/// How often blue is asked for tables that the copy does not carry.
const LOOK_FOR_NEWCOMERS_EVERY: Duration = Duration::from_secs(5);
/// How often blue is asked for the shape of its tables, which takes longer.
const LOOK_AT_SHAPE_EVERY: Duration = Duration::from_secs(10);
/// How long blue may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// Names newcomers and changes of blue's shape.
#[derive(Default)]
pub(super) struct Lookout {
    newcomers_seen: Option<Instant>,
    newcomers: HashSet<Newcomer>,
    shape_seen: Option<Instant>,
    shapes: HashSet<String>,
}

fn is_due(last: Option<Instant>, every: Duration) -> bool {
    last.is_none_or(|at| at.elapsed() >= every)
}

impl Lookout {
    /// Looks at what it is time to look at. A blue that does not answer is the follower's matter, not ours.
    ///
    /// # Errors
    /// [`Kind::Gate`] when a table has left our publication: blue sends none of its changes any more, and says nothing of it.
    pub(super) async fn look(&mut self, world: &World) -> Result<()> {
        if is_due(self.newcomers_seen, LOOK_FOR_NEWCOMERS_EVERY) {
            self.look_for_newcomers(world).await?;
            self.newcomers_seen = Some(Instant::now());
        }
        if is_due(self.shape_seen, LOOK_AT_SHAPE_EVERY) {
            self.look_at_shape(world).await;
            self.shape_seen = Some(Instant::now());
        }
        Ok(())
    }

    async fn look_for_newcomers(&mut self, world: &World) -> Result<()> {
        let found = tokio::time::timeout(ANSWER_MAX, async {
            newcomers::look(world, &*world.client(Side::Blue).await?).await
        });
        match found.await {
            Ok(Ok(found)) => {
                // After the moment of a snapshot nothing is followed, so nothing more is lost.
                let is_unsent = |newcomer: &Newcomer| {
                    matches!(newcomer, Newcomer::Replaced(_)) && !world.plan.is_snapshot()
                };
                if let Some(newcomer) = found.iter().find(|newcomer| is_unsent(newcomer)) {
                    return Err(Error::new(Kind::Gate, format!("on blue, {newcomer}"))
                        .hint("green lacks what was written to it since: `migrate rollback --all`, then copy afresh with `migrate replicate`"));
                }
                for newcomer in found {
                    if self.newcomers.insert(newcomer.clone()) {
                        world.ears.tell(Event::Warning { text: warning(&newcomer) });
                    }
                }
            }
            Ok(Err(error)) => tracing::debug!(%error, "cannot look for new tables on blue"),
            Err(_) => tracing::debug!("blue does not say in time whether it has new tables"),
        }
        Ok(())
    }

    async fn look_at_shape(&mut self, world: &World) {
        let said = match tokio::time::timeout(ANSWER_MAX, blue_shape::look(world)).await {
            Ok(Ok(ShapeSeen::AsPinned)) => Vec::new(),
            Ok(Ok(ShapeSeen::Accepted(changes))) => changes.iter().map(|change| accepted(change)).collect(),
            Ok(Ok(ShapeSeen::Changed(why))) if why.is_empty() => {
                vec![
                    "on blue, the shape of its tables was changed: `migrate cutover` will refuse that".into(),
                ]
            }
            Ok(Ok(ShapeSeen::Changed(why))) => {
                why.iter().map(|why| format!("on blue, {why}: `migrate cutover` will refuse that")).collect()
            }
            Ok(Err(error)) => {
                tracing::debug!(%error, "cannot look at the shape of blue's tables");
                return;
            }
            Err(_) => {
                tracing::debug!("blue does not say in time what shape its tables have");
                return;
            }
        };
        for text in said {
            if self.shapes.insert(text.clone()) {
                world.warn(text);
            }
        }
    }
}

/// What is told of a change that is gone on with.
pub(super) fn accepted(change: &str) -> String {
    format!("on blue, {change}: harmless, so we go on; green does not get it from us")
}

fn warning(newcomer: &Newcomer) -> String {
    if newcomer.loses_data() {
        return format!(
            "on blue, {newcomer}: green does not get it, and `migrate cutover` will refuse; {}",
            newcomers::WAY_OUT
        );
    }
    format!("on blue, {newcomer}: green does not get it; create it there too, or begin again")
}
