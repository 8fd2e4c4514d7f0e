//! Where blue's rows land on green, and how green's are made of them: a temporary table for each of blue's, and a function.

use crate::error::{Doing, Kind, Result};
use crate::mapping::{Fitted, Source};
use crate::pg::name::{TableName, literal};
use futures_util::{SinkExt, StreamExt};
use std::collections::BTreeSet;
use std::pin::pin;
use tokio_postgres::Client;

const EXTENT: &str = include_str!("../../../sql/mapping/read_extent.sql");

/// Rows of each table are numbered from a multiple of this on.
const NUMBERS: i64 = 1 << 40;

/// The rows that green would not even make, with what it said.
pub(super) const REFUSED: &str = "pg_temp.migrate_refused";

/// A landing, and what is made of it.
pub(super) struct Landing<'l> {
    /// Which of the trial's it is.
    pub at: usize,
    pub fitted: &'l Fitted,
    /// The columns of green that are made.
    pub outputs: Vec<usize>,
    /// Where they are made.
    pub made: TableName,
}

/// How much a table of blue is to read.
pub(super) struct Size {
    pub bytes: u64,
    /// The table as it stands after FROM: without what inherits from it, with its partitions.
    pub from: String,
}

/// The rows of one of blue's tables.
pub(super) fn landing(at: usize) -> String {
    format!("pg_temp.migrate_trial_{at}")
}

/// Which landing a row's number is of.
pub(super) fn landing_of(landed: i64) -> usize {
    usize::try_from(landed / NUMBERS).unwrap_or_default()
}

impl Landing<'_> {
    /// The table, and the function that makes rows of it: all at once, and when one is refused, by halves.
    pub fn create(&self) -> String {
        let (at, fitted) = (self.at, self.fitted);
        let sources = fitted.sources.iter().enumerate();
        let columns: String = sources.map(|(at, source)| format!(", c{at} {}", source.type_name)).collect();
        let chosen = "migrate_landed.landed between $1 and $2";
        let make = fitted.try_landed(&self.outputs, &landing(at), &self.made, chosen);
        format!(
            "create temporary table migrate_trial_{at} (landed bigint generated always as identity (start with {first}), key text{columns}) on commit drop;
         create function pg_temp.migrate_make_{at}(bigint, bigint) returns void language plpgsql as $migrate$
         declare
             said_state text;
             said_rule text;
             said_type text;
         begin
             begin
                 execute {make} using $1, $2;
                 return;
             exception when others then
                 get stacked diagnostics said_state = returned_sqlstate, said_rule = constraint_name, said_type = pg_datatype_name;
                 if left(said_state, 2) in ('25', '40', '42', '53', '55', '57', '58', 'XX') then
                     raise;
                 end if;
             end;
             if $1 >= $2 then
                 insert into {REFUSED} values ($1, said_state, said_rule, said_type);
             else
                 perform pg_temp.migrate_make_{at}($1, ($1 + $2) / 2);
                 perform pg_temp.migrate_make_{at}(($1 + $2) / 2 + 1, $2);
             end if;
         end $migrate$;
         ",
            first = self.first_number(),
            make = literal(&make),
        )
    }

    /// Has green make its rows of those that landed.
    pub async fn make(&self, green: &Client, rows: u64) -> Result<()> {
        let first = self.first_number();
        let last = first.saturating_add(i64::try_from(rows).unwrap_or(NUMBERS)) - 1;
        if rows > 0 {
            green
                .execute(&format!("select pg_temp.migrate_make_{}($1, $2)", self.at), &[&first, &last])
                .await
                .doing(Kind::Server, || format!("green cannot try rows of {}", self.fitted.blue.plain()))?;
        }
        Ok(())
    }

    /// Lands rows of the sources that are needed. Parameters: a text array for each.
    pub fn bring(&self) -> String {
        let needed = self.needed();
        let places: Vec<String> = needed.iter().map(|at| format!("c{at}")).collect();
        let values: Vec<String> =
            needed.iter().map(|at| format!("c{at}::{}", self.fitted.sources[*at].type_name)).collect();
        let arrays: Vec<String> = (1..=needed.len()).map(|at| format!("${at}::text[]")).collect();
        format!(
            "insert into {} ({places}) select {} from unnest({}) as migrate_brought ({places})",
            landing(self.at),
            values.join(", "),
            arrays.join(", "),
            places = places.join(", "),
        )
    }

    /// The sources that these columns, and the condition, are made of.
    pub fn needed(&self) -> BTreeSet<usize> {
        let of_outputs = self.outputs.iter().flat_map(|at| self.fitted.outputs[*at].uses.iter());
        let of_condition = self.fitted.condition.iter().flat_map(|(_, uses)| uses);
        of_outputs.chain(of_condition).copied().collect()
    }

    fn first_number(&self) -> i64 {
        i64::try_from(self.at).unwrap_or_default() * NUMBERS + 1
    }
}

/// How much there is of a table on blue.
pub(super) async fn size(blue: &Client, table: &TableName) -> Result<Size> {
    let row =
        blue.query_one(EXTENT, &[&table.to_string()]).await.doing(Kind::Server, || cannot_read(table))?;
    let only = if row.get("is_partitioned") { "" } else { "only " };
    Ok(Size {
        bytes: u64::try_from(row.get::<_, i64>("bytes")).unwrap_or_default(),
        from: format!("{only}{table}"),
    })
}

/// Brings rows of a table from blue to green, by a COPY on each side, and gives their number.
pub(super) async fn pump(
    (blue, out): (&Client, &str),
    (green, into): (&Client, &str),
    table: &TableName,
) -> Result<u64> {
    let doing = || cannot_read(table);
    let refuses = || "green does not take rows to try".to_owned();
    let out = blue.copy_out(out).await.doing(Kind::Server, doing)?;
    let sink = green.copy_in(into).await.doing(Kind::Server, refuses)?;
    let (mut out, mut sink) = (pin!(out), pin!(sink));
    while let Some(piece) = out.next().await {
        sink.feed(piece.doing(Kind::Server, doing)?).await.doing(Kind::Server, refuses)?;
    }
    sink.finish().await.doing(Kind::Server, refuses)
}

/// The names of sources, each after a comma.
pub(super) fn names<'s>(sources: impl Iterator<Item = &'s Source>) -> String {
    sources.map(|source| format!(", {}", source.name)).collect()
}

pub(super) fn cannot_read(table: &TableName) -> String {
    format!("cannot read rows of {} on blue", table.plain())
}
