//! What a plan brings to green, as far as one table's rows refer to another's.

use crate::facts::{ServerFacts, Table, TableKind};
use crate::mapping::{BlueTable, Mapping, TableMap};
use crate::pg::name::TableName;
use crate::plan::Plan;

/// What becomes of blue's tables.
#[derive(Debug, Clone, Default)]
pub struct Carried {
    /// Tables whose shape is another on green.
    pub mappings: Vec<Mapping>,
    /// Tables that are carried as they are, as maps that change nothing.
    pub unmapped: Vec<Mapping>,
    /// Tables over those, with no rows of their own.
    pub partitioned: Vec<Mapping>,
    /// Tables of green that a join makes.
    pub joined: Vec<TableName>,
}

/// Where the rows of a table of green come from.
pub(super) enum Origin<'c> {
    /// From blue, through these.
    Made(Vec<&'c Mapping>),
    /// From a join.
    Joined,
    /// From nowhere: green has them already.
    Own,
}

impl Carried {
    /// All that a plan carries beside `mappings`.
    pub fn of(plan: &Plan, blue: &ServerFacts, mappings: Vec<Mapping>) -> Carried {
        let unmapped = |kind: TableKind| {
            let is_meant = |table: &&Table| table.kind == kind && plan.replicate.writes_unmapped(&table.name);
            blue.tables.iter().filter(is_meant).map(as_is).collect()
        };
        Carried {
            mappings,
            unmapped: unmapped(TableKind::Plain),
            partitioned: unmapped(TableKind::Partitioned),
            joined: plan.replicate.join.keys().cloned().collect(),
        }
    }

    /// The mappings that make a table of green; of an unmapped one, the one that changes nothing.
    pub(super) fn kin(&self, green: &TableName) -> Vec<&Mapping> {
        let mapped = into(&self.mappings, green);
        if mapped.is_empty() { into(&self.unmapped, green) } else { mapped }
    }

    pub(super) fn origin(&self, green: &TableName) -> Origin<'_> {
        if self.joined.contains(green) {
            return Origin::Joined;
        }
        let kin = [self.kin(green), into(&self.partitioned, green)].concat();
        if kin.is_empty() { Origin::Own } else { Origin::Made(kin) }
    }

    /// Whether rows of a table of green are others than blue's.
    pub(super) fn is_mapped(&self, green: &TableName) -> bool {
        !into(&self.mappings, green).is_empty()
    }
}

fn into<'m>(mappings: &'m [Mapping], green: &TableName) -> Vec<&'m Mapping> {
    mappings.iter().filter(|mapping| mapping.map.target(&mapping.blue.name) == *green).collect()
}

/// A map that changes nothing. It only makes rows to look at, so that a partition and its whole will do.
fn as_is(table: &Table) -> Mapping {
    let blue = BlueTable { is_whole: true, tells_all: true, ..BlueTable::of(table) };
    Mapping { map: TableMap::default(), part: None, blue }
}
