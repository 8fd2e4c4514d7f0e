//! Keeps the lease while a command runs: a session on each side, renewed from a task of its own.

use super::lease::{self, EXPIRY, RENEW_EVERY, Takeover};
use crate::error::{Error, Kind, Result};
use crate::pg::{connect, conninfo::ConnInfo};
use crate::plan::Side;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::{Mutex, watch};
use tokio_postgres::Client;

/// Holds the lease on every side for as long as it lives.
pub struct Keeper {
    epoch: i64,
    posts: Arc<Mutex<Vec<Post>>>,
    task: tokio::task::JoinHandle<()>,
    lost: watch::Receiver<Option<Loss>>,
}

/// How the lease was lost.
#[derive(Debug, Clone)]
enum Loss {
    /// It is somebody else's.
    Taken(String),
    /// A side has not heard of us for so long that it may be.
    Silence(String),
}

/// Our session on one side.
struct Post {
    side: Side,
    info: ConnInfo,
    client: Client,
    renewed: Instant,
}

/// A side on which the lease is to be taken: how to reach it, and a connection that exists.
pub struct Place {
    /// Which.
    pub side: Side,
    /// How to reach it again.
    pub info: ConnInfo,
    /// The connection.
    pub client: Client,
}

impl Keeper {
    /// Takes the lease on each side, blue first, with one epoch for all.
    ///
    /// The same order everywhere, so that two that start at once do not each hold one side. The epoch is above what
    /// any side has seen. Every side is asked before any is taken: a holder whose session on blue broke for a moment
    /// is alive on green, and taking blue from it would end a cutover that holds clients.
    ///
    /// # Errors
    /// As [`lease::take`].
    pub async fn take(mut places: Vec<Place>, holder_name: &str, takeover: Takeover) -> Result<Keeper> {
        let mut epoch = 1;
        for place in &places {
            let held = lease::holder(&place.client).await?;
            lease::refuse_living(held.as_ref(), takeover)?;
            epoch = epoch.max(held.map_or(0, |held| held.epoch) + 1);
        }
        for place in &mut places {
            let taken = lease::take(&mut place.client, place.side, holder_name, epoch, takeover).await?;
            if taken != epoch {
                return Err(Error::new(
                    Kind::Lease,
                    format!("somebody else just took over on {}", place.side),
                )
                .hint("`migrate status` names the holder"));
            }
        }
        let post = |place: Place| Post {
            side: place.side,
            info: place.info.acting_as(epoch),
            client: place.client,
            renewed: Instant::now(),
        };
        let posts = Arc::new(Mutex::new(places.into_iter().map(post).collect::<Vec<_>>()));
        let (tell, lost) = watch::channel(None);
        let task = tokio::spawn(keep(posts.clone(), epoch, tell));
        Ok(Keeper { epoch, posts, task, lost })
    }

    /// The epoch, the same on every side.
    pub fn epoch(&self) -> i64 {
        self.epoch
    }

    /// Returns the error that ends us, once the lease is gone; never returns while it is ours.
    pub async fn lost(&self) -> Error {
        let mut lost = self.lost.clone();
        let problem = match lost.wait_for(Option::is_some).await {
            Ok(loss) => match &*loss {
                Some(Loss::Taken(problem) | Loss::Silence(problem)) => problem.clone(),
                None => String::new(),
            },
            Err(_) => "the task that renews it ended".into(),
        };
        Error::new(Kind::Lease, format!("the lease is lost: {problem}"))
            .hint("`migrate status` names the holder; the same command goes on from where this one stopped")
    }

    /// Whether it was lost only since a side did not answer: it may be free to be taken again.
    pub fn fell_silent(&self) -> bool {
        matches!(&*self.lost.borrow(), Some(Loss::Silence(_)))
    }

    /// Gives the lease up, so that the next command need not wait.
    pub async fn release(self) {
        self.task.abort();
        for post in self.posts.lock().await.iter() {
            // Best effort: the session ends with us anyway, and then the lease counts as free.
            let released = tokio::time::timeout(RENEW_EVERY, lease::release(&post.client, self.epoch)).await;
            if !matches!(released, Ok(Ok(()))) {
                tracing::debug!(side = %post.side, "could not give the lease up");
            }
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Renews until the lease is somebody else's, or a side has not heard of us for so long that it may be.
///
/// A connection that broke is no lease lost: a server that restarts inside a cutover must not make us walk away from
/// clients that are held.
async fn keep(posts: Arc<Mutex<Vec<Post>>>, epoch: i64, tell: watch::Sender<Option<Loss>>) {
    loop {
        tokio::time::sleep(RENEW_EVERY).await;
        for post in posts.lock().await.iter_mut() {
            match tokio::time::timeout(RENEW_EVERY, renew(post, epoch)).await {
                Ok(Ok(())) => post.renewed = Instant::now(),
                Ok(Err(error)) if error.kind == Kind::Lease => {
                    tell.send_replace(Some(Loss::Taken(error.to_string())));
                    return;
                }
                Ok(Err(error)) => {
                    tracing::warn!(side = %post.side, why = %error.chain().join(": "), "cannot renew the lease");
                }
                Err(_) => tracing::warn!(side = %post.side, "no answer to the renewal of the lease"),
            }
            let silence = post.renewed.elapsed();
            if silence > EXPIRY {
                let problem = format!("{} has not heard of us for {} s", post.side, silence.as_secs());
                tell.send_replace(Some(Loss::Silence(problem)));
                return;
            }
        }
    }
}

async fn renew(post: &mut Post, epoch: i64) -> Result<()> {
    if post.client.is_closed() {
        post.client = connect::connect(&post.info, "lease").await?;
        return lease::move_here(&post.client, epoch).await;
    }
    lease::renew(&post.client, epoch).await
}
