//! What the operator wrote of a table, and what the two catalogs say of it.

use super::expression::Expression;
use crate::facts::{Generated, IdentityColumn, ReplicaIdentity, Table, TableKind};
use crate::pg::name::{Ident, TableName};
use schemars::JsonSchema;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// How one table of blue becomes one of green. Columns of the same name on both sides need no line.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TableMap {
    /// Green column to SQL expression over blue's columns, evaluated on green: `{ name: title }` renames, `{ uris: "to_jsonb(string_to_array(uris, '|'))" }` computes. Functions and types outside `pg_catalog` are named with their schema.
    pub columns: BTreeMap<Ident, String>,
    /// Columns of blue that green does not get. Each must be named here: none is left out silently.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub drop: Vec<Ident>,
    /// The table on green, if it is called otherwise there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<TableName>,
    /// How this table and others of blue become one of green together, when several have the same `to`. Each of them says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub merge: Option<Merge>,
    /// A condition over blue's columns: only rows that satisfy it are on green. A change that moves a row in or out of it inserts or deletes the row there.
    #[serde(rename = "where", skip_serializing_if = "Option::is_none")]
    pub condition: Option<String>,
}

/// How rows of several tables of blue become rows of one table of green.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Merge {
    /// Side by side: each row of blue is one of green, and no two of them have one key there at the end of a transaction of blue. A TRUNCATE on blue must name all of the tables.
    Rows,
    // Joined: several rows of blue are one of green. A query says how, in `replicate.join`; read here only to say so.
    #[doc(hidden)]
    #[schemars(skip)]
    Join,
}

/// What becomes of one table of blue: one table of green, or each of a list of them (a split).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum TableMaps {
    /// One table of green.
    One(TableMap),
    /// Several, each with its own columns and condition. A column of blue must be used by one of them, or dropped by one.
    Split(Vec<TableMap>),
}

impl TableMaps {
    /// Each table of green.
    pub fn iter(&self) -> std::slice::Iter<'_, TableMap> {
        match self {
            TableMaps::One(map) => std::slice::from_ref(map).iter(),
            TableMaps::Split(maps) => maps.iter(),
        }
    }

    /// Each with its part of a split: none when there is no list.
    pub fn parts(&self) -> impl Iterator<Item = (Option<usize>, &TableMap)> {
        let is_split = matches!(self, TableMaps::Split(_));
        self.iter().enumerate().map(move |(at, map)| (is_split.then_some(at), map))
    }
}

impl<'m> IntoIterator for &'m TableMaps {
    type Item = &'m TableMap;
    type IntoIter = std::slice::Iter<'m, TableMap>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl From<TableMap> for TableMaps {
    fn from(map: TableMap) -> TableMaps {
        TableMaps::One(map)
    }
}

/// By hand, so that what is wrong inside of a map keeps its place and its words.
impl<'de> Deserialize<'de> for TableMaps {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<TableMaps, D::Error> {
        deserializer.deserialize_any(OneOrSplit)
    }
}

struct OneOrSplit;

impl<'de> Visitor<'de> for OneOrSplit {
    type Value = TableMaps;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of a table, or a list of them")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<TableMaps, A::Error> {
        TableMap::deserialize(MapAccessDeserializer::new(map)).map(TableMaps::One)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<TableMaps, A::Error> {
        Vec::deserialize(SeqAccessDeserializer::new(seq)).map(TableMaps::Split)
    }
}

/// A map, and the table of blue it is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Mapping {
    /// What the operator wrote.
    pub map: TableMap,
    /// Its place in the list, when blue's table is split: other parts may use the columns that this one does not.
    pub part: Option<usize>,
    /// Blue's table, as it was when the attempt was pinned.
    pub blue: BlueTable,
}

/// A table of blue, as far as a mapping depends on it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BlueTable {
    /// Its name.
    pub name: TableName,
    /// It has rows of its own and is no partition.
    pub is_whole: bool,
    /// In order.
    pub columns: Vec<BlueColumn>,
    /// What names a row; empty when nothing does.
    pub key: Vec<Ident>,
    /// Its replica identity is FULL: blue tells the whole row before a change.
    pub tells_all: bool,
}

/// A column of blue.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BlueColumn {
    /// Its name.
    pub name: Ident,
    /// As `format_type` writes it.
    pub type_name: String,
    /// Blue computes it, so no change tells it.
    pub generated: bool,
}

/// A table of green, as far as a mapping depends on it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GreenTable {
    /// In order; empty when green has no such table.
    pub columns: Vec<GreenColumn>,
    /// The columns of each index that finds at most one row, the primary key's first.
    pub unique: Vec<Vec<Ident>>,
}

/// A column of green.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GreenColumn {
    /// Its name.
    pub name: Ident,
    /// As `format_type` writes it.
    pub type_name: String,
    /// NOT NULL, and neither a default nor an identity fills it.
    pub must_be_given: bool,
    /// Green computes it.
    pub generated: bool,
    /// GENERATED ALWAYS AS IDENTITY: an update cannot set it.
    pub identity_always: bool,
}

impl TableMap {
    /// The table on green of a table of blue.
    pub fn target(&self, blue: &TableName) -> TableName {
        self.to.clone().unwrap_or_else(|| blue.clone())
    }

    /// Whether a column of blue is on green under its own name, as it is.
    pub fn carries_as_is(&self, column: &Ident) -> bool {
        let given = self.columns.get(column).map(|text| Expression::read(text));
        let as_it_is = match given {
            Some(expression) => expression.is_ok_and(|read| read.as_column() == Some(column)),
            None => !self.renamed().any(|old| old == *column),
        };
        as_it_is && !self.drop.contains(column)
    }

    /// Columns of blue that are called otherwise on green.
    pub(super) fn renamed(&self) -> impl Iterator<Item = Ident> + '_ {
        self.columns.iter().filter_map(|(new, text)| {
            let old = Expression::read(text).ok()?.as_column()?.clone();
            (old != *new).then_some(old)
        })
    }
}

impl Mapping {
    /// Green's table as the map alone lets one suppose it, while green has none: the columns that are given, and blue's that
    /// keep their name. Their types are not known.
    pub fn supposed_green(&self) -> GreenTable {
        let carried = self.blue.columns.iter().filter(|column| {
            !column.generated
                && self.map.carries_as_is(&column.name)
                && !self.map.columns.contains_key(&column.name)
        });
        let names = self.map.columns.keys().chain(carried.map(|column| &column.name));
        let column = |name: &Ident| GreenColumn {
            name: name.clone(),
            type_name: String::new(),
            must_be_given: false,
            generated: false,
            identity_always: false,
        };
        GreenTable { columns: names.map(column).collect(), unique: Vec::new() }
    }
}

impl BlueTable {
    /// From the facts.
    pub fn of(table: &Table) -> BlueTable {
        let column = |column: &crate::facts::Column| BlueColumn {
            name: column.name.clone(),
            type_name: column.type_name.clone(),
            generated: column.generated != Generated::No,
        };
        BlueTable {
            name: table.name.clone(),
            is_whole: table.kind == TableKind::Plain && !table.is_partition,
            columns: table.columns.iter().map(column).collect(),
            key: table.key().unwrap_or_default(),
            tells_all: table.identity == ReplicaIdentity::Full,
        }
    }

    /// A column by name.
    pub fn column(&self, name: &Ident) -> Option<&BlueColumn> {
        self.columns.iter().find(|column| column.name == *name)
    }

    /// Whether a change tells the value that a column had before it.
    pub(super) fn tells_before(&self, name: &Ident) -> bool {
        self.tells_all || self.key.contains(name)
    }
}

impl BlueColumn {
    /// Whether a value of it may be stored out of line, so that an update which leaves it alone does not send it.
    pub(super) fn may_be_unsent(&self) -> bool {
        const NEVER: [&str; 13] = [
            "boolean",
            "smallint",
            "integer",
            "bigint",
            "real",
            "double precision",
            "date",
            "uuid",
            "oid",
            "interval",
            "money",
            "\"char\"",
            "macaddr",
        ];
        let name = self.type_name.as_str();
        let is_time = name.starts_with("time") && !name.ends_with(']');
        !(NEVER.contains(&name) || is_time)
    }
}

impl GreenTable {
    /// From the facts.
    pub fn of(table: &Table) -> GreenTable {
        let column = |column: &crate::facts::Column| GreenColumn {
            name: column.name.clone(),
            type_name: column.type_name.clone(),
            must_be_given: column.not_null
                && column.default.is_none()
                && column.generated == Generated::No
                && column.identity == IdentityColumn::No,
            generated: column.generated != Generated::No,
            identity_always: column.identity == IdentityColumn::Always,
        };
        let mut keys: Vec<_> = table.indexes.iter().filter(|index| table.names_one_row(index)).collect();
        keys.sort_by_key(|index| !index.primary);
        GreenTable {
            columns: table.columns.iter().map(column).collect(),
            unique: keys.into_iter().map(|index| index.columns.clone()).collect(),
        }
    }
}
