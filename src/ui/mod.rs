//! The only place that prints. Data goes to standard output, talk to standard error.
//!
//! Talk has three forms: bars on a terminal; plain lines elsewhere, at most one a second of each subject; with `--json`
//! one JSON object a line, each with a key `event`, the error that ends a run included. In every form it stays on
//! standard error, so that standard output holds the command's result and nothing else: text, or one JSON document.
//!
//! `NO_COLOR`, `CLICOLOR` and `CLICOLOR_FORCE` are honored for each stream. A reader that goes away (`| head`) ends neither
//! the program nor a migration: what it does not read is dropped.

mod bars;
mod lines;
mod meter;
pub mod numbers;
pub mod plan;
pub mod render;
mod talk;

use crate::{
    error::{Doing, Error, Kind, Result},
    event::{Ears, Event, Listener},
    finding::Finding,
};
use anstream::{AutoStream, ColorChoice};
use indicatif::{MultiProgress, ProgressDrawTarget};
use serde::Serialize;
use std::{
    io::{self, BufWriter, ErrorKind, IsTerminal, Write},
    sync::{Arc, Mutex, PoisonError},
};
use talk::{Stage, Talk};

/// What the operator asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// `--json`
    Json,
    /// Bars on a terminal, lines elsewhere and in CI.
    Auto,
}

/// How talk is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Bars,
    Lines,
    Json,
}

/// Shows everything the operator sees.
pub struct Ui {
    form: Form,
    yes: bool,
    out: Mutex<Out>,
    out_colors: bool,
    screen: Option<MultiProgress>,
    talk: Arc<Talk>,
}

struct Out {
    stream: Box<dyn Write + Send>,
    /// The reader went away, or it failed and that was said.
    closed: bool,
}

impl Ui {
    /// Looks at the two streams and the environment, and decides how to show things. With `yes`, questions are
    /// answered yes.
    pub fn new(mode: Mode, yes: bool) -> Ui {
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let in_ci = std::env::var_os("CI").is_some();
        let form = match mode {
            Mode::Json => Form::Json,
            Mode::Auto if io::stderr().is_terminal() && !dumb && !in_ci => Form::Bars,
            Mode::Auto => Form::Lines,
        };
        let screen =
            (form == Form::Bars).then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr()));
        let colors = AutoStream::choice(&io::stderr()) != ColorChoice::Never;
        let stage = Stage { form, out: Box::new(io::stderr()), colors, screen };
        let out_colors = AutoStream::choice(&io::stdout()) != ColorChoice::Never;
        Ui::with(stage, Box::new(io::stdout()), out_colors, yes)
    }

    fn with(stage: Stage, out: Box<dyn Write + Send>, out_colors: bool, yes: bool) -> Ui {
        Ui {
            form: stage.form,
            yes,
            out: Mutex::new(Out { stream: out, closed: false }),
            out_colors,
            screen: stage.screen.clone(),
            talk: Arc::new(Talk::start(stage)),
        }
    }

    /// Whether `--json` was given.
    pub fn is_json(&self) -> bool {
        self.form == Form::Json
    }

    /// For whoever does the work and tells what happens.
    pub fn ears(&self) -> Ears {
        self.talk.clone()
    }

    /// Prints a command's result to standard output, as it is; a missing newline at its end is added.
    ///
    /// A reader that went away is no failure; another failure (a full disk) is said once, on standard error.
    pub fn print(&self, text: &str) {
        let newline = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
        self.write(|out| {
            if self.out_colors {
                out.write_all(text.as_bytes())?;
            } else {
                write!(out, "{}", anstream::adapter::strip_str(text))?;
            }
            out.write_all(newline.as_bytes())
        });
    }

    /// Prints a command's result to standard output as one JSON document.
    ///
    /// It is never held as a whole: the plan of 100,000 lines of SQL is 46 MB.
    ///
    /// # Errors
    /// [`Kind::Bug`] when it cannot be written as JSON.
    pub fn print_json(&self, value: &impl Serialize) -> Result<()> {
        let mut done = Ok(());
        self.write(|out| match serde_json::to_writer_pretty(&mut *out, value) {
            Ok(()) => out.write_all(b"\n"),
            Err(error) if error.is_io() => Err(error.into()),
            Err(error) => {
                done = Err(error);
                Ok(())
            }
        });
        done.doing(Kind::Bug, || "a result cannot be written as JSON".into())
    }

    fn write(&self, result: impl FnOnce(&mut dyn Write) -> io::Result<()>) {
        // So that what was told before stands before it on a terminal.
        self.talk.flush();
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        if out.closed {
            return;
        }
        let mut stream = BufWriter::new(&mut out.stream);
        let write = || {
            result(&mut stream)?;
            stream.flush()
        };
        let written = match &self.screen {
            Some(screen) => screen.suspend(write),
            None => write(),
        };
        // What is left of a failed write is not to be tried again.
        let _ = stream.into_parts();
        if let Err(error) = written {
            out.closed = true;
            if error.kind() != ErrorKind::BrokenPipe {
                let text = format!("standard output cannot be written, the result is incomplete: {error}");
                self.talk.tell(Event::Warning { text });
            }
        }
    }

    /// Prints findings: text, or with `--json` one document with their numbers.
    pub fn findings(&self, findings: &[Finding]) {
        match self.form {
            Form::Json => self.print(&format!("{:#}", render::findings_json(findings))),
            Form::Bars | Form::Lines => self.print(&render::findings(findings)),
        }
    }

    /// Prints a table: text, or with `--json` a list of objects whose keys are the headers.
    pub fn table(&self, headers: &[&str], rows: &[Vec<String>]) {
        match self.form {
            Form::Json => self.print(&format!("{:#}", render::table_json(headers, rows))),
            Form::Bars | Form::Lines => self.print(&render::table(headers, rows)),
        }
    }

    /// Says one sentence on standard error: how a command ended, say.
    pub fn say(&self, text: &str) {
        match self.form {
            Form::Json => self.talk.tell(Event::Note { text: text.to_owned() }),
            Form::Bars | Form::Lines => self.talk.text(format!("{text}\n")),
        }
    }

    /// Shows the error that ends the run, and waits until it is shown. The caller exits with its kind's code.
    pub fn error(&self, error: &Error) {
        self.talk.text(match self.form {
            Form::Json => format!("{}\n", render::error_json(error)),
            Form::Bars | Form::Lines => render::error(error),
        });
        self.talk.flush();
    }

    /// Asks a question that is answered with yes or no; no is the default.
    ///
    /// # Errors
    /// [`Kind::Request`] when nobody can be asked (no terminal, or `--json`) and `--yes` was not given.
    pub fn confirm(&self, question: &str) -> Result<bool> {
        if self.yes {
            self.say(&format!("{question} yes (--yes)"));
            return Ok(true);
        }
        let nobody = !io::stdin().is_terminal() || !io::stderr().is_terminal() || self.is_json();
        if nobody {
            return Err(Error::new(Kind::Request, format!("nobody can be asked: {question}"))
                .hint("Run it on a terminal, or give --yes if you mean it."));
        }
        self.talk.flush();
        let ask = || dialoguer::Confirm::new().with_prompt(question).default(false).interact();
        let answer = match &self.screen {
            Some(screen) => screen.suspend(ask),
            None => ask(),
        };
        answer.doing(Kind::Request, || format!("no answer to: {question}"))
    }

    /// Where logs go: among the talk, without tearing the bars. Give it to the subscriber as
    /// `with_writer(move || logs.clone())`.
    pub fn logs(&self) -> Logs {
        Logs { talk: self.talk.clone() }
    }

    /// Waits until everything told so far is shown, two seconds at most, and takes the bars away. Call it before exit.
    pub fn close(&self) {
        self.talk.clear();
    }
}

/// A writer for log lines. It never waits; lines that nobody reads in time are dropped.
#[derive(Clone)]
pub struct Logs {
    talk: Arc<Talk>,
}

impl Write for Logs {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.talk.try_text(String::from_utf8_lossy(bytes).into_owned());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
