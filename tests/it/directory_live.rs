//! `migrate plan DIR` against a database: the tool's own record there says what has been run.

use crate::support::{
    Pair,
    run::{Desk, migrate},
};

#[tokio::test]
async fn what_the_tool_has_run_is_not_planned_again() {
    let pair = Pair::fresh("directory").await;
    let blue = pair.blue().await;
    blue.batch_execute("create table orders (id int); create table schema_migrations (version bigint primary key, dirty boolean not null)")
        .await
        .unwrap();
    let desk = Desk::new("directory_live");
    desk.write("db/1_a.up.sql", "create table orders (id int);\n");
    desk.write("db/2_b.up.sql", "create index orders_id on orders (id);\n");
    desk.write("db/10_c.up.sql", "comment on table orders is 'x';\n");
    let url = pair.blue_url();
    let titles = async || {
        let output =
            migrate(&["plan", "db", "--blue", &url, "--format", "json"]).within(desk.path()).run().await;
        let shown = output.expect(0).json();
        let steps = shown["ddl"]["statements"].as_array().unwrap().clone();
        steps.iter().map(|step| step["title"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(titles().await.len(), 3, "nothing is written down yet");
    blue.batch_execute("insert into schema_migrations values (1, false)").await.unwrap();
    assert_eq!(titles().await, ["create index orders_id on public.orders", "comment on orders"]);
    blue.batch_execute("update schema_migrations set version = 10").await.unwrap();
    assert!(titles().await.is_empty());
    blue.batch_execute("update schema_migrations set dirty = true").await.unwrap();
    let output = migrate(&["plan", "db", "--blue", &url]).within(desk.path()).run().await.expect(1);
    assert!(
        output.stderr.contains("schema_migrations says that migration 10 failed halfway"),
        "{}",
        output.stderr
    );
}

/// The queries of every tool fit the tables it makes.
#[tokio::test]
async fn every_tools_record_is_read() {
    let pair = Pair::fresh("records").await;
    let blue = pair.blue().await;
    blue.batch_execute(
        "create table goose_db_version (id serial primary key, version_id bigint not null, is_applied boolean not null, tstamp timestamp default now());
         insert into goose_db_version (version_id, is_applied) values (0, true), (1, true), (2, true), (2, false);
         create table _sqlx_migrations (version bigint primary key, description text not null, success boolean not null, checksum bytea not null);
         insert into _sqlx_migrations values (1, 'a', true, '');
         create table __diesel_schema_migrations (version varchar(50) primary key, run_on timestamp not null default now());
         insert into __diesel_schema_migrations values ('00000000000001');
         create table flyway_schema_history (installed_rank int primary key, version varchar(50), script varchar(1000) not null, success boolean not null);
         insert into flyway_schema_history values (1, '1', 'V1__a.sql', true), (2, null, 'R__x.sql', true);
         create table schema_migration (version varchar(48) not null);
         insert into schema_migration values ('1');
         create table _prisma_migrations (id varchar(36) primary key, migration_name varchar(255) not null, finished_at timestamptz, rolled_back_at timestamptz);
         insert into _prisma_migrations values ('x', '1_a', now(), null), ('y', '2_b', null, now());
         create table schema_migrations (version varchar primary key);
         insert into schema_migrations values ('1');
         create table gorp_migrations (id text primary key, applied_at timestamptz);
         insert into gorp_migrations values ('1_a.sql', now())",
    )
    .await
    .unwrap();
    let desk = Desk::new("directory_records");
    let url = pair.blue_url();
    for (tool, names, up) in [
        ("goose", ["1_a.sql", "2_b.sql"], "-- +goose Up\n"),
        ("sqlx", ["1_a.sql", "2_b.sql"], ""),
        ("diesel", ["00000000000001_a/up.sql", "00000000000002_b/up.sql"], ""),
        ("flyway", ["V1__a.sql", "V2__b.sql"], ""),
        ("popx", ["1_a.up.sql", "2_b.postgres.up.sql"], ""),
        ("prisma", ["1_a/migration.sql", "2_b/migration.sql"], ""),
        ("dbmate", ["1_a.sql", "2_b.sql"], "-- migrate:up\n"),
        ("sql-migrate", ["1_a.sql", "2_b.sql"], "-- +migrate Up\n"),
    ] {
        for (at, name) in names.iter().enumerate() {
            desk.write(
                &format!("{tool}/{name}"),
                &format!("{up}create table {}_{at} (id int);\n", tool.replace('-', "_")),
            );
        }
        let output = migrate(&["plan", tool, "--tool", tool, "--blue", &url, "--format", "json"])
            .within(desk.path())
            .run()
            .await;
        let shown = output.expect(0).json();
        let steps = shown["ddl"]["statements"].as_array().unwrap();
        assert_eq!(steps.len(), 1, "{tool}: {shown}");
        assert!(steps[0]["sql"].as_str().unwrap().contains("_1 ("), "{tool}: {shown}");
    }
}
