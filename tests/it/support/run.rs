//! Runs the built `migrate` as an operator would.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};

/// A command that takes longer has hung.
const DEADLINE: Duration = Duration::from_secs(180);

/// Prepares `migrate ARGS…`.
pub fn migrate(args: &[&str]) -> Invocation {
    let binary = env!("CARGO_BIN_EXE_migrate");
    let mut command = Command::new(binary);
    command.args(args).stdin(Stdio::null()).env("NO_COLOR", "1").env("CI", "true").kill_on_drop(true);
    Invocation { command, line: format!("migrate {}", args.join(" ")), deadline: DEADLINE }
}

/// A command line that was not run yet.
pub struct Invocation {
    command: Command,
    line: String,
    deadline: Duration,
}

/// What came out.
#[derive(Debug)]
pub struct Output {
    /// The exit code; -1 when a signal ended it.
    pub code: i32,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Output {
    /// Insists on an exit code, and shows everything otherwise.
    #[track_caller]
    pub fn expect(self, code: i32) -> Output {
        assert_eq!(self.code, code, "exit code\n--- stdout\n{}\n--- stderr\n{}", self.stdout, self.stderr);
        self
    }

    /// Standard output as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("not JSON: {error}\n{}", self.stdout))
    }
}

impl Invocation {
    /// Sets a variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<std::ffi::OsStr>) -> Invocation {
        self.command.env(name, value);
        self
    }

    /// Takes a variable away that our own environment may have.
    #[must_use]
    pub fn without_env(mut self, name: &str) -> Invocation {
        self.command.env_remove(name);
        self
    }

    /// Runs it in that directory.
    #[must_use]
    pub fn within(mut self, directory: &Path) -> Invocation {
        self.command.current_dir(directory);
        self
    }

    /// Gives it more or less time than three minutes.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Invocation {
        self.deadline = deadline;
        self
    }

    /// Runs it to its end.
    ///
    /// # Panics
    /// When it has not ended by the deadline; it is killed then.
    pub async fn run(self) -> Output {
        let deadline = self.deadline;
        self.start().wait(deadline).await
    }

    /// Starts it and goes on; it is killed when the handle is dropped.
    pub fn start(mut self) -> Running {
        self.command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.command.spawn().expect("the binary starts");
        let stdout = collect(child.stdout.take().expect("piped"));
        let stderr = collect(child.stderr.take().expect("piped"));
        Running { child, stdout, stderr, line: self.line }
    }
}

type Collected = tokio::task::JoinHandle<String>;

fn collect(mut stream: impl tokio::io::AsyncRead + Unpin + Send + 'static) -> Collected {
    tokio::spawn(async move {
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes).await;
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// A command that runs in the background.
pub struct Running {
    child: Child,
    stdout: Collected,
    stderr: Collected,
    line: String,
}

impl Running {
    /// Waits for its end.
    ///
    /// # Panics
    /// When it has not ended by the deadline; it is killed then.
    pub async fn wait(mut self, deadline: Duration) -> Output {
        let ended = tokio::time::timeout(deadline, self.child.wait()).await;
        if ended.is_err() {
            let _ = self.child.kill().await;
        }
        let stdout = self.stdout.await.unwrap_or_default();
        let stderr = self.stderr.await.unwrap_or_default();
        match ended {
            Ok(status) => {
                let status = status.expect("the binary can be waited for");
                Output { code: status.code().unwrap_or(-1), signal: status.signal(), stdout, stderr }
            }
            Err(_) => panic!(
                "`{}` did not end in {deadline:?}\n--- stdout\n{stdout}\n--- stderr\n{stderr}",
                self.line
            ),
        }
    }

    /// `kill -9`.
    pub async fn kill(mut self) -> Output {
        let _ = self.child.start_kill();
        self.wait(Duration::from_secs(30)).await
    }

    /// Sends a signal: interrupt as Ctrl-C, stop and continue as a laptop that sleeps.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = self.child.id().and_then(|pid| rustix::process::Pid::from_raw(pid.cast_signed()));
        rustix::process::kill_process(pid.expect("it runs"), signal).expect("it can be signaled");
    }

    /// Waits until it sleeps at its `MIGRATE_SLEEP_POINT`.
    pub async fn falls_asleep(&mut self) {
        let stat = format!("/proc/{}/stat", self.child.id().expect("it runs"));
        let until = std::time::Instant::now() + DEADLINE;
        loop {
            // Behind the name in brackets stands the state: T is stopped.
            let text = std::fs::read_to_string(&stat).unwrap_or_default();
            if text.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T')) {
                return;
            }
            let awake = self.has_ended() || std::time::Instant::now() > until;
            assert!(!awake, "`{}` does not come to the point where it sleeps", self.line);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Whether it has ended already.
    pub fn has_ended(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)))
    }
}

/// A directory for a test's plan and files, removed at the end.
pub struct Desk(PathBuf);

impl Desk {
    /// Makes one.
    pub fn new(name: &str) -> Desk {
        let path = std::env::temp_dir().join(format!("migrate-desk-{name}-{:08x}", rand::random::<u32>()));
        std::fs::create_dir_all(&path).expect("a temporary directory");
        Desk(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file and gives its path as text.
    pub fn write(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).expect("a directory");
        }
        std::fs::write(&path, text).expect("a file");
        path.display().to_string()
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
