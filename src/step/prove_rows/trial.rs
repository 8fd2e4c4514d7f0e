//! One trial: blue's rows are landed on green, green makes rows of them in a table without keys and checks, and each rule is
//! then asked how many break it, so that one row counts under every rule that it breaks.

use super::{BYTES_MAX, Broken, Extent, ROWS_MAX, Tried};
use crate::error::{Doing, Error, Kind, Result};
use crate::mapping::{Fitted, MADE_OF, Mapping};
use crate::pg::name::{TableName, literal};
use futures_util::{SinkExt, StreamExt};
use std::pin::pin;
use tokio_postgres::{Client, Row};

const LIST_RULES: &str = include_str!("../../../sql/mapping/list_row_rules.sql");

/// Blue's rows of all tables, each with its number and its key in text.
const LANDED_ROWS: &str = "pg_temp.migrate_landed_rows";

/// Rows of each table are numbered from a multiple of this on.
const NUMBERS: i64 = 1 << 40;

/// The rows that green would not even make, with what it said.
const REFUSED: &str = "pg_temp.migrate_refused";

/// A key is no longer than this when it is shown.
const KEY_CHARACTERS: usize = 100;

/// How many keys are shown for a rule.
const KEYS_SHOWN: usize = 3;

type Answer<T> = std::result::Result<T, tokio_postgres::Error>;

/// A trial in the transactions that are open on both sides.
pub(super) struct Trial<'t> {
    /// What becomes one table of green: several mappings when blue's tables are merged there.
    pub kin: &'t [(&'t Mapping, Fitted)],
    pub green_name: &'t TableName,
    pub blue: &'t Client,
    pub green: &'t Client,
}

/// Something that green demands of its rows.
struct Rule {
    kind: String,
    name: String,
    expression: Option<String>,
    keys: Vec<String>,
    predicate: Option<String>,
    nulls_distinct: bool,
}

/// The table that rows are made in.
fn made() -> TableName {
    TableName::new("pg_temp", "migrate_made")
}

impl Trial<'_> {
    pub async fn run(&self) -> Result<Tried> {
        let rules = self.rules().await?;
        self.prepare(&rules).await?;
        let mut tried =
            Tried { rows: 0, extent: Extent::All, rules: 0, broken: Vec::new(), left_out: Vec::new() };
        for (at, (mapping, fitted)) in self.kin.iter().enumerate() {
            let rows = self.land(at, mapping, fitted, &mut tried).await?;
            self.make(at, rows, &mapping.blue.name).await?;
            tried.rules += fitted.outputs.len();
        }
        self.list_refused(&mut tried).await?;
        for rule in rules {
            self.hold(&rule, &mut tried).await?;
        }
        Ok(tried)
    }

    async fn rules(&self) -> Result<Vec<Rule>> {
        let green = self.green_name;
        let rows = self
            .green
            .query(LIST_RULES, &[&green.schema.as_str(), &green.name.as_str()])
            .await
            .doing(Kind::Server, || format!("cannot read the rules of {} on green", green.plain()))?;
        let rule = |row: &Row| Rule {
            kind: row.get("kind"),
            name: row.get("name"),
            expression: row.get("expression"),
            keys: row.get("keys"),
            predicate: row.get("predicate"),
            nulls_distinct: row.get("nulls_distinct"),
        };
        Ok(rows.iter().map(rule).collect())
    }

    /// The temporary tables, and for each of blue's tables the function that makes rows of it: all at once, and when one is
    /// refused, by halves.
    async fn prepare(&self, rules: &[Rule]) -> Result<()> {
        let nullable: String = rules
            .iter()
            .filter(|rule| rule.kind == "not_null")
            .filter_map(|rule| rule.expression.as_ref())
            .map(|column| format!("alter table {} alter column {column} drop not null; ", made()))
            .collect();
        let landed: Vec<String> =
            (0..self.kin.len()).map(|at| format!("select landed, key from {}", landing(at))).collect();
        let each: Vec<String> =
            self.kin.iter().enumerate().map(|(at, (_, fitted))| prepare_one(at, fitted)).collect();
        let sql = format!(
            "create temporary table migrate_made ({MADE_OF} bigint, like {green} including generated) on commit drop; {nullable}
             create temporary table migrate_refused (landed bigint, state text, rule text, of_type text) on commit drop;
             {each}
             create temporary view migrate_landed_rows as {landed}",
            green = self.green_name,
            each = each.concat(),
            landed = landed.join(" union all "),
        );
        let doing = || "temporary tables to try rows in cannot be made on green".to_owned();
        self.green.batch_execute(&sql).await.doing(Kind::Server, doing)
    }

    /// Brings the rows of one of blue's tables over, and gives their number.
    async fn land(&self, at: usize, mapping: &Mapping, fitted: &Fitted, tried: &mut Tried) -> Result<u64> {
        let blue = &mapping.blue.name;
        let doing = || format!("cannot read rows of {} on blue", blue.plain());
        let size = self
            .blue
            .query_one("select pg_table_size($1::text::regclass)", &[&blue.to_string()])
            .await
            .doing(Kind::Server, doing)?;
        let bytes = u64::try_from(size.get::<_, i64>(0)).unwrap_or_default();
        let (out, into) = self.copies(at, mapping, fitted, bytes);
        let out = self.blue.copy_out(&out).await.doing(Kind::Server, doing)?;
        let refuses = || "green does not take rows to try".to_owned();
        let sink = self.green.copy_in(&into).await.doing(Kind::Server, refuses)?;
        let (mut out, mut sink) = (pin!(out), pin!(sink));
        while let Some(piece) = out.next().await {
            sink.feed(piece.doing(Kind::Server, doing)?).await.doing(Kind::Server, refuses)?;
        }
        let rows = sink.finish().await.doing(Kind::Server, refuses)?;
        if bytes > BYTES_MAX || rows >= ROWS_MAX {
            tried.extent = Extent::Sample;
        }
        tried.rows += rows;
        Ok(rows)
    }

    /// The two statements that bring rows over. Of a large table, blocks are taken at random, the same ones each time.
    fn copies(&self, at: usize, mapping: &Mapping, fitted: &Fitted, bytes: u64) -> (String, String) {
        let (sources, blue) = (&fitted.sources, &mapping.blue);
        let text = |name| format!("coalesce(pg_catalog.format('%s', {name}), '')");
        let texts: Vec<String> = blue.key.iter().map(text).collect();
        // Of tables that are merged, the key alone does not say whose it is.
        let whose = if self.kin.len() > 1 { format!("{} ", blue.name.plain()) } else { String::new() };
        let columns: String = sources.iter().map(|source| format!(", {}", source.name)).collect();
        let sample = match bytes > BYTES_MAX {
            true => {
                format!(" tablesample system ({:.6}) repeatable (1)", BYTES_MAX as f64 / bytes as f64 * 100.0)
            }
            false => String::new(),
        };
        let places: String = (0..sources.len()).map(|at| format!(", c{at}")).collect();
        (
            format!(
                "copy (select {} || left(concat_ws(', ', {}), {KEY_CHARACTERS}){columns} from only {}{sample} limit {ROWS_MAX}) to stdout",
                literal(&whose),
                texts.join(", "),
                blue.name
            ),
            format!("copy {} (key{places}) from stdin", landing(at)),
        )
    }

    /// Has green make its rows of those that landed.
    async fn make(&self, at: usize, rows: u64, blue: &TableName) -> Result<()> {
        let first = first_number(at);
        let last = first.saturating_add(i64::try_from(rows).unwrap_or(NUMBERS)) - 1;
        if rows > 0 {
            self.green
                .execute(&format!("select pg_temp.migrate_make_{at}($1, $2)"), &[&first, &last])
                .await
                .doing(Kind::Server, || format!("green cannot try rows of {}", blue.plain()))?;
        }
        Ok(())
    }

    /// Counts the rows that green cannot even make: a value that does not fit, a domain's rule.
    async fn list_refused(&self, tried: &mut Tried) -> Result<()> {
        let doing = || format!("green does not tell which rows {} refuses", self.green_name.plain());
        let sql = format!(
            "select state, rule, of_type, count(*) as rows, min(landed) as first, (array_agg(key order by landed))[1:{KEYS_SHOWN}] as keys \
             from {REFUSED} join {LANDED_ROWS} using (landed) group by state, rule, of_type order by count(*) desc, state limit 20"
        );
        for row in self.green.query(&sql, &[]).await.doing(Kind::Server, doing)? {
            let column = self.column_refused(row.get("first")).await?;
            let of_type: &str = row.get("of_type");
            let rule = words(&column, row.get("state"), row.get("rule"), of_type);
            tried.broken.push(Broken { rule, rows: count(&row, "rows"), keys: row.get("keys") });
        }
        Ok(())
    }

    /// The column of green whose value cannot be made of a landed row. Each is tried alone, since a domain may refuse the
    /// null of a column that is not.
    async fn column_refused(&self, landed: i64) -> Result<String> {
        let green = self.green_name.plain();
        let alone = TableName::new("pg_temp", "migrate_alone");
        let of = usize::try_from(landed / NUMBERS).unwrap_or_default();
        let Some((_, fitted)) = self.kin.get(of) else { return Ok(green) };
        for (at, output) in fitted.outputs.iter().enumerate() {
            let row = format!("migrate_landed.landed = {landed}");
            let make = fitted.try_landed(&[at], &landing(of), &alone, &row);
            let sql = format!(
                "create temporary table migrate_alone on commit drop as select {MADE_OF}, {} from {} with no data; {make}; drop table {alone}",
                output.name,
                made()
            );
            if self.taken_back(self.green.batch_execute(&sql)).await?.is_err() {
                return Ok(format!("{green}.{}", output.name.as_str()));
            }
        }
        Ok(green)
    }

    /// Runs a statement, and takes it back if it fails.
    async fn taken_back<T>(&self, statement: impl Future<Output = Answer<T>>) -> Result<Answer<T>> {
        let doing = || "a savepoint on green fails".to_owned();
        self.green.batch_execute("savepoint rule").await.doing(Kind::Server, doing)?;
        let answer = statement.await;
        let end = if answer.is_ok() { "release savepoint rule" } else { "rollback to savepoint rule" };
        self.green.batch_execute(end).await.doing(Kind::Server, doing)?;
        Ok(answer)
    }

    /// Counts the rows that break a rule.
    async fn hold(&self, rule: &Rule, tried: &mut Tried) -> Result<()> {
        let Some(breaking) = self.breaking(rule) else {
            if rule.kind == "other" {
                tried.left_out.push(rule.name.clone());
            }
            return Ok(());
        };
        let sql = format!(
            "select count(*) as rows, (array_agg(key order by peer, landed))[1:{KEYS_SHOWN}] as keys \
             from ({breaking}) as breaking (landed, peer) join {LANDED_ROWS} using (landed)"
        );
        let row = match self.taken_back(self.green.query(&sql, &[])).await? {
            Ok(rows) => rows.into_iter().next(),
            // Its expression fails on some row, as it would when that row is written.
            Err(error) => match error.as_db_error().map(|error| error.code().code().to_owned()) {
                Some(state)
                    if !["53", "55", "57", "58", "XX"].iter().any(|class| state.starts_with(class)) =>
                {
                    tried.left_out.push(format!("{} (it fails with SQLSTATE {state})", rule.name));
                    return Ok(());
                }
                _ => {
                    return Err(Error::new(
                        Kind::Server,
                        format!("rows cannot be held against {}", rule.name),
                    )
                    .source(error));
                }
            },
        };
        tried.rules += 1;
        if let Some(row) = row.filter(|row| count(row, "rows") > 0) {
            tried.broken.push(Broken {
                rule: self.name(rule),
                rows: count(&row, "rows"),
                keys: row.get("keys"),
            });
        }
        Ok(())
    }

    /// A query for the rows that break a rule, and the first that each stands beside; none for a rule about columns that we
    /// do not write.
    fn breaking(&self, rule: &Rule) -> Option<String> {
        // A rule may name the row by its table.
        let from = format!("{} as {}", made(), self.green_name.name);
        match (rule.kind.as_str(), &rule.expression) {
            ("not_null", Some(column)) => {
                let writes =
                    |fitted: &Fitted| fitted.outputs.iter().any(|output| output.name.as_str() == rule.name);
                self.kin.iter().any(|(_, fitted)| writes(fitted)).then(|| {
                    format!(
                        "select {MADE_OF}, {MADE_OF} from {from} where not ({column} is distinct from null)"
                    )
                })
            }
            ("check", Some(condition)) => {
                Some(format!("select {MADE_OF}, {MADE_OF} from {from} where not ({condition})"))
            }
            ("unique", _) => {
                let given = |key: &String| format!(" and {key} is distinct from null");
                let nulls = match rule.nulls_distinct {
                    true => rule.keys.iter().map(given).collect(),
                    false => String::new(),
                };
                let predicate = rule.predicate.as_deref().unwrap_or("true");
                let keys = rule.keys.join(", ");
                Some(format!(
                    "select {MADE_OF}, peer from (select {MADE_OF}, count(*) over same as many, min({MADE_OF}) over same as peer \
                     from {from} where ({predicate}){nulls} window same as (partition by {keys})) as rows where many > 1"
                ))
            }
            _ => None,
        }
    }

    fn name(&self, rule: &Rule) -> String {
        let green = self.green_name.plain();
        match rule.kind.as_str() {
            "not_null" => format!("{green}.{} takes no null", rule.name),
            "check" => format!("check {} of {green}", rule.name),
            _ => format!("{} of {green} takes each value once, and these rows share theirs", rule.name),
        }
    }
}

/// The rows of one of blue's tables.
fn landing(at: usize) -> String {
    format!("pg_temp.migrate_trial_{at}")
}

fn first_number(at: usize) -> i64 {
    i64::try_from(at).unwrap_or_default() * NUMBERS + 1
}

/// The landing of one of blue's tables, and the function that makes green's rows of it.
fn prepare_one(at: usize, fitted: &Fitted) -> String {
    let sources = fitted.sources.iter().enumerate();
    let columns: String = sources.map(|(at, source)| format!(", c{at} {}", source.type_name)).collect();
    let all: Vec<usize> = (0..fitted.outputs.len()).collect();
    let make = fitted.try_landed(&all, &landing(at), &made(), "migrate_landed.landed between $1 and $2");
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
        first = first_number(at),
        make = literal(&make),
    )
}

/// What green said of a value, without the value.
fn words(column: &str, state: &str, rule: &str, of_type: &str) -> String {
    let why = match state {
        "22001" => "is longer than its type takes",
        "22003" => "is out of its type's range",
        "22P02" | "22007" | "22008" => "is no value of its type",
        "22012" => "is a division by zero",
        "23502" => "takes no null",
        "23514" => "breaks a check",
        _ => "cannot be computed",
    };
    let of = match (rule, of_type) {
        ("", "") => String::new(),
        ("", of_type) => format!(" of the domain {of_type}"),
        (rule, "") => format!(" ({rule})"),
        (rule, of_type) => format!(" ({rule} of the domain {of_type})"),
    };
    format!("{column} {why}{of} (SQLSTATE {state})")
}

fn count(row: &Row, column: &str) -> u64 {
    u64::try_from(row.get::<_, i64>(column)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_column_and_the_rule_and_no_value() {
        assert_eq!(
            words("public.app.title", "22001", "", ""),
            "public.app.title is longer than its type takes (SQLSTATE 22001)"
        );
        assert_eq!(
            words("public.app.mail", "23514", "has_at", "mail"),
            "public.app.mail breaks a check (has_at of the domain mail) (SQLSTATE 23514)"
        );
    }
}
