//! Clones blue's schema to green, in one transaction: all of it or nothing.

use super::{
    lease, made,
    pg_dump::PgDump,
    script::{self, Does, Statement},
};
use crate::error::{Doing, Error, Kind, Result};
use crate::event::{Ears, Event};
use crate::pg::conninfo::ConnInfo;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio_postgres::Client;

/// Under this name green's manifest holds what the clone made.
pub const LABEL: &str = "clone of blue's schema";

/// What to clone, and how long it may take.
#[derive(Debug, Clone, Copy)]
pub struct CloneSpec {
    /// The lease's epoch.
    pub epoch: i64,
    /// For pg_dump, and again for the loading.
    pub deadline: Duration,
}

/// What green answers before the dump is loaded.
struct Green {
    roles: BTreeSet<String>,
    /// Roles ours may hand objects to.
    may_own: BTreeSet<String>,
    extensions: BTreeSet<String>,
    schemas: BTreeSet<String>,
    tablespaces: BTreeSet<String>,
    parameters: BTreeSet<String>,
}

/// Whether objects get blue's owners.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owners {
    AsOnBlue,
    Ours,
}

/// Clones blue's schema (everything but rows, publications, subscriptions and schema `migrate`) to green.
///
/// Done already is done: the record in green's manifest is written in the transaction that makes the objects. A crash
/// or a dropped future leaves nothing on green. Owners are kept when our role may set them; else everything is ours, who
/// owns on blue gets all rights on tables and schemas, and a warning says so. Grants are kept.
///
/// # Errors
/// [`Kind::Request`] naming every role, extension and tablespace that green lacks, before anything is loaded;
/// [`Kind::Server`] with the statement green refused; [`Kind::Deadline`]; [`Kind::Lease`].
pub async fn clone(
    pg_dump: &PgDump,
    blue: &ConnInfo,
    green: &ConnInfo,
    spec: CloneSpec,
    ears: &Ears,
) -> Result<()> {
    let client = lease::session(green, "schema clone", spec.epoch).await?;
    if made::is_recorded(&client, LABEL).await? {
        return Ok(());
    }
    let statements = script::split(&pg_dump.dump_schema(blue, spec.deadline).await?)?;
    let can = ask_green(&client).await?;
    refuse_missing(&statements, &can)?;
    let owners = choose_owners(&statements, &can, ears);
    let statements: Vec<Statement> =
        statements.into_iter().filter_map(|statement| fit(statement, &can, owners)).collect();
    tokio::time::timeout(spec.deadline, load(&client, &statements, spec.epoch)).await.map_err(|_| {
        Error::new(Kind::Deadline, format!("the schema was not loaded within {} s", spec.deadline.as_secs()))
            .hint("nothing of it is on green; look there for who holds locks")
    })??;
    ears.tell(Event::Note { text: format!("cloned blue's schema: {} statements", statements.len()) });
    Ok(())
}

/// Loads blue's schema into a scratch database: as [`clone`], but leaving out what a scratch database can do without, and
/// naming it: owners and grants of roles that are missing there, tablespaces, logins to foreign servers.
///
/// Every statement is a transaction of its own, so that no server needs room for all the locks at once.
///
/// # Errors
/// [`Kind::Request`] naming every extension that is missing; [`Kind::Server`] with the statement that was refused;
/// [`Kind::Deadline`].
pub async fn sketch(
    pg_dump: &PgDump,
    blue: &ConnInfo,
    scratch: &Client,
    deadline: Duration,
) -> Result<Vec<String>> {
    let statements = script::split(&pg_dump.dump_schema(blue, deadline).await?)?;
    let can = ask_green(scratch).await?;
    let mut left_out = Vec::new();
    let mut wanted = Vec::new();
    for statement in statements {
        match reason_to_leave_out(&statement, &can) {
            Some(reason) => left_out.push(format!("{reason}: {}", shorten(&statement.sql))),
            None => wanted.push(statement),
        }
    }
    refuse_missing(&wanted, &can)?;
    let load = async {
        execute(scratch, "set synchronous_commit = off").await?;
        for statement in wanted.into_iter().filter_map(|statement| fit(statement, &can, Owners::AsOnBlue)) {
            let Err(error) = scratch.batch_execute(&statement.sql).await else { continue };
            let shown = shorten(&statement.sql);
            let what = format!("the scratch database refuses a statement of blue's schema: {shown}");
            let error = Error::new(Kind::Server, what)
                .hint("rehearse with a role that may run it, or on another server: --on URL")
                .source(error);
            // Rights and owners do not change what DDL locks.
            if statement.roles.is_empty() {
                return Err(error);
            }
            left_out.push(error.chain().join(": "));
        }
        execute(scratch, "reset session authorization").await
    };
    tokio::time::timeout(deadline, load).await.map_err(|_| {
        let what = format!("blue's schema was not loaded within {} s", deadline.as_secs());
        Error::new(Kind::Deadline, what).hint("look at the scratch server for who holds it up")
    })??;
    Ok(left_out)
}

async fn execute(client: &Client, sql: &str) -> Result<()> {
    client.batch_execute(sql).await.doing(Kind::Server, || format!("cannot run `{sql}`"))
}

fn reason_to_leave_out(statement: &Statement, can: &Green) -> Option<&'static str> {
    let acts_for_others = matches!(statement.does, Does::ChangeOwner { .. } | Does::ActAs);
    match &statement.does {
        Does::MapUser => Some("a rehearsal must not reach other servers"),
        Does::Set { parameter, value: Some(name) }
            if parameter == "default_tablespace" && !name.is_empty() && !can.tablespaces.contains(name) =>
        {
            Some("no such tablespace")
        }
        _ if statement.roles.iter().any(|role| !can.roles.contains(role)) => Some("no such role"),
        _ if acts_for_others && statement.roles.iter().any(|role| !can.may_own.contains(role)) => {
            Some("our role may not act for it")
        }
        _ => None,
    }
}

async fn ask_green(client: &Client) -> Result<Green> {
    const ASK: &str = include_str!("../../sql/copy/list_prerequisites.sql");
    let row = client
        .query_one(ASK, &[])
        .await
        .doing(Kind::Server, || "green does not say what roles and extensions it has".into())?;
    let set = |column: &str| row.get::<_, Vec<String>>(column).into_iter().collect::<BTreeSet<_>>();
    Ok(Green {
        roles: set("roles"),
        may_own: set("may_own"),
        extensions: set("extensions"),
        schemas: set("schemas"),
        tablespaces: set("tablespaces"),
        parameters: set("parameters"),
    })
}

/// One error for everything that is missing, so that the operator fixes it in one go.
fn refuse_missing(statements: &[Statement], green: &Green) -> Result<()> {
    let mut missing: [(&str, BTreeSet<&str>); 3] =
        [("roles", BTreeSet::new()), ("extensions", BTreeSet::new()), ("tablespaces", BTreeSet::new())];
    for statement in statements {
        missing[0]
            .1
            .extend(statement.roles.iter().filter(|role| !green.roles.contains(*role)).map(String::as_str));
        match &statement.does {
            Does::CreateExtension(name) if !green.extensions.contains(name) => {
                missing[1].1.insert(name);
            }
            Does::Set { parameter, value: Some(name) }
                if parameter == "default_tablespace"
                    && !name.is_empty()
                    && !green.tablespaces.contains(name) =>
            {
                missing[2].1.insert(name);
            }
            _ => {}
        }
    }
    let lists: Vec<String> = missing
        .iter()
        .filter(|(_, names)| !names.is_empty())
        .map(|(kind, names)| format!("{kind} {}", names.iter().copied().collect::<Vec<_>>().join(", ")))
        .collect();
    if lists.is_empty() {
        return Ok(());
    }
    Err(Error::new(Kind::Request, format!("blue's schema needs what green lacks: {}", lists.join("; "))).hint(
        "create the roles (pg_dumpall --roles-only on blue shows them) and tablespaces on green, and install the extensions' packages there",
    ))
}

fn choose_owners(statements: &[Statement], green: &Green, ears: &Ears) -> Owners {
    let mut others: BTreeSet<&String> = BTreeSet::new();
    for statement in statements {
        if matches!(statement.does, Does::ChangeOwner { .. } | Does::ActAs) {
            others.extend(statement.roles.iter().filter(|role| !green.may_own.contains(*role)));
        }
    }
    if others.is_empty() {
        return Owners::AsOnBlue;
    }
    let names = others.into_iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    ears.tell(Event::Warning {
        text: format!(
            "our role on green may not give objects to {names}: it will own everything it clones, and they get all rights on tables and schemas instead; grant it those roles to keep the owners"
        ),
    });
    Owners::Ours
}

/// The statement as green shall get it, if it shall.
fn fit(mut statement: Statement, green: &Green, owners: Owners) -> Option<Statement> {
    let wanted = match &mut statement.does {
        Does::CommentExtension | Does::OurTrigger => false,
        Does::CreateSchema(name) => !green.schemas.contains(name),
        Does::ChangeOwner { instead } if owners == Owners::Ours => match instead.take() {
            Some(grant) => {
                statement.sql = grant;
                true
            }
            None => false,
        },
        Does::ActAs => owners == Owners::AsOnBlue,
        // A newer pg_dump sets parameters that an older green does not have.
        Does::Set { parameter, .. } => green.parameters.contains(parameter),
        Does::ChangeOwner { .. } | Does::CreateExtension(_) | Does::MapUser | Does::Other => true,
    };
    wanted.then_some(statement)
}

async fn load(client: &Client, statements: &[Statement], epoch: i64) -> Result<()> {
    lease::begin(client, epoch).await?;
    let before = made::look(client).await?;
    for statement in statements {
        client.batch_execute(&statement.sql).await.map_err(|error| refused(statement, error))?;
    }
    // pg_dump sets these for the session it loads in; what follows is ours again.
    client
        .batch_execute(crate::pg::connect::PINNED)
        .await
        .doing(Kind::Server, || "the session's settings cannot be put back".into())?;
    made::record(client, LABEL, &before).await?;
    lease::commit(client, "blue's schema").await
}

/// On one line, and not longer than that.
fn shorten(sql: &str) -> String {
    let mut shown: String = sql.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((cut, _)) = shown.char_indices().nth(160) {
        shown.truncate(cut);
        shown.push('…');
    }
    shown
}

fn refused(statement: &Statement, error: tokio_postgres::Error) -> Error {
    let shown = shorten(&statement.sql);
    let out_of_locks = error.code() == Some(&tokio_postgres::error::SqlState::OUT_OF_MEMORY);
    let refused = Error::new(Kind::Server, format!("green refuses a statement of blue's schema: {shown}"));
    let refused = if out_of_locks {
        refused.hint("the schema is loaded in one transaction: raise max_locks_per_transaction on green")
    } else {
        refused.hint("nothing of the schema is on green; change what it complains about on green, or use schema.from: none")
    };
    refused.source(error)
}
