//! The operator's own commands as the route: no shell, a deadline, and their last words in our errors.

use super::{Action, OnBehalfOf, pgbouncer::Proved};
use crate::{
    error::{Doing, Error, Kind, Result},
    finding::{Finding, Place, Severity},
    plan,
};
use std::{os::unix::fs::PermissionsExt, path::Path, process::Stdio, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::{Child, Command},
    time::{Instant, timeout, timeout_at},
};

/// How much of a command's output an error shows: the end of it.
const TAIL_BYTES: usize = 4096;
/// How long output is read after the command ended; a daemon it started may keep the pipe open.
const LAST_WORDS: Duration = Duration::from_millis(500);

const ACTIONS: [Action; 5] = [Action::Pause, Action::ToGreen, Action::ToBlue, Action::Resume, Action::Prove];

/// Commands that move clients.
pub struct CommandRoute {
    plan: plan::RouteCommand,
    on_behalf_of: OnBehalfOf,
}

impl CommandRoute {
    /// From the plan.
    ///
    /// # Errors
    /// [`Kind::Plan`] when a command is empty.
    pub fn from_plan(plan: &plan::RouteCommand, on_behalf_of: OnBehalfOf) -> Result<CommandRoute> {
        let route = CommandRoute { plan: plan.clone(), on_behalf_of };
        for action in ACTIONS {
            if route.argv(action).first().is_none_or(String::is_empty) {
                let field = name(action);
                return Err(Error::new(
                    Kind::Plan,
                    format!("cutover.route.command.{field} names no program"),
                )
                .hint("Write it as a list: [program, argument, …]."));
            }
        }
        Ok(route)
    }

    fn argv(&self, action: Action) -> &[String] {
        match action {
            Action::Pause => &self.plan.pause,
            Action::ToGreen => &self.plan.to_green,
            Action::ToBlue => &self.plan.to_blue,
            Action::Resume => &self.plan.resume,
            Action::Prove => &self.plan.prove,
        }
    }

    /// Holds clients; when that fails, lets them go on.
    ///
    /// # Errors
    /// [`Kind::Deadline`] or [`Kind::Gate`]; [`Kind::Stopped`] when `resume` failed too.
    pub async fn pause(&self, until: Instant) -> Result<()> {
        let Err(error) = self.run(Action::Pause, until).await else { return Ok(()) };
        match self.run(Action::Resume, Instant::now() + self.plan.deadline.0).await {
            Ok(()) => Err(error),
            Err(back) => Err(Error {
                kind: Kind::Stopped,
                what: format!("{}; before that, {}: clients may be held", back.what, error.what),
                ..back
            }
            .hint("Let clients go on by hand.")),
        }
    }

    /// Sends clients to green.
    ///
    /// # Errors
    /// [`Kind::Deadline`], [`Kind::Gate`] when it fails.
    pub async fn to_green(&self, until: Instant) -> Result<()> {
        self.run(Action::ToGreen, until).await
    }

    /// Sends clients to blue.
    ///
    /// # Errors
    /// As [`CommandRoute::to_green`].
    pub async fn to_blue(&self, until: Instant) -> Result<()> {
        self.run(Action::ToBlue, until).await
    }

    /// Lets clients go on.
    ///
    /// # Errors
    /// As [`CommandRoute::to_green`].
    pub async fn resume(&self, until: Instant) -> Result<()> {
        self.run(Action::Resume, until).await
    }

    /// Asks whether clients are sent to green.
    ///
    /// # Errors
    /// [`Kind::Gate`] when not, [`Kind::Deadline`].
    pub async fn prove(&self, until: Instant) -> Result<Vec<Proved>> {
        self.run(Action::Prove, until).await.map(|()| vec![Proved::ByQuery])
    }

    /// Commands whose program is not there.
    pub fn findings(&self) -> Vec<Finding> {
        let missing = ACTIONS.into_iter().filter(|action| !is_program(&self.argv(*action)[0]));
        let finding = |action| Finding {
            code: "ROUTE_COMMAND".into(),
            severity: Severity::Blocking,
            place: Place::Plan { field: format!("cutover.route.command.{}", name(action)) },
            what: format!("`{}` is not a program on this machine", self.argv(action)[0]),
            help: "Give its path, and make it executable.".into(),
        };
        missing.map(finding).collect()
    }

    /// The command line, for people.
    pub fn shows(&self, action: Action) -> String {
        self.argv(action).join(" ")
    }

    /// Runs one command, until it ends, its own deadline or `until`. At the deadline its process group is killed.
    async fn run(&self, action: Action, until: Instant) -> Result<()> {
        let until = until.min(Instant::now() + self.plan.deadline.0);
        let argv = self.argv(action);
        let what = format!("the route's command `{}` ({})", name(action), argv[0]);
        let mut child = Command::new(&argv[0])
            .args(&argv[1..])
            .env("MIGRATE_PLAN", &self.on_behalf_of.plan)
            .env("MIGRATE_EPOCH", self.on_behalf_of.epoch.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A group of its own, so that what it started dies with it.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .doing(Kind::Request, || format!("cannot start {what}"))?;
        let out = tokio::spawn(tail(child.stdout.take()));
        let err = tokio::spawn(tail(child.stderr.take()));
        let ended = timeout_at(until, child.wait()).await;
        if ended.is_err() {
            kill_group(&mut child).await;
        }
        let said = said(timeout(LAST_WORDS, out).await, timeout(LAST_WORDS, err).await);
        match ended {
            Err(_) => {
                Err(Error::new(Kind::Deadline, format!("{what} did not end in time and was killed{said}")))
            }
            Ok(Err(error)) => Err(error).doing(Kind::Request, || format!("cannot wait for {what}")),
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(Error::new(Kind::Gate, format!("{what} failed with {status}{said}"))),
        }
    }
}

/// Whether a program can be started by this name: a path, or a name found in PATH.
fn is_program(name: &str) -> bool {
    let executable = |path: &Path| {
        path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
    };
    match name.contains('/') {
        true => executable(Path::new(name)),
        false => std::env::var_os("PATH").is_some_and(|path| {
            std::env::split_paths(&path).any(|directory| executable(&directory.join(name)))
        }),
    }
}

/// The plan's name of a command.
fn name(action: Action) -> &'static str {
    match action {
        Action::Pause => "pause",
        Action::ToGreen => "to_green",
        Action::ToBlue => "to_blue",
        Action::Resume => "resume",
        Action::Prove => "prove",
    }
}

/// Kills the command and all it started, and waits for the command.
async fn kill_group(child: &mut Child) {
    let group = child.id().and_then(|id| rustix::process::Pid::from_raw(i32::try_from(id).ok()?));
    if let Some(group) = group {
        // It may have ended just now.
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
    let _ = child.wait().await;
}

/// Reads to the end, and keeps the last bytes.
async fn tail(pipe: Option<impl AsyncRead + Unpin>) -> String {
    let Some(mut pipe) = pipe else { return String::new() };
    let (mut kept, mut chunk) = (Vec::new(), [0; TAIL_BYTES]);
    while let Ok(read @ 1..) = pipe.read(&mut chunk).await {
        kept.extend_from_slice(&chunk[..read]);
        let surplus = kept.len().saturating_sub(TAIL_BYTES);
        kept.drain(..surplus);
    }
    String::from_utf8_lossy(&kept).trim().to_owned()
}

type Tail = Result<Result<String, tokio::task::JoinError>, tokio::time::error::Elapsed>;

fn said(out: Tail, err: Tail) -> String {
    let text = |tail: Tail| tail.ok().and_then(|joined| joined.ok()).unwrap_or_default();
    let both = [text(err), text(out)];
    let both = both.iter().filter(|text| !text.is_empty()).map(String::as_str).collect::<Vec<_>>();
    if both.is_empty() { String::new() } else { format!(": {}", both.join("\n")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::quantity::Span;

    fn route(script: &str) -> CommandRoute {
        let command = |action: &str| vec!["/bin/sh".into(), "-c".into(), script.into(), action.into()];
        let plan = plan::RouteCommand {
            pause: command("pause"),
            to_green: command("to_green"),
            to_blue: command("to_blue"),
            resume: command("resume"),
            prove: command("prove"),
            deadline: Span(Duration::from_secs(5)),
        };
        CommandRoute::from_plan(&plan, OnBehalfOf { plan: "hydra-2x".into(), epoch: 7 }).unwrap()
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(5)
    }

    #[tokio::test]
    async fn a_command_sees_plan_and_epoch() {
        let route = route(r#"[ "$MIGRATE_PLAN $MIGRATE_EPOCH $0" = "hydra-2x 7 to_green" ]"#);
        route.to_green(soon()).await.unwrap();
        assert_eq!(route.to_blue(soon()).await.unwrap_err().kind, Kind::Gate);
    }

    #[tokio::test]
    async fn a_failure_shows_the_last_words() {
        let error = route("echo out; echo why >&2; exit 3").prove(soon()).await.unwrap_err();
        assert!(error.what.contains("`prove`") && error.what.contains("exit status: 3"), "{}", error.what);
        assert!(error.what.ends_with("why\nout"), "{}", error.what);
    }

    #[tokio::test]
    async fn at_the_deadline_the_command_and_its_children_die() {
        let file = std::env::temp_dir().join(format!("migrate-command-{}", std::process::id()));
        let script = format!("(sleep 1; echo alive > {}) & wait", file.display());
        let before = Instant::now();
        let error = route(&script).to_green(before + Duration::from_millis(200)).await.unwrap_err();
        assert_eq!(error.kind, Kind::Deadline);
        assert!(before.elapsed() < Duration::from_millis(900));
        tokio::time::sleep(Duration::from_millis(1300)).await;
        assert!(!file.exists(), "the child went on");
    }

    #[tokio::test]
    async fn much_output_neither_blocks_nor_fills_memory() {
        let error = route("head -c 3000000 /dev/zero | tr '\\0' x; exit 1").resume(soon()).await.unwrap_err();
        assert!(error.what.len() < TAIL_BYTES + 200);
    }

    #[test]
    fn a_program_that_is_not_there_is_found_before() {
        let mut route = route("true");
        assert_eq!(route.findings(), []);
        route.plan.pause = vec!["migrate-no-such-program".into()];
        route.plan.to_green = vec!["/etc/passwd".into()];
        route.plan.to_blue = vec!["sh".into()];
        let places = route.findings().into_iter().map(|finding| finding.place.to_string());
        let expected = ["plan: cutover.route.command.pause", "plan: cutover.route.command.to_green"];
        assert_eq!(places.collect::<Vec<_>>(), expected);
    }

    #[tokio::test]
    async fn a_failed_pause_is_taken_back() {
        let error = route(r#"[ $0 = resume ]"#).pause(soon()).await.unwrap_err();
        assert_eq!(error.kind, Kind::Gate);
        let error = route("exit 1").pause(soon()).await.unwrap_err();
        assert_eq!(error.kind, Kind::Stopped);
    }
}
