//! The operator: types commands and reads what they say.

use crate::stage::Stage;
use crate::support::scratch::{EndBy, Scratch};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

const PLAN: &str = "plans/demo.yaml";
/// How long one command may take.
const COMMAND_DEADLINE: Duration = Duration::from_secs(300);
/// How long the first copy may take: some minutes for millions of rows.
const CATCH_UP_DEADLINE: Duration = Duration::from_secs(1800);
/// How often the operator asks where replicate is.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long replicate may take to end after a cutover.
const HANDOVER_DEADLINE: Duration = Duration::from_secs(30);
/// Lines of a command's output that are shown; a plan has more.
const LINES_SHOWN: usize = 60;

/// Somebody with the plan's secrets in the environment.
pub struct Operator<'a> {
    program: PathBuf,
    variables: [(&'static str, String); 6],
    scratch: &'a Scratch,
}

impl<'a> Operator<'a> {
    /// The program is built beside this one.
    pub fn new(stage: &Stage, scratch: &'a Scratch) -> Result<Operator<'a>> {
        let here = std::env::current_exe().context("where is this program?")?;
        let program = here
            .parent()
            .and_then(std::path::Path::parent)
            .map(|target| target.join("migrate"))
            .filter(|program| program.is_file())
            .context("migrate is not built beside this program: run scripts/demo")?;
        Ok(Operator { program, variables: stage.variables(), scratch })
    }

    fn command(&self, name: &str, more: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg(name).arg(PLAN).args(more);
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }

    fn spawn(&self, name: &str, more: &[&str]) -> Result<Child> {
        let child = self.command(name, more).spawn().with_context(|| format!("cannot run migrate {name}"))?;
        if let Some(pid) = child.id() {
            self.scratch.watch(pid, EndBy::Kill)?;
        }
        Ok(child)
    }

    /// Runs a command, shows it and what it says, and insists that it succeeds.
    pub async fn run(&self, name: &str, more: &[&str]) -> Result<()> {
        println!("\n$ migrate {}", [&[name, PLAN], more].concat().join(" "));
        let began = Instant::now();
        let mut child = self.spawn(name, more)?;
        let shown = show_both(&mut child, "  ");
        let status = tokio::time::timeout(COMMAND_DEADLINE, child.wait())
            .await
            .with_context(|| format!("migrate {name} did not end in {COMMAND_DEADLINE:?}"))??;
        shown.end().await;
        if !status.success() {
            bail!("migrate {name} ended with {status}");
        }
        println!("  [{:.1} s]", began.elapsed().as_secs_f64());
        Ok(())
    }

    /// Starts a command in the background; its lines are shown as they come.
    pub fn start(&self, name: &str) -> Result<Background> {
        println!("\n$ migrate {name} {PLAN} &");
        let mut child = self.spawn(name, &[])?;
        let shown = show_both(&mut child, &format!("  {name} | "));
        Ok(Background { name: name.to_owned(), child, shown })
    }

    /// What a command says with `--format json`.
    pub async fn json(&self, name: &str) -> Result<Value> {
        let output =
            tokio::time::timeout(COMMAND_DEADLINE, self.command(name, &["--format", "json"]).output())
                .await
                .with_context(|| format!("migrate {name} --format json did not end"))??;
        if !output.status.success() {
            let stderr = String::from_utf8_lossy(&output.stderr);
            bail!("migrate {name} --format json ended with {}: {stderr}", output.status);
        }
        serde_json::from_slice(&output.stdout).with_context(|| format!("migrate {name} did not write JSON"))
    }

    /// Asks `status` until the copy is done and green follows.
    pub async fn until_caught_up(&self, mut replicate: Background) -> Result<Background> {
        let deadline = Instant::now() + CATCH_UP_DEADLINE;
        let mut last = String::from("nothing yet");
        while Instant::now() < deadline {
            if let Some(status) = replicate.child.try_wait()? {
                replicate.shown.end().await;
                bail!("migrate replicate ended by itself ({status}) before green had caught up");
            }
            // In its first moments there is no state to read, so an error is no reason to give up.
            match self.json("status").await {
                Ok(status) if status["caught_up"] == Value::Bool(true) => return Ok(replicate),
                Ok(status) => last = status.to_string(),
                Err(error) => last = format!("{error:#}"),
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        bail!("green has not caught up after {CATCH_UP_DEADLINE:?}; the last status was: {last}")
    }
}

/// A command that runs beside the others.
pub struct Background {
    name: String,
    child: Child,
    shown: Shown,
}

impl Background {
    /// Waits until it ends because `cutover` took over.
    pub async fn handed_over(mut self) -> Result<()> {
        let status = tokio::time::timeout(HANDOVER_DEADLINE, self.child.wait())
            .await
            .with_context(|| format!("migrate {} did not end after the cutover", self.name))??;
        self.shown.end().await;
        if !status.success() {
            bail!("migrate {} ended with {status}", self.name);
        }
        Ok(())
    }
}

/// The tasks that show a command's two streams.
struct Shown([JoinHandle<()>; 2]);

impl Shown {
    async fn end(self) {
        for task in self.0 {
            let _ = task.await;
        }
    }
}

fn show_both(child: &mut Child, prefix: &str) -> Shown {
    Shown([show(child.stdout.take(), prefix.to_owned()), show(child.stderr.take(), prefix.to_owned())])
}

fn show(stream: Option<impl AsyncRead + Unpin + Send + 'static>, prefix: String) -> JoinHandle<()> {
    tokio::spawn(async move {
        let Some(stream) = stream else { return };
        let mut lines = BufReader::new(stream).lines();
        let mut left_out = 0_usize;
        let mut shown = 0;
        while let Ok(Some(line)) = lines.next_line().await {
            if shown < LINES_SHOWN {
                println!("{prefix}{line}");
                shown += 1;
            } else {
                left_out += 1;
            }
        }
        if left_out > 0 {
            println!("{prefix}… and {left_out} more lines");
        }
    })
}
