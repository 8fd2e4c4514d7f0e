use super::*;
use crate::mapping::{BlueColumn, BlueTable, GreenColumn, GreenTable, Mapping, TableMap};
use crate::pg::name::{Ident, TableName};

fn fitted(condition: Option<&str>) -> Fitted {
    let blue = |name: &str, type_name: &str| BlueColumn {
        name: Ident::new(name),
        type_name: type_name.into(),
        generated: false,
    };
    let green = |name: &str, type_name: &str| GreenColumn {
        name: Ident::new(name),
        type_name: type_name.into(),
        must_be_given: false,
        generated: false,
        identity_always: false,
    };
    let map = TableMap {
        columns: [("key", "-id"), ("name", "a"), ("one", "1")]
            .map(|(name, text)| (Ident::new(name), text.to_owned()))
            .into(),
        to: Some(TableName::new("public", "g")),
        condition: condition.map(str::to_owned),
        ..TableMap::default()
    };
    let blue = BlueTable {
        name: TableName::new("public", "b"),
        is_whole: true,
        columns: vec![blue("id", "integer"), blue("a", "text")],
        key: vec![Ident::new("id")],
        tells_all: true,
    };
    let green = GreenTable {
        columns: vec![green("key", "bigint"), green("name", "text"), green("one", "integer")],
        unique: vec![vec![Ident::new("key")]],
    };
    Mapping { map, part: None, blue }.fit(&green).unwrap()
}

fn flat(sql: &str) -> String {
    sql.replace('\n', "")
}

#[test]
fn an_expression_sees_blues_row_and_nothing_of_greens() {
    let fitted = fitted(None);
    assert_eq!(
        flat(&fitted.insert(2, &mut |row, at| format!("${}", row * 2 + at + 1))),
        "insert into \"public\".\"g\" (\"key\", \"name\", \"one\") overriding system value \
         select migrate_after.v0, migrate_after.v1, migrate_after.v2 from \
         (select (-id) as v0, (a) as v1, (1) as v2 from (values ($1::integer, $2::text), ($3::integer, $4::text)) as \"b\" (\"id\", \"a\")) as migrate_after"
    );
    let mut parameters = Parameters::default();
    let outputs = fitted.outputs_after(|at| at == 0);
    assert_eq!(
        flat(&fitted.update(&outputs, &mut |image, at| parameters.place(image, at))),
        "update \"public\".\"g\" as migrate_green set \"key\" = migrate_after.v0 from \
         (select (-id)::bigint as k0 from (select $1::integer as \"id\") as \"b\") as migrate_before, \
         (select (-id) as v0 from (select $2::integer as \"id\") as \"b\") as migrate_after \
         where migrate_green.\"key\" = migrate_before.k0"
    );
    assert_eq!(parameters.0, [(Image::Before, 0), (Image::After, 0)]);
}

#[test]
fn what_needs_no_column_is_written_once() {
    let fitted = fitted(None);
    assert_eq!(fitted.outputs_after(|_| true), [0, 1]);
}

#[test]
fn a_row_may_come_stay_or_go_by_the_condition() {
    let fitted = fitted(Some("a > 'm'"));
    let mut parameters = Parameters::default();
    let update = flat(&fitted.update(&[0, 1], &mut |image, at| parameters.place(image, at)));
    let before = "(select (-id)::bigint as k0 from (select $1::integer as \"id\", $2::text as \"a\") as \"b\" where (a > 'm')) as migrate_before";
    assert!(update.contains(before), "{update}");
    for part in [
        "not exists (select from (select $3::text as \"a\") as \"b\" where (a > 'm')) returning 1)",
        "kept as (update ",
        "come as (insert into ",
        "where not exists (select from (select $2::text as \"a\") as \"b\" where (a > 'm')))",
    ] {
        assert!(update.contains(part), "{part}\n  not in {update}");
    }
    assert_eq!(fitted.sources_before(), [0, 1]);
}
