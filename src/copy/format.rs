//! Which COPY format a table may take, and the statements.

use super::piece::Part;
use crate::pg::name::{Ident, TableName};

/// COPY's two formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// Every type has it, and it means the same on every major.
    Text,
    /// Cheaper, where every column's type is known to have the same binary form on both sides.
    Binary,
}

/// Built-in types whose binary form is the same on all majors we support, by their fixed oids: bool, bytea, "char",
/// name, int8, int2, int4, text, oid, json, cidr, float4, float8, macaddr, inet, bpchar, varchar, date, time,
/// timestamp, timestamptz, interval, timetz, numeric, uuid, jsonb. Never reg* (they name objects by oid), arrays
/// (they carry their element's oid), enums, composites, domains or extensions' types.
const BINARY_SAFE: [u32; 26] = [
    16, 17, 18, 19, 20, 21, 23, 25, 26, 114, 650, 700, 701, 829, 869, 1042, 1043, 1082, 1083, 1114, 1184,
    1186, 1266, 1700, 2950, 3802,
];

/// Decides from the types of the copied columns on both sides, in the same order.
pub(super) fn choose(blue_types: &[u32], green_types: &[u32]) -> Format {
    if blue_types == green_types && blue_types.iter().all(|oid| BINARY_SAFE.contains(oid)) {
        Format::Binary
    } else {
        Format::Text
    }
}

impl Format {
    fn word(self) -> &'static str {
        match self {
            Format::Text => "text",
            Format::Binary => "binary",
        }
    }

    /// `COPY … TO STDOUT` of a table, or of a part of it.
    pub(super) fn copy_out(self, table: &TableName, columns: &[Ident], part: &Part) -> String {
        let word = self.word();
        let Some(condition) = part.condition() else {
            return format!("copy {table}{} to stdout (format {word})", in_parentheses(columns));
        };
        format!(
            "copy (select {} from only {table} where {condition}) to stdout (format {word})",
            list(columns)
        )
    }

    /// `COPY … FROM STDIN`; `freeze` only right after a TRUNCATE in the same transaction.
    pub(super) fn copy_in(self, table: &TableName, columns: &[Ident], freeze: Freeze) -> String {
        let freeze = match freeze {
            Freeze::Yes => ", freeze",
            Freeze::No => "",
        };
        format!("copy {table}{} from stdin (format {}{freeze})", in_parentheses(columns), self.word())
    }
}

/// Whether rows are written as visible to everybody at once, which spares green a later rewrite of every page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Freeze {
    Yes,
    No,
}

fn list(columns: &[Ident]) -> String {
    columns.iter().map(Ident::to_string).collect::<Vec<_>>().join(", ")
}

/// A table without columns takes no list at all.
fn in_parentheses(columns: &[Ident]) -> String {
    if columns.is_empty() { String::new() } else { format!(" ({})", list(columns)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binary_needs_the_same_known_types_on_both_sides() {
        assert_eq!(choose(&[20, 25, 1184], &[20, 25, 1184]), Format::Binary);
        assert_eq!(choose(&[20, 25], &[20, 1043]), Format::Text);
        assert_eq!(choose(&[20, 16_400], &[20, 16_400]), Format::Text, "an enum");
        assert_eq!(choose(&[2205], &[2205]), Format::Text, "regclass");
        assert_eq!(choose(&[1007], &[1007]), Format::Text, "an array");
    }

    #[test]
    fn statements_quote_names_and_may_take_a_range_of_blocks() {
        let table = TableName::new("S", "t\"t");
        let columns = [Ident::new("a b"), Ident::new("c")];
        assert_eq!(
            Format::Text.copy_out(&table, &columns, &Part::Whole),
            "copy \"S\".\"t\"\"t\" (\"a b\", \"c\") to stdout (format text)"
        );
        assert_eq!(
            Format::Binary.copy_out(&table, &columns, &Part::Blocks((5, Some(9)))),
            "copy (select \"a b\", \"c\" from only \"S\".\"t\"\"t\" where ctid >= '(5,0)' and ctid < '(9,0)') to stdout (format binary)"
        );
        assert_eq!(
            Format::Binary.copy_in(&table, &[], Freeze::Yes),
            "copy \"S\".\"t\"\"t\" from stdin (format binary, freeze)"
        );
    }
}
