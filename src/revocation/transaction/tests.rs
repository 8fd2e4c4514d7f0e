use super::*;
use crate::pg::name::Ident;
use crate::plan::{ReplayEffect, RevocationWhen, SameTx};
use crate::stream::pgoutput::{Begin, Column, Commit, CommitTime, Identity};

pub(crate) fn rotation_rule() -> RevocationRule {
    RevocationRule {
        name: "refresh-revoked".into(),
        table: TableName::new("public", "refresh"),
        when: RevocationWhen {
            op: ChangeOp::Update,
            old: Some("active".into()),
            new: Some("not active".into()),
            unless_same_tx: Some(SameTx { op: ChangeOp::Insert, match_column: Ident::new("request_id") }),
        },
        key: vec![Ident::new("signature")],
        replay: ReplayEffect { delete: Some(TableName::new("public", "refresh")), update: None },
        valid: "select 1 from public.refresh where signature = $1 and active".into(),
    }
}

/// `signature` (key), `request_id`, `active`, `session` (no rule needs it).
pub(crate) fn relation(identity: Identity) -> Message {
    let column = |name: &str, is_key| Column {
        name: name.into(),
        type_oid: 25,
        type_modifier: -1,
        is_key: is_key || identity == Identity::Full,
    };
    Message::Relation(Relation {
        oid: 7,
        schema: "public".into(),
        name: "refresh".into(),
        identity,
        columns: vec![
            column("signature", true),
            column("request_id", false),
            column("active", false),
            column("session", false),
        ],
    })
}

pub(crate) fn tuple(cells: [&str; 4]) -> Tuple {
    let cell = |text: &str| match text {
        "null" => Cell::Null,
        "same" => Cell::Unchanged,
        text => Cell::Text(Bytes::copy_from_slice(text.as_bytes())),
    };
    Tuple(cells.map(cell).to_vec())
}

pub(crate) fn insert(cells: [&str; 4]) -> Message {
    Message::Insert { relation: 7, new: tuple(cells) }
}

pub(crate) fn update(old: Option<OldTuple>, cells: [&str; 4]) -> Message {
    Message::Update { relation: 7, old, new: tuple(cells) }
}

pub(crate) fn delete(old: OldTuple) -> Message {
    Message::Delete { relation: 7, old }
}

pub(crate) fn transaction(
    rules: &[RevocationRule],
    identity: Identity,
    changes: Vec<Message>,
) -> Transaction {
    let mut gatherer = Gatherer::new(rules);
    let time = CommitTime(0);
    let begin = Message::Begin(Begin { commit_lsn: Lsn(100), commit_time: time, xid: 1 });
    let commit = Message::Commit(Commit { commit_lsn: Lsn(100), end_lsn: Lsn(110), commit_time: time });
    let mut done = None;
    for message in [vec![begin, relation(identity)], changes, vec![commit]].concat() {
        done = gatherer.take(message).unwrap();
    }
    done.unwrap()
}

fn value(text: &str) -> Value {
    Value::Text(Bytes::copy_from_slice(text.as_bytes()))
}

#[test]
fn an_update_under_the_default_identity_knows_only_the_key_of_the_old_row() {
    let changes = vec![update(None, ["s1", "r1", "f", "same"])];
    let tx = transaction(&[rotation_rule()], Identity::Default, changes);
    assert_eq!((tx.commit_lsn, tx.end_lsn), (Lsn(100), Lsn(110)));
    let (old, new) = (tx.changes[0].old.as_ref().unwrap(), tx.changes[0].new.as_ref().unwrap());
    assert_eq!(*old.value("signature"), value("s1"));
    assert_eq!(*old.value("active"), Value::Unknown);
    assert_eq!(*new.value("active"), value("f"));
    assert_eq!(*new.value("session"), Value::Unknown, "no rule needs it, so it is not held");
}

#[test]
fn a_large_value_left_alone_is_taken_from_the_whole_old_row() {
    let old = OldTuple::Full(tuple(["s1", "r1", "t", "x"]));
    let changes = vec![update(Some(old), ["s1", "same", "f", "same"])];
    let tx = transaction(&[rotation_rule()], Identity::Full, changes);
    assert_eq!(*tx.changes[0].new.as_ref().unwrap().value("request_id"), value("r1"));
}

#[test]
fn nulls_of_a_key_tuple_are_unknown_and_not_null() {
    let changes = vec![delete(OldTuple::Key(tuple(["s1", "null", "null", "null"])))];
    let tx = transaction(&[rotation_rule()], Identity::Default, changes);
    let old = tx.changes[0].old.as_ref().unwrap();
    assert_eq!(*old.value("request_id"), Value::Unknown);
}

#[test]
fn a_table_without_a_rule_and_a_change_outside_a_transaction() {
    let mut other = rotation_rule();
    other.table = TableName::new("public", "other");
    let tx = transaction(&[other], Identity::Default, vec![insert(["s", "r", "t", "x"])]);
    assert_eq!(tx.changes, vec![]);
    let mut gatherer = Gatherer::new(&[rotation_rule()]);
    gatherer.take(relation(Identity::Default)).unwrap();
    assert_eq!(gatherer.take(insert(["s", "r", "t", "x"])).unwrap_err().kind, Kind::Server);
}

#[test]
fn a_truncate_is_told() {
    let changes = vec![Message::Truncate { relations: vec![7, 8], cascade: false, restart_identity: false }];
    let tx = transaction(&[rotation_rule()], Identity::Default, changes);
    assert_eq!(tx.truncated, vec![TableName::new("public", "refresh")]);
}
