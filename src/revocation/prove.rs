//! Lets blue and green judge the plan's rules before anything depends on them.

use super::effect;
use super::predicate::{Judgement, TypedColumn, list_columns};
use super::rule::mentions;
use crate::error::{Error, Result};
use crate::finding::{Finding, Place, Severity};
use crate::plan::{ChangeOp, RevocationRule};
use tokio_postgres::Client;

/// Prepares every rule's SQL on the servers and looks at its columns. Changes nothing.
///
/// `green` is `None` until green has its shape; what concerns it is then unproved.
///
/// # Errors
/// [`crate::error::Kind::Server`] when a catalog cannot be read. What is wrong with a rule is a finding.
pub async fn prove_rules(
    blue: &Client,
    green: Option<&Client>,
    rules: &[RevocationRule],
) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for (at, rule) in rules.iter().enumerate() {
        let prover = Prover { rule, field: format!("revocations[{at}] ({})", rule.name) };
        prover.on_blue(blue, &mut findings).await?;
        if let Some(green) = green {
            prover.on_green(green, &mut findings).await?;
        }
    }
    Ok(findings)
}

struct Prover<'a> {
    rule: &'a RevocationRule,
    field: String,
}

impl Prover<'_> {
    async fn on_blue(&self, blue: &Client, findings: &mut Vec<Finding>) -> Result<()> {
        let columns = list_columns(blue, &self.rule.table).await?;
        if columns.is_empty() {
            findings.push(self.stops(
                "REVOCATION_TABLE",
                "table",
                format!("blue has no table {}", self.rule.table.plain()),
                "Name a table of blue as schema.table.",
            ));
            return Ok(());
        }
        self.key_on_blue(&columns, findings);
        self.old_on_blue(&columns, findings);
        if let Some(judgement) = Judgement::of(self.rule, &columns)
            && let Err(error) = blue.prepare(&judgement.sql).await
        {
            findings.push(self.refused("REVOCATION_PREDICATE", "when", "blue", error));
        }
        match effect::revoked_on_blue(self.rule, &columns) {
            Ok(sql) => {
                // The predicate was told already; this one is over the table itself.
                if let Err(error) = blue.prepare(&sql).await
                    && !findings.iter().any(|finding| finding.code == "REVOCATION_PREDICATE")
                {
                    findings.push(self.refused("REVOCATION_PREDICATE", "when.new", "blue", error));
                }
            }
            Err(error) => tracing::debug!(error = %error, "not asked of blue"),
        }
        Ok(())
    }

    fn key_on_blue(&self, columns: &[TypedColumn], findings: &mut Vec<Finding>) {
        if self.rule.key.is_empty() {
            let what = "the rule has no key column, so nothing could be named".to_owned();
            findings.push(self.stops("REVOCATION_KEY", "key", what, "Name the columns of the table's key."));
        }
        for key in &self.rule.key {
            match columns.iter().find(|column| column.name == *key) {
                None => findings.push(self.stops(
                    "REVOCATION_KEY",
                    "key",
                    format!("{} has no column {}", self.rule.table.plain(), key.as_str()),
                    "Name columns of the rule's table.",
                )),
                Some(column) if !column.in_identity => findings.push(self.stops(
                    "REVOCATION_KEY",
                    "key",
                    format!("{} is not in the replica identity of {}", key.as_str(), self.rule.table.plain()),
                    &format!(
                        "Use the primary key's columns, or: alter table {} replica identity full.",
                        self.rule.table
                    ),
                )),
                Some(_) => {}
            }
        }
    }

    /// What blue's log does not carry counts as a match: more is captured than is revoked.
    fn old_on_blue(&self, columns: &[TypedColumn], findings: &mut Vec<Finding>) {
        let when = &self.rule.when;
        let unknown = |needed: &dyn Fn(&str) -> bool| -> Vec<&str> {
            let name = |column: &'_ TypedColumn| column.name.as_str().to_owned();
            columns
                .iter()
                .filter(|column| !column.in_identity && needed(&name(column)))
                .map(|column| column.name.as_str())
                .collect()
        };
        let by_old = when
            .old
            .as_deref()
            .map(|old| unknown(&|column| mentions(old, self.rule, column)))
            .unwrap_or_default();
        // The other change of an exception is seen by its new row, unless one of the two is a DELETE.
        let by_match = when
            .unless_same_tx
            .as_ref()
            .filter(|same| when.op == ChangeOp::Delete || same.op == ChangeOp::Delete)
            .map(|same| unknown(&|column| column == same.match_column.as_str()))
            .unwrap_or_default();
        for (field, unknown) in [("when.old", by_old), ("when.unless_same_tx", by_match)] {
            if unknown.is_empty() {
                continue;
            }
            findings.push(Finding {
                code: "REVOCATION_OLD_UNKNOWN".into(),
                severity: Severity::Warning,
                place: self.place(field),
                what: format!(
                    "blue's log does not carry the old value of {} of {}: {field} counts as met, and more is captured than is revoked",
                    unknown.join(", "),
                    self.rule.table.plain()
                ),
                help: format!(
                    "Capturing too much is safe. To capture exactly: alter table {} replica identity full.",
                    self.rule.table
                ),
            });
        }
    }

    async fn on_green(&self, green: &Client, findings: &mut Vec<Finding>) -> Result<()> {
        let table = match effect::table(self.rule) {
            Ok(table) => table,
            Err(error) => {
                findings.push(self.wrong("replay", &error));
                return Ok(());
            }
        };
        let columns = list_columns(green, table).await?;
        if columns.is_empty() {
            let what = format!("green has no table {}", table.plain());
            findings.push(self.stops(
                "REVOCATION_TABLE",
                "replay",
                what,
                "Name a table of green as schema.table.",
            ));
        } else {
            for (field, sql) in [
                ("replay", effect::act(self.rule, &columns)),
                ("replay", effect::issued_anew(self.rule, &columns)),
            ] {
                self.prepare_on_green(green, field, sql, findings).await;
            }
        }
        self.prepare_on_green(green, "valid", effect::valid(self.rule), findings).await;
        Ok(())
    }

    async fn prepare_on_green(
        &self,
        green: &Client,
        field: &str,
        sql: Result<String>,
        findings: &mut Vec<Finding>,
    ) {
        match sql {
            Err(error) => findings.push(self.wrong(field, &error)),
            Ok(sql) => {
                if let Err(error) = green.prepare(&sql).await {
                    let code = if field == "valid" { "REVOCATION_VALID" } else { "REVOCATION_REPLAY" };
                    findings.push(self.refused(code, field, "green", error));
                }
            }
        }
    }

    fn place(&self, field: &str) -> Place {
        Place::Plan { field: format!("{}.{field}", self.field) }
    }

    fn stops(&self, code: &str, field: &str, what: String, help: &str) -> Finding {
        let (code, place, help) = (code.to_owned(), self.place(field), help.to_owned());
        Finding { code, severity: Severity::Blocking, place, what, help }
    }

    fn wrong(&self, field: &str, error: &Error) -> Finding {
        self.stops("REVOCATION_RULE", field, error.chain().join(": "), "Correct the rule.")
    }

    fn refused(&self, code: &str, field: &str, side: &str, error: tokio_postgres::Error) -> Finding {
        let told = Error::new(crate::error::Kind::Server, format!("{side} does not accept it")).source(error);
        self.stops(
            code,
            field,
            told.chain().join(": "),
            "Key values come as text: cast them (`$1::uuid`) where the column has another type. Write table names with their schema.",
        )
    }
}
