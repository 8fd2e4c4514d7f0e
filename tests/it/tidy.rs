//! Holds the code against the design: which room may know which, who may print, who may touch which library.
//! Read the tables below to see the architecture at a glance.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Which room may name which. `pg` means the whole of it, `pg::name` that part alone. Arrows run one way, except where
/// a comment says why not.
const MAY_KNOW: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("finding", &[]),
    ("event", &[]),
    ("facts", &["pg::lsn", "pg::name"]),
    // A plan names its SQL files, and `ddl` says what one is and how a directory of them is read.
    ("plan", &["ddl::SqlFile", "ddl::directory", "ddl::encoding", "error", "finding", "mapping", "pg::name"]),
    // An expression is read with the grammar of `ddl`.
    ("mapping", &["ddl::parse", "error", "facts", "finding", "pg::name"]),
    ("ddl", &["error", "facts", "finding", "pg::name"]),
    ("check", &["ddl", "error", "facts", "finding", "mapping", "pg::lsn", "pg::name", "plan"]),
    (
        "runbook",
        // How the copy will cut the tables is decided in two pure files of its own.
        &[
            "check",
            "copy::crew",
            "copy::cutting",
            "ddl",
            "error",
            "facts",
            "finding",
            "mapping",
            "pg::lsn",
            "pg::name",
            "plan",
            "step",
        ],
    ),
    // The catalog queries fill facts about the tables a plan selects, and what a mapping must know of green's; the
    // replication connection hands out decoded messages, which `stream` defines.
    ("pg", &["error", "facts", "finding", "mapping", "plan", "stream::pgoutput"]),
    ("stream", &["error", "event", "facts", "mapping", "pg", "plan"]),
    // Each transaction of ours first reads the lease.
    ("copy", &["engine::journal", "engine::lease", "error", "event", "facts", "mapping", "pg", "plan"]),
    ("verify", &["error", "event", "facts", "pg", "plan"]),
    ("revocation", &["error", "event", "facts", "finding", "pg", "plan", "stream::pgoutput"]),
    ("route", &["error", "event", "finding", "pg", "plan"]),
    // The scratch database gets blue's schema the way green does.
    ("rehearse", &["copy", "ddl", "error", "finding", "pg"]),
    (
        "step",
        &[
            "copy",
            "ddl",
            "engine",
            "error",
            "event",
            "facts",
            "finding",
            "mapping",
            "pg",
            "plan",
            "revocation",
            "route",
            "stream",
            "verify",
        ],
    ),
    ("engine", &["ddl", "error", "event", "facts", "pg", "plan", "step"]),
    (
        "ui",
        &[
            "check", "ddl", "engine", "error", "event", "facts", "finding", "pg::lsn", "pg::name", "plan",
            "runbook", "step",
        ],
    ),
    // What a command does, from the session to the last event; `cli` only reads the arguments and shows the result.
    (
        "journey",
        &[
            "check",
            "copy",
            "ddl",
            "engine",
            "error",
            "event",
            "facts",
            "finding",
            "mapping",
            "pg",
            "plan",
            "rehearse",
            "revocation",
            "route",
            "runbook",
            "step",
            "stream",
            "verify",
        ],
    ),
    (
        "cli",
        &[
            "check",
            "copy",
            "ddl",
            "engine",
            "error",
            "event",
            "facts",
            "finding",
            "journey",
            "pg",
            "plan",
            "rehearse",
            "revocation",
            "route",
            "runbook",
            "step",
            "stream",
            "ui",
            "verify",
        ],
    ),
];

/// Rooms that compute and nothing else: same input, same output.
const PURE: &[&str] = &["error", "finding", "event", "plan", "facts", "mapping", "ddl", "check", "runbook"];

/// What a pure room may not name: waiting, time, the environment, connections.
const IMPURE: &[&str] = &[
    "async fn",
    "async move",
    ".await",
    "tokio::",
    "tokio_postgres::",
    "Instant::now",
    "SystemTime",
    "std::env",
    "env::var",
    "std::net",
    "std::process",
    "rand::",
    "Timestamp::now",
    "Zoned::now",
];

/// Exceptions to [`IMPURE`], each with its reason.
const IMPURE_BUT: &[(&str, &str)] = &[
    // Unwraps a server's error for display; it does not connect.
    ("error.rs", "tokio_postgres::"),
];

/// A library and the only places that may name it.
const ONLY: &[(&str, &[&str])] = &[
    ("serde_yaml", &["plan/load.rs", "plan/node.rs"]),
    // The clone reads pg_dump's script and a replay effect reads expressions, with the same grammar.
    ("pg_query::", &["ddl/", "copy/script.rs", "revocation/effect.rs"]),
    ("lapin::", &["revocation/"]),
    ("chacha20poly1305", &["revocation/"]),
    ("indicatif", &["ui/"]),
    ("comfy_table", &["ui/"]),
    ("dialoguer", &["ui/"]),
    ("anstream", &["ui/"]),
    ("clap::", &["cli/", "main.rs"]),
    ("println!", &["ui/"]),
    ("eprintln!", &["ui/"]),
    ("print!(", &["ui/"]),
    ("dbg!", &[]),
    ("io::stdout", &["ui/"]),
    ("io::stderr", &["ui/"]),
    // A second Ctrl-C ends us at once.
    ("process::exit", &["main.rs", "cli/stop.rs"]),
    // Only `pg` opens connections to Postgres, and only `revocation` to the broker.
    ("NoTls", &["pg/"]),
    ("tokio_postgres::connect", &["pg/"]),
    ("TcpStream::connect", &["pg/", "revocation/broker/"]),
];

/// What may end the process without saying why, and is banned outside tests.
const PANICS: &[&str] = &[".unwrap()", ".expect(\"", "panic!(", "todo!(", "unimplemented!("];

/// Exceptions to [`PANICS`]: file and text, each with its reason.
const PANICS_BUT: &[(&str, &str)] = &[];

/// The longest a file of `src` may be.
const LINES_MAX: usize = 500;

/// Files that may be longer, and how long.
const LONGER: &[(&str, usize)] = &[("route/pgbouncer/instance.rs", 520)];

/// A source file, with what is only for tests taken out.
struct Source {
    /// Below `src`, as `plan/load.rs`.
    path: String,
    /// `plan`.
    room: String,
    /// Without comments and test modules.
    code: String,
    /// As it is.
    lines: usize,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files_below(directory: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files_below(&path, ending));
        } else if path.to_str().unwrap().ends_with(ending) {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn sources() -> Vec<Source> {
    let src = root().join("src");
    let files: Vec<(PathBuf, String)> = files_below(&src, ".rs")
        .into_iter()
        .map(|path| (path.clone(), std::fs::read_to_string(&path).unwrap()))
        .collect();
    let only_tests: Vec<PathBuf> = files.iter().flat_map(|(path, text)| test_modules(path, text)).collect();
    files
        .into_iter()
        .filter(|(path, _)| {
            !only_tests.iter().any(|test| path.starts_with(test) || *path == test.with_extension("rs"))
        })
        .map(|(path, text)| {
            let path = path.strip_prefix(&src).unwrap().to_str().unwrap().to_owned();
            let room = path.split(['/', '.']).next().unwrap().to_owned();
            Source { path, room, code: code_of(&text), lines: text.lines().count() }
        })
        .collect()
}

/// Where the files of `#[cfg(test)] mod name;` are, with or without a `#[path]`.
fn test_modules(path: &Path, text: &str) -> Vec<PathBuf> {
    let is_root = ["mod.rs", "lib.rs", "main.rs"].contains(&path.file_name().unwrap().to_str().unwrap());
    let inside = if is_root { path.parent().unwrap().to_owned() } else { path.with_extension("") };
    let mut found = Vec::new();
    let mut lines = text.lines().map(str::trim);
    while let Some(line) = lines.next() {
        if line != "#[cfg(test)]" {
            continue;
        }
        let mut place = None;
        for line in lines.by_ref() {
            if let Some(file) = line.strip_prefix("#[path = \"").and_then(|rest| rest.strip_suffix("\"]")) {
                place = Some(path.parent().unwrap().join(file).with_extension(""));
            } else if !line.starts_with("#[") {
                let name = line.split_once("mod ").and_then(|(_, rest)| rest.strip_suffix(';'));
                found.extend(name.map(|name| place.unwrap_or_else(|| inside.join(name))));
                break;
            }
        }
    }
    found
}

/// Leaves out comments, and what follows `#[cfg(test)]` up to the line that closes it: rustfmt indents it as deep.
fn code_of(text: &str) -> String {
    let mut code = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.trim() == "#[cfg(test)]" {
            let indent = &line[..line.len() - line.trim_start().len()];
            let Some(item) = lines.find(|line| !line.trim().starts_with("#[")) else { break };
            if !item.ends_with(';') && !item.ends_with('}') {
                let close = format!("{indent}}}");
                let _ = lines.find(|line| *line == close || *line == format!("{close};"));
            }
            continue;
        }
        let line = if line.trim_start().starts_with("//") { "" } else { line };
        let line = line.split(" // ").next().unwrap_or_default();
        let _ = writeln!(code, "{line}");
    }
    code
}

/// The paths named after `crate::`, braces expanded: `crate::{error::Error, pg::{lsn, name}}` is three.
fn named(code: &str) -> BTreeSet<String> {
    let flat: String = code.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut paths = BTreeSet::new();
    for (at, _) in flat.match_indices("crate::") {
        expand("", &flat[at + "crate::".len()..], &mut paths);
    }
    paths
}

fn expand(prefix: &str, rest: &str, paths: &mut BTreeSet<String>) {
    let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    let after = &rest[name.len()..];
    if let Some(group) = after.strip_prefix('{').filter(|_| name.is_empty()) {
        let mut depth = 0_i32;
        let mut item = String::new();
        for c in group.chars() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    expand(prefix, item.trim(), paths);
                    item.clear();
                    continue;
                }
                _ => {}
            }
            item.push(c);
        }
        if !item.trim().is_empty() {
            expand(prefix, item.trim(), paths);
        }
    } else if !name.is_empty() {
        let path = if prefix.is_empty() { name } else { format!("{prefix}::{name}") };
        match after.strip_prefix("::") {
            Some(more) if path.matches("::").count() < 2 => expand(&path, more, paths),
            _ => {
                paths.insert(path);
            }
        }
    }
}

fn assert_none(problems: &[String]) {
    assert!(problems.is_empty(), "\n  {}\n", problems.join("\n  "));
}

#[test]
fn rooms_know_only_what_they_may() {
    let mut problems = Vec::new();
    for source in sources() {
        if ["lib", "main"].contains(&source.room.as_str()) {
            continue;
        }
        let Some((_, allowed)) = MAY_KNOW.iter().find(|(room, _)| *room == source.room) else {
            problems.push(format!(
                "src/{}: the room `{}` is not in the table MAY_KNOW",
                source.path, source.room
            ));
            continue;
        };
        for path in named(&source.code) {
            let inside = |room: &str| path == room || path.starts_with(&format!("{room}::"));
            if !inside(&source.room) && !allowed.iter().any(|room| inside(room)) {
                problems.push(format!("src/{}: {} may not know crate::{path}", source.path, source.room));
            }
        }
    }
    assert_none(&problems);
}

#[test]
fn pure_rooms_are_pure() {
    let mut problems = Vec::new();
    for source in sources().iter().filter(|source| PURE.contains(&source.room.as_str())) {
        for word in IMPURE {
            if source.code.contains(word) && !IMPURE_BUT.contains(&(source.path.as_str(), word)) {
                problems.push(format!("src/{}: {} is pure, but names `{word}`", source.path, source.room));
            }
        }
    }
    assert_none(&problems);
}

#[test]
fn libraries_stay_in_their_rooms_and_only_ui_prints() {
    let mut problems = Vec::new();
    for source in sources() {
        for (word, places) in ONLY {
            let named = source.code.match_indices(word).any(|(at, _)| {
                // `println!` is part of `eprintln!`, `print!(` of `eprint!(`.
                !source.code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_')
            });
            if named && !places.iter().any(|place| source.path.starts_with(place)) {
                problems.push(format!("src/{}: names `{word}`, which belongs to {places:?}", source.path));
            }
        }
    }
    assert_none(&problems);
}

#[test]
fn nothing_panics_outside_tests() {
    let mut problems = Vec::new();
    for source in sources() {
        for (number, line) in source.code.lines().enumerate() {
            for word in PANICS.iter().filter(|word| line.contains(**word)) {
                if !PANICS_BUT.iter().any(|(path, text)| source.path == *path && line.contains(text)) {
                    problems.push(format!(
                        "src/{} (about line {}): {word} in: {}",
                        source.path,
                        number + 1,
                        line.trim()
                    ));
                }
            }
        }
    }
    assert_none(&problems);
}

#[test]
fn files_are_short() {
    let mut problems = Vec::new();
    for source in sources() {
        let longest =
            LONGER.iter().find(|(path, _)| *path == source.path).map_or(LINES_MAX, |(_, lines)| *lines);
        if source.lines > longest {
            problems.push(format!(
                "src/{}: {} lines, of {longest} at most: cut it by concept",
                source.path, source.lines
            ));
        }
    }
    assert_none(&problems);
}

#[test]
fn every_file_of_tests_is_run() {
    let directory = root().join("tests/it");
    let main = std::fs::read_to_string(directory.join("main.rs")).unwrap();
    let mut problems = Vec::new();
    for entry in std::fs::read_dir(&directory).unwrap().flatten() {
        let path = entry.path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        let is_module =
            path.extension().is_some_and(|ending| ending == "rs") || path.join("mod.rs").is_file();
        if is_module && name != "main" && !main.contains(&format!("\nmod {name};\n")) {
            problems.push(format!("tests/it/main.rs has no `mod {name};`, so those tests never run"));
        }
    }
    assert_none(&problems);
}

/// The lines that open every statement, in order.
const HEADER: [&str; 3] = ["-- params: ", "-- returns: ", "-- majors: "];

#[test]
fn statements_have_a_header_and_are_embedded() {
    let directory = root().join("sql");
    let source: String = files_below(&root().join("src"), ".rs")
        .iter()
        .map(|path| std::fs::read_to_string(path).unwrap())
        .collect();
    let mut problems = Vec::new();
    for path in files_below(&directory, ".sql") {
        let text = std::fs::read_to_string(&path).unwrap();
        let name = path.strip_prefix(&directory).unwrap().with_extension("");
        let name = name.to_str().unwrap();
        let opening = format!("-- {name}: ");
        if !text.starts_with(&opening) {
            problems.push(format!("sql/{name}.sql: the first line must begin with `{opening}`"));
        }
        // A header line may go on in a further comment line.
        let header: Vec<&str> = text.lines().take_while(|line| line.starts_with("--")).collect();
        let found: Vec<&str> = HEADER
            .into_iter()
            .filter(|word| header.iter().any(|line| line.starts_with(word.trim_end())))
            .collect();
        if found != HEADER {
            problems.push(format!("sql/{name}.sql: the header has {found:?} of {HEADER:?}"));
        }
        if !source.contains(&format!("{name}.sql")) {
            problems.push(format!("sql/{name}.sql: no source file embeds it"));
        }
    }
    assert_none(&problems);
}

#[test]
fn the_reader_of_sources_reads_them_rightly() {
    let code = "use crate::{error::{Doing, Kind}, pg::{connect::connect, name::{Ident, TableName}}};\n\
        // crate::comment\nfn f() { crate::plan::load() }\n#[cfg(test)]\nmod tests {\n    use crate::ui;\n}\nuse crate::facts;\n";
    let paths: Vec<String> = named(&code_of(code)).into_iter().collect();
    assert_eq!(
        paths,
        [
            "error::Doing",
            "error::Kind",
            "facts",
            "pg::connect::connect",
            "pg::name::Ident",
            "pg::name::TableName",
            "plan::load"
        ]
    );
}
