//! Steps that belong in one transaction: a view that is dropped and made again, with what stands between; a trigger that is
//! replaced.

use super::{
    Way,
    edit::{self, Edit},
    parse::{self, NodeEnum, node},
    rules,
    statement::{Class, Clients, Online, Rewritten, Verify},
};
use crate::{
    finding::{Finding, Severity},
    pg::name::{Ident, TableName},
};

/// What is made of several steps.
pub(super) const WAYS: [Way; 2] = [
    Way {
        name: REPLACE_VIEW,
        about: "A view that is dropped and made again, with what stands between: one transaction, so that no client meets the time without it.",
        manual: "sql-createview.html",
    },
    Way {
        name: REPLACE_TRIGGER,
        about: "A trigger that is dropped and made again is replaced in place: readers go on, and no row is written without it.",
        manual: "sql-createtrigger.html",
    },
];
const REPLACE_VIEW: &str = "replace_view";
const REPLACE_TRIGGER: &str = "replace_trigger";

/// A view is not held away longer than for so many statements.
const MOST: usize = 64;

/// Joins what belongs together.
pub(super) fn join(result: &mut Rewritten) {
    let mut at = 0;
    while at < result.statements.len() {
        if let Some(end) = view_made_again(&result.statements[at..]) {
            let rest: Vec<Online> = result.statements.splice(at + 1..=at + end, []).collect();
            tell_of_views(&mut result.findings, &result.statements[at], &rest);
            one_transaction(&mut result.statements[at], rest);
        } else if let Some(step) = trigger_replaced(&result.statements[at..]) {
            result.statements.splice(at..=at + 1, [step]);
        }
        at += 1;
    }
}

/// Whether a step may stand in a transaction with others: brief, and seen done by our record alone.
fn is_brief(step: &Online) -> bool {
    step.transactional
        && matches!(step.class, Class::Brief | Class::Catalog)
        && step.verify == (Verify::Recorded { valid: None })
        && !(step.cost.scan || step.cost.rewrite || step.cost.build)
}

/// When the first step drops a view in use that is made again later: the last step that belongs to it.
fn view_made_again(steps: &[Online]) -> Option<usize> {
    let first = steps.first().filter(|step| step.title.starts_with("drop view ") && is_brief(step))?;
    let view = &first.cost.locks.first()?.relation;
    let made = steps.iter().take(MOST).position(|step| makes(step, view))?;
    if !steps[..=made].iter().all(is_brief) {
        return None;
    }
    let after = steps[made + 1..].iter().take_while(|step| is_brief(step) && dresses_a_view(step)).count();
    Some(made + after)
}

fn makes(step: &Online, view: &TableName) -> bool {
    if !step.title.starts_with("create view ") {
        return false;
    }
    let Ok(NodeEnum::ViewStmt(made)) = parse::parse_one(&step.sql) else { return false };
    let Some(range) = &made.view else { return false };
    let schema = match range.schemaname.as_str() {
        "" => step.search_path.first().map_or("public", Ident::as_str),
        schema => schema,
    };
    TableName::new(schema, range.relname.as_str()) == *view
}

/// Owner, privileges and comments, which a view that was dropped has lost.
fn dresses_a_view(step: &Online) -> bool {
    match parse::parse_one(&step.sql) {
        Ok(NodeEnum::AlterTableStmt(alter)) => alter.objtype() == node::ObjectType::ObjectView,
        Ok(NodeEnum::ViewStmt(_) | NodeEnum::GrantStmt(_)) => true,
        Ok(NodeEnum::CommentStmt(comment)) => {
            matches!(comment.objtype(), node::ObjectType::ObjectView | node::ObjectType::ObjectColumn)
        }
        _ => false,
    }
}

/// Several brief steps as one, in one transaction. `None` when there is none, or one of them is no matter of a moment.
pub(super) fn at_once(steps: Vec<Online>) -> Option<Online> {
    let brief = |step: &Online| step.transactional && matches!(step.class, Class::Brief | Class::Catalog);
    if !steps.iter().all(brief) {
        return None;
    }
    let mut steps = steps.into_iter();
    let mut joined = steps.next()?;
    let mut titles = vec![joined.title.clone()];
    for step in steps {
        titles.push(step.title.clone());
        append(&mut joined, step);
    }
    joined.title = titles.join(", ");
    joined.id = rules::slug(&joined.title);
    joined.class = Class::Brief;
    joined.clients = Clients::PreparedAgain;
    joined.why = "in one transaction, so that no client meets a part of it".into();
    joined.verify = Verify::Recorded { valid: None };
    (joined.was, joined.undo) = (None, None);
    Some(joined)
}

fn append(joined: &mut Online, step: Online) {
    joined.sql = format!("{};\n{}", joined.sql, step.sql);
    joined.from.extend(step.from);
    joined.from.dedup();
    joined.cost.locks.extend(step.cost.locks);
    // What is made in the transaction is nobody's yet; what is dropped in it is locked already.
    joined.cost.locks = rules::once(std::mem::take(&mut joined.cost.locks));
}

fn one_transaction(joined: &mut Online, rest: Vec<Online>) {
    let mut titles = vec![joined.title.clone()];
    joined.clients = Clients::PreparedAgain;
    for step in rest {
        if !step.title.starts_with("drop view ") {
            joined.clients = joined.clients.max(step.clients);
        }
        titles.push(step.title.clone());
        append(joined, step);
    }
    let changes: Vec<&str> =
        titles.iter().map(String::as_str).filter(|title| !is_about_views(title)).collect();
    joined.title = match changes.as_slice() {
        [] => titles[0].replacen("drop view ", "replace view ", 1),
        changes => format!("{}, between dropping and making again its views", changes.join(", ")),
    };
    joined.id = rules::slug(&joined.title);
    joined.class = Class::Brief;
    joined.recipe = REPLACE_VIEW.into();
    joined.why = "in one transaction, so that no client meets the time without the view".into();
    (joined.was, joined.undo) = (None, None);
}

fn is_about_views(title: &str) -> bool {
    ["drop view ", "create view ", "alter view ", "comment on ", "grant ", "revoke "]
        .iter()
        .any(|head| title.starts_with(head))
}

/// Nobody loses the view, but what was prepared on it may have to be prepared again.
fn tell_of_views(findings: &mut [Finding], first: &Online, rest: &[Online]) {
    for step in std::iter::once(first).chain(rest).filter(|step| step.title.starts_with("drop view ")) {
        let Some(view) = step.cost.locks.first().map(|lock| lock.relation.plain()) else { continue };
        let gone = findings.iter_mut().filter(|finding| {
            finding.code == "DDL_CLIENT_VISIBLE"
                && step.from.contains(&finding.place)
                && finding.what.starts_with(&format!("{view} is gone "))
        });
        for finding in gone {
            finding.severity = Severity::Info;
            finding.what = format!(
                "{view} is dropped and made again in one transaction; statements prepared on it must be prepared again if its columns change"
            );
            finding.help = "Nothing to do, if clients name the columns they read.".into();
        }
    }
}

/// DROP TRIGGER and CREATE TRIGGER of one name, one after the other: CREATE OR REPLACE takes no ACCESS EXCLUSIVE and leaves no gap.
fn trigger_replaced(steps: &[Online]) -> Option<Online> {
    let [drop, create, ..] = steps else { return None };
    let dropped = drop.title.strip_prefix("drop trigger ")?;
    if create.title.strip_prefix("create trigger ")? != dropped || drop.cost.locks.is_empty() {
        return None;
    }
    let Ok(NodeEnum::CreateTrigStmt(tree)) = parse::parse_one(&create.sql) else { return None };
    if tree.isconstraint || tree.replace {
        return None;
    }
    let mut wanted = tree;
    wanted.replace = true;
    let tokens = parse::tokens(&create.sql).ok()?;
    let at = tokens.get(edit::find(&tokens, node::Token::Create)?)?.end;
    let edits = vec![Edit::insert(at, " OR REPLACE")];
    let sql = edit::proved(&create.sql, edits, &NodeEnum::CreateTrigStmt(wanted))?;
    let mut step = create.clone();
    step.sql = sql;
    step.was = Some(drop.cost.clone());
    step.from = drop.from.iter().chain(&create.from).cloned().collect();
    step.from.dedup();
    step.recipe = REPLACE_TRIGGER.into();
    step.why = "the trigger is replaced in place: readers go on, and no row is written without it".into();
    Some(step)
}

#[cfg(test)]
mod tests {
    use crate::ddl::tests::on_live;

    #[test]
    fn a_view_made_again_is_never_away() {
        assert_eq!(
            on_live("drop view w; create view w as select a, b from s; grant select on w to app"),
            [
                "brief, ACCESS EXCLUSIVE w + ACCESS SHARE s: drop view w;\ncreate view w as select a, b from s;\ngrant select on w to app",
                "info DDL_CLIENT_VISIBLE",
            ]
        );
    }

    #[test]
    fn what_stands_between_is_in_the_same_transaction_when_it_is_brief() {
        let told = on_live("drop view w; alter table t add column n int; create view w as select n from t");
        assert_eq!(
            told[0],
            "brief, ACCESS EXCLUSIVE w + ACCESS EXCLUSIVE t: drop view w;\nalter table t add column n int;\ncreate view w as select n from t"
        );
        let told = on_live("drop view w; create index i on t (a); create view w as select a from t");
        assert_eq!(told[0], "brief, ACCESS EXCLUSIVE w: drop view w");
        assert_eq!(told[3], "warning DDL_CLIENT_VISIBLE");
    }

    #[test]
    fn a_trigger_is_replaced_in_place() {
        let create = "trigger s_g after insert on s for each row execute function f()";
        assert_eq!(
            on_live(&format!("drop trigger if exists s_g on s; create {create}"))[0],
            format!("brief, SHARE ROW EXCLUSIVE s: create OR REPLACE {create}")
        );
        let create = "constraint trigger s_g after insert on s for each row execute function f()";
        assert_eq!(on_live(&format!("drop trigger s_g on s; create {create}")).len(), 4);
    }
}
