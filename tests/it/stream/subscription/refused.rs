//! What stops the follower: nothing of the transaction is on green, and the reason is said.

use super::{Table, table};
use crate::stream::{PATIENCE, Scene, followed};
use crate::support::Pair;
use migrate::error::Kind;
use std::time::Duration;

/// Something on blue, or on green, that cannot be followed.
pub(super) struct Refused {
    pub file: &'static str,
    pub what: &'static str,
    /// Runs on both sides, then the rest on green.
    ddl: &'static str,
    green: &'static str,
    tables: &'static [Table],
    /// On blue.
    step: &'static str,
    kind: Kind,
    /// Every one of these is in the error.
    says: &'static [&'static str],
    /// On green, after which the same follower goes on and green is as blue. Empty when nothing can help.
    healed_by: &'static str,
}

const REFUSED: Refused = Refused {
    file: "",
    what: "",
    ddl: "",
    green: "",
    tables: &[],
    step: "",
    kind: Kind::Gate,
    says: &[],
    healed_by: "",
};

const CHANGED: &[&str] = &["the shape of public.", "changed on blue", "DDL ran on blue"];

pub(super) const CASES: &[Refused] = &[
    Refused {
        file: "006_rewrite",
        what: "a column added with a value for each row",
        ddl: "create table f006_t (id int primary key, v text)",
        tables: &[table("f006_t", &["id"])],
        step: "insert into f006_t values (1, 'x'); alter table f006_t add column added text default md5(random()::text); insert into f006_t values (2, 'y')",
        says: CHANGED,
        ..REFUSED
    },
    Refused {
        file: "007_ddl",
        what: "a column retyped, with rows after it",
        ddl: "create table f007_t (id int primary key, v int)",
        tables: &[table("f007_t", &["id"])],
        step: "insert into f007_t values (1, 1); alter table f007_t alter column v type bigint; update f007_t set v = 5000000000",
        says: CHANGED,
        ..REFUSED
    },
    Refused {
        file: "007_ddl",
        what: "a table renamed",
        ddl: "create table f007_old (id int primary key)",
        tables: &[table("f007_old", &["id"])],
        step: "insert into f007_old values (1); alter table f007_old rename to f007_new; insert into f007_new values (2)",
        says: &["public.f007_new changed on blue"],
        ..REFUSED
    },
    Refused {
        file: "007_ddl",
        what: "a table dropped and made anew",
        ddl: "create table f007_anew (id int primary key)",
        tables: &[table("f007_anew", &["id"])],
        step: "insert into f007_anew values (1); drop table f007_anew; create table f007_anew (id int primary key); alter publication PUB add table f007_anew; insert into f007_anew values (2)",
        says: &["public.f007_anew was made anew on blue"],
        ..REFUSED
    },
    Refused {
        file: "007_ddl",
        what: "another replica identity",
        ddl: "create table f007_identity (id int primary key, v int)",
        tables: &[table("f007_identity", &["id"])],
        step: "insert into f007_identity values (1, 1); alter table f007_identity replica identity full; update f007_identity set v = 2",
        says: CHANGED,
        ..REFUSED
    },
    Refused {
        file: "008_diff_schema",
        what: "a column that green does not have",
        ddl: "create table f008_t (id int primary key, v text, more text)",
        green: "alter table f008_t drop column more",
        tables: &[table("f008_t", &["id"])],
        step: "insert into f008_t values (1, 'x', 'y')",
        says: &["public.f008_t on green has no column `more`, which blue's has"],
        healed_by: "alter table f008_t add column more text",
        ..REFUSED
    },
    Refused {
        file: "008_diff_schema",
        what: "a column of green's own that must not be null and has no default",
        ddl: "create table f008_own (id int primary key)",
        green: "alter table f008_own add column own int not null",
        tables: &[Table { row: "t.id", ..table("f008_own", &["id"]) }],
        step: "insert into f008_own values (1)",
        kind: Kind::Server,
        says: &["green refuses rows inserted into public.f008_own", "null value in column \"own\""],
        healed_by: "alter table f008_own alter column own set default 0",
    },
    Refused {
        file: "008_diff_schema",
        what: "a value that green's type cannot hold",
        ddl: "create table f008_narrow (id int primary key, v text)",
        green: "alter table f008_narrow alter column v type int using v::int",
        tables: &[table("f008_narrow", &["id"])],
        step: "insert into f008_narrow values (1, '12'), (2, 'many')",
        kind: Kind::Server,
        says: &[
            "green refuses rows inserted into public.f008_narrow",
            "invalid input syntax for type integer",
        ],
        healed_by: "alter table f008_narrow alter column v type text",
    },
    Refused {
        file: "010_truncate",
        what: "TRUNCATE of a table that one of green's own refers to",
        ddl: "create table f010_t (id int primary key)",
        green: "create table f010_own (id int references f010_t)",
        tables: &[table("f010_t", &["id"])],
        step: "insert into f010_t values (1); truncate f010_t",
        kind: Kind::Server,
        says: &["green does not truncate public.f010_t", "referenced in a foreign key constraint"],
        healed_by: "drop table f010_own",
    },
    Refused {
        file: "013_partition",
        what: "a new partition",
        ddl: "create table f013_p (id int primary key) partition by range (id); create table f013_1 partition of f013_p for values from (0) to (10)",
        tables: &[table("f013_1", &["id"])],
        step: "create table f013_2 partition of f013_p for values from (10) to (20); alter publication PUB add table f013_2; insert into f013_p values (1), (11)",
        says: &["public.f013_2, which is not in the plan"],
        ..REFUSED
    },
    Refused {
        file: "017_stream_ddl",
        what: "columns added in the middle of a large transaction",
        ddl: "create table f017_t (id int primary key, v text)",
        tables: &[table("f017_t", &["id"])],
        step: "begin; insert into f017_t select n, 'v' from generate_series(1, 2000) n; alter table f017_t add column c int; insert into f017_t select n, 'v', n from generate_series(3000, 5000) n; commit",
        says: CHANGED,
        ..REFUSED
    },
    Refused {
        file: "024_add_drop_pub",
        what: "a kind of change taken out of the publication",
        ddl: "create table f024_kind (id int primary key)",
        tables: &[table("f024_kind", &["id"])],
        step: "alter publication PUB set (publish = 'insert, update, truncate'); insert into f024_kind values (1); delete from f024_kind",
        says: &["publication `f", "does not publish every kind of change any more"],
        ..REFUSED
    },
    Refused {
        file: "024_add_drop_pub",
        what: "a publication dropped",
        ddl: "create table f024_gone (id int primary key)",
        tables: &[table("f024_gone", &["id"])],
        step: "drop publication PUB",
        says: &["publication `f", "does not exist on blue"],
        ..REFUSED
    },
    Refused {
        file: "025_rep_changes_for_schema",
        what: "a table that came in with its schema",
        ddl: "create table f025_t (id int primary key); create schema f025",
        tables: &[table("f025_t", &["id"])],
        step: "alter publication PUB add tables in schema f025; create table f025.late (id int primary key); insert into f025.late values (1)",
        says: &["blue sends changes of f025.late, which is not in the plan"],
        ..REFUSED
    },
    Refused {
        file: "029_on_error",
        what: "a row that green's constraint forbids; nothing of its transaction is on green, and once it can be, all is",
        ddl: "create table f029_t (id int primary key, v text)",
        green: "insert into f029_t values (2, 'in the way')",
        tables: &[table("f029_t", &["id"])],
        step: "begin; insert into f029_t values (1, 'a'), (2, 'b'); insert into f029_t values (3, 'c'); commit",
        kind: Kind::Server,
        says: &["green refuses rows inserted into public.f029_t", "duplicate key value"],
        healed_by: "delete from f029_t where id = 2",
    },
    Refused {
        file: "035_conflicts",
        what: "an update of a row that is missing",
        ddl: "create table f035_update (id int primary key, v int); insert into f035_update values (1, 1), (2, 2)",
        green: "delete from f035_update where id = 2",
        tables: &[table("f035_update", &["id"])],
        step: "update f035_update set v = v + 1",
        says: &[
            "0 rows on green instead of one for an update of public.f035_update (2)",
            "something else wrote to green",
        ],
        healed_by: "insert into f035_update values (2, 2)",
        ..REFUSED
    },
    Refused {
        file: "035_conflicts",
        what: "a delete of a row that is missing, named by whole row",
        ddl: "create table f035_delete (a int, b text); alter table f035_delete replica identity full; insert into f035_delete values (1, 'x')",
        green: "update f035_delete set b = 'y'",
        tables: &[table("f035_delete", &[])],
        step: "delete from f035_delete",
        says: &["0 rows on green instead of one for a delete from public.f035_delete"],
        healed_by: "update f035_delete set b = 'x'",
        ..REFUSED
    },
    Refused {
        file: "035_conflicts",
        what: "an update to a unique value that another row of green's has",
        ddl: "create table f035_unique (id int primary key, u int unique); insert into f035_unique values (1, 1)",
        green: "insert into f035_unique values (9, 7)",
        tables: &[table("f035_unique", &["id"])],
        step: "update f035_unique set u = 7",
        kind: Kind::Server,
        says: &["green refuses an update of public.f035_unique (1)", "f035_unique_u_key"],
        healed_by: "delete from f035_unique where id = 9",
    },
    Refused {
        file: "100_bugs",
        what: "an update of a table whose identity does not cover green's key",
        ddl: "create table f100_t (id int primary key, u int not null unique); alter table f100_t replica identity using index f100_t_u_key; insert into f100_t values (1, 1)",
        tables: &[table("f100_t", &["id"])],
        step: "update f100_t set id = 2",
        says: &[
            "a changed row of public.f100_t cannot be found on green: blue's replica identity does not cover green's key",
        ],
        ..REFUSED
    },
];

#[tokio::test]
async fn what_cannot_be_followed_is_refused_with_the_reason() {
    let mut scene = Scene::bare(Pair::fresh("refused").await).await;
    for (number, case) in CASES.iter().enumerate() {
        refuse(&mut scene, number, case).await;
    }
}

async fn refuse(scene: &mut Scene, number: usize, case: &Refused) {
    let name = format!("{}: {}", case.file, case.what);
    for (client, sql) in [(&scene.blue, case.ddl), (&scene.green, case.ddl), (&scene.green, case.green)] {
        client.batch_execute(sql).await.unwrap_or_else(|error| panic!("{name}: {error:?}"));
    }
    let tables: Vec<_> =
        case.tables.iter().map(|table| (followed(table.blue, table.green, table.key), "")).collect();
    let stream = format!("f{number}");
    scene.spec = scene.publish(&stream, &tables).await;
    // It has seen blue as the plan did.
    let follower = scene.follow();
    scene.drained(&follower, &format!("{stream} begins")).await;
    scene.run(&case.step.replace("PUB", &scene.spec.publication)).await;
    let waited = tokio::time::timeout(Duration::from_secs(15), follower.wait_failed()).await;
    let error = waited.unwrap_or_else(|_| panic!("{name}: it was not refused"));
    drop(follower);
    let said = format!("{} {}", error.chain().join(": "), error.hint.clone().unwrap_or_default());
    assert_eq!(error.kind, case.kind, "{name}: {said}");
    for part in case.says {
        assert!(said.contains(part), "{name}: {said}");
    }
    if !case.healed_by.is_empty() {
        scene.green.batch_execute(case.healed_by).await.unwrap();
        let follower = scene.follow();
        scene.drained(&follower, &format!("{stream} healed")).await;
        follower.stop(PATIENCE).await.unwrap_or_else(|error| panic!("{name}: {:?}", error.chain()));
        for table in case.tables {
            let sql = format!(
                "select coalesce(string_agg(({})::text, ' ' order by t::text), '') from {} t",
                table.row, table.blue
            );
            let blue: String = scene.blue.query_one(&sql, &[]).await.unwrap().get(0);
            let green: String = scene.green.query_one(&sql, &[]).await.unwrap().get(0);
            assert_eq!(blue, green, "{name}");
        }
    }
    // Slots are few.
    let drop = "select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = $1 and not active";
    let gone = async {
        while scene.blue.query(drop, &[&scene.spec.slot]).await.unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.unwrap_or_else(|_| panic!("{name}: the slot stays in use"));
}
