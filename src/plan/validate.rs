//! What contradicts itself in a plan, seen from the plan alone. Pure.

mod cutover;
mod joins;
mod mapping;
mod revocations;
mod snapshot;
mod throttle;

use super::{
    Compat, Cutover, MigrationKind, Plan, Replicate, SchemaFrom, not_yet::not_yet, variables::UnsetVariable,
};
use crate::finding::{Finding, Place, Severity};
use cutover::cutover;
use joins::joins;
use mapping::mappings;
use revocations::revocations;
use serde::Serialize;
pub use throttle::throttle_alone;

/// The schema that is ours, on both sides.
const OUR_SCHEMA: &str = "migrate";

/// Every contradiction of a plan, and every field whose part is not built yet; empty when it may be built from.
pub fn validate(plan: &Plan) -> Vec<Finding> {
    let mut notes = Notes::default();
    head(plan, &mut notes);
    match plan.kind {
        MigrationKind::InPlace => in_place(plan, &mut notes),
        MigrationKind::BlueGreen => blue_green(plan, &mut notes),
    }
    compat(plan, &mut notes);
    tables(&plan.replicate, &mut notes);
    mappings(&plan.replicate, &mut notes);
    joins(&plan.replicate, &mut notes);
    snapshot::snapshot(plan, &mut notes);
    throttle::throttle(&plan.replicate.throttle, &mut notes);
    revocations(&plan.revocations, &mut notes);
    cutover(&plan.cutover, &mut notes);
    not_yet(plan, &mut notes);
    notes.0
}

/// As [`validate`], of a plan in which variables that are not set stand for themselves: what only a value could tell
/// is left out where there is none, and a note says which variables those are.
pub fn validate_sketch(plan: &Plan, unset: &[UnsetVariable]) -> Vec<Finding> {
    let is_unknown = |place: &Place| match place {
        Place::Plan { field } => unset.iter().any(|variable| variable.field == *field),
        _ => false,
    };
    let mut notes = Notes(validate(plan));
    notes.0.retain(|finding| !(JUDGE_A_VALUE.contains(&finding.code.as_str()) && is_unknown(&finding.place)));
    for variable in unset {
        notes.add(
            Severity::Info,
            "VARIABLE_UNSET",
            &variable.field,
            format!("{} is not set, so `{}` stands for itself", variable.name, variable.placeholder()),
            "nothing, to read the plan; every command that connects needs them",
        );
    }
    notes.0
}

/// The codes that judge one value by itself.
const JUDGE_A_VALUE: [&str; 3] = ["BAD_NAME", "BAD_PATTERN", "BAD_VALUE"];

/// The findings of a plan, gathered.
#[derive(Default)]
pub(super) struct Notes(Vec<Finding>);

impl Notes {
    pub(super) fn block(
        &mut self,
        code: &str,
        field: impl Into<String>,
        what: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.add(Severity::Blocking, code, field, what, help);
    }

    fn add(
        &mut self,
        severity: Severity,
        code: &str,
        field: impl Into<String>,
        what: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.0.push(Finding {
            code: code.into(),
            severity,
            place: Place::Plan { field: field.into() },
            what: what.into(),
            help: help.into(),
        });
    }

    fn exactly_one(&mut self, field: &str, given: &[(&str, bool)]) {
        let count = given.iter().filter(|(_, there)| *there).count();
        if count == 1 {
            return;
        }
        let words = |picked: Vec<&str>| picked.join("`, `");
        let all = words(given.iter().map(|(key, _)| *key).collect());
        let there = words(given.iter().filter(|(_, there)| *there).map(|(key, _)| *key).collect());
        let what = match count {
            0 => format!("none of `{all}` is given"),
            _ => format!("`{there}` are given together"),
        };
        self.block("NOT_EXACTLY_ONE", field, what, format!("give exactly one of `{all}`"));
    }
}

fn is_name(name: &str) -> bool {
    name.len() <= 40
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

const NAME_HELP: &str =
    "begin with a lower-case letter, go on with lower-case letters, digits and `-`, at most 40";

fn head(plan: &Plan, notes: &mut Notes) {
    if plan.version != 1 {
        let what = format!("format {} is not known to this program", plan.version);
        notes.block("BAD_VERSION", "version", what, "write `version: 1`, or use a newer migrate");
    }
    if !is_name(&plan.name) {
        notes.block("BAD_NAME", "name", format!("`{}` cannot name a migration", plan.name), NAME_HELP);
    }
    match &plan.after {
        Some(after) if !is_name(after) => {
            notes.block("BAD_NAME", "after", format!("`{after}` cannot name a migration"), NAME_HELP);
        }
        Some(after) if *after == plan.name => {
            notes.block(
                "CONTRADICTION",
                "after",
                "the plan comes after itself",
                "name another plan, or drop `after`",
            );
        }
        _ => {}
    }
    for (field, patterns) in [("sql", &plan.schema.sql), ("after_copy", &plan.schema.after_copy)] {
        for (at, _) in patterns.iter().enumerate().filter(|(_, pattern)| pattern.is_empty()) {
            let field = format!("schema.{field}[{at}]");
            notes.block("BAD_VALUE", field, "the path is empty", "name a SQL file");
        }
    }
    if plan.schema.brownout_max.is_some_and(|max| max.0.is_zero()) {
        let what = "with no time at all that others may wait, nothing can be run";
        notes.block("BAD_VALUE", "schema.brownout_max", what, "allow some seconds; the default is 60s");
    }
}

fn differ<T: Serialize>(given: &T, default: &T) -> bool {
    matches!((serde_json::to_value(given), serde_json::to_value(default)), (Ok(given), Ok(default)) if given != default)
}

fn in_place(plan: &Plan, notes: &mut Notes) {
    // Whether a field with a default was written cannot be seen any more; whether it differs from it can.
    let unused = [
        ("green", plan.green.is_some()),
        ("broker", plan.broker.is_some()),
        ("revocations", !plan.revocations.is_empty()),
        ("window", plan.window.is_some()),
        ("replicate", differ(&plan.replicate, &Replicate::default())),
        ("cutover", differ(&plan.cutover, &Cutover::default())),
    ];
    for (field, _) in unused.iter().filter(|(_, given)| *given) {
        notes.block(
            "CONTRADICTION",
            *field,
            format!("an `in_place` plan has no use for `{field}`"),
            format!("remove `{field}`, or write `kind: blue_green`"),
        );
    }
    if plan.schema.sql.is_empty() {
        notes.block(
            "CONTRADICTION",
            "schema.sql",
            "an `in_place` plan without SQL does nothing",
            "name the SQL files to run online",
        );
    }
}

fn compat(plan: &Plan, notes: &mut Notes) {
    if plan.schema.compat == Compat::None {
        return;
    }
    let field = "schema.compat";
    if plan.schema.sql.is_empty() {
        let what = "without SQL there is nothing that old clients need views for";
        notes.block("CONTRADICTION", field, what, "remove `compat`, or name the SQL in `schema.sql`");
    }
    if plan.kind == MigrationKind::BlueGreen && plan.schema.from == SchemaFrom::None {
        let what = "a green with a schema of its own does not tell what became of blue's columns";
        notes.block("CONTRADICTION", field, what, "remove `compat`, or write `from: blue`");
    }
}

fn blue_green(plan: &Plan, notes: &mut Notes) {
    match &plan.green {
        None => notes.block(
            "GREEN_MISSING",
            "green",
            "a `blue_green` plan needs a green",
            "add `green: { url: … }`",
        ),
        Some(green) if !green.url.expose().is_empty() && green.url.expose() == plan.blue.url.expose() => {
            notes.block(
                "SAME_DATABASE",
                "green.url",
                "green's connection string is blue's",
                "give green a database of its own",
            )
        }
        Some(_) => {}
    }
    match (&plan.broker, plan.revocations.is_empty()) {
        (None, false) => notes.block(
            "BROKER_MISSING",
            "broker",
            "the plan has revocation rules, but no broker to keep revocations",
            "add `broker: { url: … }`, or remove `revocations`",
        ),
        (Some(_), true) => notes.add(
            Severity::Warning,
            "BROKER_UNUSED",
            "broker",
            "there is a broker, but no revocation rule: nothing will be captured",
            "add `revocations`, or remove `broker`",
        ),
        _ => {}
    }
    if plan.cutover.route.is_none() {
        notes.add(
            Severity::Warning,
            "ROUTE_MISSING",
            "cutover.route",
            "nothing says how clients are sent to green",
            "add `cutover.route`; until then `migrate cutover` refuses to begin",
        );
    }
}

fn tables(replicate: &Replicate, notes: &mut Notes) {
    let selection = &replicate.tables;
    if selection.include.is_empty() {
        notes.block(
            "BAD_PATTERN",
            "replicate.tables.include",
            "no table is included",
            "write patterns like `public.*`",
        );
    }
    let lists = [("include", &selection.include), ("exclude", &selection.exclude)];
    for (list, patterns) in lists {
        for (at, pattern) in patterns.iter().enumerate() {
            let field = format!("replicate.tables.{list}[{at}]");
            let (schema, table) = pattern.split_once('.').unwrap_or((pattern, ""));
            if schema.is_empty() || table.is_empty() {
                let what = format!("`{pattern}` is not a pattern of tables");
                notes.block(
                    "BAD_PATTERN",
                    field,
                    what,
                    "write schema.table, with `*` for any run of characters",
                );
            } else if list == "include" && (schema == OUR_SCHEMA || schema.starts_with("pg_")) {
                let what = format!("schema `{schema}` is never replicated");
                notes.block("RESERVED_SCHEMA", field, what, "leave it out; it is ours, or the server's");
            }
        }
    }
    if replicate.workers.is_some_and(|workers| !(1..=64).contains(&workers)) {
        notes.block(
            "BAD_VALUE",
            "replicate.workers",
            "the number of copy workers is out of range",
            "write 1 to 64, or leave it out",
        );
    }
    if let Some(memory) = replicate.build_memory.filter(|memory| memory.0 < 16 << 20) {
        let what = format!("{memory} is too little to sort an index");
        notes.block("BAD_VALUE", "replicate.build_memory", what, "allow at least 16MB, better some hundred");
    }
    if replicate.retained_wal_max.0 < 64 << 20 {
        let what = format!("{} of WAL is less than a few segments", replicate.retained_wal_max);
        notes.block("BAD_VALUE", "replicate.retained_wal_max", what, "allow at least 64MB, better some GB");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::load::parse;

    const GOOD: &str = "version: 1\nname: a\nkind: blue_green\nblue: { url: b }\ngreen: { url: g }\n\
        cutover:\n  route: { pgbouncer: [ { admin: x, database: app, config: /c, to: host=g } ] }\n";
    const RULE: &str = "broker: { url: q }\nrevocations:\n  - name: r\n    table: public.t\n    when: { op: delete }\n    \
        key: [id]\n    replay: { delete: public.t }\n    valid: select from public.t where id = $1\n";

    /// `code field` of every finding of a plan.
    fn found(text: &str) -> Vec<String> {
        let plan = parse(text, "p.yaml", &|_| None).unwrap();
        // What is not built yet has a test of its own.
        let findings = validate(&plan).into_iter().filter(|finding| finding.code != "NOT_YET");
        findings.map(|finding| format!("{} {}", finding.code, finding.place)).collect()
    }

    #[test]
    fn a_good_plan_has_no_findings() {
        assert_eq!(found(GOOD), Vec::<String>::new());
        assert_eq!(found(&format!("{GOOD}{RULE}")), Vec::<String>::new());
        let in_place = "version: 1\nname: a\nkind: in_place\nblue: { url: b }\nschema: { sql: [a.sql] }\n";
        assert_eq!(found(in_place), Vec::<String>::new());
    }

    #[test]
    fn each_contradiction_is_found_where_it_is() {
        let cases = [
            ("version: 1", "version: 2", "BAD_VERSION plan: version"),
            ("name: a", "name: A_b", "BAD_NAME plan: name"),
            ("green: { url: g }\n", "", "GREEN_MISSING plan: green"),
            ("green: { url: g }", "green: { url: b }", "SAME_DATABASE plan: green.url"),
            ("kind: blue_green", "kind: in_place", "CONTRADICTION plan: green"),
            ("to: host=g", "to: port=1", "BAD_VALUE plan: cutover.route.pgbouncer[0].to"),
            ("to: host=g", "to: host=g user=x", "BAD_VALUE plan: cutover.route.pgbouncer[0].to"),
            ("cutover:\n", "schema: { brownout_max: 0s }\ncutover:\n", "BAD_VALUE plan: schema.brownout_max"),
            ("cutover:\n", "cutover:\n  pause_max: 0s\n", "BAD_VALUE plan: cutover.pause_max"),
            ("cutover:\n", "cutover:\n  pause_max: 2m\n", "LONG_PAUSE plan: cutover.pause_max"),
            ("cutover:\n", "cutover:\n  sequence_gap: 0\n", "BAD_VALUE plan: cutover.sequence_gap"),
            ("cutover:\n", "cutover:\n  gates: [{}]\n", "NOT_EXACTLY_ONE plan: cutover.gates[0]"),
            (
                "cutover:\n",
                "cutover:\n  gates: [{lag_max: 1MB, command: [x]}]\n",
                "NOT_EXACTLY_ONE plan: cutover.gates[0]",
            ),
            (
                "cutover:\n",
                "cutover:\n  gates: [{sql: select 1, on: green}]\n",
                "CONTRADICTION plan: cutover.gates[0].expect",
            ),
            (
                "cutover:\n",
                "cutover:\n  soak: {for: 1s, every: 2s, on_failure: stop}\n",
                "BAD_VALUE plan: cutover.soak.every",
            ),
            ("cutover:\n", "broker: { url: q }\ncutover:\n", "BROKER_UNUSED plan: broker"),
            ("cutover:\n", "schema: { compat: views }\ncutover:\n", "CONTRADICTION plan: schema.compat"),
            (
                "cutover:\n",
                "schema: { compat: views, from: none, sql: [a.sql] }\ncutover:\n",
                "CONTRADICTION plan: schema.compat",
            ),
            (
                "cutover:\n",
                "replicate: { tables: { include: [public] } }\ncutover:\n",
                "BAD_PATTERN plan: replicate.tables.include[0]",
            ),
            (
                "cutover:\n",
                "replicate: { tables: { include: [migrate.x] } }\ncutover:\n",
                "RESERVED_SCHEMA plan: replicate.tables.include[0]",
            ),
            (
                "cutover:\n",
                "replicate: { map: { other.t: { to: public.u } } }\ncutover:\n",
                "CONTRADICTION plan: replicate.map.other.t",
            ),
            (
                "cutover:\n",
                "replicate: { map: { public.t: { to: migrate.u } } }\ncutover:\n",
                "RESERVED_SCHEMA plan: replicate.map.public.t.to",
            ),
            (
                "cutover:\n",
                "replicate: { map: { public.t: { columns: { a: \"b,\" } } } }\ncutover:\n",
                "BAD_EXPRESSION plan: replicate.map.public.t.columns.a",
            ),
            (
                "cutover:\n",
                "replicate: { map: { public.t: { where: \"\" } } }\ncutover:\n",
                "BAD_EXPRESSION plan: replicate.map.public.t.where",
            ),
            (
                "cutover:\n",
                "replicate: { map: { public.t: [] } }\ncutover:\n",
                "BAD_VALUE plan: replicate.map.public.t",
            ),
            (
                "cutover:\n",
                "replicate: { map: { public.t: [ {}, { to: public.t } ] } }\ncutover:\n",
                "CONTRADICTION plan: replicate.map.public.t[1].to",
            ),
            (
                "cutover:\n",
                "replicate: { map: { public.t: [ {}, { to: public.u, columns: { a: \"b,\" } } ] } }\ncutover:\n",
                "BAD_EXPRESSION plan: replicate.map.public.t[1].columns.a",
            ),
            (
                "cutover:\n",
                "replicate: { map: { public.t: { to: public.u }, public.u: { merge: rows } } }\ncutover:\n",
                "CONTRADICTION plan: replicate.map.public.t.to",
            ),
            (
                "cutover:\n",
                "replicate: { map: { public.t: { merge: rows } } }\ncutover:\n",
                "CONTRADICTION plan: replicate.map.public.t.merge",
            ),
            ("cutover:\n", "replicate: { workers: 0 }\ncutover:\n", "BAD_VALUE plan: replicate.workers"),
            (
                "cutover:\n",
                "replicate: { retained_wal_max: 1MB }\ncutover:\n",
                "BAD_VALUE plan: replicate.retained_wal_max",
            ),
            (
                "cutover:\n",
                "replicate: { build_memory: 1MB }\ncutover:\n",
                "BAD_VALUE plan: replicate.build_memory",
            ),
            (
                "cutover:\n",
                "replicate: { throttle: { rate_max: 1kB/s } }\ncutover:\n",
                "BAD_VALUE plan: replicate.throttle.rate_max",
            ),
            (
                "cutover:\n",
                "replicate: { throttle: { active_sessions_max: 0 } }\ncutover:\n",
                "BAD_VALUE plan: replicate.throttle.active_sessions_max",
            ),
            (
                "cutover:\n",
                "replicate: { throttle: { replica_lag_max: 0MB } }\ncutover:\n",
                "BAD_VALUE plan: replicate.throttle.replica_lag_max",
            ),
            (
                "cutover:\n",
                "replicate: { throttle: { pause_while: \" \" } }\ncutover:\n",
                "BAD_VALUE plan: replicate.throttle.pause_while",
            ),
        ];
        for (from, to, expected) in cases {
            let seen = found(&GOOD.replacen(from, to, 1));
            assert!(seen.iter().any(|finding| finding == expected), "{to}: {expected} not in {seen:?}");
        }
    }

    #[test]
    fn each_contradiction_of_a_rule_is_found() {
        let cases = [
            ("broker: { url: q }\n", "", "BROKER_MISSING plan: broker"),
            ("key: [id]", "key: []", "BAD_VALUE plan: revocations[0].key"),
            ("key: [id]", "key: [id, id]", "BAD_VALUE plan: revocations[0].key"),
            ("id = $1", "id = $10", "BAD_VALUE plan: revocations[0].valid"),
            ("op: delete", "op: delete, new: x", "CONTRADICTION plan: revocations[0].when.new"),
            ("op: delete", "op: insert, old: x", "CONTRADICTION plan: revocations[0].when.old"),
            ("replay: { delete: public.t }", "replay: {}", "NOT_EXACTLY_ONE plan: revocations[0].replay"),
            (
                "replay: { delete: public.t }",
                "replay: { update: { table: public.t, set: {} } }",
                "BAD_VALUE plan: revocations[0].replay.update.set",
            ),
            ("table: public.t", "table: migrate.t", "RESERVED_SCHEMA plan: revocations[0]"),
            ("name: r", "name: R!", "BAD_NAME plan: revocations[0].name"),
        ];
        for (from, to, expected) in cases {
            let seen = found(&format!("{GOOD}{}", RULE.replacen(from, to, 1)));
            assert!(seen.iter().any(|finding| finding == expected), "{to}: {expected} not in {seen:?}");
        }
    }
}
