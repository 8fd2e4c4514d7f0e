//! Which queries depend on the number and order of a table's columns, read from their text alone. Pure.

use crate::ddl::parse::NodeEnum;
use serde_json::Value;
use std::collections::BTreeSet;

/// How a query depends on all columns of a relation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reliance {
    /// `select *`, `t.*` or `returning *`: it gives as many columns as the relation has.
    ReadsAll,
    /// INSERT without a list of columns: values are taken by position.
    WritesByPosition,
}

impl Reliance {
    /// For a sentence that begins with the query.
    pub fn as_str(self) -> &'static str {
        match self {
            Reliance::ReadsAll => "gives all columns (`*`)",
            Reliance::WritesByPosition => "inserts without a list of columns",
        }
    }
}

/// The relations a query depends on in that way, as (schema, name); the schema is empty when it is not written.
pub fn reliances(tree: &NodeEnum) -> BTreeSet<(String, String, Reliance)> {
    let Ok(value) = serde_json::to_value(tree) else { return BTreeSet::new() };
    let mut found = Found::default();
    found.walk(&value);
    // `*` alone means every relation of the statement; one that is only in a subquery of it is told too many.
    for (schema, name, alias) in &found.relations {
        let meant = |star: &String| star.is_empty() || star == alias || star == name;
        if found.stars.iter().any(meant) {
            found.result.insert((schema.clone(), name.clone(), Reliance::ReadsAll));
        }
    }
    found.result
}

#[derive(Default)]
struct Found {
    /// Schema, name, alias.
    relations: Vec<(String, String, String)>,
    /// What stands before each `.*`; empty for a `*` alone.
    stars: Vec<String>,
    result: BTreeSet<(String, String, Reliance)>,
}

/// `SubLinkType::ExistsSublink`, as the tree holds it.
const EXISTS: i64 = 1;

impl Found {
    fn walk(&mut self, value: &Value) {
        match value {
            Value::Object(fields) => {
                if let Some(relation) = relation(value) {
                    self.relations.push(relation);
                }
                if let Some(star) = fields.get("fields").and_then(star) {
                    self.stars.push(star);
                }
                if let Some(insert) = fields.get("InsertStmt") {
                    self.note_insert(insert);
                }
                let exists = fields.get("sub_link_type").and_then(Value::as_i64) == Some(EXISTS);
                let stars = self.stars.len();
                fields.values().for_each(|field| self.walk(field));
                if exists {
                    // EXISTS looks at no column.
                    self.stars.truncate(stars);
                }
            }
            Value::Array(items) => items.iter().for_each(|item| self.walk(item)),
            _ => {}
        }
    }

    fn note_insert(&mut self, insert: &Value) {
        let no_columns = insert.get("cols").and_then(Value::as_array).is_none_or(Vec::is_empty);
        let has_values = insert.get("select_stmt").is_some_and(|select| !select.is_null());
        if let (true, true, Some((schema, name, _))) =
            (no_columns, has_values, insert.get("relation").and_then(relation))
        {
            self.result.insert((schema, name, Reliance::WritesByPosition));
        }
    }
}

fn relation(value: &Value) -> Option<(String, String, String)> {
    let text = |field: &str| value.get(field).and_then(Value::as_str).map(str::to_owned);
    let alias = value.get("alias").and_then(|alias| alias.get("aliasname")).and_then(Value::as_str);
    Some((text("schemaname")?, text("relname")?, alias.unwrap_or_default().to_owned()))
}

/// What stands before the star of a column reference that ends in one.
fn star(fields: &Value) -> Option<String> {
    let parts: Vec<&Value> = fields.as_array()?.iter().filter_map(|part| part.get("node")).collect();
    let (last, before) = parts.split_last()?;
    last.get("AStar")?;
    let name = before.last().and_then(|part| part.get("String")?.get("sval")?.as_str());
    Some(name.unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ddl::parse;

    fn told(sql: &str) -> Vec<String> {
        let tree = parse::parse_one(sql).unwrap();
        reliances(&tree).into_iter().map(|(schema, name, how)| format!("{schema}.{name} {how:?}")).collect()
    }

    #[test]
    fn stars_name_their_relations() {
        assert_eq!(told("select * from t"), [".t ReadsAll"]);
        assert_eq!(told("select x.* from s.t x join r on true"), ["s.t ReadsAll"]);
        assert_eq!(told("update t set a = 1 returning *"), [".t ReadsAll"]);
        assert_eq!(told("with w as (select * from t) select a from w"), [".t ReadsAll", ".w ReadsAll"]);
    }

    #[test]
    fn what_looks_like_a_star_is_none() {
        assert!(told("select count(*), a from t").is_empty());
        assert!(told("select a from t where exists (select * from r)").is_empty());
    }

    #[test]
    fn inserts_without_columns_go_by_position() {
        assert_eq!(told("insert into t values ($1)"), [".t WritesByPosition"]);
        assert_eq!(told("insert into t select a from r"), [".t WritesByPosition"]);
        assert!(told("insert into t (a) values (1)").is_empty());
        assert!(told("insert into t default values").is_empty());
    }
}
