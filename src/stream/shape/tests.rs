//! Statements from shapes.

use super::*;
use crate::stream::pgoutput::Column;

fn shape(columns: &[(&str, bool, Target)], identity: Identity, key: &[&str]) -> Shape {
    let relation = Relation {
        oid: 1,
        schema: "s".into(),
        name: "t".into(),
        identity,
        columns: columns
            .iter()
            .map(|(name, is_key, _)| Column {
                name: (*name).into(),
                type_oid: 25,
                type_modifier: -1,
                is_key: *is_key,
            })
            .collect(),
    };
    let key: Vec<_> = key.iter().map(|name| Ident::new(*name)).collect();
    Shape {
        locate: locate(&relation, &key),
        relation,
        green: TableName::new("s", "t"),
        targets: columns.iter().map(|(_, _, target)| *target).collect(),
        types: Vec::new(),
        own: Vec::new(),
        only_row_by_row: None,
        moves_whole: true,
        mapped: None,
        part: 0,
        sharing: 1,
        joined: false,
    }
}

#[test]
fn statements_leave_out_what_green_computes_and_what_was_not_sent() {
    use Target::{IdentityAlways, Unwritten, Write};
    let shape = shape(
        &[("id", true, IdentityAlways), ("a", false, Write), ("g", false, Unwritten), ("b", false, Write)],
        Identity::Default,
        &["id"],
    );
    assert_eq!(
        shape.insert(2).sql,
        r#"insert into "s"."t" ("id", "a", "b") overriding system value values ($1, $2, $3), ($4, $5, $6)"#
    );
    let update = shape.update(&[false, false, false, true]);
    assert_eq!(update.sql, r#"update "s"."t" set "a" = $2 where "id" = $3 and "id" = $1"#);
    assert_eq!(update.parameters, [From::New(0), From::New(1), From::Old(0)]);
    let nothing = shape.update(&[false, true, true, true]);
    assert_eq!(nothing.sql, r#"select from "s"."t" where "id" = $2 and "id" = $1 for no key update"#);
    assert_eq!(shape.delete().sql, r#"delete from "s"."t" where "id" = $1"#);
    let replace = shape.replace(&[false, false, false, true]);
    assert_eq!(
        replace.sql,
        r#"with gone as (delete from "s"."t" where "id" = $3 returning *) insert into "s"."t" ("id", "a", "b") overriding system value select $1, $2, gone."b" from gone"#
    );
    assert_eq!(replace.parameters, [From::New(0), From::New(1), From::Old(0)]);
}

#[test]
fn a_row_is_found_by_key_only_when_blue_tells_its_old_values() {
    let columns = |told| [("id", told, Target::Write), ("a", false, Target::Write)];
    let at = |told, identity, key: &[&str]| shape(&columns(told), identity, key).locate;
    assert_eq!(at(true, Identity::Default, &["id"]), Locate::Key(vec![0]));
    assert_eq!(at(true, Identity::Full, &["id"]), Locate::Key(vec![0]));
    assert_eq!(at(true, Identity::Full, &[]), Locate::WholeRow);
    assert_eq!(at(true, Identity::Full, &["a"]), Locate::WholeRow);
    assert!(matches!(at(false, Identity::Default, &["id"]), Locate::Nowhere(_)));
    assert!(matches!(at(true, Identity::Default, &["gone"]), Locate::Nowhere(_)));
    assert!(matches!(at(false, Identity::Nothing, &[]), Locate::Nowhere(_)));
}
