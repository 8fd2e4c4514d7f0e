use crate::{
    ddl::tests::{live, on_live, told},
    facts::{ConstraintKind, ServerFacts},
};

/// [`live`], with keys, a CHECK, a default and a comment on `spare`.
fn facts() -> ServerFacts {
    let mut facts = live();
    let spare = facts.tables.iter_mut().find(|table| table.name.name.as_str() == "spare").unwrap();
    spare.indexes = vec![
        crate::ddl::tests::index("spare_a", "spare", false, true, None),
        crate::ddl::tests::index("spare_pkey", "spare", true, true, Some("spare_pkey")),
    ];
    let mut key = crate::ddl::tests::constraint("spare_pkey", ConstraintKind::PrimaryKey, None);
    key.definition = "PRIMARY KEY (id)".into();
    let mut check = crate::ddl::tests::constraint("spare_a_check", ConstraintKind::Check, None);
    check.definition = "CHECK ((a > 0))".into();
    spare.constraints = vec![check, key];
    spare.columns[1].default = Some("5".into());
    spare.columns[1].besides = vec!["comment on column public.spare.a is 'x'".into()];
    facts
}

#[test]
fn a_second_column_gets_all_that_the_old_one_has() {
    let expected = [
        "brief, ACCESS EXCLUSIVE spare: alter table \"public\".\"spare\" add column \"a__new\" bigint",
        "backfill, ROW EXCLUSIVE spare: update \"public\".\"spare\" set \"a__new\" = \"a\" where \"a__new\" is null and \"a\" is not null",
        "catalog, no lock: create function \"public\".\"spare_a_sync\"() returns trigger language plpgsql as $sync$begin new.\"a__new\" := new.\"a\"; return new; end$sync$",
        "brief, SHARE ROW EXCLUSIVE spare: create trigger \"spare_a_sync\" before insert or update on \"public\".\"spare\" for each row execute function \"public\".\"spare_a_sync\"()",
        "brief, SHARE ROW EXCLUSIVE spare: alter table \"public\".\"spare\" enable always trigger \"spare_a_sync\"",
        "backfill, ROW EXCLUSIVE spare: update \"public\".\"spare\" set \"a__new\" = \"a\" where \"a__new\"::text is distinct from ((\"a\")::bigint)::text",
        "brief, ACCESS EXCLUSIVE spare: alter table \"public\".\"spare\" add constraint \"spare_a_check__new\" CHECK ((\"a__new\" > 0)) NOT VALID",
        "validate, SHARE UPDATE EXCLUSIVE spare: alter table \"public\".\"spare\" validate constraint \"spare_a_check__new\"",
        "concurrent, SHARE UPDATE EXCLUSIVE spare: create index concurrently \"spare_a__new\" on \"public\".\"spare\" USING btree (\"a__new\")",
        "brief, ACCESS EXCLUSIVE spare: drop trigger \"spare_a_sync\" on \"public\".\"spare\";\n\
         alter table \"public\".\"spare\" drop column \"a\";\n\
         alter table \"public\".\"spare\" rename column \"a__new\" to \"a\";\n\
         alter table \"public\".\"spare\" alter column \"a\" set default 5;\n\
         alter table \"public\".\"spare\" rename constraint \"spare_a_check__new\" to \"spare_a_check\";\n\
         alter index \"public\".\"spare_a__new\" rename to \"spare_a\";\n\
         comment on column public.spare.a is 'x';\n\
         drop function \"public\".\"spare_a_sync\"()",
    ];
    let steps = told("alter table spare alter a type bigint", Some(&facts()));
    assert_eq!(steps[..expected.len()], expected);
    assert!(!steps.iter().any(|line| line.starts_with("blocking")), "{steps:#?}");
    assert!(steps.contains(&"warning DDL_COLUMN_LAST".to_owned()), "{steps:#?}");
}

#[test]
fn a_key_is_handed_over_before_the_name() {
    let steps = told("alter table spare alter id type bigint", Some(&facts()));
    let swap = steps.iter().find(|step| step.contains("drop column")).unwrap();
    let (key, name) = (swap.find("primary key using index").unwrap(), swap.find("rename column").unwrap());
    assert!(key < name && steps.iter().any(|step| step.contains("set not null")), "{steps:#?}");
}

#[test]
fn using_is_asked_of_the_row_that_is_written() {
    let steps = told("alter table spare alter b type int using length(b::text) + a", Some(&facts()));
    assert!(
        steps[2].contains("set search_path = \"public\" as $sync$begin new.\"b__new\" := (select length(b::text) + a from (select (new).*) as \"spare\"); return new; end$sync$"),
        "{steps:#?}"
    );
}

#[test]
fn what_a_second_column_cannot_stand_in_for_is_refused() {
    for sql in [
        "alter table p alter a type bigint",
        "alter table s alter b type bigint",
        "alter table t alter a type bigint",
        "alter table spare alter a type uuid",
        "alter table spare alter a type timestamptz using now()",
        "alter table spare alter a type text using a::timestamptz::text",
        "alter table spare alter a type bigint using random()::int",
        "alter table spare alter a type bigint, alter a set default 5",
        "create index i on spare (a); alter table spare alter a type bigint",
        "alter table spare alter a set default 6; alter table spare alter a type bigint",
    ] {
        let told = told(sql, Some(&facts()));
        assert!(told.contains(&"blocking DDL_NO_RULE".to_owned()), "{sql}: {told:#?}");
    }
}

#[test]
fn what_was_made_without_the_column_is_not_in_the_way() {
    for before in [
        "create index i on spare (b)",
        "alter table spare add constraint k check (b > 0)",
        "alter table spare add column d int; create index i on spare (d)",
    ] {
        let told = told(&format!("{before}; alter table spare alter a type bigint"), Some(&facts()));
        assert!(told.iter().any(|step| step.contains("add column \"a__new\" bigint")), "{before}: {told:#?}");
    }
    for before in [
        "create index i on spare (b) include (a)",
        "create index i on spare (b) where a > 0",
        "create index i on spare ((a + b))",
        "alter table spare add constraint k check (a > b)",
        "alter table spare add constraint k unique (b, a)",
        "alter table spare add constraint k foreign key (a) references r (id)",
    ] {
        let told = told(&format!("{before}; alter table spare alter a type bigint"), Some(&facts()));
        assert!(told.contains(&"blocking DDL_NO_RULE".to_owned()), "{before}: {told:#?}");
    }
}

#[test]
fn what_is_read_into_bytea_goes_by_no_setting() {
    let to =
        |using: &str| told(&format!("alter table words alter tx type bytea using {using}"), Some(&live()));
    assert!(to("decode(tx, 'escape')").iter().any(|step| step.contains("tx__new")));
    assert!(to("tx::timestamptz::text::bytea").contains(&"blocking DDL_NO_RULE".to_owned()));
}

#[test]
fn a_default_taken_away_before_stays_away() {
    let steps = told(
        "alter table spare alter a drop default; alter table spare alter a type text; alter table spare alter a set default 'x'",
        Some(&facts()),
    );
    let swap = steps.iter().find(|step| step.contains("drop column")).unwrap();
    assert!(!swap.contains("set default"), "{swap}");
    assert!(!on_live("alter table x alter a type bigint, alter b type bigint").is_empty());
}
