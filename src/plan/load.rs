//! Reads a plan: the only user of the YAML crate in the program. Its SQL files are read by [`super::sql_files`]; no other
//! part of this room touches files.

pub use super::sql_files::{SqlSource, load_sql};
use super::{
    Plan,
    excerpt::{Spot, excerpt, without_passwords},
    fit::{Misfit, Problem, fit},
    node::{self, Node, NodeId, Reader},
    variables::{ExpandTrouble, Unexpanded, UnsetVariable, Variables},
};
pub use crate::ddl::SqlFile;
use crate::error::{Doing, Error, Kind, Result};
use crate::finding::suggest;
use serde::de::DeserializeSeed;
use std::{
    cell::Cell,
    fmt, fs, io,
    path::{Path, PathBuf},
};

/// The largest plan we read, in bytes. A plan is a page or two; this keeps a wrong path from filling memory.
const PLAN_BYTES_MAX: u64 = 1 << 20;

/// A plan, and where it was.
pub struct Loaded {
    /// What the operator wrote, variables replaced.
    pub plan: Plan,
    /// The file, as it was named to us.
    pub path: PathBuf,
    /// Its directory; the plan's paths are relative to it.
    pub base_dir: PathBuf,
    /// The file's text, variables *not* replaced.
    pub text: String,
}

/// A plan for reading only: whoever connects somewhere needs a [`Loaded`].
#[derive(Debug)]
pub struct Sketch {
    /// The plan; a value that nobody has is its own placeholder.
    pub loaded: Loaded,
    /// Each variable that is not set, once for each field that needs it.
    pub unset: Vec<UnsetVariable>,
}

impl fmt::Debug for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The text may hold a password that should have been a variable.
        f.debug_struct("Loaded").field("path", &self.path).field("plan", &self.plan).finish_non_exhaustive()
    }
}

/// Reads a plan. `env` gives the value of an environment variable, if it is set.
///
/// `${NAME}` is replaced in values, after the YAML was parsed, so that a value can never change the structure; `$${`
/// is a literal `${`. Keys are never expanded.
///
/// # Errors
/// [`Kind::Plan`], with file, line, column, the line itself and what to do. A variable's value is never in it.
pub fn load(path: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<Loaded> {
    read_plan(path, Variables::required(env)).map(|sketch| sketch.loaded)
}

/// Reads a plan that will only be shown, where secrets need not be: in CI, say. As [`load`], but a variable that is
/// not set stands for itself.
///
/// # Errors
/// As [`load`]; also when such a variable is wanted as a number or a word, for which nothing can stand.
pub fn sketch(path: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<Sketch> {
    read_plan(path, Variables::optional(env))
}

fn read_plan(path: &Path, mut variables: Variables<'_>) -> Result<Sketch> {
    let text = read_text(path, PLAN_BYTES_MAX, "plan")?;
    let plan = parse_with(&text, &path.display().to_string(), &mut variables)?;
    let base_dir = match path.parent() {
        Some(parent) if parent != Path::new("") => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    let loaded = Loaded { plan, path: path.to_owned(), base_dir, text };
    Ok(Sketch { loaded, unset: variables.unset })
}

/// Reads a plan from a text; `name` stands for the file in messages.
///
/// # Errors
/// As [`load`].
pub fn parse(text: &str, name: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Plan> {
    parse_with(text, name, &mut Variables::required(env))
}

fn parse_with(text: &str, name: &str, variables: &mut Variables<'_>) -> Result<Plan> {
    let source = Source { text, name };
    let mut tree = source.read_tree()?;
    if let Some((first, key)) = node::duplicate_key(&tree) {
        let line = source.spot_of(first).map_or(0, |spot| spot.line);
        let word = key.as_key().unwrap_or("?");
        return Err(source
            .error(
                source.spot_of(key.id),
                format!("the key `{word}` is given twice; the first is on line {line}"),
            )
            .hint("keep one of the two"));
    }
    variables.expand(&mut tree, &mut Vec::new()).map_err(|trouble| source.unexpanded(&trouble))?;
    fit(&tree).map_err(|misfit| {
        match variables.unset.iter().find(|variable| Some(variable.at) == misfit.at) {
            Some(variable) => source.no_stand_in(variable),
            None => source.misfit(&misfit),
        }
    })
}

fn read_text(path: &Path, bytes_max: u64, what: &str) -> Result<String> {
    let bytes = read_bytes(path, bytes_max, what)?;
    String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = good.iter().filter(|byte| **byte == b'\n').count() + 1;
        Error::new(Kind::Plan, format!("{}:{line}: this is not UTF-8 text", path.display()))
            .hint("save the file as UTF-8")
    })
}

/// What is in a file that must be there, and not larger than `bytes_max`.
pub(super) fn read_bytes(path: &Path, bytes_max: u64, what: &str) -> Result<Vec<u8>> {
    let shown = path.display();
    let meta = match fs::metadata(path) {
        Ok(meta) => meta,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Error::new(Kind::Plan, format!("{shown}: there is no such file"))
                .hint(format!("give the path of a {what}")));
        }
        Err(error) => {
            return Err(Error::new(Kind::Plan, format!("{shown}: the {what} cannot be read")).source(error));
        }
    };
    if meta.is_dir() {
        return Err(Error::new(Kind::Plan, format!("{shown}: this is a directory, not a {what}"))
            .hint(format!("name the {what} itself")));
    }
    if meta.len() > bytes_max {
        return Err(Error::new(
            Kind::Plan,
            format!("{shown}: {} bytes are too many for a {what}, {bytes_max} are the limit", meta.len()),
        ));
    }
    fs::read(path).doing(Kind::Plan, || format!("{shown}: the {what} cannot be read"))
}

/// The text we read, for messages.
struct Source<'a> {
    text: &'a str,
    name: &'a str,
}

impl Source<'_> {
    fn read_tree(&self) -> Result<Node> {
        let nothing = |line: &str| line.trim().is_empty() || line.trim_start().starts_with('#');
        if self.text.lines().all(nothing) {
            return Err(Error::new(Kind::Plan, format!("{}: the plan is empty", self.name))
                .hint("begin with `version: 1`; plans/minimal.yaml is one to start from"));
        }
        let next = Cell::new(0);
        Reader::of_tree(&next)
            .deserialize(serde_yaml::Deserializer::from_str(self.text))
            .map_err(|error| self.not_yaml(&error))
    }

    /// Where a node begins: reads the text again and fails there on purpose.
    fn spot_of(&self, node: NodeId) -> Option<Spot> {
        let next = Cell::new(0);
        let error =
            Reader::of_place(&next, node).deserialize(serde_yaml::Deserializer::from_str(self.text)).err()?;
        error.location().map(|at| Spot { line: at.line(), column: at.column() })
    }

    /// The one form of message about a plan's text.
    fn error(&self, spot: Option<Spot>, what: String) -> Error {
        let Some(spot) = spot else { return Error::new(Kind::Plan, format!("{}: {what}", self.name)) };
        let what = without_passwords(&what);
        let lines = excerpt(self.text, spot);
        let gap = if lines.is_empty() { "" } else { "\n" };
        Error::new(Kind::Plan, format!("{}:{}:{}: {what}{gap}{lines}", self.name, spot.line, spot.column))
    }

    fn not_yaml(&self, error: &serde_yaml::Error) -> Error {
        let spot = error.location().map(|at| Spot { line: at.line(), column: at.column() });
        let text = error.to_string();
        if text.contains("more than one document") {
            return self
                .error(None, "the file holds more than one YAML document".into())
                .hint("a plan is one document: remove the second `---`");
        }
        let problem = text.split(" at line ").next().unwrap_or(&text);
        if problem.contains("YAML tag") {
            let error = self.error(spot, "a plan has no YAML tags".into());
            return error.hint("write the value without `!`");
        }
        let error = self.error(spot, format!("this is not YAML: {problem}"));
        let line = spot.and_then(|spot| self.text.lines().nth(spot.line.saturating_sub(1))).unwrap_or("");
        match text.split_once("while parsing ") {
            _ if line.contains('\t') => error.hint("YAML is indented with spaces, not with tabs"),
            Some((_, context)) => error.hint(format!("it was met while parsing {context}")),
            None => {
                error.hint("look at the indentation, the quotes and the `:` of this line and the one before")
            }
        }
    }

    fn unexpanded(&self, trouble: &Unexpanded) -> Error {
        let spot = self.spot_of(trouble.at);
        let field = &trouble.field;
        match &trouble.what {
            ExpandTrouble::NotSet(variable) => self
                .error(spot, format!("`{field}` needs the environment variable {variable}, which is not set"))
                .hint(format!("export {variable}, or write `$${{` for a literal `${{`")),
            ExpandTrouble::Malformed => self
                .error(spot, format!("`{field}` holds a `${{` that is not a variable"))
                .hint("write ${NAME} with letters, digits and `_`, or `$${` for a literal `${`"),
        }
    }

    /// A number or a word is wanted, and the variable that holds it is not set.
    fn no_stand_in(&self, variable: &UnsetVariable) -> Error {
        let UnsetVariable { name, field, at } = variable;
        self.error(
            self.spot_of(*at),
            format!("`{field}` needs the environment variable {name}, which is not set"),
        )
        .hint(format!(
            "export {name}: without it a text can be shown as `{}`, but this is no text",
            variable.placeholder()
        ))
    }

    fn misfit(&self, misfit: &Misfit) -> Error {
        let spot = misfit.at.and_then(|at| self.spot_of(at));
        let field = misfit.field();
        let place = if field.is_empty() { "the plan".to_owned() } else { format!("`{field}`") };
        match &misfit.problem {
            Problem::UnknownKey { key, known } => self
                .error(spot, format!("{place} has no key `{key}`"))
                .hint(suggest(key, known, "the keys here are")),
            Problem::UnknownChoice { word, known } => self
                .error(spot, format!("{place} cannot be `{word}`"))
                .hint(suggest(word, known, "it can be")),
            Problem::MissingKey(key) => self
                .error(spot, format!("{place} lacks the key `{key}`"))
                .hint(format!("add `{key}:`; docs/reference/plan.md says what it means")),
            Problem::WrongKind { found, wanted } if found == "nothing" => {
                self.error(spot, format!("{place} is empty")).hint(how_to_write(wanted))
            }
            Problem::WrongKind { found, wanted } => {
                self.error(spot, format!("{place} must be {wanted}, not {found}")).hint(how_to_write(wanted))
            }
            Problem::Refused(why) => match why.rsplit_once(": ") {
                Some((what, hint)) => self.error(spot, format!("{place}: {what}")).hint(hint),
                None => self.error(spot, format!("{place}: {why}")),
            },
        }
    }
}

/// How a kind of value is written in YAML.
fn how_to_write(wanted: &str) -> &'static str {
    match wanted {
        "keys and values" => "write `key: value` lines, indented below it",
        "a list" => "write `[a, b]`, or lines that begin with `- `, indented below it",
        "text" => "write text; put it in quotes when it looks like a number",
        "true or false" => "write true or false, without quotes",
        "a number with its unit" => "write a whole number and its unit",
        _ => "write a whole number, without quotes",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALLEST: &str = "version: 1\nname: a\nkind: in_place\nblue: { url: x }\n";

    fn read(text: &str) -> Result<Plan> {
        parse(text, "plan.yaml", &|name| (name == "SECRET").then(|| "hun: [ter2".to_owned()))
    }

    #[test]
    fn a_variable_cannot_change_the_structure() {
        let plan = read(&SMALLEST.replace("url: x", "url: \"a ${SECRET} $${SECRET} b\"")).unwrap();
        assert_eq!(plan.blue.url.expose(), "a hun: [ter2 ${SECRET} b");
    }

    #[test]
    fn a_variables_value_is_in_no_message() {
        let cases = [
            "cutover: { pause_max: \"${SECRET}\" }",
            "schema: { from: \"${SECRET}\" }",
            "replicate: { workers: \"${SECRET}\" }",
            "cutover: \"${SECRET}\"",
            "schema: { sql: \"${SECRET}\" }",
            "replicate: { map: { a.b: { to: \"${SECRET}\" } } }",
        ];
        for case in cases {
            let error = read(&format!("{SMALLEST}{case}\n")).unwrap_err();
            let shown = format!("{error:?} {}", error.chain().join(" "));
            assert!(!shown.contains("ter2"), "{shown}");
            assert!(error.what.contains("plan.yaml:5:"), "{}", error.what);
        }
    }

    #[test]
    fn a_variable_may_hold_a_number() {
        let text = format!("{SMALLEST}replicate: {{ workers: \"${{N}}\" }}\n");
        let plan = parse(&text, "plan.yaml", &|_| Some("4".into())).unwrap();
        assert_eq!(plan.replicate.workers, Some(4));
    }

    #[test]
    fn in_a_sketch_an_unset_variable_stands_for_itself() {
        let text = format!("{SMALLEST}schema: {{ sql: [\"a/${{DIR}}/${{SECRET}}.sql\"] }}\n")
            .replace("url: x", "url: \"${BLUE_URL}\"");
        let env = |name: &str| (name == "SECRET").then(|| "hunter2".to_owned());
        let mut variables = Variables::optional(&env);
        let plan = parse_with(&text, "plan.yaml", &mut variables).unwrap();
        assert_eq!(plan.blue.url.expose(), "${BLUE_URL}");
        assert_eq!(plan.schema.sql, ["a/${DIR}/hunter2.sql"]);
        let unset: Vec<_> =
            variables.unset.iter().map(|one| (one.name.as_str(), one.field.as_str())).collect();
        assert_eq!(unset, [("BLUE_URL", "blue.url"), ("DIR", "schema.sql[0]")]);
    }

    #[test]
    fn nothing_stands_for_a_number() {
        let text = format!("{SMALLEST}replicate: {{ workers: \"${{N}}\" }}\n");
        let error = parse_with(&text, "plan.yaml", &mut Variables::optional(&|_| None)).unwrap_err();
        let wanted = "plan.yaml:5:23: `replicate.workers` needs the environment variable N, which is not set";
        assert_eq!(error.what.lines().next(), Some(wanted));
    }

    #[test]
    fn an_alias_is_found_where_it_is_written() {
        let error = read("version: 1\nname: &n {}\nkind: *n\n").unwrap_err();
        assert!(error.what.starts_with("plan.yaml:2:7: `name` must be text"), "{}", error.what);
    }
}
