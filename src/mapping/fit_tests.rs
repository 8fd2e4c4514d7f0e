use super::*;
use crate::mapping::{BlueColumn, BlueTable, TableMap};

fn blue(tells_all: bool) -> BlueTable {
    let column = |(name, type_name): (&str, &str)| BlueColumn {
        name: Ident::new(name),
        type_name: type_name.into(),
        generated: name == "made",
    };
    let columns =
        [("id", "bigint"), ("title", "text"), ("uris", "text"), ("age", "integer"), ("made", "integer")];
    BlueTable {
        name: TableName::new("public", "client"),
        is_whole: true,
        columns: columns.into_iter().map(column).collect(),
        key: vec![Ident::new("id")],
        tells_all,
    }
}

fn green(columns: &[&str]) -> GreenTable {
    let column = |name: &&str| GreenColumn {
        name: Ident::new(name.trim_end_matches('!')),
        type_name: "text".into(),
        must_be_given: name.ends_with('!'),
        generated: false,
        identity_always: false,
    };
    GreenTable { columns: columns.iter().map(column).collect(), unique: vec![vec![Ident::new(columns[0])]] }
}

fn map(columns: &[(&str, &str)], drop: &[&str], condition: Option<&str>) -> TableMap {
    TableMap {
        columns: columns.iter().map(|(name, text)| (Ident::new(*name), (*text).to_owned())).collect(),
        drop: drop.iter().map(|name| Ident::new(*name)).collect(),
        condition: condition.map(str::to_owned),
        ..TableMap::default()
    }
}

/// `field: what` of every problem.
fn problems(map: TableMap, tells_all: bool, on_green: &GreenTable) -> Vec<String> {
    let fitted = Mapping { map, part: None, blue: blue(tells_all) }.fit(on_green);
    let problems = fitted.err().unwrap_or_default();
    problems
        .into_iter()
        .map(|problem| format!("{}: {} ({})", problem.field, problem.what, problem.help))
        .collect()
}

#[test]
fn what_is_not_named_is_carried_under_its_own_name() {
    let map = map(&[("name", "title"), ("tags", "to_jsonb(uris)")], &["age"], None);
    let fitted = Mapping { map, part: None, blue: blue(false) }
        .fit(&green(&["id", "name", "tags", "own", "title"]))
        .unwrap();
    let written: Vec<_> =
        fitted.outputs.iter().map(|output| (output.name.as_str(), output.expression.text())).collect();
    // What was renamed is not carried under its old name besides.
    assert_eq!(written, [("id", "\"id\""), ("name", "title"), ("tags", "to_jsonb(uris)")]);
    let sources: Vec<_> = fitted.sources.iter().map(|source| source.name.as_str()).collect();
    assert_eq!(sources, ["id", "title", "uris"]);
    assert_eq!((fitted.key.as_slice(), fitted.covers_green), (&[0][..], false));
}

#[test]
fn every_reason_why_a_map_does_not_fit_is_said() {
    let whole = ["id", "title", "uris", "age"];
    const FULL: &str =
        "(`alter table … replica identity full` on blue, so that a change tells the whole row)";
    let cases: Vec<(TableMap, bool, GreenTable, String)> = vec![
        (map(&[], &[], None), false, GreenTable::default(),
            "to: green has no table public.client (create it on green, or say with `to` what it is called there)".into()),
        (map(&[("name", "titel"), ("title", "title")], &[], None), false, green(&["id", "title", "uris", "age", "name"]),
            "columns.name: public.client on blue has no column `titel` (did you mean `title`?)".into()),
        (map(&[("nmae", "title")], &[], None), false, green(&["id", "name", "uris", "age"]),
            "columns.nmae: public.client on green has no column `nmae` (did you mean `name`?)".into()),
        (map(&[], &[], None), false, green(&["id", "title", "uris"]),
            ": column `age` of public.client has no place on green and would be lost (use it in an expression, or say that it goes: `drop: [age]`)".into()),
        (map(&[("age", "1")], &[], None), false, green(&whole),
            ": column `age` of public.client has no place on green and would be lost (use it in an expression, or say that it goes: `drop: [age]`)".into()),
        (map(&[], &["agee"], None), false, green(&whole),
            "drop[0]: public.client on blue has no column `agee` (did you mean `age`?)".into()),
        (map(&[("name", "title")], &["title"], None), false, green(&["id", "name", "uris", "age"]),
            "drop[0]: `title` is dropped, and renamed as well (keep one of the two)".into()),
        (map(&[], &[], None), false, green(&["id", "title", "uris", "age", "need!"]),
            "columns.need: public.client.need on green is NOT NULL without a default, and nothing gives it a value (give it an expression here, or a default on green)".into()),
        (map(&[("both", "title || uris")], &[], None), false, green(&["id", "both", "age"]),
            format!("columns.both: `title` of public.client may be a value that an update does not send, and the expression needs other columns besides {FULL}")),
        (map(&[], &[], Some("age > 1")), false, green(&whole),
            format!("where: the condition needs age, which a change of public.client does not tell of the row before, so nobody knows whether that row is on green {FULL}")),
        (map(&[], &[], Some("id > 1")), false, green(&whole),
            format!("columns.title: `title` of public.client may be a value that an update does not send, and a row that moves into the condition needs all of it {FULL}")),
        (map(&[], &[], None), false, green(&["age", "id", "title", "uris"]),
            format!(": the key of public.client on green (age) is not made of columns that a change on blue tells of the row before {FULL}")),
        (map(&[], &[], None), false, GreenTable { unique: Vec::new(), ..green(&whole) },
            ": public.client on green has no primary key and no unique index of NOT NULL columns, so a mapped row cannot be found again (add one on green)".into()),
        (map(&[("made", "made")], &[], None), false, green(&["id", "title", "uris", "age", "made"]),
            "columns.made: `made` is generated on blue, and no change of a row tells it (write its expression instead of its name)".into()),
    ];
    for (map, tells_all, on_green, expected) in cases {
        let found = problems(map, tells_all, &on_green);
        assert!(found.contains(&expected), "{expected}\n  not in {found:#?}");
    }
}

#[test]
fn a_table_that_tells_the_whole_row_may_be_mapped_in_any_way() {
    let whole = green(&["age", "id", "title", "uris", "both"]);
    assert_eq!(
        problems(map(&[("both", "title || uris")], &[], Some("age > 1")), true, &whole),
        Vec::<String>::new()
    );
    // A value that was not sent leaves what is computed from it alone as it is.
    let alone = green(&["id", "title", "uris", "age"]);
    assert_eq!(problems(map(&[("title", "upper(title)")], &[], None), false, &alone), Vec::<String>::new());
}

#[test]
fn a_partition_or_a_table_without_a_key_is_refused_by_name() {
    let refused = |blue: BlueTable| {
        let problems = Mapping { map: TableMap::default(), part: None, blue }.problems_on_blue();
        problems.into_iter().map(|problem| problem.what).collect::<Vec<_>>()
    };
    assert_eq!(
        refused(BlueTable { is_whole: false, ..blue(false) }),
        ["public.client is partitioned, a partition or foreign, and mapping those is not built yet"]
    );
    assert_eq!(
        refused(BlueTable { key: Vec::new(), ..blue(true) }),
        ["public.client has nothing that names a row, so a mapped row cannot be found again"]
    );
}
