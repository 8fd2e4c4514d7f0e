use super::*;
use crate::pg::lsn::Lsn;
use crate::pg::name::TableName;
use crate::stream::pgoutput::{Cell, Column, CommitTime, Identity, Relation, Tuple};
use crate::stream::shape::{Locate, Shape, Target};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::sync::Arc;

const TOP: u32 = 100;

fn shape() -> Arc<Shape> {
    let column = Column { name: "id".into(), type_oid: 23, type_modifier: -1, is_key: true };
    Arc::new(Shape {
        relation: Relation {
            oid: 1,
            schema: "s".into(),
            name: "t".into(),
            identity: Identity::Default,
            columns: vec![column],
        },
        green: TableName::new("s", "t"),
        targets: vec![Target::Write],
        types: Vec::new(),
        own: Vec::new(),
        locate: Locate::Key(vec![0]),
        only_row_by_row: None,
        moves_whole: true,
        mapped: None,
        part: 0,
        sharing: 1,
        joined: false,
    })
}

fn change(id: u32) -> Change {
    Change::Insert { shape: shape(), new: Tuple(vec![Cell::Text(id.to_string().into())]) }
}

fn ids(batch: &Batch) -> Vec<u32> {
    let id = |change: &Change| match &change.after().unwrap().0[0] {
        Cell::Text(text) => std::str::from_utf8(text).unwrap().parse().unwrap(),
        _ => panic!("an id is a text"),
    };
    batch.changes.iter().map(id).collect()
}

fn commit() -> Commit {
    Commit { commit_lsn: Lsn(7), end_lsn: Lsn(8), commit_time: CommitTime(9) }
}

/// Blue's side: a transaction with subtransactions in each other, and what of it must be left.
#[derive(Default)]
struct Blue {
    next_xid: u32,
    next_id: u32,
    open: Vec<Sub>,
    left: Vec<u32>,
    /// Those of which something was sent.
    sent: BTreeSet<u32>,
}

#[derive(Default)]
struct Sub {
    xid: Option<u32>,
    /// Those in it that have ended well.
    children: Vec<u32>,
    left_before: usize,
}

impl Blue {
    fn change(&mut self, running: &mut Transactions) -> Result<()> {
        // Outer ones get their ids before inner ones, and only when something is written.
        for sub in &mut self.open {
            if sub.xid.is_none() {
                self.next_xid += 1;
                sub.xid = Some(TOP + self.next_xid);
            }
        }
        self.next_id += 1;
        let xid = self.open.last().and_then(|sub| sub.xid).unwrap_or(TOP);
        self.sent.insert(xid);
        self.left.push(self.next_id);
        running.start(TOP)?;
        running.add(TOP, xid, change(self.next_id), 10)
    }

    fn release(&mut self) {
        let Some(sub) = self.open.pop() else { return };
        if let Some(around) = self.open.last_mut() {
            around.children.extend(sub.children);
            around.children.extend(sub.xid);
        }
    }

    fn roll_back(&mut self, running: &mut Transactions) {
        let Some(mut sub) = self.open.pop() else { return };
        sub.children.sort_unstable();
        for xid in sub.children.into_iter().chain(sub.xid).filter(|xid| self.sent.contains(xid)) {
            running.abort(TOP, xid);
        }
        self.left.truncate(sub.left_before);
    }
}

/// Green's side of one transaction.
#[derive(Default)]
struct Green {
    rows: Vec<u32>,
    savepoints: Vec<(u32, usize)>,
    committed: bool,
}

impl Green {
    fn take(&mut self, part: Part) {
        for step in part.steps {
            match step {
                Step::TakeBack(xid) => {
                    let at = self.leave(xid);
                    self.rows.truncate(at);
                }
                Step::Release(xid) => {
                    self.leave(xid);
                }
                Step::Write { savepoint, batch } => {
                    assert!(!self.committed);
                    self.savepoints.extend(savepoint.map(|xid| (xid, self.rows.len())));
                    self.rows.extend(ids(&batch));
                    self.committed = batch.at_boundary();
                }
            }
        }
        assert_eq!(self.committed, part.end == End::Committed);
        assert!(self.savepoints.len() <= SAVEPOINTS_MAX);
    }

    fn leave(&mut self, xid: u32) -> usize {
        let at =
            self.savepoints.iter().rposition(|(known, _)| *known == xid).expect("the savepoint is there");
        self.savepoints.drain(at..).next().unwrap().1
    }
}

/// Plays a transaction: `moves` say what blue does, and where parts are written. False when following would begin anew
/// without streaming.
fn play(moves: &[u8]) -> bool {
    let (mut blue, mut green, mut running) = (Blue::default(), Green::default(), Transactions::default());
    let mut in_parts = false;
    running.start(TOP).unwrap();
    for step in moves {
        match step % 16 {
            0..=6 => {
                if blue.change(&mut running).is_err() {
                    return false;
                }
            }
            7..=9 => {
                let left_before = blue.left.len();
                blue.open.push(Sub { left_before, ..Sub::default() });
            }
            10 | 11 => blue.release(),
            12 | 13 => blue.roll_back(&mut running),
            _ => {
                green.take(running.take_part().unwrap().unwrap());
                in_parts = true;
            }
        }
        if running.is_due() {
            green.take(running.take_part().unwrap().unwrap());
        }
    }
    while !blue.open.is_empty() {
        blue.release();
    }
    if running.commit(TOP, commit()).is_err() {
        return false;
    }
    match running.take_small(usize::MAX) {
        Some((whole, _)) => {
            assert!(!in_parts);
            green.rows = ids(&whole);
        }
        None => green.take(running.take_part().unwrap().unwrap()),
    }
    assert_eq!(green.rows, blue.left);
    assert!(running.is_empty());
    true
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn what_blue_rolled_back_is_never_on_green(moves in proptest::collection::vec(any::<u8>(), 0..200)) {
        play(&moves);
    }
}

#[test]
fn a_loop_whose_exceptions_are_caught_is_followed_to_its_end() {
    // Subtransactions side by side, each with a row; every third fails, and now and then a part is written in the middle.
    let mut moves = Vec::new();
    for number in 0..3000 {
        moves.extend([7, 0]);
        if number % 10 == 0 {
            moves.push(14);
        }
        moves.push(if number % 3 == 0 { 12 } else { 10 });
    }
    assert!(play(&moves));
}

#[test]
fn a_block_around_a_loop_is_taken_back_as_a_whole() {
    let mut moves = vec![0, 7];
    for number in 0..50 {
        moves.extend([7, 0, 10]);
        if number % 20 == 0 {
            moves.push(14);
        }
    }
    moves.extend([12, 0]);
    assert!(play(&moves));
}

#[test]
fn savepoints_of_what_has_ended_are_released() {
    let mut moves = Vec::new();
    for _ in 0..1000 {
        // A subtransaction, a part, and the transaction itself again.
        moves.extend([7, 0, 14, 10, 0]);
    }
    assert!(play(&moves));
}

#[test]
fn one_of_many_that_cannot_be_told_apart_any_more_is_an_error() {
    let (mut blue, mut running) = (Blue::default(), Transactions::default());
    blue.open.push(Sub::default());
    for _ in 0..20 {
        blue.open.push(Sub { left_before: blue.left.len(), ..Sub::default() });
        blue.change(&mut running).unwrap();
        blue.release();
    }
    running.abort(TOP, TOP + 10);
    assert_eq!(running.start(TOP).unwrap_err().kind, Kind::Gate);
    assert_eq!(running.commit(TOP, commit()).unwrap_err().kind, Kind::Gate);
    // Had all been rolled back, it would not matter.
    running.abort(TOP, TOP + 2);
    running.start(TOP).unwrap();
}

#[test]
fn markers_go_with_the_subtransaction_that_wrote_them() {
    let mut running = Transactions::default();
    let say = |running: &mut Transactions, text: &'static str| {
        let message = LogicalMessage {
            transactional: true,
            lsn: Lsn(1),
            prefix: "migrate".into(),
            content: text.into(),
        };
        running.hear(TOP, &message).unwrap();
    };
    running.start(TOP).unwrap();
    say(&mut running, "first");
    running.add(TOP, TOP + 1, change(1), 10).unwrap();
    say(&mut running, "undone");
    running.abort(TOP, TOP + 1);
    say(&mut running, "last");
    running.commit(TOP, commit()).unwrap();
    let (mut whole, commit) = running.take_small(usize::MAX).unwrap();
    whole.end(&commit);
    let markers: Vec<&str> = whole.applied.markers.iter().map(|(text, _)| text.as_str()).collect();
    assert_eq!(markers, ["first", "last"]);
}

#[test]
fn what_is_rolled_back_whole_is_only_told_to_green_when_green_has_some_of_it() {
    let mut running = Transactions::default();
    for xid in [TOP, TOP + 1] {
        running.start(xid).unwrap();
        running.add(xid, xid, change(1), 10).unwrap();
    }
    running.abort(TOP + 1, TOP + 1);
    assert!(!running.is_due());
    assert_eq!(running.take_part().unwrap().unwrap().end, End::Open);
    running.abort(TOP, TOP);
    assert!(running.is_due());
    assert_eq!(running.take_part().unwrap().unwrap().end, End::RolledBack);
    assert!(running.is_empty());
}

#[test]
fn parts_are_due_by_what_all_take_together_and_sessions_have_a_bound() {
    let mut running = Transactions::default();
    let quarter = PART_WEIGHT_BYTES as u64 / 4;
    let grow = |running: &mut Transactions, xid: u32, bytes: u64| {
        running.start(xid).unwrap();
        running.add(xid, xid, change(xid), bytes).unwrap();
    };
    let all = (1..=u32::try_from(SESSIONS_MAX).unwrap()).collect::<Vec<_>>();
    for xid in &all {
        assert!(!running.is_due());
        grow(&mut running, *xid, quarter);
    }
    for _ in &all {
        assert_eq!(running.take_part().unwrap().unwrap().end, End::Open);
    }
    assert!(!running.is_due());
    // One more than green has sessions for is kept as long as there is room beside it.
    grow(&mut running, 50, quarter);
    grow(&mut running, 1, 3 * quarter);
    assert_eq!(running.take_part().unwrap().unwrap().xid, 1);
    grow(&mut running, 50, 3 * quarter);
    assert!(running.is_due());
    assert_eq!(running.take_part().unwrap_err().kind, Kind::Gate);
    for xid in 1000..1000 + u32::try_from(TRANSACTIONS_MAX).unwrap() - 5 {
        running.start(xid).unwrap();
    }
    assert_eq!(running.start(5000).unwrap_err().kind, Kind::Gate);
}
