use crate::error::*;
use crate::event::Ears;
use crate::pg::{conninfo::ConnInfo, lsn::Lsn, name::*};
use std::time::Duration;
use tokio::sync::watch;
pub struct FollowTable {
    pub blue: TableName,
    pub green: TableName,
    pub key: Vec<Ident>,
}
pub struct FollowSpec {
    pub blue: ConnInfo,
    pub green: ConnInfo,
    pub slot: String,
    pub publication: String,
    pub epoch: i64,
    pub tables: Vec<FollowTable>,
    pub dirty_keys: usize,
    pub retained_wal_max_bytes: u64,
}
#[derive(Clone, Default)]
pub struct FollowStatus {
    pub applied: Lsn,
    pub durable: Lsn,
    pub lag_bytes: u64,
    pub failed: Option<String>,
}
pub struct DirtyKey {
    pub table: TableName,
    pub key: Vec<String>,
}
pub struct Follower {
    rx: watch::Receiver<FollowStatus>,
}
impl Follower {
    pub fn start(_: FollowSpec, _: Ears) -> Follower {
        todo!()
    }
    pub fn status(&self) -> watch::Receiver<FollowStatus> {
        self.rx.clone()
    }
    pub fn dirty_keys(&self) -> Vec<DirtyKey> {
        vec![]
    }
    pub async fn wait_for_marker(&self, _: &str, _: Duration) -> Result<Lsn> {
        todo!()
    }
    pub async fn stop(self, _: Duration) -> Result<FollowStatus> {
        todo!()
    }
    pub fn failure(&self) -> Option<Error> {
        None
    }
    pub async fn durable(&self, _: bool) -> Result<()> {
        todo!()
    }
}
