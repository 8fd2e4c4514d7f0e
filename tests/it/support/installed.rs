//! Where the servers' programs are, and who runs them. `scripts/install` puts them there.

use anyhow::{Context, Result, bail};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

/// The numeric ids of a user and its group; `None` means this process's own.
pub type Owner = Option<(u32, u32)>;

/// The directory that holds `initdb`, `postgres` and the rest of a major: `MIGRATE_PG_<major>`, Debian's, or the
/// one that `scripts/install` made.
pub fn postgres_bin(major: u32) -> Result<PathBuf> {
    let mut candidates = Vec::new();
    if let Some(path) = std::env::var_os(format!("MIGRATE_PG_{major}")) {
        candidates.push(PathBuf::from(&path).join("bin"));
        candidates.push(PathBuf::from(path));
    } else {
        candidates.push(PathBuf::from(format!("/usr/lib/postgresql/{major}/bin")));
        candidates.extend(caches().into_iter().map(|cache| cache.join(major.to_string()).join("bin")));
    }
    candidates.into_iter().find(|path| path.join("initdb").is_file()).with_context(|| {
        format!("PostgreSQL {major} is not installed; run scripts/install, or set MIGRATE_PG_{major}")
    })
}

/// A directory with a pg_dump of at least this major.
pub fn pg_dump_bin(major: u32) -> Result<PathBuf> {
    let debian = PathBuf::from(format!("/usr/lib/postgresql/{major}/bin"));
    let wheel = caches().into_iter().map(|cache| cache.join("client-18/bin"));
    std::iter::once(debian)
        .chain(wheel)
        .find(|path| path.join("pg_dump").is_file())
        .with_context(|| format!("no pg_dump for PostgreSQL {major}; run scripts/install"))
}

fn caches() -> Vec<PathBuf> {
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let wanted = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    [wanted, home, Some(PathBuf::from("/var/cache"))]
        .into_iter()
        .flatten()
        .map(|cache| cache.join("migrate-servers"))
        .collect()
}

/// Postgres and PgBouncer refuse to run as root, so root runs them as `postgres`.
pub fn postgres_owner() -> Result<Owner> {
    owner("postgres")
}

/// RabbitMQ runs as its own user when we are root.
pub fn rabbitmq_owner() -> Result<Owner> {
    owner("rabbitmq")
}

fn owner(user: &str) -> Result<Owner> {
    if !rustix::process::getuid().is_root() {
        return Ok(None);
    }
    let passwd = std::fs::read_to_string("/etc/passwd").context("cannot read /etc/passwd")?;
    for line in passwd.lines() {
        let mut fields = line.split(':');
        if fields.next() == Some(user) {
            let mut ids = fields.skip(1).map(str::parse::<u32>);
            if let (Some(Ok(uid)), Some(Ok(gid))) = (ids.next(), ids.next()) {
                return Ok(Some((uid, gid)));
            }
        }
    }
    bail!("there is no user {user} on this machine; run scripts/install")
}

/// Has a command run as that user, in a process group of its own so that Ctrl-C does not reach it.
pub fn run_as(command: &mut Command, owner: Owner) {
    if let Some((user, group)) = owner {
        command.uid(user).gid(group);
    }
    command.process_group(0);
}

/// A port of 127.0.0.1 that was free a moment ago, from below the range that outgoing connections get theirs from: one
/// of those took the port of a RabbitMQ that was still booting.
pub fn free_port() -> Result<u16> {
    (0..100)
        .map(|_| rand::random_range(20_000..32_000))
        .find(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .context("no free port on 127.0.0.1")
}
