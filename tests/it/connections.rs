//! Connecting as libpq does, pools that keep their settings, and the replication client's commands.

use crate::support::Pair;
use migrate::error::Kind;
use migrate::pg::conninfo::ConnInfo;
use migrate::pg::replication::{Frame, ReplicationConn};
use migrate::pg::{connect, lsn::Lsn};
use std::time::{Duration, Instant};

async fn setting(client: &tokio_postgres::Client, name: &str) -> String {
    client.query_one("select current_setting($1)", &[&name]).await.unwrap().get(0)
}

#[tokio::test]
async fn what_refuses_us_is_said_once_and_with_a_remedy() {
    let pair = Pair::fresh("refusals").await;
    let (server, database) = (pair.blue_server(), pair.blue_database());
    let (port, password) = (server.port, &server.password);
    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let cases = [
        (format!("postgresql://postgres:wrong-one@127.0.0.1:{port}/{database}"), "refuses the password"),
        (
            format!("postgresql://postgres:{password}@127.0.0.1:{port}/no_such_db"),
            "database `no_such_db` does not exist",
        ),
        (format!("postgresql://postgres:{password}@127.0.0.1:{unused}/{database}"), "no server listens"),
        (
            format!("postgresql://postgres:{password}@no-such-host.invalid:{port}/{database}"),
            "is not known here",
        ),
        (
            format!("postgresql://postgres@127.0.0.1:{port}/{database}?passfile=/nonexistent"),
            "asks for a password",
        ),
    ];
    for (url, said) in cases {
        let info = ConnInfo::parse(&url).unwrap();
        let sql = connect::connect(&info, "test").await.unwrap_err();
        let replication = ReplicationConn::connect(&info, "test").await.err().unwrap();
        for error in [sql, replication] {
            assert_eq!(error.kind, Kind::Connect);
            assert!(error.what.contains(said), "{said}: {error:?}");
            assert!(error.hint.is_some());
            assert!(!format!("{error:?}").contains("wrong-one"));
        }
    }
}

#[tokio::test]
async fn a_server_that_says_nothing_does_not_hold_us() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let info = ConnInfo::parse(&format!("host=127.0.0.1 port={port} user=u connect_timeout=2")).unwrap();
    let began = Instant::now();
    assert!(connect::connect(&info, "test").await.unwrap_err().what.contains("did not let us in"));
    assert!(ReplicationConn::connect(&info, "test").await.err().unwrap().what.contains("did not let us in"));
    assert!(began.elapsed() < Duration::from_secs(6));
}

#[tokio::test]
async fn a_pool_gives_clean_sessions_with_our_settings() {
    let pair = Pair::fresh("pool").await;
    let blue = pair.blue().await;
    blue.batch_execute(
        "alter role postgres set statement_timeout = '3s'; alter role postgres set datestyle = 'SQL, DMY'",
    )
    .await
    .unwrap();
    let info = ConnInfo::parse(&pair.blue_url()).unwrap();
    let pool = connect::pool(&info, "test", 1).unwrap();
    let first: i32;
    {
        let client = pool.get().await.unwrap();
        first = client.query_one("select pg_backend_pid()", &[]).await.unwrap().get(0);
        assert_eq!(setting(&client, "datestyle").await, "ISO, YMD");
        client
            .batch_execute("set session_replication_role = replica; set datestyle = 'German'; select pg_advisory_lock(1); set search_path = public")
            .await
            .unwrap();
    }
    let client = pool.get().await.unwrap();
    let again: i32 = client.query_one("select pg_backend_pid()", &[]).await.unwrap().get(0);
    let locks: i64 = client
        .query_one(
            "select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()",
            &[],
        )
        .await
        .unwrap()
        .get(0);
    let dedicated = connect::connect(&info, "test").await.unwrap();
    blue.batch_execute("alter role postgres reset all").await.unwrap();
    assert_eq!((first, locks), (again, 0), "the pool must give the same session, cleaned");
    assert_eq!(setting(&client, "session_replication_role").await, "origin");
    for client in [&**client, &dedicated] {
        for (name, value) in [
            ("datestyle", "ISO, YMD"),
            ("intervalstyle", "postgres"),
            ("extra_float_digits", "3"),
            ("bytea_output", "hex"),
            ("timezone", "UTC"),
            ("lc_monetary", "C"),
            ("search_path", ""),
            ("client_encoding", "UTF8"),
            ("statement_timeout", "0"),
            ("row_security", "off"),
            ("client_min_messages", "warning"),
            ("application_name", "migrate: test"),
        ] {
            assert_eq!(setting(client, name).await.trim_matches('"'), value, "{name}");
        }
    }
    let error = connect::pool(&info.with_database("no_such_db"), "test", 1).unwrap().get().await.unwrap_err();
    assert!(format!("{error:?}").contains("no_such_db"));
}

#[tokio::test]
async fn a_running_query_can_be_canceled() {
    let pair = Pair::fresh("cancel").await;
    let info = ConnInfo::parse(&pair.blue_url()).unwrap();
    let client = connect::connect(&info, "test").await.unwrap();
    let (slept, cancelled) = tokio::join!(client.batch_execute("select pg_sleep(20)"), async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        connect::cancel(&info, &client).await
    });
    cancelled.unwrap();
    assert_eq!(slept.unwrap_err().code().unwrap().code(), "57014");
}

#[tokio::test]
async fn a_slot_gives_exactly_what_came_after_it() {
    for (major, other) in [(15, 18), (18, 15)] {
        let pair = Pair::of_majors("slot", major, other).await;
        let blue = pair.blue().await;
        blue.batch_execute("create table public.t (id int primary key); create publication \"it's\" for table public.t; insert into public.t values (1)")
            .await
            .unwrap();
        let info = ConnInfo::parse(&pair.blue_url()).unwrap();
        let mut conn = ReplicationConn::connect(&info, "slot").await.unwrap();
        let identity = conn.identify().await.unwrap();
        let system: String = blue
            .query_one("select system_identifier::text from pg_control_system()", &[])
            .await
            .unwrap()
            .get(0);
        assert_eq!((identity.system_identifier, identity.timeline), (system, 1));
        conn.create_slot("wire_slot", Duration::from_secs(10)).await.unwrap();
        blue.batch_execute("insert into public.t values (2)").await.unwrap();

        let twice = ReplicationConn::connect(&info, "slot")
            .await
            .unwrap()
            .create_slot("wire_slot", Duration::from_secs(5))
            .await;
        assert!(twice.unwrap_err().what.contains("exists"));

        let num = major as i32 * 10_000;
        let mut stream = conn.start("wire_slot", Lsn(0), &["it's".to_owned()], num).await.unwrap();
        let mut kinds = Vec::new();
        while kinds.last() != Some(&b'C') {
            match tokio::time::timeout(Duration::from_secs(10), stream.next()).await.unwrap().unwrap() {
                Frame::Data { body, .. } => kinds.push(body[0]),
                Frame::Keepalive { wal_end, .. } => stream.status(wal_end, Lsn(0), Lsn(0)).await.unwrap(),
            }
        }
        assert_eq!(kinds, b"BRIC");
        let mut busy = ReplicationConn::connect(&info, "slot").await.unwrap();
        let taken =
            ReplicationConn::connect(&info, "s").await.unwrap().start("wire_slot", Lsn(0), &[], num).await;
        assert!(taken.err().unwrap().what.contains("is in use"));
        stream.finish().await.unwrap();
        busy.drop_slot("wire_slot").await.unwrap();
        busy.drop_slot("wire_slot").await.unwrap();
        let gone = busy.start("wire_slot", Lsn(0), &[], num).await;
        assert!(gone.err().unwrap().what.contains("does not exist"));
    }
}

#[tokio::test]
async fn a_slot_that_must_wait_is_given_up_and_leaves_nothing() {
    let pair = Pair::fresh("slot_wait").await;
    let info = ConnInfo::parse(&pair.blue_url()).unwrap();
    let writer = pair.blue().await;
    writer
        .batch_execute("create table public.t (id int); begin; insert into public.t values (1)")
        .await
        .unwrap();
    let mut conn = ReplicationConn::connect(&info, "slot").await.unwrap();
    let began = Instant::now();
    let error = conn.create_slot("wire_wait", Duration::from_secs(2)).await.unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(8));
    assert_eq!(error.kind, Kind::Deadline);
    assert!(error.hint.unwrap().contains("every open write transaction"));
    let left: i64 = writer.query_one("select count(*) from pg_replication_slots", &[]).await.unwrap().get(0);
    assert_eq!(left, 0);
    writer.batch_execute("commit").await.unwrap();
    conn.create_slot("wire_wait", Duration::from_secs(10)).await.unwrap();
    conn.drop_slot("wire_wait").await.unwrap();
}

/// Whether a session is encrypted, as the server sees it.
async fn encrypted(client: &tokio_postgres::Client) -> bool {
    let sql = "select ssl from pg_stat_ssl where pid = pg_backend_pid()";
    client.query_one(sql, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn every_sslmode_means_what_libpq_means() {
    let pair = Pair::of_own_servers("tls", 15, 18).await;
    let blue = pair.blue().await;
    for sql in [
        "copy (select 1) to program 'openssl req -new -x509 -days 2 -nodes -subj /CN=localhost -addext subjectAltName=DNS:localhost -out tls.crt -keyout tls.key 2>/dev/null && chmod 600 tls.key'",
        "alter system set ssl_cert_file = 'tls.crt'",
        "alter system set ssl_key_file = 'tls.key'",
        "alter system set ssl = on",
        "select pg_reload_conf()",
    ] {
        blue.batch_execute(sql).await.unwrap();
    }
    let pem: String = blue.query_one("select pg_read_file('tls.crt')", &[]).await.unwrap().get(0);
    let root = std::env::temp_dir().join(format!("migrate-root-{}.crt", std::process::id()));
    std::fs::write(&root, pem).unwrap();
    let (port, password) = (pair.blue_server().port, &pair.blue_server().password);
    let database = pair.blue_database();
    let root = root.display().to_string();
    let info = |host: &str, rest: &str| {
        let text = format!(
            "host={host} hostaddr=127.0.0.1 port={port} user=postgres password={password} dbname={database} {rest}"
        );
        ConnInfo::parse(&text).unwrap()
    };
    let named = format!("sslmode=verify-full sslrootcert={root}");
    // The postmaster takes the new settings in its own time.
    let began = Instant::now();
    while connect::connect(&info("localhost", &named), "test").await.is_err() {
        assert!(began.elapsed() < Duration::from_secs(10), "the server does not turn TLS on");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for (host, rest, is_encrypted) in [
        ("localhost", format!("{named} channel_binding=require"), true),
        ("otherhost", format!("sslmode=verify-ca sslrootcert={root}"), true),
        ("otherhost", "sslmode=require".to_owned(), true),
        ("otherhost", "sslmode=prefer".to_owned(), true),
        ("otherhost", "sslmode=allow".to_owned(), false),
        ("otherhost", "sslmode=disable".to_owned(), false),
    ] {
        let info = info(host, &rest);
        let client =
            connect::connect(&info, "test").await.unwrap_or_else(|e| panic!("{rest}: {:?}", e.chain()));
        assert_eq!(encrypted(&client).await, is_encrypted, "{rest}");
        let pooled = connect::pool(&info, "test", 1).unwrap().get().await.unwrap();
        assert_eq!(encrypted(&pooled).await, is_encrypted, "{rest}");
        let mut replication = ReplicationConn::connect(&info, "test").await.unwrap();
        assert_eq!(replication.identify().await.unwrap().timeline, 1);
    }
    for (host, rest) in [
        ("otherhost", named.clone()),
        ("localhost", "sslmode=verify-full sslrootcert=system".to_owned()),
        ("localhost", "sslmode=disable channel_binding=require".to_owned()),
    ] {
        let info = info(host, &rest);
        assert!(connect::connect(&info, "test").await.is_err(), "{rest} let us in");
        assert!(ReplicationConn::connect(&info, "test").await.is_err(), "{rest} let us in");
    }
    std::fs::remove_file(root).unwrap();
}
