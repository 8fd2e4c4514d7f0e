//! The rules together: what they share in their tests, and what must hold for all of them.

use super::{SqlFile, rewrite};
use crate::{
    facts::{
        Column, Constraint, ConstraintKind, Generated, IdentityColumn, Index, Objects, Persistence,
        ReplicaIdentity, Sequence, ServerFacts, Table, TableKind,
    },
    finding::{Severity, any_blocking},
    pg::name::{Ident, TableName},
};

/// A database with `t` (referring to `r`), `p`, partitioned over `p1` and `sub`, which is partitioned over `sub1`, and `d`,
/// partitioned over `d1` and a DEFAULT `dd`; `words` has columns of several types.
pub(super) fn live() -> ServerFacts {
    let mut t = table("t", TableKind::Plain, None);
    t.indexes = vec![
        index("t_a", "t", false, true, None),
        index("t_broken", "t", false, false, None),
        index("t_pkey", "t", true, true, Some("t_pkey")),
        index("t_uq", "t", true, true, None),
    ];
    t.constraints = vec![constraint("t_r_fk", ConstraintKind::ForeignKey, Some("r"))];
    let mut p = table("p", TableKind::Partitioned, None);
    p.indexes = vec![index("p_a", "p", false, true, None)];
    let mut r = table("r", TableKind::Plain, None);
    r.indexes = vec![index("r_uq", "r", true, true, None)];
    let mut old = table("old_t", TableKind::Plain, None);
    old.name = TableName::new("old", "old_t");
    old.constraints = vec![constraint("old_fk", ConstraintKind::ForeignKey, Some("x"))];
    let tables = vec![
        old,
        table("d", TableKind::Partitioned, None),
        table("d1", TableKind::Plain, Some("d")),
        table("dd", TableKind::Plain, Some("d")),
        p,
        table("p1", TableKind::Plain, Some("p")),
        r,
        table("s", TableKind::Plain, None),
        table("spare", TableKind::Plain, None),
        table("sub", TableKind::Partitioned, Some("p")),
        table("sub1", TableKind::Plain, Some("sub")),
        t,
        table("typed", TableKind::Plain, None),
        words(),
        table("x", TableKind::Plain, None),
    ];
    let name = |name: &str| TableName::new("public", name);
    ServerFacts {
        version_num: 150_020,
        tables,
        views: vec![TableName::new("old", "old_v"), name("v"), name("w")],
        materialized_views: vec![name("bare"), name("mv")],
        sequences: vec![sequence("sq")],
        objects: objects(),
        domains: serde_json::from_value(serde_json::json!([
            { "name": "public.idle", "base": "integer", "constrained": false },
            { "name": "public.pos", "base": "integer", "constrained": true },
        ]))
        .unwrap(),
        ..ServerFacts::default()
    }
}

fn words() -> Table {
    let mut words = table("words", TableKind::Plain, None);
    let id = words.columns[0].clone();
    let column = |(name, type_name): (&str, &str)| Column {
        name: Ident::new(name),
        type_name: type_name.into(),
        not_null: false,
        ..id.clone()
    };
    let more = [
        ("n", "integer"),
        ("ts", "timestamp without time zone"),
        ("tx", "text"),
        ("v", "character varying(50)"),
        ("w", "character varying(50)"),
    ];
    words.columns = vec![id.clone()];
    words.columns.extend(more.into_iter().map(column));
    words.indexes = vec![
        index("words_pkey", "words", true, true, Some("words_pkey")),
        index("words_uq", "words", true, true, None),
        index("words_w", "words", false, true, None),
    ];
    words.indexes[1].columns = vec![Ident::new("n")];
    words.indexes[1].definition = "CREATE UNIQUE INDEX words_uq ON public.words USING btree (n)".into();
    words.indexes[2].columns = vec![Ident::new("w")];
    words.indexes[2].definition = "CREATE INDEX words_w ON public.words USING btree (w)".into();
    let mut key = constraint("words_pkey", ConstraintKind::PrimaryKey, None);
    key.definition = "PRIMARY KEY (id)".into();
    key.index = Some(Ident::new("words_pkey"));
    words.constraints = vec![key];
    words
}

/// What rests on the tables of [`live`]: `v` reads `s`, `w` reads `v`; types, a trigger, bounds.
fn objects() -> Objects {
    serde_json::from_value(serde_json::json!({
        "views": [
            view("old.old_v", "old.old_t", false, false),
            view("public.bare", "public.s", true, false),
            view("public.mv", "public.s", true, true),
            view("public.v", "public.s", false, false),
            view("public.w", "public.v", false, false),
        ],
        "triggers": [{ "name": "s_g", "table": "public.s", "function": "public.f" }],
        "partitioned": [
            { "name": "public.d", "strategy": "range", "columns": ["id"], "default_partition": "public.dd", "constraint": null },
            { "name": "public.p", "strategy": "list", "columns": ["id"], "default_partition": null, "constraint": null },
            { "name": "public.sub", "strategy": "list", "columns": ["a"], "default_partition": null,
              "constraint": "((id IS NOT NULL) AND (id = 2))" },
        ],
        "bounds": [
            { "partition": "public.d1", "bound": "FOR VALUES FROM (0) TO (1)" },
            { "partition": "public.dd", "bound": "DEFAULT" },
            { "partition": "public.p1", "bound": "FOR VALUES IN (1)" },
        ],
        "types": [
            { "name": "public.idle", "kind": "domain", "used_by": [], "typed_tables": [] },
            { "name": "public.mood", "kind": "enum", "used_by": [{ "relation": "public.s", "columns": ["m"] }], "typed_tables": [] },
            { "name": "public.pos", "kind": "domain", "used_by": [{ "relation": "public.s", "columns": ["b"] }], "typed_tables": [] },
            { "name": "public.shape", "kind": "composite", "used_by": [], "typed_tables": ["public.typed"] },
            { "name": "public.unused", "kind": "enum", "used_by": [], "typed_tables": [] },
        ],
        "policies": [],
        "crowded_schemas": ["public"],
        "statistics": [{ "name": "public.t_stats", "table": "public.t" }],
    }))
    .unwrap()
}

fn view(name: &str, reads: &str, materialized: bool, refreshable: bool) -> serde_json::Value {
    let recreate =
        [format!("create view {name} as select a from {reads}"), format!("alter view {name} owner to app")];
    serde_json::json!({
        "name": name, "materialized": materialized, "refreshable": refreshable, "recreate": recreate,
        "reads": [{ "relation": reads, "columns": ["a"] }],
    })
}

fn sequence(name: &str) -> Sequence {
    Sequence {
        name: TableName::new("public", name),
        owner: None,
        data_type: "bigint".into(),
        increment: 1,
        min: 1,
        max: i64::MAX,
        cache: 1,
        cycle: false,
        last_value: None,
    }
}

fn table(name: &str, kind: TableKind, parent: Option<&str>) -> Table {
    let column = |name: &str, not_null| Column {
        name: Ident::new(name),
        type_name: "integer".into(),
        not_null,
        default: None,
        generated: Generated::No,
        identity: IdentityColumn::No,
        besides: Vec::new(),
    };
    Table {
        name: TableName::new("public", name),
        kind,
        persistence: Persistence::Permanent,
        columns: vec![column("id", true), column("a", false), column("b", false)],
        identity: ReplicaIdentity::Default,
        indexes: Vec::new(),
        constraints: Vec::new(),
        replica_triggers: Vec::new(),
        parent: parent.map(|parent| TableName::new("public", parent)),
        is_partition: parent.is_some(),
        row_security: false,
        owned_by_us: true,
        readable: true,
        total_bytes: 0,
        heap_bytes: 0,
        rows_estimate: -1,
        has_rows: None,
    }
}

pub(super) fn index(name: &str, table: &str, unique: bool, valid: bool, constraint: Option<&str>) -> Index {
    let column = if unique { "id" } else { "a" };
    let kind = if unique { "UNIQUE INDEX" } else { "INDEX" };
    Index {
        name: Ident::new(name),
        columns: vec![Ident::new(column)],
        definition: format!("CREATE {kind} {name} ON public.{table} USING btree ({column})"),
        unique,
        primary: constraint.is_some(),
        immediate: true,
        valid,
        plain: true,
        constraint: constraint.map(Ident::new),
        parent: None,
    }
}

pub(super) fn constraint(name: &str, kind: ConstraintKind, references: Option<&str>) -> Constraint {
    Constraint {
        name: Ident::new(name),
        kind,
        definition: "FOREIGN KEY (b) REFERENCES r(id)".into(),
        validated: true,
        deferrable: false,
        references: references.map(|name| TableName::new("public", name)),
        index: Some(Ident::new("r_uq")),
        inherited: false,
    }
}

/// Each step as `class, locks: sql`, then each finding but the notice of planning offline, as `severity code`.
pub(super) fn told(sql: &str, live: Option<&ServerFacts>) -> Vec<String> {
    let result = rewrite(&[SqlFile::new("a.sql", sql)], live);
    let steps = result.statements.iter().map(|step| {
        let class = format!("{:?}", step.class).to_lowercase();
        let locks: Vec<String> = step
            .cost
            .locks
            .iter()
            .map(|lock| format!("{} {}", lock.mode, lock.relation.name.as_str()))
            .collect();
        let locks = if locks.is_empty() { "no lock".to_owned() } else { locks.join(" + ") };
        format!("{class}, {locks}: {}", step.sql)
    });
    let findings = result
        .findings
        .iter()
        .filter(|finding| finding.code != "DDL_OFFLINE")
        .map(|finding| format!("{} {}", finding.severity, finding.code));
    steps.chain(findings).collect()
}

/// As [`told`], on [`live`].
pub(super) fn on_live(sql: &str) -> Vec<String> {
    told(sql, Some(&live()))
}

/// Statements of every rule, with and without a form of their own.
const CASES: &[&str] = &[
    "create index i on t (a) -- why",
    "create unique index concurrently if not exists i on public.t using btree (a desc, lower(b::text)) include (id) where a > 0",
    "create index on t (a, b)",
    "create index i on p (a)",
    "create index concurrently i on p (a)",
    "create index t_broken on t (a)",
    "drop index t_a",
    "drop index if exists t_a, /* two */ public.t_uq restrict",
    "drop index p_a",
    "drop index t_a; create index t_a on t (a, b);",
    "drop index t_uq; alter table t add column n int; create index t_uq on t (id)",
    "drop index p_a; create index p_a on p (b)",
    "reindex index t_a",
    "reindex (verbose) table t",
    "reindex index concurrently t_a",
    "alter table t add column n int, alter column a set default 5, alter a set statistics 100",
    "alter table t rename column a to c",
    "alter table t add constraint k check (a > 0) not valid",
    "alter table t validate constraint t_r_fk",
    "alter table t add constraint k check (a > 0)",
    "alter table t add constraint k foreign key (b) references r (id)",
    "create index i on t (a); reindex index i; drop index i",
    "create table n (id int primary key, r_id int references r (id)); create index n_i on n (r_id); insert into n values (1)",
    "begin; set lock_timeout = 5; create view v as select a from t; comment on column t.a is 'x'; commit",
    "create type mood as enum ('a'); alter table t add column m mood not null default 'a'",
    "alter table t add column n uuid not null default gen_random_uuid()",
    "alter table t add column n int default random() check (n > 0) unique references r (id)",
    "alter table t add column n int default 1 check (n > 0) check (n < 9) unique references r",
    "alter table t add column n bigserial",
    "alter table t add column n serial primary key",
    "alter table t add column if not exists n int references r (id) deferrable initially deferred",
    "alter table t alter a set not null",
    "alter table t add check (a > 0), add check (b > a), add unique (a), add foreign key (b) references r (id)",
    "alter table t add constraint k unique (a) include (b) with (fillfactor = 70) deferrable",
    "alter table r add primary key (id, a)",
    "alter table t add constraint k primary key using index t_a",
    "alter table t drop constraint t_r_fk; alter table t add constraint t_r_fk foreign key (a) references r (id)",
    "alter table t drop constraint if exists k, add constraint k unique (a)",
    "alter table t drop constraint if exists k; alter table t add constraint k check (a > 0)",
    "alter table t alter constraint t_r_fk deferrable initially deferred",
    "alter table t alter b drop not null, alter b set default 5, add column n int, alter a set not null",
    "update t set a = 0 where a is null; alter table t alter a set not null",
    "update t set b = a; alter table t alter b set not null",
    "delete from t where a = 1 or b = 2",
    "insert into r (id) select id from t where a > 0 on conflict do nothing",
    "insert into t (a) values (1); update t set a = 2 where id = 1",
    "alter table t add column n int; alter table t add column m int default random(); alter table t add column o int",
    "drop table t",
    "drop table r, t",
    "drop table r cascade",
    "drop table p1",
    "drop view v cascade",
    "drop schema old cascade",
    "alter table t drop column b",
    "alter table r drop column id cascade",
    "drop index r_uq cascade",
    "alter table t_a rename to t_x",
    "alter index t_a set tablespace fast",
    "create table p9 partition of p for values in (9)",
    "create table p9 partition of p (a default 5) for values in (9)",
    "create table d9 partition of d for values from (9) to (10)",
    "alter table p attach partition spare for values in (7)",
    "alter table d attach partition spare for values from (1) to (2)",
    "alter table p detach partition p1",
    "alter table d detach partition d1",
    "alter table p add constraint k foreign key (b) references r (id)",
    "alter table p add constraint k primary key (id)",
    "refresh materialized view mv",
    "create materialized view n as select a from t",
    "drop function f() cascade",
    "drop type mood cascade",
    "truncate r cascade",
    "vacuum t",
    "alter sequence sq restart",
    "create trigger g before insert on p for each row execute function f()",
];

#[test]
fn rewriting_what_was_rewritten_changes_nothing_and_finds_nothing() {
    let facts = live();
    for case in CASES {
        let first = rewrite(&[SqlFile::new("a.sql", *case)], Some(&facts));
        assert!(first.may_run() && !first.statements.is_empty(), "{case}: {:?}", first.findings);
        let sql = |result: &super::Rewritten| {
            result.statements.iter().map(|step| step.sql.clone()).collect::<Vec<_>>()
        };
        let again = rewrite(&[SqlFile::new("b.sql", sql(&first).join("\n;\n"))], Some(&facts));
        assert_eq!(sql(&again), sql(&first), "{case}");
        assert!(again.statements.iter().all(|step| step.was.is_none()), "{case}");
        let new: Vec<_> = again
            .findings
            .iter()
            .filter(|finding| !first.findings.iter().any(|before| before.what == finding.what))
            .collect();
        assert!(new.is_empty(), "{case}: {new:?}");
    }
}

#[test]
fn nothing_is_scanned_rewritten_or_built_while_others_wait() {
    let facts = live();
    for live in [Some(&facts), None] {
        for case in CASES {
            let result = rewrite(&[SqlFile::new("a.sql", *case)], live);
            for step in &result.statements {
                assert!(!step.cost.works_while_others_wait(), "{case}: {step:?}");
                assert_eq!(step.retry.lock_timeout_ms.is_none(), !step.transactional, "{case}: {step:?}");
            }
        }
    }
}

#[test]
fn what_cannot_run_in_one_transaction_stops_the_plan() {
    let facts = live();
    let in_one = |sql: &str| {
        let (statements, _) = super::source::statements(&SqlFile::new("a.sql", sql)).ok().unwrap();
        super::in_one_transaction(&statements, &mut super::Scene::new(Some(&facts)), 0)
    };
    let brief = in_one("alter table public.t add column n int; alter table public.t alter a set default 5");
    assert_eq!((brief.steps.len(), any_blocking(&brief.findings)), (1, false));
    let long = in_one("alter table public.t add column n int; create index i on public.t (a)");
    assert_eq!((long.steps.len(), any_blocking(&long.findings)), (0, true));
    assert!(in_one("").findings.is_empty());
}

#[test]
fn every_form_without_a_rule_stops_the_plan() {
    let facts = live();
    let cases = [
        "alter table p alter column a type bigint",
        "alter table t add column n int not null",
        "drop index t_pkey",
        "do $$ begin execute 'drop table ' || 't'; end $$",
        "lock table t",
        "vacuum full t",
        "cluster t using t_a",
        "alter table t set unlogged",
        "alter table t set tablespace x",
        "alter domain pos set not null",
        "drop owned by someone",
        "alter extension x update",
        "drop extension x",
        "create subscription x connection '' publication y",
        "alter role x superuser",
        "create schema x create table y (id int)",
        "reindex database d",
        "select pg_terminate_backend(1)",
        "set role other",
        "rollback",
        "alter table nowhere add column n int",
        "create index i on nowhere (a)",
    ];
    for case in cases {
        for live in [Some(&facts), None] {
            let result = rewrite(&[SqlFile::new("a.sql", case)], live);
            let may_be_fine_offline = case.contains("nowhere") || case == "drop index t_pkey";
            assert!(any_blocking(&result.findings) || (live.is_none() && may_be_fine_offline), "{case}");
            for finding in &result.findings {
                assert!(
                    !finding.help.is_empty() && finding.place.to_string() == "a.sql:1:1",
                    "{case}: {finding:?}"
                );
            }
        }
    }
}

#[test]
fn a_file_that_cannot_be_read_stops_the_plan_and_the_others_are_still_judged() {
    let files = [SqlFile::new("1.sql", "create indx"), SqlFile::new("2.sql", "lock table t")];
    let result = rewrite(&files, None);
    let codes: Vec<(&str, Severity)> =
        result.findings.iter().map(|finding| (finding.code.as_str(), finding.severity)).collect();
    assert_eq!(
        codes,
        [
            ("DDL_OFFLINE", Severity::Info),
            ("DDL_SYNTAX", Severity::Blocking),
            ("DDL_NO_RULE", Severity::Blocking)
        ]
    );
}

#[test]
fn step_names_are_stable_and_unique() {
    let ids = |sql: &str| {
        let result = rewrite(&[SqlFile::new("a.sql", sql)], Some(&live()));
        result.statements.into_iter().map(|step| step.id).collect::<Vec<_>>()
    };
    let alone = ids("create index i on t (a)");
    assert_eq!(alone, ["ddl/create-index-i-on-public.t"]);
    assert_eq!(ids("comment on table t is 'x'; create index i on t (a)")[1..], alone);
    assert_eq!(
        ids("alter table t drop column a; alter table t drop column a")[1],
        "ddl/alter-public.t-drop-column-a-2"
    );
}

#[test]
fn the_search_path_of_a_file_holds_until_its_end() {
    let files = [
        SqlFile::new("1.sql", "create index i on t (a); set search_path = app; create index j on t (a);"),
        SqlFile::new("2.sql", "create index k on t (a);"),
    ];
    let result = rewrite(&files, None);
    let tables: Vec<String> =
        result.statements.iter().map(|step| step.cost.locks[0].relation.plain()).collect();
    assert_eq!(tables, ["public.t", "app.t", "public.t"]);
    assert_eq!(result.statements[1].search_path, [Ident::new("app")]);
}

#[test]
fn the_result_survives_json() {
    let result = rewrite(&[SqlFile::new("a.sql", CASES.join(";\n"))], Some(&live()));
    let text = serde_json::to_string(&result).unwrap();
    assert_eq!(serde_json::from_str::<super::Rewritten>(&text).unwrap(), result);
}
