//! Tables as old clients know them, and where each of their columns is by now.

use super::effect::{self, Added, Change, Effect, Retyped};
use crate::{
    ddl::{parse, types::SqlType, volatility},
    facts::{self, Generated, IdentityColumn, ServerFacts, Table},
    pg::name::{Ident, TableName},
};
use std::collections::{BTreeMap, BTreeSet};

/// A table as it was seen, and as it is after the statements so far.
#[derive(Debug, Clone)]
pub(super) struct Kept<'a> {
    pub seen: &'a Table,
    pub now: TableName,
    pub columns: Vec<Column<'a>>,
    /// Columns it did not have, by name.
    added: BTreeMap<String, Added>,
    pub changed: bool,
    pub dropped: bool,
}

/// A column as it was seen, and where it is by now.
#[derive(Debug, Clone)]
pub(super) struct Column<'a> {
    pub seen: &'a facts::Column,
    pub now: Now,
}

/// Where a column is by now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Now {
    /// In a column of the same type.
    Same(Ident),
    /// In a column of another type.
    Other(Other),
    /// Nowhere.
    Gone,
}

/// A column of another type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Other {
    pub name: Ident,
    /// Its values can be read as the old type.
    pub reads: bool,
    /// Values of the old type are equal to its values when they are the same.
    pub compares: bool,
    pub writes: Writes,
}

/// How a value of the old type gets into a column of the new one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Writes {
    /// The server converts it.
    Assigned,
    /// By an expression over `new`.
    By(String),
    /// It is lost: its expression reads columns that old clients do not know.
    Lost,
}

impl Kept<'_> {
    /// Whether writing through a plain view would not do any more.
    pub fn is_converted(&self) -> bool {
        self.columns.iter().any(|column| !matches!(column.now, Now::Same(_)))
    }

    /// The key by which a row is found again, as (name now, name then); `None` when there is none that can be compared.
    pub fn key(&self) -> Option<Vec<(Ident, Ident)>> {
        let key = self.seen.primary_key()?;
        key.columns
            .iter()
            .map(|name| {
                let column = self.columns.iter().find(|column| column.seen.name == *name)?;
                match &column.now {
                    Now::Same(now) => Some((now.clone(), name.clone())),
                    Now::Other(other) if other.compares => Some((other.name.clone(), name.clone())),
                    _ => None,
                }
            })
            .collect()
    }

    /// Whether the values of a column can be read as its old type once it has another.
    pub fn reads(&self, column: &str, to: &str) -> bool {
        let old = self.column(column).and_then(|at| SqlType::parse(&self.columns[at].seen.type_name));
        old.zip(SqlType::parse(to)).is_some_and(|(old, new)| reads_back(&old, &new))
    }

    /// Where the column of a name is among those that old clients know.
    pub fn column(&self, now: &str) -> Option<usize> {
        self.columns.iter().position(|column| match &column.now {
            Now::Same(name) => name.as_str() == now,
            Now::Other(other) => other.name.as_str() == now,
            Now::Gone => false,
        })
    }

    /// The columns that an old client does not know, and must give a value.
    pub fn demanded(&self) -> impl Iterator<Item = &str> {
        let demanded = self.added.iter().filter(|(_, added)| added.demanded && !added.given);
        demanded.map(|(name, _)| name.as_str())
    }

    fn change(&mut self, change: &Change) {
        match change {
            Change::Added(added) => {
                self.added.insert(added.name.clone(), added.clone());
            }
            Change::Demanded(name) => {
                if let Some(added) = self.added.get_mut(name) {
                    added.demanded = true;
                }
                return;
            }
            Change::Default { column, is_set } => {
                if let Some(added) = self.added.get_mut(column) {
                    added.given = *is_set;
                }
                return;
            }
            Change::Dropped(name) => match self.column(name) {
                Some(at) => self.columns[at].now = Now::Gone,
                None => {
                    self.added.remove(name);
                }
            },
            Change::Renamed { from, to } => {
                if let Some(at) = self.column(from) {
                    match &mut self.columns[at].now {
                        Now::Same(name) => *name = Ident::new(to),
                        Now::Other(other) => other.name = Ident::new(to),
                        Now::Gone => {}
                    }
                } else if let Some(added) = self.added.remove(from) {
                    self.added.insert(to.clone(), added);
                }
            }
            Change::Retyped(retyped) => {
                if let Some(at) = self.column(&retyped.column) {
                    let other = self.other(at, retyped);
                    self.columns[at].now = Now::Other(other);
                }
                if let Some(through) = &retyped.through {
                    self.added.remove(through);
                }
            }
            Change::NewName(name) => self.now.name = Ident::new(name),
            Change::NewSchema(schema) => self.now.schema = Ident::new(schema),
            Change::DroppedTable => self.dropped = true,
        }
        self.changed = true;
    }

    fn other(&self, at: usize, retyped: &Retyped) -> Other {
        let column = &self.columns[at];
        let old = SqlType::parse(&column.seen.type_name);
        let new = SqlType::parse(&retyped.to);
        let both = old.zip(new);
        let again = matches!(column.now, Now::Other(_));
        Other {
            name: Ident::new(&retyped.column),
            reads: both.as_ref().is_some_and(|(old, new)| reads_back(old, new)),
            compares: retyped.using.is_none() && both.as_ref().is_some_and(|(old, new)| compares(old, new)),
            writes: match &retyped.using {
                None => Writes::Assigned,
                // Of two conversions after each other only the first is known to take the old type.
                Some(_) if again => Writes::Lost,
                Some(using) => self.by(using),
            },
        }
    }

    /// USING over the names that the table has at this moment, each given the value that an old client has written.
    fn by(&self, using: &str) -> Writes {
        let known = |name: &str| {
            self.columns.iter().find_map(|column| match &column.now {
                Now::Same(now) if now.as_str() == name => Some((now, &column.seen.name)),
                _ => None,
            })
        };
        let Some(tree) = volatility::expression(using).and_then(|expression| expression.node) else {
            return Writes::Lost;
        };
        let given: Option<Vec<String>> = parse::columns(&tree)
            .iter()
            .map(|name| known(name).map(|(now, then)| format!("new.{then} as {now}")))
            .collect();
        match given {
            Some(given) => {
                let row = format!("(select {}) as {}", given.join(", "), self.now.name);
                Writes::By(format!("(select {using} from {row})"))
            }
            None => Writes::Lost,
        }
    }
}

/// Whether `new::old` is a conversion that the server knows.
fn reads_back(old: &SqlType, new: &SqlType) -> bool {
    const STRINGS: &[&str] = &["text", "varchar", "bpchar", "name"];
    const TIMES: &[&str] = &["timestamp", "timestamptz", "date"];
    let plain = !old.array && !new.array;
    let both =
        |names: &[&str]| plain && names.contains(&old.name.as_str()) && names.contains(&new.name.as_str());
    let string = |sql: &SqlType| !sql.array && STRINGS.contains(&sql.name.as_str());
    (old.name == new.name && old.schema == new.schema && old.array == new.array)
        || string(old)
        || string(new)
        || both(NUMBERS)
        || both(TIMES)
        || both(&["json", "jsonb"])
        || both(&["int4", "bool"])
        || both(&["inet", "cidr"])
}

const NUMBERS: &[&str] = &["int2", "int4", "int8", "numeric"];

fn compares(old: &SqlType, new: &SqlType) -> bool {
    const TEXTS: &[&str] = &["text", "varchar"];
    let both = |names: &[&str]| {
        !old.array && !new.array && names.contains(&old.name.as_str()) && names.contains(&new.name.as_str())
    };
    old.name == new.name && old.schema == new.schema || both(NUMBERS) || both(TEXTS)
}

/// The tables that are followed.
#[derive(Debug, Clone)]
pub(super) struct Tables<'a> {
    live: &'a ServerFacts,
    /// By the names that were seen.
    pub kept: BTreeMap<TableName, Kept<'a>>,
    /// Names that mean something else than was seen: by the name now, the one seen, or nothing that was seen.
    names: BTreeMap<TableName, Option<TableName>>,
    /// Relations dropped that are no tables.
    pub others_dropped: BTreeSet<TableName>,
}

impl<'a> Tables<'a> {
    pub fn new(live: &'a ServerFacts) -> Tables<'a> {
        Tables { live, kept: BTreeMap::new(), names: BTreeMap::new(), others_dropped: BTreeSet::new() }
    }

    /// Follows a table from its beginning, though nothing has changed it yet.
    pub fn follow(&mut self, seen: &TableName) -> Option<&mut Kept<'a>> {
        if !self.kept.contains_key(seen) {
            let table = self.live.table(seen)?;
            let columns = table.columns.iter();
            let columns =
                columns.map(|seen| Column { seen, now: Now::Same(seen.name.clone()) }).collect::<Vec<_>>();
            let kept = Kept {
                seen: table,
                now: seen.clone(),
                columns,
                added: BTreeMap::new(),
                changed: false,
                dropped: false,
            };
            self.kept.insert(seen.clone(), kept);
        }
        self.kept.get_mut(seen)
    }

    /// The table that a name means now, by the name that was seen.
    fn meant(&self, schema: &str, name: &str, path: &[Ident]) -> Option<TableName> {
        let one = |schema: &str| {
            let written = TableName::new(schema, name);
            match self.names.get(&written) {
                Some(seen) => seen.clone(),
                None => Some(written).filter(|name| self.is_there(name)),
            }
        };
        if !schema.is_empty() {
            return one(schema);
        }
        path.iter().find_map(|schema| one(schema.as_str()))
    }

    fn is_there(&self, name: &TableName) -> bool {
        self.live.table(name).is_some()
            || self.live.views.contains(name)
            || self.live.materialized_views.contains(name)
    }

    /// The tables an effect is about: the one it names, and those of its partitions and heirs that are followed.
    pub fn touched(&self, effect: &Effect, path: &[Ident]) -> Vec<TableName> {
        let Effect::Relation { schema, name, only, change } = effect else { return Vec::new() };
        let Some(named) = self.meant(schema, name, path) else { return Vec::new() };
        let mut all = vec![named];
        let stays = matches!(change, Change::NewName(_) | Change::NewSchema(_) | Change::DroppedTable);
        let mut at = 0;
        while at < all.len() && !only && !stays {
            let heirs = self.live.tables.iter().filter(|table| table.parent.as_ref() == Some(&all[at]));
            let heirs: Vec<TableName> = heirs.map(|table| table.name.clone()).collect();
            all.extend(heirs);
            at += 1;
        }
        let first = all.remove(0);
        all.retain(|name| self.kept.contains_key(name));
        all.insert(0, first);
        all
    }

    /// Goes on by one effect.
    pub fn learn(&mut self, effect: &Effect, path: &[Ident]) {
        match effect {
            Effect::Relation { change, .. } => {
                for seen in self.touched(effect, path) {
                    self.change(&seen, change);
                }
            }
            Effect::Made { schema, name } => {
                let schema = if schema.is_empty() { effect::first(path) } else { Ident::new(schema) };
                let made = TableName { schema, name: Ident::new(name) };
                self.others_dropped.remove(&made);
                // IF NOT EXISTS and OR REPLACE leave what is there.
                if self.names.contains_key(&made) || !self.is_there(&made) {
                    self.names.entry(made).or_insert(None);
                }
            }
            Effect::SchemaMade(_) | Effect::TypeDropped(_) => {}
        }
    }

    fn change(&mut self, seen: &TableName, change: &Change) {
        let Some(kept) = self.follow(seen) else {
            if *change == Change::DroppedTable {
                self.others_dropped.insert(seen.clone());
            }
            return;
        };
        let before = kept.now.clone();
        kept.change(change);
        let (now, dropped) = (kept.now.clone(), kept.dropped);
        if now != before || dropped {
            self.names.insert(before, None);
        }
        if !dropped && now != *seen {
            self.names.insert(now, Some(seen.clone()));
        } else if !dropped {
            self.names.remove(&now);
        }
    }
}

/// Whether a client gives the column a value itself.
pub(super) fn is_written(column: &facts::Column) -> bool {
    column.generated == Generated::No
}

/// Whether the server numbers the column.
pub(super) fn is_numbered(column: &facts::Column) -> bool {
    column.identity != IdentityColumn::No
}
