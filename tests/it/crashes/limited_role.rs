//! A whole migration by a role that is no superuser, with just the rights that `check` asks for.

use super::scene::{By, Scene};
use tokio_postgres::{Client, NoTls};

/// The rights on both sides, while the application's own role is a superuser.
async fn let_in(blue: &Client, green: &Client, role: &str, green_database: &str) {
    for side in [blue, green] {
        side.batch_execute(&format!(
            "create role {role} login replication password 'moves'; grant pg_read_all_stats to {role};
             grant create on database \"{}\" to {role}; grant create, usage on schema public to {role}",
            database(side).await
        ))
        .await
        .unwrap();
    }
    // One by one: several locks in one transaction would meet the clients' own order.
    let tables = "select oid::regclass::text from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'p')";
    for table in blue.query(tables, &[]).await.unwrap() {
        blue.batch_execute(&format!("alter table {} owner to {role}", table.get::<_, String>(0)))
            .await
            .unwrap();
    }
    green
        .batch_execute(&format!(
            "alter database \"{green_database}\" owner to {role}; grant set on parameter session_replication_role to {role}"
        ))
        .await
        .unwrap();
}

async fn database(client: &Client) -> String {
    client.query_one("select current_database()", &[]).await.unwrap().get(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_is_no_superuser_migrates_and_names_the_sessions_it_may_not_end() {
    let mut scene = Scene::set("limited_role").await;
    let (blue, green) = (scene.pair.blue().await, scene.pair.green().await);
    let role = format!("mover_{:08x}", rand::random::<u32>());
    let_in(&blue, &green, &role, scene.pair.green_database()).await;
    scene.act_as(&role, "moves");
    // A superuser who reads blue all the while, past the pooler.
    let (reader, connection) = tokio_postgres::connect(&scene.pair.blue_url(), NoTls).await.unwrap();
    tokio::spawn(connection);
    scene.run("check", &[]).await.expect(0);
    scene.run("replicate", &["--until-caught-up"]).await.expect(0);
    let cutover = scene.run("cutover", &[]).await.expect(0);
    assert!(cutover.stderr.contains("sessions stay open on blue"), "{cutover:?}");
    assert!(cutover.stderr.contains("pg_signal_backend"), "{cutover:?}");
    reader.query_one("select 1", &[]).await.expect("it may not be ended");
    scene.clients_are_served(By::Green, "a cutover by a limited role").await;
    scene.history_is_clean(By::Green, "a cutover by a limited role").await;
    scene.run("finish", &["--yes"]).await.expect(0);
    let servers = [scene.pair.blue_server().clone(), scene.pair.green_server().clone()];
    scene.end().await;
    for server in servers {
        let client = server.connect("postgres").await.unwrap();
        client.batch_execute(&format!("drop owned by {role}; drop role {role}")).await.unwrap();
    }
}
