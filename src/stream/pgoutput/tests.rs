use super::*;
use pg_walstream::{LogicalReplicationMessage as Theirs, LogicalReplicationParser, TupleData};
use proptest::prelude::*;

/// Messages as PostgreSQL 15 and 18 sent them, one in each line, in hex; every kind is among them.
const RECORDED: [&str; 2] = [
    include_str!("../../../tests/fixtures/pgoutput-15.hex"),
    include_str!("../../../tests/fixtures/pgoutput-18.hex"),
];

fn recorded() -> Vec<Bytes> {
    let unhex = |line: &str| -> Bytes {
        (0..line.len()).step_by(2).map(|at| u8::from_str_radix(&line[at..at + 2], 16).unwrap()).collect()
    };
    RECORDED.iter().flat_map(|text| text.lines()).map(unhex).collect()
}

/// What the independent parser sees, in our words.
fn translate(theirs: Theirs) -> Message {
    match theirs {
        Theirs::Begin { final_lsn, timestamp, xid } => {
            Message::Begin(Begin { commit_lsn: Lsn(final_lsn), commit_time: CommitTime(timestamp), xid })
        }
        Theirs::Commit { commit_lsn, end_lsn, timestamp, .. } => Message::Commit(Commit {
            commit_lsn: Lsn(commit_lsn),
            end_lsn: Lsn(end_lsn),
            commit_time: CommitTime(timestamp),
        }),
        Theirs::Relation { relation_id, namespace, relation_name, replica_identity, columns } => {
            Message::Relation(Relation {
                oid: relation_id,
                schema: namespace.to_string(),
                name: relation_name.to_string(),
                identity: match replica_identity {
                    b'd' => Identity::Default,
                    b'f' => Identity::Full,
                    b'i' => Identity::Index,
                    _ => Identity::Nothing,
                },
                columns: columns
                    .into_iter()
                    .map(|column| Column {
                        is_key: column.is_key(),
                        name: column.name.to_string(),
                        type_oid: column.type_id,
                        type_modifier: column.type_modifier,
                    })
                    .collect(),
            })
        }
        Theirs::Type { type_id, namespace, type_name } => {
            Message::Type { oid: type_id, schema: namespace, name: type_name }
        }
        Theirs::Origin { origin_name, .. } => Message::Origin { name: origin_name },
        Theirs::Insert { relation_id, tuple } => {
            Message::Insert { relation: relation_id, new: translate_tuple(&tuple) }
        }
        Theirs::Update { relation_id, old_tuple, new_tuple, key_type } => Message::Update {
            relation: relation_id,
            old: old_tuple.map(|tuple| translate_old(key_type.unwrap(), &tuple)),
            new: translate_tuple(&new_tuple),
        },
        Theirs::Delete { relation_id, old_tuple, key_type } => {
            Message::Delete { relation: relation_id, old: translate_old(key_type, &old_tuple) }
        }
        Theirs::Truncate { relation_ids, flags } => Message::Truncate {
            relations: relation_ids,
            cascade: flags & 1 != 0,
            restart_identity: flags & 2 != 0,
        },
        Theirs::Message { flags, lsn, prefix, content } => {
            Message::Logical(LogicalMessage { transactional: flags == 1, lsn: Lsn(lsn), prefix, content })
        }
        other => panic!("not a message of protocol 1: {other:?}"),
    }
}

fn translate_old(kind: char, tuple: &TupleData) -> OldTuple {
    match kind {
        'K' => OldTuple::Key(translate_tuple(tuple)),
        'O' => OldTuple::Full(translate_tuple(tuple)),
        other => panic!("old tuple kind {other}"),
    }
}

fn translate_tuple(tuple: &TupleData) -> Tuple {
    Tuple(
        (0..tuple.column_count())
            .map(|at| tuple.get_column(at).unwrap())
            .map(|cell| match cell.data_type {
                b'n' => Cell::Null,
                b'u' => Cell::Unchanged,
                b't' => Cell::Text(cell.raw_bytes()),
                other => panic!("cell kind {other}"),
            })
            .collect(),
    )
}

#[test]
fn an_independent_parser_reads_the_same_from_recorded_bytes() {
    let mut oracle = LogicalReplicationParser::with_protocol_version(1);
    let mut kinds = std::collections::BTreeSet::new();
    for body in recorded() {
        kinds.insert(body[0] as char);
        let theirs = translate(oracle.parse_wal_message_bytes(body.clone()).unwrap().message);
        assert_eq!(decode(body).unwrap(), theirs);
    }
    assert_eq!(kinds.into_iter().collect::<String>(), "BCDIMORTUY", "the recording lacks a kind of message");
}

#[test]
fn the_recording_has_every_kind_of_tuple() {
    let all: Vec<Message> = recorded().into_iter().map(|body| decode(body).unwrap()).collect();
    let has = |test: &dyn Fn(&Message) -> bool| all.iter().any(test);
    assert!(has(
        &|m| matches!(m, Message::Update { old: None, new, .. } if new.0.contains(&Cell::Unchanged))
    ));
    assert!(has(&|m| matches!(m, Message::Update { old: Some(OldTuple::Key(_)), .. })));
    assert!(has(&|m| matches!(m, Message::Update { old: Some(OldTuple::Full(_)), .. })));
    assert!(has(&|m| matches!(m, Message::Delete { old: OldTuple::Full(_), .. })));
    assert!(has(&|m| matches!(m, Message::Truncate { relations, cascade: true, restart_identity: true }
        if relations.len() == 2)));
    assert!(has(&|m| matches!(m, Message::Logical(l) if l.transactional && l.content == "marker-1")));
    assert!(has(&|m| matches!(m, Message::Logical(l) if !l.transactional && l.prefix == "other")));
}

#[test]
fn every_cut_of_a_message_is_an_error() {
    for body in recorded() {
        for end in 0..body.len() {
            assert!(decode(body.slice(..end)).is_err(), "{end} of {} bytes were enough", body.len());
        }
        let longer: Bytes = body.iter().copied().chain([0]).collect();
        assert!(decode(longer).is_err());
    }
}

#[test]
fn values_do_not_show_in_debug() {
    let cell = Cell::Text(Bytes::from_static(b"top secret"));
    assert_eq!(format!("{cell:?}"), "Text(10 bytes)");
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(Bytes::from(bytes));
    }

    #[test]
    fn a_damaged_message_never_makes_it_panic(
        which in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>(),
    ) {
        let all = recorded();
        let mut body = which.get(&all).to_vec();
        let at = at.index(body.len());
        body[at] = byte;
        body.truncate(cut.index(body.len()) + 1);
        let _ = decode(Bytes::from(body));
    }
}
