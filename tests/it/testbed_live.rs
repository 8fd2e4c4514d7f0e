//! The test servers themselves.

use crate::support::{Broker, Pair, PgBouncer};

#[tokio::test]
async fn a_pair_is_empty_and_of_the_majors_asked_for() {
    let pair = Pair::fresh("pair").await;
    let version = async |client: tokio_postgres::Client| -> (i32, i64) {
        let row = client
            .query_one(
                "select current_setting('server_version_num')::int / 10000, count(*) from pg_class
                 where relnamespace = 'public'::regnamespace",
                &[],
            )
            .await
            .unwrap();
        (row.get(0), row.get(1))
    };
    assert_eq!(version(pair.blue().await).await, (15, 0));
    assert_eq!(version(pair.green().await).await, (18, 0));
}

#[tokio::test]
async fn a_dropped_pair_leaves_no_database_and_no_slot() {
    let pair = Pair::fresh("dropped").await;
    let blue = pair.blue().await;
    blue.batch_execute("select pg_create_logical_replication_slot('left_behind', 'pgoutput')").await.unwrap();
    blue.batch_execute(
        "create table t (id int); begin; insert into t values (1); prepare transaction 'left behind'",
    )
    .await
    .unwrap();
    let server = pair.blue_server().clone();
    let database = pair.blue_database().to_owned();
    drop(pair);

    let admin = server.connect("postgres").await.unwrap();
    let count = async |sql: &str| -> i64 { admin.query_one(sql, &[&database]).await.unwrap().get(0) };
    assert_eq!(count("select count(*) from pg_database where datname = $1").await, 0);
    assert_eq!(count("select count(*) from pg_replication_slots where database = $1").await, 0);
    assert_eq!(count("select count(*) from pg_prepared_xacts where database = $1").await, 0);
}

#[tokio::test]
async fn every_major_loads_the_oauth_rows() {
    for major in [15, 16, 17, 18] {
        let pair = Pair::of_majors("load", major, 18).await;
        let loaded = pair.oauth(5_000).await;
        let counted: i64 = pair
            .blue()
            .await
            .query_one(
                "select (select count(*) from oauth_client) + (select count(*) from oauth_refresh)
                      + (select count(*) from oauth_access) + (select count(*) from oauth_consent)
                      + (select count(*) from oauth_session) + (select count(*) from oauth_event)",
                &[],
            )
            .await
            .unwrap()
            .get(0);
        assert_eq!(u64::try_from(counted).unwrap(), loaded.rows, "on {major}");
        assert!(loaded.rows.abs_diff(5_000) < 100, "{loaded:?}");
    }
}

#[tokio::test]
async fn pgbouncer_leads_to_blue() {
    let pair = Pair::fresh("pgbouncer").await;
    let bouncer = PgBouncer::start(&pair).await;
    let client = crate::support::cluster::connect(&bouncer.app_url()).await.unwrap();
    let answer = client.simple_query("select current_database()").await.unwrap();
    let database = answer.iter().find_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    assert_eq!(database, Some(pair.blue_database()));
    let admin = crate::support::cluster::connect(&bouncer.admin_url()).await.unwrap();
    admin.simple_query("show databases").await.unwrap();
}

#[tokio::test]
async fn two_brokers_are_two_virtual_hosts() {
    let (one, two) = (Broker::shared().await, Broker::shared().await);
    assert_ne!(one.url(), two.url());
    for broker in [&one, &two] {
        let connection =
            lapin::Connection::connect(&broker.url(), lapin::ConnectionProperties::default()).await.unwrap();
        connection.close(200, "done".into()).await.unwrap();
    }
}

#[tokio::test]
async fn own_servers_come_back_after_a_crash() {
    let mut pair = Pair::of_own_servers("crash", 15, 18).await;
    pair.blue().await.batch_execute("create table t as select 1 as id").await.unwrap();
    pair.kill_blue();
    pair.restart_blue().await;
    let count: i64 = pair.blue().await.query_one("select count(*) from t", &[]).await.unwrap().get(0);
    assert_eq!(count, 1);
}

/// However a run of servers ends, nothing of it is left: not at any moment of its start either.
#[tokio::test]
async fn a_stopped_testbed_leaves_no_process_and_no_directory() {
    use rustix::process::{Pid, Signal, kill_process};
    let here = std::env::current_exe().unwrap();
    let program = here.parent().unwrap().parent().unwrap().join("examples/testbed");
    assert!(program.is_file(), "scripts/test builds {}", program.display());

    let moments = [(Signal::KILL, 300), (Signal::INT, 900), (Signal::KILL, 2_000), (Signal::TERM, 20_000)];
    for (signal, after_ms) in moments {
        let desk = crate::support::Desk::new("stopped");
        let mut testbed = tokio::process::Command::new(&program)
            .args(["sleep", "3600"])
            .env("MIGRATE_TESTBED_MAJORS", "18")
            .env("TMPDIR", desk.path())
            .stderr(std::process::Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(after_ms)).await;
        let busy = processes_of(desk.path());
        assert!(!busy.is_empty(), "nothing had been started after {after_ms} ms");
        let pid = Pid::from_raw(testbed.id().unwrap().cast_signed()).unwrap();
        kill_process(pid, signal).unwrap();
        let status = testbed.wait().await.unwrap();
        assert_eq!(status.code(), if signal == Signal::KILL { None } else { Some(130) });

        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        loop {
            let left = processes_of(desk.path());
            let files = std::fs::read_dir(desk.path()).unwrap().count();
            if left.is_empty() && files == 0 {
                break;
            }
            assert!(std::time::Instant::now() < deadline, "{signal:?}: {files} directories, {left:?}");
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    }
}

/// Processes that have this directory in their command line, environment or working directory.
fn processes_of(directory: &std::path::Path) -> Vec<String> {
    let needle = directory.to_str().unwrap();
    let mut found = Vec::new();
    for process in std::fs::read_dir("/proc").unwrap().flatten() {
        let read = |name: &str| std::fs::read(process.path().join(name)).unwrap_or_default();
        let text = |name: &str| String::from_utf8_lossy(&read(name)).into_owned();
        let cwd = std::fs::read_link(process.path().join("cwd")).unwrap_or_default();
        let zombie = text("stat").contains(") Z ");
        if !zombie
            && (text("cmdline").contains(needle)
                || text("environ").contains(needle)
                || cwd.starts_with(directory))
        {
            found.push(text("cmdline").replace('\0', " "));
        }
    }
    found
}
