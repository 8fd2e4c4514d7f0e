//! Figures of a work: one JSON line, and a table with medians and ratios.

use std::fmt;

/// One turn of one contender.
pub struct Run {
    pub seconds: f64,
    pub blue_cpu: f64,
    pub green_cpu: f64,
    /// Of the programs that are neither blue nor green.
    pub client_cpu: f64,
    pub load: f64,
    pub note: String,
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.2} s, CPU blue {:.1} s, green {:.1} s, client {:.1} s, load {:.1} {}",
            self.seconds, self.blue_cpu, self.green_cpu, self.client_cpu, self.load, self.note
        )
    }
}

/// All turns at a work.
pub struct Report {
    work: &'static str,
    /// How much work it is, and of what.
    size: (u64, &'static str),
    contenders: Vec<(&'static str, Vec<Run>)>,
}

/// The contender that the others are compared with.
const OURS: &str = "ours";
/// The contender that does less than the work: nobody can be faster.
const LIMIT: &str = "limit";

impl Report {
    /// Contenders are `ours`, peers by their names, and `limit` if there is one.
    pub fn new(work: &'static str, size: (u64, &'static str), contenders: &[&'static str]) -> Report {
        Report { work, size, contenders: contenders.iter().map(|name| (*name, Vec::new())).collect() }
    }

    pub fn add(&mut self, which: usize, run: Run) {
        self.contenders[which].1.push(run);
    }

    /// The line that every benchmark prints, with what else was measured.
    pub fn json(&self) -> String {
        let of = |runs: &[Run], value: fn(&Run) -> f64| {
            runs.iter().map(|run| (value(run) * 1000.0).round() / 1000.0).collect::<Vec<_>>()
        };
        let each = |value: fn(&Run) -> f64, but: &[&str]| {
            let wanted = self.contenders.iter().filter(|(name, _)| !but.contains(name));
            wanted
                .map(|(name, runs)| ((*name).to_owned(), serde_json::json!(of(runs, value))))
                .collect::<serde_json::Map<_, _>>()
        };
        let runs = |wanted| self.contenders.iter().find(|(name, _)| *name == wanted).map(|(_, runs)| runs);
        let seconds = |wanted| runs(wanted).map(|runs| of(runs, |run| run.seconds)).unwrap_or_default();
        let (amount, unit) = self.size;
        serde_json::json!({
            "work": self.work, "unit": "s", (unit): amount,
            "ours": seconds(OURS), "peers": each(|run| run.seconds, &[OURS, LIMIT]), "limit": seconds(LIMIT),
            "cpu_blue": each(|run| run.blue_cpu, &[]), "cpu_green": each(|run| run.green_cpu, &[]),
            "cpu_client": each(|run| run.client_cpu, &[]), "load": each(|run| run.load, &[]),
        })
        .to_string()
    }

    /// Medians, and ours as a ratio of each: of the time, and of all CPU.
    pub fn table(&self) -> String {
        let (amount, unit) = self.size;
        let mut text = format!(
            "{} ({amount} {unit})\n{:<16}{:>9}{:>12}{:>10}{:>10}{:>10}{:>7}{:>13}{:>12}\n",
            self.work,
            "",
            "median s",
            format!("{unit}/s"),
            "CPU blue",
            "green",
            "client",
            "load",
            "ours / this",
            "CPU ratio"
        );
        let ours = self.contenders.iter().find(|(name, _)| *name == OURS).map(|(_, runs)| runs.as_slice());
        let ours = ours.unwrap_or_default();
        for (name, runs) in &self.contenders {
            let seconds = median(runs, |run| run.seconds);
            #[allow(clippy::cast_precision_loss, reason = "a rate for people")]
            let rate = amount as f64 / seconds;
            text += &format!(
                "{name:<16}{seconds:>9.2}{rate:>12.0}{:>10.2}{:>10.2}{:>10.2}{:>7.1}{:>13.2}{:>12.2}\n",
                median(runs, |run| run.blue_cpu),
                median(runs, |run| run.green_cpu),
                median(runs, |run| run.client_cpu),
                median(runs, |run| run.load),
                median(ours, |run| run.seconds) / seconds,
                median(ours, all_cpu) / median(runs, all_cpu)
            );
        }
        text
    }
}

fn all_cpu(run: &Run) -> f64 {
    run.blue_cpu + run.green_cpu + run.client_cpu
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
