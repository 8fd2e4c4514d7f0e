//! The SQL that a rule becomes on green and blue: its effect, its `valid` query and its questions, each for many keys
//! at once. Every statement takes `$1` text[] ids, then a text[] for each key column.

use super::predicate::TypedColumn;
use crate::error::{Doing, Error, Kind, Result};
use crate::pg::name::TableName;
use crate::plan::{ChangeOp, RevocationRule};

/// The table of green that a rule's effect changes.
///
/// # Errors
/// [`Kind::Plan`] when the rule gives none or two.
pub fn table(rule: &RevocationRule) -> Result<&TableName> {
    match (&rule.replay.delete, &rule.replay.update) {
        (Some(table), None) => Ok(table),
        (None, Some(update)) => Ok(&update.table),
        _ => Err(Error::new(
            Kind::Plan,
            format!("revocation rule `{}`: replay needs exactly one of delete and update", rule.name),
        )),
    }
}

/// Makes the effect and returns `id, touched` for the keys whose rows it touched.
///
/// After the key arrays comes one more parameter, text: the transaction that opened green, or null while it is
/// closed. A row written since then is an application's and is left alone.
///
/// # Errors
/// [`Kind::Plan`] when a key column is missing from green's table.
pub fn act(rule: &RevocationRule, green: &[TypedColumn]) -> Result<String> {
    let table = table(rule)?;
    let opened = rule.key.len() + 2;
    let guard = format!(
        "{} and (${opened}::text is null or age(migrate_row.xmin) > age(${opened}::text::xid))",
        key_match("migrate_row", rule, green, table)?
    );
    let keys = keys(rule);
    let touch = match &rule.replay.update {
        None => format!("delete from {table} as migrate_row using {keys} where {guard}"),
        Some(update) => {
            let set: Vec<_> = update
                .set
                .iter()
                .map(|(column, value)| format!("{} = (\n{value}\n)", crate::pg::name::Ident::new(column)))
                .collect();
            format!("update {table} as migrate_row set {} from {keys} where {guard}", set.join(", "))
        }
    };
    Ok(format!(
        "with touched as ({touch} returning migrate_key.id) select id, count(*) as touched from touched group by id"
    ))
}

/// Returns the ids whose keys the rule's `valid` query still finds on green.
///
/// # Errors
/// [`Kind::Plan`] when the query cannot be scanned, or asks for more keys than the rule has.
pub fn valid(rule: &RevocationRule) -> Result<String> {
    let query = with_keys_for_parameters(rule)?;
    Ok(format!("select migrate_key.id from {} where exists (\n{query}\n)", keys(rule)))
}

/// Returns the ids whose rows on green were written by an application since green opened. Parameters as [`act`].
///
/// # Errors
/// As [`act`].
pub fn issued_anew(rule: &RevocationRule, green: &[TypedColumn]) -> Result<String> {
    let table = table(rule)?;
    let opened = rule.key.len() + 2;
    Ok(format!(
        "select migrate_key.id from {} where ${opened}::text is not null and exists (select 1 from {table} as migrate_row \
         where {} and age(migrate_row.xmin) <= age(${opened}::text::xid))",
        keys(rule),
        key_match("migrate_row", rule, green, table)?
    ))
}

/// Returns the ids whose keys blue holds revoked now: the row is gone, or is as the rule's `when.new` says.
///
/// # Errors
/// [`Kind::Plan`] when a key column is missing from blue's table.
pub fn revoked_on_blue(rule: &RevocationRule, blue: &[TypedColumn]) -> Result<String> {
    let name = rule.table.name.to_string();
    let row = format!(
        "select 1 from {} as {name} where {}",
        rule.table,
        key_match(&name, rule, blue, &rule.table)?
    );
    let condition = match (rule.when.op, &rule.when.new) {
        (ChangeOp::Delete, _) => format!("not exists ({row})"),
        (ChangeOp::Update, Some(new)) => format!("not exists ({row} and (\n{new}\n) is not true)"),
        // Every update is a revocation, so the row itself does not tell.
        (ChangeOp::Update, None) => "true".to_owned(),
        (ChangeOp::Insert, Some(new)) => format!("exists ({row} and (\n{new}\n))"),
        (ChangeOp::Insert, None) => format!("exists ({row})"),
    };
    Ok(format!("select migrate_key.id from {} where {condition}", keys(rule)))
}

fn keys(rule: &RevocationRule) -> String {
    let (mut arrays, mut names) = (vec!["$1::text[]".to_owned()], vec!["id".to_owned()]);
    for at in 0..rule.key.len() {
        arrays.push(format!("${}::text[]", at + 2));
        names.push(format!("key_{at}"));
    }
    format!("unnest({}) as migrate_key({})", arrays.join(", "), names.join(", "))
}

fn key_match(row: &str, rule: &RevocationRule, columns: &[TypedColumn], table: &TableName) -> Result<String> {
    let mut parts = Vec::with_capacity(rule.key.len());
    for (at, key) in rule.key.iter().enumerate() {
        let column = columns.iter().find(|column| column.name == *key).ok_or_else(|| {
            Error::new(
                Kind::Plan,
                format!(
                    "revocation rule `{}`: table {} has no key column {}",
                    rule.name,
                    table.plain(),
                    key.as_str()
                ),
            )
        })?;
        parts.push(format!("{row}.{key} = migrate_key.key_{at}::{}", column.type_name));
    }
    Ok(parts.join(" and "))
}

/// Puts the key columns in the place of `$1`…; the scanner tells a parameter from one inside a string.
fn with_keys_for_parameters(rule: &RevocationRule) -> Result<String> {
    let what = || format!("revocation rule `{}`: `valid` is not SQL", rule.name);
    // A `;` at the end is natural to write, and cannot stand inside exists(…).
    let query = rule.valid.trim().trim_end_matches(';');
    let tokens = pg_query::scan_tokens(query).doing(Kind::Plan, what)?;
    let mut out = String::with_capacity(query.len() + 32);
    let mut done = 0;
    for token in tokens.iter().filter(|token| token.token == pg_query::protobuf::Token::Param as i32) {
        let (start, end) = (token.start as usize, token.end as usize);
        let name = query.get(start..end).unwrap_or_default();
        let number: usize = name.trim_start_matches('$').parse().unwrap_or(0);
        if number == 0 || number > rule.key.len() {
            let columns = rule.key.len();
            let what = format!(
                "revocation rule `{}`: `valid` asks for {name}, and the key has {columns} column(s)",
                rule.name
            );
            return Err(Error::new(Kind::Plan, what));
        }
        out.push_str(query.get(done..start).unwrap_or_default());
        out.push_str(&format!("migrate_key.key_{}", number - 1));
        done = end;
    }
    out.push_str(query.get(done..).unwrap_or_default());
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pg::name::Ident;
    use crate::plan::{ReplayEffect, RevocationWhen};

    fn rule(valid: &str) -> RevocationRule {
        RevocationRule {
            name: "r".into(),
            table: TableName::new("public", "token"),
            when: RevocationWhen { op: ChangeOp::Delete, old: None, new: None, unless_same_tx: None },
            key: vec![Ident::new("id"), Ident::new("nid")],
            replay: ReplayEffect { delete: Some(TableName::new("public", "token")), update: None },
            valid: valid.into(),
        }
    }

    #[test]
    fn parameters_become_keys_and_strings_stay() {
        let sql =
            valid(&rule("select 1 from t where a = $1 and b = $2 and c = 'ä$1' and d = $$ $2 $$;")).unwrap();
        assert!(
            sql.contains("a = migrate_key.key_0 and b = migrate_key.key_1 and c = 'ä$1' and d = $$ $2 $$"),
            "{sql}"
        );
    }

    #[test]
    fn a_parameter_without_a_key_column_is_refused() {
        for query in ["select 1 where $3 = ''", "select 1 where $0 = ''"] {
            assert_eq!(valid(&rule(query)).unwrap_err().kind, Kind::Plan, "{query}");
        }
    }

    #[test]
    fn a_missing_key_column_is_named() {
        let error = act(&rule("select 1"), &[]).unwrap_err();
        assert_eq!(error.what, "revocation rule `r`: table public.token has no key column id");
    }
}
