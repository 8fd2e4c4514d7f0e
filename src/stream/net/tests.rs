use super::*;
use crate::stream::change::Emptying;
use crate::stream::pgoutput::{Column, Identity, Relation};
use crate::stream::shape::Target;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Two columns of key, a value, and one that may be in TOAST.
const COLUMNS: [(&str, bool); 4] = [("one", true), ("two", true), ("value", false), ("toasted", false)];

fn shape(locate: Locate) -> Arc<Shape> {
    let column =
        |(name, is_key): (&str, bool)| Column { name: name.into(), type_oid: 25, type_modifier: -1, is_key };
    let columns = COLUMNS.map(column).into();
    Arc::new(Shape {
        relation: Relation {
            oid: 1,
            schema: "s".into(),
            name: "t".into(),
            identity: Identity::Default,
            columns,
        },
        green: TableName::new("s", "t"),
        targets: vec![Target::Write; COLUMNS.len()],
        types: Vec::new(),
        own: Vec::new(),
        locate,
        only_row_by_row: None,
        moves_whole: true,
        mapped: None,
        part: 0,
        sharing: 1,
        joined: false,
    })
}

fn keyed() -> Arc<Shape> {
    shape(Locate::Key(vec![0, 1]))
}

fn text(text: &str) -> Cell {
    Cell::Text(Bytes::copy_from_slice(text.as_bytes()))
}

/// Keys whose columns put together without care would be the same.
const KEYS: [[&str; 2]; 4] = [["a", "bc"], ["ab", "c"], ["", "abc"], ["abc", ""]];

fn row(key: usize, value: &str, toasted: Cell) -> Tuple {
    Tuple(vec![text(KEYS[key][0]), text(KEYS[key][1]), text(value), toasted])
}

fn old_key(key: usize) -> OldTuple {
    OldTuple::Key(Tuple(vec![text(KEYS[key][0]), text(KEYS[key][1]), Cell::Null, Cell::Null]))
}

fn insert(key: usize, value: &str) -> Change {
    Change::Insert { shape: keyed(), new: row(key, value, text("long")) }
}

fn update(key: usize, value: &str, toasted: Cell) -> Change {
    Change::Update { shape: keyed(), old: None, new: row(key, value, toasted) }
}

fn delete(key: usize) -> Change {
    Change::Delete { shape: keyed(), old: old_key(key) }
}

fn change_key(from: usize, to: usize, value: &str, toasted: Cell) -> Change {
    Change::Update { shape: keyed(), old: Some(old_key(from)), new: row(to, value, toasted) }
}

fn fold(changes: &[Change]) -> Result<NetEffect, Unfoldable> {
    let mut net = NetEffect::default();
    for at in 0..changes.len() {
        net.add(changes, at)?;
    }
    Ok(net)
}

fn effects(changes: &[Change]) -> Result<Vec<Effect>, Unfoldable> {
    fold(changes).map(|net| net.tables.into_iter().flat_map(|table| table.effects).collect())
}

#[test]
fn what_two_changes_of_a_key_come_to() {
    use NetRow::Sent;
    let full = || text("x");
    assert_eq!(effects(&[insert(0, "1"), update(0, "2", full())]), Ok(vec![Effect::Insert(Sent(1))]));
    assert_eq!(effects(&[insert(0, "1"), delete(0)]), Ok(vec![Effect::Nothing]));
    assert_eq!(effects(&[insert(0, "1"), delete(0), insert(0, "2")]), Ok(vec![Effect::Insert(Sent(2))]));
    assert_eq!(effects(&[update(0, "1", full()), delete(0)]), Ok(vec![Effect::Delete(1)]));
    // It was there before: nothing is not what is left.
    assert_eq!(effects(&[delete(0), insert(0, "1"), delete(0)]), Ok(vec![Effect::Delete(2)]));
    assert_eq!(effects(&[delete(0), insert(0, "1")]), Ok(vec![Effect::Replace(0, Sent(1))]));
    assert_eq!(
        effects(&[update(0, "1", full()), update(1, "2", full())]),
        Ok(vec![Effect::Update(Sent(0)), Effect::Update(Sent(1))])
    );
}

#[test]
fn new_rows_alone_are_not_told_apart() {
    use NetRow::Sent;
    let twice = vec![Effect::Insert(Sent(0)), Effect::Insert(Sent(1))];
    assert_eq!(effects(&[insert(0, "1"), insert(0, "2")]), Ok(twice), "green refuses them, or may have both");
}

#[test]
fn a_cell_that_was_not_sent_is_the_one_before_it() {
    let merged = NetRow::Merged(row(0, "2", text("long")));
    assert_eq!(effects(&[insert(0, "1"), update(0, "2", Cell::Unchanged)]), Ok(vec![Effect::Insert(merged)]));
    let open = NetRow::Merged(row(0, "2", Cell::Unchanged));
    let updates = [update(0, "1", Cell::Unchanged), update(0, "2", Cell::Unchanged)];
    assert_eq!(effects(&updates), Ok(vec![Effect::Update(open)]));
}

#[test]
fn a_changed_key_is_two_effects_when_the_whole_row_is_known() {
    use NetRow::Sent;
    assert_eq!(
        effects(&[change_key(0, 1, "1", text("x"))]),
        Ok(vec![Effect::Delete(0), Effect::Insert(Sent(0))])
    );
    assert!(effects(&[change_key(0, 1, "1", Cell::Unchanged)]).is_err());
    let full = OldTuple::Full(row(0, "0", text("whole")));
    let with_old = Change::Update { shape: keyed(), old: Some(full), new: row(1, "1", Cell::Unchanged) };
    let merged = NetRow::Merged(row(1, "1", text("whole")));
    assert_eq!(effects(&[with_old]), Ok(vec![Effect::Delete(0), Effect::Insert(merged)]));
}

#[test]
fn what_cannot_be_folded_is_left_to_exact_order() {
    assert!(effects(&[insert(0, "1"), insert(0, "2"), delete(0)]).is_err());
    assert!(effects(&[delete(0), insert(0, "1"), insert(0, "2")]).is_err());
    assert!(effects(&[delete(0), update(0, "1", text("x"))]).is_err());
    assert!(
        effects(&[Change::Truncate {
            shapes: vec![keyed()],
            emptying: Emptying::Restrict,
            restart_identity: false
        }])
        .is_err()
    );
    let null = Change::Insert { shape: keyed(), new: Tuple(vec![Cell::Null; 4]) };
    assert!(effects(&[null, delete(0)]).is_err());
    let keyless = || shape(Locate::WholeRow);
    let added = || Change::Insert { shape: keyless(), new: row(0, "1", text("x")) };
    assert_eq!(effects(&[added(), added()]).map(|effects| effects.len()), Ok(2));
    let changed = Change::Update { shape: keyless(), old: Some(old_key(0)), new: row(0, "1", text("x")) };
    assert!(effects(&[added(), changed]).is_err());
}

#[test]
fn a_row_moves_only_where_green_keeps_nothing_else_of_it() {
    let mut shape = Arc::into_inner(keyed()).unwrap();
    shape.moves_whole = false;
    let moved = Change::Update { shape: Arc::new(shape), old: Some(old_key(0)), new: row(1, "1", text("x")) };
    assert!(effects(&[moved]).is_err());
}

type Rows = BTreeMap<Vec<u8>, Vec<Cell>>;

fn place(tuple: &Tuple) -> Vec<u8> {
    key_of(&keyed(), tuple).unwrap().to_vec()
}

fn put(rows: &mut Rows, tuple: &Tuple) {
    let before = rows.insert(place(tuple), tuple.0.clone());
    assert_eq!(before, None, "inserted over a row");
}

/// An update, which leaves alone what was not sent.
fn set(rows: &mut Rows, before: &Tuple, new: &Tuple) {
    let mut cells = rows.remove(&place(before)).expect("the row is there");
    for (cell, new) in cells.iter_mut().zip(&new.0) {
        if *new != Cell::Unchanged {
            *cell = new.clone();
        }
    }
    put(rows, &Tuple(cells));
}

fn remove(rows: &mut Rows, before: &Tuple) {
    assert!(rows.remove(&place(before)).is_some(), "deleted no row");
}

fn row_by_row(rows: &mut Rows, changes: &[Change]) {
    for change in changes {
        match change {
            Change::Insert { new, .. } => put(rows, new),
            Change::Update { new, .. } => set(rows, change.before().unwrap(), new),
            Change::Delete { old, .. } => remove(rows, old.tuple()),
            Change::Truncate { .. } => rows.clear(),
        }
    }
}

/// As green does it: deletes, then updates, then inserts.
fn set_by_set(rows: &mut Rows, net: &NetEffect, changes: &[Change]) {
    for table in &net.tables {
        for effect in &table.effects {
            if let Effect::Delete(at) | Effect::Replace(at, _) = effect {
                remove(rows, changes[*at].before().unwrap());
            }
        }
        for effect in &table.effects {
            if let Effect::Update(row) = effect {
                let new = row.tuple(changes).unwrap();
                set(rows, new, new);
            }
        }
        for effect in &table.effects {
            if let Effect::Insert(row) | Effect::Replace(_, row) = effect {
                let new = row.tuple(changes).unwrap();
                assert!(!new.0.contains(&Cell::Unchanged), "an inserted row lacks a cell");
                put(rows, new);
            }
        }
    }
}

/// A wish of what to do next; what it comes to depends on which rows are there.
type Wish = (usize, usize, u8, bool, bool);

/// The changes of a history on blue that begins with these rows.
fn history(mut blue: Rows, wishes: &[Wish]) -> Vec<Change> {
    let mut changes = Vec::new();
    for (number, (key, other, kind, toast_kept, full)) in wishes.iter().enumerate() {
        let value = number.to_string();
        let toasted = if *toast_kept { Cell::Unchanged } else { text(&format!("t{number}")) };
        let there = |blue: &Rows, key: usize| blue.contains_key(&place(&row(key, "", Cell::Null)));
        let change = match (there(&blue, *key), kind) {
            (false, _) => {
                Change::Insert { shape: keyed(), new: row(*key, &value, text(&format!("t{number}"))) }
            }
            (true, 0) => delete(*key),
            (true, 1 | 2) if !there(&blue, *other) => {
                let old = match full {
                    true => OldTuple::Full(Tuple(blue[&place(&row(*key, "", Cell::Null))].clone())),
                    false => old_key(*key),
                };
                Change::Update { shape: keyed(), old: Some(old), new: row(*other, &value, toasted) }
            }
            (true, _) => update(*key, &value, toasted),
        };
        row_by_row(&mut blue, std::slice::from_ref(&change));
        changes.push(change);
    }
    changes
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    /// What is left of a history makes of any table what the history itself does.
    #[test]
    fn the_net_effect_is_what_the_history_does_row_by_row(
        there in prop::collection::vec(any::<bool>(), KEYS.len()),
        wishes in prop::collection::vec(
            (0..KEYS.len(), 0..KEYS.len(), 0..6u8, any::<bool>(), any::<bool>()), 0..24),
    ) {
        let mut before = Rows::new();
        for key in (0..KEYS.len()).filter(|key| there[*key]) {
            put(&mut before, &row(key, "start", text("long")));
        }
        let changes = history(before.clone(), &wishes);
        match fold(&changes) {
            Ok(net) => {
                let (mut exact, mut sets) = (before.clone(), before);
                row_by_row(&mut exact, &changes);
                set_by_set(&mut sets, &net, &changes);
                prop_assert_eq!(exact, sets);
            }
            Err(why) => prop_assert_eq!(why, "a key was changed, and a TOAST value of the row was not sent"),
        }
    }
}
