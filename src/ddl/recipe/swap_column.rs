//! ALTER COLUMN … TYPE that would write the table anew: a second column of the new type grows beside the old one, is kept in step by
//! a trigger and filled in batches; its indexes and constraints are made beside readers and writers; then it takes the old one's
//! place in one transaction. The way of pgroll and of every handbook, as statements that can be read beforehand.
//!
//! What a second column cannot stand in for is refused, with the reason: see [`Twin::hindrance`].

use super::{Answer, Pieces, Whole, column_type};
use crate::{
    ddl::{
        parse::{self, node::Token as Kind},
        rules::index_name::with_suffix,
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
fn type_and_using(command: &str) -> Option<(String, Option<String>)> {
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
                "earlier statements of these files change the column, or make constraints or indexes on its table; put this one before them",
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

    /// The second column, the trigger that writes it, and the rows that were there.
    ///
    /// CREATE TRIGGER waits for whoever writes the table, so from its COMMIT on no row is written without it, and what the batches
    /// read is all that is left. ENABLE ALWAYS, since a session may be a replica.
    fn kept_in_step(&self) -> Result<Vec<String>, String> {
        let (interim, old, sync) = (&self.interim, &self.column.name, &self.sync);
        let function = self.function();
        let (value, settings, condition) = match &self.using {
            None => (format!("new.{old}"), String::new(), format!("{interim} is null and {old} is not null")),
            Some(using) => {
                let path: Vec<String> =
                    self.whole.statement.search_path.iter().map(ToString::to_string).collect();
                let row = format!("(select {using} from (select (new).*) as {})", self.whole.table.name);
                (row, format!(" set search_path = {}", path.join(", ")), format!("{interim} is null"))
            }
        };
        let body = format!("begin new.{interim} := {value}; return new; end");
        if body.contains("$sync$") {
            return Err("its USING holds a text that ends our function".into());
        }
        let filled = self.using.clone().unwrap_or_else(|| old.to_string());
        Ok(vec![
            self.whole.statement_of(&format!("add column {interim} {}", self.new_type)),
            format!(
                "create function {function}() returns trigger language plpgsql{settings} as $sync${body}$sync$"
            ),
            format!(
                "create trigger {sync} before insert or update on {} for each row execute function {function}()",
                self.whole.table
            ),
            self.whole.statement_of(&format!("enable always trigger {sync}")),
            format!("update {} set {interim} = {filled} where {condition}", self.whole.table),
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
                    foreign.extend(definition.map(|definition| (table, constraint.name.clone(), definition)));
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
        for (child, name, definition) in scene.referrers(table) {
            let definition = renamed_reference(&definition, self.name(), &self.interim)?;
            foreign.extend(definition.map(|definition| (child, Ident::new(name), definition)));
        }
        for (on, name, definition) in foreign {
            made.extend(swapped_foreign_key(on, &name, &definition));
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

const REFERENCES: &str = " REFERENCES ";

/// A foreign key to the second column; `None` when it is not to the old one.
fn renamed_reference(definition: &str, column: &str, interim: &Ident) -> Result<Option<String>, String> {
    let unread = || format!("{definition} could not be read");
    let from = definition.find(REFERENCES).ok_or_else(unread)?;
    let open = definition[from..].find('(').map(|at| from + at + 1).ok_or_else(unread)?;
    let close = definition[open..].find(')').map(|at| open + at).ok_or_else(unread)?;
    let columns = renamed(&definition[open..close], column, interim)?;
    Ok(columns.map(|columns| format!("{}{columns}{}", &definition[..open], &definition[close..])))
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

/// What follows the table's name in a definition of an index.
fn tail(definition: &str) -> Option<&str> {
    let tokens = parse::tokens(definition).ok()?;
    let using = tokens.iter().find(|token| token.kind == Kind::Using)?;
    definition.get(using.start..)
}

/// A definition as the server writes it, with another name for a column; `None` when the column is not in it.
///
/// Names are told from columns by what stands beside them: a function has a bracket after it, a type a `::` before it, an operator
/// class or collation the column itself. Such a name that is also the column's is not guessed at.
fn renamed(definition: &str, column: &str, interim: &Ident) -> Result<Option<String>, String> {
    let tokens = parse::tokens(definition).map_err(|_| format!("{definition} could not be read"))?;
    let quoted = Ident::new(column).to_string();
    let mut text = definition.to_owned();
    let mut found = false;
    for (at, token) in tokens.iter().enumerate().rev() {
        let word = &definition[token.start..token.end];
        if word != quoted && word != column {
            continue;
        }
        let before = at.checked_sub(1).map(|at| tokens[at].kind);
        let stands_before = matches!(
            before,
            Some(
                Kind::Typecast | Kind::Collate | Kind::Ident | Kind::Ascii41 | Kind::Ascii46 | Kind::Ascii93
            )
        );
        let is_call = tokens.get(at + 1).is_some_and(|next| next.kind == Kind::Ascii40);
        if stands_before || is_call {
            return Err(format!("`{column}` means more than the column in: {definition}"));
        }
        text.replace_range(token.start..token.end, &interim.to_string());
        found = true;
    }
    Ok(found.then_some(text))
}

#[cfg(test)]
mod tests {
    use super::{Ident, renamed};
    use crate::{
        ddl::tests::{live, on_live, told},
        facts::{ConstraintKind, ServerFacts},
    };

    /// [`live`], with keys, a CHECK, a default and a comment on `spare`.
    fn facts() -> ServerFacts {
        let mut facts = live();
        let spare = facts.tables.iter_mut().find(|table| table.name.name.as_str() == "spare").unwrap();
        spare.indexes = vec![
            crate::ddl::tests::index("spare_a", "spare", false, true, None),
            crate::ddl::tests::index("spare_pkey", "spare", true, true, Some("spare_pkey")),
        ];
        let mut key = crate::ddl::tests::constraint("spare_pkey", ConstraintKind::PrimaryKey, None);
        key.definition = "PRIMARY KEY (id)".into();
        let mut check = crate::ddl::tests::constraint("spare_a_check", ConstraintKind::Check, None);
        check.definition = "CHECK ((a > 0))".into();
        spare.constraints = vec![check, key];
        spare.columns[1].default = Some("5".into());
        spare.columns[1].besides = vec!["comment on column public.spare.a is 'x'".into()];
        facts
    }

    #[test]
    fn a_second_column_gets_all_that_the_old_one_has() {
        let expected = [
            "brief, ACCESS EXCLUSIVE spare: alter table \"public\".\"spare\" add column \"a__new\" bigint",
            "catalog, no lock: create function \"public\".\"spare_a_sync\"() returns trigger language plpgsql as $sync$begin new.\"a__new\" := new.\"a\"; return new; end$sync$",
            "brief, SHARE ROW EXCLUSIVE spare: create trigger \"spare_a_sync\" before insert or update on \"public\".\"spare\" for each row execute function \"public\".\"spare_a_sync\"()",
            "brief, SHARE ROW EXCLUSIVE spare: alter table \"public\".\"spare\" enable always trigger \"spare_a_sync\"",
            "backfill, ROW EXCLUSIVE spare: update \"public\".\"spare\" set \"a__new\" = \"a\" where \"a__new\" is null and \"a\" is not null",
            "brief, ACCESS EXCLUSIVE spare: alter table \"public\".\"spare\" add constraint \"spare_a_check__new\" CHECK ((\"a__new\" > 0)) NOT VALID",
            "validate, SHARE UPDATE EXCLUSIVE spare: alter table \"public\".\"spare\" validate constraint \"spare_a_check__new\"",
            "concurrent, SHARE UPDATE EXCLUSIVE spare: create index concurrently \"spare_a__new\" on \"public\".\"spare\" USING btree (\"a__new\")",
            "brief, ACCESS EXCLUSIVE spare: drop trigger \"spare_a_sync\" on \"public\".\"spare\";\n\
             alter table \"public\".\"spare\" drop column \"a\";\n\
             alter table \"public\".\"spare\" rename column \"a__new\" to \"a\";\n\
             alter table \"public\".\"spare\" alter column \"a\" set default 5;\n\
             alter table \"public\".\"spare\" rename constraint \"spare_a_check__new\" to \"spare_a_check\";\n\
             alter index \"public\".\"spare_a__new\" rename to \"spare_a\";\n\
             comment on column public.spare.a is 'x';\n\
             drop function \"public\".\"spare_a_sync\"()",
        ];
        let steps = told("alter table spare alter a type bigint", Some(&facts()));
        assert_eq!(steps[..expected.len()], expected);
        assert!(!steps.iter().any(|line| line.starts_with("blocking")), "{steps:#?}");
        assert!(steps.contains(&"warning DDL_COLUMN_LAST".to_owned()), "{steps:#?}");
    }

    #[test]
    fn a_key_is_handed_over_before_the_name() {
        let steps = told("alter table spare alter id type bigint", Some(&facts()));
        let swap = steps.iter().find(|step| step.contains("drop column")).unwrap();
        let (key, name) =
            (swap.find("primary key using index").unwrap(), swap.find("rename column").unwrap());
        assert!(key < name && steps.iter().any(|step| step.contains("set not null")), "{steps:#?}");
    }

    #[test]
    fn using_is_asked_of_the_row_that_is_written() {
        let steps = told("alter table spare alter b type int using length(b::text) + a", Some(&facts()));
        assert!(
            steps[1].contains("set search_path = \"public\" as $sync$begin new.\"b__new\" := (select length(b::text) + a from (select (new).*) as \"spare\"); return new; end$sync$"),
            "{steps:#?}"
        );
    }

    #[test]
    fn what_a_second_column_cannot_stand_in_for_is_refused() {
        for sql in [
            "alter table p alter a type bigint",
            "alter table s alter b type bigint",
            "alter table t alter a type bigint",
            "alter table spare alter a type uuid",
            "alter table spare alter a type timestamptz using now()",
            "alter table spare alter a type text using a::timestamptz::text",
            "alter table spare alter a type bigint using random()::int",
            "alter table spare alter a type bigint, alter a set default 5",
            "create index i on spare (a); alter table spare alter a type bigint",
            "alter table spare alter a set default 6; alter table spare alter a type bigint",
        ] {
            let told = told(sql, Some(&facts()));
            assert!(told.contains(&"blocking DDL_NO_RULE".to_owned()), "{sql}: {told:#?}");
        }
    }

    #[test]
    fn a_default_taken_away_before_stays_away() {
        let steps = told(
            "alter table spare alter a drop default; alter table spare alter a type text; alter table spare alter a set default 'x'",
            Some(&facts()),
        );
        let swap = steps.iter().find(|step| step.contains("drop column")).unwrap();
        assert!(!swap.contains("set default"), "{swap}");
        assert!(!on_live("alter table x alter a type bigint, alter b type bigint").is_empty());
    }

    #[test]
    fn a_name_that_may_be_no_column_is_not_guessed_at() {
        let interim = Ident::new("n");
        let with = |definition: &str| renamed(definition, "text", &interim);
        assert_eq!(with("CHECK ((text > 'text'))").unwrap().unwrap(), "CHECK ((\"n\" > 'text'))");
        assert_eq!(with("CHECK ((a > 0))").unwrap(), None);
        for definition in ["CHECK (((a)::text > 'x'))", "USING btree (a text)", "CHECK ((text(a) > 0))"] {
            with(definition).unwrap_err();
        }
    }
}
