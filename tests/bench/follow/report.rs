//! Figures of a work: one JSON line, and a table with medians and ratios.

use std::fmt;

/// One consumer's replay.
pub struct Run {
    pub seconds: f64,
    pub blue_cpu: f64,
    pub green_cpu: f64,
    pub load: f64,
    pub note: String,
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.2} s, CPU blue {:.1} s, green {:.1} s, load {:.1} {}",
            self.seconds, self.blue_cpu, self.green_cpu, self.load, self.note
        )
    }
}

/// All replays of a work.
pub struct Report {
    work: &'static str,
    changes: u64,
    /// Ours, native, limit.
    runs: [Vec<Run>; 3],
}

impl Report {
    pub fn new(work: &'static str, changes: u64) -> Report {
        Report { work, changes, runs: [Vec::new(), Vec::new(), Vec::new()] }
    }

    pub fn add(&mut self, which: usize, run: Run) {
        self.runs[which].push(run);
    }

    /// The line that every benchmark prints, with what else was measured.
    pub fn json(&self) -> String {
        let [ours, native, limit] = &self.runs;
        let of = |runs: &[Run], value: fn(&Run) -> f64| {
            runs.iter().map(|run| (value(run) * 1000.0).round() / 1000.0).collect::<Vec<_>>()
        };
        serde_json::json!({
            "work": self.work, "unit": "s", "changes": self.changes,
            "ours": of(ours, |run| run.seconds),
            "peers": { "native": of(native, |run| run.seconds) },
            "limit": of(limit, |run| run.seconds),
            "cpu_green": { "ours": of(ours, |run| run.green_cpu), "native": of(native, |run| run.green_cpu) },
            "cpu_blue": { "ours": of(ours, |run| run.blue_cpu), "native": of(native, |run| run.blue_cpu) },
            "load": { "ours": of(ours, |run| run.load), "native": of(native, |run| run.load) },
        })
        .to_string()
    }

    /// Medians, and ours as a ratio of each.
    pub fn table(&self) -> String {
        let ours = median(&self.runs[0], |run| run.seconds);
        let mut text = format!(
            "{} ({} changes)\n{:<8}{:>10}{:>12}{:>12}{:>12}{:>8}{:>14}\n",
            self.work,
            self.changes,
            "",
            "median s",
            "changes/s",
            "CPU blue",
            "CPU green",
            "load",
            "ours / this"
        );
        for (name, runs) in ["ours", "native", "limit"].iter().zip(&self.runs) {
            let seconds = median(runs, |run| run.seconds);
            #[allow(clippy::cast_precision_loss, reason = "a rate for people")]
            let rate = self.changes as f64 / seconds;
            text += &format!(
                "{name:<8}{seconds:>10.2}{rate:>12.0}{:>12.2}{:>12.2}{:>8.1}{:>14.2}\n",
                median(runs, |run| run.blue_cpu),
                median(runs, |run| run.green_cpu),
                median(runs, |run| run.load),
                ours / seconds
            );
        }
        text
    }
}

fn median(runs: &[Run], value: fn(&Run) -> f64) -> f64 {
    let mut values: Vec<f64> = runs.iter().map(value).collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[n / 2],
        n => f64::midpoint(values[n / 2 - 1], values[n / 2]),
    }
}
