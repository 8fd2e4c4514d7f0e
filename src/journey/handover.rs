//! Handover: how one command asks another, which holds the lease, to step aside.
//!
//! A running `replicate` answers at a batch boundary. No answer in ten seconds: the asker takes over with the next
//! epoch, and ends the other's sessions.

use crate::engine::lease::{self, Holder, Takeover};
use crate::error::{Doing, Error, Kind, Result};
use std::time::{Duration, Instant};
use tokio_postgres::Client;

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestKind {
    /// Stop following: `cutover` goes on from there.
    Cutover,
    /// Stop following: everything is taken back.
    Rollback,
    /// Stop: everything of ours is removed.
    Finish,
}

impl RequestKind {
    /// As in `migrate.request`.
    pub fn as_str(self) -> &'static str {
        match self {
            RequestKind::Cutover => "cutover",
            RequestKind::Rollback => "rollback",
            RequestKind::Finish => "finish",
        }
    }
}

const PATIENCE: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Asks a `replicate` that is at work to step aside, and waits for it; says whether it may be pushed.
///
/// # Errors
/// [`Kind::Lease`] when another command than `replicate` is at work: two operators.
pub async fn ask(green: &Client, kind: RequestKind) -> Result<Takeover> {
    let Some(holder) = living_holder(green).await? else { return Ok(Takeover::OnlyWhenFree) };
    if !holder.name.starts_with("replicate ") {
        return Err(busy(&holder));
    }
    let id: i64 = green
        .query_one(include_str!("../../sql/journey/ask.sql"), &[&kind.as_str(), &holder.name])
        .await
        .doing(Kind::Server, || "cannot ask the running replicate to step aside".into())?
        .get(0);
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        tokio::time::sleep(LOOK_EVERY).await;
        match living_holder(green).await? {
            None => return Ok(Takeover::OnlyWhenFree),
            // Somebody else was quicker: they were not asked, and must not be pushed aside in the middle of a pause.
            Some(now) if now.epoch != holder.epoch => return Err(busy(&now)),
            Some(_) => {}
        }
    }
    tracing::warn!(id, "replicate did not answer; taking over");
    Ok(Takeover::FromEpoch(holder.epoch))
}

fn busy(holder: &Holder) -> Error {
    Error::new(Kind::Lease, format!("{} is at work on this migration (epoch {})", holder.name, holder.epoch))
        .hint("wait until it ends or stop it; `migrate status` shows what it does")
}

async fn living_holder(green: &Client) -> Result<Option<Holder>> {
    Ok(lease::holder(green).await?.filter(|holder| holder.alive))
}

/// What somebody asks of us; `None` when nobody does. Only what was asked since we took the lease counts, and only
/// while the asker lives: one that was interrupted does not want us gone any more.
pub async fn asked(green: &Client, epoch: i64) -> Result<Option<String>> {
    let row = green
        .query_opt(include_str!("../../sql/journey/read_request.sql"), &[&epoch])
        .await
        .doing(Kind::Server, || "cannot look for requests".into())?;
    Ok(row.map(|row| row.get("kind")))
}

/// Says that we have stepped aside. Tells whether anybody still waits for that.
pub async fn answer(green: &Client, epoch: i64) -> Result<bool> {
    let answered = green
        .execute(include_str!("../../sql/journey/answer.sql"), &[&epoch])
        .await
        .doing(Kind::Server, || "cannot answer the request".into())?;
    Ok(answered > 0)
}
