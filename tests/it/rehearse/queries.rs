//! Whose queries break.

use super::command::Stage;
use crate::support::{Majors, Pair};
use serde_json::Value;

const SCHEMA: &str = "
    create table t (id bigint generated always as identity primary key, a int, b text, old text);
    create table other (id bigint primary key);";

const SQL: &str = "alter table t add column n int;
alter table t rename column a to aa;
alter table t drop column old;
alter table other rename to gone;
";

const QUERIES: &str = "select * from t where id = $1;
select a from t;
insert into t (a) values ($1);
insert into t overriding system value values ($1, $2, $3, $4);
select id, b from t where b = $1;
select old from t;
select count(*) from other;
select nothing from nowhere;
select id from t where exists (select * from t x where x.id = t.id);
";

/// Code, line, and the whole sentence of the findings about queries.
fn told(report: &Value) -> Vec<(String, u64, String)> {
    let findings = report["findings"].as_array().unwrap().iter();
    let mut told: Vec<(String, u64, String)> = findings
        .filter(|finding| finding["place"]["in"] == "sql")
        .map(|finding| {
            let text = |field: &str| finding[field].as_str().unwrap().to_owned();
            (text("code"), finding["place"]["line"].as_u64().unwrap(), text("what"))
        })
        .collect();
    told.sort();
    told
}

#[tokio::test]
async fn queries_of_files_are_named_with_the_change_that_breaks_them() {
    let pair = Pair::fresh("rehearse_queries").await;
    for url in [pair.blue_url(), pair.green_url()] {
        let stage = Stage::new(url, SCHEMA, SQL).await;
        stage.desk.write("queries.sql", QUERIES);
        let report = stage.rehearse(&["--json", "--queries", "queries.sql"]).run().await.expect(0).json();
        let told = told(&report);
        let says = |code: &str, line: u64, words: &[&str]| {
            let found = told.iter().any(|(its_code, its_line, what)| {
                its_code == code && *its_line == line && words.iter().all(|word| what.contains(word))
            });
            assert!(found, "{code} in line {line} with {words:?} is not in {told:#?}");
        };
        // `*` fails where it is prepared, and works anew.
        says("QUERY_PREPARED_AGAIN", 1, &["0A000", "01.sql:1:1", "select * from t"]);
        says("QUERY_BREAKS", 2, &["42703", "01.sql:2:1"]);
        says("QUERY_BREAKS", 3, &["42703", "01.sql:2:1"]);
        says("QUERY_BY_POSITION", 4, &["without a list of columns", "gets n integer"]);
        says("QUERY_BREAKS", 6, &["42703", "01.sql:3:1"]);
        says("QUERY_BREAKS", 7, &["42P01", "01.sql:4:1"]);
        says("QUERY_NOT_PREPARED", 8, &["nowhere"]);
        // These name what they need, and it stays.
        assert!(!told.iter().any(|(_, line, _)| [5, 9].contains(line)), "{told:#?}");

        stage.rehearse(&["--queries", "queries.sql", "--fail-on", "warning"]).run().await.expect(3);
        // Without queries nobody breaks, but that nobody was seen is told.
        let report = stage.rehearse(&["--json"]).run().await.expect(0).json();
        assert_eq!(report["findings"][0]["code"], "QUERIES_UNSEEN", "{report:#}");
        stage.client().await.batch_execute("drop table t, other").await.unwrap();
    }
}

#[tokio::test]
async fn queries_that_blue_has_counted_are_named_with_their_calls() {
    let mut pair = Pair::of_own_servers("rehearse_counted", Majors::OLDEST, Majors::NEWEST).await;
    let stage = Stage::new(pair.blue_url(), SCHEMA, SQL).await;
    let client = stage.client().await;
    client.batch_execute("alter system set shared_preload_libraries = 'pg_stat_statements'").await.unwrap();
    pair.kill_blue();
    pair.restart_blue().await;
    let client = stage.client().await;
    client.batch_execute("create extension pg_stat_statements").await.unwrap();
    for id in 0..7_i64 {
        client.query("select a from t where id = $1", &[&id]).await.unwrap();
    }
    let report = stage.rehearse(&["--json"]).run().await.expect(0).json();
    let findings = report["findings"].as_array().unwrap();
    let broken = findings.iter().find(|one| {
        one["code"] == "QUERY_BREAKS"
            && one["what"].as_str().unwrap().contains("select a from t where id = $1")
    });
    let what = broken.unwrap_or_else(|| panic!("{findings:#?}"))["what"].as_str().unwrap();
    assert!(what.contains("(7 calls)") && what.contains("42703") && what.contains("01.sql:2:1"), "{what}");
}
