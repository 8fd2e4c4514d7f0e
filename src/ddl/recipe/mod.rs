//! Recipes: an ALTER TABLE that would scan, rewrite or build while others wait, taken apart into statements that do not.
//!
//! A recipe looks at one subcommand and says what comes before the ALTER TABLE, what stays in it, and what follows. What comes
//! out is given to the rules like any other statement, and may be taken apart again; a statement without a recipe is in its
//! final form. So rewriting what was rewritten changes nothing.

use super::{
    parse::{
        self,
        node::{self, AlterTableType as Type},
    },
    parts::{self, Alter},
    scene::{Known, Scene},
    source::Statement,
};
use crate::{
    facts::{Table, TableKind},
    finding::{Finding, Severity},
    pg::name::{Ident, TableName},
};
use names::Names;
pub(super) use swap_column::type_and_using;

mod add_column;
mod alter_constraint;
mod check_and_foreign_key;
mod column_type;
mod definition;
mod drop_constraint;
mod key;
pub(super) mod names;
mod not_null;
mod swap;
mod swap_column;
mod validate;

/// A way to do a form online.
pub(super) struct Recipe {
    /// Its name, in `Online::recipe`.
    pub name: &'static str,
    /// What it does, a sentence or two.
    pub about: &'static str,
    /// Its page in PostgreSQL's manual.
    pub manual: &'static str,
    /// Why it is done so, one sentence.
    pub why: &'static str,
    apply: fn(&Whole, usize) -> Answer,
}

const ALTER_TABLE: &str = "sql-altertable.html";

/// In the order they are asked; the first that does not say [`Answer::AsIs`] decides.
pub(super) const RECIPES: &[Recipe] = &[
    Recipe {
        name: "swap_constraint",
        about: "A constraint that is dropped and added again under its name: the new one is proved under another name before the old one goes.",
        manual: ALTER_TABLE,
        why: "the new constraint is there and proved before the old one goes, and then takes its name",
        apply: swap::apply,
    },
    Recipe {
        name: "add_column",
        about: "A column comes bare; its default is set with it, and filling, proving and indexing follow, each beside readers and writers.",
        manual: ALTER_TABLE,
        why: "the column comes without anything that reads or writes the rows; the rest follows beside readers and writers",
        apply: add_column::apply,
    },
    Recipe {
        name: "change_type",
        about: "A change of type that leaves the rows as they are is brief; a shorter length is kept as a CHECK, proved beside readers and writers.",
        manual: ALTER_TABLE,
        why: "the type stays, and a constraint proves the shorter length beside readers and writers",
        apply: column_type::apply,
    },
    Recipe {
        name: "swap_column",
        about: "A change of type that would write the table anew: a second column of the new type grows beside the old one, is kept in step by a trigger, filled in batches, given all that the old one has, and swapped in by one transaction.",
        manual: ALTER_TABLE,
        why: "a second column grows beside the old one, and takes its place when it has all that the old one has",
        apply: swap_column::apply,
    },
    Recipe {
        name: "set_not_null",
        about: "A CHECK proves it beside readers and writers, so that SET NOT NULL need not read the rows; from 18 on NOT NULL itself is added NOT VALID.",
        manual: ALTER_TABLE,
        why: "a CHECK proves it beside readers and writers, so that SET NOT NULL need not read the rows",
        apply: not_null::apply,
    },
    Recipe {
        name: "add_constraint",
        about: "A CHECK or foreign key binds new rows at once, and the old ones are proved beside readers and writers.",
        manual: ALTER_TABLE,
        why: "the constraint binds new rows at once, and the old ones are proved beside readers and writers",
        apply: check_and_foreign_key::apply,
    },
    Recipe {
        name: "add_key",
        about: "The index of a key is built CONCURRENTLY, and becomes the constraint's in a moment.",
        manual: ALTER_TABLE,
        why: "the index is built beside readers and writers, and becomes the constraint's in a moment",
        apply: key::apply,
    },
    Recipe {
        name: "alter_constraint",
        about: "A foreign key that is to be enforced: a second one is proved beside readers and writers, and takes the place of the first.",
        manual: ALTER_TABLE,
        why: "a second constraint is proved beside readers and writers, and takes the place of the first",
        apply: alter_constraint::apply,
    },
    Recipe {
        name: "drop_constraint",
        about: "A key goes after the foreign keys that rest on it, one by one, so that no more than two tables are locked at a time.",
        manual: ALTER_TABLE,
        why: "each foreign key goes by itself, so that no more than two tables are locked at a time",
        apply: drop_constraint::apply,
    },
    Recipe {
        name: "validate_alone",
        about: "VALIDATE runs in a statement of its own, where it reads the rows beside readers and writers.",
        manual: ALTER_TABLE,
        why: "by itself it reads the rows beside readers and writers",
        apply: validate::apply,
    },
];

/// What a recipe makes of a subcommand.
pub(super) enum Answer {
    /// It stays in its ALTER TABLE.
    AsIs,
    /// It is taken apart.
    Pieces(Pieces),
    /// It cannot be done online, or not at all.
    Refused(Finding),
}

/// A subcommand taken apart.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    /// Statements that run before the ALTER TABLE.
    pub before: Vec<String>,
    /// What stays in the ALTER TABLE.
    pub here: Vec<String>,
    /// Statements that run after it.
    pub after: Vec<String>,
    /// Statements that run at the end, in one transaction.
    pub at_once: Vec<String>,
    pub findings: Vec<Finding>,
}

/// The ALTER TABLE a recipe looks into.
pub(super) struct Whole<'a> {
    pub statement: &'a Statement,
    pub scene: &'a Scene<'a>,
    pub alter: Alter<'a>,
    pub table: TableName,
    pub live: Option<&'a Table>,
    /// Names given to constraints and the like while this statement is taken apart.
    pub names: Names<'a>,
}

impl Whole<'_> {
    /// The subcommand as written.
    pub fn text(&self, at: usize) -> &str {
        self.alter.commands[at].0
    }

    /// The subcommand's tree.
    pub fn command(&self, at: usize) -> &node::AlterTableCmd {
        self.alter.commands[at].1
    }

    /// The constraint that a subcommand adds.
    pub fn added(&self, at: usize) -> Option<&node::Constraint> {
        added(self.command(at))
    }

    /// The other subcommands.
    pub fn siblings(&self, at: usize) -> impl Iterator<Item = (usize, &node::AlterTableCmd)> {
        self.alter
            .commands
            .iter()
            .enumerate()
            .filter(move |(nth, _)| *nth != at)
            .map(|(nth, (_, tree))| (nth, *tree))
    }

    /// Whether it is the only subcommand.
    pub fn is_alone(&self) -> bool {
        self.alter.commands.len() == 1
    }

    /// A subcommand as a statement of its own.
    pub fn statement_of(&self, command: &str) -> String {
        format!("alter table {} {command}", self.table)
    }

    /// The subcommand, unchanged, as a statement of its own after the others.
    pub fn later(&self, at: usize) -> Answer {
        let after = vec![format!("{} {}", self.alter.head, self.text(at))];
        Answer::Pieces(Pieces { after, ..Pieces::default() })
    }

    pub fn is_partitioned(&self) -> bool {
        self.live.is_some_and(|table| table.kind == TableKind::Partitioned)
    }

    pub fn finding(&self, severity: Severity, code: &str, what: String, help: &str) -> Finding {
        let place = self.statement.place.clone();
        Finding { code: code.to_owned(), severity, place, what, help: help.to_owned() }
    }

    pub fn refuse(&self, code: &str, what: String, help: &str) -> Answer {
        Answer::Refused(self.finding(Severity::Blocking, code, what, help))
    }

    /// Says that something was taken as the worst, since nobody has looked.
    pub fn assumed(&self, what: String) -> Finding {
        self.finding(
            Severity::Info,
            "DDL_ASSUMED",
            what,
            "Plan again with the database (or a facts file): then it is read there.",
        )
    }
}

/// The constraint that a subcommand adds.
pub(super) fn added(command: &node::AlterTableCmd) -> Option<&node::Constraint> {
    match (command.subtype(), command.def.as_ref()?.node.as_ref()?) {
        (Type::AtAddConstraint, parse::NodeEnum::Constraint(constraint)) => Some(constraint),
        _ => None,
    }
}

/// What becomes of a statement.
pub(super) enum Expansion {
    /// These statements, in order; those `at_once` in one transaction, after the others.
    Becomes {
        statements: Vec<Statement>,
        at_once: Vec<Statement>,
        recipe: &'static Recipe,
        findings: Vec<Finding>,
    },
    /// Nothing.
    Refused(Vec<Finding>),
}

/// Takes a statement apart; `None` when it is in its final form, or nothing that recipes know.
pub(super) fn expand(statement: &Statement, scene: &Scene) -> Option<Expansion> {
    let alter = parts::alter(statement)?;
    let range = alter.tree.relation.as_ref()?;
    let table = scene.range(range, &statement.search_path);
    let live = match scene.relation(&table) {
        Known::Live(live) => Some(live),
        Known::Unseen => None,
        _ => return None,
    };
    let names = Names::new(scene, &table);
    let whole = Whole { statement, scene, alter, table, live, names };
    let answers: Vec<_> = (0..whole.alter.commands.len()).map(|at| answer(&whole, at)).collect();
    let refused: Vec<Finding> = answers
        .iter()
        .filter_map(|(_, answer)| match answer {
            Answer::Refused(finding) => Some(finding.clone()),
            _ => None,
        })
        .collect();
    if !refused.is_empty() {
        return Some(Expansion::Refused(refused));
    }
    let recipe = answers.iter().find_map(|(recipe, answer)| match answer {
        Answer::Pieces(_) => *recipe,
        _ => None,
    })?;
    let Joined { texts, at_once, findings } = joined(&whole, answers);
    let parsed =
        |texts: Vec<String>| texts.into_iter().map(|sql| of_text(statement, sql)).collect::<Option<_>>();
    Some(Expansion::Becomes { statements: parsed(texts)?, at_once: parsed(at_once)?, recipe, findings })
}

fn answer(whole: &Whole, at: usize) -> (Option<&'static Recipe>, Answer) {
    for recipe in RECIPES {
        match (recipe.apply)(whole, at) {
            Answer::AsIs => {}
            answer => return (Some(recipe), answer),
        }
    }
    (None, Answer::AsIs)
}

/// A statement's pieces, in order.
struct Joined {
    texts: Vec<String>,
    at_once: Vec<String>,
    findings: Vec<Finding>,
}

/// Everything before, one ALTER TABLE with all that stays, everything after.
fn joined(whole: &Whole, answers: Vec<(Option<&'static Recipe>, Answer)>) -> Joined {
    let (mut before, mut here, mut after) = (Vec::new(), Vec::<String>::new(), Vec::<String>::new());
    let mut at_once = Vec::new();
    let mut findings = Vec::new();
    for (at, (_, answer)) in answers.into_iter().enumerate() {
        match answer {
            Answer::Pieces(pieces) => {
                before.extend(pieces.before);
                here.extend(pieces.here);
                after.extend(pieces.after);
                at_once.extend(pieces.at_once);
                findings.extend(pieces.findings);
            }
            _ if after.is_empty() || runs_early(whole.command(at).subtype()) => {
                here.push(whole.text(at).to_owned())
            }
            // It may rest on what was put off.
            _ => after.push(format!("{} {}", whole.alter.head, whole.text(at))),
        }
    }
    let mut texts = before;
    if !here.is_empty() {
        texts.push(format!("{} {}", whole.alter.head, here.join(", ")));
    }
    texts.extend(after);
    Joined { texts, at_once, findings }
}

/// What the server does before constraints are added, wherever it is written.
fn runs_early(kind: Type) -> bool {
    matches!(
        kind,
        Type::AtDropColumn
            | Type::AtDropConstraint
            | Type::AtAlterColumnType
            | Type::AtAddColumn
            | Type::AtColumnDefault
            | Type::AtDropNotNull
            | Type::AtDropExpression
            | Type::AtDropIdentity
            | Type::AtSetStatistics
            | Type::AtSetStorage
    )
}

/// A statement of ours in the place of the operator's.
pub(super) fn of_text(statement: &Statement, sql: String) -> Option<Statement> {
    let tree = parse::parse_one(&sql).ok()?;
    Some(Statement { sql, tree, ..statement.clone() })
}

/// Columns as a list for SQL.
pub(super) fn column_list(columns: &[String]) -> String {
    columns.iter().map(|column| Ident::new(column.as_str()).to_string()).collect::<Vec<_>>().join(", ")
}
