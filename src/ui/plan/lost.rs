//! What `mode: snapshot` loses, for people and for a pull request.

use super::markdown::{code, inline};
use crate::runbook::lost_writes::{LostTable, LostWrites};
use crate::ui::{
    numbers,
    render::{BOLD, PLAIN},
};

/// Of many tables, the busiest; the rest is counted.
const SHOWN_MAX: usize = 40;

/// For a terminal; ends with a newline.
pub(super) fn text(lost: &LostWrites) -> String {
    let mut text = format!("\n{BOLD}lost{PLAIN}: {}\n", introduction(lost));
    let shown = &lost.tables[..lost.tables.len().min(SHOWN_MAX)];
    let widest = shown.iter().map(|table| table.table.chars().count()).max().unwrap_or_default();
    for table in shown {
        let line = format!(
            "  {:<widest$}  {:>11} a minute now  {:>24}  {}",
            table.table,
            rate(table.per_minute_now),
            average(table),
            carried(table)
        );
        text.push_str(line.trim_end());
        text.push('\n');
    }
    if let Some(rest) = rest(lost) {
        text.push_str(&format!("  {rest}\n"));
    }
    text
}

/// For a pull request.
pub(super) fn markdown(lost: &LostWrites) -> String {
    let mut text = format!(
        "\n### lost\n\n{}\n\n| table | rows a minute now | on average | carried all the same |\n|---|--:|--:|---|\n",
        inline(&introduction(lost))
    );
    for table in lost.tables.iter().take(SHOWN_MAX) {
        text.push_str(&format!(
            "| `{}` | {} | {} | {} |\n",
            code(&table.table),
            rate(table.per_minute_now),
            inline(&average(table)),
            inline(&carried(table))
        ));
    }
    if let Some(rest) = rest(lost) {
        text.push_str(&format!("\n{rest}\n"));
    }
    text
}

fn introduction(lost: &LostWrites) -> String {
    let counted = match lost.counted_s {
        Some(seconds) => format!("on average over the {} that it has counted", numbers::seconds(seconds)),
        None => "blue does not tell for how long it has counted, so there is no average".into(),
    };
    format!(
        "what blue writes after the copy's moment, which green does not get; rows by blue's own counters, measured over {}, {counted}",
        numbers::seconds(lost.measured_s)
    )
}

fn rate(per_minute: f64) -> String {
    match per_minute {
        // Rounded it would look like nothing.
        small if small > 0.0 && small < 9.95 => format!("{small:.1}"),
        rate => numbers::count(rate.round() as u64),
    }
}

fn average(table: &LostTable) -> String {
    match table.per_minute_on_average {
        Some(average) => format!("{} on average", rate(average)),
        None => format!("{} counted", numbers::count(table.counted.total())),
    }
}

fn carried(table: &LostTable) -> String {
    match table.carried_by.as_slice() {
        [] => String::new(),
        rules => format!("revocations are carried by {}", rules.join(", ")),
    }
}

fn rest(lost: &LostWrites) -> Option<String> {
    let quieter = lost.tables.get(SHOWN_MAX..).filter(|tables| !tables.is_empty())?;
    let now: f64 = quieter.iter().map(|table| table.per_minute_now).sum();
    Some(format!(
        "and {} more, none of them busier, {} rows a minute in all",
        numbers::things(quieter.len(), "table"),
        rate(now)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::Writes;

    fn table(name: &str, now: f64, average: Option<f64>, rules: &[&str]) -> LostTable {
        LostTable {
            table: format!("public.{name}"),
            per_minute_now: now,
            per_minute_on_average: average,
            counted: Writes { inserted: 1_200, updated: 0, deleted: 0 },
            carried_by: rules.iter().map(|rule| (*rule).to_owned()).collect(),
        }
    }

    #[test]
    fn each_table_has_its_rates_and_what_is_carried_of_it() {
        let tables = vec![
            table("token", 1_234.4, Some(0.04), &["refresh-revoked", "access-revoked"]),
            table("log", 0.0, Some(12.0), &[]),
        ];
        let mut lost = LostWrites { measured_s: 5.0, counted_s: Some(7_500.0), tables };
        let shown = anstream::adapter::strip_str(&text(&lost)).to_string();
        let lines: Vec<&str> = shown.trim().lines().collect();
        assert_eq!(
            lines,
            [
                "lost: what blue writes after the copy's moment, which green does not get; rows by blue's own counters, measured over 5.0 s, on average over the 2h 05m that it has counted",
                "  public.token        1,234 a minute now            0.0 on average  revocations are carried by refresh-revoked, access-revoked",
                "  public.log              0 a minute now             12 on average",
            ]
        );
        assert!(markdown(&lost).contains("| `public.log` | 0 | 12 on average |  |"), "{}", markdown(&lost));
        lost.counted_s = None;
        lost.tables = (0..50).map(|at| table(&format!("t{at}"), 1.0, None, &[])).collect();
        let shown = text(&lost);
        assert!(shown.contains("1,200 counted") && shown.contains("there is no average"), "{shown}");
        assert!(
            shown.ends_with("  and 10 tables more, none of them busier, 10 rows a minute in all\n"),
            "{shown}"
        );
    }
}
