//! What the names of migrations are made of.

/// `0001_create_users.up.sql` is `0001` and `create_users.up.sql`; `None` without digits, or without `_` after them.
pub(super) fn numbered(name: &str) -> Option<(&str, &str)> {
    let (number, rest) = name.split_once('_')?;
    (!number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())).then_some((number, rest))
}

/// Whether a file goes forward or back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Up,
    Down,
}

/// `x.up.sql` is `x` and up.
pub(super) fn directed(name: &str) -> Option<(&str, Direction)> {
    let stem = name.strip_suffix(".sql")?;
    match stem.rsplit_once('.')? {
        (rest, "up") => Some((rest, Direction::Up)),
        (rest, "down") => Some((rest, Direction::Down)),
        _ => None,
    }
}

/// The database a word in a file's name stands for: `None` when it stands for none we have heard of.
pub(super) fn dialect(word: &str) -> Option<Dialect> {
    match word {
        "postgres" | "postgresql" | "pg" | "pgx" => Some(Dialect::Postgres),
        "mysql" | "mariadb" | "sqlite" | "sqlite3" | "cockroach" | "cockroachdb" | "crdb" | "mssql"
        | "sqlserver" | "oracle" => Some(Dialect::Other),
        _ => None,
    }
}

/// Whose SQL a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    Postgres,
    Other,
}
