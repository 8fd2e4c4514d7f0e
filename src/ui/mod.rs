//! The only place that prints. Data goes to standard output, talk to standard error.
//!
//! Talk has three forms: bars on a terminal; plain lines elsewhere, at most one a second of each subject; with `--json`
//! one JSON object a line, each with a key `event`, the error that ends a run included. In every form it stays on
//! standard error, so that standard output holds the command's result and nothing else: text, or one JSON document.
//!
//! `NO_COLOR`, `CLICOLOR` and `CLICOLOR_FORCE` are honored for each stream. A reader that goes away (`| head`) ends neither
//! the program nor a migration: what it does not read is dropped.

pub mod amount;
mod bars;
mod lines;
pub mod meter;
pub mod render;
mod talk;

use crate::{
    error::{Doing, Error, Kind, Result},
    event::{Event, Listener},
    finding::Finding,
};
use anstream::{AutoStream, ColorChoice};
use indicatif::{MultiProgress, ProgressDrawTarget};
use serde::Serialize;
use std::{
    io::{self, ErrorKind, IsTerminal, Write},
    sync::{Arc, Mutex, PoisonError},
};
use talk::{Stage, Talk};

/// How talk is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Bars on a terminal.
    Bars,
    /// Plain lines, in CI and pipes.
    Lines,
    /// A JSON object a line.
    Json,
}

/// What the operator asked for on the command line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// `--json`
    pub json: bool,
    /// `--yes`: questions are answered yes.
    pub yes: bool,
}

/// Shows everything the operator sees.
pub struct Ui {
    mode: Mode,
    yes: bool,
    out: Mutex<Out>,
    out_colors: bool,
    screen: Option<MultiProgress>,
    talk: Arc<Talk>,
}

struct Out {
    stream: Box<dyn Write + Send>,
    /// The reader went away.
    closed: bool,
}

impl Ui {
    /// Looks at the two streams and the environment, and decides how to show things.
    pub fn new(options: Options) -> Ui {
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let mode = match options.json {
            true => Mode::Json,
            false if io::stderr().is_terminal() && !dumb && std::env::var_os("CI").is_none() => Mode::Bars,
            false => Mode::Lines,
        };
        let screen =
            (mode == Mode::Bars).then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr()));
        let stage = Stage {
            mode,
            out: Box::new(io::stderr()),
            colors: AutoStream::choice(&io::stderr()) != ColorChoice::Never,
            screen,
        };
        let out_colors = AutoStream::choice(&io::stdout()) != ColorChoice::Never;
        Ui::with(stage, Box::new(io::stdout()), out_colors, options)
    }

    fn with(stage: Stage, out: Box<dyn Write + Send>, out_colors: bool, options: Options) -> Ui {
        Ui {
            mode: stage.mode,
            yes: options.yes,
            out: Mutex::new(Out { stream: out, closed: false }),
            out_colors,
            screen: stage.screen.clone(),
            talk: Arc::new(Talk::start(stage)),
        }
    }

    /// How talk is shown.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Prints a command's result to standard output, as it is; a missing newline at its end is added.
    ///
    /// # Errors
    /// [`Kind::Request`] when it cannot be written (a full disk); a reader that went away is no error.
    pub fn data(&self, text: &str) -> Result<()> {
        // So that what was told before stands before it on a terminal.
        self.talk.flush();
        let plain;
        let text = if self.out_colors {
            text
        } else {
            plain = anstream::adapter::strip_str(text).to_string();
            &plain
        };
        let newline = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
        let write = || {
            let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
            if out.closed {
                return Ok(());
            }
            let stream = &mut out.stream;
            let written = stream
                .write_all(text.as_bytes())
                .and_then(|()| stream.write_all(newline.as_bytes()))
                .and_then(|()| stream.flush());
            match written {
                Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                    out.closed = true;
                    Ok(())
                }
                written => written,
            }
        };
        let written = match &self.screen {
            Some(screen) => screen.suspend(write),
            None => write(),
        };
        written.doing(Kind::Request, || "cannot write to standard output".into())
    }

    /// Prints a command's result to standard output as one JSON document.
    ///
    /// # Errors
    /// As [`Ui::data`].
    pub fn json(&self, value: &impl Serialize) -> Result<()> {
        let text = serde_json::to_string_pretty(value)
            .doing(Kind::Bug, || "a result cannot be written as JSON".into())?;
        self.data(&text)
    }

    /// Prints findings: text, or with `--json` one document.
    ///
    /// # Errors
    /// As [`Ui::data`].
    pub fn findings(&self, findings: &[Finding]) -> Result<()> {
        match self.mode {
            Mode::Json => self.json(&render::findings_json(findings)),
            Mode::Bars | Mode::Lines => self.data(&render::findings(findings)),
        }
    }

    /// Prints a table: text, or with `--json` a list of objects.
    ///
    /// # Errors
    /// As [`Ui::data`].
    pub fn table(&self, headers: &[&str], rows: &[Vec<String>]) -> Result<()> {
        match self.mode {
            Mode::Json => self.json(&render::table_json(headers, rows)),
            Mode::Bars | Mode::Lines => self.data(&render::table(headers, rows)),
        }
    }

    /// Says one sentence on standard error.
    pub fn note(&self, text: impl Into<String>) {
        self.tell(Event::Note { text: text.into() });
    }

    /// Shows the error that ends the run, and waits until it is shown. The caller exits with its kind's code.
    pub fn error(&self, error: &Error) {
        self.talk.text(match self.mode {
            Mode::Json => format!("{}\n", render::error_json(error)),
            Mode::Bars | Mode::Lines => render::error(error),
        });
        self.talk.flush();
    }

    /// Asks a question that is answered with yes or no; no is the default.
    ///
    /// # Errors
    /// [`Kind::Request`] when nobody can be asked (no terminal, or `--json`) and `--yes` was not given.
    pub fn confirm(&self, question: &str) -> Result<bool> {
        if self.yes {
            self.note(format!("{question} yes (--yes)"));
            return Ok(true);
        }
        let nobody = !io::stdin().is_terminal() || !io::stderr().is_terminal() || self.mode == Mode::Json;
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

    /// Waits until everything told so far is shown; two seconds at most.
    pub fn flush(&self) {
        self.talk.flush();
    }
}

impl Listener for Ui {
    fn tell(&self, event: Event) {
        self.talk.event(event);
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
