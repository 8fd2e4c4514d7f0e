//! Generated pages are what the code says, and the plans we ship are good. No server is needed.
//! UPDATE_GENERATED=1 writes the pages anew.

use crate::ddl::{self, matrix, pages};
use migrate::{
    check,
    finding::{Finding, Severity},
    plan::{Plan, load, schema, validate::validate},
};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[track_caller]
fn is_up_to_date(file: &str, generated: &str) {
    let path = root().join(file);
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, generated).unwrap();
    }
    let there = fs::read_to_string(&path).unwrap_or_default();
    assert!(there == generated, "{file} is not what the code says; run the tests with UPDATE_GENERATED=1");
}

#[test]
fn the_json_schema_is_up_to_date() {
    is_up_to_date("plans/schema.json", &schema::json_schema());
}

#[test]
fn the_plan_reference_is_up_to_date() {
    is_up_to_date("docs/reference/plan.md", &schema::reference());
}

#[test]
fn the_checks_reference_is_up_to_date() {
    is_up_to_date("docs/reference/checks.md", &check::reference());
}

#[test]
fn the_command_line_reference_is_up_to_date() {
    is_up_to_date("docs/reference/cli.md", &migrate::cli::reference());
}

#[test]
fn the_exit_codes_are_up_to_date() {
    is_up_to_date("docs/reference/exit-codes.md", &migrate::error::reference());
}

#[test]
fn the_list_of_statements_is_up_to_date() {
    is_up_to_date("docs/reference/sql.md", &statements());
}

#[test]
fn every_way_has_its_page() {
    let directory = root().join("docs/ddl");
    let ways = pages::pages();
    for (name, page) in &ways {
        is_up_to_date(&format!("docs/ddl/{name}"), page);
    }
    let there =
        sorted(&directory).into_iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned());
    assert_eq!(there.collect::<Vec<_>>(), ways.into_keys().collect::<Vec<_>>());
}

#[test]
fn the_ddl_matrix_has_every_form() {
    let page = fs::read_to_string(root().join(matrix::PAGE)).unwrap_or_default();
    let stale = matrix::stale(&page, &ddl::forms());
    assert!(stale.is_empty(), "{}: run scripts/prove ddl:\n  {}\n", matrix::PAGE, stale.join("\n  "));
}

/// `sql/**/*.sql` by area, from the header of each.
fn statements() -> String {
    let mut page = String::from(
        "<!-- Generated from the headers of sql/; do not edit. UPDATE_GENERATED=1 with the tests writes it anew. -->\n\
         # The SQL we run\n\n\
         Every fixed statement is a file of its own, so that a database administrator can read what will run before it\n\
         does. Statements built from the names of your tables are made in the code; `migrate plan` shows them.\n",
    );
    for area in sorted(&root().join("sql")) {
        page.push_str(&format!("\n## {}\n\n", area.file_name().unwrap().to_str().unwrap()));
        for file in sorted(&area) {
            let text = fs::read_to_string(&file).unwrap();
            let header: Vec<&str> =
                text.lines().map_while(|line| line.strip_prefix("--")).map(str::trim).collect();
            let (name, purpose) = header[0].split_once(": ").unwrap();
            // A purpose may go on in further lines.
            let rest = header[1..].iter().take_while(|line| !line.starts_with("params:"));
            let purpose = rest.fold(purpose.to_owned(), |purpose, line| format!("{purpose} {line}"));
            page.push_str(&format!("* [{name}](../../sql/{name}.sql): {purpose}\n"));
        }
    }
    page
}

fn sorted(directory: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found
}

/// A shipped plan, with every variable set to a value of its own, and its SQL files.
fn shipped(name: &str) -> (Plan, Vec<load::SqlFile>) {
    let path = root().join("plans").join(name);
    let env = |variable: &str| {
        Some(match variable {
            // A pooler's target has a form of its own.
            "PGB_TO" => "host=green port=5432 dbname=app".to_owned(),
            other => format!("value-of-{other}"),
        })
    };
    let loaded = load::load(&path, &env).unwrap_or_else(|error| panic!("{}", error.chain().join("\n")));
    let sql = load::load_sql(&loaded.plan, &loaded.base_dir).unwrap().files;
    assert!(!format!("{loaded:?}").contains("value-of-BLUE_URL"));
    (loaded.plan, sql)
}

fn fields(findings: &[Finding]) -> Vec<String> {
    findings.iter().map(|finding| format!("{} {}", finding.code, finding.place)).collect()
}

#[test]
fn every_shipped_plan_names_its_schema_and_is_good() {
    let mut seen = BTreeSet::new();
    for entry in fs::read_dir(root().join("plans")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if !name.ends_with(".yaml") {
            continue;
        }
        let text = fs::read_to_string(root().join("plans").join(&name)).unwrap();
        assert!(text.starts_with("# yaml-language-server: $schema=schema.json\n"), "{name}");
        let (plan, _) = shipped(&name);
        let known = if name == "hydra-2x.yaml" { "NOT_YET" } else { "" };
        let others: Vec<_> = validate(&plan).into_iter().filter(|finding| finding.code != known).collect();
        assert_eq!(fields(&others), Vec::<String>::new(), "{name}");
        seen.insert(name);
    }
    for name in ["minimal.yaml", "hydra-1x-in-place.yaml", "hydra-2x.yaml"] {
        assert!(seen.contains(name), "{name} is not shipped");
    }
}

#[test]
fn the_in_place_plan_brings_its_sql_in_order() {
    let (_, sql) = shipped("hydra-1x-in-place.yaml");
    let names: Vec<&str> = sql.iter().map(|file| file.name.as_str()).collect();
    assert_eq!(names.len(), 6);
    assert_eq!(names[0], "sql/hydra-1x/01_client_auth_signing.sql");
    assert!(names.is_sorted());
}

#[test]
fn what_the_second_hydra_plan_waits_for_is_said_field_by_field() {
    let (plan, _) = shipped("hydra-2x.yaml");
    let findings = validate(&plan);
    assert!(findings.iter().all(|finding| finding.severity == Severity::Blocking));
    insta::assert_snapshot!(fields(&findings).join("\n"), @r"
    NOT_YET plan: after
    NOT_YET plan: window.adjust[0]
    NOT_YET plan: cutover.reverse
    NOT_YET plan: cutover.soak
    NOT_YET plan: cutover.gates[2].http
    ");
}
