//! What holds of the reader for any input: it neither panics nor hangs, every position is inside its file, and what it made
//! is not changed when it is read again.

use super::{Rewritten, SqlFile, directory, encoding, explain_error, rewrite, source};
use crate::finding::{Finding, Place, Severity};
use proptest::prelude::*;
use std::time::{Duration, Instant};

/// SQL of every kind, to be mutilated.
const SEEDS: &[&str] = &[
    "create table t (id bigint primary key, a text not null default 'it''s', b int check (b > 0));",
    "alter table only app.\"T é\" add column c int default 1, drop column d cascade;",
    "create unique index concurrently if not exists i on t using gin ((a->>'x') jsonb_ops) where b is not null;",
    "drop index i; create index i on t (a);",
    "create function f() returns int language plpgsql as $body$ begin return 1; -- ; \n end $body$;",
    "create function g() returns int language sql begin atomic select 1; select 2; end;",
    "do $$ begin execute 'drop table t'; end $$;",
    "copy t (a, b) from stdin;\n1\tit's\n\\.\n",
    "\\restrict x\nset search_path = '';\n\\i other.sql\nselect :'v', a[1:2], x::text;",
    "begin; update t set a = 1 where b in (select c from u); commit;",
    "/* /* nested */ */ select E'\\'', U&'\\0061', B'01', $tag$ $x$ $tag$, 1e10;",
    "-- +goose Up\nselect 1;\n-- +goose StatementBegin\nselect 2;\n-- +goose StatementEnd\n-- +goose Down\nselect 3;\n",
    "create table `t` (id int auto_increment) engine=InnoDB;",
    "alter table p attach partition q for values from (1) to (maxvalue);",
    "insert into t values (1, 'a'), (2, 'b') on conflict do nothing returning *;",
];

/// Pieces that turn a reader's head.
const PIECES: &[&str] = &[
    "'",
    "\"",
    "$$",
    "$a$",
    "/*",
    "*/",
    "--",
    "\n",
    ";",
    "\\",
    "\\.",
    "\\gexec",
    ":'",
    "E'",
    "(",
    ")",
    "é",
    "\u{feff}",
    "\0",
    "begin",
    "atomic",
    "end",
    "stdin",
    " from ",
    "`",
    "\r\n",
    "\t",
    "1",
    "::",
    "[1:",
    "{{",
    "${",
    "-- +goose Down\n",
    "😀",
];

/// A seed with pieces put in and taken out.
fn mutilated() -> impl Strategy<Value = String> {
    let seed = (0..SEEDS.len(), 0..SEEDS.len());
    let edits = prop::collection::vec((any::<prop::sample::Index>(), 0..PIECES.len(), 0_usize..12), 0..8);
    (seed, edits).prop_map(|((first, second), edits)| {
        let mut text: Vec<char> = format!("{}\n{}", SEEDS[first], SEEDS[second]).chars().collect();
        for (place, piece, removed) in edits {
            let at = place.index(text.len() + 1);
            let end = (at + removed).min(text.len());
            text.splice(at..end, PIECES[piece].chars());
        }
        text.into_iter().collect()
    })
}

fn assert_inside(text: &str, findings: &[Finding]) {
    for finding in findings {
        let Place::Sql { line, column, .. } = &finding.place else { continue };
        let lines: Vec<&str> = text.split('\n').collect();
        let shown = lines.get(*line as usize - 1).unwrap_or_else(|| panic!("{finding:?} of {text:?}"));
        assert!((*column as usize) <= shown.chars().count() + 1, "{finding:?} of {text:?}");
        assert!(!finding.help.is_empty() && !finding.what.is_empty(), "{finding:?}");
    }
}

/// Reads a text in every way, and looks at what comes.
fn read(text: &str) {
    let file = SqlFile::new("a.sql", text);
    match source::statements(&file) {
        Ok((statements, remarks)) => {
            let mut end = 0;
            for one in &statements {
                assert!(
                    end <= one.span.start && one.span.start < one.span.end && one.span.end <= text.len(),
                    "{one:?}"
                );
                assert!(
                    text.is_char_boundary(one.span.start) && text.is_char_boundary(one.span.end),
                    "{one:?}"
                );
                end = one.span.end;
            }
            assert_inside(text, &remarks);
            assert!(explain_error(&file).is_none());
        }
        Err(error) => {
            assert!(error.span.start <= error.span.end && error.span.end <= text.len(), "{error:?}");
            assert_inside(text, std::slice::from_ref(&error.finding));
            assert!(source::UNREADABLE.contains(&error.finding.code.as_str()), "{error:?}");
            let shown = explain_error(&file).map(|error| error.what).unwrap_or_default();
            assert!(shown.contains(&error.finding.place.to_string()), "{shown}");
        }
    }
    assert_inside(text, &rewrite(std::slice::from_ref(&file), None).findings);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        if let Ok(text) = encoding::text("a.sql", bytes) {
            read(&text);
        }
    }

    #[test]
    fn mutilated_sql_is_read_or_refused(text in mutilated()) {
        read(&text);
    }

    #[test]
    fn a_directory_of_mutilated_files_is_read_or_refused(texts in prop::collection::vec(mutilated(), 1..4), names in 0..4_usize) {
        let name = |at: usize| match names {
            0 => format!("{at}_x.sql"),
            1 => format!("{at}_x.up.sql"),
            2 => format!("V{at}__x.sql"),
            _ => format!("{at}_x.postgres.up.sql"),
        };
        let entries = texts.iter().enumerate().map(|(at, text)| directory::Entry { path: name(at), bytes: text.clone().into_bytes() });
        let listing = directory::Listing { name: "db".into(), entries: entries.collect() };
        for tool in std::iter::once(None).chain(directory::Tool::ALL.map(Some)) {
            let Ok(read) = directory::read(&listing, tool) else { continue };
            for one in &read.list {
                let on_disk = listing.entries.iter().find(|entry| one.file.name.ends_with(&entry.path)).unwrap();
                prop_assert_eq!(one.file.text.len(), on_disk.bytes.len(), "positions stay");
            }
        }
    }

    #[test]
    fn what_is_behind_down_never_runs(up in "[a-z ]{0,20}", down in "[a-zé ]{0,20}", tail in prop::bool::ANY) {
        let mut text = format!("-- +goose Up\nselect '{up}';\n-- +goose Down\ndrop table \"{down}\";\n");
        if tail {
            text.push_str("-- +goose StatementBegin\ndrop table u;\n-- +goose StatementEnd\n");
        }
        let entries = vec![directory::Entry { path: "1_a.sql".into(), bytes: text.into_bytes() }];
        let read = directory::read(&directory::Listing { name: "db".into(), entries }, None).unwrap();
        prop_assert!(!read.list[0].file.text.contains("drop"));
    }
}

#[test]
fn a_statement_of_a_megabyte_is_read_or_refused_in_time() {
    let rows = "(1, 'some text of a row'),\n".repeat(40_000);
    let list = (0..100_000).map(|n| n.to_string()).collect::<Vec<_>>().join(", ");
    let cases = [
        (format!("insert into t values {rows} (2, 'last');"), None),
        (format!("create view v as select * from t where id in ({list});"), None),
        (
            format!(
                "create function f() returns text language sql as $x$ select '{}' $x$;",
                "é;".repeat(300_000)
            ),
            None,
        ),
        (format!("select 1{};", " + 1".repeat(250_000)), Some("DDL_TOO_DEEP")),
        (format!("select '{}", "x\n".repeat(500_000)), Some("DDL_SYNTAX")),
        (format!("/* {}", "x /* \n".repeat(150_000)), Some("DDL_SYNTAX")),
        (format!("create table t (a int{}", ", b text\n".repeat(100_000)), Some("DDL_SYNTAX")),
        (format!("select {}1{};", "(".repeat(400_000), ")".repeat(400_000)), Some("DDL_SYNTAX")),
    ];
    for (text, code) in cases {
        let begun = Instant::now();
        let file = SqlFile::new("big.sql", text.as_str());
        let found = source::statements(&file).err().map(|error| error.finding.code);
        assert_eq!(found.as_deref(), code, "{}", &text[..40]);
        if let Some(error) = explain_error(&file) {
            assert!(error.what.len() < 2_000, "{}", error.what.len());
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{} {:?}", &text[..40], begun.elapsed());
    }
}

#[test]
fn a_deep_statement_among_others_is_the_one_shown() {
    let text = format!("select 1;\n  -- deep\n  select {}1;\nselect 2;", "1 || ".repeat(3_000));
    let error = source::statements(&SqlFile::new("a.sql", text)).unwrap_err();
    assert_eq!(
        (error.finding.code.as_str(), error.finding.place.to_string().as_str()),
        ("DDL_TOO_DEEP", "a.sql:3:3")
    );
}

#[test]
fn what_was_rewritten_is_not_changed_again() {
    let forms = [
        "create index i on t (a)",
        "create unique index if not exists i on app.t (lower(a)) where b > 0",
        "drop index i",
        "drop index i; create index i on t (a, b)",
        "alter table t add column c int default 7",
        "alter table t drop column c",
        "alter table t alter column a set default 1, alter column b drop not null",
        "reindex index i",
        "reindex table t",
        "comment on table t is 'x'",
        "create table n (id int primary key references t (id)); create index ni on n (id)",
        "create or replace function f() returns int language sql as 'select 1'",
        "alter index i rename to j",
        "create type mood as enum ('ok'); alter type mood add value 'good'",
    ];
    let texts =
        |rewritten: &Rewritten| rewritten.statements.iter().map(|one| one.sql.clone()).collect::<Vec<_>>();
    for form in forms {
        let once = rewrite(&[SqlFile::new("a.sql", form)], None);
        let text = texts(&once).join(";\n");
        let again = rewrite(&[SqlFile::new("a.sql", text.as_str())], None);
        assert_eq!(texts(&again), texts(&once), "{form}");
        let new: Vec<&Finding> = again
            .findings
            .iter()
            .filter(|finding| finding.severity > Severity::Info)
            .filter(|finding| !once.findings.iter().any(|before| before.code == finding.code))
            .collect();
        assert!(new.is_empty(), "{form}: {new:?}");
    }
}
