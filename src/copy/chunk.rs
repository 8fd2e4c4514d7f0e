//! Cuts a very large table into ranges of its key, each copied as of a moment of its own and whole by itself.
//!
//! A copy that is cut goes on after the last whole range, and no snapshot is held for longer than one range needs. Ranges of
//! blocks could not have moments of their own (a row that moves between them would be lost); a key that stays what it is can, and
//! where it changes after all, the follower decides for the old and the new key separately.

use super::{
    cutting::{self, Chunking},
    lease, ledger,
    piece::Part,
    rows::{CopySpec, CopyTable},
    table::{self, TableCopier},
};
use crate::error::{Doing, Error, Kind, Result};
use crate::pg::name::{Ident, literal};
use tokio_postgres::Client;

const READ_CHUNK_KEY: &str = include_str!("../../sql/copy/read_chunk_key.sql");
const HAS_OTHER_UNIQUE: &str = include_str!("../../sql/copy/has_other_unique.sql");
const LIST_CHUNKS: &str = include_str!("../../sql/copy/list_chunks.sql");
const CUT_TABLE: &str = include_str!("../../sql/copy/cut_table.sql");
/// Blocks that are looked at to find where to cut; their rows are a fair sample of the keys.
const SAMPLED_BLOCKS: f64 = 2000.0;

/// A range of a table's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chunk {
    pub(super) number: i32,
    key_column: Ident,
    /// First key of the range; none: from the start.
    lower: Option<String>,
    /// The key after the range; none: to the end.
    upper: Option<String>,
    /// Blue's file of the table when it was cut.
    pub(super) filenode: String,
}

impl Chunk {
    /// The range as a condition on blue's rows.
    pub(super) fn condition(&self) -> String {
        let bound = |sign: &str, value: &Option<String>| {
            value.as_ref().map(|value| format!("{} {sign} {}", self.key_column, literal(value)))
        };
        let bounds: Vec<String> =
            [bound(">=", &self.lower), bound("<", &self.upper)].into_iter().flatten().collect();
        if bounds.is_empty() { "true".into() } else { bounds.join(" and ") }
    }
}

/// A table that is cut: the ranges that are left, and what those that are whole came to.
pub(super) struct Cut {
    pub(super) left: Vec<Part>,
    pub(super) rows: u64,
    pub(super) bytes: u64,
}

struct Key {
    column: Ident,
    filenode: String,
    blocks: u64,
}

/// The ranges of a table that are not whole yet: those of an earlier try, as long as blue's table is still the same file, or new
/// ones, for which the table is emptied on green. `None` when it is not to be cut.
///
/// # Errors
/// [`Kind::Request`] when the plan wants it cut and its key does not allow it.
pub(super) async fn cut(table: &CopyTable, copier: &TableCopier, spec: &CopySpec) -> Result<Option<Cut>> {
    let (chunk_bytes, must) = match table.chunking {
        Chunking::No => return Ok(None),
        Chunking::IfPossible(bytes) => (bytes, false),
        Chunking::Must(bytes) => (bytes, true),
    };
    let key = match has_other_unique(table, copier.green(), spec).await? {
        true => None,
        false => find_key(table, copier.blue()).await?,
    };
    let Some(key) = key else {
        return match must {
            true => Err(Error::new(Kind::Request, "it cannot be copied in ranges of its key")
                .hint("that takes a primary key of one integer or uuid column, which is its replica identity, and nothing else that is unique, on green too; leave it out of replicate.chunks")),
            false => Ok(None),
        };
    };
    if let Some(cut) = list(table, copier.green(), spec, &key).await? {
        return Ok(Some(cut));
    }
    let count = cutting::ranges(table.bytes, chunk_bytes);
    let bounds = bounds(table, copier.blue(), &key, count).await?;
    let green = copier.green();
    lease::begin(green, spec.epoch).await?;
    table::empty(green, &table.green).await?;
    ledger::forget_chunks(green, spec.attempt, &table.blue).await?;
    green
        .execute(
            CUT_TABLE,
            &[&spec.attempt, &table.blue.plain(), &key.column.as_str(), &bounds, &key.filenode],
        )
        .await
        .doing(Kind::Server, || "its ranges cannot be written down on green".into())?;
    lease::commit(green, "its ranges").await?;
    list(table, green, spec, &key).await
}

async fn has_other_unique(table: &CopyTable, green: &Client, spec: &CopySpec) -> Result<bool> {
    let name = &table.green;
    let row = green
        .query_one(
            HAS_OTHER_UNIQUE,
            &[&spec.attempt, &name.plain(), &name.schema.as_str(), &name.name.as_str()],
        )
        .await
        .doing(Kind::Server, || "green does not tell its indexes".into())?;
    Ok(row.get(0))
}

async fn find_key(table: &CopyTable, blue: &Client) -> Result<Option<Key>> {
    let row = blue
        .query_opt(READ_CHUNK_KEY, &[&table.blue.schema.as_str(), &table.blue.name.as_str()])
        .await
        .doing(Kind::Server, || "blue does not tell its key".into())?;
    Ok(row.and_then(|row| {
        Some(Key {
            column: Ident::new(row.get::<_, Option<String>>("key_column")?),
            filenode: row.get::<_, Option<String>>("filenode")?,
            blocks: u64::try_from(row.get::<_, i64>("blocks")).unwrap_or_default(),
        })
    }))
}

/// What an earlier try left; `None` when there is none, or it is of another file.
async fn list(table: &CopyTable, green: &Client, spec: &CopySpec, key: &Key) -> Result<Option<Cut>> {
    let rows = green
        .query(LIST_CHUNKS, &[&spec.attempt, &table.blue.plain()])
        .await
        .doing(Kind::Server, || "the copy's ledger cannot be read on green".into())?;
    let mut cut = Cut { left: Vec::new(), rows: 0, bytes: 0 };
    for row in &rows {
        let chunk = Chunk {
            number: row.get("number"),
            key_column: Ident::new(row.get::<_, String>("key_column")),
            lower: row.get("lower"),
            upper: row.get("upper"),
            filenode: row.get("filenode"),
        };
        if chunk.filenode != key.filenode || chunk.key_column != key.column {
            return Ok(None);
        }
        if row.get("whole") {
            cut.rows += u64::try_from(row.get::<_, i64>("rows")).unwrap_or_default();
            cut.bytes += u64::try_from(row.get::<_, i64>("bytes")).unwrap_or_default();
        } else {
            cut.left.push(Part::Keys(chunk));
        }
    }
    Ok((!rows.is_empty()).then_some(cut))
}

/// Keys that cut the table into about `count` equal parts, from a sample of its blocks.
async fn bounds(table: &CopyTable, blue: &Client, key: &Key, count: u64) -> Result<Vec<String>> {
    let percent = (100.0 * SAMPLED_BLOCKS / key.blocks.max(1) as f64).min(100.0);
    let sql = format!(
        "select key::text from (select {} as key, row_number() over (order by {0}) as at, count(*) over () as whole
           from only {} tablesample system ({percent:.6})) as sample
          where at * {count} / whole > (at - 1) * {count} / whole and at < whole order by at",
        key.column, table.blue
    );
    let rows = blue
        .query(&sql, &[])
        .await
        .doing(Kind::Server, || "blue does not give a sample of its keys".into())?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_a_condition_with_the_bounds_it_has() {
        let chunk = |lower: Option<&str>, upper: Option<&str>| Chunk {
            number: 1,
            key_column: Ident::new("Id"),
            lower: lower.map(str::to_owned),
            upper: upper.map(str::to_owned),
            filenode: "1".into(),
        };
        assert_eq!(chunk(None, None).condition(), "true");
        assert_eq!(chunk(Some("-5"), None).condition(), "\"Id\" >= '-5'");
        assert_eq!(chunk(Some("1"), Some("9")).condition(), "\"Id\" >= '1' and \"Id\" < '9'");
    }
}
