//! Durations and sizes as the operator writes them: always with a unit.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Visitor};
use std::{borrow::Cow, fmt, str::FromStr, time::Duration};

/// A length of time: `200ms`, `5s`, `10m`, `72h`, `3d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

/// A number of bytes: `512B`, `1MB`, `20GB`; powers of 1024, as in `postgresql.conf`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

/// Bytes in a second: `50MB/s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rate(pub u64);

/// How far one server may be behind another: by time, `10s`, or by WAL, `64MB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LagMax {
    /// By time.
    Time(Span),
    /// By WAL.
    Wal(Size),
}

const SPAN_UNITS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
const SIZE_UNITS: [(&str, u64); 5] =
    [("B", 1), ("kB", 1 << 10), ("MB", 1 << 20), ("GB", 1 << 30), ("TB", 1 << 40)];

fn parse_quantity(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let factor = units.iter().find(|(name, _)| *name == unit.trim_start())?.1;
    number.parse::<u64>().ok()?.checked_mul(factor)
}

/// The largest unit that divides the value, so that what was written `5s` is shown `5s`.
fn show_quantity(value: u64, units: &[(&str, u64)]) -> String {
    let (unit, factor) = units
        .iter()
        .rev()
        .find(|(_, factor)| value > 0 && value.is_multiple_of(*factor))
        .unwrap_or(&units[0]);
    format!("{}{unit}", value / factor)
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Span, String> {
        parse_quantity(text, &SPAN_UNITS).map(|ms| Span(Duration::from_millis(ms))).ok_or_else(|| {
            format!(
                "`{text}` is not a duration: write a whole number and a unit, like 200ms, 5s, 10m, 72h or 3d"
            )
        })
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        f.write_str(&show_quantity(ms, &SPAN_UNITS))
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Size, String> {
        parse_quantity(text, &SIZE_UNITS).map(Size).ok_or_else(|| {
            format!("`{text}` is not a size: write a whole number and a unit, like 64kB, 1MB or 20GB")
        })
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&show_quantity(self.0, &SIZE_UNITS))
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Rate, String> {
        let size = text.strip_suffix("/s").and_then(|size| parse_quantity(size, &SIZE_UNITS));
        size.map(Rate).ok_or_else(|| {
            format!(
                "`{text}` is not a rate: write a whole number and a unit a second, like 500kB/s or 50MB/s"
            )
        })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/s", show_quantity(self.0, &SIZE_UNITS))
    }
}

impl FromStr for LagMax {
    type Err = String;

    fn from_str(text: &str) -> Result<LagMax, String> {
        let (time, wal) = (text.parse::<Span>(), text.parse::<Size>());
        time.map(LagMax::Time).or(wal.map(LagMax::Wal)).map_err(|_| {
            format!("`{text}` is neither a duration nor a size: write one with its unit, like 10s or 64MB")
        })
    }
}

impl fmt::Display for LagMax {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LagMax::Time(span) => span.fmt(f),
            LagMax::Wal(size) => size.fmt(f),
        }
    }
}

/// Reads text; a bare number is refused with the words that say how to write one with its unit.
struct AsText<T>(std::marker::PhantomData<T>);

impl<T: FromStr<Err = String>> Visitor<'_> for AsText<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number with its unit")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }
}

macro_rules! as_text {
    ($type:ident, $pattern:literal, $doc:literal) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<$type, D::Error> {
                deserializer.deserialize_any(AsText(std::marker::PhantomData))
            }
        }
        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": $pattern, "description": $doc })
            }
        }
    };
}
as_text!(Span, "^[0-9]+ *(ms|s|m|h|d)$", "A duration with its unit: 200ms, 5s, 10m, 72h, 3d.");
as_text!(Size, "^[0-9]+ *(B|kB|MB|GB|TB)$", "A size with its unit, powers of 1024: 64kB, 1MB, 20GB.");
as_text!(Rate, "^[0-9]+ *(B|kB|MB|GB|TB)/s$", "Bytes in a second, powers of 1024: 500kB/s, 50MB/s.");
as_text!(
    LagMax,
    "^[0-9]+ *(ms|s|m|h|d|B|kB|MB|GB|TB)$",
    "A duration or an amount of WAL, with its unit: 10s, 64MB."
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_is_shown() {
        for text in ["200ms", "5s", "10m", "72h", "0ms"] {
            assert_eq!(text.parse::<Span>().unwrap().to_string(), if text == "72h" { "3d" } else { text });
        }
        assert_eq!("1MB".parse::<Size>().unwrap(), Size(1_048_576));
        for text in ["50MB/s", "1536kB/s"] {
            assert_eq!(text.parse::<Rate>().unwrap().to_string(), text);
        }
        assert_eq!("10m".parse::<LagMax>().unwrap(), LagMax::Time(Span(Duration::from_secs(600))));
        assert_eq!("10MB".parse::<LagMax>().unwrap(), LagMax::Wal(Size(10 << 20)));
        assert_eq!("1536kB".parse::<Size>().unwrap().to_string(), "1536kB");
    }

    #[test]
    fn a_number_without_a_unit_is_refused() {
        for text in ["5", "s", "", "-5s", "5 parsecs", "99999999999999999999s", "1.5s"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
            assert!(text.parse::<LagMax>().is_err(), "{text}");
        }
        for text in ["50MB", "50MB/m", "50/s", "/s", "MB/s"] {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
    }
}
