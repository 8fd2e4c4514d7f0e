//! One trial: blue's rows are landed on green, green makes rows of them in a table without keys and checks, and each rule is
//! then asked how many break it, so that one row counts under every rule that it breaks.

use super::landing::{self, Landing, REFUSED, Size, landing, landing_of};
use super::reference::Reference;
use super::{Against, BYTES_MAX, Broken, Carried, Extent, ROWS_MAX, Tried, why_unfinished};
use crate::error::{Doing, Error, Kind, Result};
use crate::mapping::{Fitted, MADE_OF, Mapping};
use crate::pg::name::{TableName, literal};
use tokio_postgres::{Client, Row};

const LIST_RULES: &str = include_str!("../../../sql/mapping/list_row_rules.sql");

/// Blue's rows of all tables, each with its number and its key in text.
const LANDED_ROWS: &str = "pg_temp.migrate_landed_rows";

/// A key is no longer than this when it is shown.
const KEY_CHARACTERS: usize = 100;

/// How many keys are shown for a rule.
const KEYS_SHOWN: usize = 3;

pub(super) type Answer<T> = std::result::Result<T, tokio_postgres::Error>;

/// Rows that break a rule.
pub(super) struct Found {
    rows: u64,
    /// Blue's keys of the first few.
    keys: Vec<String>,
}

/// A trial in the transactions that are open on both sides.
pub(super) struct Trial<'t> {
    /// What becomes one table of green: several mappings when blue's tables are merged there.
    pub kin: &'t [(&'t Mapping, Fitted)],
    pub green_name: &'t TableName,
    /// The foreign keys to look at.
    pub references: &'t [Reference],
    /// Whether to look at green's other rules.
    pub against: Against,
    /// What else comes to green.
    pub carried: &'t Carried,
    pub blue: &'t Client,
    pub green: &'t Client,
}

/// Something that green demands of its rows.
pub(super) struct Rule {
    kind: String,
    pub name: String,
    expression: Option<String>,
    pub keys: Vec<String>,
    pub predicate: Option<String>,
    nulls_distinct: bool,
    pub method: Option<String>,
    pub classes: Vec<String>,
    pub operators: Vec<String>,
}

/// The table that rows are made in.
pub(super) fn made() -> TableName {
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
            of_kin(at, fitted).make(self.green, rows).await?;
            if self.against == Against::AllRules {
                tried.rules += fitted.outputs.len();
            }
        }
        self.list_refused(&mut tried).await?;
        if self.against == Against::AllRules {
            for rule in &rules {
                self.hold(rule, &mut tried).await?;
            }
        }
        for reference in self.references {
            self.refer(reference, &mut tried).await?;
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
            method: row.get("method"),
            classes: row.get("classes"),
            operators: row.get("operators"),
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
            self.kin.iter().enumerate().map(|(at, (_, fitted))| of_kin(at, fitted).create()).collect();
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
        let size = landing::size(self.blue, blue).await?;
        let (out, into) = self.copies(at, mapping, fitted, &size);
        let rows = landing::pump((self.blue, &out), (self.green, &into), blue).await?;
        if size.bytes > BYTES_MAX || rows >= ROWS_MAX {
            tried.extent = Extent::Sample;
        }
        tried.rows += rows;
        Ok(rows)
    }

    /// The two statements that bring rows over. Of a large table, blocks are taken at random, the same ones each time.
    fn copies(&self, at: usize, mapping: &Mapping, fitted: &Fitted, size: &Size) -> (String, String) {
        let (sources, blue) = (&fitted.sources, &mapping.blue);
        let text = |name| format!("coalesce(pg_catalog.format('%s', {name}), '')");
        let texts: Vec<String> = blue.key.iter().map(text).collect();
        // Of tables that are merged, the key alone does not say whose it is.
        let whose = if self.kin.len() > 1 { format!("{} ", blue.name.plain()) } else { String::new() };
        let sample = match size.bytes > BYTES_MAX {
            true => {
                let percent = BYTES_MAX as f64 / size.bytes as f64 * 100.0;
                format!(" tablesample system ({percent:.6}) repeatable (1)")
            }
            false => String::new(),
        };
        let places: String = (0..sources.len()).map(|at| format!(", c{at}")).collect();
        (
            format!(
                "copy (select {} || left(concat_ws(', ', {}), {KEY_CHARACTERS}){columns} from {}{sample} limit {ROWS_MAX}) to stdout",
                literal(&whose),
                texts.join(", "),
                size.from,
                columns = landing::names(sources.iter()),
            ),
            format!("copy {} (key{places}) from stdin", landing(at)),
        )
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
        let of = landing_of(landed);
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
        let doing = || format!("rows cannot be held against {}", rule.name);
        let found = match (rule.kind.as_str(), self.breaking(rule)) {
            ("exclusion", _) => self.taken_back(self.conflicting(rule)).await?,
            (_, Some(breaking)) => self.taken_back(self.count(&breaking)).await?,
            (_, None) => return Ok(()),
        };
        match found.doing(Kind::Server, doing) {
            Ok(found) => tried.note(self.name(rule), found),
            // Its expression fails on some row, as it would when that row is written.
            Err(error) => match why_left_out(&error) {
                Some(why) => tried.left_out.push(format!("{} ({why})", rule.name)),
                None => return Err(error),
            },
        }
        Ok(())
    }

    /// The number of rows that a query names, with the first that each stands beside; and a few of their keys.
    pub(super) async fn count(&self, breaking: &str) -> Answer<Found> {
        let sql = format!(
            "select count(*) as rows, coalesce((array_agg(key order by peer, landed))[1:{KEYS_SHOWN}], '{{}}') as keys \
             from ({breaking}) as breaking (landed, peer) join {LANDED_ROWS} using (landed)"
        );
        let row = self.green.query_one(&sql, &[]).await?;
        Ok(Found { rows: count(&row, "rows"), keys: row.get("keys") })
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
            "exclusion" => {
                format!("{} of {green} excludes rows beside each other, and these conflict", rule.name)
            }
            _ => format!("{} of {green} takes each value once, and these rows share theirs", rule.name),
        }
    }
}

/// The landing of one of the tables whose rows are tried.
fn of_kin(at: usize, fitted: &Fitted) -> Landing<'_> {
    Landing { at, fitted, outputs: (0..fitted.outputs.len()).collect(), made: made() }
}

impl Tried {
    /// Notes that rows were held against a rule.
    pub(super) fn note(&mut self, rule: String, found: Found) {
        self.rules += 1;
        if found.rows > 0 {
            self.broken.push(Broken { rule, rows: found.rows, keys: found.keys });
        }
    }
}

/// Why a rule was not looked at, when a statement for it failed; `None` when the server itself is at fault.
pub(super) fn why_left_out(error: &Error) -> Option<String> {
    if let Some(why) = why_unfinished(error) {
        return Some(why.to_owned());
    }
    let source = error.source.as_ref()?.downcast_ref::<tokio_postgres::Error>()?;
    let state = source.code()?.code();
    let is_the_servers = ["53", "55", "57", "58", "XX"].iter().any(|class| state.starts_with(class));
    (!is_the_servers).then(|| format!("it fails with SQLSTATE {state}"))
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
