//! A token database in the shape of an OAuth provider's: clients, access and refresh tokens, consents, sessions.

use anyhow::{Context, Result};
use tokio_postgres::Client;

/// Tokens the traffic may change; the rest of the seeded rows must stay as they are.
pub const ADOPTED_TOKENS: u64 = 4_000;

/// What was loaded.
#[derive(Debug, Clone, Copy)]
pub struct Loaded {
    /// Clients, with ids 1 to this.
    pub clients: u64,
    /// Refresh tokens, `seed-r-1` to this, each but every tenth active and with an access token `seed-a-N`.
    pub tokens: u64,
    /// All rows.
    pub rows: u64,
}

/// Makes the schema and loads about `rows` rows, always the same ones. A million takes some ten seconds.
pub async fn load(client: &Client, rows: u64) -> Result<Loaded> {
    client.batch_execute("set timezone = 'UTC'").await?;
    client.batch_execute(include_str!("schema.sql")).await.context("the schema")?;
    // A token brings 1 refresh, 9/10 access, and 1/2 consent, session and event each.
    let tokens = (rows * 10 / 34).max(20);
    let clients = (tokens / 200).clamp(5, 500);
    let sql = include_str!("rows.sql")
        .replace("@clients@", &clients.to_string())
        .replace("@tokens@", &tokens.to_string());
    client.batch_execute(&sql).await.context("the rows")?;
    let counted = clients + tokens + (tokens - tokens / 10) + 3 * (tokens / 2);
    Ok(Loaded { clients, tokens, rows: counted })
}
