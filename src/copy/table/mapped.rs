//! The landing of a mapped table's rows: blue's shape on green, for the length of one piece.

use crate::copy::format::{self, Format, Freeze};
use crate::copy::piece::{self, Part};
use crate::error::{Doing, Error, Kind, Result};
use crate::mapping::{Fitted, LANDED, Source, as_error};
use crate::pg::{
    name::{Ident, TableName},
    target,
};
use std::time::Duration;
use tokio_postgres::Client;

/// The landing table. It goes with the transaction, whatever becomes of that.
const LANDING: &str = "migrate_copied";

/// The longest green may take to write one piece from its landing: it tells nothing on the way.
const WRITE_MAX: Duration = Duration::from_secs(6 * 3600);

/// A landing, and how green is written from it.
pub(super) struct Landed {
    /// The columns of blue that land.
    sources: Vec<Source>,
    /// What is made of them: several tables of green when blue's is split.
    ways: Vec<Fitted>,
    format: Format,
}

impl Landed {
    /// Makes it, in the transaction that is open on green, in place of one of before.
    pub async fn make(
        green: &Client,
        table: &piece::Source,
        type_oids: impl Fn(&[Ident]) -> Result<Vec<u32>>,
    ) -> Result<Landed> {
        let mut ways = Vec::new();
        for way in table.ways() {
            let Some(mapping) = &way.mapping else {
                return Err(Error::new(Kind::Bug, format!("{} is split and not mapped", way.blue.plain())));
            };
            let shape = target::read(green, &way.green).await?;
            let fitted = mapping.fit_for_copy(&shape).map_err(|problems| as_error(&way.blue, &problems))?;
            ways.push(fitted);
        }
        let mut sources: Vec<Source> = Vec::new();
        for source in ways.iter().flat_map(|fitted| &fitted.sources) {
            if !sources.contains(source) {
                sources.push(source.clone());
            }
        }
        let names: Vec<Ident> = sources.iter().map(|source| source.name.clone()).collect();
        let types = type_oids(&names)?;
        // The landing has blue's own types; of those that are safe, the oid is the same everywhere.
        let format = format::choose(&types, &types);
        let columns: Vec<_> =
            sources.iter().enumerate().map(|(at, source)| format!("c{at} {}", source.type_name)).collect();
        green
            .batch_execute(&format!(
                "drop table if exists pg_temp.{LANDING}; create temporary table {LANDING} ({}) on commit drop",
                columns.join(", ")
            ))
            .await
            .doing(Kind::Server, || "a landing table cannot be made on green".into())?;
        Ok(Landed { sources, ways, format })
    }

    /// `COPY … TO STDOUT` of the columns that the mapping needs.
    pub fn copy_out(&self, table: &TableName, part: &Part) -> String {
        let sources: Vec<Ident> = self.sources.iter().map(|source| source.name.clone()).collect();
        self.format.copy_out(table, &sources, part)
    }

    /// `COPY … FROM STDIN` into the landing.
    pub fn copy_in(&self) -> String {
        let columns: Vec<Ident> = (0..self.sources.len()).map(|at| Ident::new(format!("c{at}"))).collect();
        self.format.copy_in(&TableName::new("pg_temp", LANDING), &columns, Freeze::No)
    }

    /// Writes green's rows, and gives their number.
    pub async fn write(&self, green: &Client, landed_rows: u64) -> Result<u64> {
        let mut rows = 0;
        for way in &self.ways {
            rows += self.write_way(way, green, landed_rows).await?;
        }
        Ok(rows)
    }

    async fn write_way(&self, fitted: &Fitted, green: &Client, landed_rows: u64) -> Result<u64> {
        let landing = TableName::new("pg_temp", LANDING).to_string();
        let place = |at: usize| self.sources.iter().position(|source| *source == fitted.sources[at]);
        let cell = &mut |_, at: usize| format!("{LANDED}.c{}", place(at).unwrap_or(usize::MAX));
        let insert = fitted.insert_landed(&landing, "true", cell);
        let written = tokio::time::timeout(WRITE_MAX, green.execute(&insert, &[])).await;
        let rows = written
            .map_err(|_| {
                Error::new(
                    Kind::Deadline,
                    format!("green has not written a piece of it within {} h", WRITE_MAX.as_secs() / 3600),
                )
                .hint("look at its pg_stat_activity for what it waits for; then replicate again")
            })?
            .doing(Kind::Server, || "green refuses mapped rows".into())?;
        if fitted.condition.is_none() && rows != landed_rows {
            let what = format!("green wrote {rows} mapped rows of {landed_rows}");
            return Err(Error::new(Kind::Gate, what).hint(
                "does a trigger or rule of green's table leave rows out? Disable it until the switch.",
            ));
        }
        Ok(rows)
    }
}
