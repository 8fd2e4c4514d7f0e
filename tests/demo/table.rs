//! What came of it.

use crate::support::history::Verdict;
use serde_json::Value;

/// The auditor's verdict, and the program's own report.
pub struct Outcome {
    /// What the clients were told against what is there.
    pub verdict: Verdict,
    /// What `migrate report --format json` said.
    pub report: Option<Value>,
}

impl Outcome {
    /// Whether zeros are where zeros belong, and every captured revocation was replayed.
    pub fn clean(&self) -> bool {
        let revocations = match &self.report {
            None => true,
            Some(_) => match (self.captured(), self.replayed()) {
                (Some(captured), Some(replayed)) => captured > 0 && captured == replayed,
                _ => false,
            },
        };
        self.verdict.clean() && revocations
    }

    fn count(&self, field: &str) -> Option<u64> {
        self.report.as_ref()?["revocations"][field].as_u64()
    }

    fn captured(&self) -> Option<u64> {
        self.count("captured")
    }

    fn replayed(&self) -> Option<u64> {
        self.count("replayed")
    }

    /// Prints what is wrong, if anything is, and the table.
    pub fn print(&self) {
        let verdict = &self.verdict;
        for problem in &verdict.problems {
            println!("  wrong: {problem}");
        }
        let stall = verdict.longest_stall.as_ref().map_or_else(String::new, |stall| {
            format!("  ({} at {:.1} s)", stall.operation, stall.at.as_secs_f64())
        });
        let of_report = |count: Option<u64>| count.map_or_else(|| "-".to_owned(), |count| count.to_string());
        let rows = [
            ("acknowledged writes", verdict.acknowledged.to_string()),
            ("  lost", verdict.lost.to_string()),
            ("  invented", verdict.invented.to_string()),
            ("client errors", verdict.client_errors.to_string()),
            ("longest stall a client saw", format!("{:.0} ms{stall}", verdict.longest_stall_ms())),
            (
                "  half / 99 % of operations took",
                format!("{:.1} ms / {:.1} ms", verdict.latencies.p50_ms, verdict.latencies.p99_ms),
            ),
            ("revocations captured", of_report(self.captured())),
            ("  replayed", of_report(self.replayed())),
            ("  still valid on green", verdict.still_valid.to_string()),
            ("sequence collisions", verdict.collisions.to_string()),
        ];
        println!();
        for (name, value) in rows {
            println!("  {name:<34}{value}");
        }
    }
}
