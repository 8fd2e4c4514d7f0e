//! Whether blue is over a limit of the plan's throttle.

use super::lease;
use crate::error::{Doing, Error, Kind, Result};
use crate::pg::{conninfo::ConnInfo, name::literal};
use crate::plan::{Throttle, quantity::LagMax};
use std::time::Duration;
use tokio::time::timeout;
use tokio_postgres::{Client, error::SqlState};

const READ_LOAD: &str = include_str!("../../sql/copy/read_load.sql");
/// How long blue may work on a look.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// How long the way to it and back may take besides.
const WAY_MAX: Duration = Duration::from_secs(3);

/// A limit that blue is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Over {
    /// The plan's field.
    pub(super) limit: &'static str,
    /// What was seen, in words.
    pub(super) seen: String,
}

/// Looks at blue through a session of its own, which says in its name which limit the copy waits for.
pub(super) struct LoadWatch {
    blue: ConnInfo,
    epoch: i64,
    session: Option<Client>,
    /// The limit that the session's name says, if one.
    said: Option<&'static str>,
}

/// What blue's own views say.
struct Load {
    sees_all: bool,
    active_sessions: u64,
    lag: Duration,
    lag_bytes: u64,
}

impl LoadWatch {
    pub(super) fn new(blue: &ConnInfo, epoch: i64) -> LoadWatch {
        LoadWatch { blue: blue.clone(), epoch, session: None, said: None }
    }

    /// The first limit that blue is over. A blue that takes too long to answer is too busy for us, whatever it has to do.
    ///
    /// # Errors
    /// [`Kind::Connect`]; [`Kind::Plan`] when blue refuses to answer, or may not tell our role.
    pub(super) async fn look(&mut self, limits: &Throttle) -> Result<Option<Over>> {
        if !limits.asks_blue() {
            return Ok(None);
        }
        let session = match self.session.take().filter(|session| !session.is_closed()) {
            Some(session) => session,
            None => self.connect().await?,
        };
        let looked = timeout(ANSWER_MAX + WAY_MAX, look(&session, limits)).await;
        let Ok(looked) = looked else {
            // What the session still waits for would hold up the next look.
            return Ok(Some(silent()));
        };
        self.session = Some(session);
        looked
    }

    /// Lets `status` know by the session's name, as long as the session lives.
    pub(super) async fn say(&mut self, over: Option<&Over>) {
        self.said = over.map(|over| over.limit);
        let Some(session) = self.session.as_ref() else { return };
        if !matches!(timeout(WAY_MAX, session.batch_execute(&self.naming())).await, Ok(Ok(()))) {
            tracing::debug!("the session that looks at blue's load cannot say what it saw");
        }
    }

    /// The statement that gives a session its name.
    fn naming(&self) -> String {
        let name = self.said.map_or_else(|| "throttle".to_owned(), |limit| format!("throttle, {limit}"));
        format!("set application_name = {}", literal(&format!("migrate {}: {name}", self.epoch)))
    }

    async fn connect(&self) -> Result<Client> {
        let session = lease::session(&self.blue, "throttle", self.epoch).await?;
        session
            .batch_execute(&format!(
                "set default_transaction_read_only = on; set statement_timeout = '{}ms'; {}",
                ANSWER_MAX.as_millis(),
                self.naming()
            ))
            .await
            .doing(Kind::Connect, || "a session that looks at blue's load cannot be prepared".into())?;
        Ok(session)
    }
}

fn silent() -> Over {
    Over {
        limit: "blue's answer",
        seen: format!("blue has not said within {} s how busy it is", ANSWER_MAX.as_secs()),
    }
}

async fn look(session: &Client, limits: &Throttle) -> Result<Option<Over>> {
    if limits.active_sessions_max.is_some() || limits.replica_lag_max.is_some() {
        let load = match session.query_one(READ_LOAD, &[]).await {
            Ok(row) => Load {
                sees_all: row.get("sees_all"),
                active_sessions: positive(row.get("active_sessions")),
                lag: Duration::from_millis(positive(row.get("lag_ms"))),
                lag_bytes: positive(row.get("lag_bytes")),
            },
            Err(error) => return silent_or(error, "blue does not tell its load"),
        };
        if !load.sees_all {
            return Err(Error::new(Kind::Plan, "our role on blue may not see what other sessions do")
                .hint("on blue: grant pg_read_all_stats to the role; or limit the copy by other means than active sessions and replica lag"));
        }
        if let Some(over) = load.over(limits) {
            return Ok(Some(over));
        }
    }
    let Some(sql) = &limits.pause_while else { return Ok(None) };
    let refused = "blue refuses the query of replicate.throttle.pause_while";
    let rows = match session.query(sql, &[]).await {
        Ok(rows) => rows,
        Err(error) => return silent_or(error, refused),
    };
    let answer = match rows.as_slice() {
        [row] if row.len() == 1 => row.try_get::<_, Option<bool>>(0).ok(),
        _ => None,
    };
    let Some(answer) = answer else {
        return Err(Error::new(Kind::Plan, "replicate.throttle.pause_while does not give one boolean")
            .hint("write a query of one row and one boolean column; tables are named with their schema"));
    };
    let seen = "pause_while says so".to_owned();
    Ok((answer == Some(true)).then_some(Over { limit: "pause_while", seen }))
}

fn silent_or(error: tokio_postgres::Error, refused: &str) -> Result<Option<Over>> {
    match error.code() {
        Some(code) if *code == SqlState::QUERY_CANCELED => Ok(Some(silent())),
        None => Err(Error::new(Kind::Connect, "blue has ended the session that looks at its load").source(error)),
        Some(_) => Err(Error::new(Kind::Plan, refused)
            .hint("try it in psql with search_path = '': tables are named with their schema, and nothing can be written")
            .source(error)),
    }
}

fn positive(count: i64) -> u64 {
    u64::try_from(count).unwrap_or_default()
}

impl Load {
    fn over(&self, limits: &Throttle) -> Option<Over> {
        if let Some(allowed) = limits.active_sessions_max
            && self.active_sessions > u64::from(allowed)
        {
            let seen = format!("{} sessions are active on blue, {allowed} are allowed", self.active_sessions);
            return Some(Over { limit: "active_sessions_max", seen });
        }
        let (is_over, seen) = match limits.replica_lag_max? {
            LagMax::Time(allowed) => {
                (self.lag > allowed.0, format!("{} ms behind, {allowed} is allowed", self.lag.as_millis()))
            }
            LagMax::Wal(allowed) => {
                (self.lag_bytes > allowed.0, format!("{} bytes behind, {allowed} is allowed", self.lag_bytes))
            }
        };
        is_over.then(|| Over { limit: "replica_lag_max", seen: format!("a standby of blue is {seen}") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::quantity::{Size, Span};

    #[test]
    fn each_limit_is_passed_by_more_than_it_allows() {
        let load = Load { sees_all: true, active_sessions: 8, lag: Duration::from_secs(3), lag_bytes: 4096 };
        let over = |limits: Throttle| load.over(&limits).map(|over| over.limit);
        let sessions = |max| over(Throttle { active_sessions_max: Some(max), ..Throttle::default() });
        assert_eq!([sessions(8), sessions(7)], [None, Some("active_sessions_max")]);
        let lag = |max| over(Throttle { replica_lag_max: Some(max), ..Throttle::default() });
        let time = |seconds| lag(LagMax::Time(Span(Duration::from_secs(seconds))));
        assert_eq!([time(3), time(2)], [None, Some("replica_lag_max")]);
        let wal = |bytes| lag(LagMax::Wal(Size(bytes)));
        assert_eq!([wal(4096), wal(4095)], [None, Some("replica_lag_max")]);
    }
}
