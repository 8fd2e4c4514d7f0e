//! The tools whose directories are read, by the names people know them by.

use std::fmt;

/// Who owns a directory of migrations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Tool {
    /// Files of SQL, run by psql in the order of their names.
    #[default]
    Plain,
    /// golang-migrate: `0001_name.up.sql`, `0001_name.down.sql`.
    GolangMigrate,
    /// goose: `0001_name.sql` with `-- +goose Up` and `-- +goose Down`.
    Goose,
    /// sqlx: `0001_name.sql`, or `0001_name.up.sql` and `.down.sql`.
    Sqlx,
    /// diesel: `2024-01-31-120000_name/up.sql`, `down.sql`.
    Diesel,
    /// Flyway: `V1_2__name.sql`, `R__name.sql`, `U1_2__name.sql`.
    Flyway,
    /// popx, which Ory's servers use: `20240131120000_name.postgres.autocommit.up.sql`.
    Popx,
    /// Prisma: `20240131120000_name/migration.sql`.
    Prisma,
    /// dbmate: `20240131120000_name.sql` with `-- migrate:up` and `-- migrate:down`.
    Dbmate,
    /// sql-migrate: `0001_name.sql` with `-- +migrate Up` and `-- +migrate Down`.
    SqlMigrate,
}

impl Tool {
    /// Every tool.
    pub const ALL: [Tool; 10] = [
        Tool::Plain,
        Tool::GolangMigrate,
        Tool::Goose,
        Tool::Sqlx,
        Tool::Diesel,
        Tool::Flyway,
        Tool::Popx,
        Tool::Prisma,
        Tool::Dbmate,
        Tool::SqlMigrate,
    ];

    /// The word for it on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Tool::Plain => "plain",
            Tool::GolangMigrate => "golang-migrate",
            Tool::Goose => "goose",
            Tool::Sqlx => "sqlx",
            Tool::Diesel => "diesel",
            Tool::Flyway => "flyway",
            Tool::Popx => "popx",
            Tool::Prisma => "prisma",
            Tool::Dbmate => "dbmate",
            Tool::SqlMigrate => "sql-migrate",
        }
    }

    /// How one of its migrations is named.
    pub fn pattern(self) -> &'static str {
        match self {
            Tool::Plain => "name.sql",
            Tool::GolangMigrate => "NUMBER_name.up.sql",
            Tool::Goose | Tool::Dbmate | Tool::SqlMigrate => "NUMBER_name.sql",
            Tool::Sqlx => "NUMBER_name.sql or NUMBER_name.up.sql",
            Tool::Diesel => "VERSION_name/up.sql",
            Tool::Flyway => "VVERSION__name.sql or R__name.sql",
            Tool::Popx => "VERSION_name[.postgres][.autocommit].up.sql",
            Tool::Prisma => "VERSION_name/migration.sql",
        }
    }

    /// What to write so that the tool does not put a file's statements into one transaction; empty where it never does.
    pub fn without_transaction(self) -> &'static str {
        match self {
            Tool::Plain => "",
            Tool::GolangMigrate | Tool::Prisma => "put the statement into a file of its own",
            Tool::Goose => "write `-- +goose NO TRANSACTION` at the top",
            Tool::Sqlx => "make `-- no-transaction` the first line",
            Tool::Diesel => "write `run_in_transaction = false` into metadata.toml beside it",
            Tool::Flyway => {
                "put it into a file of its own, or write `executeInTransaction=false` into the file's .conf"
            }
            Tool::Popx => "name the file `….autocommit.up.sql`",
            Tool::Dbmate => "write `-- migrate:up transaction:false`",
            Tool::SqlMigrate => "write `-- +migrate Up notransaction`",
        }
    }
}

impl fmt::Display for Tool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Tool::Plain => "plain SQL",
            Tool::Flyway => "Flyway",
            Tool::Prisma => "Prisma",
            tool => tool.word(),
        })
    }
}

/// How a file's statements are put into transactions by whoever owns it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RunAs {
    /// Each by itself, as psql does.
    #[default]
    Statements,
    /// All of the file in one.
    Transaction,
    /// All of the file in one, unless none of its statements can be.
    TransactionIfAny,
    /// In one as soon as there are two statements: the file is one message to the server.
    Message,
}

/// What the owner of a file makes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Convention {
    /// Whose it is.
    pub tool: Tool,
    /// Its transactions.
    pub run_as: RunAs,
}
