//! What travels through the queue: versioned JSON, with an id that is the same however often it is made.
//!
//! The outside (version, plan, attempt, producer, id) is in clear, so that a message that cannot be opened can still
//! be named and parked. The inside (rule, key, position, or an END's count) is sealed when the plan has a key.

use super::seal::{SealKey, Sealed};
use crate::pg::lsn::Lsn;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The version of this format. A reader parks what has another one.
pub const VERSION: u32 = 1;

/// Names a message: attempt, commit position and ordinal. The same change has the same id after every restart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MessageId(String);

impl MessageId {
    /// The id of a revocation: the `ordinal`th of the transaction that committed at `commit_lsn` on blue.
    pub fn of_revocation(attempt: i32, commit_lsn: Lsn, ordinal: u64) -> MessageId {
        MessageId(format!("{attempt}-{:016X}-{ordinal}", commit_lsn.0))
    }

    /// The id of an END that speaks for everything up to `lsn`.
    pub fn of_end(attempt: i32, lsn: Lsn) -> MessageId {
        MessageId(format!("{attempt}-{:016X}-end", lsn.0))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The migration a queue belongs to. Everything sealed is bound to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    /// The plan's name.
    pub plan: String,
    /// The try this is.
    pub attempt: i32,
}

/// What a message says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Content {
    /// A row was revoked.
    Revocation(Revocation),
    /// A producer has published everything up to a position.
    End(End),
}

/// A row was revoked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    /// The rule that says so.
    pub rule: String,
    /// The rule's key columns, as text.
    pub key: Vec<String>,
    /// Where the revoking transaction committed on blue.
    pub commit_lsn: Lsn,
}

/// A producer has published everything up to a position.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// The position.
    pub commit_lsn: Lsn,
    /// Distinct messages since the attempt began.
    pub messages: u64,
    /// Their ids' hash.
    pub ids_hash: IdsHash,
}

/// A message: its name, who made it, and what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its name.
    pub id: MessageId,
    /// Who made it: the capture's slot.
    pub producer: String,
    /// What it says.
    pub content: Content,
}

/// The outside of a message, as JSON.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope {
    version: u32,
    plan: String,
    attempt: i32,
    producer: String,
    id: MessageId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    clear: Option<Content>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sealed: Option<Sealed>,
}

/// Why a message cannot be used. It is parked, never dropped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// Not JSON of this shape.
    #[error("it is not a message of ours: {0}")]
    Malformed(String),
    /// Made by another version of the program.
    #[error("its format version is {0}, and this program reads {VERSION}")]
    Version(u64),
    /// Of another plan or attempt.
    #[error("it belongs to plan `{plan}`, attempt {attempt}")]
    Foreign {
        /// The plan it names.
        plan: String,
        /// The attempt it names.
        attempt: i32,
    },
    /// Sealed, and the plan has no key.
    #[error("it is sealed, and the plan has no broker.seal_key")]
    NoKey,
    /// Sealed with another key.
    #[error("it is sealed with key {theirs}, and the plan's broker.seal_key is {ours}")]
    OtherKey {
        /// The key it names.
        theirs: String,
        /// The plan's.
        ours: String,
    },
    /// Changed on the way, or moved from another message.
    #[error("its seal is broken")]
    Broken,
    /// In clear, although the plan has a key: anybody could have made it.
    #[error("it is not sealed, and the plan has a broker.seal_key")]
    NotSealed,
    /// Names a rule the plan does not have.
    #[error("the plan has no revocation rule `{0}`")]
    UnknownRule(String),
    /// Its key does not have as many values as the rule has key columns.
    #[error("its key has {found} values, and rule `{rule}` has {expected} key columns")]
    KeyShape {
        /// The rule.
        rule: String,
        /// Values in the message.
        found: usize,
        /// Key columns of the rule.
        expected: usize,
    },
    /// Green refuses the effect for this very message.
    #[error("green refuses it: {0}")]
    Refused(String),
}

/// Writes a message, sealed when there is a key.
///
/// # Errors
/// Only a fault of the program: everything we make can be written.
pub fn write(message: &Message, context: &Context, key: Option<&SealKey>) -> crate::error::Result<Vec<u8>> {
    use crate::error::{Doing, Kind};
    let mut envelope = Envelope {
        version: VERSION,
        plan: context.plan.clone(),
        attempt: context.attempt,
        producer: message.producer.clone(),
        id: message.id.clone(),
        clear: None,
        sealed: None,
    };
    match key {
        None => envelope.clear = Some(message.content.clone()),
        Some(key) => {
            let inside = serde_json::to_vec(&message.content)
                .doing(Kind::Bug, || "a revocation message cannot be written".into())?;
            envelope.sealed = Some(key.seal(&inside, &bound_to(&envelope))?);
        }
    }
    serde_json::to_vec(&envelope).doing(Kind::Bug, || "a revocation message cannot be written".into())
}

/// Reads a message and opens it.
///
/// # Errors
/// [`Unusable`] says why it has to be parked.
pub fn read(body: &[u8], context: &Context, key: Option<&SealKey>) -> Result<Message, Unusable> {
    check_version(body)?;
    let envelope: Envelope =
        serde_json::from_slice(body).map_err(|error| Unusable::Malformed(error.to_string()))?;
    if envelope.plan != context.plan || envelope.attempt != context.attempt {
        return Err(Unusable::Foreign { plan: envelope.plan, attempt: envelope.attempt });
    }
    let content = match (&envelope.clear, &envelope.sealed, key) {
        (Some(content), None, None) => content.clone(),
        (Some(_), None, Some(_)) => return Err(Unusable::NotSealed),
        (None, Some(_), None) => return Err(Unusable::NoKey),
        (None, Some(sealed), Some(key)) => {
            let inside = key.open(sealed, &bound_to(&envelope))?;
            serde_json::from_slice(&inside).map_err(|error| Unusable::Malformed(error.to_string()))?
        }
        _ => return Err(Unusable::Malformed("it needs exactly one of `clear` and `sealed`".into())),
    };
    Ok(Message { id: envelope.id, producer: envelope.producer, content })
}

/// The version is looked at alone and first: another version may have any shape.
fn check_version(body: &[u8]) -> Result<(), Unusable> {
    let value: serde_json::Value =
        serde_json::from_slice(body).map_err(|error| Unusable::Malformed(error.to_string()))?;
    match value.get("version").and_then(serde_json::Value::as_u64) {
        Some(version) if version == u64::from(VERSION) => Ok(()),
        Some(version) => Err(Unusable::Version(version)),
        None => Err(Unusable::Malformed("it has no version".into())),
    }
}

/// The id a body names, if it can be read at all; to park under.
pub fn named_id(body: &[u8]) -> Option<String> {
    let value: serde_json::Value = serde_json::from_slice(body).ok()?;
    Some(value.get("id")?.as_str()?.to_owned())
}

/// The additional data of the seal. Lengths go first, so that no two envelopes give the same bytes.
fn bound_to(envelope: &Envelope) -> Vec<u8> {
    let attempt = envelope.attempt.to_string();
    let mut bytes = VERSION.to_be_bytes().to_vec();
    for part in [&envelope.plan, &attempt, &envelope.producer, &envelope.id.0] {
        bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
        bytes.extend_from_slice(part.as_bytes());
    }
    bytes
}

/// The xor of the 128-bit hashes of distinct ids: the same in whatever order they come, and each counts once.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IdsHash(u128);

impl IdsHash {
    /// Adds an id. Adding it a second time takes it away: the caller sees to it that ids are distinct.
    pub fn add(&mut self, id: &str) {
        self.0 ^= xxhash_rust::xxh3::xxh3_128(id.as_bytes());
    }

    /// The hash of two disjoint sets together.
    pub fn join(&mut self, other: IdsHash) {
        self.0 ^= other.0;
    }
}

impl fmt::Display for IdsHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl std::str::FromStr for IdsHash {
    type Err = String;

    /// 32 hexadecimal digits; an empty text is the hash of no ids.
    fn from_str(text: &str) -> Result<IdsHash, String> {
        if text.is_empty() {
            return Ok(IdsHash::default());
        }
        u128::from_str_radix(text, 16).map(IdsHash).map_err(|_| format!("`{text}` is not a hash of ids"))
    }
}

impl TryFrom<String> for IdsHash {
    type Error = String;

    fn try_from(text: String) -> Result<IdsHash, String> {
        text.parse()
    }
}

impl From<IdsHash> for String {
    fn from(hash: IdsHash) -> String {
        hash.to_string()
    }
}

#[cfg(test)]
mod tests;
