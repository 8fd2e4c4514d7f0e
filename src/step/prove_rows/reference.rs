//! Foreign keys of green, held against what blue's rows will come to: green is still empty, so the rows referred to are made
//! there as the others are, of all of blue's that may be meant, never of a sample.

use super::landing::{self, Landing, Size, landing};
use super::trial::{Found, Trial, made, why_left_out};
use super::{BYTES_MAX, Origin, Tried};
use crate::error::{Doing, Kind, Result};
use crate::mapping::{Fitted, MADE_OF, Mapping};
use crate::pg::name::{Ident, TableName};
use crate::pg::target;
use std::time::{Duration, Instant};
use tokio_postgres::{Client, Row, types::ToSql};

const LIST: &str = include_str!("../../../sql/mapping/list_references.sql");

/// So many keys are asked of blue at a time.
const KEYS_AT_ONCE: usize = 5_000;

/// No more rows than this are brought over for it.
const MEANT_MAX: u64 = 1_000_000;

/// No more than this at a time: a key that is asked for only in part may name any number.
const MEANT_AT_ONCE: usize = 50_000;

/// Blue is asked no longer than this for the rows that one foreign key means.
const ASKING_MAX: Duration = Duration::from_secs(60);

/// A foreign key of green.
#[derive(Debug, Clone)]
pub(super) struct Reference {
    name: String,
    /// The table referred to.
    pub other: TableName,
    /// MATCH FULL: all columns are null, or none.
    is_full: bool,
    /// Why green holds no row against it.
    why_not: Option<String>,
    columns: Vec<Column>,
}

/// One of its columns.
#[derive(Debug, Clone)]
struct Column {
    name: Ident,
    type_name: String,
    /// Green's default fills it when nobody writes it.
    filled: bool,
    other: Ident,
    other_type: String,
    /// Equal values have equal bytes.
    deterministic: bool,
    /// `migrate_key`'s column is `migrate_row`'s, as the constraint compares them.
    equal: String,
}

/// What came of looking for rows: an answer, or why there is none.
type Said<T> = std::result::Result<T, String>;

/// Reads the foreign keys of a table of green.
pub(super) async fn read(green: &Client, table: &TableName) -> Result<Vec<Reference>> {
    let rows = green
        .query(LIST, &[&table.schema.as_str(), &table.name.as_str()])
        .await
        .doing(Kind::Server, || format!("cannot read the foreign keys of {} on green", table.plain()))?;
    let ident = |row: &Row, name: &str| Ident::new(row.get::<_, String>(name));
    let column = |row: &Row| Column {
        name: ident(row, "column_name"),
        type_name: row.get("type_name"),
        filled: row.get("filled"),
        other: ident(row, "other_column"),
        other_type: row.get("other_type"),
        deterministic: row.get("deterministic"),
        equal: row.get("equal"),
    };
    let of_one = |rows: &[Row]| Reference {
        name: rows[0].get("name"),
        other: TableName { schema: ident(&rows[0], "other_schema"), name: ident(&rows[0], "other_table") },
        is_full: rows[0].get("is_full"),
        why_not: rows[0].get("why_not"),
        columns: rows.iter().map(column).collect(),
    };
    let is_same = |one: &Row, next: &Row| one.get::<_, &str>("name") == next.get::<_, &str>("name");
    Ok(rows.chunk_by(is_same).map(of_one).collect())
}

/// The rows of the table referred to, of which only the key is made.
fn keys() -> TableName {
    TableName::new("pg_temp", "migrate_keys")
}

impl Trial<'_> {
    /// Counts the rows whose row referred to will not be on green. What is made for it is taken back at once.
    pub(super) async fn refer(&self, reference: &Reference, tried: &mut Tried) -> Result<()> {
        self.both("savepoint reference").await?;
        let said = self.missing(reference).await;
        let back = self.both("rollback to savepoint reference; release savepoint reference").await;
        let why = match said {
            Ok(Ok(found)) => {
                tried.note(self.name_of(reference), found);
                return back;
            }
            Ok(Err(why)) => why,
            Err(error) => match why_left_out(&error) {
                Some(why) => why,
                None => return Err(error),
            },
        };
        tried.left_out.push(format!("{} ({why})", reference.name));
        back
    }

    async fn both(&self, sql: &str) -> Result<()> {
        let doing = || "a savepoint for a trial of rows fails".to_owned();
        tokio::try_join!(self.blue.batch_execute(sql), self.green.batch_execute(sql))
            .doing(Kind::Server, doing)?;
        Ok(())
    }

    fn name_of(&self, reference: &Reference) -> String {
        let names: Vec<&str> = reference.columns.iter().map(|column| column.name.as_str()).collect();
        format!(
            "{} of {}: {} will not have the row that {} names",
            reference.name,
            self.green_name.plain(),
            reference.other.plain(),
            names.join(", ")
        )
    }

    async fn missing(&self, reference: &Reference) -> Result<Said<Found>> {
        let unwritten = || reference.columns.iter().find(|column| self.is_left_to_green(column));
        if let Some(why) = &reference.why_not {
            return Ok(Err(why.clone()));
        }
        if let Some(column) = unwritten() {
            return Ok(Err(format!("green fills {} by itself", column.name.as_str())));
        }
        let there = match self.carried.origin(&reference.other) {
            Origin::Joined => return Ok(Err(format!("rows of {} come of a join", reference.other.plain()))),
            Origin::Own => reference.other.clone(),
            Origin::Made(origins) => match self.make_keys(reference, &origins).await? {
                Ok(()) => keys(),
                Err(why) => return Ok(Err(why)),
            },
        };
        let doing = || format!("rows cannot be held against {}", reference.name);
        Ok(Ok(self.count(&reference.breaking(&there)).await.doing(Kind::Server, doing)?))
    }

    /// Whether some of the tables do not write a column that has a default.
    fn is_left_to_green(&self, column: &Column) -> bool {
        let writes = |fitted: &Fitted| fitted.outputs.iter().any(|output| output.name == column.name);
        column.filled && !self.kin.iter().all(|(_, fitted)| writes(fitted))
    }

    /// Makes the keys that blue's rows will come to in the table referred to.
    async fn make_keys(&self, reference: &Reference, origins: &[&Mapping]) -> Result<Said<()>> {
        let shape = target::read(self.green, &reference.other).await?;
        let mut sources = Vec::new();
        for mapping in origins {
            let blue = mapping.blue.name.plain();
            let Ok(fitted) = mapping.fit_for_copy(&shape) else {
                return Ok(Err(format!("{blue} does not fit {}", reference.other.plain())));
            };
            let Some(outputs) = reference.outputs(&fitted) else {
                return Ok(Err(format!("green fills the key of {} by itself", reference.other.plain())));
            };
            sources.push((fitted, outputs));
        }
        let names: String = reference.columns.iter().map(|column| format!(", {}", column.other)).collect();
        let create = format!(
            "create temporary table migrate_keys on commit drop as select 0::bigint as {MADE_OF}{names} from {} with no data",
            reference.other
        );
        let doing = || "a temporary table to try rows in cannot be made on green".to_owned();
        self.green.batch_execute(&create).await.doing(Kind::Server, doing)?;
        for (at, (fitted, outputs)) in sources.iter().enumerate() {
            let landing = Landing { at: self.kin.len() + at, fitted, outputs: outputs.clone(), made: keys() };
            self.green.batch_execute(&landing.create()).await.doing(Kind::Server, doing)?;
            let rows = match self.land_meant(reference, &landing).await? {
                Ok(rows) => rows,
                Err(why) => return Ok(Err(why)),
            };
            landing.make(self.green, rows).await?;
        }
        Ok(Ok(()))
    }

    /// Brings over the rows of blue that may be meant: all of a small table, else those with the keys that are asked for.
    async fn land_meant(&self, reference: &Reference, of: &Landing<'_>) -> Result<Said<u64>> {
        let blue = &of.fitted.blue;
        let size = landing::size(self.blue, blue).await?;
        let needed = of.needed();
        if needed.is_empty() {
            return Ok(Err(format!("its key in {} is made of no column", reference.other.plain())));
        }
        if size.bytes <= BYTES_MAX {
            let names = landing::names(needed.iter().map(|at| &of.fitted.sources[*at]));
            let places: Vec<String> = needed.iter().map(|at| format!("c{at}")).collect();
            let out =
                format!("copy (select {} from {}) to stdout", names.trim_start_matches(", "), size.from);
            let into = format!("copy {} ({}) from stdin", landing(of.at), places.join(", "));
            return Ok(Ok(landing::pump((self.blue, &out), (self.green, &into), blue).await?));
        }
        let asked = reference.asked(of);
        if asked.is_empty() {
            return Ok(Err(format!(
                "its key in {} is computed or of another type, and {} is larger than {} MiB",
                reference.other.plain(),
                blue.plain(),
                BYTES_MAX >> 20
            )));
        }
        self.ask(&asked, &size, of).await
    }

    /// Asks blue for the rows with the keys that the rows made refer to, some at a time. Keys go as parameters, which a server
    /// does not write to its log beside a statement that fails.
    async fn ask(&self, asked: &[Asked<'_>], size: &Size, of: &Landing<'_>) -> Result<Said<u64>> {
        let blue = &of.fitted.blue;
        let doing = || "green does not tell the keys that rows refer to".to_owned();
        let texts: Vec<String> = asked.iter().map(|asked| text(asked.refers)).collect();
        let given: Vec<String> = asked.iter().map(|asked| format!("{} is not null", asked.refers)).collect();
        let cursor = format!(
            "declare migrate_wanted no scroll cursor for select distinct {} from {} where {}",
            texts.join(", "),
            made(),
            given.join(" and ")
        );
        self.green.batch_execute(&cursor).await.doing(Kind::Server, doing)?;
        let fetch = format!("fetch {KEYS_AT_ONCE} from migrate_wanted");
        let (began, mut landed) = (Instant::now(), 0);
        loop {
            let wanted = self.green.query(&fetch, &[]).await.doing(Kind::Server, doing)?;
            if wanted.is_empty() {
                return Ok(Ok(landed));
            }
            if began.elapsed() > ASKING_MAX {
                let seconds = ASKING_MAX.as_secs();
                return Ok(Err(format!("{} was asked for {seconds} s for its keys", blue.plain())));
            }
            let meant = meant(asked, size, of);
            let meant = self
                .blue
                .query(&meant, &parameters(&columns(&wanted)))
                .await
                .doing(Kind::Server, || landing::cannot_read(blue))?;
            if meant.is_empty() {
                continue;
            }
            landed += self
                .green
                .execute(&of.bring(), &parameters(&columns(&meant)))
                .await
                .doing(Kind::Server, || "green does not take rows to try".into())?;
            if landed >= MEANT_MAX || meant.len() >= MEANT_AT_ONCE {
                return Ok(Err(format!("too many rows of {} may be meant", blue.plain())));
            }
        }
    }
}

impl Reference {
    /// The outputs that make the key referred to; none when green makes some of it.
    fn outputs(&self, fitted: &Fitted) -> Option<Vec<usize>> {
        let of = |column: &Column| fitted.outputs.iter().position(|output| output.name == column.other);
        self.columns.iter().map(of).collect()
    }

    /// The columns of blue that can be asked for a value of the key.
    fn asked<'r>(&'r self, of: &'r Landing<'_>) -> Vec<Asked<'r>> {
        let asked = |(column, at): (&'r Column, &usize)| {
            let output = &of.fitted.outputs[*at];
            let name = output.expression.as_column()?;
            let source = output.uses.iter().map(|at| &of.fitted.sources[*at]).find(|of| of.name == *name)?;
            Some(Asked { refers: &column.name, source: name, of_type: column.asked_as(&source.type_name)? })
        };
        self.columns.iter().zip(&of.outputs).filter_map(asked).collect()
    }

    /// A query for the rows made whose row is not there. Nothing is referred to by a key that is null, or is so in part.
    fn breaking(&self, there: &TableName) -> String {
        let each = |form: &dyn Fn(&Column) -> String, between: &str| -> String {
            self.columns.iter().map(form).collect::<Vec<_>>().join(between)
        };
        let given = each(&|column| format!("migrate_row.{} is not null", column.name), " and ");
        let equal = each(&|column| column.equal.clone(), " and ");
        let row = format!("select {MADE_OF}, {MADE_OF} from {} as migrate_row", made());
        let gone =
            format!("{row} where {given} and not exists (select from {there} as migrate_key where {equal})");
        if !self.is_full {
            return gone;
        }
        let some = each(&|column| format!("migrate_row.{} is not null", column.name), " or ");
        format!("{gone} union all {row} where ({some}) and not ({given})")
    }
}

impl Column {
    /// The type in which blue is asked for values, given blue's own: one in which a value is equal on both sides exactly when
    /// its text is. A value that the way to green may change cannot be asked for.
    fn asked_as(&self, blue: &str) -> Option<&'static str> {
        let family = family(blue)?;
        let is_same = [&self.type_name, &self.other_type].iter().all(|own| self::family(own) == Some(family));
        // A shorter type drops blanks at the end.
        let keeps = !self.other_type.contains('(') || self.other_type == blue;
        (is_same && keeps && self.deterministic).then_some(family)
    }
}

/// Types that are asked for as one.
fn family(type_name: &str) -> Option<&'static str> {
    match type_name {
        "smallint" | "integer" | "bigint" => Some("bigint"),
        "uuid" => Some("uuid"),
        "text" | "character varying" => Some("text"),
        limited if limited.starts_with("character varying(") && !limited.ends_with(']') => Some("text"),
        _ => None,
    }
}

/// A column of blue that is asked for the values that rows refer to.
struct Asked<'r> {
    /// The column that refers.
    refers: &'r Ident,
    /// Blue's column of the table referred to.
    source: &'r Ident,
    of_type: &'static str,
}

/// A query for the rows of blue with wanted keys, in text. Parameters: a text array for each that is asked.
fn meant(asked: &[Asked<'_>], size: &Size, of: &Landing<'_>) -> String {
    let texts: Vec<String> = of.needed().iter().map(|at| text(&of.fitted.sources[*at].name)).collect();
    let arrays: Vec<String> = (1..=asked.len()).map(|at| format!("${at}::text[]")).collect();
    let names: Vec<String> = (0..asked.len()).map(|at| format!("migrate_k{at}")).collect();
    let equal: Vec<String> = asked
        .iter()
        .enumerate()
        .map(|(at, asked)| format!("{} = migrate_k{at}::{}", asked.source, asked.of_type))
        .collect();
    format!(
        "select {} from {} join unnest({}) as migrate_wanted ({}) on {} limit {MEANT_AT_ONCE}",
        texts.join(", "),
        size.from,
        arrays.join(", "),
        names.join(", "),
        equal.join(" and ")
    )
}

/// A value as its type writes it.
fn text(column: &Ident) -> String {
    format!("case when {column} is not null then pg_catalog.format('%s', {column}) end")
}

/// Rows of texts, column by column.
fn columns(rows: &[Row]) -> Vec<Vec<Option<&str>>> {
    let count = rows.first().map_or(0, Row::len);
    (0..count).map(|at| rows.iter().map(|row| row.get(at)).collect()).collect()
}

fn parameters<'c>(columns: &'c [Vec<Option<&'c str>>]) -> Vec<&'c (dyn ToSql + Sync)> {
    columns.iter().map(|column| column as &(dyn ToSql + Sync)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blue_is_asked_only_for_values_that_come_to_green_as_they_are() {
        let asked = |own: &str, other: &str, deterministic: bool, blue: &str| {
            let column = Column {
                name: Ident::new("a"),
                type_name: own.to_owned(),
                filled: false,
                other: Ident::new("b"),
                other_type: other.to_owned(),
                deterministic,
                equal: String::new(),
            };
            column.asked_as(blue)
        };
        assert_eq!(asked("bigint", "integer", true, "smallint"), Some("bigint"));
        assert_eq!(asked("text", "character varying(9)", true, "character varying(9)"), Some("text"));
        assert_eq!(asked("text", "character varying(3)", true, "text"), None);
        assert_eq!(asked("text", "text", false, "text"), None);
        assert_eq!(asked("uuid", "uuid", true, "text"), None);
        assert_eq!(asked("numeric", "numeric", true, "numeric"), None);
    }
}
