//! The queries of the applications: from `pg_stat_statements` on blue, and from files.

use crate::ddl::{
    self, SqlFile,
    parse::{self, NodeEnum},
    source,
};
use crate::error::{Doing, Error, Kind, Result};
use crate::finding::Place;
use crate::pg::name::Ident;
use tokio_postgres::Client;

/// As many queries of files as are taken; a file of more is somebody's data.
const FILE_QUERIES_MAX: usize = 5_000;
/// For asking blue.
const ASK_MAX: std::time::Duration = std::time::Duration::from_secs(30);

/// A query of an application.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    /// Its text, with `$1` where values were.
    pub sql: String,
    /// Where it was found.
    pub origin: Origin,
    /// Its tree.
    pub tree: NodeEnum,
}

/// Where a query was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// In `pg_stat_statements`.
    Seen {
        /// How often it was called.
        calls: i64,
    },
    /// In a file.
    File(Place),
}

impl Query {
    /// As it is named in findings: the text on one line, and where it was found.
    pub fn named(&self) -> String {
        let mut text: String = self.sql.split_whitespace().collect::<Vec<_>>().join(" ");
        if let Some((cut, _)) = text.char_indices().nth(200) {
            text.truncate(cut);
            text.push('…');
        }
        match &self.origin {
            Origin::Seen { calls } => format!("`{text}` ({calls} calls)"),
            Origin::File(_) => format!("`{text}`"),
        }
    }

    /// Where, for a finding.
    pub fn place(&self) -> Place {
        match &self.origin {
            Origin::Seen { .. } => Place::Blue { object: "pg_stat_statements".into() },
            Origin::File(place) => place.clone(),
        }
    }

    /// How often it was called, when somebody counted.
    pub fn calls(&self) -> Option<i64> {
        match self.origin {
            Origin::Seen { calls } => Some(calls),
            Origin::File(_) => None,
        }
    }
}

/// The queries that blue ran most often, and a sentence about what could not be seen.
///
/// # Errors
/// [`Kind::Server`] when the catalog cannot be read. That the extension is missing or not loaded is no error.
pub async fn from_blue(client: &Client, top: u32) -> Result<(Vec<Query>, Option<String>)> {
    let schema = client
        .query_opt(
            "select n.nspname::text from pg_extension e join pg_namespace n on n.oid = e.extnamespace \
             where e.extname = 'pg_stat_statements'",
            &[],
        )
        .await
        .doing(Kind::Server, || "cannot look for pg_stat_statements".into())?;
    let Some(schema) = schema else {
        return Ok((Vec::new(), Some("blue has no extension pg_stat_statements".into())));
    };
    let schema = Ident::new(schema.get::<_, String>(0));
    // Normalized alike for all users and plans.
    let ask = format!(
        "select s.query, sum(s.calls)::int8 from {schema}.pg_stat_statements s \
         where s.dbid = (select oid from pg_database where datname = current_database()) and s.toplevel \
         group by s.query order by 2 desc, 1 limit $1"
    );
    let rows = match tokio::time::timeout(ASK_MAX, client.query(&ask, &[&i64::from(top)])).await {
        Ok(Ok(rows)) => rows,
        Ok(Err(error)) => {
            let why = error.as_db_error().map_or_else(|| error.to_string(), |db| db.message().to_owned());
            return Ok((Vec::new(), Some(format!("pg_stat_statements cannot be read: {why}"))));
        }
        Err(_) => return Ok((Vec::new(), Some("pg_stat_statements did not answer in time".into()))),
    };
    let hidden = rows.iter().filter(|row| row.get::<_, String>(0) == "<insufficient privilege>").count();
    let queries = rows
        .iter()
        .filter_map(|row| {
            let sql: String = row.get(0);
            let tree = parse::parse_one(&sql).ok().filter(is_planned)?;
            Some(Query { sql, origin: Origin::Seen { calls: row.get(1) }, tree })
        })
        .collect();
    let note = (hidden > 0).then(|| {
        "pg_stat_statements hides queries from our role: grant it pg_read_all_stats to see them".into()
    });
    Ok((queries, note))
}

/// The queries of some files; what is no query (DDL, BEGIN) is left out.
///
/// # Errors
/// [`Kind::Plan`] with line and caret when a file is not SQL; [`Kind::Request`] when there are too many.
pub fn from_files(files: &[SqlFile]) -> Result<Vec<Query>> {
    let mut queries = Vec::new();
    for file in files {
        if let Some(error) = ddl::explain_error(file) {
            return Err(error);
        }
        let (statements, _) = source::statements(file).unwrap_or_default();
        queries.extend(statements.into_iter().filter(|statement| is_planned(&statement.tree)).map(
            |statement| Query {
                sql: statement.sql,
                origin: Origin::File(statement.place),
                tree: statement.tree,
            },
        ));
    }
    if queries.len() > FILE_QUERIES_MAX {
        let what = format!("{} queries, of {FILE_QUERIES_MAX} at most", queries.len());
        return Err(Error::new(Kind::Request, what).hint("give the files of queries alone, without data"));
    }
    Ok(queries)
}

/// Whether it is a statement that PREPARE takes.
fn is_planned(tree: &NodeEnum) -> bool {
    matches!(
        tree,
        NodeEnum::SelectStmt(_)
            | NodeEnum::InsertStmt(_)
            | NodeEnum::UpdateStmt(_)
            | NodeEnum::DeleteStmt(_)
            | NodeEnum::MergeStmt(_)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_give_their_queries_with_places() {
        let file = SqlFile::new(
            "q.sql",
            "begin;\nselect *\n  from t where a = $1;\ncommit;\ninsert into t values (1);",
        );
        let queries = from_files(&[file]).unwrap();
        let places: Vec<String> = queries.iter().map(|query| query.place().to_string()).collect();
        assert_eq!(places, ["q.sql:2:1", "q.sql:5:1"]);
        assert_eq!(queries[0].named(), "`select * from t where a = $1`");
        assert!(from_files(&[SqlFile::new("q.sql", "select frm x y z")]).is_err());
    }
}
