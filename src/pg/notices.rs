//! What a server says besides its answers: notices, warnings, and the debug messages that tell of scans and rewrites.

use super::connect::{self, PINNED};
use super::conninfo::ConnInfo;
use crate::error::{Doing, Kind, Result};
use futures_util::{StreamExt, stream};
use tokio::sync::mpsc;
use tokio_postgres::{AsyncMessage, Client};

/// As many unread messages as are kept; later ones are counted and dropped.
const UNREAD_MAX: usize = 20_000;

/// The messages of one session, in order. A statement's messages are here when its answer is.
pub struct Notices {
    heard: mpsc::Receiver<String>,
}

impl Notices {
    /// Takes what was said since the last time.
    pub fn take(&mut self) -> Vec<String> {
        let mut taken = Vec::new();
        while let Ok(message) = self.heard.try_recv() {
            taken.push(message);
        }
        taken
    }
}

/// As [`connect::connect`], with the session's messages. Which of them the server sends is up to `client_min_messages`.
///
/// # Errors
/// As [`connect::connect`].
pub async fn connect_hearing(info: &ConnInfo, purpose: &str) -> Result<(Client, Notices)> {
    let (client, mut connection) = connect::open(info, purpose).await?;
    let (tell, heard) = mpsc::channel(UNREAD_MAX);
    tokio::spawn(async move {
        let mut messages = stream::poll_fn(move |context| connection.poll_message(context));
        let mut dropped: u64 = 0;
        while let Some(message) = messages.next().await {
            match message {
                Ok(AsyncMessage::Notice(notice)) => {
                    dropped += u64::from(tell.try_send(notice.message().to_owned()).is_err());
                }
                Ok(_) => {}
                Err(error) => tracing::debug!(%error, "a connection ended"),
            }
        }
        if dropped > 0 {
            tracing::debug!(dropped, "messages of a session were not read in time");
        }
    });
    tokio::time::timeout(info.connect_timeout, client.batch_execute(PINNED))
        .await
        .map_err(|_| connect::no_answer(info))?
        .doing(Kind::Connect, || format!("cannot prepare a session on {}", info.label()))?;
    Ok((client, Notices { heard }))
}
