//! One batch of messages in one transaction on green: ledger rows, effects, ENDs and parked ones.

use super::{Carried, EffectSession, ReplayEnd, ReplaySpec};
use crate::error::{Doing, Error, Kind, Result};
use crate::pg::connect::connect;
use crate::pg::lsn::Lsn;
use crate::plan::RevocationRule;
use crate::revocation::ledger::{self, from_count};
use crate::revocation::message::{Content, Message, Revocation, Unusable};
use crate::revocation::outcome::{self, Keys};
use crate::revocation::predicate::list_columns;
use crate::revocation::{effect, retry};
use std::collections::{BTreeMap, BTreeSet};
use tokio_postgres::{Client, Transaction, types::ToSql};

const INSERT_LEDGER: &str = include_str!("../../../sql/revocation/insert_ledger.sql");
const RECORD_TOUCHED: &str = include_str!("../../../sql/revocation/record_touched.sql");
const COUNT_TOTALS: &str = include_str!("../../../sql/revocation/count_totals.sql");

/// What became of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Used {
    /// It is in the books, and effective.
    Done,
    /// It cannot be used; why.
    Parked(String),
}

type Read = std::result::Result<Message, Unusable>;

/// Green's session for effects, and blue's for questions.
pub(super) struct Applier {
    green: Client,
    blue: Client,
    attempt: i32,
    epoch: i64,
}

impl Applier {
    pub(super) async fn begin(spec: &ReplaySpec) -> Result<Applier> {
        let green = connect(&spec.green.acting_as(spec.epoch), "replay").await?;
        green
            .batch_execute(
                "set synchronous_commit = on; set statement_timeout = '60s'; set lock_timeout = '10s'",
            )
            .await
            .doing(Kind::Connect, || "cannot set up the replay's session on green".into())?;
        if spec.session == EffectSession::PastTheGate {
            green
                .batch_execute("set session_replication_role = replica")
                .await
                .doing(Kind::Request, || "our role may not set session_replication_role on green".into())?;
        }
        let blue = connect(&spec.blue.acting_as(spec.epoch), "replay").await?;
        blue.batch_execute("set default_transaction_read_only = on; set statement_timeout = '60s'")
            .await
            .doing(Kind::Connect, || "cannot set up the replay's session on blue".into())?;
        Ok(Applier { green, blue, attempt: spec.attempt, epoch: spec.epoch })
    }

    pub(super) fn green(&self) -> &Client {
        &self.green
    }

    /// What the whole attempt's replay did, by the ledger, so that a crash on the way does not falsify it.
    pub(super) async fn end(&self) -> Result<ReplayEnd> {
        let what = || "cannot count replayed revocations on green".into();
        let row = self.green.query_one(COUNT_TOTALS, &[&self.attempt]).await.doing(Kind::Server, what)?;
        let count = |name: &str| Ok::<_, Error>(from_count(row.try_get(name).doing(Kind::Server, what)?));
        let replayed = count("replayed")?;
        Ok(ReplayEnd { replayed, already_effective: count("ledgered")?.saturating_sub(replayed) })
    }

    /// Applies a batch in one transaction; when green refuses its data, one message at a time, so that the guilty one
    /// is parked alone.
    pub(super) async fn apply(
        &mut self,
        spec: &ReplaySpec,
        bodies: &[&[u8]],
        read: Vec<Read>,
    ) -> Result<Vec<Used>> {
        match self.apply_together(spec, bodies, &read).await {
            Err(error) if is_refusal(&error) => {}
            outcome => return outcome,
        }
        let mut used = Vec::with_capacity(read.len());
        for (body, read) in bodies.iter().zip(read) {
            match self.apply_together(spec, &[body], std::slice::from_ref(&read)).await {
                Err(error) if is_refusal(&error) => {
                    let refused = Err(Unusable::Refused(error.chain().join(": ")));
                    used.extend(self.apply_together(spec, &[body], &[refused]).await?);
                }
                outcome => used.extend(outcome?),
            }
        }
        Ok(used)
    }

    async fn apply_together(
        &mut self,
        spec: &ReplaySpec,
        bodies: &[&[u8]],
        read: &[Read],
    ) -> Result<Vec<Used>> {
        let transaction = ledger::begin(&mut self.green, self.epoch).await?;
        let mut used = Vec::with_capacity(read.len());
        let mut revocations: BTreeMap<&str, &Revocation> = BTreeMap::new();
        for (body, read) in bodies.iter().zip(read) {
            used.push(match read {
                Err(unusable) => {
                    let why = unusable.to_string();
                    ledger::park(&transaction, body, &why).await?;
                    Used::Parked(why)
                }
                Ok(message) => {
                    match &message.content {
                        Content::End(end) => {
                            ledger::record_end(&transaction, self.attempt, &message.producer, end).await?;
                        }
                        Content::Revocation(revocation) => {
                            revocations.insert(message.id.as_str(), revocation);
                        }
                    }
                    Used::Done
                }
            });
        }
        let new = insert(&transaction, self.attempt, &revocations).await?;
        revocations.retain(|id, _| new.contains(*id));
        if !revocations.is_empty() {
            take_effects(spec, &transaction, &self.blue, &revocations).await?;
        }
        ledger::commit(transaction).await?;
        Ok(used)
    }
}

/// Whether green is open is looked at before this transaction lets itself through.
async fn take_effects(
    spec: &ReplaySpec,
    transaction: &Transaction<'_>,
    blue: &Client,
    revocations: &BTreeMap<&str, &Revocation>,
) -> Result<()> {
    let opened_by = ledger::opened_by(transaction).await?;
    let passes = spec.session == EffectSession::ThroughTheGate && opened_by.is_none();
    if passes {
        ledger::pass_gate(transaction).await?;
    }
    for rule in &spec.rules {
        let opened_by = opened_by.as_deref();
        take_effect(transaction, blue, rule, &spec.carried, revocations, opened_by).await?;
    }
    if passes {
        ledger::close_gate(transaction).await?;
    }
    Ok(())
}

/// Wrong data, or data a constraint does not take: a fault of the message, neither of the moment nor of the plan.
fn is_refusal(error: &Error) -> bool {
    retry::sqlstate(error).is_some_and(|code| ["22", "23"].iter().any(|class| code.starts_with(class)))
}

/// Writes the ledger; gives the ids that were not there.
async fn insert(
    transaction: &Transaction<'_>,
    attempt: i32,
    revocations: &BTreeMap<&str, &Revocation>,
) -> Result<BTreeSet<String>> {
    let what = || "cannot write the ledger of revocations on green".into();
    if revocations.is_empty() {
        return Ok(BTreeSet::new());
    }
    let ids: Vec<&str> = revocations.keys().copied().collect();
    let rules: Vec<&str> = revocations.values().map(|revocation| revocation.rule.as_str()).collect();
    let keys: Vec<String> = revocations
        .values()
        .map(|revocation| serde_json::to_string(&revocation.key))
        .collect::<Result<_, _>>()
        .doing(Kind::Bug, what)?;
    let commits: Vec<String> =
        revocations.values().map(|revocation| revocation.commit_lsn.to_string()).collect();
    let rows = transaction
        .query(INSERT_LEDGER, &[&attempt, &ids, &rules, &keys, &commits])
        .await
        .doing(Kind::Server, what)?;
    rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>().doing(Kind::Server, what)
}

/// Makes a rule's new revocations effective where they are not.
async fn take_effect(
    transaction: &Transaction<'_>,
    blue: &Client,
    rule: &RevocationRule,
    carried: &Carried,
    revocations: &BTreeMap<&str, &Revocation>,
    opened_by: Option<&str>,
) -> Result<()> {
    let of_rule = |has: bool| -> Keys {
        let wanted =
            |revocation: &Revocation, commit: Lsn| revocation.rule == rule.name && carried.has(commit) == has;
        revocations
            .iter()
            .filter(|(_, revocation)| wanted(revocation, revocation.commit_lsn))
            .map(|(id, revocation)| ((*id).to_owned(), revocation.key.clone()))
            .collect()
    };
    let valid = outcome::find_valid(transaction, rule, &of_rule(true)).await?;
    let mut to_act = outcome::find_revoked_on_blue(blue, rule, &valid).await?;
    to_act.extend(of_rule(false));
    if to_act.is_empty() {
        return Ok(());
    }
    let what = || format!("revocation rule `{}` could not take effect on green", rule.name);
    let columns = list_columns_in(transaction, rule).await?;
    let sql = effect::act(rule, &columns)?;
    let keys = outcome::columns_of(rule, &to_act);
    let mut params: Vec<&(dyn ToSql + Sync)> = keys.iter().map(|column| column as _).collect();
    params.push(&opened_by);
    let rows = transaction.query(&sql, &params).await.doing(Kind::Server, what)?;
    let ids: Vec<&str> =
        rows.iter().map(|row| row.try_get("id")).collect::<Result<_, _>>().doing(Kind::Server, what)?;
    let touched: Vec<i64> =
        rows.iter().map(|row| row.try_get("touched")).collect::<Result<_, _>>().doing(Kind::Server, what)?;
    transaction.execute(RECORD_TOUCHED, &[&ids, &touched]).await.doing(Kind::Server, what)?;
    Ok(())
}

async fn list_columns_in(
    transaction: &Transaction<'_>,
    rule: &RevocationRule,
) -> Result<Vec<crate::revocation::predicate::TypedColumn>> {
    list_columns(transaction, effect::table(rule)?).await
}
