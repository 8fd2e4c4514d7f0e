//! What cannot go together with `mode: snapshot`, and what has no use without it.

use super::Notes;
use crate::plan::{Compat, MigrationKind, Plan, SchemaFrom};

pub(super) fn snapshot(plan: &Plan, notes: &mut Notes) {
    let has_sql = !plan.schema.after_copy.is_empty();
    if has_sql && plan.kind == MigrationKind::InPlace {
        notes.block(
            "CONTRADICTION",
            "schema.after_copy",
            "an `in_place` plan copies nothing",
            "put the files into `schema.sql`",
        );
        return;
    }
    if has_sql && !plan.is_snapshot() {
        notes.block(
            "CONTRADICTION",
            "schema.after_copy",
            "green goes on getting blue's rows after the copy, in the shape that they were copied in",
            "put changes of shape into `schema.sql` and of rows into `replicate.map`; or write `replicate.mode: snapshot`, and lose what blue writes after the copy",
        );
        return;
    }
    if !plan.is_snapshot() {
        return;
    }
    if has_sql && plan.schema.from == SchemaFrom::None {
        notes.block(
            "CONTRADICTION",
            "schema.after_copy",
            "what it changes of tables that green had before us could not be taken back",
            "write `schema.from: blue`, so that `migrate rollback --all` drops what there is",
        );
    }
    if has_sql && plan.schema.compat == Compat::Views {
        notes.block(
            "CONTRADICTION",
            "schema.compat",
            "the views for old clients know what `schema.sql` changes, not what `after_copy` does",
            "remove `compat`, or move the changes of shape from `after_copy` to `schema.sql`",
        );
    }
    for (at, _) in plan.cutover.gates.iter().enumerate().filter(|(_, gate)| gate.lag_max.is_some()) {
        notes.block(
            "CONTRADICTION",
            format!("cutover.gates[{at}].lag_max"),
            "in `mode: snapshot` green does not follow blue, so there is no lag",
            "remove the gate",
        );
    }
}

#[cfg(test)]
mod tests {
    use crate::plan::{load::parse, validate::validate};

    fn fields(more: &str) -> Vec<String> {
        let text = format!(
            "version: 1\nname: a\nkind: blue_green\nblue: {{ url: b }}\ngreen: {{ url: g }}\n{more}\ncutover:\n  \
             route: {{ pgbouncer: [ {{ admin: x, database: app, config: /c, to: host=g }} ] }}\n"
        );
        let findings = validate(&parse(&text, "p.yaml", &|_| None).unwrap());
        findings.iter().map(|finding| format!("{} {}", finding.code, finding.place)).collect()
    }

    #[test]
    fn what_cannot_go_with_a_snapshot_is_refused_by_name() {
        let cases = [
            ("schema: { after_copy: [a.sql] }", "schema.after_copy"),
            (
                "schema: { from: none, after_copy: [a.sql] }\nreplicate: { mode: snapshot }",
                "schema.after_copy",
            ),
            (
                "schema: { compat: views, sql: [b.sql], after_copy: [a.sql] }\nreplicate: { mode: snapshot }",
                "schema.compat",
            ),
        ];
        for (more, field) in cases {
            assert_eq!(fields(more), [format!("CONTRADICTION plan: {field}")], "{more}");
        }
        assert_eq!(
            fields("schema: { after_copy: [''] }\nreplicate: { mode: snapshot }"),
            ["BAD_VALUE plan: schema.after_copy[0]"]
        );
        for good in ["", "schema: { sql: [b.sql], after_copy: [a.sql] }\n"] {
            assert_eq!(fields(&format!("{good}replicate: {{ mode: snapshot }}")), [""; 0], "{good}");
        }
        let text = "version: 1\nname: a\nkind: blue_green\nblue: { url: b }\ngreen: { url: g }\nreplicate: { mode: snapshot }\n\
            cutover:\n  route: { pgbouncer: [ { admin: x, database: app, config: /c, to: host=g } ] }\n  gates: [ { lag_max: 1MB } ]\n";
        let findings = validate(&parse(text, "p.yaml", &|_| None).unwrap());
        assert_eq!(findings[0].place.to_string(), "plan: cutover.gates[0].lag_max");
        let text = "version: 1\nname: a\nkind: in_place\nblue: { url: b }\nschema: { sql: [b.sql], after_copy: [a.sql] }\n";
        let findings = validate(&parse(text, "p.yaml", &|_| None).unwrap());
        assert_eq!(findings[0].place.to_string(), "plan: schema.after_copy");
    }
}
