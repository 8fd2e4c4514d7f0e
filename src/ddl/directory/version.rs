//! Versions of migrations, in the order of the tool that numbers them.

use std::{cmp::Ordering, fmt};

/// A migration's version: how it is ordered, and how it is written.
#[derive(Debug, Clone)]
pub struct Version {
    order: Order,
    written: String,
}

/// What is compared. Of different kinds the earlier one runs first: Flyway's repeatable files come last.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Order {
    Number(u64),
    Parts(Vec<u64>),
    Text(String),
    /// By the number a name begins with, then by name.
    Named(u64, String),
    AfterAll(String),
}

impl Version {
    /// A whole number: `2` comes before `10`. `None` when it is no number, or too large for the tools that use one.
    pub fn number(written: &str) -> Option<Version> {
        let number = written.parse::<u64>().ok().filter(|number| i64::try_from(*number).is_ok())?;
        Some(Version { order: Order::Number(number), written: written.to_owned() })
    }

    /// Numbers with `.` or `_` between them: `1.2` and `1_2_0` are the same.
    pub fn parts(written: &str) -> Option<Version> {
        let mut parts: Vec<u64> = written.split(['.', '_']).map(str::parse).collect::<Result<_, _>>().ok()?;
        while parts.len() > 1 && parts.last() == Some(&0) {
            parts.pop();
        }
        Some(Version { order: Order::Parts(parts), written: written.replace('_', ".") })
    }

    /// Compared as text, byte by byte.
    pub fn text(written: impl Into<String>) -> Version {
        let written = written.into();
        Version { order: Order::Text(written.clone()), written }
    }

    /// A name, ordered by the number it begins with (0 without one), then as text.
    pub fn named(written: impl Into<String>) -> Version {
        let written = written.into();
        let digits = written.bytes().take_while(u8::is_ascii_digit).count();
        let number = written[..digits].parse().unwrap_or(0);
        Version { order: Order::Named(number, written.clone()), written }
    }

    /// After every version, by name.
    pub fn after_all(name: impl Into<String>) -> Version {
        let written = name.into();
        Version { order: Order::AfterAll(written.clone()), written }
    }

    /// The number, when that is what it is.
    pub fn as_number(&self) -> Option<u64> {
        match self.order {
            Order::Number(number) => Some(number),
            _ => None,
        }
    }

    /// Whether it runs whenever it changed, rather than once.
    pub fn is_repeatable(&self) -> bool {
        matches!(self.order, Order::AfterAll(_))
    }

    /// The same kind of version from what an operator wrote.
    pub fn alike(&self, written: &str) -> Option<Version> {
        match self.order {
            Order::Number(_) => Version::number(written),
            Order::Parts(_) => Version::parts(written),
            Order::Text(_) => Some(Version::text(written)),
            Order::Named(..) => Some(Version::named(written)),
            Order::AfterAll(_) => None,
        }
    }
}

impl PartialEq for Version {
    fn eq(&self, other: &Version) -> bool {
        self.order == other.order
    }
}

impl Eq for Version {}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Version) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Version) -> Ordering {
        self.order.cmp(&other.order)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_its_order() {
        assert!(Version::number("2") < Version::number("010"));
        assert!(Version::text("10") < Version::text("2"));
        assert!(Version::parts("1.9") < Version::parts("1_10"));
        assert_eq!(Version::parts("1.2.0"), Version::parts("1_2"));
        assert!(Version::parts("999") < Some(Version::after_all("a")));
        assert_eq!(Version::number("99999999999999999999"), None);
        assert_eq!(Version::parts("1..2"), None);
    }
}
