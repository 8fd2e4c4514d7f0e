//! A plan's YAML as a tree whose nodes are numbered in reading order.
//!
//! The YAML crate tells the position of an error, but not of a value, and reports a duplicate key at line 1. So the
//! tree is read without positions, and only when something is wrong with node *n* is the text read once more by a
//! [`Reader`] that fails on purpose at node *n*: the crate then says where that is.

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use std::{cell::Cell, fmt};

/// The number of a node, in reading order, keys included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeId(pub usize);

/// A value of the file.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Its number.
    pub id: NodeId,
    /// What it is.
    pub value: Value,
}

/// What a node is.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Nothing was written.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// A number with a fraction, or too large for an integer.
    Float(f64),
    /// A text without variables.
    Text(String),
    /// A text whose `${…}` were replaced.
    Expanded {
        /// As the operator wrote it; this is what messages may show.
        written: String,
        /// With the variables' values; never shown.
        value: String,
    },
    /// A list.
    List(Vec<Node>),
    /// Keys and values in the order of the file; a key may stand twice.
    Map(Vec<(Node, Node)>),
}

impl Node {
    /// The text of a key.
    pub fn as_key(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// Reads a tree, or fails on purpose at one node.
#[derive(Clone, Copy)]
pub struct Reader<'a> {
    next: &'a Cell<usize>,
    stop_at: Option<NodeId>,
}

impl<'a> Reader<'a> {
    /// Reads the whole tree. `next` starts at 0.
    pub fn of_tree(next: &'a Cell<usize>) -> Reader<'a> {
        Reader { next, stop_at: None }
    }

    /// Fails at `node`, so that the YAML crate tells where it is. `next` starts at 0.
    pub fn of_place(next: &'a Cell<usize>, node: NodeId) -> Reader<'a> {
        Reader { next, stop_at: Some(node) }
    }

    fn number<E: Error>(self) -> Result<NodeId, E> {
        let id = NodeId(self.next.replace(self.next.get() + 1));
        if self.stop_at == Some(id) { Err(E::custom("here")) } else { Ok(id) }
    }

    fn leaf<E: Error>(self, value: Value) -> Result<Node, E> {
        Ok(Node { id: self.number()?, value })
    }
}

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a plain value without a YAML tag")
    }

    fn visit_unit<E: Error>(self) -> Result<Node, E> {
        self.leaf(Value::Null)
    }

    fn visit_none<E: Error>(self) -> Result<Node, E> {
        self.leaf(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Node, E> {
        self.leaf(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Node, E> {
        self.leaf(Value::Integer(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Node, E> {
        // Past i64 it is larger than any number a plan may hold; as a float it is still refused by name.
        self.leaf(i64::try_from(value).map_or(Value::Float(value as f64), Value::Integer))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Node, E> {
        self.leaf(Value::Float(value))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Node, E> {
        self.leaf(Value::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        let id = self.number()?;
        let mut items = Vec::new();
        while let Some(item) = access.next_element_seed(self)? {
            items.push(item);
        }
        Ok(Node { id, value: Value::List(items) })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        let id = self.number()?;
        let mut entries = Vec::new();
        while let Some(entry) = access.next_entry_seed(self, self)? {
            entries.push(entry);
        }
        Ok(Node { id, value: Value::Map(entries) })
    }
}

/// A key given twice in one map: its first and its second place.
pub fn duplicate_key(node: &Node) -> Option<(NodeId, &Node)> {
    match &node.value {
        Value::List(items) => items.iter().find_map(duplicate_key),
        Value::Map(entries) => entries.iter().enumerate().find_map(|(at, (key, value))| {
            let first = entries[..at].iter().find(|(earlier, _)| earlier.value == key.value);
            first.map(|(first, _)| (first.id, key)).or_else(|| duplicate_key(value))
        }),
        _ => None,
    }
}
