//! What is wrong with the joins, seen from the plan alone.

use super::{Notes, OUR_SCHEMA};
use crate::mapping::{Join, JoinSource, Reading, is_index_list};
use crate::pg::name::{Ident, TableName};
use crate::plan::Replicate;
use std::collections::BTreeMap;

pub(super) fn joins(replicate: &Replicate, notes: &mut Notes) {
    let mut taken: BTreeMap<&Ident, (&TableName, &TableName)> = BTreeMap::new();
    for (green, join) in &replicate.join {
        let field = format!("replicate.join.{}", green.plain());
        target(replicate, green, &field, notes);
        columns(join, &field, notes);
        query(join, &field, notes);
        for (table, source) in &join.from {
            let field = format!("{field}.from.{}", table.plain());
            is_free(replicate, table, &field, notes);
            if let Some((other, other_green)) = taken.insert(&table.name, (table, green)) {
                let what = match other == table {
                    true => format!(
                        "{} is joined into {} and into {}, and that is not built yet",
                        table.plain(),
                        other_green.plain(),
                        green.plain()
                    ),
                    false => format!(
                        "{} and {} are both joined, and green's copies of them would have one name",
                        other.plain(),
                        table.plain()
                    ),
                };
                notes.block(
                    "NOT_YET",
                    field.as_str(),
                    what,
                    "join one of them, and make a view of green's for the other",
                );
            }
            keys(join, source, &field, notes);
            indexes(source, &field, notes);
        }
    }
}

fn target(replicate: &Replicate, green: &TableName, field: &str, notes: &mut Notes) {
    let schema = green.schema.as_str();
    if schema == OUR_SCHEMA || schema.starts_with("pg_") {
        let what = format!("schema `{schema}` is never replicated into");
        notes.block("RESERVED_SCHEMA", field, what, "choose another schema");
    }
    if let Some((blue, _)) = replicate.maps().find(|(blue, map)| map.target(blue) == *green) {
        let what =
            format!("{} becomes {} by its map, and a join makes all rows there", blue.plain(), green.plain());
        notes.block("CONTRADICTION", field, what, "let the query read it, or map it to another table");
    }
}

fn columns(join: &Join, field: &str, notes: &mut Notes) {
    if join.key.is_empty() {
        let what = "nothing tells the joined rows apart";
        notes.block(
            "BAD_VALUE",
            format!("{field}.key"),
            what,
            "name the columns of a unique index of green's table",
        );
    }
    if let Some(twice) = join.key.iter().enumerate().find(|(at, name)| join.key[..*at].contains(name)) {
        let what = format!("`{}` is named twice", twice.1.as_str());
        notes.block("BAD_VALUE", format!("{field}.key[{}]", twice.0), what, "name each column once");
    }
}

fn query(join: &Join, field: &str, notes: &mut Notes) {
    let place = format!("{field}.query");
    let read: Vec<TableName> = match Reading::query(&join.query) {
        Ok(query) => query.tables().collect(),
        Err(unreadable) => {
            let help = "write one query over the tables of `from`, each with its schema";
            notes.block("BAD_EXPRESSION", place, unreadable.what, help);
            return;
        }
    };
    strangers(join, &read, &place, notes);
    for table in join.from.keys().filter(|table| !read.contains(table)) {
        let what = format!("the query does not read {}", table.plain());
        notes.block(
            "CONTRADICTION",
            format!("{field}.from.{}", table.plain()),
            what,
            "read it in the query, or take it out here",
        );
    }
    if join.from.is_empty() {
        notes.block(
            "BAD_VALUE",
            format!("{field}.from"),
            "no table of blue is named",
            "name each that the query reads",
        );
    }
}

/// Tables that are read and not in the join.
fn strangers(join: &Join, read: &[TableName], field: &str, notes: &mut Notes) {
    let mut strangers: Vec<&TableName> = read.iter().filter(|table| !join.from.contains_key(table)).collect();
    strangers.sort();
    strangers.dedup();
    for table in strangers {
        let what = format!("it reads {}, which is not in `from`", table.plain());
        notes.block(
            "CONTRADICTION",
            field,
            what,
            "name every table that is read in `from`, with the key that its rows concern",
        );
    }
}

fn is_free(replicate: &Replicate, table: &TableName, field: &str, notes: &mut Notes) {
    if !replicate.tables.selects(table) {
        let what = format!("{} is joined, and `replicate.tables` leaves it out", table.plain());
        notes.block("CONTRADICTION", field, what, "include the table, or remove it from the join");
    }
    if replicate.map.contains_key(table) {
        let what = format!("{} is mapped, and joined as well, which is not built yet", table.plain());
        notes.block(
            "NOT_YET",
            field,
            what,
            "remove its map, and let the query give what it gave; or make a view of green's",
        );
    }
}

fn keys(join: &Join, source: &JoinSource, field: &str, notes: &mut Notes) {
    if source.key.len() != join.key.len() {
        let what = format!(
            "{} expressions are given for the {} columns of the join's key",
            source.key.len(),
            join.key.len()
        );
        notes.block(
            "BAD_VALUE",
            format!("{field}.key"),
            what,
            "give one for each column, in the order of the join's `key`",
        );
    }
    for (at, text) in source.key.iter().enumerate() {
        let place = format!("{field}.key[{at}]");
        match Reading::expression(text) {
            Ok(reading) => strangers(join, &reading.tables().collect::<Vec<_>>(), &place, notes),
            Err(unreadable) => {
                let help = "write one SQL expression over this table's columns; tables in a subquery with their schema";
                notes.block("BAD_EXPRESSION", place, unreadable.what, help);
            }
        }
    }
}

fn indexes(source: &JoinSource, field: &str, notes: &mut Notes) {
    for (at, text) in source.indexes.iter().enumerate() {
        if !is_index_list(text) {
            let what = format!("`{text}` is not what stands in the parentheses of CREATE INDEX");
            notes.block(
                "BAD_EXPRESSION",
                format!("{field}.indexes[{at}]"),
                what,
                "name columns, or expressions in parentheses: `login_challenge`, `lower(mail), id`",
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::plan::{load::parse, validate::validate};

    const GOOD: &str = "version: 1\nname: a\nkind: blue_green\nblue: { url: b }\ngreen: { url: g }\nreplicate:\n  join:\n    public.flow:\n      \
        key: [id]\n      query: select a.id from public.a left join public.b on b.a = a.id\n      \
        from: { public.a: { key: [id] }, public.b: { key: [a], indexes: [a] } }\ncutover:\n  \
        route: { pgbouncer: [ { admin: x, database: app, config: /c, to: host=g } ] }\n";

    /// `code field` of every finding of a plan.
    fn found(text: &str) -> Vec<String> {
        let plan = parse(text, "p.yaml", &|_| None).unwrap();
        validate(&plan).iter().map(|finding| format!("{} {}", finding.code, finding.place)).collect()
    }

    #[test]
    fn what_is_wrong_with_a_join_is_found_where_it_is() {
        assert_eq!(found(GOOD), Vec::<String>::new());
        let at = "plan: replicate.join.public.flow";
        let cases = [
            ("public.flow:", "migrate.flow:", "RESERVED_SCHEMA plan: replicate.join.migrate.flow".to_owned()),
            ("key: [id]\n", "key: []\n", format!("BAD_VALUE {at}.key")),
            ("key: [id]\n", "key: [id, id]\n", format!("BAD_VALUE {at}.key[1]")),
            ("select a.id from", "select a. from", format!("BAD_EXPRESSION {at}.query")),
            ("left join public.b", "left join public.c", format!("CONTRADICTION {at}.query")),
            ("left join public.b", "left join public.a", format!("CONTRADICTION {at}.from.public.b")),
            (
                "public.a: { key: [id] }",
                "public.a: { key: [id, id] }",
                format!("BAD_VALUE {at}.from.public.a.key"),
            ),
            (
                "public.a: { key: [id] }",
                "public.a: { key: [id id id] }",
                format!("BAD_EXPRESSION {at}.from.public.a.key[0]"),
            ),
            (
                "public.a: { key: [id] }",
                "public.a: { key: [(select x from public.c)] }",
                format!("CONTRADICTION {at}.from.public.a.key[0]"),
            ),
            (
                "indexes: [a]",
                "indexes: [a) where (b]",
                format!("BAD_EXPRESSION {at}.from.public.b.indexes[0]"),
            ),
            (
                "replicate:\n",
                "replicate:\n  tables: { exclude: [public.b] }\n",
                format!("CONTRADICTION {at}.from.public.b"),
            ),
            (
                "replicate:\n",
                "replicate:\n  map: { public.c: { to: public.flow } }\n",
                format!("CONTRADICTION {at}"),
            ),
            (
                "replicate:\n",
                "replicate:\n  map: { public.b: { drop: [x] } }\n",
                format!("NOT_YET {at}.from.public.b"),
            ),
            (
                "  join:\n",
                "  join:\n    public.before: { key: [id], query: select id from public.a, from: { public.a: { key: [id] } } }\n",
                format!("NOT_YET {at}.from.public.a"),
            ),
            (
                "replicate:\n",
                "replicate:\n  map: { public.c: { to: public.d, merge: join } }\n",
                "CONTRADICTION plan: replicate.map.public.c.merge".to_owned(),
            ),
        ];
        for (good, bad, wanted) in cases {
            assert!(GOOD.contains(good), "{good}");
            let seen = found(&GOOD.replacen(good, bad, 1));
            assert!(seen.contains(&wanted), "{bad}: {seen:?}");
        }
    }
}
