//! What green keeps of revocations: the capture's position and count, the ledger, ENDs and what was parked.

use super::message::{End, IdsHash};
use crate::error::{Doing, Error, Kind, Result};
use crate::pg::lsn::Lsn;
use futures_util::TryStreamExt;
use tokio_postgres::{Client, GenericClient, Row, Transaction};

const HOLD_LEASE: &str = include_str!("../../sql/revocation/hold_lease.sql");
const READ_CAPTURE: &str = include_str!("../../sql/revocation/read_capture.sql");
const RECORD_CAPTURE: &str = include_str!("../../sql/revocation/record_capture.sql");
const END_CAPTURE: &str = include_str!("../../sql/revocation/end_capture.sql");
const READ_SLOT: &str = include_str!("../../sql/revocation/read_slot.sql");
const RECORD_END: &str = include_str!("../../sql/revocation/record_end.sql");
const PARK_MESSAGE: &str = include_str!("../../sql/revocation/park_message.sql");
const READ_GATE: &str = include_str!("../../sql/revocation/read_gate.sql");
const PASS_GATE: &str = include_str!("../../sql/gate/pass_own.sql");
const CLOSE_GATE: &str = include_str!("../../sql/gate/close_own.sql");
const LIST_ACCOUNTS: &str = include_str!("../../sql/revocation/list_accounts.sql");

/// A capture's position, and its count of distinct messages up to there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recorded {
    /// Everything of blue's log before it is published and confirmed.
    pub position: Lsn,
    /// Distinct messages since the attempt began.
    pub messages: u64,
    /// Their ids' hash.
    pub ids_hash: IdsHash,
}

/// The capture's slot as blue sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotStanding {
    /// What blue may have forgotten.
    pub confirmed: Lsn,
    /// Blue's `server_version_num`.
    pub version_num: i32,
}

/// Begins a transaction on green that holds the lease.
///
/// # Errors
/// [`Kind::Lease`] when the epoch is not ours any more.
pub async fn begin(green: &mut Client, epoch: i64) -> Result<Transaction<'_>> {
    let what = || "cannot begin a transaction on green".into();
    let transaction = green.transaction().await.doing(Kind::Server, what)?;
    if transaction.query_opt(HOLD_LEASE, &[&epoch]).await.doing(Kind::Server, what)?.is_none() {
        return Err(Error::new(
            Kind::Lease,
            format!("somebody took the lease from us: epoch {epoch} is over"),
        )
        .hint("`migrate status` says who holds it."));
    }
    Ok(transaction)
}

/// Commits; the outcome is unknown when this fails, and everything may be done again.
///
/// # Errors
/// [`Kind::Server`].
pub async fn commit(transaction: Transaction<'_>) -> Result<()> {
    transaction.commit().await.doing(Kind::Server, || "cannot commit on green".into())
}

/// Looks at the capture's slot on blue.
///
/// # Errors
/// [`Kind::Request`] when it is not there.
pub async fn read_slot(blue: &Client, slot: &str) -> Result<SlotStanding> {
    let what = || format!("cannot look at replication slot `{slot}` on blue");
    let row = blue.query_opt(READ_SLOT, &[&slot]).await.doing(Kind::Server, what)?.ok_or_else(|| {
        Error::new(
            Kind::Request,
            format!("blue has no replication slot `{slot}` for the capture of revocations"),
        )
        .hint("What was revoked since is unknown: start again from a fresh copy.")
    })?;
    Ok(SlotStanding {
        confirmed: lsn(&row, "confirmed_flush_lsn").doing(Kind::Server, what)?,
        version_num: row.try_get("version_num").doing(Kind::Server, what)?,
    })
}

/// Where a capture resumes: where it was recorded, or where its slot begins.
///
/// # Errors
/// [`Kind::Gate`] when blue has forgotten what green does not have: green was restored from an older backup.
pub async fn resume_capture(
    green: &mut Client,
    epoch: i64,
    (slot, attempt): (&str, i32),
    confirmed: Lsn,
) -> Result<Recorded> {
    let what = || "cannot read the capture's position on green".into();
    let transaction = begin(green, epoch).await?;
    let row = transaction.query_opt(READ_CAPTURE, &[&slot]).await.doing(Kind::Server, what)?;
    let recorded = match row {
        Some(row) => recorded(&row).doing(Kind::Server, what)?,
        None => {
            let first = Recorded { position: confirmed, messages: 0, ids_hash: IdsHash::default() };
            record_capture(&transaction, (slot, attempt), &first).await?;
            first
        }
    };
    commit(transaction).await?;
    if recorded.position < confirmed {
        return Err(Error::new(
            Kind::Gate,
            format!(
                "blue has forgotten revocations that green does not know: slot `{slot}` is confirmed up to {confirmed}, green's record ends at {}",
                recorded.position
            ),
        )
        .hint("Green was restored from an older state. Start again from a fresh copy."));
    }
    Ok(recorded)
}

fn recorded(row: &Row) -> Result<Recorded, Box<dyn std::error::Error + Send + Sync>> {
    Ok(Recorded {
        position: lsn(row, "commit_lsn")?,
        messages: u64::try_from(row.try_get::<_, i64>("messages")?)?,
        ids_hash: row.try_get::<_, String>("ids_hash")?.parse()?,
    })
}

fn lsn(row: &Row, column: &str) -> Result<Lsn, Box<dyn std::error::Error + Send + Sync>> {
    Ok(row.try_get::<_, String>(column)?.parse()?)
}

/// Writes how far the capture is.
///
/// # Errors
/// [`Kind::Server`].
pub async fn record_capture(
    transaction: &Transaction<'_>,
    (slot, attempt): (&str, i32),
    recorded: &Recorded,
) -> Result<()> {
    let (position, hash) = (recorded.position.to_string(), recorded.ids_hash.to_string());
    transaction
        .execute(RECORD_CAPTURE, &[&slot, &attempt, &position, &count(recorded.messages), &hash])
        .await
        .doing(Kind::Server, || "cannot record the capture's position on green".into())?;
    Ok(())
}

/// Writes that the capture's END is confirmed.
///
/// # Errors
/// [`Kind::Server`].
pub async fn end_capture(transaction: &Transaction<'_>, slot: &str) -> Result<()> {
    let what = || "cannot record the capture's end on green".into();
    transaction.execute(END_CAPTURE, &[&slot]).await.doing(Kind::Server, what)?;
    Ok(())
}

/// Writes that an END was read.
///
/// # Errors
/// [`Kind::Server`].
pub async fn record_end(
    transaction: &Transaction<'_>,
    attempt: i32,
    producer: &str,
    end: &End,
) -> Result<()> {
    let hash = end.ids_hash.to_string();
    transaction
        .execute(RECORD_END, &[&producer, &attempt, &count(end.messages), &hash])
        .await
        .doing(Kind::Server, || "cannot record an END on green".into())?;
    Ok(())
}

/// Keeps a message that cannot be used. Its body is kept as text, or in hex when it is none.
///
/// # Errors
/// [`Kind::Server`].
pub async fn park(transaction: &Transaction<'_>, body: &[u8], reason: &str) -> Result<()> {
    let text = match std::str::from_utf8(body) {
        Ok(text) if !text.contains('\0') => text.to_owned(),
        _ => body.iter().map(|byte| format!("{byte:02x}")).collect(),
    };
    // Two bad messages may claim one id, so the body's digest is part of the name.
    let digest = blake3::hash(body).to_hex();
    let named = super::message::named_id(body).unwrap_or_else(|| "unnamed".into()).replace('\0', "");
    let id = format!("{named}/{}", &digest[..16]);
    transaction
        .execute(PARK_MESSAGE, &[&id, &reason, &text])
        .await
        .doing(Kind::Server, || "cannot park a message on green".into())?;
    Ok(())
}

/// The transaction that opened green, or `None` while it is closed. The gate stays as it is until ours ends.
///
/// # Errors
/// [`Kind::Server`] when green has no gate.
pub async fn opened_by(transaction: &Transaction<'_>) -> Result<Option<String>> {
    let what = || "cannot look at green's gate".into();
    let row = transaction.query_opt(READ_GATE, &[]).await.doing(Kind::Server, what)?;
    let row = row.ok_or_else(|| {
        Error::new(Kind::Server, "green has no gate: whether applications write there is unknown")
            .hint("migrate.gate on green needs its row; `migrate replicate` makes it.")
    })?;
    row.try_get("opened_by").doing(Kind::Server, what)
}

/// Lets this transaction past green's closed gate, and nobody else: it must be closed again before the commit.
///
/// # Errors
/// [`Kind::Server`].
pub async fn pass_gate(transaction: &Transaction<'_>) -> Result<()> {
    let what = || "cannot get past green's gate".into();
    transaction.execute(PASS_GATE, &[]).await.doing(Kind::Server, what)?;
    Ok(())
}

/// Closes green's gate again, in the transaction that [`pass_gate`] let through; what it deferred to its commit happens now.
///
/// # Errors
/// [`Kind::Server`], also for rows that a deferred constraint does not take.
pub async fn close_gate(transaction: &Transaction<'_>) -> Result<()> {
    let what = || "cannot close green's gate again".into();
    transaction.batch_execute("set constraints all immediate").await.doing(Kind::Server, what)?;
    transaction.execute(CLOSE_GATE, &[]).await.doing(Kind::Server, what)?;
    Ok(())
}

/// What an attempt's books say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Accounts {
    /// Every producer's END was read, and counts and hashes agree.
    Settled,
    /// Not yet; why.
    Waiting(String),
    /// They disagree, and waiting for what is in the queue is the only hope; why.
    Mismatch(String),
}

/// Compares, for an attempt, what producers counted, what their ENDs say and what the ledger holds.
///
/// # Errors
/// [`Kind::Server`].
pub async fn accounts(green: &Client, attempt: i32) -> Result<Accounts> {
    let what = || "cannot read the accounts of revocations on green".into();
    let rows = green.query(LIST_ACCOUNTS, &[&attempt]).await.doing(Kind::Server, what)?;
    if rows.is_empty() {
        return Ok(Accounts::Waiting("no capture of this attempt has written anything yet".into()));
    }
    let (mut messages, mut hash) = (0, IdsHash::default());
    for row in &rows {
        match account(row).doing(Kind::Server, what)? {
            Ok((count, ids)) => {
                messages += count;
                hash.join(ids);
            }
            Err(standing) => return Ok(standing),
        }
    }
    let (held, held_hash) = ledger_sum(green, attempt).await?;
    Ok(if (held, held_hash) == (messages, hash) {
        Accounts::Settled
    } else if held == messages {
        Accounts::Mismatch(format!(
            "{held} revocations were captured and as many replayed, but not the same ones"
        ))
    } else {
        Accounts::Mismatch(format!("{messages} revocations were captured, and {held} are in the ledger"))
    })
}

type Account = std::result::Result<(u64, IdsHash), Accounts>;

/// What one producer's END says, when it agrees with what the producer wrote down.
fn account(row: &Row) -> Result<Account, Box<dyn std::error::Error + Send + Sync>> {
    let producer: String = row.try_get("producer")?;
    let counted = u64::try_from(row.try_get::<_, i64>("messages")?)?;
    let hash: IdsHash = row.try_get::<_, String>("ids_hash")?.parse()?;
    let end: (Option<i64>, Option<String>) = (row.try_get("end_messages")?, row.try_get("end_hash")?);
    let (Some(said), Some(said_hash)) = end else {
        return Ok(Err(Accounts::Waiting(format!("the END of `{producer}` has not come"))));
    };
    let (said, said_hash) = (u64::try_from(said)?, said_hash.parse::<IdsHash>()?);
    if !row.try_get::<_, bool>("ended")? {
        return Ok(Err(Accounts::Waiting(format!(
            "`{producer}` has gone on after its END, and owes another"
        ))));
    }
    if (said, said_hash) != (counted, hash) {
        return Ok(Err(Accounts::Mismatch(format!(
            "the END of `{producer}` speaks of {said} messages, and green's record of it of {counted}"
        ))));
    }
    Ok(Ok((said, said_hash)))
}

async fn ledger_sum(green: &Client, attempt: i32) -> Result<(u64, IdsHash)> {
    let what = || "cannot read the ledger of revocations on green".into();
    let ids = "select id from migrate.revocation where attempt = $1";
    let rows = green.query_raw(ids, [attempt]).await.doing(Kind::Server, what)?;
    let mut rows = std::pin::pin!(rows);
    let (mut count, mut hash) = (0, IdsHash::default());
    while let Some(row) = rows.try_next().await.doing(Kind::Server, what)? {
        hash.add(row.try_get::<_, &str>(0).doing(Kind::Server, what)?);
        count += 1;
    }
    Ok((count, hash))
}

/// Messages that nobody could use.
///
/// # Errors
/// [`Kind::Server`].
pub async fn count_parked(green: &impl GenericClient) -> Result<u64> {
    let what = || "cannot count parked revocations on green".into();
    let row = green
        .query_one("select count(*) from migrate.revocation_parked", &[])
        .await
        .doing(Kind::Server, what)?;
    Ok(from_count(row.try_get(0).doing(Kind::Server, what)?))
}

/// As Postgres counts.
pub(super) fn count(messages: u64) -> i64 {
    i64::try_from(messages).unwrap_or(i64::MAX)
}

/// A count of Postgres', which is never negative.
pub(super) fn from_count(count: i64) -> u64 {
    u64::try_from(count).unwrap_or(0)
}
