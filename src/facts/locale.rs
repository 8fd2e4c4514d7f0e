//! How a database sorts its texts.

use serde::{Deserialize, Serialize};

/// The database's own collation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Collation {
    /// Who sorts: `libc`, `icu` or `builtin`.
    pub provider: String,
    /// `LC_COLLATE`.
    pub collate: String,
    /// `LC_CTYPE`.
    pub ctype: String,
    /// The locale, for `icu` and `builtin`.
    pub locale: Option<String>,
    /// The library's version when the database was made or last refreshed; none for C.
    pub recorded_version: Option<String>,
    /// The library's version now.
    pub version: Option<String>,
}

impl Collation {
    /// What decides the order of texts, the library's version left out: `libc de_DE.UTF-8`, `icu de-DE`.
    pub fn order(&self) -> String {
        match (&self.locale, self.provider.as_str()) {
            (Some(locale), "icu" | "builtin") => format!("{} {locale}", self.provider),
            _ => format!("{} {}", self.provider, self.collate),
        }
    }
}
