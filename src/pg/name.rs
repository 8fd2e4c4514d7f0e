//! Identifiers: the only way a name reaches SQL.

use serde::{Deserialize, Serialize};
use std::fmt;

/// One SQL identifier, unquoted as Postgres stores it. [`fmt::Display`] quotes it, always.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(transparent)]
pub struct Ident(String);

impl Ident {
    /// Wraps a name as Postgres stores it (no quotes, no case folding).
    pub fn new(name: impl Into<String>) -> Ident {
        Ident(name.into())
    }

    /// The bare name, for comparing and for parameters; never for building SQL.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Ident {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.replace('"', "\"\""))
    }
}

/// A schema-qualified relation. [`fmt::Display`] gives `"schema"."name"`, ready for SQL.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableName {
    /// Schema.
    pub schema: Ident,
    /// Relation.
    pub name: Ident,
}

impl TableName {
    /// From schema and name as Postgres stores them.
    pub fn new(schema: impl Into<String>, name: impl Into<String>) -> TableName {
        TableName { schema: Ident::new(schema), name: Ident::new(name) }
    }

    /// `schema.name` without quotes, for people and as a key in files; never for SQL.
    pub fn plain(&self) -> String {
        format!("{}.{}", self.schema.as_str(), self.name.as_str())
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}

/// A value as a SQL literal, for the few commands that take no parameters (SET, replication commands, DDL).
pub fn literal(value: &str) -> String {
    postgres_protocol::escape::escape_literal(value).trim_start().to_owned()
}

// As one string `schema.name`, so that facts files and journals stay readable; the first dot divides,
// and a schema that contains a dot itself is written with quotes.
impl Serialize for TableName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.schema.as_str().contains(['.', '"']) {
            serializer.serialize_str(&format!("{}.{}", self.schema, self.name.as_str()))
        } else {
            serializer.serialize_str(&self.plain())
        }
    }
}

impl<'de> Deserialize<'de> for TableName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<TableName, D::Error> {
        let text = String::deserialize(deserializer)?;
        TableName::parse(&text).ok_or_else(|| {
            serde::de::Error::custom(format!("`{text}` is not a table name: write schema.table"))
        })
    }
}

impl TableName {
    /// Reads `schema.name`, with or without double quotes around the schema. Case is kept as written.
    pub fn parse(text: &str) -> Option<TableName> {
        if let Some(rest) = text.strip_prefix('"') {
            let end = rest.find("\".")?;
            return Some(TableName::new(rest[..end].replace("\"\"", "\""), &rest[end + 2..]));
        }
        let (schema, name) = text.split_once('.')?;
        (!schema.is_empty() && !name.is_empty()).then(|| TableName::new(schema, name))
    }
}

impl schemars::JsonSchema for TableName {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "TableName".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "description": "A table, as schema.table." })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identifier_is_always_quoted() {
        assert_eq!(Ident::new("a\"b").to_string(), "\"a\"\"b\"");
        assert_eq!(TableName::new("Public", "t t").to_string(), "\"Public\".\"t t\"");
    }

    #[test]
    fn a_table_name_survives_its_text_form() {
        for table in [TableName::new("public", "a.b"), TableName::new("s.\"x", "t"), TableName::new("S", "T")]
        {
            let text = serde_json::to_string(&table).unwrap();
            assert_eq!(serde_json::from_str::<TableName>(&text).unwrap(), table);
        }
    }
}
