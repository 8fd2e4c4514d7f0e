use super::*;
use crate::pg::name::Ident;
use crate::plan::SameTx;
use crate::revocation::transaction::tests::{delete, insert, rotation_rule, transaction, tuple, update};
use crate::stream::pgoutput::{Identity, Message, OldTuple};

fn looked_at(rule: &RevocationRule, identity: Identity, changes: Vec<Message>) -> Vec<u64> {
    let tx = transaction(std::slice::from_ref(rule), identity, changes);
    candidates(rule, &tx).iter().map(|change| change.ordinal).collect()
}

#[test]
fn a_rotation_is_excused_and_a_revocation_is_not() {
    let rotated = vec![update(None, ["s1", "r1", "f", "same"]), insert(["s2", "r1", "t", "x"])];
    assert_eq!(looked_at(&rotation_rule(), Identity::Default, rotated.clone()), Vec::<u64>::new());
    // Another grant's insert in the same transaction excuses nothing.
    let other = vec![update(None, ["s1", "r1", "f", "same"]), insert(["s2", "r2", "t", "x"])];
    assert_eq!(looked_at(&rotation_rule(), Identity::Default, other), vec![0]);
    let mut without = rotation_rule();
    without.when.unless_same_tx = None;
    assert_eq!(looked_at(&without, Identity::Default, rotated), vec![0]);
}

#[test]
fn an_unknown_value_to_compare_is_not_excused() {
    let mut rule = rotation_rule();
    rule.when.op = ChangeOp::Delete;
    let key = OldTuple::Key(tuple(["s1", "null", "null", "null"]));
    let changes = |old| vec![delete(old), insert(["s2", "r1", "t", "x"])];
    assert_eq!(looked_at(&rule, Identity::Default, changes(key)), vec![0], "over-capture");
    let full = OldTuple::Full(tuple(["s1", "r1", "t", "x"]));
    assert_eq!(looked_at(&rule, Identity::Full, changes(full)), Vec::<u64>::new());
}

#[test]
fn a_change_does_not_excuse_itself() {
    let mut rule = rotation_rule();
    rule.when.unless_same_tx = Some(SameTx { op: ChangeOp::Update, match_column: Ident::new("request_id") });
    let one = vec![update(None, ["s1", "r1", "f", "same"])];
    assert_eq!(looked_at(&rule, Identity::Default, one.clone()), vec![0]);
    let two = [one, vec![update(None, ["s2", "r1", "f", "same"])]].concat();
    assert_eq!(looked_at(&rule, Identity::Default, two), Vec::<u64>::new());
}

#[test]
fn a_changed_key_names_both_rows_under_stable_ordinals() {
    let rule = rotation_rule();
    let old = OldTuple::Key(tuple(["s0", "null", "null", "null"]));
    let changes = vec![insert(["x", "q", "t", "x"]), update(Some(old), ["s1", "r1", "f", "same"])];
    let tx = transaction(std::slice::from_ref(&rule), Identity::Default, changes);
    let found = found(&rule, 1, 3, candidates(&rule, &tx)[0]).unwrap();
    let seen: Vec<_> = found.iter().map(|found| (found.ordinal, found.key[0].as_str())).collect();
    assert_eq!(seen, vec![(8, "s1"), (9, "s0")]);
}

#[test]
fn a_row_that_cannot_be_named_stops_us() {
    let mut rule = rotation_rule();
    rule.key = vec![Ident::new("request_id")];
    let changes = vec![delete(OldTuple::Key(tuple(["s1", "null", "null", "null"])))];
    let tx = transaction(std::slice::from_ref(&rule), Identity::Default, changes);
    assert_eq!(found(&rule, 0, 1, &tx.changes[0]).unwrap_err().kind, Kind::Server);
}

#[test]
fn a_predicate_may_read_what_it_spells() {
    let rule = rotation_rule();
    assert!(mentions("not Active", &rule, "active"));
    assert!(mentions("refresh.x is null", &rule, "session"), "the table's name stands for the whole row");
    assert!(mentions("U&\"\\0061ctive\"", &rule, "active"));
    assert!(!mentions("active", &rule, "session"));
}
