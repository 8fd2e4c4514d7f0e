//! The SQL of the views, and of the triggers that write through them where a plain view cannot.

use super::kept::{Column, Kept, Now, Other, Writes, is_numbered, is_written};
use crate::{
    ddl::rules::index_name::with_suffix,
    pg::name::{Ident, TableName, literal},
};

/// What marks an object as ours.
pub(super) fn mark(plan: &str) -> String {
    format!("made by migrate for clients of before `{plan}`; `migrate finish` drops it")
}

/// A view and what it needs, for one table.
pub(super) struct Script<'a> {
    pub schema: &'a Ident,
    pub plan: &'a str,
    pub kept: &'a Kept<'a>,
    /// Row triggers of the table may write other values than they were given.
    pub triggers: bool,
}

impl Script<'_> {
    /// Its name; the table's own, so that a client finds the one instead of the other.
    pub fn view(&self) -> TableName {
        TableName { schema: self.schema.clone(), name: self.kept.seen.name.name.clone() }
    }

    fn function(&self) -> TableName {
        let name = with_suffix(self.kept.seen.name.name.as_str(), "_write");
        TableName { schema: self.schema.clone(), name: Ident::new(name) }
    }

    /// The view for the first time. Whoever may use the table may use the view: it asks for the rights of who calls it.
    pub fn create(&self) -> Vec<String> {
        let view = self.view();
        vec![
            format!("create view {view} {}", self.definition()),
            format!("comment on view {view} is {}", literal(&mark(self.plan))),
            format!("grant select, insert, update, delete on {view} to public"),
        ]
    }

    /// The view anew, with the same columns.
    pub fn replace(&self) -> String {
        format!("create or replace view {} {}", self.view(), self.definition())
    }

    fn definition(&self) -> String {
        let columns: Vec<String> = self
            .kept
            .columns
            .iter()
            .map(|column| match (value(column, ""), &column.now) {
                (Some(value), Now::Same(now)) if *now == column.seen.name => value,
                (Some(value), _) => format!("{value} as {}", column.seen.name),
                (None, _) => format!("null::{} as {}", column.seen.type_name, column.seen.name),
            })
            .collect();
        format!("with (security_invoker = true) as select {} from {}", columns.join(", "), self.kept.now)
    }

    /// The function that writes what a plain view cannot write.
    pub fn writer(&self, path: &[Ident]) -> Vec<String> {
        let function = self.function();
        let path: Vec<String> = path.iter().map(ToString::to_string).collect();
        let path = if path.is_empty() { "''".to_owned() } else { path.join(", ") };
        let mut body = format!("\n#variable_conflict use_column\nbegin\n{}", self.insert());
        if let Some(key) = self.kept.key() {
            body.push_str(&self.update(&key));
        }
        body.push_str("return null;\nend\n");
        let mut tag = "compat".to_owned();
        while body.contains(&format!("${tag}$")) {
            tag.push('_');
        }
        vec![
            format!(
                "create or replace function {function}() returns trigger language plpgsql set search_path = {path} as ${tag}${body}${tag}$"
            ),
            format!("comment on function {function}() is {}", literal(&mark(self.plan))),
        ]
    }

    /// The triggers that call it, and the defaults that the table's columns no longer give.
    pub fn triggers(&self) -> Vec<String> {
        let (view, function) = (self.view(), self.function());
        let mut made = vec![format!(
            "create trigger compat_insert instead of insert on {view} for each row execute function {function}()"
        )];
        if self.kept.key().is_some() {
            made.push(format!(
                "create trigger compat_update instead of update on {view} for each row execute function {function}()"
            ));
        }
        let given =
            self.kept.columns.iter().filter(|column| {
                is_written(column.seen) && !is_numbered(column.seen) && column.now != Now::Gone
            });
        for column in given {
            if let Some(default) = &column.seen.default {
                made.push(format!(
                    "alter view {view} alter column {} set default {default}",
                    column.seen.name
                ));
            }
        }
        made
    }

    /// Takes away the default of a column, which may hold on to what goes with it.
    pub fn without_default(&self, column: &Column) -> Option<String> {
        column
            .seen
            .default
            .as_ref()
            .filter(|_| is_written(column.seen) && !is_numbered(column.seen))
            .map(|_| format!("alter view {} alter column {} drop default", self.view(), column.seen.name))
    }

    fn insert(&self) -> String {
        let given: Vec<(&Column, Ident, String)> = self
            .kept
            .columns
            .iter()
            .filter(|column| is_written(column.seen))
            .filter_map(|column| written(column).map(|(now, value)| (column, now, value)))
            .collect();
        let one = |with_number: bool| {
            let given = given.iter().filter(|(column, ..)| with_number || !is_numbered(column.seen));
            let (names, values): (Vec<String>, Vec<String>) =
                given.map(|(_, now, value)| (now.to_string(), value.clone())).unzip();
            let overriding = if with_number && given_number(&self.kept.columns).is_some() {
                "overriding system value "
            } else {
                ""
            };
            let what = if names.is_empty() {
                "default values".to_owned()
            } else {
                format!("({}) {overriding}values ({})", names.join(", "), values.join(", "))
            };
            format!("insert into {} as base {what}{};\n", self.kept.now, self.returning())
        };
        let inserted = match given_number(&self.kept.columns) {
            Some(number) => {
                format!(
                    "if new.{} is null then\n{}else\n{}end if;\n",
                    number.seen.name,
                    one(false),
                    one(true)
                )
            }
            None => one(true),
        };
        format!("if tg_op = 'INSERT' then\n{inserted}return new;\nend if;\n")
    }

    /// What the server or a trigger may have decided is told to RETURNING.
    fn returning(&self) -> String {
        let decided =
            |column: &&Column| self.triggers || !is_written(column.seen) || is_numbered(column.seen);
        let (values, into): (Vec<String>, Vec<String>) = self
            .kept
            .columns
            .iter()
            .filter(decided)
            .filter_map(|column| Some((value(column, "base.")?, format!("new.{}", column.seen.name))))
            .unzip();
        if values.is_empty() {
            return String::new();
        }
        format!(" returning {} into {}", values.join(", "), into.join(", "))
    }

    /// The row is locked and compared first: what the statement has computed rests on the row as it was when it was read, and
    /// unlike a plain view a trigger is not asked again when another transaction has changed it meanwhile.
    fn update(&self, key: &[(Ident, Ident)]) -> String {
        let table = &self.kept.now;
        let is_row: Vec<String> = key.iter().map(|(now, then)| format!("base.{now} = old.{then}")).collect();
        let is_row = is_row.join(" and ");
        let (seen, was): (Vec<String>, Vec<String>) = self
            .kept
            .columns
            .iter()
            .filter_map(|column| Some((value(column, "base.")?, format!("old.{}", column.seen.name))))
            .unzip();
        let mut text = format!(
            "perform 1 from {table} as base where {is_row} and row({})::text = row({})::text for update;\n\
             if not found then\n\
             if exists (select from {table} as base where {is_row}) then\n\
             raise exception 'the row was changed by another transaction meanwhile' using errcode = 'serialization_failure', hint = 'Try the transaction again.';\n\
             end if;\nreturn null;\nend if;\n",
            seen.join(", "),
            was.join(", ")
        );
        let is_key = |column: &Column| key.iter().any(|(_, then)| *then == column.seen.name);
        let writable = |column: &&Column| is_written(column.seen) && !is_numbered(column.seen);
        let mut set = Vec::new();
        let (mut moved, mut differs) = (Vec::new(), Vec::new());
        for column in self.kept.columns.iter().filter(writable) {
            let then = &column.seen.name;
            match (written(column), &column.now) {
                (Some((now, value)), Now::Same(_)) => set.push(format!("{now} = {value}")),
                (Some((now, value)), _) if is_key(column) => {
                    moved.push(format!("{now} = {value}"));
                    differs.push(format!("new.{then} is distinct from old.{then}"));
                }
                (Some((now, value)), _) => text.push_str(&format!(
                    "if new.{then}::text is distinct from old.{then}::text then\nupdate {table} as base set {now} = {value} where {is_row};\nend if;\n"
                )),
                (None, _) => {}
            }
        }
        if !set.is_empty() {
            text.push_str(&format!("update {table} as base set {} where {is_row};\n", set.join(", ")));
        }
        if !moved.is_empty() {
            // By now the other columns of the key are as they shall be.
            let is_row: Vec<String> = key
                .iter()
                .map(|(now, then)| {
                    let same = self.kept.columns.iter().any(|column| {
                        column.seen.name == *then && matches!(column.now, Now::Same(_)) && writable(&column)
                    });
                    format!("base.{now} = {}.{then}", if same { "new" } else { "old" })
                })
                .collect();
            text.push_str(&format!(
                "if {} then\nupdate {table} as base set {} where {};\nend if;\n",
                differs.join(" or "),
                moved.join(", "),
                is_row.join(" and ")
            ));
        }
        text.push_str("return new;\n");
        text
    }
}

/// The column that the server numbers.
fn given_number<'k, 'a>(columns: &'k [Column<'a>]) -> Option<&'k Column<'a>> {
    columns.iter().find(|column| is_numbered(column.seen) && column.now != Now::Gone)
}

/// What an old client reads; `None` when there is nothing to be read.
fn value(column: &Column, of: &str) -> Option<String> {
    match &column.now {
        Now::Same(now) => Some(format!("{of}{now}")),
        Now::Other(Other { name, reads: true, .. }) => Some(format!("{of}{name}::{}", column.seen.type_name)),
        Now::Other(_) | Now::Gone => None,
    }
}

/// The column that gets what an old client writes, and the value it gets.
fn written(column: &Column) -> Option<(Ident, String)> {
    let given = format!("new.{}", column.seen.name);
    match &column.now {
        Now::Same(now) => Some((now.clone(), given)),
        Now::Other(other) => match &other.writes {
            Writes::Assigned => Some((other.name.clone(), given)),
            Writes::By(value) => Some((other.name.clone(), value.clone())),
            Writes::Lost => None,
        },
        Now::Gone => None,
    }
}
