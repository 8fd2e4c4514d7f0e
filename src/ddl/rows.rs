//! Every row of the catalogue of measured forms, with what is planned for it: `rows.txt` is the table.

use super::{Rewritten, SqlFile, lock::Cost, rewrite, tests::live};
use crate::finding::{Severity, any_blocking};
use std::collections::BTreeSet;

const TABLE: &str = include_str!("rows.txt");

/// Rows of the catalogue, from 1.
const ROWS: std::ops::RangeInclusive<u16> = 1..=135;

/// A row: number and statement, and the lines that tell what becomes of it.
struct Row<'a> {
    number: u16,
    sql: &'a str,
    told: Vec<&'a str>,
}

fn rows() -> Vec<Row<'static>> {
    let mut rows: Vec<Row> = Vec::new();
    for line in TABLE.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match line.strip_prefix("    ") {
            Some(told) => rows.last_mut().unwrap().told.push(told),
            None => {
                let (number, sql) = line.split_once(' ').unwrap();
                rows.push(Row { number: number.parse().unwrap(), sql, told: Vec::new() });
            }
        }
    }
    rows
}

/// `ACCESS EXCLUSIVE t + SHARE r, scan`.
fn cost(cost: &Cost) -> String {
    let locks: Vec<String> =
        cost.locks.iter().map(|lock| format!("{} {}", lock.mode, lock.relation.name.as_str())).collect();
    let mut text = if locks.is_empty() { "no lock".to_owned() } else { locks.join(" + ") };
    for (does, what) in [(cost.scan, "scan"), (cost.rewrite, "rewrite"), (cost.build, "build")] {
        if does {
            text = format!("{text}, {what}");
        }
    }
    text
}

fn told(sql: &str) -> Vec<String> {
    let result = rewrite(&[SqlFile::new("a.sql", sql)], Some(&live()));
    let steps = result.statements.iter().map(|step| {
        let class = format!("{:?}", step.class).to_lowercase();
        let was = step.was.as_ref().map(|was| format!(" (was {})", cost(was))).unwrap_or_default();
        format!("{class} {}: {}{was}: {}", step.recipe, cost(&step.cost), step.sql.replace('\n', " "))
    });
    let findings = result.findings.iter().map(|finding| format!("{} {}", finding.severity, finding.code));
    steps.chain(findings).collect()
}

#[test]
fn every_row_is_planned_as_the_table_says() {
    let mut wrong = String::new();
    for row in rows() {
        let told = told(row.sql);
        if told != row.told {
            let lines: Vec<String> = told.iter().map(|line| format!("    {line}\n")).collect();
            wrong += &format!("\n{} {}\n{}", row.number, row.sql, lines.concat());
        }
    }
    assert!(wrong.is_empty(), "these rows are planned otherwise:\n{wrong}");
}

#[test]
fn no_row_is_missing() {
    let there: BTreeSet<u16> = rows().iter().map(|row| row.number).collect();
    let missing: Vec<u16> = ROWS.filter(|number| !there.contains(number)).collect();
    assert_eq!(missing, Vec::<u16>::new());
}

#[test]
fn every_row_runs_or_is_refused_with_a_way_out() {
    for row in rows() {
        let result = rewrite(&[SqlFile::new("a.sql", row.sql)], Some(&live()));
        // What would do nothing is left out, and said to be.
        let is_told = !result.statements.is_empty() || !result.findings.is_empty();
        assert!(is_told, "{} {}", row.number, row.sql);
        for step in &result.statements {
            assert!(!step.cost.works_while_others_wait() && !step.why.is_empty(), "{} {step:?}", row.number);
        }
        for finding in &result.findings {
            assert!(!finding.help.is_empty(), "{} {finding:?}", row.number);
        }
    }
}

#[test]
fn what_a_row_became_is_not_changed_again() {
    let mut changed = String::new();
    for row in rows() {
        let plan = |sql: &str| rewrite(&[SqlFile::new("a.sql", sql)], Some(&live()));
        let text = |result: &Rewritten| {
            let lines: Vec<&str> = result.statements.iter().map(|step| step.sql.as_str()).collect();
            lines.join(";\n")
        };
        let once = plan(row.sql);
        if any_blocking(&once.findings) {
            continue;
        }
        let again = plan(&text(&once));
        let new: Vec<&str> = again
            .findings
            .iter()
            .filter(|finding| finding.severity > Severity::Info)
            .map(|finding| finding.code.as_str())
            // What the one transaction of a swap hides from clients, its statements by themselves show.
            .filter(|code| *code != "DDL_CLIENT_VISIBLE")
            .filter(|code| !once.findings.iter().any(|before| before.code == *code))
            .collect();
        if text(&again) != text(&once) || !new.is_empty() {
            changed +=
                &format!("\n{} {}\n{}\n->\n{}\n{new:?}\n", row.number, row.sql, text(&once), text(&again));
        }
    }
    assert!(changed.is_empty(), "these are planned otherwise the second time:\n{changed}");
}
