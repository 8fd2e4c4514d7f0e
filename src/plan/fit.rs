//! Fits a tree of values into a typed shape, and says which node does not fit and why.

use super::node::{Node, NodeId, Value};
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess,
    Unexpected, Visitor,
};
use std::fmt;

/// Why a node does not fit.
#[derive(Debug, Clone, PartialEq)]
pub enum Problem {
    /// A key that does not exist here.
    UnknownKey {
        /// As written.
        key: String,
        /// The keys there are.
        known: Vec<&'static str>,
    },
    /// A key that must be given.
    MissingKey(&'static str),
    /// A word that is not one of those allowed.
    UnknownChoice {
        /// As written.
        word: String,
        /// The words there are.
        known: Vec<&'static str>,
    },
    /// Another kind of value is wanted.
    WrongKind {
        /// What is there, in words.
        found: String,
        /// What is wanted, in words.
        wanted: String,
    },
    /// The right kind, but not a value that means anything.
    Refused(String),
}

/// A node that does not fit.
#[derive(Debug, Clone)]
pub struct Misfit {
    /// Why.
    pub problem: Problem,
    /// The innermost node concerned.
    pub at: Option<NodeId>,
    /// The keys and positions that lead there, innermost first.
    path: Vec<String>,
}

impl Misfit {
    fn new(problem: Problem) -> Misfit {
        Misfit { problem, at: None, path: Vec::new() }
    }

    fn at(mut self, node: &Node) -> Misfit {
        if self.at.is_none() {
            self.at = Some(node.id);
            if let Value::Expanded { written, value } = &node.value {
                self.problem = self.problem.without(value, written);
            }
        }
        self
    }

    fn under(mut self, step: impl Into<String>) -> Misfit {
        self.path.push(step.into());
        self
    }

    /// The field, as `cutover.route.pgbouncer[0].admin`; empty for the plan itself.
    pub fn field(&self) -> String {
        let mut field = String::new();
        for step in self.path.iter().rev() {
            if !field.is_empty() && !step.starts_with('[') {
                field.push('.');
            }
            field.push_str(step);
        }
        field
    }
}

impl Problem {
    /// Takes a variable's value out of the words, so that no secret is shown.
    fn without(self, value: &str, written: &str) -> Problem {
        // A text that quotes the value in another form than its own is replaced whole.
        let hide = |text: String| match text.strip_prefix(&format!("`{value}`")) {
            Some(rest) if value.is_empty() || !rest.contains(value) => format!("`{written}`{rest}"),
            _ => format!("the value of `{written}` does not fit here"),
        };
        match self {
            Problem::WrongKind { wanted, .. } => {
                Problem::WrongKind { found: format!("the value of `{written}`"), wanted }
            }
            Problem::UnknownChoice { known, .. } => {
                Problem::UnknownChoice { word: written.to_owned(), known }
            }
            Problem::UnknownKey { known, .. } => Problem::UnknownKey { key: written.to_owned(), known },
            Problem::Refused(text) => Problem::Refused(hide(text)),
            Problem::MissingKey(key) => Problem::MissingKey(key),
        }
    }
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.problem)
    }
}

impl std::error::Error for Misfit {}

impl de::Error for Misfit {
    fn custom<T: fmt::Display>(message: T) -> Misfit {
        Misfit::new(Problem::Refused(message.to_string()))
    }

    fn invalid_type(found: Unexpected<'_>, wanted: &dyn de::Expected) -> Misfit {
        Misfit::new(Problem::WrongKind {
            found: found_words(&found),
            wanted: wanted_words(&wanted.to_string()),
        })
    }

    fn invalid_value(found: Unexpected<'_>, wanted: &dyn de::Expected) -> Misfit {
        Misfit::invalid_type(found, wanted)
    }

    fn unknown_variant(word: &str, known: &'static [&'static str]) -> Misfit {
        Misfit::new(Problem::UnknownChoice { word: word.to_owned(), known: known.to_vec() })
    }

    fn unknown_field(key: &str, known: &'static [&'static str]) -> Misfit {
        Misfit::new(Problem::UnknownKey { key: key.to_owned(), known: known.to_vec() })
    }

    fn missing_field(key: &'static str) -> Misfit {
        Misfit::new(Problem::MissingKey(key))
    }
}

fn found_words(found: &Unexpected<'_>) -> String {
    match found {
        Unexpected::Bool(value) => format!("`{value}`"),
        Unexpected::Signed(value) => format!("the number {value}"),
        Unexpected::Unsigned(value) => format!("the number {value}"),
        Unexpected::Float(value) => format!("the number {value}"),
        Unexpected::Str(text) => format!("the text `{text}`"),
        Unexpected::Unit | Unexpected::Option => "nothing".into(),
        Unexpected::Seq => "a list".into(),
        Unexpected::Map => "keys and values".into(),
        other => other.to_string(),
    }
}

/// What serde calls things, in the operator's words.
fn wanted_words(wanted: &str) -> String {
    match wanted {
        "a string" => "text".into(),
        "a boolean" => "true or false".into(),
        "u16" => format!("a whole number from 0 to {}", u16::MAX),
        "u32" => format!("a whole number from 0 to {}", u32::MAX),
        "a sequence" => "a list".into(),
        "a map" => "keys and values".into(),
        other if other.starts_with("struct ") => "keys and values".into(),
        other if other.starts_with("enum ") => "a word".into(),
        other => other.to_owned(),
    }
}

/// Fits a tree into a `T`.
///
/// # Errors
/// The first node that does not fit.
pub fn fit<T: DeserializeOwned>(node: &Node) -> Result<T, Misfit> {
    T::deserialize(Fit(node))
}

#[derive(Clone, Copy)]
struct Fit<'a>(&'a Node);

impl<'a> Fit<'a> {
    fn any<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match &self.0.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Integer(value) => visitor.visit_i64(*value),
            Value::Float(value) => visitor.visit_f64(*value),
            Value::Text(text) => visitor.visit_str(text),
            Value::Expanded { value, .. } => visitor.visit_str(value),
            Value::List(items) => visitor.visit_seq(Items { rest: items.iter(), at: 0 }),
            Value::Map(entries) => visitor.visit_map(Entries { rest: entries.iter(), entry: None }),
        }
    }

    /// A variable may hold a number or a truth value, though it is text.
    fn scalar<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        if let Value::Expanded { value, .. } = &self.0.value {
            if let Ok(number) = value.parse::<i64>() {
                return visitor.visit_i64(number);
            }
            if let Ok(truth) = value.parse::<bool>() {
                return visitor.visit_bool(truth);
            }
        }
        self.any(visitor)
    }
}

macro_rules! scalars {
    ($($method:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
            self.scalar(visitor).map_err(|misfit| misfit.at(self.0))
        })*
    };
}

impl<'de> Deserializer<'de> for Fit<'_> {
    type Error = Misfit;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        self.any(visitor).map_err(|misfit| misfit.at(self.0))
    }

    scalars!(deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_u8
        deserialize_u16 deserialize_u32 deserialize_u64 deserialize_f32 deserialize_f64);

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match self.0.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
        .map_err(|misfit| misfit.at(self.0))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        // A list would be taken for the fields in order.
        if let Value::List(_) = self.0.value {
            return Err(<Misfit as de::Error>::invalid_type(Unexpected::Seq, &"a map").at(self.0));
        }
        self.deserialize_any(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        visitor.visit_newtype_struct(self).map_err(|misfit| misfit.at(self.0))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        match &self.0.value {
            Value::Text(word) | Value::Expanded { value: word, .. } => {
                visitor.visit_enum(word.as_str().into_deserializer())
            }
            _ => self.any(visitor),
        }
        .map_err(|misfit: Misfit| misfit.at(self.0))
    }

    serde::forward_to_deserialize_any! {
        i128 u128 char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map identifier ignored_any
    }
}

struct Items<'a> {
    rest: std::slice::Iter<'a, Node>,
    at: usize,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Misfit;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Misfit> {
        let Some(node) = self.rest.next() else { return Ok(None) };
        let step = format!("[{}]", self.at);
        self.at += 1;
        seed.deserialize(Fit(node)).map(Some).map_err(|misfit| misfit.under(step))
    }
}

struct Entries<'a> {
    rest: std::slice::Iter<'a, (Node, Node)>,
    entry: Option<(&'a Node, &'a Node)>,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Misfit;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Misfit> {
        let Some((key, value)) = self.rest.next() else { return Ok(None) };
        if key.as_key().is_none() {
            return Err(<Misfit as de::Error>::custom("a key must be text: put it in quotes").at(key));
        }
        self.entry = Some((key, value));
        seed.deserialize(Fit(key)).map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Misfit> {
        let (key, value) =
            self.entry.take().ok_or_else(|| <Misfit as de::Error>::custom("a value without a key"))?;
        seed.deserialize(Fit(value)).map_err(|misfit| misfit.under(key.as_key().unwrap_or("?")))
    }
}
