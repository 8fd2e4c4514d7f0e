//! `${NAME}` in the values of a plan: replaced from the environment, or, where a plan is only shown, standing for itself.

use super::node::{Node, NodeId, Value};

/// A variable that is not set, in a plan that is read and not run: `${NAME}` stands for itself there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnsetVariable {
    /// Its name.
    pub name: String,
    /// The field that needs it, as `cutover.route.pgbouncer[0].to`.
    pub field: String,
    /// The text it stands in.
    pub(super) at: NodeId,
}

impl UnsetVariable {
    /// What stands in the field: `${NAME}`.
    pub fn placeholder(&self) -> String {
        format!("${{{}}}", self.name)
    }
}

/// Why a variable could not be replaced.
pub(super) struct Unexpanded {
    /// The text it stands in.
    pub(super) at: NodeId,
    /// Its field.
    pub(super) field: String,
    /// What is wrong.
    pub(super) what: ExpandTrouble,
}

pub(super) enum ExpandTrouble {
    /// The variable of that name is not set, and must be.
    NotSet(String),
    /// A `${` that begins no variable.
    Malformed,
}

/// Replaces `${NAME}`.
pub(super) struct Variables<'a> {
    env: &'a dyn Fn(&str) -> Option<String>,
    when_unset: WhenUnset,
    /// Those that stand for themselves, in the order of the file.
    pub(super) unset: Vec<UnsetVariable>,
}

/// What becomes of a variable that is not set.
#[derive(Clone, Copy)]
enum WhenUnset {
    Refuse,
    StandForItself,
}

impl<'a> Variables<'a> {
    /// Of a plan that is run.
    pub(super) fn required(env: &'a dyn Fn(&str) -> Option<String>) -> Variables<'a> {
        Variables { env, when_unset: WhenUnset::Refuse, unset: Vec::new() }
    }

    /// Of a plan that is only shown.
    pub(super) fn optional(env: &'a dyn Fn(&str) -> Option<String>) -> Variables<'a> {
        Variables { env, when_unset: WhenUnset::StandForItself, unset: Vec::new() }
    }

    /// Replaces them in every value of the tree; `path` leads to `node`.
    pub(super) fn expand(
        &mut self,
        node: &mut Node,
        path: &mut Vec<String>,
    ) -> std::result::Result<(), Unexpanded> {
        match &mut node.value {
            Value::Text(written) if written.contains("${") => {
                let (at, field) = (node.id, path.concat());
                let value =
                    self.expand_text(written, at, &field).map_err(|what| Unexpanded { at, field, what })?;
                node.value = Value::Expanded { written: written.clone(), value };
            }
            Value::List(items) => {
                for (at, item) in items.iter_mut().enumerate() {
                    path.push(format!("[{at}]"));
                    self.expand(item, path)?;
                    path.pop();
                }
            }
            Value::Map(entries) => {
                for (key, value) in entries {
                    let dot = if path.is_empty() { "" } else { "." };
                    path.push(format!("{dot}{}", key.as_key().unwrap_or("?")));
                    self.expand(value, path)?;
                    path.pop();
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn expand_text(
        &mut self,
        written: &str,
        at: NodeId,
        field: &str,
    ) -> std::result::Result<String, ExpandTrouble> {
        let mut value = String::new();
        let mut rest = written;
        while let Some(start) = rest.find("${") {
            let (before, from) = rest.split_at(start);
            if let Some(before) = before.strip_suffix('$') {
                value.push_str(before);
                value.push_str("${");
                rest = &from[2..];
                continue;
            }
            value.push_str(before);
            let end = from.find('}').ok_or(ExpandTrouble::Malformed)?;
            let name = &from[2..end];
            let well_formed = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
                && name.starts_with(|c: char| !c.is_ascii_digit());
            if !well_formed {
                return Err(ExpandTrouble::Malformed);
            }
            match ((self.env)(name), self.when_unset) {
                (Some(there), _) => value.push_str(&there),
                (None, WhenUnset::Refuse) => return Err(ExpandTrouble::NotSet(name.to_owned())),
                (None, WhenUnset::StandForItself) => {
                    let variable = UnsetVariable { name: name.to_owned(), field: field.to_owned(), at };
                    value.push_str(&variable.placeholder());
                    self.unset.push(variable);
                }
            }
            rest = &from[end + 1..];
        }
        value.push_str(rest);
        Ok(value)
    }
}
