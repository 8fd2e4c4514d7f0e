//! Keeps what travels through the broker from other eyes and hands: XChaCha20-Poly1305 with the plan's key.
//!
//! The nonce is 192 random bits, so that messages made again after a crash never share one.

use super::message::Unusable;
use crate::error::{Error, Kind, Result};
use crate::finding::{Finding, Place, Severity};
use crate::plan::{Broker, Secret};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use serde::{Deserialize, Serialize};
use std::fmt;
use zeroize::Zeroizing;

/// The plan's `broker.seal_key`, ready for use. `Debug` shows its id only.
#[derive(Clone)]
pub struct SealKey {
    cipher: XChaCha20Poly1305,
    id: String,
}

/// A sealed inside.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sealed {
    /// Which key sealed it: the first 8 hexadecimal digits of a digest of the key.
    key: String,
    /// Base64 of 24 bytes.
    nonce: String,
    /// Base64 of the ciphertext and its tag.
    bytes: String,
}

impl SealKey {
    /// Reads a key of 32 bytes, written as 64 hexadecimal digits or as base64.
    ///
    /// # Errors
    /// [`Kind::Plan`] when it is neither; the message never contains the key.
    pub fn read(secret: &Secret) -> Result<SealKey> {
        let text = secret.expose().trim();
        let bytes = Zeroizing::new(
            from_hex(text)
                .or_else(|| BASE64.decode(text).ok())
                .filter(|bytes| bytes.len() == 32)
                .ok_or_else(wrong_key)?,
        );
        let cipher = XChaCha20Poly1305::new_from_slice(&bytes).map_err(|_| wrong_key())?;
        // A digest with a context of its own, so that the id tells nothing that could be used elsewhere.
        let digest = blake3::derive_key("migrate 2026 revocation seal key id", &bytes);
        let id = digest[..4].iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(SealKey { cipher, id })
    }

    /// The key of a plan's broker, when it has one.
    ///
    /// # Errors
    /// As [`SealKey::read`].
    pub fn of(broker: &Broker) -> Result<Option<SealKey>> {
        broker.seal_key.as_ref().map(SealKey::read).transpose()
    }

    /// Which key this is, for messages and reports; tells nothing of the key itself.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Seals an inside and binds it to `bound_to`.
    ///
    /// # Errors
    /// Only a fault of the program.
    pub fn seal(&self, inside: &[u8], bound_to: &[u8]) -> Result<Sealed> {
        let mut nonce = [0_u8; 24];
        rand::fill(&mut nonce);
        let bytes = self
            .cipher
            .encrypt(&XNonce::from(nonce), Payload { msg: inside, aad: bound_to })
            .map_err(|_| Error::new(Kind::Bug, "a revocation message cannot be sealed"))?;
        Ok(Sealed { key: self.id.clone(), nonce: BASE64.encode(nonce), bytes: BASE64.encode(bytes) })
    }

    /// Opens an inside that was bound to `bound_to`.
    ///
    /// # Errors
    /// [`Unusable::OtherKey`] or [`Unusable::Broken`].
    pub fn open(&self, sealed: &Sealed, bound_to: &[u8]) -> Result<Vec<u8>, Unusable> {
        if sealed.key != self.id {
            return Err(Unusable::OtherKey { theirs: sealed.key.clone(), ours: self.id.clone() });
        }
        let nonce: [u8; 24] = BASE64
            .decode(&sealed.nonce)
            .ok()
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or(Unusable::Broken)?;
        let bytes = BASE64.decode(&sealed.bytes).map_err(|_| Unusable::Broken)?;
        self.cipher
            .decrypt(&XNonce::from(nonce), Payload { msg: &bytes, aad: bound_to })
            .map_err(|_| Unusable::Broken)
    }
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealKey({})", self.id)
    }
}

fn wrong_key() -> Error {
    Error::new(Kind::Plan, "broker.seal_key is not a key: it must be 32 bytes in hex or base64").hint(
        "Make one with `openssl rand -hex 32` and keep it in the environment: seal_key: \"${SEAL_KEY}\".",
    )
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    if text.len() != 64 || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

/// Says that keys travel in clear, when the plan's broker has no seal key.
pub fn unsealed_finding(broker: &Broker) -> Option<Finding> {
    broker.seal_key.is_none().then(|| Finding {
        code: "REVOCATION_UNSEALED".into(),
        severity: Severity::Warning,
        place: Place::Plan { field: "broker.seal_key".into() },
        what: "There is no seal key: the keys of revoked rows travel through the broker, and lie on its disk, in clear, \
               and whoever may publish there can revoke."
            .into(),
        help: "Set broker.seal_key to 32 random bytes (`openssl rand -hex 32`), kept in the environment.".into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_and_base64_of_the_same_bytes_are_the_same_key() {
        let bytes: Vec<u8> = (0..32).collect();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let from_hex = SealKey::read(&Secret::new(hex)).unwrap();
        let from_base64 = SealKey::read(&Secret::new(BASE64.encode(&bytes))).unwrap();
        assert_eq!(from_hex.id(), from_base64.id());
        let sealed = from_hex.seal(b"inside", b"x").unwrap();
        assert_eq!(from_base64.open(&sealed, b"x").unwrap(), b"inside");
    }

    #[test]
    fn what_is_not_a_key_is_refused_without_being_shown() {
        for text in ["", "hunter2", &"a".repeat(63), &"zz".repeat(32), &BASE64.encode([0; 16])] {
            let error = SealKey::read(&Secret::new(text)).unwrap_err();
            assert_eq!(error.kind, Kind::Plan);
            assert!(text.is_empty() || !error.chain().join(" ").contains(text), "{text}");
        }
    }

    #[test]
    fn two_seals_of_the_same_inside_differ() {
        let key = SealKey::read(&Secret::new("ab".repeat(32))).unwrap();
        let (one, two) = (key.seal(b"inside", b"").unwrap(), key.seal(b"inside", b"").unwrap());
        assert_ne!(one.nonce, two.nonce);
        assert_ne!(one.bytes, two.bytes);
    }
}
