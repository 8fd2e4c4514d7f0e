//! Copies one table, or one piece of it, through a pair of connections.

mod mapped;

use super::{
    format::{self, Freeze},
    lease, ledger,
    moment::{HeldMoment, Moment},
    piece::{Part, Piece, TableRun},
    pump::{Broken, Meter, pump},
    rows::{CopySpec, CopyTable, Outcome, Shared},
    throttle::Throttle,
};
use crate::error::{Doing, Error, Kind, Result};
use crate::pg::{
    connect,
    name::{Ident, TableName, literal},
};
use futures_util::FutureExt;
use mapped::Landed;
use std::collections::{BTreeSet, HashMap};
use tokio_postgres::{Client, error::SqlState};

const DESCRIBE_TABLE: &str = include_str!("../../sql/copy/describe_table.sql");

/// One worker's connections.
pub(super) struct TableCopier {
    blue: Client,
    blue_pid: i32,
    green: Client,
    green_pid: i32,
}

/// Why a try ended without rows.
enum Failure {
    /// Somebody on blue needs the table; try again later.
    Aside,
    /// It was truncated or rewritten on blue since the moment of its pieces.
    Rewritten,
    /// Another try at the table has taken the place of this one.
    GivenUp,
    /// Its snapshot was held for too long while the throttle made us wait.
    HeldTooLong,
    /// Give up.
    Error(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Error(error)
    }
}

/// What follows on blue when a table's rows are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    /// Another table, as of the same moment.
    ReadOn,
    /// Nothing: lock and snapshot are let go.
    LetGo,
}

/// What a side says of a table.
struct Shape {
    kind: TableShape,
    rewritten: bool,
    /// Its file; none when it has no rows of its own.
    filenode: Option<String>,
    /// Type oid by column; `None` for a generated column.
    types: HashMap<String, Option<u32>>,
}

/// What kind of relation it is, as far as the copy must treat it differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TableShape {
    /// Rows of its own.
    Plain,
    /// Rows in its leaves.
    Partitioned,
    /// A foreign table or a view.
    Other,
}

impl TableCopier {
    /// Opens a worker's connections.
    pub(super) async fn connect(spec: &CopySpec) -> Result<TableCopier> {
        let blue = lease::session(&spec.blue, "copy", spec.epoch).await?;
        let green = lease::session(&spec.green, "copy", spec.epoch).await?;
        green
            .batch_execute("set session_replication_role = replica; set synchronous_commit = off")
            .await
            .map_err(lease::no_replica_role)?;
        let (blue_pid, green_pid) = (pid(&blue).await?, pid(&green).await?);
        Ok(TableCopier { blue, blue_pid, green, green_pid })
    }

    /// How many blocks a table of blue has.
    pub(super) async fn blocks(&self, table: &TableName) -> Result<u64> {
        let row = self
            .blue
            .query_one(
                "select pg_relation_size($1::text::regclass) / current_setting('block_size')::int",
                &[&table.to_string()],
            )
            .await
            .doing(Kind::Server, || "blue does not tell its size".into())?;
        Ok(u64::try_from(row.get::<_, i64>(0)).unwrap_or(0))
    }

    /// Empties tables of green, in a transaction of its own.
    pub(super) async fn empty(&self, tables: impl Iterator<Item = &TableName>, epoch: i64) -> Result<()> {
        lease::begin(&self.green, epoch).await?;
        for table in tables {
            empty(&self.green, table).await?;
        }
        lease::commit(&self.green, "the empty table").await
    }

    /// The session on blue.
    pub(super) fn blue(&self) -> &Client {
        &self.blue
    }

    /// The session on green.
    pub(super) fn green(&self) -> &Client {
        &self.green
    }

    /// Copies a piece, or steps aside for somebody on blue; then nothing of it is on green.
    pub(super) async fn copy(&mut self, piece: &Piece, shared: &Shared) -> Result<Outcome> {
        let spec = &shared.spec;
        let meter = |run| Meter::new(run, &shared.ledger, &shared.ears, self.green_pid);
        let mut meters: Vec<Meter<'_>> = piece.runs().map(|run| meter(run)).collect();
        // Before it is under watch: the first piece of a table empties it on green, and may wait for that.
        let held = match piece.part {
            Part::Blocks(_) => Some(piece.run.held(spec, self).await?),
            Part::Whole | Part::Keys(_) => None,
        };
        let watching = shared.watch.watch(self.blue_pid)?;
        let result = self.try_copy(piece, shared, held.as_deref(), &mut meters).await;
        drop(watching);
        let outcome = match result {
            Ok(()) => return Ok(Outcome::Copied),
            Err(Failure::Error(error)) => return Err(error),
            Err(Failure::Aside) => Outcome::Yielded,
            Err(Failure::Rewritten) => Outcome::Rewritten,
            Err(Failure::GivenUp) => Outcome::GivenUp,
            Err(Failure::HeldTooLong) => {
                // Blue would send the rest of the table before it took anything else.
                connect::cancel(&spec.blue, &self.blue).await?;
                Outcome::HeldTooLong
            }
        };
        meters.iter().for_each(Meter::take_back);
        self.roll_back(spec).await?;
        Ok(outcome)
    }

    /// Takes a try back on both sides. Blue's session may have been ended, for somebody who waited for its lock.
    async fn roll_back(&mut self, spec: &CopySpec) -> Result<()> {
        let refused = |side: &str| format!("a copy cannot be rolled back on {side}");
        self.green.batch_execute("rollback").await.doing(Kind::Server, || refused("green"))?;
        if self.blue.batch_execute("rollback").await.is_err() {
            self.blue = lease::session(&spec.blue, "copy", spec.epoch).await?;
            self.blue_pid = pid(&self.blue).await?;
        }
        Ok(())
    }

    /// Marks a table in pieces as whole, when all are committed; without a moment when they have their own.
    pub(super) async fn mark(&self, run: &TableRun, moment: Option<&Moment>, spec: &CopySpec) -> Result<()> {
        lease::begin(&self.green, spec.epoch).await?;
        ledger::mark_whole(&self.green, spec.attempt, run, moment).await?;
        lease::commit(&self.green, "the copy's ledger").await
    }

    /// Marks what has a moment of its own, in the transaction that fills it.
    async fn mark_part(
        &self,
        part: &Part,
        run: &TableRun,
        spec: &CopySpec,
        counts: (u64, u64),
        moment: &Moment,
    ) -> Result<()> {
        match part {
            Part::Keys(chunk) => {
                let table = &run.table().blue;
                ledger::mark_chunk(&self.green, spec.attempt, table, chunk.number, counts, moment).await
            }
            _ => ledger::mark_whole(&self.green, spec.attempt, run, Some(moment)).await,
        }
    }

    async fn try_copy(
        &self,
        piece: &Piece,
        shared: &Shared,
        held: Option<&HeldMoment>,
        meters: &mut [Meter<'_>],
    ) -> Result<(), Failure> {
        let spec = &shared.spec;
        self.open_blue(piece.runs().map(|run| &run.table().blue), held).await?;
        let mut shapes = Vec::new();
        for run in piece.runs() {
            let blue = describe(&self.blue, "blue", &run.table().blue).await?;
            if blue.rewritten || piece.part.is_of_another_file(&blue.filenode) {
                return Err(Failure::Rewritten);
            }
            shapes.push(blue);
        }
        let own_moment = match held {
            Some(_) => None,
            None => Some(Moment::read(&self.blue).await?),
        };
        lease::begin(&self.green, spec.epoch).await?;
        if piece.part == Part::Whole {
            // All that are merged at once: none may empty what another has filled.
            for table in piece.runs().flat_map(|run| run.greens()).collect::<BTreeSet<_>>() {
                empty(&self.green, table).await?;
            }
        }
        let last = shapes.len().saturating_sub(1);
        for (at, ((run, blue), meter)) in piece.runs().zip(&shapes).zip(meters).enumerate() {
            let then = if at == last { Then::LetGo } else { Then::ReadOn };
            self.fill((run, &piece.part), blue, then, meter, &shared.throttle).await?;
            if let Some(moment) = &own_moment {
                self.mark_part(&piece.part, run, spec, meter.of_piece(), moment).await?;
            }
        }
        // Looked at while we hold green's table, which the next try must empty first: so either it sees us gone, or we see it.
        if piece.run.is_given_up() {
            return Err(Failure::GivenUp);
        }
        lease::commit(&self.green, "its rows").await?;
        Ok(())
    }

    /// Moves a table's rows, or a part of them, to all that it becomes on green.
    async fn fill(
        &self,
        (run, part): (&TableRun, &Part),
        blue: &Shape,
        then: Then,
        meter: &mut Meter<'_>,
        throttle: &Throttle,
    ) -> Result<(), Failure> {
        let table = run.table();
        if table.mapping.is_none() {
            let green = describe(&self.green, "green", &table.green).await?;
            let (from, into) = straight(table, part, blue, &green)?;
            self.pipe((&from, &into), then, meter, throttle).await?;
            return Ok(());
        }
        let landed = Landed::make(&self.green, &run.source, |columns| blue.types_of(columns, "blue")).await?;
        let (from, into) = (landed.copy_out(&table.blue, part), landed.copy_in());
        let rows = self.pipe((&from, &into), then, meter, throttle).await?;
        meter.settle(landed.write(&self.green, rows).await?);
        Ok(())
    }

    /// Begins on blue, with the tables locked against being dropped, truncated or rewritten. A table of its own is locked
    /// first and then looked at as it is now; a piece looks at it as of the moment of all.
    async fn open_blue(
        &self,
        tables: impl Iterator<Item = &TableName>,
        held: Option<&HeldMoment>,
    ) -> Result<(), Failure> {
        let tables: Vec<_> = tables.map(|table| format!("only {table}")).collect();
        let import = held.map_or_else(String::new, |held| {
            format!("; set transaction snapshot {}", literal(&held.exported))
        });
        self.blue
            .batch_execute(&format!("begin isolation level repeatable read read only{import}"))
            .await
            // A cancel that was meant for the statement before may strike here.
            .map_err(|error| aside_or("blue does not begin to read", error))?;
        self.blue
            .batch_execute(&format!(
                "set local lock_timeout = '5s'; lock table {} in access share mode",
                tables.join(", ")
            ))
            .await
            .map_err(|error| aside_or("it cannot be locked on blue", error))
    }

    /// Moves the rows, and ends blue's transaction unless there is more to read in it.
    ///
    /// Its COMMIT is sent behind the COPY at once: so lock and snapshot are let go when blue has sent its last row, though green
    /// may have megabytes of them in front of it, and while it has, a session of blue's that is done cannot be cancelled.
    async fn pipe(
        &self,
        (from, into): (&str, &str),
        then: Then,
        meter: &mut Meter<'_>,
        throttle: &Throttle,
    ) -> Result<u64, Failure> {
        let sink = self.green.copy_in(into).await.doing(Kind::Server, || "green refuses the copy".into())?;
        let out = self.blue.copy_out(from).await.map_err(|error| aside_or("blue refuses the copy", error))?;
        let end = match then {
            Then::LetGo => "commit",
            Then::ReadOn => "",
        };
        let mut let_go = Box::pin(self.blue.batch_execute(end));
        let at_once = (&mut let_go).now_or_never();
        let rows = pump(out, sink, meter, throttle).await.map_err(|broken| match broken {
            Broken::Blue(error) => aside_or("blue ended the copy", error),
            Broken::Green(error) => {
                Failure::Error(Error::new(Kind::Server, "green ended the copy").source(error))
            }
            Broken::Still(side) => Failure::Error(
                Error::new(Kind::Deadline, format!("{side} stood still in the middle of the copy"))
                    .hint("look at its pg_stat_activity, disk and network; then replicate again"),
            ),
            Broken::Ledger(error) => Failure::Error(error),
            Broken::HeldTooLong => Failure::HeldTooLong,
            Broken::Short => {
                Failure::Error(Error::new(Kind::Bug, "green's copy ended before blue's, without an error"))
            }
        })?;
        let ended = match at_once {
            Some(ended) => ended,
            None => let_go.await,
        };
        ended.doing(Kind::Server, || "blue's read cannot be ended".into())?;
        Ok(rows)
    }
}

/// The two statements that pipe a table's rows straight into green's.
fn straight(table: &CopyTable, part: &Part, blue: &Shape, green: &Shape) -> Result<(String, String)> {
    let format =
        format::choose(&blue.types_of(&table.columns, "blue")?, &green.types_of(&table.columns, "green")?);
    let freeze = match (part, green.kind) {
        (Part::Whole, TableShape::Plain) => Freeze::Yes,
        _ => Freeze::No,
    };
    let from = format.copy_out(&table.blue, &table.columns, part);
    Ok((from, format.copy_in(&table.green, &table.columns, freeze)))
}

/// What blue says of a statement that was cancelled, a session that was ended and a lock that was not to be had.
const ASIDE: [SqlState; 3] =
    [SqlState::QUERY_CANCELED, SqlState::ADMIN_SHUTDOWN, SqlState::LOCK_NOT_AVAILABLE];

/// Stepping aside is no failure of the copy.
fn aside_or(what: &str, error: tokio_postgres::Error) -> Failure {
    match error.code() {
        Some(code) if ASIDE.contains(code) => Failure::Aside,
        // A session that is ended while it waits for us to take its rows has no way to say so.
        None if error.is_closed() => Failure::Aside,
        _ => Failure::Error(
            Error::new(Kind::Server, what)
                .hint("see to the cause, then replicate again: tables that are whole stay")
                .source(error),
        ),
    }
}

/// Empties a table of green, in the transaction that is open.
pub(super) async fn empty(green: &Client, table: &TableName) -> Result<()> {
    let kind = describe(green, "green", table).await?.kind;
    truncate(green, table, kind).await
}

async fn truncate(green: &Client, table: &TableName, kind: TableShape) -> Result<()> {
    // ONLY: children of plain inheritance have rows of their own.
    let only = if kind == TableShape::Partitioned { "" } else { "only " };
    green
        .batch_execute(&format!("set local lock_timeout = '30s'; truncate table {only}{table}"))
        .await
        .doing(Kind::Server, || "it cannot be emptied on green".into())
}

impl Shape {
    /// The type oids of the columns to copy, in their order.
    fn types_of(&self, columns: &[Ident], side: &str) -> Result<Vec<u32>> {
        let mut types = Vec::with_capacity(columns.len());
        for column in columns {
            match self.types.get(column.as_str()) {
                Some(Some(oid)) => types.push(*oid),
                Some(None) => {
                    return Err(Error::new(
                        Kind::Request,
                        format!("column {column} is generated on {side} and cannot be copied"),
                    )
                    .hint("leave it out: green computes it"));
                }
                None => {
                    return Err(Error::new(Kind::Request, format!("column {column} is missing on {side}"))
                        .hint("name it in replicate.map, or make the two shapes agree"));
                }
            }
        }
        Ok(types)
    }
}

/// Looks at a table. On blue, inside the copy's transaction, so that a rewrite since the snapshot shows.
async fn describe(client: &Client, side: &str, table: &TableName) -> Result<Shape> {
    let rows = client
        .query(DESCRIBE_TABLE, &[&table.schema.as_str(), &table.name.as_str()])
        .await
        .doing(Kind::Server, || format!("it cannot be looked at on {side}"))?;
    let Some(first) = rows.first() else {
        return Err(Error::new(Kind::Request, format!("there is no table {} on {side}", table.plain())));
    };
    let kind = match first.get::<_, &str>("kind") {
        "r" => TableShape::Plain,
        "p" => TableShape::Partitioned,
        _ => TableShape::Other,
    };
    let types = rows
        .iter()
        .filter_map(|row| {
            let name: Option<String> = row.get("column_name");
            Some((name?, (!row.get::<_, bool>("generated")).then(|| row.get::<_, u32>("type_oid"))))
        })
        .collect();
    Ok(Shape { kind, rewritten: first.get("rewritten"), filenode: first.get("filenode"), types })
}

async fn pid(client: &Client) -> Result<i32> {
    let row = client
        .query_one("select pg_backend_pid()", &[])
        .await
        .doing(Kind::Server, || "a session does not tell its process".into())?;
    Ok(row.get(0))
}
