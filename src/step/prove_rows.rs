//! Holding blue's rows against what green demands of them, before anything is copied: the rows, or a sample of them, travel
//! to a temporary table of green's, green makes its own rows of them there, and all of it is rolled back.

mod carried;
mod exclusion;
mod landing;
mod reference;
mod trial;

use crate::error::{Doing, Error, Kind, Result};
use crate::finding::{Finding, Place, Severity};
use crate::mapping::{Mapping, as_error};
use crate::pg::{connect, conninfo::ConnInfo, name::TableName, target};
pub use carried::Carried;
use carried::Origin;
use reference::Reference;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio_postgres::{Client, error::SqlState};
use trial::Trial;

/// A table that takes no more than this on blue is tried whole, another by a sample of about as much.
const BYTES_MAX: u64 = 32 << 20;

/// No more rows than this are tried of a table.
const ROWS_MAX: u64 = 400_000;

/// For all of one table, so that a connection that is silent does not hold us.
const DEADLINE: Duration = Duration::from_secs(300);

/// Sessions of its own on both sides: a trial that is given up in the middle goes with them.
pub struct Lookers {
    /// Reads, and nothing else.
    pub blue: Client,
    /// What it makes is temporary, and rolled back.
    pub green: Client,
}

/// What came of trying a table's rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// They were tried.
    Tried(Tried),
    /// They were not, or not all; why.
    Unfinished(String),
}

/// Rows that were held against green's rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tried {
    /// How many rows of blue.
    pub rows: u64,
    /// Whether these were all.
    pub extent: Extent,
    /// How many rules they were held against.
    pub rules: usize,
    /// The rules that some rows break.
    pub broken: Vec<Broken>,
    /// The rules that they were not held against, by name.
    pub left_out: Vec<String>,
}

/// What a table's rows are held against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Against {
    /// Everything that green demands of them.
    AllRules,
    /// The foreign keys to mapped tables: else green demands of an unmapped table what blue does.
    ForeignKeys,
}

/// How much of a table was tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// Every row that blue had.
    All,
    /// Some of its blocks.
    Sample,
}

/// A rule, and the rows that break it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// The rule, in words.
    pub rule: String,
    /// How many rows.
    pub rows: u64,
    /// Blue's keys of the first few.
    pub keys: Vec<String>,
}

impl Lookers {
    /// Opens them.
    ///
    /// # Errors
    /// [`Kind::Connect`].
    pub async fn open(blue: &ConnInfo, green: &ConnInfo) -> Result<Lookers> {
        let (blue, green) =
            tokio::try_join!(connect::connect(blue, "try rows"), connect::connect(green, "try rows"))?;
        Ok(Lookers { blue, green })
    }

    /// Tries the rows of each table of green that is written to by mappings: those that are merged, together. Of unmapped
    /// tables that refer to those, the foreign keys alone. Green must have its keys and checks.
    ///
    /// # Errors
    /// As [`Lookers::prove`].
    pub async fn prove_each(&self, carried: &Carried) -> Result<Vec<Finding>> {
        let target = |mapping: &Mapping| mapping.map.target(&mapping.blue.name);
        let mapped: BTreeSet<TableName> = carried.mappings.iter().map(target).collect();
        let mut findings = Vec::new();
        for green in &mapped {
            findings
                .extend(self.prove(carried, green).await?.findings(&carried.kin(green), Against::AllRules));
        }
        for green in carried.unmapped.iter().map(target) {
            let mut references = reference::read(&self.green, &green).await?;
            references.retain(|reference| carried.is_mapped(&reference.other));
            if !references.is_empty() {
                let against = Against::ForeignKeys;
                let proof = self.try_table(carried, &green, against, &references).await?;
                findings.extend(proof.findings(&carried.kin(&green), against));
            }
        }
        Ok(findings)
    }

    /// Tries the rows of all that becomes one table of green.
    ///
    /// Nobody waits for it: blue's table is read under a short lock timeout, green's is only looked at, and each statement
    /// has 30 s.
    ///
    /// # Errors
    /// [`Kind::Gate`] when the mapping does not fit green, [`Kind::Server`] when a server refuses what this needs.
    pub async fn prove(&self, carried: &Carried, green: &TableName) -> Result<Proof> {
        let references = reference::read(&self.green, green).await?;
        self.try_table(carried, green, Against::AllRules, &references).await
    }

    async fn try_table(
        &self,
        carried: &Carried,
        green: &TableName,
        against: Against,
        references: &[Reference],
    ) -> Result<Proof> {
        let shape = target::read(&self.green, green).await?;
        let mut kin = Vec::new();
        for mapping in carried.kin(green) {
            let fitted = match against {
                Against::AllRules => mapping.fit(&shape),
                Against::ForeignKeys => mapping.fit_for_copy(&shape),
            };
            match (fitted, against) {
                (Ok(fitted), _) => kin.push((mapping, fitted)),
                (Err(problems), Against::AllRules) => return Err(as_error(&mapping.blue.name, &problems)),
                // Whether an unmapped table's shape is green's is looked at elsewhere.
                (Err(_), Against::ForeignKeys) => {
                    return Ok(Proof::Unfinished("its shape is not green's".to_owned()));
                }
            }
        }
        let (blue, looks) = (&self.blue, &self.green);
        let trial = Trial { kin: &kin, green_name: green, references, against, carried, blue, green: looks };
        let tried = tokio::time::timeout(DEADLINE, self.try_rows(&trial)).await;
        match tried {
            Ok(Ok(tried)) => Ok(Proof::Tried(tried)),
            Ok(Err(error)) => match why_unfinished(&error) {
                Some(why) => Ok(Proof::Unfinished(why.to_owned())),
                None => Err(error),
            },
            Err(_) => Err(Error::new(
                Kind::Deadline,
                format!("rows for {} were not tried within {} s", green.plain(), DEADLINE.as_secs()),
            )
            .hint("look for what its session on green (`migrate: try rows`) waits for in pg_stat_activity")),
        }
    }

    async fn try_rows(&self, trial: &Trial<'_>) -> Result<Tried> {
        self.begin().await?;
        let tried = trial.run().await;
        let (blue, green) =
            tokio::join!(self.blue.batch_execute("rollback"), self.green.batch_execute("rollback"));
        let tried = tried?;
        blue.and(green).doing(Kind::Server, || "a trial of rows cannot be rolled back".into())?;
        Ok(tried)
    }

    async fn begin(&self) -> Result<()> {
        let patience = "set local lock_timeout = '2s'; set local statement_timeout = '30s'";
        let blue = format!("begin isolation level repeatable read read only; {patience}");
        let green = format!("begin read write; {patience}; set local check_function_bodies = off");
        tokio::try_join!(self.blue.batch_execute(&blue), self.green.batch_execute(&green))
            .doing(Kind::Server, || "a trial of rows cannot begin".into())?;
        Ok(())
    }
}

/// What a server ended for its time, or for somebody else's lock, says nothing about the rows.
fn why_unfinished(error: &Error) -> Option<&'static str> {
    let source = error.source.as_ref()?.downcast_ref::<tokio_postgres::Error>()?;
    match source.code()? {
        code if *code == SqlState::QUERY_CANCELED => Some("a statement took longer than 30 s"),
        code if *code == SqlState::LOCK_NOT_AVAILABLE => Some("somebody holds a lock on it"),
        _ => None,
    }
}

impl Proof {
    /// As findings of the tables' maps, of an unmapped table as its own.
    pub fn findings(&self, kin: &[&Mapping], against: Against) -> Vec<Finding> {
        let names: Vec<String> = kin.iter().map(|mapping| mapping.blue.name.plain()).collect();
        let (first, blue) = (names.first().cloned().unwrap_or_default(), names.join(" and "));
        let finding = |code: &str, severity: Severity, what: String, help: &str| Finding {
            code: code.into(),
            severity,
            place: match against {
                Against::AllRules => Place::Plan { field: format!("replicate.map.{first}") },
                Against::ForeignKeys => Place::Blue { object: first.clone() },
            },
            what,
            help: help.into(),
        };
        let tried = match self {
            Proof::Tried(tried) => tried,
            Proof::Unfinished(why) => {
                let what = format!("the rows of {blue} were not held against {}: {why}", against.words());
                let help = "try again in a quieter hour; what does not fit stops the copy, or the keys built after it";
                return vec![finding("MAPPED_ROWS_UNPROVED", Severity::Warning, what, help)];
            }
        };
        let of = format!("of {} tried ({})", rows(tried.rows), tried.extent.words());
        let refused = |broken: &Broken| {
            let what = format!(
                "{}: {} {of}; blue's keys of the first: {}",
                broken.rule,
                rows(broken.rows),
                broken.keys.join("; ")
            );
            finding(
                "MAPPED_ROWS_REFUSED",
                Severity::Blocking,
                what,
                "mend these rows on blue, the expression, the condition (of a foreign key, that of the table it refers to), or green's rule",
            )
        };
        let mut findings: Vec<Finding> = tried.broken.iter().map(refused).collect();
        if findings.is_empty() {
            let left_out = match tried.left_out.as_slice() {
                [] => String::new(),
                names => format!("; not looked at: {}", names.join(", ")),
            };
            let what = format!(
                "{} of {blue} ({}) fit all {} of {}{left_out}",
                rows(tried.rows),
                tried.extent.words(),
                tried.rules,
                against.words()
            );
            findings.push(finding("MAPPED_ROWS_FIT", Severity::Info, what, tried.extent.help()));
        }
        findings
    }
}

impl Against {
    fn words(self) -> &'static str {
        match self {
            Against::AllRules => "green's rules",
            Against::ForeignKeys => "green's foreign keys to mapped tables",
        }
    }
}

impl Extent {
    fn words(self) -> &'static str {
        match self {
            Extent::All => "all there were",
            Extent::Sample => "a sample of the table's blocks",
        }
    }

    fn help(self) -> &'static str {
        match self {
            Extent::All => "nothing; rows written since may differ",
            Extent::Sample => {
                "nothing; rows outside the sample may break a rule, and so may two that are equal or conflict, of which one is outside"
            }
        }
    }
}

fn rows(count: u64) -> String {
    if count == 1 { "1 row".to_owned() } else { format!("{count} rows") }
}
