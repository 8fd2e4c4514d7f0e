//! SARIF 2.1.0, which code scanning reads. Only what is required and what shows up: one run, a rule a code, a result a finding.

use super::Shown;
use crate::finding::{Finding, Place, Severity};
use serde_json::{Value, json};
use std::collections::BTreeMap;

const SCHEMA: &str = "https://json.schemastore.org/sarif-2.1.0.json";

/// Where the ways to run statements online are explained, each with its page in PostgreSQL's manual.
const HELP: &str = concat!(env!("CARGO_PKG_REPOSITORY"), "/blob/main/docs/ddl/README.md");

/// The log, as one JSON document.
pub fn sarif(shown: &Shown) -> Value {
    let mut rules: BTreeMap<&str, (Severity, &str)> = BTreeMap::new();
    for finding in &shown.findings {
        let (worst, _) = rules.entry(&finding.code).or_insert((finding.severity, &finding.help));
        *worst = finding.severity.max(*worst);
    }
    let order: BTreeMap<&str, usize> = rules.keys().enumerate().map(|(at, code)| (*code, at)).collect();
    let rules: Vec<Value> = rules
        .iter()
        .map(|(code, (severity, help))| {
            json!({
                "id": code,
                "name": code,
                "shortDescription": { "text": code.to_lowercase().replace('_', " ") },
                "help": { "text": help },
                "helpUri": HELP,
                "defaultConfiguration": { "level": level(*severity) },
            })
        })
        .collect();
    let home = shown.files.first().map_or(shown.path.as_str(), |file| &file.name);
    let results: Vec<Value> = shown
        .findings
        .iter()
        .map(|finding| result(finding, order.get(finding.code.as_str()).copied(), home))
        .collect();
    json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "migrate",
                "version": env!("CARGO_PKG_VERSION"),
                "informationUri": env!("CARGO_PKG_REPOSITORY"),
                "rules": rules,
            }},
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    })
}

fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Blocking => "error",
        Severity::Warning => "warning",
        Severity::Info => "note",
    }
}

fn result(finding: &Finding, rule: Option<usize>, home: &str) -> Value {
    let mut result = json!({
        "ruleId": finding.code,
        "ruleIndex": rule,
        "level": level(finding.severity),
        "message": { "text": format!("{} {}", sentence(&finding.what), finding.help) },
        "locations": [location(&finding.place, home)],
    });
    // The same finding at a moved line is the same finding.
    result["partialFingerprints"] = json!({ "migrate/v1": format!("{}:{}", finding.code, finding.what) });
    result
}

fn sentence(what: &str) -> String {
    if what.ends_with(['.', '!', '?']) { what.to_owned() } else { format!("{what}.") }
}

/// Code scanning shows only what is in a file: what is elsewhere is put at the beginning of `home`, by name.
fn location(place: &Place, home: &str) -> Value {
    let at = |file: &str, line: u32, column: u32| json!({ "artifactLocation": { "uri": uri(file) }, "region": { "startLine": line, "startColumn": column } });
    match place {
        Place::Sql { file, line, column } => json!({ "physicalLocation": at(file, *line, *column) }),
        other => json!({
            "physicalLocation": at(home, 1, 1),
            "logicalLocations": [{ "fullyQualifiedName": other.to_string() }],
        }),
    }
}

/// A path as a URI reference: relative to the repository when it is relative, with what has a meaning in URIs escaped.
fn uri(path: &str) -> String {
    let path = path.strip_prefix("./").unwrap_or(path);
    let mut uri = if path.starts_with('/') { "file://".to_owned() } else { String::new() };
    for byte in path.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' | b'~' => {
                uri.push(byte as char)
            }
            _ => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    uri
}
