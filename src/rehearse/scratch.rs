//! The scratch database: made from blue's schema without rows, marked as ours, and removed whatever happens.
//!
//! Its name ends in a random number, and while its owner lives a session of the owner holds the advisory lock of that number.
//! So anybody can tell a database that is in use from one whose owner was killed, also between its creation and its first use.

use super::guardian::Guardian;
use crate::copy::{pg_dump, schema};
use crate::error::{Doing, Error, Kind, Result};
use crate::pg::{
    connect,
    conninfo::ConnInfo,
    name::{Ident, literal},
};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::Duration;
use tokio_postgres::Client;

/// What the names begin with; eight hexadecimal digits follow.
const PREFIX: &str = "migrate_rehearsal_";
/// What the comments begin with.
const MARK: &str = "migrate rehearse";
/// The first key of the advisory locks: "mrhs".
const LOCK_CLASS: i32 = 0x6d72_6873;
/// For creating or removing a database.
const DATABASE_MAX: Duration = Duration::from_secs(60);
/// For pg_dump, and again for the loading.
const CLONE_MAX: Duration = Duration::from_secs(300);

/// The second key of the advisory lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key(u32);

impl Key {
    fn database(self) -> Ident {
        Ident::new(format!("{PREFIX}{:08x}", self.0))
    }
}

/// Where a scratch database is made.
#[derive(Debug, Clone, Copy)]
pub struct Server<'a> {
    /// The connection string of a database there.
    pub url: &'a str,
    /// What it says.
    pub info: &'a ConnInfo,
}

/// A scratch database of ours.
pub struct Scratch {
    /// How to get in.
    pub info: ConnInfo,
    /// Leftovers of rehearsals whose owner was killed, which were removed on this occasion.
    pub swept: Vec<String>,
    name: Ident,
    /// Holds the advisory lock.
    owner: Client,
    guardian: Guardian,
}

impl Scratch {
    /// Makes an empty one, of the encoding and sort order of the database that `like` is a session on.
    ///
    /// # Errors
    /// [`Kind::Request`] when our role may not create databases, or the guardian does not start.
    ///
    /// # Crash
    /// The guardian, `program` with a hidden command, removes it; when that was killed too, the next rehearsal does.
    pub async fn create(server: Server<'_>, like: &Client, plan: &str, program: &Path) -> Result<Scratch> {
        let owner = connect::connect(server.info, "rehearsal").await?;
        refuse_without_right(&owner, server.info).await?;
        let swept = sweep(&owner).await?;
        let key = Key(rand::random());
        let name = key.database();
        owner
            .execute("select pg_advisory_lock($1, $2)", &[&LOCK_CLASS, &key.0.cast_signed()])
            .await
            .doing(Kind::Server, || "cannot take the lock of the scratch database".into())?;
        let guardian = Guardian::start(program, server.url, &name, key).await?;
        let info = server.info.with_database(name.as_str());
        let scratch = Scratch { info, swept, name, owner, guardian };
        match scratch.make(like, plan).await {
            Ok(()) => Ok(scratch),
            Err(error) => {
                // The guardian comes again should this fail.
                let _ = scratch.end().await;
                Err(error)
            }
        }
    }

    async fn make(&self, like: &Client, plan: &str) -> Result<()> {
        let create = create_statement(like, &self.name).await?;
        let made = async {
            if let Err(error) = self.owner.batch_execute(&create).await {
                tracing::info!(%error, "the scratch database gets this server's own sort order");
                let plain = format!("create database {} template template0", self.name);
                self.owner.batch_execute(&plain).await?;
            }
            let comment = format!("{MARK}: a scratch database of plan {plan}; remove it when nobody uses it");
            self.owner
                .batch_execute(&format!("comment on database {} is {}", self.name, literal(&comment)))
                .await
        };
        tokio::time::timeout(DATABASE_MAX, made)
            .await
            .map_err(|_| Error::new(Kind::Deadline, "the scratch database was not made within a minute"))?
            .doing(Kind::Request, || format!("cannot make the scratch database {}", self.name.as_str()))
    }

    /// Fills it with the schema of blue, without rows. Returns what could not be brought over: owners and grants of
    /// roles that are not there, and the like.
    ///
    /// # Errors
    /// As [`schema::sketch`].
    pub async fn fill(&self, blue: &ConnInfo, blue_major: u32) -> Result<Vec<String>> {
        let program = pg_dump::find(blue_major).await?;
        let client = connect::connect(&self.info, "rehearsal clone").await?;
        schema::sketch(&program, blue, &client, CLONE_MAX).await
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.name.as_str()
    }

    /// Removes it.
    ///
    /// # Errors
    /// [`Kind::Server`] when it cannot be removed; the guardian then tries once more.
    pub async fn end(self) -> Result<()> {
        let removed = remove(&self.owner, &self.name).await;
        drop(self.owner);
        self.guardian.dismiss().await;
        removed
    }
}

async fn refuse_without_right(client: &Client, info: &ConnInfo) -> Result<()> {
    let may: bool = client
        .query_one("select rolcreatedb or rolsuper from pg_roles where rolname = current_user", &[])
        .await
        .doing(Kind::Server, || "cannot ask for the rights of our role".into())?
        .get(0);
    if may {
        return Ok(());
    }
    Err(Error::new(Kind::Request, format!("{} may not create a database to rehearse on", info.label())).hint(
        format!(
            "alter role {} createdb, or rehearse on another server of the same major: --on URL",
            Ident::new(info.user())
        ),
    ))
}

/// `create database` with the encoding and sort order of another one, so that indexes and comparisons are the same.
async fn create_statement(like: &Client, name: &Ident) -> Result<String> {
    let row = like
        .query_one(include_str!("../../sql/rehearse/read_locale.sql"), &[])
        .await
        .doing(Kind::Server, || "cannot read the database's sort order".into())?;
    let text = |column: &str| literal(&row.get::<_, String>(column));
    let mut create = format!(
        "create database {name} template template0 encoding {} lc_collate {} lc_ctype {}",
        text("encoding"),
        text("collate"),
        text("ctype")
    );
    let provider: String = row.get("provider");
    if let Some(locale) = row.get::<_, Option<String>>("locale") {
        let (provider, parameter) =
            if provider == "i" { ("icu", "icu_locale") } else { ("builtin", "builtin_locale") };
        create.push_str(&format!(" locale_provider {provider} {parameter} {}", literal(&locale)));
    }
    Ok(create)
}

/// Removes the databases of rehearsals whose owner is gone.
async fn sweep(client: &Client) -> Result<Vec<String>> {
    let rows = client
        .query(
            include_str!("../../sql/rehearse/list_leftovers.sql"),
            &[&PREFIX, &MARK, &i64::from(LOCK_CLASS)],
        )
        .await
        .doing(Kind::Server, || "cannot look for leftovers of rehearsals".into())?;
    let mut swept = Vec::new();
    for row in rows {
        let name: String = row.get("name");
        // Another rehearsal may be at the same.
        match remove(client, &Ident::new(&name)).await {
            Ok(()) => swept.push(name),
            Err(error) => tracing::warn!(%error, name, "a leftover of a rehearsal stays"),
        }
    }
    Ok(swept)
}

/// Whether somebody lives who uses the database of this key.
pub(super) async fn is_owned(client: &Client, key: Key) -> Result<bool> {
    let row = client
        .query_one(
            include_str!("../../sql/rehearse/see_owner.sql"),
            &[&i64::from(LOCK_CLASS), &i64::from(key.0)],
        )
        .await
        .doing(Kind::Server, || "cannot look who uses the scratch database".into())?;
    Ok(row.get("alive"))
}

/// Removes a scratch database, if it is there, with whoever is connected to it.
pub(super) async fn remove(client: &Client, name: &Ident) -> Result<()> {
    let failed = || format!("the scratch database {} cannot be removed", name.as_str());
    if !name.as_str().starts_with(PREFIX) {
        return Err(Error::new(Kind::Bug, format!("{} is no scratch database of ours", name.as_str())));
    }
    let drop = format!("drop database if exists {name} with (force)");
    tokio::time::timeout(DATABASE_MAX, client.batch_execute(&drop))
        .await
        .map_err(|_| Error::new(Kind::Deadline, failed()).hint("the next rehearsal removes it"))?
        .doing(Kind::Server, failed)
}
