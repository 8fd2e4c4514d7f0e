use super::super::Message;
use super::*;
use crate::pg::lsn::Lsn;
use pg_walstream::{
    LogicalReplicationMessage as Theirs, LogicalReplicationParser, StreamingReplicationMessage,
};
use proptest::prelude::*;

/// What PostgreSQL 15 and 18 streamed of a large transaction with subtransactions, beside a small one; one message in each line, in hex.
const RECORDED: [&str; 2] = [
    include_str!("../../../../tests/fixtures/pgoutput-streamed-15.hex"),
    include_str!("../../../../tests/fixtures/pgoutput-streamed-18.hex"),
];

fn recorded() -> Vec<Vec<Bytes>> {
    let unhex = |line: &str| -> Bytes {
        (0..line.len()).step_by(2).map(|at| u8::from_str_radix(&line[at..at + 2], 16).unwrap()).collect()
    };
    RECORDED.iter().map(|text| text.lines().map(unhex).collect()).collect()
}

/// What the independent parser sees, in our words; changes by their kind and id alone, since those are compared elsewhere.
fn translate(
    StreamingReplicationMessage { message, xid, .. }: StreamingReplicationMessage,
) -> (char, Option<u32>, Option<u32>) {
    match message {
        Theirs::StreamStart { xid, .. } => ('S', Some(xid), None),
        Theirs::StreamStop => ('E', None, None),
        Theirs::StreamCommit { xid, end_lsn, .. } => ('c', Some(xid), u32::try_from(end_lsn).ok()),
        Theirs::StreamAbort { xid, subtransaction_xid, .. } => ('A', Some(xid), Some(subtransaction_xid)),
        Theirs::Begin { .. } => ('B', xid, None),
        Theirs::Commit { .. } => ('C', xid, None),
        Theirs::Relation { relation_id, .. } => ('R', xid, Some(relation_id)),
        Theirs::Insert { relation_id, .. } => ('I', xid, Some(relation_id)),
        Theirs::Update { relation_id, .. } => ('U', xid, Some(relation_id)),
        Theirs::Delete { relation_id, .. } => ('D', xid, Some(relation_id)),
        Theirs::Truncate { relation_ids, .. } => ('T', xid, relation_ids.first().copied()),
        Theirs::Message { .. } => ('M', xid, None),
        Theirs::Type { type_id, .. } => ('Y', xid, Some(type_id)),
        other => panic!("not recorded: {other:?}"),
    }
}

fn ours(streamed: &Streamed) -> (char, Option<u32>, Option<u32>) {
    let kind = |message: &Message, xid| match message {
        Message::Begin(_) => ('B', xid, None),
        Message::Commit(_) => ('C', xid, None),
        Message::Relation(relation) => ('R', xid, Some(relation.oid)),
        Message::Insert { relation, .. } => ('I', xid, Some(*relation)),
        Message::Update { relation, .. } => ('U', xid, Some(*relation)),
        Message::Delete { relation, .. } => ('D', xid, Some(*relation)),
        Message::Truncate { relations, .. } => ('T', xid, relations.first().copied()),
        Message::Logical(_) => ('M', xid, None),
        Message::Type { oid, .. } => ('Y', xid, Some(*oid)),
        Message::Origin { .. } => ('O', xid, None),
    };
    match streamed {
        Streamed::Whole(message) => kind(message, None),
        Streamed::Part { xid, message } => kind(message, Some(*xid)),
        Streamed::Start { xid } => ('S', Some(*xid), None),
        Streamed::Stop => ('E', None, None),
        Streamed::Commit { xid, commit } => ('c', Some(*xid), u32::try_from(commit.end_lsn.0).ok()),
        Streamed::Abort { xid, subxid } => ('A', Some(*xid), Some(*subxid)),
    }
}

#[test]
fn an_independent_parser_reads_the_same_from_recorded_streams() {
    for stream in recorded() {
        let (mut oracle, mut decoder) =
            (LogicalReplicationParser::with_protocol_version(2), Decoder::default());
        let mut kinds = std::collections::BTreeSet::new();
        for body in stream {
            let theirs = translate(oracle.parse_wal_message_bytes(body.clone()).unwrap());
            let read = ours(&decoder.decode(body).unwrap());
            assert_eq!(read, theirs);
            kinds.insert(read.0);
        }
        assert_eq!(
            kinds.into_iter().collect::<String>(),
            "ABCDEIMRSTUYc",
            "the recording lacks a kind of message"
        );
    }
}

#[test]
fn every_cut_of_a_streamed_message_is_an_error() {
    for stream in recorded() {
        let mut inside = None;
        for body in stream {
            for end in 0..body.len() {
                let cut = Decoder { inside }.decode(body.slice(..end));
                assert!(cut.is_err(), "{end} of {} bytes were enough", body.len());
            }
            let longer: Bytes = body.iter().copied().chain([0]).collect();
            assert!(Decoder { inside }.decode(longer).is_err());
            let mut decoder = Decoder { inside };
            decoder.decode(body).unwrap();
            inside = decoder.inside;
        }
    }
}

#[test]
fn what_cannot_come_here_is_an_error() {
    let start: &[u8] = b"S\0\0\0\x07\x01";
    let mut decoder = Decoder::default();
    assert!(decoder.decode(Bytes::from_static(b"E")).is_err(), "no block has begun");
    assert_eq!(decoder.decode(Bytes::from_static(start)).unwrap(), Streamed::Start { xid: 7 });
    assert!(decoder.decode(Bytes::from_static(start)).is_err(), "one is open");
    for kind in [b'B', b'C', b'c', b'A', b'?'] {
        let body: Bytes = [kind].into_iter().chain([0; 64]).collect();
        assert!(decoder.decode(body).is_err(), "{} in a block", kind as char);
    }
    assert_eq!(decoder.decode(Bytes::from_static(b"E")).unwrap(), Streamed::Stop);
    let committed =
        Bytes::from_static(b"c\0\0\0\x07\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x03");
    let Streamed::Commit { xid: 7, commit } = decoder.decode(committed).unwrap() else { panic!("a commit") };
    assert_eq!((commit.commit_lsn, commit.end_lsn), (Lsn(1), Lsn(2)));
    assert!(super::super::decode(Bytes::from_static(start)).is_err(), "version 1 has no blocks");
}

proptest! {
    #[test]
    fn a_damaged_stream_never_makes_it_panic(
        which in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), byte in any::<u8>(), inside in any::<bool>(),
    ) {
        let all: Vec<Bytes> = recorded().into_iter().flatten().collect();
        let mut body = which.get(&all).to_vec();
        let at = at.index(body.len());
        body[at] = byte;
        let _ = Decoder { inside: inside.then_some(7) }.decode(Bytes::from(body));
    }
}
