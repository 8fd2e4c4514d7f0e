//! The plan's throttle, read again while rows are copied.

use super::session::Session;
use crate::error::{Doing, Error, Kind, Result};
use crate::finding::Finding;
use crate::plan::{Plan, Throttle, load, validate};
use std::path::Path;
use std::time::Duration;

/// How often the file is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Reads the plan's file again and again, and hands its throttle on when it was changed. What does not fit is told once, and
/// the old limits stay. It ends only when it is dropped.
pub(super) async fn read_again(session: &Session, plan_file: &Path) {
    let world = &session.world;
    let mut reader = Reader::default();
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let path = plan_file.to_owned();
        let read =
            tokio::task::spawn_blocking(move || load::load(&path, &|name| std::env::var(name).ok())).await;
        let read = read.doing(Kind::Bug, || "reading the plan again broke down".into());
        let read = read.and_then(|loaded| loaded).map(|loaded| (loaded.text, loaded.plan));
        match reader.take_in(read, &world.plan) {
            Seen::Nothing => {}
            Seen::Throttle { limits, warning } => {
                warning.into_iter().for_each(|text| world.warn(text));
                session.throttle.send_if_modified(|now| {
                    let is_new = *now != limits;
                    *now = limits;
                    is_new
                });
            }
            Seen::Misfit(text) => world.warn(text),
        }
    }
}

/// What was read before.
#[derive(Default)]
struct Reader {
    /// What the last look read.
    last: Option<Result<String, String>>,
    /// What was taken in or complained of.
    taken: Option<Result<String, String>>,
}

/// What a look comes to.
#[derive(Debug, PartialEq)]
enum Seen {
    /// As before; or as never before, and maybe half written.
    Nothing,
    /// Limits that may be new, and what to say of the rest of the file.
    Throttle { limits: Throttle, warning: Option<String> },
    /// Why it is not taken.
    Misfit(String),
}

impl Reader {
    /// Takes in what was read. A text counts when two looks in a row saw it: an editor may be writing it.
    fn take_in(&mut self, read: Result<(String, Plan)>, running: &Plan) -> Seen {
        let (text, plan) = match read {
            Ok((text, plan)) => (Ok(text), Ok(plan)),
            Err(error) => (Err(error.chain().join(": ")), Err(error)),
        };
        let is_settled = self.last.as_ref() == Some(&text);
        self.last = Some(text.clone());
        if !is_settled || self.taken.as_ref() == Some(&text) {
            return Seen::Nothing;
        }
        let is_first = self.taken.is_none();
        self.taken = Some(text);
        let misfit = |why: String| {
            Seen::Misfit(format!("the plan's file is not taken, the old throttle stays: {why}"))
        };
        match plan {
            Err(error) => misfit(error.chain().join(": ")),
            Ok(plan) => match refuse(&plan.replicate.throttle) {
                Err(error) => misfit(error.what),
                // What we run by was read from it a moment ago.
                Ok(()) if is_first && plan.replicate.throttle == running.replicate.throttle => Seen::Nothing,
                Ok(()) => Seen::Throttle {
                    warning: differs(&plan, running).then(|| {
                        "the plan's file was changed beyond replicate.throttle: only that is taken, and the next command will refuse the rest".into()
                    }),
                    limits: plan.replicate.throttle,
                },
            },
        }
    }
}

fn refuse(limits: &Throttle) -> Result<()> {
    let findings: Vec<Finding> = validate::throttle_alone(limits);
    match findings.first() {
        None => Ok(()),
        Some(finding) => {
            Err(Error::new(Kind::Plan, format!("{}: {}; {}", finding.place, finding.what, finding.help)))
        }
    }
}

/// Whether more than the throttle differs.
fn differs(one: &Plan, other: &Plan) -> bool {
    match (serde_json::to_string(&one.pinned()), serde_json::to_string(&other.pinned())) {
        (Ok(one), Ok(other)) => one != other,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::quantity::Rate;

    const HEAD: &str = "version: 1\nname: a\nkind: blue_green\nblue: { url: b }\ngreen: { url: g }\n";

    fn read(rest: &str) -> Result<(String, Plan)> {
        let text = format!("{HEAD}{rest}");
        let plan = load::parse(&text, "p.yaml", &|_| None)?;
        Ok((text, plan))
    }

    #[test]
    fn a_change_counts_when_it_is_seen_twice_and_once() {
        let running = read("").unwrap().1;
        let mut reader = Reader::default();
        let mut look = |rest: &str| reader.take_in(read(rest), &running);
        assert_eq!([look(""), look(""), look("")], [Seen::Nothing, Seen::Nothing, Seen::Nothing]);
        let edited = "replicate: { throttle: { rate_max: 1MB/s } }\n";
        let limits = Throttle { rate_max: Some(Rate(1 << 20)), ..Throttle::default() };
        assert_eq!(look(edited), Seen::Nothing);
        assert_eq!(look(edited), Seen::Throttle { limits, warning: None });
        assert_eq!(look(edited), Seen::Nothing);
        // Taken away again.
        look("");
        assert_eq!(look(""), Seen::Throttle { limits: Throttle::default(), warning: None });
    }

    #[test]
    fn what_does_not_fit_is_told_once_and_changes_beyond_the_throttle_too() {
        let running = read("").unwrap().1;
        let mut reader = Reader::default();
        let mut look = |rest: &str| reader.take_in(read(rest), &running);
        for bad in ["replicate: { throttle: { rate_max: 1kB/s } }\n", "replicate: { throttle: { rat: 1 } }\n"]
        {
            assert_eq!(look(bad), Seen::Nothing);
            assert!(matches!(look(bad), Seen::Misfit(text) if text.contains("the old throttle stays")));
            assert_eq!(look(bad), Seen::Nothing);
        }
        look("replicate: { workers: 3 }\n");
        assert!(matches!(look("replicate: { workers: 3 }\n"), Seen::Throttle { warning: Some(_), .. }));
    }
}
