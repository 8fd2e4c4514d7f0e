//! A child process of ours that removes the scratch database when we are killed.
//!
//! It is this program again, with a hidden command. What it needs comes through a pipe, never through arguments; the pipe's end
//! tells it that we are gone, however we went.

use super::scratch::{self, Key};
use crate::error::{Doing, Error, Kind, Result};
use crate::pg::{connect, conninfo::ConnInfo, name::Ident};
use serde::{Deserialize, Serialize};
use std::io::{BufRead, Read};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};

/// The hidden command.
pub const COMMAND: &str = "rehearsal-guardian";
/// What it says when it has read its orders.
pub const READY: &str = "ready";
/// How long it may take to say so.
const READY_MAX: Duration = Duration::from_secs(10);
/// How long it may take to end after we have let go of it.
const END_MAX: Duration = Duration::from_secs(5);
/// How long it waits for the server to see that we are gone, and then for the removal.
const REMOVE_MAX: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What the guardian is to do. Written to a pipe alone.
#[derive(Serialize, Deserialize)]
struct Orders {
    /// The connection string the scratch database was made through.
    url: String,
    /// The scratch database.
    database: String,
    /// Whoever holds this advisory lock uses it.
    key: Key,
}

/// A guardian that runs.
pub struct Guardian {
    child: Child,
    pipe: Option<ChildStdin>,
}

impl Guardian {
    /// Starts `program` as the guardian of a database that is about to be made.
    ///
    /// # Errors
    /// [`Kind::Request`] when it does not start or does not answer; then nothing must be made.
    pub async fn start(program: &Path, url: &str, database: &Ident, key: Key) -> Result<Guardian> {
        let failed = || "the process that would remove the scratch database does not start".to_owned();
        let mut child = Command::new(program)
            .arg(COMMAND)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // Ctrl-C on the terminal is for us, not for it.
            .process_group(0)
            .spawn()
            .doing(Kind::Request, failed)?;
        let (Some(mut pipe), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Error::new(Kind::Bug, failed()));
        };
        let orders = Orders { url: url.to_owned(), database: database.as_str().to_owned(), key };
        let mut line = serde_json::to_string(&orders).doing(Kind::Bug, failed)?;
        line.push('\n');
        let mut answer = String::new();
        let mut stdout = BufReader::new(stdout);
        let greeting = async {
            pipe.write_all(line.as_bytes()).await?;
            stdout.read_line(&mut answer).await
        };
        tokio::time::timeout(READY_MAX, greeting)
            .await
            .doing(Kind::Request, failed)?
            .doing(Kind::Request, failed)?;
        if answer.trim() != READY {
            return Err(Error::new(Kind::Request, failed()));
        }
        Ok(Guardian { child, pipe: Some(pipe) })
    }

    /// Lets it go when there is nothing left to guard, and waits for its end for a few seconds.
    pub async fn dismiss(mut self) {
        self.pipe.take();
        if tokio::time::timeout(END_MAX, self.child.wait()).await.is_err() {
            tracing::warn!("the guardian of the scratch database is still at work");
        }
    }
}

/// The guardian's own life: reads its orders, says `ready` through `tell`, waits until its parent has gone, removes.
///
/// # Errors
/// [`Kind::Request`] without orders; the server's error when the database cannot be removed. Nobody hears it: the next
/// rehearsal removes what is left.
pub async fn stand(tell: impl FnOnce(&str)) -> Result<()> {
    let (orders, input) = tokio::task::spawn_blocking(|| {
        let mut input = std::io::BufReader::new(std::io::stdin());
        let mut line = String::new();
        input.read_line(&mut line).map(|_| (line, input))
    })
    .await
    .doing(Kind::Bug, || "the guardian's orders cannot be read".into())?
    .doing(Kind::Request, || "the guardian's orders cannot be read".into())?;
    let orders: Orders = serde_json::from_str(&orders).map_err(|_| {
        Error::new(Kind::Request, format!("`migrate {COMMAND}` is for `migrate rehearse` to start"))
    })?;
    tell(READY);
    let _ = tokio::task::spawn_blocking(move || {
        let mut input = input;
        // Nothing more comes; what is awaited is the end.
        input.read_to_end(&mut Vec::new())
    })
    .await;
    tokio::time::timeout(REMOVE_MAX, remove(&orders)).await.map_err(|_| {
        Error::new(Kind::Deadline, format!("database {} could not be removed in time", orders.database))
    })?
}

async fn remove(orders: &Orders) -> Result<()> {
    let info = ConnInfo::parse(&orders.url)?;
    let client = connect::connect(&info, "rehearsal guardian").await?;
    // A CREATE DATABASE that was under way when we were killed goes on to its end first.
    let began = Instant::now();
    while scratch::is_owned(&client, orders.key).await? && began.elapsed() < REMOVE_MAX / 2 {
        tokio::time::sleep(LOOK_EVERY).await;
    }
    scratch::remove(&client, &Ident::new(&orders.database)).await
}
