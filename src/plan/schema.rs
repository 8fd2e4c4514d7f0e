//! The shape of a plan, for editors (JSON Schema) and for readers (a page of tables). Both come from the doc comments
//! of [`super::types`], so they cannot fall behind.

use super::Plan;
use serde_json::{Map, Value};
use std::{collections::BTreeSet, fmt::Write};

/// The JSON Schema of a plan, with a newline at its end; `plans/schema.json` is this.
pub fn json_schema() -> String {
    format!("{:#}\n", schemars::schema_for!(Plan).as_value())
}

/// The reference page of a plan, in Markdown; `docs/reference/plan.md` is this.
pub fn reference() -> String {
    let schema = schemars::schema_for!(Plan);
    let root = schema.as_value();
    let empty = Map::new();
    let definitions = root.get("$defs").and_then(Value::as_object).unwrap_or(&empty);
    let mut page = String::from(INTRODUCTION);
    let mut waiting = vec![("Plan".to_owned(), root)];
    let mut seen = BTreeSet::from(["Plan".to_owned()]);
    // Breadth first, so that the page is in the order of reading.
    while !waiting.is_empty() {
        let (name, shape) = waiting.remove(0);
        describe(&mut page, &name, shape);
        for used in references(shape) {
            if let Some(shape) = definitions.get(&used)
                && seen.insert(used.clone())
            {
                waiting.push((used, shape));
            }
        }
    }
    page.trim_end().to_owned() + "\n"
}

const INTRODUCTION: &str = "<!-- Generated from src/plan/types; do not edit. UPDATE_GENERATED=1 with the tests writes it anew. -->
# The plan

A plan is one YAML file. Begin it with `# yaml-language-server: $schema=schema.json` (the path of `plans/schema.json`)
and an editor will complete and check it.

* Unknown, missing and duplicate keys and wrong types are refused with line and column.
* `${NAME}` in a value is replaced by the environment variable of that name after the YAML was parsed, so that a value
  cannot change the structure. A variable that is not set is an error, save in `plan --offline` and `plan
  --facts`, where it stands for itself. `$${` is a literal `${`. Keys are not expanded.
* Durations and sizes have a unit: `200ms`, `5s`, `10m`, `72h`, `3d`; `512B`, `64kB`, `1MB`, `20GB`, `1TB`, in powers of 1024.
* A field whose part is not built yet is refused with the code `NOT_YET`, never ignored.

";

fn describe(page: &mut String, name: &str, shape: &Value) {
    // Writing to a String cannot fail.
    let _ = writeln!(page, "## {name}\n");
    if let Some(text) = shape.get("description").and_then(Value::as_str) {
        let _ = writeln!(page, "{}\n", text.replace('\n', " "));
    }
    let words = choices(shape);
    if !words.is_empty() {
        let _ = writeln!(page, "| value | meaning |\n|---|---|");
        for (word, meaning) in words {
            let _ = writeln!(page, "| `{word}` | {meaning} |");
        }
        page.push('\n');
        return;
    }
    let Some(fields) = shape.get("properties").and_then(Value::as_object) else { return };
    let required: BTreeSet<&str> = shape
        .get("required")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let _ = writeln!(page, "| field | type | default | meaning |\n|---|---|---|---|");
    for (field, shape) in fields {
        let default = match shape.get("default") {
            _ if required.contains(field.as_str()) => "required".to_owned(),
            None | Some(Value::Null) => "none".to_owned(),
            Some(Value::Object(_)) => "see its fields".to_owned(),
            Some(value) => format!("`{value}`"),
        };
        let meaning = shape.get("description").and_then(Value::as_str).unwrap_or("").replace('\n', " ");
        let kind = type_words(shape).replace('|', "\\|");
        let _ = writeln!(page, "| `{field}` | {kind} | {default} | {} |", meaning.replace('|', "\\|"));
    }
    page.push('\n');
}

/// The words an enumeration allows, with their meanings.
fn choices(shape: &Value) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for choice in shape.get("oneOf").and_then(Value::as_array).into_iter().flatten() {
        if let Some(word) = choice.get("const").and_then(Value::as_str) {
            let meaning = choice.get("description").and_then(Value::as_str).unwrap_or("");
            found.push((word.to_owned(), meaning.replace('\n', " ")));
        }
    }
    found
}

/// A type in words, with links to the types it is made of.
fn type_words(shape: &Value) -> String {
    if let Some(name) = shape.get("$ref").and_then(Value::as_str).and_then(definition_name) {
        return format!("[{name}](#{})", name.to_lowercase());
    }
    if let Some(kinds) = shape.get("anyOf").and_then(Value::as_array) {
        let real: Vec<String> =
            kinds.iter().filter(|kind| kind.get("type") != Some(&"null".into())).map(type_words).collect();
        return real.join(" or ");
    }
    let kind = match shape.get("type") {
        Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).find(|kind| *kind != "null"),
        Some(kind) => kind.as_str(),
        None => None,
    };
    let inner = |key: &str| shape.get(key).map_or("anything".into(), type_words);
    match kind {
        Some("array") => format!("list of {}", inner("items")),
        Some("object") => format!("map of text to {}", inner("additionalProperties")),
        Some("string") => "text".into(),
        Some("boolean") => "true or false".into(),
        Some("integer") => "whole number".into(),
        Some(other) => other.into(),
        None => "anything".into(),
    }
}

fn definition_name(reference: &str) -> Option<&str> {
    reference.strip_prefix("#/$defs/")
}

/// The definitions a shape uses, in order.
fn references(shape: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let mut walk = vec![shape];
    while let Some(value) = walk.pop() {
        match value {
            Value::Object(map) => {
                found.extend(
                    map.get("$ref").and_then(Value::as_str).and_then(definition_name).map(str::to_owned),
                );
                // Of the root, only what it uses itself.
                walk.extend(map.iter().filter(|(key, _)| *key != "$defs").map(|(_, value)| value).rev());
            }
            Value::Array(items) => walk.extend(items.iter().rev()),
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_refuses_unknown_keys_everywhere() {
        let schema: Value = serde_json::from_str(&json_schema()).unwrap();
        let definitions = schema["$defs"].as_object().unwrap();
        let shapes = definitions.values().chain([&schema]).filter(|shape| shape.get("properties").is_some());
        for shape in shapes {
            assert_eq!(shape["additionalProperties"], false, "{shape}");
        }
    }

    #[test]
    fn the_page_describes_every_definition() {
        let page = reference();
        let schema: Value = serde_json::from_str(&json_schema()).unwrap();
        for name in schema["$defs"].as_object().unwrap().keys() {
            assert!(page.contains(&format!("\n## {name}\n")), "{name} is missing");
        }
        assert!(page.contains("| `pause_max` | [Span](#span) |"), "{page}");
    }
}
