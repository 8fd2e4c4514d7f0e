//! The one error of the program: what kind, what happened, what to do, and why.
//!
//! The kind decides the exit code, and nothing else does. `what` says what happened and where, in one
//! sentence, without the source; `hint` says what the operator can do; the source is the cause as the
//! server or library gave it. Print the chain with [`Error::chain`].

use std::fmt;

/// Shorthand used across the library.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, as far as the caller must act differently on it.
///
/// The exit codes are fixed for ever; see `docs/reference/exit-codes.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The plan file is wrong: syntax, unknown key, contradiction.
    Plan,
    /// The request cannot be carried out as asked; nothing was changed.
    Request,
    /// A server refused us or could not be reached.
    Connect,
    /// A server answered a statement of ours with an error.
    Server,
    /// A check found something that stops us.
    Findings,
    /// A condition that must hold to go on does not.
    Gate,
    /// A deadline passed, and everything is as before.
    Deadline,
    /// Somebody else holds the lease, or took it from us.
    Lease,
    /// We stopped between steps; `migrate status` says where.
    Stopped,
    /// We are past the point of no return: only forward.
    ForwardOnly,
    /// A fault of the program itself.
    Bug,
}

impl Kind {
    /// Every kind, by exit code.
    pub const ALL: [Kind; 11] = [
        Kind::Plan,
        Kind::Request,
        Kind::Connect,
        Kind::Server,
        Kind::Findings,
        Kind::Gate,
        Kind::Lease,
        Kind::Deadline,
        Kind::Stopped,
        Kind::ForwardOnly,
        Kind::Bug,
    ];

    /// Its name in JSON and in the documentation.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Plan => "plan",
            Kind::Request => "request",
            Kind::Connect => "connect",
            Kind::Server => "server",
            Kind::Findings => "findings",
            Kind::Gate => "gate",
            Kind::Deadline => "deadline",
            Kind::Lease => "lease",
            Kind::Stopped => "stopped",
            Kind::ForwardOnly => "forward_only",
            Kind::Bug => "bug",
        }
    }

    /// What it means to whoever reads the exit code: what happened, and what to do.
    pub fn meaning(self) -> &'static str {
        match self {
            Kind::Plan => {
                "The plan or one of its SQL files is wrong, or was edited since it was pinned. Correct it."
            }
            Kind::Request => {
                "What was asked for cannot be done as asked, and nothing was changed by it. The hint names the way."
            }
            Kind::Connect => {
                "A server could not be reached, or did not let us in. What was done before stays; run the same command again."
            }
            Kind::Server => {
                "A server refused a statement of ours. The cause has its words; run the same command again once that is mended."
            }
            Kind::Findings => {
                "A check found what would lose data or break blue; nothing was changed. `migrate check` lists them all."
            }
            Kind::Gate => {
                "A condition for going on does not hold: a gate before the cutover, or a database that is not the one this migration began with."
            }
            Kind::Lease => {
                "Another operator or command is at work on this migration, or took over from us. `migrate status` names it."
            }
            Kind::Deadline => {
                "A deadline passed, and everything is as before: clients go on with blue. Try again at a calmer moment."
            }
            Kind::Stopped => {
                "We stopped between steps. `migrate status` says where, and the same command goes on from there."
            }
            Kind::ForwardOnly => {
                "We are past the point of no return: green may hold writes that blue does not. `migrate cutover` goes on."
            }
            Kind::Bug => "A fault of the program. Please report it with the whole message.",
        }
    }

    /// The process's exit code for an error of this kind.
    pub fn exit_code(self) -> u8 {
        match self {
            Kind::Plan | Kind::Request | Kind::Connect | Kind::Server => 1,
            Kind::Findings | Kind::Gate | Kind::Lease => 3,
            Kind::Deadline => 4,
            Kind::Stopped => 5,
            Kind::ForwardOnly => 6,
            Kind::Bug => 70,
        }
    }
}

/// An error with its kind, a sentence, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub struct Error {
    /// Decides the exit code.
    pub kind: Kind,
    /// What happened and where, one sentence, no source in it.
    pub what: String,
    /// What the operator can do.
    pub hint: Option<String>,
    /// The cause.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error of a kind, with its sentence.
    pub fn new(kind: Kind, what: impl Into<String>) -> Error {
        Error { kind, what: what.into(), hint: None, source: None }
    }

    /// Adds what the operator can do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Error {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the cause.
    #[must_use]
    pub fn source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        self.source = Some(source.into());
        self
    }

    /// The sentences of this error and all its causes, outermost first.
    ///
    /// A Postgres error is given as its message, detail, hint and SQLSTATE: its own `Display` says only "db error".
    pub fn chain(&self) -> Vec<String> {
        let mut lines = vec![self.what.clone()];
        let mut next: Option<&(dyn std::error::Error + 'static)> =
            self.source.as_deref().map(|source| source as _);
        while let Some(error) = next {
            let line = match error.downcast_ref::<tokio_postgres::error::DbError>() {
                Some(db) => describe_db_error(db),
                None => error.to_string(),
            };
            // tokio-postgres' outer error says "db error" and nothing more.
            if line != "db error" && lines.last() != Some(&line) {
                lines.push(line);
            }
            next = error.source();
        }
        lines
    }
}

fn describe_db_error(db: &tokio_postgres::error::DbError) -> String {
    let mut line = format!("{} (SQLSTATE {})", db.message(), db.code().code());
    if let Some(detail) = db.detail() {
        line.push_str("; ");
        line.push_str(detail);
    }
    if let Some(hint) = db.hint() {
        line.push_str("; hint: ");
        line.push_str(hint);
    }
    line
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

/// Names what we were doing when a server or library failed.
pub trait Doing<T> {
    /// Turns a failure into an [`Error`] of `kind` that says `what` we were doing.
    fn doing(self, kind: Kind, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<Box<dyn std::error::Error + Send + Sync>>> Doing<T> for std::result::Result<T, E> {
    fn doing(self, kind: Kind, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::new(kind, what()).source(source))
    }
}

/// The exit codes as Markdown, for `docs/reference/exit-codes.md`.
pub fn reference() -> String {
    let mut page = String::from(INTRODUCTION);
    for kind in Kind::ALL {
        if kind == Kind::Findings {
            page.push_str(USAGE);
        }
        page.push_str(&format!("| {} | `{}` | {} |\n", kind.exit_code(), kind.as_str(), kind.meaning()));
    }
    page.push_str(ENDING);
    page
}

const INTRODUCTION: &str = "<!-- Generated from src/error.rs; do not edit. UPDATE_GENERATED=1 with the tests writes it anew. -->
# Exit codes

The kind of an error decides the exit code, and nothing else does. The codes are fixed: scripts may rely on them. On
standard error stand one line `error:` with what happened, a line `cause:` for each cause, and `hint:` with what to do; with
`--json` one object of the shape `{\"event\": \"error\", \"kind\", \"what\", \"causes\", \"hint\", \"exit_code\"}`.

| code | kind | meaning |
|---|---|---|
| 0 | | Done. Of `plan` and `check`: no finding is blocking. |
";

const USAGE: &str = "| 2 | | The command line is wrong: an unknown command, option or value. |\n";

const ENDING: &str = "| 130 | | A second Ctrl-C or SIGTERM ended us at once. The same command goes on from the journal. |

`plan` and `check` print their findings as their result, and exit with 3 when one is blocking; there is no `error:` then.
";
