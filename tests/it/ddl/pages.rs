//! A page for each way to do a statement online: what it does, PostgreSQL's manual, and the rows of the catalogue it does, as the
//! unit tests hold them (`src/ddl/rows.txt`).

use migrate::ddl::{Way, ways};
use std::collections::BTreeMap;

const ROWS: &str = include_str!("../../../src/ddl/rows.txt");
const MANUAL: &str = "https://www.postgresql.org/docs/current";
const HEAD: &str = "<!-- Generated; do not edit. UPDATE_GENERATED=1 with the tests writes it anew. -->";

/// Every page of docs/ddl by its file's name.
pub fn pages() -> BTreeMap<String, String> {
    let ways = ways();
    let mut pages: BTreeMap<String, String> =
        ways.iter().map(|way| (format!("{}.md", way.name), page(way))).collect();
    pages.insert("README.md".into(), index(&ways));
    pages
}

fn index(ways: &[Way]) -> String {
    let mut page = format!(
        "{HEAD}\n# How statements are run online\n\n\
         `migrate plan --format json` names the way of each step as `recipe`. What was measured of each form on every\n\
         major is in [the matrix](../reference/ddl-matrix.md).\n\n"
    );
    for way in ways {
        page.push_str(&format!("* [{}]({}.md): {}\n", way.name, way.name, way.about));
    }
    page
}

fn page(way: &Way) -> String {
    let mut page = format!(
        "{HEAD}\n# {}\n\n{}\n\nPostgreSQL's manual: [{}]({MANUAL}/{}).\n",
        way.name,
        way.about,
        way.manual.trim_end_matches(".html"),
        way.manual
    );
    let examples: Vec<&str> =
        ROWS.split("\n\n").filter(|row| row.contains(&format!(" {}: ", way.name))).collect();
    if !examples.is_empty() {
        page.push_str(
            "\nEach statement with its number in the catalogue of forms, and below it what runs in its place: class, way, locks (and what\n\
             the statement as it is written would have cost).\n\n```text\n",
        );
        page.push_str(examples.join("\n\n").trim_end());
        page.push_str("\n```\n");
    }
    page
}
