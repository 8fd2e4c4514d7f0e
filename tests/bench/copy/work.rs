//! The works: what blue holds, and what green is.

use crate::servers::{DATABASE, EMPTY, Servers};
use anyhow::Result;

/// A database to copy.
pub struct Work {
    pub name: &'static str,
    /// Green's major.
    pub green: u32,
    data: Data,
}

#[derive(Clone, Copy)]
enum Data {
    /// One large table of narrow rows with a key and nothing else.
    Pgbench,
    /// Three tables of wide rows with many indexes, and foreign keys.
    Oauth,
}

pub static WORKS: [Work; 4] = [
    Work { name: "copy/pgbench/15-15", green: 15, data: Data::Pgbench },
    Work { name: "copy/oauth/15-15", green: 15, data: Data::Oauth },
    Work { name: "copy/pgbench/15-18", green: 18, data: Data::Pgbench },
    Work { name: "copy/oauth/15-18", green: 18, data: Data::Oauth },
];

/// Rows of one unit of pgbench's scale.
const ROWS_A_SCALE: u64 = 100_000;

impl Work {
    /// Its tables, in schema `public`.
    pub fn tables(&self) -> &'static [&'static str] {
        match self.data {
            Data::Pgbench => &["pgbench_accounts", "pgbench_tellers", "pgbench_branches", "pgbench_history"],
            Data::Oauth => &["oauth_client", "oauth_consent", "oauth_access", "oauth_refresh"],
        }
    }

    /// Loads blue with about so many rows, or with the work's own number; gives how many.
    pub async fn load(&self, servers: &Servers, rows: Option<u64>) -> Result<u64> {
        let admin = servers.blue.server.connect("postgres").await?;
        admin.batch_execute(&format!("create database {DATABASE} {EMPTY}")).await?;
        let blue = servers.blue().await?;
        match self.data {
            Data::Pgbench => {
                let scale = (rows.unwrap_or(10_000_000) / ROWS_A_SCALE).max(1).to_string();
                servers
                    .run("pgbench", &["-i", "-q", "-s", &scale, &servers.blue.server.url(DATABASE)])
                    .await?;
                // A history without a key could not be followed.
                blue.batch_execute("alter table pgbench_history add column id bigserial primary key").await?;
            }
            Data::Oauth => {
                // Of six tokens three are access tokens, two refresh tokens, and one is a consent.
                let part = (rows.unwrap_or(2_000_000) / 6).max(1);
                blue.batch_execute(&include_str!("oauth.sql").replace("@part@", &part.to_string())).await?;
            }
        }
        // Not in one batch, which would be one transaction.
        blue.batch_execute("vacuum analyze").await?;
        blue.batch_execute("checkpoint").await?;
        let mut loaded = 0;
        for table in self.tables() {
            let count: i64 =
                blue.query_one(&format!("select count(*) from public.{table}"), &[]).await?.get(0);
            loaded += u64::try_from(count)?;
        }
        Ok(loaded)
    }
}
