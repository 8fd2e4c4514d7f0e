//! Every way a plan can be wrong gives one clear message: where, what, and what to do. No server is needed.

use migrate::{
    error::{Error, Kind},
    plan::load::{self, load, load_sql},
};
use std::{fs, path::PathBuf};

/// A directory of this test's own, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("migrate-plan-errors-{test}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    /// The message without this directory's own path.
    fn message(&self, error: &Error) -> String {
        message(error)
            .replace(&format!("{}/", self.0.display()), "")
            .replace(&self.0.display().to_string(), ".")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn message(error: &Error) -> String {
    assert_eq!(error.kind, Kind::Plan);
    assert_eq!(error.kind.exit_code(), 1);
    let hint = error.hint.as_deref().map(|hint| format!("\nhelp: {hint}")).unwrap_or_default();
    format!("{}{hint}\n", error.chain().join("\ncause: "))
}

/// What is said about a plan whose text is this.
fn said(text: &str) -> String {
    let env = |name: &str| (name == "BLUE_URL").then(|| "postgresql://u:hunter2@h/db".to_owned());
    message(&load::parse(text, "plan.yaml", &env).unwrap_err())
}

const HEAD: &str = "version: 1\nname: tokens\nkind: blue_green\nblue: { url: \"${BLUE_URL}\" }\n";

#[test]
fn a_typo_is_named_with_what_was_meant() {
    insta::assert_snapshot!(said(&format!("{HEAD}cutvoer:\n  pause_max: 5s\n")), @r"
    plan.yaml:5:1: the plan has no key `cutvoer`
      |
    5 | cutvoer:
      | ^^^^^^^
    help: did you mean `cutover`?
    ");
    insta::assert_snapshot!(said(&format!("{HEAD}cutover:\n  puase_max: 5s\n")), @r"
    plan.yaml:6:3: `cutover` has no key `puase_max`
      |
    6 |   puase_max: 5s
      |   ^^^^^^^^^
    help: did you mean `pause_max`?
    ");
    insta::assert_snapshot!(said(&format!("{HEAD}cutover:\n  colour: red\n")), @r"
    plan.yaml:6:3: `cutover` has no key `colour`
      |
    6 |   colour: red
      |   ^^^^^^
    help: the keys here are pause_max, route, gates, transaction_age_max, sequence_gap, soak, reverse
    ");
    insta::assert_snapshot!(said(&HEAD.replace("blue_green", "bluegreen")), @r"
    plan.yaml:3:7: `kind` cannot be `bluegreen`
      |
    3 | kind: bluegreen
      |       ^^^^^^^^^
    help: did you mean `blue_green`?
    ");
    insta::assert_snapshot!(said(&format!("{HEAD}cutover: {{ route: {{ pgbouncer: [ {{ admn: x }} ] }} }}\n")), @r"
    plan.yaml:5:36: `cutover.route.pgbouncer[0]` has no key `admn`
      |
    5 | cutover: { route: { pgbouncer: [ { admn: x } ] } }
      |                                    ^^^^
    help: did you mean `admin`?
    ");
}

#[test]
fn a_wrong_type_is_named() {
    insta::assert_snapshot!(said(&HEAD.replace("version: 1", "version: one")), @r"
    plan.yaml:1:10: `version` must be a whole number from 0 to 4294967295, not the text `one`
      |
    1 | version: one
      |          ^^^
    help: write a whole number, without quotes
    ");
    insta::assert_snapshot!(said(&HEAD.replace("version: 1", "version: -1")), @r"
    plan.yaml:1:10: `version` must be a whole number from 0 to 4294967295, not the number -1
      |
    1 | version: -1
      |          ^^
    help: write a whole number, without quotes
    ");
    insta::assert_snapshot!(said(&HEAD.replace("name: tokens", "name: 7")), @r"
    plan.yaml:2:7: `name` must be text, not the number 7
      |
    2 | name: 7
      |       ^
    help: write text; put it in quotes when it looks like a number
    ");
    insta::assert_snapshot!(said(&HEAD.replace("{ url: \"${BLUE_URL}\" }", "\"${BLUE_URL}\"")), @r#"
    plan.yaml:4:7: `blue` must be keys and values, not the value of `${BLUE_URL}`
      |
    4 | blue: "${BLUE_URL}"
      |       ^^^^^^^^^^^^^
    help: write `key: value` lines, indented below it
    "#);
    insta::assert_snapshot!(said(&HEAD.replace("{ url: \"${BLUE_URL}\" }", "")), @r"
    plan.yaml:4:6: `blue` is empty
      |
    4 | blue:
      |      ^
    help: write `key: value` lines, indented below it
    ");
    insta::assert_snapshot!(said(&format!("{HEAD}replicate: {{ tables: {{ include: public.t }} }}\n")), @r"
    plan.yaml:5:33: `replicate.tables.include` must be a list, not the text `public.t`
      |
    5 | replicate: { tables: { include: public.t } }
      |                                 ^^^^^^^^
    help: write `[a, b]`, or lines that begin with `- `, indented below it
    ");
    insta::assert_snapshot!(said(&format!("{HEAD}schema: [a.sql]\n")), @r"
    plan.yaml:5:9: `schema` must be keys and values, not a list
      |
    5 | schema: [a.sql]
      |         ^^^^^^
    help: write `key: value` lines, indented below it
    ");
    insta::assert_snapshot!(said("- a\n- b\n"), @r"
    plan.yaml:1:1: the plan must be keys and values, not a list
      |
    1 | - a
      | ^^^
    help: write `key: value` lines, indented below it
    ");
    insta::assert_snapshot!(said(&format!("{HEAD}1: x\n")), @r"
    plan.yaml:5:1: the plan: a key must be text
      |
    5 | 1: x
      | ^
    help: put it in quotes
    ");
    insta::assert_snapshot!(said(&format!("{HEAD}broker: {{ url: q, allow_single_node: yes }}\n")), @r"
    plan.yaml:5:38: `broker.allow_single_node` must be true or false, not the text `yes`
      |
    5 | broker: { url: q, allow_single_node: yes }
      |                                      ^^^
    help: write true or false, without quotes
    ");
}

#[test]
fn a_missing_key_is_named() {
    insta::assert_snapshot!(said("version: 1\nname: tokens\nkind: in_place\n"), @r"
    plan.yaml:1:1: the plan lacks the key `blue`
      |
    1 | version: 1
      | ^^^^^^^
    help: add `blue:`; docs/reference/plan.md says what it means
    ");
    insta::assert_snapshot!(said(&format!("{HEAD}green:\n  uri: x\n")), @r"
    plan.yaml:6:3: `green` has no key `uri`
      |
    6 |   uri: x
      |   ^^^
    help: did you mean `url`?
    ");
    insta::assert_snapshot!(said(&format!("{HEAD}green: {{}}\n")), @r"
    plan.yaml:5:8: `green` lacks the key `url`
      |
    5 | green: {}
      |        ^
    help: add `url:`; docs/reference/plan.md says what it means
    ");
}

#[test]
fn a_duplicate_key_is_found_where_it_stands() {
    insta::assert_snapshot!(said(&format!("{HEAD}# twice\nname: other\n")), @r"
    plan.yaml:6:1: the key `name` is given twice; the first is on line 2
      |
    6 | name: other
      | ^^^^
    help: keep one of the two
    ");
    insta::assert_snapshot!(said(&format!("{HEAD}cutover:\n  pause_max: 5s\n  gates: []\n  pause_max: 6s\n")), @r"
    plan.yaml:8:3: the key `pause_max` is given twice; the first is on line 6
      |
    8 |   pause_max: 6s
      |   ^^^^^^^^^
    help: keep one of the two
    ");
}

#[test]
fn a_missing_variable_is_named_with_its_field() {
    insta::assert_snapshot!(said(&format!("{HEAD}green:\n  url: \"${{GREEN_URL}}\"\n")), @r#"
    plan.yaml:6:8: `green.url` needs the environment variable GREEN_URL, which is not set
      |
    6 |   url: "${GREEN_URL}"
      |        ^^^^^^^^^^^^^^
    help: export GREEN_URL, or write `$${` for a literal `${`
    "#);
    insta::assert_snapshot!(said(&format!("{HEAD}green: {{ url: \"x${{GREEN-URL}}\" }}\n")), @r#"
    plan.yaml:5:15: `green.url` holds a `${` that is not a variable
      |
    5 | green: { url: "x${GREEN-URL}" }
      |               ^^^^^^^^^^^^^^^
    help: write ${NAME} with letters, digits and `_`, or `$${` for a literal `${`
    "#);
    insta::assert_snapshot!(said(&format!("{HEAD}green: {{ url: \"x${{GREEN\" }}\n")), @r#"
    plan.yaml:5:15: `green.url` holds a `${` that is not a variable
      |
    5 | green: { url: "x${GREEN" }
      |               ^^^^^^^^^^
    help: write ${NAME} with letters, digits and `_`, or `$${` for a literal `${`
    "#);
    insta::assert_snapshot!(said(&format!("{HEAD}cutover: {{ gates: [ {{}}, {{ command: [a, \"${{NO}}\"] }} ] }}\n")), @r#"
    plan.yaml:5:40: `cutover.gates[1].command[1]` needs the environment variable NO, which is not set
      |
    5 | cutover: { gates: [ {}, { command: [a, "${NO}"] } ] }
      |                                        ^^^^^^^
    help: export NO, or write `$${` for a literal `${`
    "#);
}

#[test]
fn a_variables_value_is_not_shown() {
    insta::assert_snapshot!(said(&format!("{HEAD}cutover: {{ pause_max: \"${{BLUE_URL}}\" }}\n")), @r#"
    plan.yaml:5:23: `cutover.pause_max`: `${BLUE_URL}` is not a duration
      |
    5 | cutover: { pause_max: "${BLUE_URL}" }
      |                       ^^^^^^^^^^^^^
    help: write a whole number and a unit, like 200ms, 5s, 10m, 72h or 3d
    "#);
    insta::assert_snapshot!(said(&HEAD.replace("kind: blue_green", "kind: \"${BLUE_URL}\"")), @r#"
    plan.yaml:3:7: `kind` cannot be `${BLUE_URL}`
      |
    3 | kind: "${BLUE_URL}"
      |       ^^^^^^^^^^^^^
    help: it can be in_place, blue_green
    "#);
}

#[test]
fn a_password_in_the_line_is_starred() {
    insta::assert_snapshot!(said(&HEAD.replace("{ url: \"${BLUE_URL}\" }", "{ urll: \"postgresql://u:hunter2@h/db\" }")), @r#"
    plan.yaml:4:9: `blue` has no key `urll`
      |
    4 | blue: { urll: "postgresql://u:*******@h/db" }
      |         ^^^^
    help: did you mean `url`?
    "#);
}

#[test]
fn a_password_in_a_value_is_starred() {
    insta::assert_snapshot!(said(&HEAD.replace("{ url: \"${BLUE_URL}\" }", "postgresql://u:hunter2@h/db")), @r"
    plan.yaml:4:7: `blue` must be keys and values, not the text `postgresql://u:*******@h/db`
      |
    4 | blue: postgresql://u:*******@h/db
      |       ^^^^^^^^^^^^^^^^^^^^^^^^^^^
    help: write `key: value` lines, indented below it
    ");
}

#[test]
fn a_duration_or_size_says_how_to_write_it() {
    insta::assert_snapshot!(said(&format!("{HEAD}cutover: {{ pause_max: 5 }}\n")), @r"
    plan.yaml:5:23: `cutover.pause_max`: `5` is not a duration
      |
    5 | cutover: { pause_max: 5 }
      |                       ^
    help: write a whole number and a unit, like 200ms, 5s, 10m, 72h or 3d
    ");
    insta::assert_snapshot!(said(&format!("{HEAD}cutover: {{ pause_max: 5 parsecs }}\n")), @r"
    plan.yaml:5:23: `cutover.pause_max`: `5 parsecs` is not a duration
      |
    5 | cutover: { pause_max: 5 parsecs }
      |                       ^^^^^^^^^
    help: write a whole number and a unit, like 200ms, 5s, 10m, 72h or 3d
    ");
    insta::assert_snapshot!(said(&format!("{HEAD}cutover: {{ gates: [ {{ lag_max: 1.5MB }} ] }}\n")), @r"
    plan.yaml:5:32: `cutover.gates[0].lag_max`: `1.5MB` is not a size
      |
    5 | cutover: { gates: [ { lag_max: 1.5MB } ] }
      |                                ^^^^^
    help: write a whole number and a unit, like 64kB, 1MB or 20GB
    ");
    insta::assert_snapshot!(said(&format!("{HEAD}cutover: {{ pause_max: [5s] }}\n")), @r"
    plan.yaml:5:23: `cutover.pause_max` must be a number with its unit, not a list
      |
    5 | cutover: { pause_max: [5s] }
      |                       ^^^
    help: write a whole number and its unit
    ");
}

#[test]
fn a_table_name_says_how_to_write_it() {
    insta::assert_snapshot!(said(&format!("{HEAD}replicate: {{ map: {{ public.a: {{ to: b }} }} }}\n")), @r"
    plan.yaml:5:37: `replicate.map.public.a.to`: `b` is not a table name
      |
    5 | replicate: { map: { public.a: { to: b } } }
      |                                     ^
    help: write schema.table
    ");
}

#[test]
fn what_is_not_yaml_is_refused_where_it_breaks() {
    insta::assert_snapshot!(said("version: 1\nname: a: b\n"), @r"
    plan.yaml:2:8: this is not YAML: mapping values are not allowed in this context
      |
    2 | name: a: b
      |        ^
    help: look at the indentation, the quotes and the `:` of this line and the one before
    ");
    insta::assert_snapshot!(said("version: 1\nblue: { url: x\nname: a\n"), @r"
    plan.yaml:3:5: this is not YAML: did not find expected ',' or '}'
      |
    3 | name: a
      |     ^
    help: it was met while parsing a flow mapping at line 2 column 7
    ");
    insta::assert_snapshot!(said("version: 1\ncutover:\n\tpause_max: 5s\n"), @r"
    plan.yaml:3:1: this is not YAML: found character that cannot start any token
      |
    3 | 	pause_max: 5s
      | ^^^^^^^^^^
    help: YAML is indented with spaces, not with tabs
    ");
    insta::assert_snapshot!(said("version: 1\nname: *nobody\n"), @r"
    plan.yaml:2:7: this is not YAML: unknown anchor
      |
    2 | name: *nobody
      |       ^^^^^^^
    help: look at the indentation, the quotes and the `:` of this line and the one before
    ");
    insta::assert_snapshot!(said("version: !int 1\n"), @r"
    plan.yaml:1:10: a plan has no YAML tags
      |
    1 | version: !int 1
      |          ^^^^^^
    help: write the value without `!`
    ");
    insta::assert_snapshot!(said("version: 1\n---\nversion: 1\n"), @r"
    plan.yaml: the file holds more than one YAML document
    help: a plan is one document: remove the second `---`
    ");
    insta::assert_snapshot!(said("just words\n"), @r"
    plan.yaml:1:1: the plan must be keys and values, not the text `just words`
      |
    1 | just words
      | ^^^^^^^^^^
    help: write `key: value` lines, indented below it
    ");
}

#[test]
fn an_empty_plan_is_refused() {
    insta::assert_snapshot!(said(""), @r"
    plan.yaml: the plan is empty
    help: begin with `version: 1`; plans/minimal.yaml is one to start from
    ");
    insta::assert_snapshot!(said("\n# nothing here\n\n"), @r"
    plan.yaml: the plan is empty
    help: begin with `version: 1`; plans/minimal.yaml is one to start from
    ");
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let folder = Folder::new("files");
    let missing = folder.0.join("nowhere.yaml");
    insta::assert_snapshot!(folder.message(&load(&missing, &|_| None).unwrap_err()), @r"
    nowhere.yaml: there is no such file
    help: give the path of a plan
    ");
    insta::assert_snapshot!(folder.message(&load(&folder.0, &|_| None).unwrap_err()), @r"
    .: this is a directory, not a plan
    help: name the plan itself
    ");
    let latin = folder.write("latin.yaml", b"version: 1\nname: caf\xe9\n");
    insta::assert_snapshot!(folder.message(&load(&latin, &|_| None).unwrap_err()), @r"
    latin.yaml:2: this is not UTF-8 text
    help: save the file as UTF-8
    ");
    let huge = folder.write("huge.yaml", "#".repeat((1 << 20) + 1));
    insta::assert_snapshot!(folder.message(&load(&huge, &|_| None).unwrap_err()), @"huge.yaml: 1048577 bytes are too many for a plan, 1048576 are the limit");
}

#[test]
fn sql_files_come_in_order_or_are_missed_by_name() {
    let folder = Folder::new("sql");
    folder.write("sql/two/b.sql", "select 2;");
    folder.write("sql/two/a.sql", "select 1;");
    folder.write("sql/two/.hidden.sql", "select 0;");
    folder.write("sql/last.sql", "select 3;");
    let with = |patterns: &str| {
        let path = folder.write(
            "plan.yaml",
            format!(
                "version: 1\nname: a\nkind: in_place\nblue: {{ url: x }}\nschema: {{ sql: [{patterns}] }}\n"
            ),
        );
        let loaded = load(&path, &|_| None).unwrap();
        load_sql(&loaded.plan, &loaded.base_dir).map(|sql| sql.files)
    };
    let files = with("\"sql/t*/*.sql\", sql/last.sql").unwrap();
    let names: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
    assert_eq!(names, ["sql/two/a.sql", "sql/two/b.sql", "sql/last.sql"]);
    assert_eq!(files[2].text, "select 3;");
    insta::assert_snapshot!(folder.message(&with("sql/none.sql").unwrap_err()), @r"
    `schema.sql[0]`: nothing matches `sql/none.sql` in .
    help: paths of a plan are relative to the plan's own directory
    ");
    insta::assert_snapshot!(folder.message(&with("\"sql/none*.sql\"").unwrap_err()), @r"
    `schema.sql[0]`: nothing matches `sql/none*.sql` in .
    help: paths of a plan are relative to the plan's own directory
    ");
    let files = with("sql/two, sql/last.sql").unwrap();
    let names: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
    assert_eq!(names, ["sql/two/a.sql", "sql/two/b.sql", "sql/last.sql"], "a directory is what is in it");
    insta::assert_snapshot!(folder.message(&with("\"sql/two/*.sql\", sql/two/a.sql").unwrap_err()), @r"
    `schema.sql[1]`: sql/two/a.sql is already in the list
    help: a file is run once; make the patterns of `schema.sql` not overlap
    ");
}
