//! A live database for rewritten statements to run on, without engine and journal.

use super::{Pair, cluster::connect as connect_bare};
use async_trait::async_trait;
use migrate::{
    ddl::{Online, SqlFile, lock::LockMode, rewrite},
    error::Result,
    event::{Event, Listener},
    facts::ServerFacts,
    pg::{catalog, connect, conninfo::ConnInfo},
    plan::{Side, TableSelection},
    step::{
        Notes, Standing, Step,
        ddl::{Brownout, DdlStep, DdlWorld, steps},
    },
};
use std::{
    collections::BTreeMap,
    sync::Mutex,
    time::{Duration, Instant},
};
use tokio_postgres::Client;

pub struct Live {
    url: String,
    heard: Heard,
    /// What it may make others wait.
    pub brownout: Brownout,
}

#[derive(Default)]
struct Heard(Mutex<Vec<Event>>);

impl Listener for Heard {
    fn tell(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }
}

#[async_trait]
impl DdlWorld for Live {
    async fn session(&self, purpose: &str) -> Result<Client> {
        connect::connect(&ConnInfo::parse(&self.url)?, purpose).await
    }

    async fn guard(&self, _: &Client) -> Result<()> {
        Ok(())
    }

    fn ears(&self) -> &dyn Listener {
        &self.heard
    }

    fn brownout(&self) -> &Brownout {
        &self.brownout
    }
}

impl Live {
    /// Both databases of a pair, with our own state in them and `schema`.
    pub async fn both(name: &str, schema: &str) -> (Pair, [Live; 2]) {
        let pair = Pair::fresh(name).await;
        let lives = [pair.blue_url(), pair.green_url()].map(|url| Live {
            url,
            heard: Heard::default(),
            brownout: Brownout::default(),
        });
        for live in &lives {
            let client = live.client().await;
            client.batch_execute(schema).await.unwrap();
            client.batch_execute(include_str!("../../../sql/state/create_blue.sql")).await.unwrap();
        }
        (pair, lives)
    }

    pub async fn client(&self) -> Client {
        let client = self.session("test").await.unwrap();
        client.batch_execute("set search_path = public").await.unwrap();
        client
    }

    pub async fn facts(&self) -> ServerFacts {
        let client = self.session("facts").await.unwrap();
        catalog::read(&client, Side::Blue, &TableSelection::default()).await.unwrap()
    }

    /// What runs in place of `sql`.
    pub async fn online(&self, sql: &str) -> Vec<Online> {
        let facts = self.facts().await;
        let result = rewrite(&[SqlFile::new("a.sql", sql)], Some(&facts));
        assert!(result.may_run(), "{sql}: {:#?}", result.findings);
        result.statements
    }

    pub async fn steps(&self, sql: &str) -> Vec<DdlStep> {
        steps(&self.online(sql).await)
    }

    pub async fn standing(&self, step: &DdlStep) -> Standing {
        step.check(self, &Notes::default()).await.unwrap()
    }

    pub async fn apply(&self, step: &DdlStep) -> Result<()> {
        step.apply(self, &Notes::default()).await.map(|_| ())
    }

    /// What the engine does, without its journal: each is not there, is applied, and is there.
    pub async fn forward(&self, steps: &[DdlStep]) {
        for step in steps {
            assert_eq!(self.standing(step).await, Standing::Absent, "{step:?}");
            self.apply(step).await.unwrap();
            assert_eq!(self.standing(step).await, Standing::Present, "{step:?}");
        }
    }

    /// Run again after a lost journal: everything is found done.
    pub async fn all_are_done(&self, steps: &[DdlStep]) {
        for step in steps {
            assert_eq!(self.standing(step).await, Standing::Present, "{}", step.online().title);
        }
    }

    /// A session without anything the program under test would set.
    pub async fn bare(&self) -> Client {
        connect_bare(&self.url).await.unwrap()
    }

    /// What the server says to one text as a simple query: the code of the error.
    pub async fn refused(&self, sql: &str) -> String {
        let error = self.client().await.batch_execute(sql).await.unwrap_err();
        error.code().map(|code| code.code().to_owned()).unwrap_or_default()
    }

    /// Waits until a query says so.
    pub async fn until(&self, what: &str, sql: &str) {
        let client = self.client().await;
        let deadline = Instant::now() + Duration::from_secs(20);
        while !client.query_one(sql, &[]).await.unwrap().get::<_, bool>(0) {
            assert!(Instant::now() < deadline, "{what} did not happen");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The first column of each row.
    pub async fn texts(&self, sql: &str) -> Vec<String> {
        self.client().await.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
    }

    pub fn heard(&self) -> Vec<Event> {
        self.heard.0.lock().unwrap().clone()
    }

    /// Something was said with this in it.
    pub fn warned(&self, text: &str) -> bool {
        self.heard().iter().any(|event| match event {
            Event::Warning { text: said } | Event::Note { text: said } => said.contains(text),
            _ => false,
        })
    }
}

/// The strongest of these modes that somebody can wait for who only changes rows, if there is one, or that DDL waits for.
pub fn strongest<'m>(modes: impl IntoIterator<Item = &'m str>) -> Option<LockMode> {
    let telling = |mode: &LockMode| *mode >= LockMode::ShareUpdateExclusive;
    modes.into_iter().filter_map(LockMode::named).filter(telling).max()
}

/// Each lock a statement was told to take, by the name of what it locks, if it is one that [`strongest`] tells.
pub fn told(online: &Online) -> BTreeMap<String, LockMode> {
    let telling = online.cost.locks.iter().filter(|lock| lock.mode >= LockMode::ShareUpdateExclusive);
    telling.map(|lock| (lock.relation.name.as_str().to_owned(), lock.mode)).collect()
}
