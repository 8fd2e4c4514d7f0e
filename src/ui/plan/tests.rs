//! One directory, in every form.

use super::*;
use crate::{ddl, plan::MigrationKind};

fn shown(files: Vec<SqlFile>) -> Shown {
    let rewritten = ddl::rewrite(&files, None);
    Shown {
        plan: "orders".into(),
        kind: MigrationKind::InPlace,
        looked_at_blue: false,
        fingerprint: None,
        findings: rewritten.findings.clone(),
        runbook: None,
        copy: None,
        lost_writes: None,
        ddl: Some(rewritten),
        samples: Vec::new(),
        path: "db".into(),
        files,
    }
}

fn example() -> Shown {
    shown(vec![
        SqlFile::new(
            "db/1_a.sql",
            "-- why\n  create index orders_at\n    on orders (at);\ncreate table notes (id int);\n",
        ),
        SqlFile::new(
            "db/2_b.sql",
            "set search_path = app;\ncomment on table t is 'a|b `c` <d>';\ncluster t;\n",
        ),
    ])
}

fn plain(text: &str) -> String {
    anstream::adapter::strip_str(text).to_string()
}

#[test]
fn people_see_the_line_its_cost_and_what_runs_instead() {
    insta::assert_snapshot!(plain(&text(&example())), @r"
    orders
    blue was not looked at: every table may be large and in use

      1. create index orders_at on public.orders
         db/1_a.sql:2:3
           |
         2 | /   create index orders_at
         3 | |     on orders (at)
           | |__________________^ SHARE on public.orders while an index is built: writers wait all that time
         runs   create index CONCURRENTLY orders_at
                    on orders (at)
         takes  SHARE UPDATE EXCLUSIVE on public.orders while an index is built
         how    outside a transaction, no lock_timeout, up to 3 tries
         why    the index is built while the table is read and written
         step   ddl/create-index-orders_at-on-public.orders

      2. create table notes
         db/1_a.sql:4:1
           |
         4 | create table notes (id int)
           | ^^^^^^^^^^^^^^^^^^^^^^^^^^^
         runs   as written
         how    in a transaction of its own, lock_timeout 1000 ms, up to 60 tries
         why    nobody uses it yet
         step   ddl/create-table-notes

      3. comment on t
         db/2_b.sql:2:1
           |
         2 | comment on table t is 'a|b `c` <d>'
           | ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
         runs   as written
         takes  SHARE UPDATE EXCLUSIVE on app.t
         how    in a transaction of its own, lock_timeout 1000 ms, up to 60 tries
         why    only the catalog changes
         step   ddl/comment-on-t

    blocking DDL_NO_RULE
      db/2_b.sql:3:1: VACUUM FULL or CLUSTER cannot be run online by this version: the table is written anew under ACCESS EXCLUSIVE
          |
        3 | cluster t
          | ^^^^^^^^^
        help: pg_repack or pg_squeeze; on 19, REPACK (CONCURRENTLY).

    info DDL_OFFLINE
      db/1_a.sql:2:3: planned without looking at the database: every table not made here is taken as in use, and partitioned tables, indexes of constraints and INVALID leftovers cannot be seen
        help: Plan again with the database (or a facts file) before running it.

    1 blocking finding, 1 note
    ");
}

#[test]
fn psql_gets_a_script() {
    insta::assert_snapshot!(sql(&example()), @r#"
    -- orders: what migrate runs.
    -- By hand: psql -X -f THIS, outside a transaction (no --single-transaction). It stops at the first error; a statement
    -- that fails with lock_not_available (55P03) has changed nothing: run it again, and go on from there.
    -- NOT IN HERE, DDL_NO_RULE: db/2_b.sql:3:1: VACUUM FULL or CLUSTER cannot be run online by this version: the table is written anew under ACCESS EXCLUSIVE

    \set ON_ERROR_STOP on

    -- 1. create index orders_at on public.orders
    --    from db/1_a.sql:2:3
    --    takes SHARE UPDATE EXCLUSIVE on public.orders while an index is built
    --    outside a transaction, no lock_timeout, up to 3 tries; a failed one leaves an INVALID index: drop it concurrently first
    set lock_timeout = 0;
    create index CONCURRENTLY orders_at
        on orders (at);

    -- 2. create table notes
    --    from db/1_a.sql:4:1
    --    takes no lock that anybody waits for
    --    in a transaction of its own, lock_timeout 1000 ms, up to 60 tries; after each, a pause of a second
    set lock_timeout = '1000ms';
    create table notes (id int);

    -- 3. comment on t
    --    from db/2_b.sql:2:1
    --    takes SHARE UPDATE EXCLUSIVE on app.t
    --    in a transaction of its own, lock_timeout 1000 ms, up to 60 tries; after each, a pause of a second
    set search_path = "app";
    comment on table t is 'a|b `c` <d>';
    "#);
}

#[test]
fn the_script_is_its_own_plan() {
    let script = sql(&example());
    let again = shown(vec![SqlFile::new("again.sql", script.as_str())]);
    let worse: Vec<_> =
        again.findings.iter().filter(|finding| finding.severity > crate::finding::Severity::Info).collect();
    assert!(worse.is_empty(), "{worse:?}");
    let statements = |shown: &Shown| {
        shown.ddl.iter().flat_map(|ddl| ddl.statements.iter().map(|one| one.sql.clone())).collect::<Vec<_>>()
    };
    assert_eq!(statements(&again), statements(&example()));
}

#[test]
fn a_reviewer_gets_a_table() {
    let shown = markdown(&example()).replace(&sql(&example()), "[the script]\n");
    insta::assert_snapshot!(shown, @r#"
    ## migrate plan: orders

    **It does not run: 1 to be resolved first.**

    ### Findings

    | | where | what | what to do |
    |---|---|---|---|
    | ⛔ `DDL_NO_RULE` | `db/2_b.sql:3:1` | VACUUM FULL or CLUSTER cannot be run online by this version: the table is written anew under ACCESS EXCLUSIVE | pg\_repack or pg\_squeeze; on 19, REPACK (CONCURRENTLY). |
    | ℹ️ `DDL_OFFLINE` | `db/1_a.sql:2:3` | planned without looking at the database: every table not made here is taken as in use, and partitioned tables, indexes of constraints and INVALID leftovers cannot be seen | Plan again with the database (or a facts file) before running it. |

    ### What runs

    | # | step | as written | as run |
    |--:|---|---|---|
    | 1 | create index orders\_at on public.orders<br>`db/1_a.sql:2:3` | SHARE on public.orders while an index is built: writers wait all that time | SHARE UPDATE EXCLUSIVE on public.orders while an index is built |
    | 2 | create table notes<br>`db/1_a.sql:4:1` | the same | no lock that anybody waits for |
    | 3 | comment on t<br>`db/2_b.sql:2:1` | the same | SHARE UPDATE EXCLUSIVE on app.t |

    <details><summary>The SQL, as psql can run it</summary>

    ```sql
    [the script]
    ```

    </details>
    "#);
}

#[test]
fn code_scanning_gets_sarif() {
    let log = sarif(&example());
    insta::assert_snapshot!(format!("{:#}", log["runs"][0]["results"][0]), @r#"
    {
      "level": "note",
      "locations": [
        {
          "physicalLocation": {
            "artifactLocation": {
              "uri": "db/1_a.sql"
            },
            "region": {
              "startColumn": 3,
              "startLine": 2
            }
          }
        }
      ],
      "message": {
        "text": "planned without looking at the database: every table not made here is taken as in use, and partitioned tables, indexes of constraints and INVALID leftovers cannot be seen. Plan again with the database (or a facts file) before running it."
      },
      "partialFingerprints": {
        "migrate/v1": "DDL_OFFLINE:planned without looking at the database: every table not made here is taken as in use, and partitioned tables, indexes of constraints and INVALID leftovers cannot be seen"
      },
      "ruleId": "DDL_OFFLINE",
      "ruleIndex": 1
    }
    "#);
    let mut elsewhere = example();
    elsewhere.findings[0].place = crate::finding::Place::Outside { object: "db".into() };
    let first = &sarif(&elsewhere)["runs"][0]["results"][0]["locations"][0];
    assert_eq!(
        first["physicalLocation"]["artifactLocation"]["uri"], "db/1_a.sql",
        "code scanning shows nothing without a file"
    );
    assert_eq!(first["logicalLocations"][0]["fullyQualifiedName"], "db");
    // What the schema of SARIF 2.1.0 requires.
    assert_eq!(log["version"], "2.1.0");
    let run = &log["runs"][0];
    assert!(run["tool"]["driver"]["name"].is_string());
    let rules = run["tool"]["driver"]["rules"].as_array().unwrap();
    for result in run["results"].as_array().unwrap() {
        assert!(result["message"]["text"].as_str().is_some_and(|text| !text.is_empty()), "{result}");
        let rule = &rules[usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap()];
        assert_eq!(rule["id"], result["ruleId"]);
        assert!(rule["help"]["text"].as_str().is_some_and(|help| !help.is_empty()), "{rule}");
        assert!(rule["helpUri"].as_str().is_some_and(|page| page.ends_with("docs/ddl/README.md")), "{rule}");
        assert!(["none", "note", "warning", "error"].contains(&result["level"].as_str().unwrap()));
        let place = &result["locations"][0]["physicalLocation"];
        assert!(place["region"]["startLine"].as_u64().unwrap() >= 1);
        assert!(place["artifactLocation"]["uri"].as_str().is_some_and(|uri| !uri.contains(' ')));
    }
}

#[test]
fn a_long_statement_is_cut_and_a_wide_line_too() {
    let long = format!("create table x (\n{}  z int\n);", "  a int,\n".repeat(40));
    let wide = format!("comment on table t is '{}'; select 1;", "é".repeat(100_000));
    let shown = text(&shown(vec![SqlFile::new("a.sql", long), SqlFile::new("b.sql", wide)]));
    let shown = plain(&shown);
    // The long statement is shown once more as what runs only when that differs.
    assert!(shown.lines().count() < 60, "{shown}");
    assert!(shown.lines().all(|line| line.chars().count() < 400), "{shown}");
}
