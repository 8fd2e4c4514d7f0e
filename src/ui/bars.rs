//! Talk as bars on a terminal: one for each subject at work, one for the lag, and lines above them.

use super::{
    lines,
    meter::{Meter, Reading},
    render::{GREEN, PLAIN},
};
use crate::event::Event;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use std::{collections::HashMap, time::Instant};

/// More subjects than this at once are not drawn; their last lines are.
const BARS_MAX: usize = 12;

/// The bars.
pub struct Bars {
    screen: MultiProgress,
    subjects: HashMap<String, Bar>,
    lag: Option<ProgressBar>,
}

struct Bar {
    meter: Meter,
    /// `None` when there was no room.
    drawn: Option<ProgressBar>,
}

impl Bars {
    /// Draws on `screen`.
    pub fn new(screen: MultiProgress) -> Bars {
        Bars { screen, subjects: HashMap::new(), lag: None }
    }

    /// Draws an event. What it returns is a line to print above the bars.
    pub fn draw(&mut self, event: &Event, now: Instant) -> Option<String> {
        match event {
            Event::Progress { subject, rows, bytes, total_bytes, done } => {
                let reading = Reading { rows: *rows, bytes: *bytes, total_bytes: *total_bytes };
                self.progress(subject, reading, *done, now)
            }
            Event::Lag { .. } => {
                let screen = &self.screen;
                let bar = self.lag.get_or_insert_with(|| {
                    screen.add(ProgressBar::new_spinner().with_style(style("{spinner} {msg}")))
                });
                bar.set_message(lines::lag(event).unwrap_or_default());
                bar.tick();
                None
            }
            other => lines::told(other),
        }
    }

    fn progress(&mut self, name: &str, reading: Reading, done: bool, now: Instant) -> Option<String> {
        if !self.subjects.contains_key(name) {
            let room = self.subjects.len() < BARS_MAX;
            let drawn = room.then(|| self.add_bar(name, reading.total_bytes > 0));
            self.subjects.insert(name.to_owned(), Bar { meter: Meter::new(reading.bytes, now), drawn });
        }
        let bar = self.subjects.get_mut(name)?;
        bar.meter.see(reading.bytes, now);
        if done {
            let text = bar.meter.conclude(reading, now);
            if let Some(drawn) = &bar.drawn {
                drawn.finish_and_clear();
                self.screen.remove(drawn);
            }
            self.subjects.remove(name);
            return Some(format!("{GREEN}done{PLAIN}    {name}: {text}"));
        }
        if let Some(drawn) = &bar.drawn {
            // An estimate that was passed grows with what is done.
            drawn.set_length(reading.total_bytes.max(reading.bytes));
            drawn.set_position(reading.bytes);
            drawn.set_message(bar.meter.describe(reading));
        }
        None
    }

    fn add_bar(&self, name: &str, total_is_known: bool) -> ProgressBar {
        let template = if total_is_known { "{prefix} {bar:24} {msg}" } else { "{prefix} {spinner} {msg}" };
        let bar = ProgressBar::new(0).with_style(style(template)).with_prefix(name.to_owned());
        match &self.lag {
            Some(lag) => self.screen.insert_before(lag, bar),
            None => self.screen.add(bar),
        }
    }

    /// Takes the bars away.
    pub fn clear(&mut self) {
        self.subjects.clear();
        self.lag = None;
        // A terminal that is gone needs no clearing.
        let _ = self.screen.clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

#[cfg(test)]
mod tests {
    use super::*;
    use indicatif::{InMemoryTerm, ProgressDrawTarget};
    use std::time::Duration;

    fn bars() -> (Bars, InMemoryTerm) {
        let terminal = InMemoryTerm::new(20, 120);
        let target = ProgressDrawTarget::term_like_with_hz(Box::new(terminal.clone()), 255);
        (Bars::new(MultiProgress::with_draw_target(target)), terminal)
    }

    fn progress(subject: &str, bytes: u64, done: bool) -> Event {
        Event::Progress { subject: subject.into(), rows: 7, bytes, total_bytes: 4 << 20, done }
    }

    #[test]
    fn a_subject_has_a_bar_until_it_is_done() {
        let ((mut bars, terminal), begun) = (bars(), Instant::now());
        bars.draw(&progress("public.t", 0, false), begun);
        std::thread::sleep(Duration::from_millis(20));
        bars.draw(&progress("public.t", 2 << 20, false), begun + Duration::from_secs(1));
        let seen = terminal.contents();
        assert!(seen.starts_with("public.t █████"), "{seen}");
        assert!(seen.contains("7 rows, 2.0 MB of 4.0 MB (50%), 2.0 MB/s, 1.0 s left"), "{seen}");
        let last = bars.draw(&progress("public.t", 4 << 20, true), begun + Duration::from_secs(2));
        assert!(last.is_some_and(|line| line.ends_with("public.t: 7 rows, 4.0 MB in 2.0 s")));
        assert_eq!(terminal.contents(), "");
    }

    #[test]
    fn the_lag_stays_below_and_bars_have_a_limit() {
        let ((mut bars, terminal), now) = (bars(), Instant::now());
        bars.draw(&Event::Lag { bytes: 1 << 20, seconds: 0.5, transactions: 3 }, now);
        for subject in 0..40 {
            bars.draw(&progress(&format!("t{subject}"), 1, false), now);
        }
        std::thread::sleep(Duration::from_millis(20));
        bars.draw(&Event::Lag { bytes: 2 << 20, seconds: 0.5, transactions: 3 }, now);
        let seen = terminal.contents();
        assert!(seen.lines().count() <= BARS_MAX + 1, "{seen}");
        let last = seen.lines().last().unwrap();
        assert!(
            last.ends_with("lag     green is 2.0 MB and 500 ms behind; 3 transactions applied"),
            "{seen}"
        );
        bars.clear();
        assert_eq!(terminal.contents(), "");
    }
}
