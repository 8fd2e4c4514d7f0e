//! The shape of tables line by line, and which of its changes leave every row and its way to green as they were.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// A part of a table's shape, as `sql/facts/list_shape.sql` gives it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShapeLine {
    /// What it is.
    pub kind: ShapeKind,
    /// The table, as `schema.table`.
    pub relation: String,
    /// Its name in the table.
    pub object: String,
    /// What else is known of it, in the order of the statement.
    pub detail: Vec<Option<String>>,
}

/// What a line is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShapeKind {
    /// The table as such.
    Table,
    /// A column.
    Column,
    /// A constraint.
    Constraint,
    /// An index.
    Index,
    /// A trigger of the user's.
    Trigger,
    /// A rule.
    Rule,
    /// What it is a partition or child of.
    Parent,
    /// A partition or child.
    Child,
    /// A label of an enum that a column is of.
    Enum,
    /// A constraint of a domain that a column is of.
    Domain,
}

impl ShapeKind {
    /// As the statement writes it.
    pub fn parse(text: &str) -> Option<ShapeKind> {
        Some(match text {
            "table" => ShapeKind::Table,
            "column" => ShapeKind::Column,
            "constraint" => ShapeKind::Constraint,
            "index" => ShapeKind::Index,
            "trigger" => ShapeKind::Trigger,
            "rule" => ShapeKind::Rule,
            "parent" => ShapeKind::Parent,
            "child" => ShapeKind::Child,
            "enum" => ShapeKind::Enum,
            "domain" => ShapeKind::Domain,
            _ => return None,
        })
    }

    fn word(self) -> &'static str {
        match self {
            ShapeKind::Table => "table",
            ShapeKind::Column => "column",
            ShapeKind::Constraint => "constraint",
            ShapeKind::Index => "index",
            ShapeKind::Trigger => "trigger",
            ShapeKind::Rule => "rule",
            ShapeKind::Parent => "parent",
            ShapeKind::Child => "partition or child",
            ShapeKind::Enum => "enum label",
            ShapeKind::Domain => "domain constraint",
        }
    }
}

/// What changed between two looks, in words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ShapeChanges {
    /// Rows, their decoding and green's acceptance of them are as before, and green serves clients as blue does.
    pub harmless: Vec<String>,
    /// Everything else.
    pub harmful: Vec<String>,
}

type Key<'a> = (ShapeKind, &'a str, &'a str);

/// Judges every change between `then` and `now`; `green` has the lines of green's tables of the same names.
///
/// Harmless are, and nothing else (`docs/decisions/0012-harmless-ddl.md` has the reasons): an index that enforces nothing, made, dropped or
/// changed; a constraint that was proved; a default, check or foreign key that green has just so.
pub fn compare(then: &[ShapeLine], now: &[ShapeLine], green: &[ShapeLine]) -> ShapeChanges {
    let (then, now): (BTreeSet<&ShapeLine>, BTreeSet<&ShapeLine>) =
        (then.iter().collect(), now.iter().collect());
    let mut changed: BTreeMap<Key<'_>, (Vec<&ShapeLine>, Vec<&ShapeLine>)> = BTreeMap::new();
    for line in then.difference(&now) {
        changed.entry(line.key()).or_default().0.push(line);
    }
    for line in now.difference(&then) {
        changed.entry(line.key()).or_default().1.push(line);
    }
    let mut changes = ShapeChanges::default();
    for (key, (gone, come)) in changed {
        let on_green = green.iter().find(|line| line.key() == key);
        let what = words(key, !gone.is_empty(), !come.is_empty());
        match harm(key.0, &gone, &come, on_green) {
            None => changes.harmless.push(what),
            Some(why) => changes.harmful.push(format!("{what}{why}")),
        }
    }
    changes
}

impl ShapeLine {
    fn key(&self) -> Key<'_> {
        (self.kind, &self.relation, &self.object)
    }

    fn says(&self, at: usize) -> Option<&str> {
        self.detail.get(at)?.as_deref()
    }

    /// Whether two lines say the same but for one detail.
    fn is_but_for(&self, other: &ShapeLine, at: usize) -> bool {
        let rest = |line: &ShapeLine| {
            line.detail
                .iter()
                .enumerate()
                .filter(|(it, _)| *it != at)
                .map(|(_, it)| it.clone())
                .collect::<Vec<_>>()
        };
        rest(self) == rest(other)
    }
}

// Positions in a line's detail.
const COLUMN_GENERATED: usize = 3;
const COLUMN_IDENTITY: usize = 4;
const COLUMN_DEFAULT: usize = 6;
const CONSTRAINT_TYPE: usize = 0;
const CONSTRAINT_VALIDATED: usize = 2;
const INDEX_ENFORCES: usize = 2;

/// Why a change is harmful, to be put behind what it is; `None` when it is proved to be harmless.
fn harm(
    kind: ShapeKind,
    gone: &[&ShapeLine],
    come: &[&ShapeLine],
    on_green: Option<&ShapeLine>,
) -> Option<&'static str> {
    const PLAIN: Option<&str> = Some("");
    match (kind, gone, come) {
        // It is read and kept by blue alone.
        (ShapeKind::Index, gone, come) => {
            let enforces_nothing = |line: &&ShapeLine| line.says(INDEX_ENFORCES) == Some("false");
            let all = gone.iter().chain(come).all(enforces_nothing);
            if all { None } else { Some(", and it enforces something") }
        }
        // Rows carry their values; what a later insert on green gets is green's own default.
        (ShapeKind::Column, [then], [now]) if now.is_but_for(then, COLUMN_DEFAULT) && is_plain(now) => {
            let same = on_green.is_some_and(|green| {
                is_plain(green) && green.says(COLUMN_DEFAULT) == now.says(COLUMN_DEFAULT)
            });
            if same {
                None
            } else {
                Some(" in its default alone, which green does not have: set it there too")
            }
        }
        // All rows were held to it before.
        (ShapeKind::Constraint, [then], [now])
            if now.is_but_for(then, CONSTRAINT_VALIDATED)
                && now.says(CONSTRAINT_VALIDATED) == Some("true") =>
        {
            None
        }
        (ShapeKind::Constraint, [], [now]) if matches!(now.says(CONSTRAINT_TYPE), Some("c" | "f")) => {
            let same = on_green.is_some_and(|green| green.detail == now.detail);
            if same { None } else { Some(", and green does not have it just so: add it there too") }
        }
        _ => PLAIN,
    }
}

/// Neither generated nor an identity.
fn is_plain(column: &ShapeLine) -> bool {
    [COLUMN_GENERATED, COLUMN_IDENTITY].iter().all(|at| column.says(*at) == Some(""))
}

fn words((kind, relation, object): Key<'_>, was_there: bool, is_there: bool) -> String {
    let what = match (was_there, is_there) {
        (true, true) => "was changed",
        (true, false) => "was dropped",
        (false, _) => "is new",
    };
    match kind {
        ShapeKind::Table => format!("table {relation} {what}"),
        ShapeKind::Enum | ShapeKind::Domain => format!("{} {object} {what}", kind.word()),
        _ => format!("{} {object} of {relation} {what}", kind.word()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(kind: ShapeKind, object: &str, detail: &[&str]) -> ShapeLine {
        let detail = detail.iter().map(|text| (*text != "null").then(|| (*text).to_owned())).collect();
        ShapeLine { kind, relation: "public.t".into(), object: object.into(), detail }
    }

    fn index(name: &str, valid: &str, enforces: &str) -> ShapeLine {
        line(ShapeKind::Index, name, &["CREATE INDEX …", valid, enforces])
    }

    fn column(default: &str) -> ShapeLine {
        line(ShapeKind::Column, "c", &["2", "integer", "false", "", "", "0", default])
    }

    fn check(definition: &str, validated: &str) -> ShapeLine {
        line(ShapeKind::Constraint, "k", &["c", definition, validated])
    }

    /// The words of what is harmless, and of what is harmful.
    fn judged(then: &[ShapeLine], now: &[ShapeLine], green: &[ShapeLine]) -> (Vec<String>, Vec<String>) {
        let ShapeChanges { harmless, harmful } = compare(then, now, green);
        (harmless, harmful)
    }

    fn is_harmless(then: &[ShapeLine], now: &[ShapeLine], green: &[ShapeLine]) -> bool {
        let (harmless, harmful) = judged(then, now, green);
        assert_eq!(harmless.len() + harmful.len(), 1, "{harmless:?} {harmful:?}");
        harmful.is_empty()
    }

    #[test]
    fn an_index_is_harmless_when_it_enforces_nothing() {
        assert!(is_harmless(&[], &[index("i", "true", "false")], &[]));
        assert!(is_harmless(&[index("i", "true", "false")], &[], &[]));
        assert!(is_harmless(&[index("i", "false", "false")], &[index("i", "true", "false")], &[]));
        assert!(!is_harmless(&[], &[index("i", "true", "true")], &[]));
        assert!(!is_harmless(&[index("i", "true", "true")], &[], &[]));
        // It became the replica identity.
        assert!(!is_harmless(&[index("i", "true", "false")], &[index("i", "true", "true")], &[]));
    }

    #[test]
    fn a_default_is_harmless_when_green_has_it_too() {
        assert!(is_harmless(&[column("1")], &[column("2")], &[column("2")]));
        assert!(is_harmless(&[column("1")], &[column("null")], &[column("null")]));
        assert!(!is_harmless(&[column("1")], &[column("2")], &[column("1")]));
        assert!(!is_harmless(&[column("1")], &[column("2")], &[]));
        let generated =
            |default| line(ShapeKind::Column, "c", &["2", "integer", "false", "s", "", "0", default]);
        assert!(!is_harmless(&[generated("a + 1")], &[generated("a + 2")], &[generated("a + 2")]));
        let text = line(ShapeKind::Column, "c", &["2", "text", "false", "", "", "0", "1"]);
        assert!(!is_harmless(&[column("1")], std::slice::from_ref(&text), std::slice::from_ref(&text)));
    }

    #[test]
    fn a_constraint_is_harmless_when_it_was_proved_or_green_has_it_too() {
        let (new, proved) = (check("CHECK (c > 0)", "false"), check("CHECK (c > 0)", "true"));
        assert!(is_harmless(std::slice::from_ref(&new), std::slice::from_ref(&proved), &[]));
        assert!(!is_harmless(std::slice::from_ref(&proved), std::slice::from_ref(&new), &[]));
        assert!(!is_harmless(&[], std::slice::from_ref(&proved), &[]));
        assert!(!is_harmless(&[], std::slice::from_ref(&proved), std::slice::from_ref(&new)));
        assert!(is_harmless(&[], std::slice::from_ref(&proved), std::slice::from_ref(&proved)));
        // Blue may hold rows then that green refuses.
        assert!(!is_harmless(std::slice::from_ref(&proved), &[], std::slice::from_ref(&proved)));
        let unique = line(ShapeKind::Constraint, "k", &["u", "UNIQUE (c)", "true"]);
        assert!(!is_harmless(&[], std::slice::from_ref(&unique), std::slice::from_ref(&unique)));
    }

    #[test]
    fn everything_else_is_harmful_and_named() {
        let kinds = [
            ShapeKind::Table,
            ShapeKind::Column,
            ShapeKind::Trigger,
            ShapeKind::Rule,
            ShapeKind::Parent,
            ShapeKind::Child,
            ShapeKind::Enum,
            ShapeKind::Domain,
        ];
        for kind in kinds {
            let one = line(kind, "x", &["a"]);
            let green = std::slice::from_ref(&one);
            assert!(!is_harmless(&[], green, green), "{kind:?}");
            assert!(!is_harmless(green, &[], green), "{kind:?}");
            assert!(!is_harmless(&[line(kind, "x", &["b"])], green, green), "{kind:?}");
        }
        let then = [column("1"), index("i", "true", "false")];
        let (harmless, harmful) = judged(&then, &[column("2")], &[]);
        assert_eq!(harmless, ["index i of public.t was dropped"]);
        assert_eq!(
            harmful,
            [
                "column c of public.t was changed in its default alone, which green does not have: set it there too"
            ]
        );
        assert_eq!(judged(&then, &then, &[]), (Vec::new(), Vec::new()));
    }
}
