use super::*;
use crate::{
    ddl::{rewrite, tests::live},
    facts::{Generated, IdentityColumn},
};

/// The list for a database, with views.
fn with_views(sql: &str, live: &ServerFacts) -> Rewritten {
    let files = [SqlFile::new("a.sql", sql)];
    let mut rewritten = rewrite(&files, Some(live));
    add(&mut rewritten, "one-two", &files, Some(live));
    rewritten
}

fn sqls(rewritten: &Rewritten) -> Vec<&str> {
    rewritten.statements.iter().map(|step| step.sql.as_str()).collect()
}

fn codes(rewritten: &Rewritten) -> Vec<String> {
    let ours = rewritten.findings.iter().filter(|finding| finding.code.starts_with("COMPAT_"));
    ours.map(|finding| format!("{} {}", finding.severity, finding.code)).collect()
}

#[test]
fn a_view_is_made_first_and_renames_are_nothing_to_it() {
    let done = with_views(
        "alter table t rename column a to c; alter table t rename to u; alter table u add column n int",
        &live(),
    );
    let sqls = sqls(&done);
    assert_eq!(
        sqls[0],
        "create schema \"migrate_compat_one_two\";\n\
         comment on schema \"migrate_compat_one_two\" is 'made by migrate for clients of before `one-two`; `migrate finish` drops it';\n\
         grant usage on schema \"migrate_compat_one_two\" to public;\n\
         create view \"migrate_compat_one_two\".\"t\" with (security_invoker = true) as select \"id\", \"a\", \"b\" from \"public\".\"t\";\n\
         comment on view \"migrate_compat_one_two\".\"t\" is 'made by migrate for clients of before `one-two`; `migrate finish` drops it';\n\
         grant select, insert, update, delete on \"migrate_compat_one_two\".\"t\" to public"
    );
    assert_eq!(
        sqls[1..],
        ["alter table t rename column a to c", "alter table t rename to u", "alter table u add column n int"]
    );
    let first = &done.statements[0];
    assert_eq!((first.class, first.cost.locks.len()), (Class::Catalog, 1));
    assert_eq!(first.cost.locks[0].mode, LockMode::AccessShare);
    assert_eq!(codes(&done), ["info COMPAT_VIEWS"]);
}

#[test]
fn a_dropped_column_is_let_go_in_the_transaction_that_drops_it() {
    let done = with_views("alter table x drop column b; alter table x rename column a to c", &live());
    let sqls = sqls(&done);
    let view = "\"migrate_compat_one_two\".\"x\"";
    assert!(
        sqls[1].starts_with(&format!(
            "create or replace view {view} with (security_invoker = true) as select \"id\", \"a\", null::integer as \"b\" from \"public\".\"x\";\nalter table x drop column b;\ncreate or replace function"
        )),
        "{}",
        sqls[1]
    );
    assert!(sqls[1].contains(&format!("instead of insert on {view}")), "{}", sqls[1]);
    // The function says names, so it is made anew for a rename, while nobody is in the view; the triggers stay.
    let locked = sqls[2].find("create or replace view").unwrap();
    let renamed = sqls[2].find("alter table x rename column a to c;\ncreate or replace function").unwrap();
    assert!(locked < renamed, "{}", sqls[2]);
    assert!(sqls[2].contains("(\"id\", \"c\") values (new.\"id\", new.\"a\")"), "{}", sqls[2]);
    assert!(!sqls[2].contains("create trigger"), "{}", sqls[2]);
    assert_eq!(codes(&done), ["info COMPAT_VIEWS", "info COMPAT_COLUMN", "warning COMPAT_WRITES"]);
    assert!(done.may_run());
}

#[test]
fn a_free_change_of_type_lets_go_and_comes_back() {
    let done = with_views("alter table words alter column v type text", &live());
    let sql = sqls(&done)[1].to_owned();
    let gone = sql.find("null::character varying(50) as \"v\"").unwrap();
    let changed = sql.find("alter table words").unwrap();
    let back = sql.find("\"v\"::character varying(50) as \"v\"").unwrap();
    assert!(gone < changed && changed < back, "{sql}");
    assert!(sql.contains("for update") && sql.contains("instead of update"), "{sql}");
}

#[test]
fn a_second_column_is_read_from_before_it_takes_the_name() {
    let done = with_views("alter table words alter column n type bigint using n * 10", &live());
    let last = sqls(&done).last().unwrap().to_string();
    let view = last.find("\"n__new\"::integer as \"n\"").unwrap();
    assert!(view < last.find("drop column \"n\"").unwrap(), "{last}");
    assert!(
        last.contains("values (new.\"id\", (select n * 10 from (select new.\"n\" as \"n\") as \"words\")"),
        "{last}"
    );
    assert!(
        done.statements[..done.statements.len() - 1]
            .iter()
            .skip(1)
            .all(|step| !step.sql.contains("migrate_compat"))
    );
    assert_eq!(done.statements.last().unwrap().recipe, "swap_column");
}

#[test]
fn planning_what_was_planned_changes_nothing() {
    let facts = live();
    for case in [
        "alter table t rename column a to c; alter table t rename to u",
        "alter table x drop column b, add column n int; alter table x rename column a to c",
        "alter table words alter column v type text",
        "alter table words alter column n type bigint",
    ] {
        let once = with_views(case, &facts);
        let text = sqls(&once).join(";\n");
        let again = with_views(&text, &facts);
        assert!(again.may_run() && codes(&again).is_empty(), "{case}: {:#?}", again.findings);
        assert_eq!(sqls(&again).join(";\n"), text, "{case}");
    }
}

#[test]
fn numbers_and_computed_columns_are_the_servers() {
    let mut facts = live();
    let table = facts.tables.iter_mut().find(|table| table.name.name.as_str() == "words").unwrap();
    table.columns[0].identity = IdentityColumn::Always;
    table.columns[1].generated = Generated::Stored;
    table.columns[2].default = Some("now()".into());
    let done = with_views("alter table words drop column tx", &facts);
    let sql = sqls(&done)[1];
    assert!(sql.contains("if new.\"id\" is null then\ninsert into \"public\".\"words\" as base (\"ts\", \"v\", \"w\") values"), "{sql}");
    assert!(sql.contains("(\"id\", \"ts\", \"v\", \"w\") overriding system value values"), "{sql}");
    assert!(sql.contains("returning base.\"id\", base.\"n\" into new.\"id\", new.\"n\""), "{sql}");
    assert!(sql.contains("alter column \"ts\" set default now()"), "{sql}");
    assert!(sql.contains("update \"public\".\"words\" as base set \"ts\" = new.\"ts\", \"v\" = new.\"v\", \"w\" = new.\"w\" where"), "{sql}");
}

#[test]
fn what_cannot_be_kept_is_told_by_name() {
    let facts = live();
    let done = with_views("alter table spare rename column a to c; drop table spare", &facts);
    assert_eq!(codes(&done), ["warning COMPAT_DROPPED"]);
    assert!(!sqls(&done)[0].contains("migrate_compat"));
    let mut enums = facts.clone();
    let s = enums.tables.iter_mut().find(|table| table.name.name.as_str() == "s").unwrap();
    let mood = crate::facts::Column {
        name: Ident::new("m"),
        type_name: "public.mood".into(),
        ..s.columns[1].clone()
    };
    s.columns.push(mood);
    let done = with_views("alter table s drop column m; drop type unused; drop type mood", &enums);
    assert!(codes(&done).contains(&"blocking COMPAT_TYPE".to_owned()), "{:#?}", done.findings);
    let mut old = facts.clone();
    old.version_num = 140_010;
    assert!(
        codes(&with_views("alter table x drop column a", &old))
            .contains(&"blocking COMPAT_VERSION".to_owned())
    );
    let mut twice = facts.clone();
    twice.schemas.push(schema("one-two"));
    assert!(
        codes(&with_views("alter table x drop column a", &twice))
            .contains(&"blocking COMPAT_SCHEMA".to_owned())
    );
    assert!(codes(&with_views("create table n (id int); create index i on t (b)", &facts)).is_empty());
}

#[test]
fn a_new_column_that_old_clients_cannot_fill_is_told() {
    let added = "alter table words add column m int; update words set m = 1 where m is null; alter table words alter column m set not null";
    let told = |sql: &str| codes(&with_views(sql, &live())).contains(&"warning COMPAT_NOT_NULL".to_owned());
    assert!(told(added));
    assert!(!told(&format!("{added}; alter table words alter column m set default 5")));
    assert!(!told("alter table words add column m int not null default 5"));
    assert!(!told("alter table words alter column n set not null"));
}

#[test]
fn a_view_of_the_operators_that_is_made_again_is_not_told_as_dropped() {
    let done = with_views("alter table old.old_t alter column a type integer", &live());
    let told = codes(&done);
    assert_eq!(told, ["info COMPAT_VIEWS", "info COMPAT_COLUMN", "warning COMPAT_WRITES"]);
    let sql = sqls(&done)[1];
    assert!(sql.starts_with("create or replace view \"migrate_compat_one_two\".\"old_t\""), "{sql}");
    let again = sql.find("create view old.old_v").unwrap();
    assert!(again < sql.rfind("create or replace view \"migrate_compat_one_two\"").unwrap(), "{sql}");
    assert_eq!(
        codes(&with_views("alter table t rename column a to c; drop view w", &live())),
        ["warning COMPAT_DROPPED", "info COMPAT_VIEWS"]
    );
}

#[test]
fn a_partition_that_is_followed_follows_its_table() {
    let done = with_views("alter table p1 rename to p_one; alter table p drop column b", &live());
    let last = sqls(&done).last().unwrap().to_string();
    assert!(last.contains("null::integer as \"b\" from \"public\".\"p_one\""), "{last}");
    assert!(last.contains("null::integer as \"b\" from \"public\".\"p\""), "{last}");
}

#[test]
fn a_new_table_of_an_old_name_is_another_one() {
    let done = with_views(
        "alter table t rename to t_old; create table t (id int); alter table t add column z int",
        &live(),
    );
    assert!(sqls(&done)[0].contains("from \"public\".\"t\""));
    assert_eq!(sqls(&done).len(), 4);
    assert_eq!(codes(&done), ["info COMPAT_VIEWS"]);
}

#[test]
fn green_gets_them_as_they_are_at_the_end() {
    let files = [SqlFile::new(
        "a.sql",
        "begin; alter table words rename column v to label; alter table words drop column w; alter table words rename to terms; commit",
    )];
    let (script, findings) = on_green("one", &files, &live());
    let text = script.unwrap().text;
    assert!(
        text.contains("select \"id\", \"n\", \"ts\", \"tx\", \"label\" as \"v\", null::character varying(50) as \"w\" from \"public\".\"terms\""),
        "{text}"
    );
    assert!(text.contains("create trigger compat_update"), "{text}");
    assert!(findings.iter().any(|finding| finding.code == "COMPAT_COLUMN"), "{findings:#?}");
    assert!(on_green("one", &[SqlFile::new("a.sql", "create index i on words (v)")], &live()).0.is_none());
}

#[test]
fn a_plans_schema_is_its_own() {
    assert_eq!(schema("hydra-1x").as_str(), "migrate_compat_hydra_1x");
    assert!(schema(&"a".repeat(40)).as_str().len() <= 63);
}
