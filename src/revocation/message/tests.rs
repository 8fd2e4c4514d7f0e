use super::*;
use crate::plan::Secret;
use proptest::prelude::*;

fn context() -> Context {
    Context { plan: "hydra-2x".into(), attempt: 3 }
}

fn key(digit: &str) -> SealKey {
    SealKey::read(&Secret::new(digit.repeat(64))).unwrap()
}

fn revocation(key: &str) -> Message {
    let commit_lsn = Lsn(0x16_B374_D848);
    Message {
        id: MessageId::of_revocation(3, commit_lsn, 7),
        producer: "migrate_hydra_2x_3_capture".into(),
        content: Content::Revocation(Revocation {
            rule: "refresh-revoked".into(),
            key: vec![key.into()],
            commit_lsn,
        }),
    }
}

#[test]
fn the_id_is_made_of_attempt_position_and_ordinal() {
    assert_eq!(revocation("k").id.as_str(), "3-00000016B374D848-7");
}

#[test]
fn what_is_written_is_read_in_clear_and_sealed() {
    for seal in [None, Some(key("a"))] {
        let message = revocation("t0ken");
        let body = write(&message, &context(), seal.as_ref()).unwrap();
        assert_eq!(read(&body, &context(), seal.as_ref()).unwrap(), message);
        let visible = String::from_utf8(body).unwrap().contains("t0ken");
        assert_eq!(visible, seal.is_none(), "the key is visible exactly when there is no seal");
    }
}

#[test]
fn a_seal_cannot_be_moved_to_another_message_plan_or_attempt() {
    let seal = key("a");
    let body = String::from_utf8(write(&revocation("k"), &context(), Some(&seal)).unwrap()).unwrap();
    let open = |body: &str, context: &Context| read(body.as_bytes(), context, Some(&seal)).unwrap_err();
    assert_eq!(open(&body.replace("D848-7", "D848-8"), &context()), Unusable::Broken);
    let other_plan = Context { plan: "hydra-3x".into(), attempt: 3 };
    assert_eq!(open(&body.replace("hydra-2x\"", "hydra-3x\""), &other_plan), Unusable::Broken);
    let other_attempt = Context { plan: "hydra-2x".into(), attempt: 4 };
    assert_eq!(open(&body.replace("\"attempt\":3", "\"attempt\":4"), &other_attempt), Unusable::Broken);
    assert!(matches!(open(&body, &other_attempt), Unusable::Foreign { attempt: 3, .. }));
}

#[test]
fn every_kind_of_bad_message_says_what_is_wrong() {
    let clear = write(&revocation("k"), &context(), None).unwrap();
    let sealed = write(&revocation("k"), &context(), Some(&key("a"))).unwrap();
    let newer = String::from_utf8(clear.clone()).unwrap().replace("\"version\":1", "\"version\":2,\"x\":0");
    assert_eq!(read(newer.as_bytes(), &context(), None).unwrap_err(), Unusable::Version(2));
    assert_eq!(read(&clear, &context(), Some(&key("a"))).unwrap_err(), Unusable::NotSealed);
    assert_eq!(read(&sealed, &context(), None).unwrap_err(), Unusable::NoKey);
    assert!(matches!(read(&sealed, &context(), Some(&key("b"))).unwrap_err(), Unusable::OtherKey { .. }));
    assert!(matches!(read(b"{", &context(), None).unwrap_err(), Unusable::Malformed(_)));
    assert!(matches!(read(b"{\"id\":\"x\"}", &context(), None).unwrap_err(), Unusable::Malformed(_)));
    assert_eq!(named_id(b"{\"id\":\"x\"}").as_deref(), Some("x"));
}

proptest! {
    #[test]
    fn the_hash_of_ids_does_not_depend_on_their_order(mut ids in proptest::collection::hash_set("[a-z]{1,8}", 0..20)
        .prop_map(|ids| ids.into_iter().collect::<Vec<_>>())) {
        let hash = |ids: &[String]| {
            let mut hash = IdsHash::default();
            ids.iter().for_each(|id| hash.add(id));
            hash
        };
        let before = hash(&ids);
        ids.reverse();
        prop_assert_eq!(before, hash(&ids));
        prop_assert_eq!(before, before.to_string().parse().unwrap());
        if let Some(id) = ids.pop() {
            prop_assert_ne!(before, hash(&ids), "leaving out {} must show", id);
        }
    }

    #[test]
    fn no_bytes_make_the_reader_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(read(&body, &context(), None).is_err());
    }
}
