//! Views for clients that know the tables as they were before the plan: `schema.compat: views`.
//!
//! A schema of its own gets, before anything else runs, one view for each table whose name, columns or types the plan changes. A
//! view holds on to columns and not to names, so a rename or an added column is nothing to it. Where a column goes or gets
//! another type, the view is made anew in the transaction of that statement, and from then on triggers write through it. The
//! choice is explained in docs/decisions/0007-compat-views.md.

use super::{
    SqlFile, Way,
    lock::{Cost, LockMode, LockRole, LockTaken},
    read_ahead,
    session::Settings,
    source::Statement,
    statement::{Class, Clients, Online, Retry, Rewritten, Undo, Verify},
    types::SqlType,
};
use crate::{
    facts::{ServerFacts, TableKind},
    finding::{Finding, Severity},
    pg::name::{Ident, TableName, literal},
};
use effect::{Change, Effect, Retyped};
use kept::{Kept, Now, Other, Tables, Writes};
use script::{Script, mark};
use std::collections::BTreeSet;
use told::{note, of_columns, of_writing, place};

mod effect;
mod kept;
mod script;
mod told;

const RECIPE: &str = "compat_views";

/// How `plan` names it.
pub(super) const WAY: Way = Way {
    name: RECIPE,
    about: "With `compat: views`, clients that know the tables as they were find them so in a schema of updatable views, made before anything changes and kept whole by the statements that follow.",
    manual: "sql-createview.html",
};

/// The first major whose views can ask for the rights of who calls them.
const FIRST_MAJOR: u32 = 15;

/// The schema that holds the views of a plan.
///
/// A plan's name has no underscore and at most 40 characters, so two plans never meet in one schema, and no name is cut.
pub fn schema(plan: &str) -> Ident {
    Ident::new(format!("migrate_compat_{}", plan.replace('-', "_")))
}

/// What the comment on the schema and on all that is ours in it says.
pub fn mark_of(plan: &str) -> String {
    mark(plan)
}

/// What a plan asks for.
struct Compat<'a> {
    plan: &'a str,
    schema: Ident,
    live: &'a ServerFacts,
    /// The tables that get a view, by the names that were seen.
    tables: BTreeSet<TableName>,
    findings: Vec<Finding>,
}

/// Gives old clients their views, in a list that was rewritten for a live database: a first step that makes them, and in the
/// steps that would break them what keeps them whole.
pub fn add(rewritten: &mut Rewritten, plan: &str, files: &[SqlFile], live: Option<&ServerFacts>) {
    let schema = schema(plan);
    let effects: Vec<Vec<Effect>> = rewritten.statements.iter().map(|step| effect::of(&step.sql)).collect();
    let is_there = |effect: &Effect| matches!(effect, Effect::SchemaMade(name) if name == schema.as_str());
    if effects.iter().flatten().any(is_there) {
        // The files make it themselves: they are what was planned before.
        return;
    }
    let Some(live) = live else {
        rewritten.findings.push(note(
            Severity::Info,
            "COMPAT_OFFLINE",
            "planned without looking at the database: which columns the old clients know is not known, so their views are not in the list".into(),
            "Plan again with the database (or a facts file) before running it.",
        ));
        return;
    };
    let originals = written(files);
    let effects: Vec<Vec<Effect>> = effects
        .into_iter()
        .zip(&rewritten.statements)
        .map(|(effects, step)| {
            effect::swaps(effects, &|column| {
                let wanted = originals.iter().filter(|one| step.from.contains(&one.place));
                wanted.filter_map(|one| effect::retyped(one, column)).next()
            })
        })
        .collect();
    let all = effects.iter().zip(&rewritten.statements);
    let all =
        all.flat_map(|(effects, step)| effects.iter().map(|effect| (effect, step.search_path.as_slice())));
    let mut compat = Compat::of(plan, schema, live, all);
    if compat.tables.is_empty() {
        rewritten.findings.append(&mut compat.findings);
        return;
    }
    compat.refuse_old_server();
    let mut tables = compat.followed();
    let first = compat.first_step(&tables);
    for (step, effects) in rewritten.statements.iter_mut().zip(&effects) {
        compat.keep(step, effects, &mut tables);
    }
    rewritten.statements.insert(0, first);
    compat.tell(&tables);
    rewritten.findings.append(&mut compat.findings);
}

/// The views as they are after all of the SQL, for a green on which nobody works while it runs: a script, and what is to be
/// known of it. `None` when the SQL changes no table that `blue` has.
pub fn on_green(plan: &str, files: &[SqlFile], blue: &ServerFacts) -> (Option<SqlFile>, Vec<Finding>) {
    let schema = schema(plan);
    let statements = written(files);
    let effects: Vec<(Effect, &[Ident])> = statements
        .iter()
        .flat_map(|one| effect::of(&one.sql).into_iter().map(|effect| (effect, one.search_path.as_slice())))
        .collect();
    let is_there = |effect: &Effect| matches!(effect, Effect::SchemaMade(name) if name == schema.as_str());
    if effects.iter().any(|(effect, _)| is_there(effect)) {
        return (None, Vec::new());
    }
    let mut compat = Compat::of(plan, schema, blue, effects.iter().map(|(effect, path)| (effect, *path)));
    if compat.tables.is_empty() {
        return (None, compat.findings);
    }
    let mut tables = compat.followed();
    for (effect, path) in &effects {
        tables.learn(effect, path);
    }
    let mut made = compat.made();
    for kept in compat.kept(&tables) {
        let script = compat.script(kept);
        made.extend(script.create());
        if kept.is_converted() {
            made.extend(script.writer(&[Ident::new("public")]));
            made.extend(script.triggers());
        }
    }
    compat.tell(&tables);
    let text = format!("{};\n", made.join(";\n"));
    (Some(SqlFile::new("views for old clients", text)), compat.findings)
}

/// What the operator wrote, in order.
fn written(files: &[SqlFile]) -> Vec<Statement> {
    read_ahead::each(files, |read| read.flat_map(|file| file.statements).collect())
}

impl<'a> Compat<'a> {
    /// Which tables get a view, and what stands against it.
    fn of<'e>(
        plan: &'a str,
        schema: Ident,
        live: &'a ServerFacts,
        effects: impl Iterator<Item = (&'e Effect, &'e [Ident])>,
    ) -> Compat<'a> {
        let mut compat = Compat { plan, schema, live, tables: BTreeSet::new(), findings: Vec::new() };
        let mut tables = Tables::new(live);
        let mut types = Vec::new();
        for (effect, path) in effects {
            tables.learn(effect, path);
            if let Effect::TypeDropped(name) = effect {
                types.push(name.clone());
            }
        }
        for (name, kept) in &tables.kept {
            if kept.dropped {
                compat.cannot_keep(name);
            } else if kept.changed && kept.seen.kind != TableKind::Foreign {
                compat.tables.insert(name.clone());
            }
        }
        tables.others_dropped.iter().for_each(|name| compat.cannot_keep(name));
        compat.one_of_each_name();
        if !compat.tables.is_empty() {
            compat.refuse_other_schema();
            types.iter().for_each(|name| compat.refuse_dropped_type(name));
        }
        compat
    }

    fn cannot_keep(&mut self, relation: &TableName) {
        self.findings.push(note(
            Severity::Warning,
            "COMPAT_DROPPED",
            format!(
                "{} is dropped, so no view can stand for it: old clients that use it fail",
                relation.plain()
            ),
            "Release clients that do not use it first, or drop it in a later plan.",
        ));
    }

    /// Of two tables with one name in two schemas only one can have the view of that name.
    fn one_of_each_name(&mut self) {
        let mut names: BTreeSet<Ident> = BTreeSet::new();
        let mut sorted: Vec<TableName> = self.tables.iter().cloned().collect();
        sorted.sort_by_key(|table| (table.schema.as_str() != "public", table.clone()));
        for table in sorted {
            if !names.insert(table.name.clone()) {
                self.tables.remove(&table);
                self.findings.push(note(
                    Severity::Warning,
                    "COMPAT_SAME_NAME",
                    format!("{} gets no view: another table of its name has one", table.plain()),
                    "Change the two in plans of their own.",
                ));
            }
        }
    }

    fn refuse_old_server(&mut self) {
        if self.live.major() < FIRST_MAJOR {
            self.findings.push(note(
                Severity::Blocking,
                "COMPAT_VERSION",
                format!(
                    "views for old clients need PostgreSQL {FIRST_MAJOR}, this is {}: before it a view cannot ask for the rights of who uses it",
                    self.live.major()
                ),
                "Remove `compat` from the plan.",
            ));
        }
    }

    fn refuse_other_schema(&mut self) {
        if self.live.schemas.contains(&self.schema) {
            self.findings.push(note(
                Severity::Blocking,
                "COMPAT_SCHEMA",
                format!("the schema {} is there already", self.schema.as_str()),
                "If it is an earlier try of this plan's, `migrate finish` removes it; else give the plan another name.",
            ));
        }
    }

    /// A view holds on to the types of its columns, and they cannot be changed.
    fn refuse_dropped_type(&mut self, name: &[String]) {
        let Some(own) = name.last() else { return };
        let schema = name.len().checked_sub(2).and_then(|at| name.get(at));
        let mut users = Vec::new();
        for table in self.tables.iter().filter_map(|name| self.live.table(name)) {
            let uses = |type_name: &str| {
                SqlType::parse(type_name).is_some_and(|known| {
                    known.name == *own
                        && (schema.is_none() || known.schema.is_none() || known.schema.as_ref() == schema)
                })
            };
            let columns = table.columns.iter().filter(|column| uses(&column.type_name));
            users.extend(columns.map(|column| format!("{}.{}", table.name.plain(), column.name.as_str())));
        }
        if !users.is_empty() {
            self.findings.push(note(
                Severity::Blocking,
                "COMPAT_TYPE",
                format!(
                    "type {own} is dropped while the views for old clients have columns of it: {}",
                    users.join(", ")
                ),
                "Drop the type in a later plan, after `migrate finish` of this one.",
            ));
        }
    }

    fn followed(&self) -> Tables<'a> {
        let mut tables = Tables::new(self.live);
        for table in &self.tables {
            tables.follow(table);
        }
        tables
    }

    fn kept<'t>(&self, tables: &'t Tables<'a>) -> Vec<&'t Kept<'a>> {
        self.tables.iter().filter_map(|name| tables.kept.get(name)).collect()
    }

    fn script<'s>(&'s self, kept: &'s Kept<'a>) -> Script<'s> {
        let triggers = self.live.objects.triggers.iter().any(|trigger| trigger.table == kept.seen.name);
        Script { schema: &self.schema, plan: self.plan, kept, triggers }
    }

    /// The schema.
    fn made(&self) -> Vec<String> {
        vec![
            format!("create schema {}", self.schema),
            format!("comment on schema {} is {}", self.schema, literal(&mark(self.plan))),
            format!("grant usage on schema {} to public", self.schema),
        ]
    }

    fn first_step(&self, tables: &Tables<'a>) -> Online {
        let mut made = self.made();
        let mut locks = Vec::new();
        for kept in self.kept(tables) {
            made.extend(self.script(kept).create());
            let relation = kept.now.clone();
            locks.push(LockTaken { relation, mode: LockMode::AccessShare, role: LockRole::Read });
        }
        let names: Vec<&str> = self.tables.iter().map(|table| table.name.as_str()).collect();
        Online {
            id: super::rules::slug("make the views for old clients"),
            sql: made.join(";\n"),
            search_path: vec![Ident::new("public")],
            settings: Settings::default(),
            from: vec![place()],
            title: format!("make views for old clients in {}: {}", self.schema.as_str(), names.join(", ")),
            class: Class::Catalog,
            cost: Cost::brief(locks),
            was: None,
            transactional: true,
            recipe: RECIPE.into(),
            why: "a view holds on to columns and not to their names, so it is made before anything changes"
                .into(),
            retry: Retry::BRIEF,
            verify: Verify::Recorded { valid: None },
            undo: Some(Undo::Brief { sql: format!("drop schema if exists {} cascade", self.schema) }),
            clients: Clients::Unaffected,
            backfill: None,
        }
    }

    /// Puts before and behind a statement what the views need of it, in its transaction.
    fn keep(&mut self, step: &mut Online, effects: &[Effect], tables: &mut Tables<'a>) {
        let path = step.search_path.clone();
        let mut touched: BTreeSet<TableName> = BTreeSet::new();
        for effect in effects {
            let about = tables.touched(effect, &path).into_iter();
            touched.extend(about.filter(|name| self.tables.contains(name)));
        }
        let before: Vec<Kept<'a>> =
            touched.iter().filter_map(|name| tables.kept.get(name).cloned()).collect();
        let mut between = before.clone();
        for effect in effects {
            let about = tables.touched(effect, &path);
            for kept in between.iter_mut().filter(|kept| about.contains(&kept.seen.name)) {
                kept.let_go(effect);
            }
            tables.learn(effect, &path);
        }
        let (mut first, mut last) = (Vec::new(), Vec::new());
        for (before, between) in before.iter().zip(&between) {
            let Some(after) = tables.kept.get(&before.seen.name) else { continue };
            let differ = |one: &Kept, other: &Kept| {
                one.columns.iter().zip(&other.columns).any(|(one, other)| one.now != other.now)
            };
            let lets_go = differ(before, between);
            let writes_anew = after.is_converted() && (before.now != after.now || differ(before, after));
            if lets_go && before.is_converted() {
                let script = self.script(before);
                let gone = before.columns.iter().zip(&after.columns);
                let gone = gone.filter(|(was, is)| was.now != Now::Gone && is.now == Now::Gone);
                first.extend(gone.filter_map(|(was, _)| script.without_default(was)));
            }
            if lets_go || writes_anew {
                // Even where the view stays the same: whoever writes through it has its lock, and must not come to the table
                // by a function that says the names of before.
                first.push(self.script(between).replace());
            }
            let script = self.script(after);
            // What was let go may have come back as another type.
            let comes_back = between.columns.iter().zip(&after.columns).any(|(between, after)| {
                between.now == Now::Gone && matches!(&after.now, Now::Other(Other { reads: true, .. }))
            });
            if lets_go && comes_back {
                last.push(script.replace());
            }
            if writes_anew {
                last.extend(script.writer(&path));
                if !before.is_converted() {
                    last.extend(script.triggers());
                }
            }
        }
        if first.is_empty() && last.is_empty() {
            return;
        }
        first.push(step.sql.trim_end().trim_end_matches(';').to_owned());
        first.extend(last);
        step.sql = first.join(";\n");
        step.undo = None;
        let why = "the views for old clients change in the same transaction";
        step.why = if step.why.is_empty() { why.to_owned() } else { format!("{}; {why}", step.why) };
    }

    /// What is to be known of the views, now that everything has happened.
    fn tell(&mut self, tables: &Tables<'a>) {
        let mut findings = Vec::new();
        for kept in self.kept(tables) {
            findings.extend(of_columns(kept));
            if kept.is_converted() {
                findings.push(of_writing(kept));
            }
        }
        let names: Vec<String> = self.tables.iter().map(TableName::plain).collect();
        findings.insert(0, note(
            Severity::Info,
            "COMPAT_VIEWS",
            format!("in the schema {} old clients find as they were: {}", self.schema.as_str(), names.join(", ")),
            &format!(
                "Before the statements run, point them there: `alter role OLD_CLIENT set search_path = {}, public` for new sessions, or `options=-csearch_path={},public` in their connection string; a schema that is not there yet does no harm. They must not write `public.` before the names.",
                self.schema.as_str(), self.schema.as_str()
            ),
        ));
        self.findings.append(&mut findings);
    }
}

impl Kept<'_> {
    /// Lets go of the columns that a statement will not find if a view holds on to them.
    fn let_go(&mut self, effect: &Effect) {
        let Effect::Relation { change, .. } = effect else { return };
        let (column, now) = match change {
            Change::Dropped(column) => (column, Now::Gone),
            Change::Retyped(Retyped { column, through: None, .. }) => (column, Now::Gone),
            Change::Retyped(Retyped { column, through: Some(interim), to, .. }) => {
                let reads = self.reads(column, to);
                let name = Ident::new(interim);
                (column, Now::Other(Other { name, reads, compares: false, writes: Writes::Assigned }))
            }
            _ => return,
        };
        if let Some(at) = self.column(column) {
            self.columns[at].now = now;
        }
    }
}

#[cfg(test)]
mod tests;
