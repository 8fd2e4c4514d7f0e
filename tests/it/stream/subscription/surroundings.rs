//! Files about what is around the rows: encodings, roles, messages, servers behind green.

use super::super::{PATIENCE, Scene, followed};
use crate::support::Pair;
use migrate::error::Kind;
use migrate::pg::conninfo::ConnInfo;
use std::time::Duration;
use tokio_postgres::Client;

/// File, outcome, and what the tests here are about.
pub(super) const CASES: &[(&str, &str, &str)] = &[
    ("005_encoding", "carried", "blue in LATIN1, green in UTF8, and back"),
    (
        "005_encoding",
        "refused",
        "a letter that green's encoding does not have; bytes of SQL_ASCII that are no UTF-8",
    ),
    ("020_messages", "carried", "nobody can wait for one that was not ours"),
    ("022_twophase_cascade", "carried", "what is written on green is decoded there like any other change"),
    (
        "027_nosuperuser",
        "carried",
        "a role on green that may write the tables and set session_replication_role",
    ),
    (
        "027_nosuperuser",
        "refused",
        "a table that the role may not write, or whose policies would choose its rows",
    ),
];

/// A database of this encoding, beside the pair's.
async fn database_in(pair: &Pair, url: &str, admin: &Client, encoding: &str) -> ConnInfo {
    let name = format!("t_{}_{}", encoding.to_lowercase(), std::process::id());
    admin
        .batch_execute(&format!(
            "create database \"{name}\" encoding '{encoding}' locale 'C' template template0"
        ))
        .await
        .unwrap();
    let database = if url == pair.blue_url() { pair.blue_database() } else { pair.green_database() };
    ConnInfo::parse(&url.replace(database, &name)).unwrap()
}

async fn connect(info: &ConnInfo) -> Client {
    migrate::pg::connect::connect(info, "test").await.unwrap()
}

const NOTE: &str = "create table public.note (id int primary key, v text)";

/// Blue or green, or both, are other databases than the pair's.
async fn move_to(scene: &mut Scene, blue: Option<ConnInfo>, green: Option<ConnInfo>) {
    if let Some(blue) = blue {
        scene.blue = connect(&blue).await;
        scene.spec.blue = blue;
    }
    if let Some(green) = green {
        scene.green = connect(&green).await;
        scene.green.batch_execute(include_str!("../../../../sql/state/create_blue.sql")).await.unwrap();
        scene.green.batch_execute(include_str!("../../../../sql/state/create_green.sql")).await.unwrap();
        scene
            .green
            .batch_execute("insert into migrate.lease (epoch, holder) values (7, 'test')")
            .await
            .unwrap();
        scene.spec.green = green;
    }
    for client in [&scene.blue, &scene.green] {
        client.batch_execute(NOTE).await.unwrap();
    }
    let name = format!("e{:04x}", rand::random::<u16>());
    scene.spec = scene.publish(&name, &[(followed("note", "note", &["id"]), "")]).await;
}

async fn notes(client: &Client) -> String {
    let sql = "select string_agg(v, ',' order by id) from public.note";
    client.query_one(sql, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn encodings_meet_in_utf8() {
    let mut scene = Scene::bare(Pair::of_majors("encodings", 15, 15).await).await;
    let pair_blue = scene.pair.blue().await;
    let pair_green = scene.pair.green().await;
    let latin_blue = database_in(&scene.pair, &scene.pair.blue_url(), &pair_blue, "LATIN1").await;
    let latin_green = database_in(&scene.pair, &scene.pair.green_url(), &pair_green, "LATIN1").await;

    // LATIN1 to UTF8.
    move_to(&mut scene, Some(latin_blue), None).await;
    let follower = scene.follow();
    scene.run("insert into public.note values (1, 'süß'), (2, E'\\u00e9'); update public.note set v = v || 'ÿ' where id = 2").await;
    scene.drained(&follower, "latin").await;
    follower.stop(PATIENCE).await.unwrap();
    assert_eq!(notes(&scene.green).await, "süß,éÿ");

    // UTF8 to LATIN1, row by row and in a stream of rows.
    let utf8_blue = ConnInfo::parse(&scene.pair.blue_url()).unwrap();
    move_to(&mut scene, Some(utf8_blue), Some(latin_green)).await;
    scene.run("insert into public.note select n, 'é' from generate_series(1, 3) n").await;
    scene.run("insert into public.note select n, 'ü' from generate_series(4, 300) n").await;
    let follower = scene.follow();
    scene.drained(&follower, "utf").await;
    follower.stop(PATIENCE).await.unwrap();
    assert_eq!(notes(&scene.green).await, format!("é,é,é{}", ",ü".repeat(297)));
    scene.run("insert into public.note values (1000, '漢')").await;
    let error = scene.failure().await;
    let said = error.chain().join(": ");
    assert_eq!(error.kind, Kind::Server, "{said}");
    assert!(said.contains("has no equivalent in encoding \"LATIN1\""), "{said}");
}

#[tokio::test]
async fn bytes_that_are_no_text_are_refused() {
    let mut scene = Scene::bare(Pair::fresh("ascii").await).await;
    let admin = scene.pair.blue().await;
    let ascii = database_in(&scene.pair, &scene.pair.blue_url(), &admin, "SQL_ASCII").await;
    move_to(&mut scene, Some(ascii), None).await;
    scene.run("insert into public.note values (1, 'é')").await;
    let follower = scene.follow();
    scene.drained(&follower, "good").await;
    drop(follower);
    scene.run("set client_encoding = 'SQL_ASCII'; insert into public.note values (2, E'\\xe9')").await;
    let error = scene.failure().await;
    let said = error.chain().join(": ");
    assert_eq!(error.kind, Kind::Server, "{said}");
    assert!(said.contains("invalid byte sequence for encoding \"UTF8\""), "{said}");
    assert_eq!(notes(&scene.green).await, "é");
}

#[tokio::test]
async fn messages_that_are_not_ours_are_no_markers_and_green_can_be_decoded_itself() {
    let scene = Scene::set(Pair::fresh("behind").await, NOTE, &[("note", &["id"])]).await;
    scene.green.batch_execute("create publication behind for table public.note").await.unwrap();
    scene
        .green
        .batch_execute("select pg_create_logical_replication_slot('behind', 'pgoutput')")
        .await
        .unwrap();
    let follower = scene.follow();
    scene.run("select pg_logical_emit_message(true, 'other', 'm1')").await;
    scene.run("select pg_logical_emit_message(false, 'migrate', 'm2')").await;
    scene.run("begin; select pg_logical_emit_message(true, 'migrate', 'm3'); insert into public.note values (9, 'lost'); rollback").await;
    scene
        .run("begin; insert into public.note values (1, 'two'), (2, 'phases'); prepare transaction 'behind'")
        .await;
    scene.run("commit prepared 'behind'").await;
    scene.drained(&follower, "ours").await;
    for marker in ["m1", "m2", "m3"] {
        let waited = follower.wait_for_marker(marker, Duration::from_millis(50)).await;
        assert_eq!(waited.unwrap_err().kind, Kind::Deadline, "{marker} counts as ours");
    }
    follower.stop(PATIENCE).await.unwrap();
    assert_eq!(notes(&scene.green).await, "two,phases");
    let sql = "select count(*) from pg_logical_slot_get_binary_changes('behind', null, null, 'proto_version', '1', 'publication_names', 'behind')
        where get_byte(data, 0) = ascii('I')";
    let inserts: i64 = scene.green.query_one(sql, &[]).await.unwrap().get(0);
    assert_eq!(inserts, 2, "green's own stream has the rows");
}

#[tokio::test]
async fn a_role_without_superuser_writes_what_it_may_and_no_more() {
    let ddl = "create table public.may (id int primary key); create table public.may_not (id int primary key); create table public.policed (id int primary key)";
    let tables: [(&str, &[&str]); 3] = [("may", &["id"]), ("may_not", &["id"]), ("policed", &["id"])];
    let mut scene = Scene::set(Pair::fresh("limited").await, ddl, &tables).await;
    let role = format!("limited_{}", std::process::id());
    scene
        .green
        .batch_execute(&format!(
            "create role {role} login password 'limited'; grant set on parameter session_replication_role to {role};
            grant usage on schema migrate, public to {role}; grant select on all tables in schema migrate to {role}; grant update on migrate.lease, migrate.progress to {role};
            grant select, insert, update, delete, truncate on public.may, public.policed to {role};
            alter table public.policed enable row level security"
        ))
        .await
        .unwrap();
    let server = scene.pair.green_server();
    let url =
        format!("postgresql://{role}:limited@127.0.0.1:{}/{}", server.port, scene.pair.green_database());
    scene.spec.green = ConnInfo::parse(&url).unwrap();
    let follower = scene.follow();
    scene.run("insert into may select n from generate_series(1, 200) n; update may set id = -id where id > 100; delete from may where id = 1; truncate may; insert into may values (5)").await;
    scene.drained(&follower, "may").await;
    drop(follower);
    scene.run("insert into policed values (1)").await;
    let error = scene.failure().await;
    let said = error.chain().join(": ");
    assert!(
        said.contains("query would be affected by row-level security policy for table \"policed\""),
        "{said}"
    );
    scene.green.batch_execute("alter table public.policed disable row level security").await.unwrap();
    scene.run("insert into may_not values (1)").await;
    let error = scene.failure().await;
    let said = error.chain().join(": ");
    assert_eq!(error.kind, Kind::Server, "{said}");
    assert!(said.contains("permission denied for table may_not"), "{said}");
    let left = format!(
        "drop owned by {role}; revoke set on parameter session_replication_role from {role}; drop role {role}"
    );
    scene.green.batch_execute(&left).await.unwrap();
}
