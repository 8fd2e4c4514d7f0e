//! Errors, findings and tables as text and as JSON. Pure; colors are ANSI codes, taken out where nobody wants them.

use super::numbers::things;
use crate::{
    error::Error,
    finding::{Finding, Severity},
};
use comfy_table::{Table, presets};
use serde_json::{Value, json};

pub(super) const BOLD: &str = "\x1b[1m";
pub(super) const RED: &str = "\x1b[1;31m";
pub(super) const YELLOW: &str = "\x1b[1;33m";
pub(super) const GREEN: &str = "\x1b[32m";
pub(super) const CYAN: &str = "\x1b[36m";
pub(super) const PLAIN: &str = "\x1b[0m";

/// `error: what`, its causes and its hint, a line each; ends with a newline.
pub fn error(error: &Error) -> String {
    let chain = error.chain();
    let mut text = format!("{RED}error:{PLAIN} {}\n", indented(&error.what, 2));
    for cause in chain.iter().skip(1) {
        text.push_str(&format!("  {BOLD}cause:{PLAIN} {}\n", indented(cause, 4)));
    }
    if let Some(hint) = &error.hint {
        text.push_str(&format!("  {CYAN}hint:{PLAIN} {}\n", indented(hint, 4)));
    }
    text
}

/// `{"event": "error", kind, what, causes, hint, exit_code}`.
pub fn error_json(error: &Error) -> Value {
    let chain = error.chain();
    json!({
        "event": "error",
        "kind": error.kind.as_str(),
        "what": error.what,
        "causes": chain.get(1..).unwrap_or_default(),
        "hint": error.hint,
        "exit_code": error.kind.exit_code(),
    })
}

/// The lines after the first moved right.
fn indented(text: &str, by: usize) -> String {
    text.trim_end().replace('\n', &format!("\n{:by$}", ""))
}

/// Blocking first, then by code and place.
fn sorted(findings: &[Finding]) -> Vec<&Finding> {
    let mut sorted: Vec<&Finding> = findings.iter().collect();
    sorted.sort_by(|a, b| {
        let key = |finding: &Finding| (finding.code.clone(), finding.place.clone());
        b.severity.cmp(&a.severity).then_with(|| key(a).cmp(&key(b)))
    });
    sorted
}

/// Findings, a paragraph for each code, the blocking ones first, and a closing line that counts them.
pub fn findings(findings: &[Finding]) -> String {
    findings_quoting(findings, &|_| None)
}

/// As [`findings`]; below each, what `quote` gives for it.
pub fn findings_quoting(findings: &[Finding], quote: &dyn Fn(&Finding) -> Option<String>) -> String {
    let sorted = sorted(findings);
    let mut text = String::new();
    for group in sorted.chunk_by(|a, b| (a.severity, &a.code) == (b.severity, &b.code)) {
        let color = match group[0].severity {
            Severity::Blocking => RED,
            Severity::Warning => YELLOW,
            Severity::Info => CYAN,
        };
        text.push_str(&format!("{color}{}{PLAIN} {BOLD}{}{PLAIN}\n", group[0].severity, group[0].code));
        for (index, finding) in group.iter().enumerate() {
            text.push_str(&format!("  {}: {}\n", finding.place, indented(&finding.what, 4)));
            for line in quote(finding).iter().flat_map(|quote| quote.lines()) {
                text.push_str(&format!("    {line}\n"));
            }
            // One remedy for several places is said once, after them.
            if group.get(index + 1).is_none_or(|next| next.help != finding.help) {
                text.push_str(&format!("    help: {}\n", indented(&finding.help, 6)));
            }
        }
        text.push('\n');
    }
    text.push_str(&closing(findings));
    text.push('\n');
    text
}

/// `2 blocking findings, 1 warning, 3 notes`; `no findings`.
fn closing(findings: &[Finding]) -> String {
    let counted =
        [(Severity::Blocking, "blocking finding"), (Severity::Warning, "warning"), (Severity::Info, "note")]
            .map(|(severity, word)| (count(findings, severity), word));
    let words = counted.iter().filter(|(number, _)| *number > 0).map(|(number, word)| things(*number, word));
    let words = words.collect::<Vec<_>>().join(", ");
    if words.is_empty() { "no findings".into() } else { words }
}

fn count(findings: &[Finding], severity: Severity) -> usize {
    findings.iter().filter(|finding| finding.severity == severity).count()
}

/// The findings in the order of [`findings`], and their numbers.
pub fn findings_json(findings: &[Finding]) -> Value {
    json!({
        "findings": sorted(findings),
        "blocking": count(findings, Severity::Blocking),
        "warnings": count(findings, Severity::Warning),
        "infos": count(findings, Severity::Info),
    })
}

/// Columns under their headers, two blanks apart, without borders; ends with a newline.
pub fn table(headers: &[&str], rows: &[Vec<String>]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(headers.iter().copied());
    for row in rows {
        table.add_row(row.iter().map(String::as_str));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let mut text: String = table.lines().map(|line| format!("{}\n", line.trim_end())).collect();
    if text.is_empty() {
        text.push('\n');
    }
    text
}

/// A list of objects, the headers being the keys.
pub fn table_json(headers: &[&str], rows: &[Vec<String>]) -> Value {
    let object = |row: &Vec<String>| {
        headers.iter().zip(row).map(|(key, cell)| ((*key).to_owned(), Value::from(cell.as_str()))).collect()
    };
    Value::Array(rows.iter().map(|row| Value::Object(object(row))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{error::Kind, finding::Place};

    fn plain(text: &str) -> String {
        anstream::adapter::strip_str(text).to_string()
    }

    fn failure() -> Error {
        let cause = Error::new(Kind::Server, "line one\nline two").source("the root");
        Error::new(Kind::Deadline, "it took too long").hint("wait\nlonger").source(cause)
    }

    #[test]
    fn an_error_is_what_causes_and_hint() {
        assert_eq!(
            plain(&error(&failure())),
            "error: it took too long\n  cause: line one\n    line two\n  cause: the root\n  hint: wait\n    longer\n"
        );
        assert_eq!(plain(&error(&Error::new(Kind::Plan, "bad"))), "error: bad\n");
    }

    #[test]
    fn an_error_as_json_has_its_exit_code() {
        assert_eq!(
            error_json(&failure()),
            json!({"event": "error", "kind": "deadline", "what": "it took too long",
                   "causes": ["line one\nline two", "the root"], "hint": "wait\nlonger", "exit_code": 4})
        );
    }

    fn finding(code: &str, severity: Severity, object: &str, help: &str) -> Finding {
        let place = Place::Blue { object: object.into() };
        Finding { code: code.into(), severity, place, what: format!("{object} is odd"), help: help.into() }
    }

    fn some() -> Vec<Finding> {
        vec![
            finding("SLOW", Severity::Warning, "t", "wait"),
            finding("NO_KEY", Severity::Blocking, "b", "add a key"),
            finding("FYI", Severity::Info, "x", "nothing"),
            finding("NO_KEY", Severity::Blocking, "a", "add a key"),
            finding("NO_KEY", Severity::Blocking, "c", "drop it"),
        ]
    }

    #[test]
    fn findings_are_grouped_with_the_blocking_ones_first() {
        let expected = "\
blocking NO_KEY
  blue: a: a is odd
  blue: b: b is odd
    help: add a key
  blue: c: c is odd
    help: drop it

warning SLOW
  blue: t: t is odd
    help: wait

info FYI
  blue: x: x is odd
    help: nothing

3 blocking findings, 1 warning, 1 note
";
        assert_eq!(plain(&findings(&some())), expected);
        assert_eq!(findings(&[]), "no findings\n");
    }

    #[test]
    fn findings_as_json_are_counted() {
        let value = findings_json(&some());
        assert_eq!(value["blocking"], 3);
        assert_eq!(value["findings"][0]["place"], json!({"in": "blue", "object": "a"}));
        assert_eq!(value["findings"][4]["code"], "FYI");
    }

    #[test]
    fn a_table_is_aligned_without_trailing_blanks() {
        let rows = vec![vec!["public.a".to_owned(), "1".to_owned()], vec!["b".to_owned(), "22".to_owned()]];
        assert_eq!(table(&["table", "rows"], &rows), "table     rows\npublic.a  1\nb         22\n");
        assert_eq!(table_json(&["table", "rows"], &rows)[1], json!({"table": "b", "rows": "22"}));
    }
}
