//! Bad input that is seen without a server, through the built program: the exit code, and every word of the one error.

use crate::support::{
    installed,
    run::{Desk, Output, migrate},
};
use migrate::facts::{Facts, ServerFacts};
use std::collections::BTreeSet;

const HEAD: &str = "version: 1\nname: tokens\nkind: blue_green\nblue: { url: \"${BLUE_URL}\" }\ngreen: { url: \"${GREEN_URL}\" }\n";
const IN_PLACE: &str = "version: 1\nname: tokens\nkind: in_place\nblue: { url: \"${BLUE_URL}\" }\nschema: { sql: [sql/*.sql] }\n";
/// Nobody listens there, and nobody is to be asked.
const NOBODY: &str = "postgresql://u:hunter2@127.0.0.1:1/db";

const NOBODY_ELSE: &str = "postgresql://u:hunter2@127.0.0.1:1/other";

/// Runs a command on a plan in this directory.
async fn run(desk: &Desk, args: &[&str]) -> Output {
    let run = migrate(args).within(desk.path()).env("BLUE_URL", NOBODY).env("GREEN_URL", NOBODY_ELSE);
    let output = run.run().await;
    assert!(!format!("{output:?}").contains("hunter2"), "a password is shown: {output:?}");
    output
}

/// What is said of a plan that is wrong: exit code 1, nothing on standard output.
async fn said(text: &str) -> String {
    let desk = Desk::new("plan_cli");
    desk.write("plan.yaml", text);
    refused(&desk, &["plan", "plan.yaml", "--offline"]).await
}

async fn refused(desk: &Desk, args: &[&str]) -> String {
    let output = run(desk, args).await.expect(1);
    assert_eq!(output.stdout, "");
    output.stderr
}

#[tokio::test]
async fn a_typo_in_the_plan() {
    insta::assert_snapshot!(said(&format!("{HEAD}cutvoer:\n  pause_max: 5s\n")).await, @r"
    error: plan.yaml:6:1: the plan has no key `cutvoer`
        |
      6 | cutvoer:
        | ^^^^^^^
      hint: did you mean `cutover`?
    ");
}

#[tokio::test]
async fn a_wrong_type() {
    insta::assert_snapshot!(said(&format!("{HEAD}cutover:\n  pause_max: [5]\n")).await, @r"
    error: plan.yaml:7:14: `cutover.pause_max` must be a number with its unit, not a list
        |
      7 |   pause_max: [5]
        |              ^^
      hint: write a whole number and its unit
    ");
}

#[tokio::test]
async fn a_duplicate_key() {
    insta::assert_snapshot!(said(&format!("{HEAD}name: other\n")).await, @r"
    error: plan.yaml:6:1: the key `name` is given twice; the first is on line 2
        |
      6 | name: other
        | ^^^^
      hint: keep one of the two
    ");
}

#[tokio::test]
async fn a_missing_environment_variable() {
    let desk = Desk::new("plan_cli");
    desk.write("plan.yaml", &HEAD.replace("BLUE_URL", "NO_SUCH_VARIABLE"));
    for command in ["plan", "check", "replicate", "status"] {
        let stderr = refused(&desk, &[command, "plan.yaml"]).await;
        insta::allow_duplicates! {
            insta::assert_snapshot!(stderr, @r#"
    error: plan.yaml:4:14: `blue.url` needs the environment variable NO_SUCH_VARIABLE, which is not set
        |
      4 | blue: { url: "${NO_SUCH_VARIABLE}" }
        |              ^^^^^^^^^^^^^^^^^^^^^
      hint: export NO_SUCH_VARIABLE, or write `$${` for a literal `${`
            "#);
        }
    }
}

/// In CI there are no secrets; a plan can be read there all the same, and says what stands for what.
#[tokio::test]
async fn without_its_variables_a_plan_can_be_read_but_not_run() {
    let desk = Desk::new("plan_cli");
    let plan = HEAD.replace("BLUE_URL", "NO_BLUE").replace("GREEN_URL", "NO_GREEN");
    desk.write("plan.yaml", &plan);
    let blue = Facts { blue: Some(ServerFacts::default()), ..Facts::default() };
    desk.write("facts.json", &serde_json::to_string(&blue).unwrap());
    let offline = run(&desk, &["plan", "plan.yaml", "--offline"]).await.expect(0).stdout;
    let facts = run(&desk, &["plan", "plan.yaml", "--facts", "facts.json"]).await.expect(3).stdout;
    assert!(offline.starts_with("tokens\nblue was not looked at: "), "{offline}");
    // Secrets are no part of the fingerprint.
    assert!(facts.starts_with("tokens\nfingerprint "), "{facts}");
    for shown in [offline, facts] {
        assert!(
            shown.contains("plan: blue.url: NO_BLUE is not set, so `${NO_BLUE}` stands for itself"),
            "{shown}"
        );
    }

    // What is part of it must be known, and a target that nobody knows is not judged.
    let route = "cutover: { route: { pgbouncer: [ { admin: a, database: app, config: /c, to: \"${NO_TARGET}\" } ] } }\n";
    desk.write("plan.yaml", &format!("{HEAD}{route}"));
    let shown = run(&desk, &["plan", "plan.yaml", "--facts", "facts.json"]).await;
    let shown = shown.expect(3).stdout;
    assert!(shown.contains("${NO_TARGET}") && !shown.contains("fingerprint "), "{shown}");
    // A word that is no text cannot be read without its value.
    desk.write("plan.yaml", &format!("{HEAD}replicate: {{ workers: \"${{NO_NUMBER}}\" }}\n"));
    let stderr = refused(&desk, &["plan", "plan.yaml", "--offline"]).await;
    assert!(
        stderr.contains("plan.yaml:6:23: `replicate.workers` needs the environment variable NO_NUMBER"),
        "{stderr}"
    );
}

#[tokio::test]
async fn a_plan_that_is_not_there() {
    let desk = Desk::new("plan_cli");
    insta::assert_snapshot!(refused(&desk, &["check", "plan.yaml"]).await, @r"
    error: plan.yaml: there is no such file
      hint: give the path of a plan
    ");
}

#[tokio::test]
async fn a_facts_file_of_garbage() {
    let desk = Desk::new("plan_cli");
    desk.write("plan.yaml", HEAD);
    for garbage in ["not json", "{\"blue\": 7}", "[]"] {
        desk.write("facts.json", garbage);
        let stderr = refused(&desk, &["plan", "plan.yaml", "--facts", "facts.json"]).await;
        let lines: Vec<&str> = stderr.lines().collect();
        assert_eq!(lines[0], "error: facts.json is not a facts file of this version", "{stderr}");
        assert!(lines[1].starts_with("  cause: "), "{stderr}");
        assert_eq!(lines[2..], ["  hint: write one with `migrate plan --save-facts FILE`"], "{stderr}");
    }
    insta::assert_snapshot!(refused(&desk, &["plan", "plan.yaml", "--facts", "none.json"]).await, @r"
    error: cannot read none.json
      cause: No such file or directory (os error 2)
      hint: write one with `migrate plan --save-facts FILE`
    ");
}

/// In both kinds of plan, and before anybody is connected to.
#[tokio::test]
async fn sql_that_does_not_parse_is_shown_with_a_caret() {
    let desk = Desk::new("plan_cli");
    desk.write("sql/01.sql", "create table a (b int);\n");
    desk.write("sql/02.sql", "-- why\ncreate table c (d int);\ncreate indx i on c (d);\n");
    for (text, commands) in [
        (IN_PLACE.to_owned(), ["plan", "apply", "status"]),
        (format!("{HEAD}schema: {{ sql: [sql/*.sql] }}\n"), ["plan", "replicate", "cutover"]),
    ] {
        desk.write("plan.yaml", &text);
        for command in commands {
            let stderr = refused(&desk, &[command, "plan.yaml"]).await;
            insta::allow_duplicates! {
                insta::assert_snapshot!(stderr, @r#"
                error: sql/02.sql:3:8: syntax error at or near "indx"
                    |
                  3 | create indx i on c (d);
                    |        ^^^^
                  hint: Correct the statement. The grammar is PostgreSQL 18's; psql on that version would refuse it as well.
                "#);
            }
        }
    }
}

#[tokio::test]
async fn psqls_own_commands_are_refused_by_name() {
    let desk = Desk::new("plan_cli");
    desk.write("plan.yaml", IN_PLACE);
    desk.write("sql/01.sql", "create table a (b int);\n\\i other.sql\n");
    insta::assert_snapshot!(refused(&desk, &["plan", "plan.yaml", "--offline"]).await, @r"
    error: sql/01.sql:2:1: `\i other.sql` is a command of psql, not SQL
        |
      2 | \i other.sql
        | ^^^^^^^^^^^^
      hint: Only SQL is read here: write out what the command does (list included files in the plan, put values in place of variables), and remove it.
    ");
}

#[tokio::test]
async fn a_plan_of_the_other_kind() {
    let desk = Desk::new("plan_cli");
    desk.write("sql/01.sql", "create table a (b int);\n");
    desk.write("plan.yaml", IN_PLACE);
    for command in ["replicate", "cutover", "rollback"] {
        assert_eq!(
            refused(&desk, &[command, "plan.yaml"]).await,
            format!(
                "error: `migrate {command}` needs a green, and the plan `tokens` is run in place\n  \
                 hint: `migrate apply` runs it; `migrate status` and `migrate report` tell how far it is\n"
            )
        );
    }
    desk.write("plan.yaml", HEAD);
    insta::assert_snapshot!(refused(&desk, &["apply", "plan.yaml"]).await, @r"
    error: the plan `tokens` is not run in place
      hint: its SQL runs on green, as a step of `migrate replicate`
    ");
}

#[tokio::test]
async fn blue_given_as_green() {
    let desk = Desk::new("plan_cli");
    desk.write("plan.yaml", &HEAD.replace("GREEN_URL", "BLUE_URL"));
    let stderr = run(&desk, &["replicate", "plan.yaml"]).await.expect(3).stderr;
    insta::assert_snapshot!(stderr, @r"
    error: 1 of the checks stops us; nothing was changed
        SAME_DATABASE at plan: green.url: green's connection string is blue's
          help: give green a database of its own
      hint: `migrate check` shows them all, with what to do
    ");
}

#[tokio::test]
async fn what_is_not_built_yet_is_named_and_stops() {
    let plan = concat!(env!("CARGO_MANIFEST_DIR"), "/plans/hydra-2x.yaml");
    let output = migrate(&["replicate", plan])
        .env("BLUE_URL", NOBODY)
        .env("GREEN_URL", NOBODY_ELSE)
        .env("AMQP_URL", "amqp://u:hunter2@127.0.0.1:1/v")
        .env("SEAL_KEY", "00")
        .env("PGB1", "host=127.0.0.1 port=1");
    let stderr = output.run().await.expect(3).stderr;
    assert!(
        stderr.contains(" of the checks stop us; nothing was changed\n    NOT_YET at plan: "),
        "{stderr}"
    );
}

/// As CI does it: without any variable.
#[tokio::test]
async fn every_shipped_plan_is_planned_offline() {
    for (name, code, variables) in [
        ("minimal", 0, &["BLUE_URL", "GREEN_URL", "PGBOUNCER_ADMIN_URL"][..]),
        ("reshape", 0, &["BLUE_URL", "GREEN_URL", "PGBOUNCER_ADMIN_URL"]),
        ("demo", 0, &["BLUE_URL", "GREEN_URL", "AMQP_URL", "PGB_ADMIN", "PGB_CONFIG", "PGB_TO"]),
        ("hydra-1x-in-place", 0, &["BLUE_URL"]),
        ("hydra-2x", 3, &["BLUE_URL", "GREEN_URL", "AMQP_URL", "SEAL_KEY", "PGB1"]),
    ] {
        let plan = format!("{}/plans/{name}.yaml", env!("CARGO_MANIFEST_DIR"));
        let plan_offline = |more: &[&str]| {
            let args = [&["plan", &plan, "--offline"], more].concat();
            variables.iter().fold(migrate(&args), |run, variable| run.without_env(variable)).run()
        };
        let shown = plan_offline(&[]).await.expect(code).stdout;
        for variable in variables {
            let note = format!("{variable} is not set, so `${{{variable}}}` stands for itself");
            assert!(shown.contains(&note), "{shown}");
        }
        let parsed = plan_offline(&["--format", "json"]).await.expect(code).json();
        let blocking: BTreeSet<&str> = parsed["findings"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|finding| finding["severity"] == "blocking")
            .map(|finding| finding["code"].as_str().unwrap())
            .collect();
        let expected = if code == 0 { vec![] } else { vec!["NOT_YET"] };
        assert_eq!(blocking.into_iter().collect::<Vec<_>>(), expected, "{name}");
        if name == "hydra-1x-in-place" {
            let steps = parsed["ddl"]["statements"].as_array().unwrap();
            // Ten ADD COLUMNs of one table are one step.
            assert!(steps.len() > 15, "{parsed:#}");
            assert!(steps.iter().all(|step| step["id"].as_str().unwrap().starts_with("ddl/")));
        } else {
            assert!(!parsed["runbook"]["phases"].as_array().unwrap().is_empty(), "{parsed:#}");
            // Two servers and a route are no script's business: psql finds nothing to run in it.
            let script = plan_offline(&["--format", "sql"]).await.expect(code).stdout;
            assert!(script.contains("-- switch/fence-blue: "), "{script}");
            assert!(script.lines().all(|line| line.is_empty() || line.starts_with("--")), "{script}");
        }
    }
}

#[tokio::test]
async fn with_json_the_error_is_one_object() {
    let desk = Desk::new("plan_cli");
    desk.write("plan.yaml", &format!("{HEAD}cutvoer: 1\n"));
    let stderr = refused(&desk, &["--json", "plan", "plan.yaml"]).await;
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    let error: serde_json::Value = serde_json::from_str(&stderr).unwrap();
    assert_eq!(
        error,
        serde_json::json!({
            "event": "error",
            "kind": "plan",
            "what": "plan.yaml:6:1: the plan has no key `cutvoer`\n  |\n6 | cutvoer: 1\n  | ^^^^^^^",
            "causes": [],
            "hint": "did you mean `cutover`?",
            "exit_code": 1,
        })
    );
}

#[tokio::test]
async fn a_command_line_that_is_wrong() {
    let desk = Desk::new("plan_cli");
    for args in [&["replicat", "plan.yaml"][..], &["plan"], &["plan", "plan.yaml", "--of"], &[]] {
        let output = run(&desk, args).await.expect(2);
        assert_eq!(output.stdout, "", "{args:?}");
        assert!(output.stderr.contains("Usage: migrate"), "{args:?}: {}", output.stderr);
    }
}

#[tokio::test]
async fn a_server_that_is_not_there() {
    let desk = Desk::new("plan_cli");
    let url = format!("postgresql://u:hunter2@127.0.0.1:{}/db", installed::free_port().unwrap());
    desk.write("sql/01.sql", "create table a (b int);\n");
    desk.write("plan.yaml", IN_PLACE);
    for command in ["plan", "check", "apply", "status", "report"] {
        let output = migrate(&[command, "plan.yaml"]).within(desk.path()).env("BLUE_URL", &url).run().await;
        let stderr = output.expect(1).stderr;
        assert!(stderr.starts_with("error: blue: ") && stderr.contains("\n  hint: "), "{command}: {stderr}");
        assert!(!stderr.contains("hunter2"), "{stderr}");
    }
}
