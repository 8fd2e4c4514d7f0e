//! ALTER COLUMN … TYPE that would write the table anew: a second column of the new type grows beside the old one, is kept in step by
//! a trigger and filled in batches; its indexes and constraints are made beside readers and writers; then it takes the old one's
//! place in one transaction. The way of pgroll and of every handbook, as statements that can be read beforehand.
//!
//! What a second column cannot stand in for is refused, with the reason: see [`Twin::hindrance`].

use super::{
    Answer, Pieces, Whole, column_type,
    definition::{REFERENCES, renamed, renamed_reference, tail},
};
use crate::{
    ddl::{
        parse::{self, node::Token as Kind},
        rules::index_name::with_suffix,
        scene::Known,
        types::{self, SqlType},
        volatility,
    },
    facts::{
        Column, Constraint, ConstraintKind, Generated, IdentityColumn, Index, ReplicaIdentity, Table,
        TableKind,
    },
    finding::Severity,
    pg::name::{Ident, TableName},
};

/// The column that changes its type, and the one that will take its place.
struct Twin<'a> {
    whole: &'a Whole<'a>,
    table: &'a Table,
    column: &'a Column,
    /// The second column, until it takes the name.
    interim: Ident,
    /// The trigger and its function.
    sync: Ident,
    /// The new type, as written.
    new_type: String,
    /// The expression after USING.
    using: Option<String>,
}

pub(super) fn apply(whole: &Whole, at: usize) -> Answer {
    let Some((from, to)) = column_type::rewriting(whole, at) else { return Answer::AsIs };
    let name = whole.command(at).name.as_str();
    let shown = format!("{}.{name}", whole.table.plain());
    let refused = |why: &str| column_type::refuse_rewrite(whole, &shown, why);
    let (Some(table), Some(column)) = (whole.live, whole.scene.live_column(&whole.table, name)) else {
        return refused(
            "it writes the table and its indexes anew under ACCESS EXCLUSIVE, and the column was not looked at, so no second one can be grown beside it",
        );
    };
    let Some((new_type, using)) = type_and_using(whole.text(at)) else {
        return refused("its new type could not be told");
    };
    let twin = Twin {
        whole,
        table,
        column,
        interim: Ident::new(with_suffix(name, "__new")),
        sync: whole.names.free(name, "sync"),
        new_type,
        using,
    };
    let about_it = || whole.siblings(at).any(|(_, tree)| tree.name == name);
    match twin.hindrance(&from, &to).map_or_else(|| twin.pieces(), Err) {
        Ok(_) if !whole.is_alone() && about_it() => refused(
            "other parts of the statement are about the same column; write it in a statement of its own",
        ),
        Ok(_) if !whole.is_alone() => whole.later(at),
        Ok(pieces) => Answer::Pieces(pieces),
        Err(why) => refused(&format!(
            "it writes the table and its indexes anew under ACCESS EXCLUSIVE, and no second column can be grown beside it: {why}"
        )),
    }
}

/// What follows TYPE, and what follows USING.
pub(in crate::ddl) fn type_and_using(command: &str) -> Option<(String, Option<String>)> {
    let tokens = parse::tokens(command).ok()?;
    let type_end = tokens.iter().find(|token| token.kind == Kind::TypeP)?.end;
    let using = tokens.iter().find(|token| token.kind == Kind::Using);
    let type_text = command.get(type_end..using.map_or(command.len(), |token| token.start))?.trim();
    let using = using.and_then(|token| command.get(token.end..)).map(|text| text.trim().to_owned());
    Some((type_text.to_owned(), using))
}

impl Twin<'_> {
    fn name(&self) -> &str {
        self.column.name.as_str()
    }

    /// Why a second column would not be the same, or could not be swapped in.
    fn hindrance(&self, from: &SqlType, to: &SqlType) -> Option<String> {
        let scene = self.whole.scene;
        let table = &self.whole.table;
        let is_part = self.table.parent.is_some() || scene.has_children(table);
        let is_made = self.column.generated != Generated::No || self.column.identity != IdentityColumn::No;
        let hindrances = [
            (
                self.table.kind != TableKind::Plain || is_part,
                "the table is partitioned, a partition, or inherits",
            ),
            (
                !scene.is_as_seen(table, self.name()),
                "earlier statements of these files change the column, or make constraints or indexes with it; put this one before them",
            ),
            (
                scene.has_column(table, self.interim.as_str()) != Some(false),
                "a column of the interim name is there",
            ),
            (is_made, "it is a generated or identity column"),
            (self.is_computed_from(), "a generated column is computed from it"),
            (
                scene.has_triggers(table),
                "the table has triggers, which may read the column and would fire for every row filled",
            ),
            (scene.has_policy(table), "a policy of the table may read it"),
            (scene.has_statistics(table), "extended statistics of the table would fall with the old column"),
            (self.is_replica_identity(), "it is in the index by which replication tells rows apart"),
        ];
        if let Some((_, why)) = hindrances.into_iter().find(|(is_there, _)| *is_there) {
            return Some(why.to_owned());
        }
        self.session_bound(from, to)
    }

    fn is_computed_from(&self) -> bool {
        let generated = self.table.columns.iter().filter(|column| column.generated != Generated::No);
        generated.filter_map(|column| column.default.as_deref()).any(|text| {
            volatility::expression(text)
                .and_then(|tree| tree.node)
                .is_none_or(|tree| parse::columns(&tree).iter().any(|name| name == self.name()))
        })
    }

    fn is_replica_identity(&self) -> bool {
        let ReplicaIdentity::Index(name) = &self.table.identity else { return false };
        self.table
            .indexes
            .iter()
            .any(|index| index.name == *name && index.columns.contains(&self.column.name))
    }

    /// A trigger converts in the client's session, with its TimeZone, DateStyle and the like; ALTER TABLE converted in ours.
    fn session_bound(&self, from: &SqlType, to: &SqlType) -> Option<String> {
        let bound = match &self.using {
            None if types::is_assigned(from, to) => return None,
            None => {
                return Some(format!(
                    "the server does not convert {} to {} by itself; say how with USING",
                    from.name, to.name
                ));
            }
            Some(using) => {
                let Some(expression) = volatility::expression(using) else {
                    return Some("its USING could not be read".into());
                };
                let known = volatility::of(&expression, self.whole.scene, &self.whole.statement.search_path);
                if known != volatility::Known::OneValue {
                    return Some(
                        "its USING may give another value each time, and is asked more than once for a row"
                            .into(),
                    );
                }
                if column_type::is_at_time_zone(&expression) {
                    return None;
                }
                types::session_words(from, to, using)
            }
        };
        bound.map(|word| {
            format!("converting {word} goes by settings of each session (TimeZone, DateStyle), so clients would write other values than the migration")
        })
    }

    fn pieces(&self) -> Result<Pieces, String> {
        let mut after = self.kept_in_step()?;
        let (made, swapped) = self.dressed()?;
        after.extend(made);
        let mut findings = Vec::new();
        if self.table.columns.last().is_some_and(|last| last.name != self.column.name) {
            findings.push(self.whole.finding(
                Severity::Warning,
                "DDL_COLUMN_LAST",
                format!("{} is the last column of {} from here on: SELECT * and INSERT without a list of columns meet another order", self.name(), self.whole.table.plain()),
                "Name the columns in those statements, and release that first; `migrate rehearse` finds them.",
            ));
        }
        Ok(Pieces { here: Vec::new(), before: after, at_once: swapped, findings, ..Pieces::default() })
    }

    /// The second column, the rows that are there, the trigger that writes it, and the rows written in between.
    ///
    /// The rows come before the trigger: one that cannot be converted stops the plan while no client has noticed anything. CREATE
    /// TRIGGER waits for whoever writes the table, so from its COMMIT on no row is written without it, and the second filling finds
    /// all that is left. ENABLE ALWAYS, since a session may be a replica.
    fn kept_in_step(&self) -> Result<Vec<String>, String> {
        let (interim, old, sync, table) = (&self.interim, &self.column.name, &self.sync, &self.whole.table);
        let function = self.function();
        let value = self.using.clone().unwrap_or_else(|| old.to_string());
        let (written, settings) = match &self.using {
            None => (format!("new.{old}"), String::new()),
            Some(using) => {
                let path = &self.whole.statement.search_path;
                let path: Vec<String> = path.iter().map(ToString::to_string).collect();
                let row = format!("(select {using} from (select (new).*) as {})", table.name);
                (row, format!(" set search_path = {}", path.join(", ")))
            }
        };
        let body = format!("begin new.{interim} := {written}; return new; end");
        if body.contains("$sync$") {
            return Err("its USING holds a text that ends our function".into());
        }
        let fill = |condition: String| format!("update {table} set {interim} = {value} where {condition}");
        // As texts, since not every type has an equality.
        let differs = format!("{interim}::text is distinct from (({value})::{})::text", self.new_type);
        Ok(vec![
            self.whole.statement_of(&format!("add column {interim} {}", self.new_type)),
            fill(format!("{interim} is null and {old} is not null")),
            format!(
                "create function {function}() returns trigger language plpgsql{settings} as $sync${body}$sync$"
            ),
            format!(
                "create trigger {sync} before insert or update on {table} for each row execute function {function}()"
            ),
            self.whole.statement_of(&format!("enable always trigger {sync}")),
            fill(differs),
        ])
    }

    fn function(&self) -> TableName {
        TableName { schema: self.whole.table.schema.clone(), name: self.sync.clone() }
    }

    /// What the old column has, for the second one: statements to run beside readers and writers, and those of the swap.
    fn dressed(&self) -> Result<(Vec<String>, Vec<String>), String> {
        let (scene, table) = (self.whole.scene, &self.whole.table);
        let mut made = Vec::new();
        let mut names = Vec::new();
        let mut foreign = Vec::new();
        for constraint in self.table.constraints.iter().filter(|known| !scene.has_lost(table, &known.name)) {
            match constraint.kind {
                ConstraintKind::Exclusion | ConstraintKind::Trigger => {
                    return Err(format!("{} of the table may be about it", constraint.name.as_str()));
                }
                ConstraintKind::PrimaryKey | ConstraintKind::Unique => {}
                ConstraintKind::ForeignKey => {
                    let definition = self.renamed_foreign_key(constraint)?;
                    foreign.extend(
                        definition.map(|definition| (table.clone(), constraint.name.clone(), definition)),
                    );
                }
                ConstraintKind::Check | ConstraintKind::NotNull => {
                    let Some(definition) = renamed(&constraint.definition, self.name(), &self.interim)?
                    else {
                        continue;
                    };
                    let interim = interim_of(&constraint.name);
                    made.push(self.whole.statement_of(&format!("add constraint {interim} {definition}")));
                    names.push(
                        self.whole
                            .statement_of(&format!("rename constraint {interim} to {}", constraint.name)),
                    );
                }
            }
        }
        let says_so = |constraint: &Constraint| constraint.kind == ConstraintKind::NotNull;
        if self.column.not_null && !self.table.constraints.iter().any(says_so) {
            made.push(self.whole.statement_of(&format!("alter column {} set not null", self.interim)));
        }
        let mut keys = Vec::new();
        for index in self.table.indexes.iter().filter(|known| !scene.has_lost(table, &known.name)) {
            let tail = tail(&index.definition).ok_or("an index could not be read")?;
            let Some(tail) = renamed(tail, self.name(), &self.interim)? else { continue };
            let interim = interim_of(&index.name);
            let unique = if index.unique { "unique " } else { "" };
            made.push(format!("create {unique}index concurrently {interim} on {table} {tail}"));
            match self.key_of(index) {
                Some(key) => keys.push(self.whole.statement_of(&format!(
                    "add constraint {} {} using index {interim}{}",
                    key.name,
                    kind_of(key),
                    attributes(key)
                ))),
                None => {
                    let interim = TableName { schema: table.schema.clone(), name: interim };
                    names.push(format!("alter index {interim} rename to {}", index.name));
                }
            }
        }
        for key in scene.referring(table) {
            let Some(definition) = renamed_reference(&key.definition, self.name(), &self.interim)? else {
                continue;
            };
            let is_plain = match scene.relation(&key.table) {
                Known::Live(child) => child.kind == TableKind::Plain && !child.is_partition,
                known => matches!(known, Known::New),
            };
            if !is_plain {
                return Err(format!("the foreign key {}, which is partitioned, refers to it", key.plain()));
            }
            foreign.push((key.table, key.name, definition));
        }
        for (on, name, definition) in foreign {
            made.extend(swapped_foreign_key(&on, &name, &definition));
        }
        Ok((made, self.swap(keys, names)))
    }

    /// In one transaction: the old column goes, with its indexes and constraints, and the second one takes its name and theirs.
    fn swap(&self, keys: Vec<String>, names: Vec<String>) -> Vec<String> {
        let (table, old, interim, sync) = (&self.whole.table, &self.column.name, &self.interim, &self.sync);
        let mut swap = Vec::new();
        if let Some(sequence) = self.whole.scene.sequence_of(table, self.name()) {
            swap.push(format!("alter sequence {sequence} owned by {table}.{interim}"));
        }
        swap.push(format!("drop trigger {sync} on {table}"));
        swap.push(self.whole.statement_of(&format!("drop column {old}")));
        swap.extend(keys);
        swap.push(self.whole.statement_of(&format!("rename column {interim} to {old}")));
        let default = self.column.default.as_ref();
        if let Some(default) = default.filter(|_| !self.whole.scene.lost_default(table, self.name())) {
            swap.push(self.whole.statement_of(&format!("alter column {old} set default {default}")));
        }
        swap.extend(names);
        swap.extend(self.column.besides.iter().cloned());
        swap.push(format!("drop function {}()", self.function()));
        swap
    }

    fn key_of(&self, index: &Index) -> Option<&Constraint> {
        let name = index.constraint.as_ref()?;
        self.table.constraints.iter().find(|constraint| constraint.name == *name)
    }

    /// A foreign key from the second column; `None` when it is not from the old one.
    fn renamed_foreign_key(&self, key: &Constraint) -> Result<Option<String>, String> {
        let (own, others) =
            key.definition.split_at(key.definition.find(REFERENCES).unwrap_or(key.definition.len()));
        match renamed(own, self.name(), &self.interim)? {
            Some(_) if key.references.as_ref() == Some(&self.whole.table) => {
                Err(format!("the foreign key {} refers to the table itself", key.name.as_str()))
            }
            own => Ok(own.map(|own| format!("{own}{others}"))),
        }
    }
}

/// The new foreign key is proved before the old one goes; each by itself, so that the swap locks one table only.
fn swapped_foreign_key(table: &TableName, name: &Ident, definition: &str) -> [String; 3] {
    let interim = interim_of(name);
    [
        format!("alter table {table} add constraint {interim} {definition}"),
        format!("alter table {table} drop constraint {name}"),
        format!("alter table {table} rename constraint {interim} to {name}"),
    ]
}

fn interim_of(name: &Ident) -> Ident {
    Ident::new(with_suffix(name.as_str(), "__new"))
}

fn kind_of(key: &Constraint) -> &'static str {
    if key.kind == ConstraintKind::PrimaryKey { "primary key" } else { "unique" }
}

fn attributes(key: &Constraint) -> &'static str {
    match key.deferrable {
        true if key.definition.contains("INITIALLY DEFERRED") => " deferrable initially deferred",
        true => " deferrable",
        false => "",
    }
}

#[cfg(test)]
mod tests;
