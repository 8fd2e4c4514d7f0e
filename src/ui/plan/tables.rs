//! The tables that are copied, for people and for a pull request.

use super::markdown::{code, inline};
use crate::runbook::copied::{CopiedTable, CopyList, Cut};
use crate::ui::{
    numbers,
    render::{BOLD, PLAIN},
};

/// Of many tables, the biggest; the rest is counted.
const SHOWN_MAX: usize = 40;

/// For a terminal; ends with a newline.
pub(super) fn text(list: &CopyList) -> String {
    let mut text = format!("\n{BOLD}copied{PLAIN}: {}\n", total(list));
    let shown = &list.tables[..list.tables.len().min(SHOWN_MAX)];
    let widest = shown.iter().map(|table| table.blue.chars().count()).max().unwrap_or_default();
    for table in shown {
        let line = format!(
            "  {:<widest$}  {:>9}  {:>15}  {}",
            table.blue,
            numbers::bytes(table.bytes),
            rows(table),
            how(table)
        );
        text.push_str(line.trim_end());
        text.push('\n');
    }
    if let Some(rest) = rest(list) {
        text.push_str(&format!("  {rest}\n"));
    }
    text
}

/// For a pull request.
pub(super) fn markdown(list: &CopyList) -> String {
    let mut text =
        format!("\n### copied\n\n{}\n\n| table | bytes | rows | how |\n|---|--:|--:|---|\n", total(list));
    for table in list.tables.iter().take(SHOWN_MAX) {
        text.push_str(&format!(
            "| `{}` | {} | {} | {} |\n",
            code(&table.blue),
            numbers::bytes(table.bytes),
            rows(table),
            inline(&how(table))
        ));
    }
    if let Some(rest) = rest(list) {
        text.push_str(&format!("\n{rest}\n"));
    }
    text
}

fn total(list: &CopyList) -> String {
    let unknown = list.tables.iter().filter(|table| table.rows_estimate.is_none()).count();
    let but = match unknown {
        0 => String::new(),
        count => format!(" and those of {} never analyzed", numbers::things(count, "table")),
    };
    format!(
        "{}, {} without indexes, about {} rows{but}, {} at a time; as blue was when it was looked at",
        numbers::things(list.tables.len(), "table"),
        numbers::bytes(list.bytes),
        numbers::count(list.rows_estimate),
        numbers::things(list.streams, "stream"),
    )
}

fn rows(table: &CopiedTable) -> String {
    table.rows_estimate.map_or_else(|| "unknown".into(), |rows| format!("{} rows", numbers::count(rows)))
}

fn how(table: &CopiedTable) -> String {
    let mut words = Vec::new();
    if table.green != table.blue {
        words.push(format!("to {}", table.green));
    }
    if table.mapped {
        words.push("mapped".into());
    }
    match &table.cut {
        Cut::Whole => {}
        Cut::Blocks { pieces } => words.push(format!("{pieces} pieces by blocks, under one snapshot")),
        Cut::Ranges { key, ranges } => words.push(format!("about {ranges} ranges of {key}")),
        Cut::Impossible => words.push("its key does not allow the ranges that the plan wants".into()),
    }
    words.join(", ")
}

fn rest(list: &CopyList) -> Option<String> {
    let smaller = list.tables.get(SHOWN_MAX..).filter(|tables| !tables.is_empty())?;
    let bytes = smaller.iter().map(|table| table.bytes).sum();
    Some(format!(
        "and {} more, each smaller, {} in all",
        numbers::things(smaller.len(), "table"),
        numbers::bytes(bytes)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(name: &str, bytes: u64, cut: Cut) -> CopiedTable {
        CopiedTable {
            blue: format!("public.{name}"),
            green: format!("public.{name}"),
            rows_estimate: Some(bytes / 100),
            bytes,
            cut,
            mapped: false,
        }
    }

    fn example() -> CopyList {
        let key = "id".to_owned();
        let tables = vec![
            table("huge", 80 << 30, Cut::Ranges { key, ranges: 20 }),
            table("big", 9 << 30, Cut::Blocks { pieces: 2 }),
            CopiedTable { green: "app.b".into(), mapped: true, ..table("a", 1 << 20, Cut::Whole) },
            CopiedTable { rows_estimate: None, ..table("small", 8192, Cut::Whole) },
        ];
        CopyList { bytes: 90 << 30, rows_estimate: 955_000_000, streams: 2, tables }
    }

    #[test]
    fn each_table_has_a_line() {
        let shown = anstream::adapter::strip_str(&text(&example())).to_string();
        let lines: Vec<&str> = shown.trim().lines().collect();
        assert_eq!(
            lines,
            [
                "copied: 4 tables, 90.0 GB without indexes, about 955,000,000 rows and those of 1 table never analyzed, 2 streams at a time; as blue was when it was looked at",
                "  public.huge     80.0 GB  858,993,459 rows  about 20 ranges of id",
                "  public.big       9.0 GB  96,636,764 rows  2 pieces by blocks, under one snapshot",
                "  public.a         1.0 MB      10,485 rows  to app.b, mapped",
                "  public.small     8.0 kB          unknown",
            ]
        );
        let page = markdown(&example());
        assert!(page.contains("| `public.a` | 1.0 MB | 10,485 rows | to app.b, mapped |"), "{page}");
    }

    #[test]
    fn of_many_tables_the_smaller_are_counted() {
        let mut list = example();
        list.tables = (0..50).map(|at| table(&format!("t{at}"), 1 << 20, Cut::Whole)).collect();
        let shown = text(&list);
        assert!(shown.ends_with("  and 10 tables more, each smaller, 10.0 MB in all\n"), "{shown}");
        assert_eq!(shown.trim().lines().count(), 42);
    }
}
