//! Talk as plain lines, for CI and pipes: of one subject at most a line a second.

use super::{
    meter::{Meter, Reading},
    numbers,
    render::{BOLD, CYAN, GREEN, PLAIN, YELLOW},
};
use crate::event::Event;
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

/// The least time between two lines of one subject.
const PACE: Duration = Duration::from_secs(1);

/// What was said of each subject, and when.
#[derive(Default)]
pub struct Lines {
    subjects: HashMap<String, Subject>,
    lag_said: Option<Instant>,
}

struct Subject {
    meter: Meter,
    said: Instant,
}

impl Lines {
    /// The line for an event; `None` when it is too early for another one.
    pub fn line(&mut self, event: &Event, now: Instant) -> Option<String> {
        match event {
            Event::Progress { subject, rows, bytes, total_bytes, done } => {
                let reading = Reading { rows: *rows, bytes: *bytes, total_bytes: *total_bytes };
                self.progress(subject, reading, *done, now)
            }
            Event::Lag { .. } => {
                if self.lag_said.is_some_and(|said| now.saturating_duration_since(said) < PACE) {
                    return None;
                }
                self.lag_said = Some(now);
                lag(event)
            }
            other => told(other),
        }
    }

    fn progress(&mut self, name: &str, reading: Reading, done: bool, now: Instant) -> Option<String> {
        let first = !self.subjects.contains_key(name);
        let new = || Subject { meter: Meter::new(reading.bytes, now), said: now };
        let subject = self.subjects.entry(name.to_owned()).or_insert_with(new);
        subject.meter.see(reading.bytes, now);
        if done {
            let text = subject.meter.conclude(reading, now);
            self.subjects.remove(name);
            return Some(format!("{GREEN}done{PLAIN}    {name}: {text}"));
        }
        if !first && now.saturating_duration_since(subject.said) < PACE {
            return None;
        }
        subject.said = now;
        Some(format!("        {name}: {}", subject.meter.describe(reading)))
    }
}

/// How far green is behind, in words; `None` for other events.
pub fn lag(event: &Event) -> Option<String> {
    let Event::Lag { bytes, seconds, transactions } = event else { return None };
    let behind = match (bytes, *seconds > 0.0) {
        (0, false) => "green is level with blue".to_owned(),
        _ => format!("green is {} and {} behind", numbers::bytes(*bytes), numbers::seconds(*seconds)),
    };
    Some(format!("lag     {behind}; {} transactions applied", numbers::count(*transactions)))
}

/// The line for what is said once; `None` for progress and lag.
pub fn told(event: &Event) -> Option<String> {
    Some(match event {
        Event::Phase { name } => format!("{BOLD}{name}{PLAIN}"),
        Event::StepStarted { step, title } => format!("{CYAN}start{PLAIN}   {step}: {title}"),
        Event::StepDone { step, elapsed_ms } => {
            format!(
                "{GREEN}done{PLAIN}    {step} in {}",
                numbers::duration(Duration::from_millis(*elapsed_ms))
            )
        }
        Event::StepFound { step, adopted: false } => format!("{GREEN}found{PLAIN}   {step}: done before"),
        Event::StepFound { step, adopted: true } => {
            format!("{GREEN}found{PLAIN}   {step}: there before us, will not be undone")
        }
        Event::StepUndone { step } => format!("{YELLOW}undone{PLAIN}  {step}"),
        Event::Throttled { by: Some(by) } => format!("{YELLOW}waits{PLAIN}   the copy is throttled by {by}"),
        Event::Throttled { by: None } => {
            format!("{GREEN}goes on{PLAIN} blue is within the throttle's limits")
        }
        Event::Note { text } => format!("{CYAN}note:{PLAIN} {text}"),
        Event::Warning { text } => format!("{YELLOW}warning:{PLAIN} {text}"),
        Event::Progress { .. } | Event::Lag { .. } => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(lines: &mut Lines, event: &Event, now: Instant) -> Option<String> {
        lines.line(event, now).map(|line| anstream::adapter::strip_str(&line).to_string())
    }

    fn progress(subject: &str, bytes: u64, done: bool) -> Event {
        Event::Progress { subject: subject.into(), rows: 5000, bytes, total_bytes: 4 << 20, done }
    }

    #[test]
    fn a_subject_has_a_line_a_second_and_a_last_one() {
        let (mut lines, begun) = (Lines::default(), Instant::now());
        let at = |ms| begun + Duration::from_millis(ms);
        let first = said(&mut lines, &progress("public.t", 0, false), at(0));
        assert_eq!(first.as_deref(), Some("        public.t: 5,000 rows, 0 B of 4.0 MB (0%)"));
        assert_eq!(said(&mut lines, &progress("public.t", 1 << 20, false), at(900)), None);
        assert!(said(&mut lines, &progress("public.u", 1, false), at(900)).is_some());
        let later = said(&mut lines, &progress("public.t", 2 << 20, false), at(2000)).unwrap();
        assert!(later.starts_with("        public.t: 5,000 rows, 2.0 MB of 4.0 MB (50%), "), "{later}");
        assert!(later.ends_with(" left"), "{later}");
        let last = said(&mut lines, &progress("public.t", 4 << 20, true), at(2100));
        assert_eq!(last.as_deref(), Some("done    public.t: 5,000 rows, 4.0 MB in 2.1 s"));
        assert_eq!(lines.subjects.len(), 1);
    }

    #[test]
    fn lag_is_in_bytes_and_seconds() {
        let (mut lines, now) = (Lines::default(), Instant::now());
        let lag = |bytes, seconds| Event::Lag { bytes, seconds, transactions: 1234 };
        let expected = "lag     green is 1.5 MB and 2.5 s behind; 1,234 transactions applied";
        assert_eq!(said(&mut lines, &lag(3 << 19, 2.5), now).as_deref(), Some(expected));
        assert_eq!(said(&mut lines, &lag(0, 0.0), now), None);
        let level = said(&mut lines, &lag(0, 0.0), now + PACE);
        assert_eq!(level.as_deref(), Some("lag     green is level with blue; 1,234 transactions applied"));
    }

    #[test]
    fn every_step_event_has_its_line() {
        let (mut lines, now) = (Lines::default(), Instant::now());
        let step = || "fence/stop-writes".to_owned();
        let events = [
            (
                Event::StepStarted { step: step(), title: "Stop writes".into() },
                "start   fence/stop-writes: Stop writes",
            ),
            (Event::StepDone { step: step(), elapsed_ms: 1234 }, "done    fence/stop-writes in 1.2 s"),
            (Event::StepFound { step: step(), adopted: false }, "found   fence/stop-writes: done before"),
            (Event::StepUndone { step: step() }, "undone  fence/stop-writes"),
            (Event::Throttled { by: Some("b".into()) }, "waits   the copy is throttled by b"),
            (Event::Throttled { by: None }, "goes on blue is within the throttle's limits"),
            (Event::Warning { text: "w".into() }, "warning: w"),
        ];
        for (event, expected) in events {
            assert_eq!(said(&mut lines, &event, now).as_deref(), Some(expected));
        }
    }
}
