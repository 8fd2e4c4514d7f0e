//! Types as the grammar gives them: which are built in, and which changes between two leave the rows as they are.

use super::parse::{self, NodeEnum, node};
use crate::pg::name::Ident;

/// A type with its modifiers: `numeric(10,2)` is `numeric`, `[10, 2]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SqlType {
    /// Its schema, when written and not pg_catalog.
    pub schema: Option<String>,
    /// As `pg_type.typname`.
    pub name: String,
    /// Length, precision, scale.
    pub modifiers: Vec<i64>,
    /// Brackets after it.
    pub array: bool,
}

impl SqlType {
    /// From a tree; `None` when a modifier is no number.
    pub fn of(name: &node::TypeName) -> Option<SqlType> {
        let mut parts = parse::strings(&name.names);
        let own = parts.pop()?;
        let schema = parts.pop().filter(|schema| schema != "pg_catalog");
        let modifier = |item: &node::Node| match &item.node {
            Some(NodeEnum::AConst(constant)) => match constant.val.as_ref()? {
                node::a_const::Val::Ival(number) => Some(i64::from(number.ival)),
                _ => None,
            },
            _ => None,
        };
        // The grammar gives intervals a field mask; only a plain precision is compared.
        let modifiers = name.typmods.iter().map(modifier).collect::<Option<Vec<_>>>()?;
        Some(SqlType { schema, name: own, modifiers, array: !name.array_bounds.is_empty() })
    }

    /// From what `format_type` wrote.
    pub fn parse(text: &str) -> Option<SqlType> {
        let tree = parse::parse_one(&format!("select null::{text}")).ok()?;
        let NodeEnum::SelectStmt(select) = tree else { return None };
        let Some(NodeEnum::ResTarget(target)) = &select.target_list.first()?.node else { return None };
        match target.val.as_ref()?.node.as_ref()? {
            NodeEnum::TypeCast(cast) => SqlType::of(cast.type_name.as_ref()?),
            _ => None,
        }
    }

    /// As SQL writes it.
    pub fn text(&self) -> String {
        let schema = self.schema.as_ref().map(|schema| format!("{}.", Ident::new(schema.as_str())));
        let modifiers: Vec<String> = self.modifiers.iter().map(ToString::to_string).collect();
        let modifiers =
            if modifiers.is_empty() { String::new() } else { format!("({})", modifiers.join(", ")) };
        let brackets = if self.array { "[]" } else { "" };
        format!("{}{}{modifiers}{brackets}", schema.unwrap_or_default(), Ident::new(self.name.as_str()))
    }

    /// Whether it comes with the server or a known extension, and so is no domain.
    pub fn is_builtin(&self) -> bool {
        match &self.schema {
            _ if EXTENSION.contains(&self.name.as_str()) => true,
            None => BUILTIN.contains(&self.name.as_str()),
            Some(_) => false,
        }
    }

    /// `serial` and its kin: the integer type under it.
    pub fn serial(&self) -> Option<&'static str> {
        match self.name.as_str() {
            "serial" | "serial4" => Some("integer"),
            "bigserial" | "serial8" => Some("bigint"),
            "smallserial" | "serial2" => Some("smallint"),
            _ => None,
        }
    }

    fn is(&self, names: &[&str]) -> bool {
        !self.array && self.schema.is_none() && names.contains(&self.name.as_str())
    }
}

/// What changing a column's type does to the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// Nothing: the old bytes mean the same. Measured on 12 to 18 (catalogue rows 20, 21 and 28).
    Free,
    /// Nothing while the session's time zone is UTC; an index is rebuilt all the same.
    FreeInUtc,
    /// Every row is checked against a shorter length: `text` to `varchar(n)`, `varchar(m)` to `varchar(n)`.
    Shorter {
        /// The new length, in characters.
        length: i64,
    },
    /// The table and its indexes are written anew.
    Rewrite,
}

/// What the change from one type to another does.
pub(super) fn change(from: &SqlType, to: &SqlType) -> Change {
    if from == to {
        return Change::Free;
    }
    let first = |sql: &SqlType| sql.modifiers.first().copied();
    let widened = match (first(from), first(to)) {
        (_, None) => true,
        (Some(old), Some(new)) => new >= old,
        (None, Some(_)) => false,
    };
    let unlimited = first(to).is_none_or(|precision| precision == 6);
    const LENGTH_ONLY: &[&str] = &["varchar", "varbit"];
    const PRECISION_ONLY: &[&str] = &["timestamp", "timestamptz", "time", "timetz"];
    let same = from.name == to.name && from.schema == to.schema && from.array == to.array;
    match () {
        () if same && from.is(LENGTH_ONLY) && widened => Change::Free,
        () if same && from.is(PRECISION_ONLY) && (widened || first(to) == Some(6)) => Change::Free,
        () if same && from.is(&["numeric"]) => match (from.modifiers.as_slice(), to.modifiers.as_slice()) {
            (_, []) => Change::Free,
            ([_, ..], [_, ..])
                if widened && from.modifiers.get(1).unwrap_or(&0) == to.modifiers.get(1).unwrap_or(&0) =>
            {
                Change::Free
            }
            _ => Change::Rewrite,
        },
        () if from.is(&["varchar"]) && to.is(&["text"]) => Change::Free,
        () if from.is(&["text"]) && to.is(&["varchar"]) && to.modifiers.is_empty() => Change::Free,
        () if from.is(&["cidr"]) && to.is(&["inet"]) => Change::Free,
        () if from.is(&["timestamp"]) && to.is(&["timestamptz"]) && unlimited => Change::FreeInUtc,
        () if from.is(&["timestamptz"]) && to.is(&["timestamp"]) && unlimited => Change::FreeInUtc,
        () if from.is(&["varchar", "text"]) && to.is(&["varchar"]) => match first(to) {
            Some(length) => Change::Shorter { length },
            None => Change::Rewrite,
        },
        () => Change::Rewrite,
    }
}

/// Whether the server converts one into the other in an assignment, to the same value in every session. (`pg_cast`, context
/// `a` and `i`; to a string through its output function.)
pub(super) fn is_assigned(from: &SqlType, to: &SqlType) -> bool {
    const NUMBERS: &[&str] = &["int2", "int4", "int8", "numeric", "float4", "float8"];
    const STRINGS: &[&str] = &["text", "varchar", "bpchar"];
    const SAME_FOR_ALL: &[&str] = &[
        "int2", "int4", "int8", "numeric", "bool", "uuid", "text", "varchar", "bpchar", "name", "json",
        "jsonb", "inet", "cidr", "macaddr", "oid",
    ];
    let both = |names: &[&str]| from.is(names) && to.is(names);
    both(NUMBERS)
        || both(&["json", "jsonb"])
        || both(&["timestamp", "date"])
        || (to.is(STRINGS) && (from.is(SAME_FOR_ALL) || !from.array && !from.is(BUILTIN)))
        || (from.name == to.name && from.schema == to.schema && from.array == to.array)
}

/// A type in a conversion whose text goes by settings of the session, if there is one.
pub(super) fn session_words(from: &SqlType, to: &SqlType, using: &str) -> Option<&'static str> {
    const BOUND: &[&str] = &[
        "timestamptz",
        "timetz",
        "timestamp",
        "date",
        "time",
        "interval",
        "money",
        "float4",
        "float8",
        "xml",
    ];
    // Only what is written of it goes by a setting (bytea_output); it is read in every form.
    if from.name == "bytea" {
        return Some("bytea");
    }
    let words = parse::tokens(using).unwrap_or_default();
    let written =
        |name: &str| words.iter().any(|word| using[word.start..word.end].eq_ignore_ascii_case(name));
    BOUND.iter().copied().find(|name| from.name == *name || to.name == *name || written(name))
}

/// Whether USING computes something else than what the server does without it.
pub(super) fn is_computed(wanted: &node::ColumnDef, column: &str, to: &SqlType) -> bool {
    wanted.raw_default.as_ref().is_some_and(|using| !is_the_column(using, column, to))
}

/// Whether texts get another order, which builds their indexes anew.
pub(super) fn orders_anew(wanted: &node::ColumnDef) -> bool {
    wanted.coll_clause.is_some()
}

/// `using c` or `using c::newtype`: what the server does without it.
fn is_the_column(using: &node::Node, column: &str, to: &SqlType) -> bool {
    match &using.node {
        Some(NodeEnum::ColumnRef(named)) => {
            parse::strings(&named.fields).last().is_some_and(|name| name == column)
        }
        Some(NodeEnum::TypeCast(cast)) => {
            let same = cast.type_name.as_ref().and_then(SqlType::of).as_ref() == Some(to);
            same && cast.arg.as_ref().is_some_and(|inner| {
                matches!(inner.node, Some(NodeEnum::ColumnRef(_))) && is_the_column(inner, column, to)
            })
        }
        _ => false,
    }
}

const BUILTIN: &[&str] = &[
    "text",
    "uuid",
    "json",
    "jsonb",
    "bytea",
    "date",
    "inet",
    "cidr",
    "macaddr",
    "macaddr8",
    "money",
    "xml",
    "tsvector",
    "tsquery",
    "oid",
    "name",
    "int2",
    "int4",
    "int8",
    "float4",
    "float8",
    "numeric",
    "bool",
    "varchar",
    "bpchar",
    "char",
    "timestamp",
    "timestamptz",
    "time",
    "timetz",
    "interval",
    "bit",
    "varbit",
    "point",
    "line",
    "lseg",
    "box",
    "path",
    "polygon",
    "circle",
    "int4range",
    "int8range",
    "numrange",
    "tsrange",
    "tstzrange",
    "daterange",
    "int4multirange",
    "int8multirange",
    "nummultirange",
    "tsmultirange",
    "tstzmultirange",
    "datemultirange",
    "jsonpath",
    "pg_lsn",
    "regclass",
    "xid8",
];

/// Types that extensions bring; none is a domain.
const EXTENSION: &[&str] =
    &["citext", "hstore", "ltree", "geometry", "geography", "vector", "halfvec", "cube", "semver"];

#[cfg(test)]
mod tests {
    use super::*;

    fn between(from: &str, to: &str) -> Change {
        change(&SqlType::parse(from).unwrap(), &SqlType::parse(to).unwrap())
    }

    #[test]
    fn what_was_measured_free_is_free() {
        for (from, to) in [
            ("character varying(50)", "varchar(100)"),
            ("character varying(50)", "text"),
            ("varchar", "text"),
            ("text", "varchar"),
            ("numeric(10,2)", "numeric(12,2)"),
            ("numeric(10)", "numeric(12)"),
            ("numeric(10,2)", "numeric"),
            ("timestamp(3) with time zone", "timestamptz(6)"),
            ("timestamp(3) with time zone", "timestamptz"),
            ("timestamp with time zone", "timestamptz(6)"),
            ("cidr", "inet"),
            ("bit varying(10)", "varbit(20)"),
            ("text", "text"),
            ("integer[]", "int4[]"),
        ] {
            assert_eq!(between(from, to), Change::Free, "{from} to {to}");
        }
        assert_eq!(between("timestamp", "timestamptz"), Change::FreeInUtc);
    }

    #[test]
    fn the_rest_is_checked_or_written_anew() {
        for (from, to) in [
            ("integer", "bigint"),
            ("bigint", "integer"),
            ("numeric(10,2)", "numeric(12,4)"),
            ("numeric", "numeric(12,4)"),
            ("char(3)", "text"),
            ("char(3)", "char(5)"),
            ("timestamptz", "timestamptz(3)"),
            ("text", "jsonb"),
            ("json", "jsonb"),
            ("varchar(10)[]", "text[]"),
            ("inet", "cidr"),
            ("app.varchar", "text"),
        ] {
            assert_eq!(between(from, to), Change::Rewrite, "{from} to {to}");
        }
        assert_eq!(between("varchar(50)", "varchar(20)"), Change::Shorter { length: 20 });
        assert_eq!(between("text", "varchar(20)"), Change::Shorter { length: 20 });
    }
}
