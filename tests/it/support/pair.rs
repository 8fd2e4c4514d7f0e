//! Blue and green for one test: two empty databases on servers that nobody else uses meanwhile.

use super::cluster::{Cluster, Server, fresh_password};
use super::pgbouncer::PgBouncer;
use super::scratch::Scratch;
use super::shared::Shared;
use super::{Majors, oauth};
use anyhow::Result;
use std::fs::File;
use std::time::{Duration, Instant};
use tokio_postgres::Client;

/// How long a test waits for its turn.
const LEASE_DEADLINE: Duration = Duration::from_secs(900);
/// How long a dropped test's sessions may take to let go of their slots and databases.
const SWEEP_DEADLINE: Duration = Duration::from_secs(20);
/// Databases of tests begin with this; anything with it on a leased server is a leftover.
const PREFIX: &str = "t_";

/// Two empty databases.
///
/// Creating a logical slot waits for every transaction of the whole server, so a test has both servers to itself:
/// it leases them, and what an earlier test left there is removed first.
pub struct Pair {
    blue: Side,
    green: Side,
    own: Option<OwnServers>,
    _leases: Vec<File>,
}

struct Side {
    server: Server,
    database: String,
}

/// Servers of this test alone, which it may kill.
struct OwnServers {
    blue: Cluster,
    green: Cluster,
    scratch: Scratch,
}

impl Pair {
    /// Blue on 15, green on 18.
    pub async fn fresh(name: &str) -> Pair {
        Pair::of_majors(name, Majors::OLDEST, Majors::NEWEST).await
    }

    /// Blue and green on these majors; two servers when the testbed has two of the same.
    pub async fn of_majors(name: &str, blue: u32, green: u32) -> Pair {
        let shared = Shared::read();
        let (servers, leases) = lease(&shared, blue, green).await;
        let [blue, green] = servers;
        Pair::on(name, blue, green, leases, None).await
    }

    /// Blue and green on servers started for this test alone, which [`Pair::kill_blue`] and the like may crash.
    pub async fn of_own_servers(name: &str, blue: u32, green: u32) -> Pair {
        let scratch = Scratch::new("pair").expect("a scratch directory");
        let password = fresh_password();
        let (blue, green) = tokio::join!(
            Cluster::start(&scratch, blue, &password),
            Cluster::start(&scratch, green, &password)
        );
        let own = OwnServers { blue: blue.expect("blue"), green: green.expect("green"), scratch };
        let (blue, green) = (own.blue.server.clone(), own.green.server.clone());
        Pair::on(name, blue, green, Vec::new(), Some(own)).await
    }

    async fn on(name: &str, blue: Server, green: Server, leases: Vec<File>, own: Option<OwnServers>) -> Pair {
        for server in [&blue, &green] {
            sweep(server).await.expect("a leased server can be cleaned");
        }
        let short: String = name.chars().take(30).collect();
        let side = |server: Server, color: &str| Side {
            database: format!("{PREFIX}{short}_{}_{color}", std::process::id()),
            server,
        };
        let pair = Pair { blue: side(blue, "blue"), green: side(green, "green"), own, _leases: leases };
        for side in [&pair.blue, &pair.green] {
            let admin = side.server.connect("postgres").await.expect("the server answers");
            // template0 has nothing that somebody added to template1.
            let create = format!("create database \"{}\" template template0", side.database);
            admin.batch_execute(&create).await.expect("an empty database");
        }
        pair
    }

    /// Blue's connection string, as superuser.
    pub fn blue_url(&self) -> String {
        self.blue.server.url(&self.blue.database)
    }

    /// Green's connection string, as superuser.
    pub fn green_url(&self) -> String {
        self.green.server.url(&self.green.database)
    }

    /// Where blue is.
    pub fn blue_server(&self) -> &Server {
        &self.blue.server
    }

    /// Where green is.
    pub fn green_server(&self) -> &Server {
        &self.green.server
    }

    /// Blue's database name.
    pub fn blue_database(&self) -> &str {
        &self.blue.database
    }

    /// Green's database name.
    pub fn green_database(&self) -> &str {
        &self.green.database
    }

    /// The text for a plan's `to:`: green, as PgBouncer reaches it.
    pub fn green_target(&self) -> String {
        PgBouncer::target(&self.green.server, &self.green.database)
    }

    /// A connection to blue.
    pub async fn blue(&self) -> Client {
        self.blue.server.connect(&self.blue.database).await.expect("blue answers")
    }

    /// A connection to green.
    pub async fn green(&self) -> Client {
        self.green.server.connect(&self.green.database).await.expect("green answers")
    }

    /// Loads the OAuth-like schema and about this many rows into blue.
    pub async fn oauth(&self, rows: u64) -> oauth::Loaded {
        let blue = self.blue().await;
        oauth::load(&blue, rows).await.expect("the data set loads into blue")
    }

    /// SIGKILL to blue's server. Only with [`Pair::of_own_servers`].
    pub fn kill_blue(&mut self) {
        self.own().blue.kill().expect("blue is killed");
    }

    /// SIGKILL to green's server. Only with [`Pair::of_own_servers`].
    pub fn kill_green(&mut self) {
        self.own().green.kill().expect("green is killed");
    }

    /// Starts blue's server again, on the same port.
    pub async fn restart_blue(&mut self) {
        let own = self.own();
        own.blue.restart(&own.scratch).await.expect("blue starts again");
    }

    /// Starts green's server again, on the same port.
    pub async fn restart_green(&mut self) {
        let own = self.own();
        own.green.restart(&own.scratch).await.expect("green starts again");
    }

    fn own(&mut self) -> &mut OwnServers {
        self.own.as_mut().expect("shared servers are never killed: use Pair::of_own_servers")
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        if self.own.is_some() {
            return; // The scratch directory takes everything with it.
        }
        let servers = [self.blue.server.clone(), self.green.server.clone()];
        // Drop is not async, and we may be inside a runtime: a thread has one of its own.
        let swept = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                for server in &servers {
                    sweep(server).await?;
                }
                Ok::<(), anyhow::Error>(())
            })
        })
        .join();
        // The next test sweeps too, so a failure here is not one of the test.
        match swept {
            Ok(Ok(())) => {}
            Ok(Err(error)) => eprintln!("testbed: databases were left behind: {error:#}"),
            Err(_) => eprintln!("testbed: databases were left behind: the sweep panicked"),
        }
    }
}

/// Takes a server of each major that nobody has leased.
async fn lease(shared: &Shared, blue: u32, green: u32) -> ([Server; 2], Vec<File>) {
    let deadline = Instant::now() + LEASE_DEADLINE;
    loop {
        // Both or none, so that two tests never wait for each other.
        if let Some(taken) = try_lease(shared, blue, green) {
            return taken;
        }
        assert!(
            Instant::now() < deadline,
            "no servers of {blue} and {green} were free for {LEASE_DEADLINE:?}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn try_lease(shared: &Shared, blue: u32, green: u32) -> Option<([Server; 2], Vec<File>)> {
    let of = |major: u32| {
        let found: Vec<usize> =
            (0..shared.servers.len()).filter(|at| shared.servers[*at].major == major).collect();
        assert!(!found.is_empty(), "the testbed has no PostgreSQL {major}");
        found
    };
    let free = |at: usize| {
        let file = shared.lease_file(&format!("server-{at}"));
        file.try_lock().is_ok().then_some((at, file))
    };
    let (blue_at, blue_lease) = of(blue).into_iter().find_map(free)?;
    let mut greens = of(green);
    if greens == [blue_at] {
        let server = shared.servers[blue_at].clone();
        return Some(([server.clone(), server], vec![blue_lease]));
    }
    greens.retain(|at| *at != blue_at);
    let (green_at, green_lease) = greens.into_iter().find_map(free)?;
    let servers = [shared.servers[blue_at].clone(), shared.servers[green_at].clone()];
    Some((servers, vec![blue_lease, green_lease]))
}

/// Removes databases of tests, with their sessions, slots and prepared transactions.
async fn sweep(server: &Server) -> Result<()> {
    let admin = server.connect("postgres").await?;
    let databases =
        admin.query("select datname from pg_database where starts_with(datname, $1)", &[&PREFIX]).await?;
    for row in databases {
        let database: String = row.get(0);
        roll_back_prepared(server, &database).await?;
        let deadline = Instant::now() + SWEEP_DEADLINE;
        loop {
            match remove(&admin, &database).await {
                Ok(()) => break,
                Err(error) if Instant::now() > deadline => return Err(error.into()),
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }
    Ok(())
}

async fn roll_back_prepared(server: &Server, database: &str) -> Result<()> {
    let admin = server.connect("postgres").await?;
    let prepared = admin.query("select gid from pg_prepared_xacts where database = $1", &[&database]).await?;
    if prepared.is_empty() {
        return Ok(());
    }
    let inside = server.connect(database).await?;
    for row in prepared {
        let gid: String = row.get(0);
        inside.batch_execute(&format!("rollback prepared '{}'", gid.replace('\'', "''"))).await?;
    }
    Ok(())
}

async fn remove(admin: &Client, database: &str) -> Result<(), tokio_postgres::Error> {
    admin
        .execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1 and pid <> pg_backend_pid()",
            &[&database],
        )
        .await?;
    admin
        .execute(
            "select pg_drop_replication_slot(slot_name) from pg_replication_slots where database = $1",
            &[&database],
        )
        .await?;
    admin.batch_execute(&format!("drop database if exists \"{database}\" with (force)")).await
}
