//! Fields of the plan whose part is not built yet. They are refused by name, never ignored.

use super::{Plan, validate::Notes};

/// One blocking finding, code `NOT_YET`, for each field given whose part is not built. A field that gets its part
/// loses its line here.
pub(super) fn not_yet(plan: &Plan, notes: &mut Notes) {
    let mut refuse = |field: String, instead: &str| {
        let what = format!("`{field}` is not built yet");
        notes.block("NOT_YET", field, what, instead);
    };
    if plan.after.is_some() {
        refuse("after".into(), "make sure that the other plan is finished, and remove `after`");
    }
    if let Some(window) = &plan.window {
        for (at, _) in window.adjust.iter().enumerate() {
            refuse(
                format!("window.adjust[{at}]"),
                "change the setting by hand before, and put it back after",
            );
        }
    }
    if plan.cutover.reverse.is_some() {
        refuse(
            "cutover.reverse".into(),
            "remove it; blue stays fenced and whole, but does not get green's writes",
        );
    }
    if plan.cutover.soak.is_some() {
        refuse("cutover.soak".into(), "remove it, and watch green by other means after the switch");
    }
    for (at, gate) in plan.cutover.gates.iter().enumerate() {
        if gate.http.is_some() {
            refuse(format!("cutover.gates[{at}].http"), "ask the service before you type `migrate cutover`");
        }
        if gate.command.is_some() {
            refuse(format!("cutover.gates[{at}].command"), "run it before you type `migrate cutover`");
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::plan::{load::parse, validate::validate};

    #[test]
    fn a_short_spelling_is_named_too() {
        let text = "version: 1\nname: a\nkind: blue_green\nblue: { url: b }\ngreen: { url: g }\n\
            cutover:\n  route: { pgbouncer: [ { admin: x, database: app, config: /c, to: host=g } ] }\n  \
            soak: { for: 10m }\n";
        let findings = validate(&parse(text, "p.yaml", &|_| None).unwrap());
        let codes: Vec<_> = findings.iter().map(|finding| finding.code.as_str()).collect();
        assert_eq!(codes, ["NOT_YET"], "{findings:?}");
    }

    #[test]
    fn every_field_without_its_part_is_named() {
        let text = "version: 1\nname: a\nkind: blue_green\nafter: b\nblue: { url: b }\ngreen: { url: g }\n\
            window: { adjust: [ { name: n, apply: { command: [x] }, restore: { command: [y] } } ] }\n\
            cutover:\n  route: { pgbouncer: [ { admin: x, database: app, config: /c, to: host=g } ] }\n  \
            gates: [ { lag_max: 1MB }, { http: h, status: 200 }, { command: [x] } ]\n  reverse: { keep: 72h }\n  \
            soak: { for: 10m, every: 5s, on_failure: ask, gates: [ { http: h, status: 200 } ] }\n";
        let findings = validate(&parse(text, "p.yaml", &|_| None).unwrap());
        assert!(findings.iter().all(|finding| finding.code == "NOT_YET"), "{findings:?}");
        let mut fields: Vec<String> = findings.iter().map(|finding| finding.place.to_string()).collect();
        fields.sort();
        assert_eq!(
            fields,
            [
                "plan: after",
                "plan: cutover.gates[1].http",
                "plan: cutover.gates[2].command",
                "plan: cutover.reverse",
                "plan: cutover.soak",
                "plan: window.adjust[0]",
            ]
        );
    }
}
