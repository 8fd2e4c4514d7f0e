//! UPDATE, DELETE and INSERT … SELECT over many rows of a table in use: cut into batches by the table's key, each in a transaction
//! of its own (catalogue row 129). INSERT of given rows, and a change of one row by its key, run as they are.

use super::{Outcome, Rule, as_written, blocking, info};
use crate::{
    ddl::{
        lock::{Cost, LockMode, LockRole, LockTaken},
        parse::{self, NodeEnum, node},
        scene::{Known, Scene},
        source::Statement,
        statement::{Backfill, Class, KeyColumn, Online, Retry, Verify},
    },
    facts::{Table, TableKind},
    pg::name::{Ident, TableName},
};
pub(super) use source::hindrance;
use source::{is_one_row_of, only_reads, plain_source};

mod cut;
mod source;

const RECIPE: &str = "backfill";

/// A statement over the rows of one table.
struct Rows<'a> {
    statement: &'a Statement,
    verb: &'static str,
    /// The table whose rows are walked.
    walked: TableName,
    /// How the statement speaks of it.
    alias: Ident,
    /// The table that is written.
    written: TableName,
    condition: Option<&'a node::Node>,
    /// Columns it sets.
    sets: Vec<String>,
}

pub(super) const RULE: Rule = Rule {
    name: RECIPE,
    about: "UPDATE, DELETE and INSERT … SELECT over many rows are cut into batches by the table's key, each in a short transaction of its own.",
    manual: "sql-update.html",
    apply: rule,
};

fn rule(statement: &Statement, scene: &Scene) -> Option<Outcome> {
    if let Some(outcome) = given_rows(statement, scene) {
        return Some(outcome);
    }
    let rows = rows(statement, scene)?;
    let live = match scene.relation(&rows.walked) {
        Known::Live(table) if table.kind != TableKind::Foreign => Some(table),
        Known::Unseen => None,
        _ => return None,
    };
    let key = live.map(|table| key(table, scene));
    match key {
        Some(None) => Outcome::finding(blocking(
            statement,
            "DDL_NO_KEY",
            format!(
                "{} has no primary key and no unique index over NOT NULL columns, so its rows cannot be walked in batches",
                rows.walked.plain()
            ),
            "Give it a primary key first (made online here), or change the rows by hand in small pieces.",
        )),
        Some(Some(key)) if is_one_row(&rows, &key) => Some(as_it_is(&rows, scene)),
        Some(Some(key))
            if key.iter().any(|column| rows.sets.iter().any(|set| set == column.name.as_str())) =>
        {
            Outcome::finding(blocking(
                statement,
                "DDL_NO_RULE",
                format!(
                    "it changes the key of {}, by which its batches would be told apart",
                    rows.walked.plain()
                ),
                "Add a column, fill it, and swap the two; or change the rows by hand in small pieces.",
            ))
        }
        key => batched(&rows, scene, key.flatten().unwrap_or_default()),
    }
}

/// The column out of which an UPDATE takes the NULLs, with the statement that takes them out and nothing else.
pub(in crate::ddl) fn fills(statement: &Statement, scene: &Scene) -> Option<(TableName, String, String)> {
    let NodeEnum::UpdateStmt(update) = &statement.tree else { return None };
    let rows = rows(statement, scene)?;
    let [column] = rows.sets.as_slice() else { return None };
    if !matches!(scene.relation(&rows.walked), Known::Live(_) | Known::Unseen) {
        return None;
    }
    let sql = match &update.where_clause {
        // What is set from itself would be set twice.
        None if !rows.reads_what_it_sets(update) => {
            format!("{} where {} is null", statement.sql, Ident::new(column.as_str()))
        }
        Some(condition) if is_null_test(condition, column) => statement.sql.clone(),
        _ => return None,
    };
    Some((rows.walked, column.clone(), sql))
}

fn is_null_test(condition: &node::Node, column: &str) -> bool {
    let Some(NodeEnum::NullTest(test)) = &condition.node else { return false };
    test.nulltesttype() == node::NullTestType::IsNull
        && matches!(test.arg.as_ref().and_then(|arg| arg.node.as_ref()),
            Some(NodeEnum::ColumnRef(named)) if parse::strings(&named.fields).last().is_some_and(|name| name == column))
}

/// INSERT of rows that are written out, or of what a query without tables gives.
fn given_rows(statement: &Statement, scene: &Scene) -> Option<Outcome> {
    let NodeEnum::InsertStmt(insert) = &statement.tree else { return None };
    let written = scene.range(insert.relation.as_ref()?, &statement.search_path);
    if !matches!(scene.relation(&written), Known::Live(_) | Known::Unseen)
        || insert.returning_clause.is_some()
    {
        return None;
    }
    let reads = parse::relations(&statement.tree).len() > 1;
    let is_plain = only_reads(insert.with_clause.as_ref()) && (!reads || is_one_row_of(insert));
    is_plain.then(|| Outcome {
        steps: vec![direct(statement, "insert into", &written, scene)],
        findings: Vec::new(),
    })
}

fn as_it_is(rows: &Rows, scene: &Scene) -> Outcome {
    Outcome { steps: vec![direct(rows.statement, rows.verb, &rows.written, scene)], findings: Vec::new() }
}

/// A few rows: one short transaction.
fn direct(statement: &Statement, verb: &str, written: &TableName, scene: &Scene) -> Online {
    let title = format!("{verb} {}", written.plain());
    let mut step = as_written(statement, RECIPE, title, Cost::brief(locks(statement, written, scene)));
    step.why = "a few rows, in a short transaction".into();
    step
}

/// Whether a statement is cut into batches: it walks the rows of a table in use, and means the same in pieces.
pub(super) fn is_cut(statement: &Statement, scene: &Scene) -> bool {
    rows(statement, scene)
        .is_some_and(|rows| matches!(scene.relation(&rows.walked), Known::Live(_) | Known::Unseen))
}

/// The rows a statement walks, when it is of a form that means the same in batches.
fn rows<'a>(statement: &'a Statement, scene: &Scene) -> Option<Rows<'a>> {
    let path = &statement.search_path;
    let rows = match &statement.tree {
        NodeEnum::UpdateStmt(update)
            if update.returning_clause.is_none() && only_reads(update.with_clause.as_ref()) =>
        {
            let range = update.relation.as_ref()?;
            let sets = update.target_list.iter().filter_map(|item| match &item.node {
                Some(NodeEnum::ResTarget(target)) => Some(target.name.clone()),
                _ => None,
            });
            let table = scene.range(range, path);
            let condition = update.where_clause.as_deref();
            Rows {
                statement,
                verb: "update",
                walked: table.clone(),
                alias: alias(range),
                written: table,
                condition,
                sets: sets.collect(),
            }
        }
        NodeEnum::DeleteStmt(delete)
            if delete.returning_clause.is_none() && only_reads(delete.with_clause.as_ref()) =>
        {
            let range = delete.relation.as_ref()?;
            let table = scene.range(range, path);
            let condition = delete.where_clause.as_deref();
            Rows {
                statement,
                verb: "delete from",
                walked: table.clone(),
                alias: alias(range),
                written: table,
                condition,
                sets: Vec::new(),
            }
        }
        NodeEnum::InsertStmt(insert)
            if insert.returning_clause.is_none() && only_reads(insert.with_clause.as_ref()) =>
        {
            let written = scene.range(insert.relation.as_ref()?, path);
            let NodeEnum::SelectStmt(select) = insert.select_stmt.as_ref()?.node.as_ref()? else {
                return None;
            };
            let range = plain_source(select)?;
            let walked = scene.range(range, path);
            let condition = select.where_clause.as_deref();
            Rows {
                statement,
                verb: "insert into",
                walked,
                alias: alias(range),
                written,
                condition,
                sets: Vec::new(),
            }
        }
        _ => return None,
    };
    // Read again inside, it would show the batches before.
    let again = |(schema, name): &&(String, String)| {
        let named = scene.resolve(schema, name, path);
        named == rows.walked || named == rows.written
    };
    let named = parse::relations(&statement.tree).iter().filter(again).count();
    let expected = if rows.walked == rows.written { 1 } else { 2 };
    let has_cursor = matches!(
        rows.condition.and_then(|condition| condition.node.as_ref()),
        Some(NodeEnum::CurrentOfExpr(_))
    );
    (named == expected && !has_cursor).then_some(rows)
}

fn alias(range: &node::RangeVar) -> Ident {
    Ident::new(range.alias.as_ref().map_or(range.relname.as_str(), |alias| alias.aliasname.as_str()))
}

impl Rows<'_> {
    fn reads_what_it_sets(&self, update: &node::UpdateStmt) -> bool {
        let values = update.target_list.iter().filter_map(|item| item.node.as_ref());
        values.flat_map(parse::columns).any(|column| self.sets.contains(&column))
    }
}

/// The key by which a table's rows are walked: the primary one, else a unique one that cannot be NULL.
fn key(table: &Table, scene: &Scene) -> Option<Vec<KeyColumn>> {
    let type_of = |column: &str| scene.type_text(&table.name, column);
    let text = |column: &Ident| column.as_str().to_owned();
    let seen = table
        .indexes
        .iter()
        .filter(|index| index.unique && index.valid && index.plain && !index.columns.is_empty())
        .filter(|index| index.definition.contains(" USING btree ") && scene.is_as_made(&table.name, index))
        .map(|index| (index.primary, index.columns.iter().map(text).collect::<Vec<String>>()));
    let made = scene.made_keys(&table.name);
    let is_proved = |columns: &[String]| {
        columns.iter().all(|column| scene.is_not_null(&table.name, column) && type_of(column).is_some())
    };
    let mut usable: Vec<_> = seen.chain(made).filter(|(_, columns)| is_proved(columns)).collect();
    usable.sort_by_key(|(is_primary, columns)| (!is_primary, columns.len()));
    let column = |name: &String| Some(KeyColumn { name: Ident::new(name), type_name: type_of(name)? });
    usable.first()?.1.iter().map(column).collect()
}

/// `where id = 5`: the key's every column is held to a value.
fn is_one_row(rows: &Rows, key: &[KeyColumn]) -> bool {
    fn conjuncts(node: &node::Node) -> Vec<&node::Node> {
        match &node.node {
            Some(NodeEnum::BoolExpr(both)) if both.boolop() == node::BoolExprType::AndExpr => {
                both.args.iter().flat_map(conjuncts).collect()
            }
            _ => vec![node],
        }
    }
    let held = |node: &&node::Node| match &node.node {
        Some(NodeEnum::AExpr(test))
            if parse::strings(&test.name) == ["="] && test.kind() == node::AExprKind::AexprOp =>
        {
            let constant = test.rexpr.as_ref()?.node.as_ref()?;
            match (test.lexpr.as_ref()?.node.as_ref()?, constant) {
                (NodeEnum::ColumnRef(named), NodeEnum::AConst(_) | NodeEnum::TypeCast(_)) => {
                    parse::strings(&named.fields).pop()
                }
                _ => None,
            }
        }
        _ => None,
    };
    let Some(condition) = rows.condition else { return false };
    let held: Vec<String> = conjuncts(condition).iter().filter_map(held).collect();
    rows.verb != "insert into"
        && key.iter().all(|column| held.iter().any(|held| held == column.name.as_str()))
}

fn locks(statement: &Statement, written: &TableName, scene: &Scene) -> Vec<LockTaken> {
    let mut locks = Vec::new();
    if !matches!(scene.relation(written), Known::New) {
        locks.push(LockTaken {
            relation: written.clone(),
            mode: LockMode::RowExclusive,
            role: LockRole::Target,
        });
        locks.extend(scene.all_partitions(written).iter().map(|part| LockTaken {
            relation: part.name.clone(),
            mode: LockMode::RowExclusive,
            role: LockRole::Partition,
        }));
    }
    let read = parse::relations(&statement.tree)
        .into_iter()
        .map(|(schema, name)| scene.resolve(&schema, &name, &statement.search_path));
    for relation in read.filter(|relation| {
        relation != written && matches!(scene.relation(relation), Known::Live(_) | Known::Unseen)
    }) {
        let lock = LockTaken { relation, mode: LockMode::AccessShare, role: LockRole::Read };
        if !locks.contains(&lock) {
            locks.push(lock);
        }
    }
    locks
}

fn batched(rows: &Rows, scene: &Scene, key: Vec<KeyColumn>) -> Option<Outcome> {
    let statement = rows.statement;
    let (head, tail) = cut::cut(rows)?;
    let backfill = Backfill { table: rows.walked.clone(), key, head, tail, alias: rows.alias.to_string() };
    let title = match rows.verb {
        "insert into" => {
            format!("insert into {} in batches from {}", rows.written.plain(), rows.walked.plain())
        }
        "update" => format!("update {} set {} in batches", rows.written.plain(), rows.sets.join(", ")),
        verb => format!("{verb} {} in batches", rows.written.plain()),
    };
    let cost = Cost { scan: true, ..Cost::brief(locks(statement, &rows.written, scene)) };
    let mut step = as_written(statement, RECIPE, title, cost);
    step.class = Class::Backfill;
    step.retry = Retry::BATCH;
    step.verify = Verify::BatchesDone;
    step.why =
        "in one transaction every row it touches would stay locked, and dead rows be kept, until its end"
            .into();
    step.backfill = Some(backfill);
    Some(Outcome { steps: vec![step], findings: reads_others(rows, scene).into_iter().collect() })
}

/// What it reads elsewhere may change from one batch to the next.
fn reads_others(rows: &Rows, scene: &Scene) -> Option<crate::finding::Finding> {
    let others: Vec<String> = locks(rows.statement, &rows.written, scene)
        .iter()
        .filter(|lock| lock.role == LockRole::Read && lock.relation != rows.walked)
        .map(|lock| lock.relation.plain())
        .collect();
    (!others.is_empty()).then(|| {
        info(
            rows.statement,
            "DDL_BATCHES_READ",
            format!("each batch reads {} as it is at its time, not all as at one", others.join(", ")),
            "Nothing to do, if the rows read there do not change meanwhile.",
        )
    })
}

#[cfg(test)]
mod tests {
    use crate::ddl::{
        SqlFile, rewrite,
        tests::{live, on_live, told},
    };

    fn cut(sql: &str) -> (String, String) {
        let result = rewrite(&[SqlFile::new("a.sql", sql)], Some(&live()));
        let backfill = result.statements[0].backfill.clone().unwrap();
        assert_eq!(backfill.key[0].name.as_str(), "id");
        (backfill.head, backfill.tail)
    }

    #[test]
    fn the_key_is_the_one_that_is_there_by_then() {
        let key = |sql: &str| {
            let sql = format!("{sql}; update words set tx = 'x'");
            let result = rewrite(&[SqlFile::new("a.sql", sql)], Some(&live()));
            let last = result.statements.last().and_then(|step| step.backfill.clone());
            last.map(|last| format!("{} {}", last.key[0].name.as_str(), last.key[0].type_name))
        };
        assert_eq!(key("select 1").unwrap(), "id integer");
        assert_eq!(key("alter table words alter id type bigint").unwrap(), "id \"int8\"");
        let remade = "alter table words rename id to old; alter table words add column id uuid";
        assert_eq!(key(remade), None);
        let with_key = "alter table words alter n set not null; alter table words drop constraint words_pkey, add primary key (n)";
        assert_eq!(key(with_key).unwrap(), "n integer");
    }

    #[test]
    fn a_change_of_many_rows_is_cut_by_the_key() {
        assert_eq!(cut("update t set a = 1"), ("update t set a = 1 where ".into(), String::new()));
        assert_eq!(
            cut("update t x set a = (select 1 where true) where a = 1 or b = 2 -- end"),
            ("update t x set a = (select 1 where true) where (a = 1 or b = 2) and ".into(), String::new())
        );
        assert_eq!(
            cut("delete from t where a = 1 and b = 2").0,
            "delete from t where (a = 1 and b = 2) and "
        );
        assert_eq!(
            cut("insert into r (id, a) select id, a from t where b > 0 on conflict (id) do nothing"),
            (
                "insert into r (id, a) select id, a from t where (b > 0) and ".into(),
                " on conflict (id) do nothing".into()
            )
        );
        assert_eq!(on_live("update t set a = 1"), ["backfill, ROW EXCLUSIVE t: update t set a = 1"]);
    }

    #[test]
    fn a_few_rows_run_as_they_are() {
        for sql in [
            "update t set a = 1 where id = 5",
            "delete from t where id = 5 and a = 1",
            "insert into t (a) values (1), (2)",
            "insert into t (a) select 1 where not exists (select from t where a = 1)",
        ] {
            assert_eq!(on_live(sql), [format!("catalog, ROW EXCLUSIVE t: {sql}")]);
        }
    }

    #[test]
    fn what_would_mean_something_else_in_batches_is_refused() {
        for sql in [
            "update t set id = id + 1",
            "update t set a = (select max(a) from t)",
            "update t set a = 1 returning id",
            "with x as (delete from r returning id) update t set a = 1 from x where x.id = t.id",
            "with x as (select max(a) as a from t) update t set a = x.a from x",
            "with x as (select id from r) insert into t (id) select id from x",
            "insert into r select count(*) from t",
            "insert into r select id from t order by a limit 5",
            "insert into t select id from t",
            "insert into t select unnest(array[1]) where not exists (select from t where a = 1)",
        ] {
            assert_eq!(on_live(sql), ["blocking DDL_NO_RULE"], "{sql}");
        }
        assert_eq!(on_live("update x set a = 1"), ["blocking DDL_NO_KEY"]);
        assert!(told("update x set a = 1", None)[0].starts_with("backfill"));
    }

    #[test]
    fn why_it_is_not_cut_is_said() {
        use crate::ddl::{SqlFile, rewrite};
        for (sql, why) in [
            ("update t set a = (select max(a) from t)", "it reads the table that it writes"),
            ("insert into t (a) select r.id from r join x on x.a = r.id", "its rows come from a join"),
            (
                "with x as (delete from r returning id) update t set a = 1 from x where x.id = t.id",
                "its WITH writes",
            ),
            ("delete from t where a > 1 returning id", "it returns rows"),
            ("merge into t using r on r.id = t.a when matched then delete", "MERGE is not cut here"),
        ] {
            let findings = rewrite(&[SqlFile::new("a.sql", sql)], Some(&crate::ddl::tests::live())).findings;
            assert!(findings[0].what.contains(why), "{sql}: {findings:#?}");
        }
    }

    #[test]
    fn a_with_that_only_reads_goes_along() {
        let with = "with x as (select id from r) update t set a = 1 from x where x.id = t.id";
        assert_eq!(on_live(with)[0], format!("backfill, ROW EXCLUSIVE t + ACCESS SHARE r: {with}"));
    }

    #[test]
    fn what_is_read_beside_is_named() {
        assert_eq!(
            on_live("update t set a = r.a from r where r.id = t.b"),
            [
                "backfill, ROW EXCLUSIVE t + ACCESS SHARE r: update t set a = r.a from r where r.id = t.b",
                "info DDL_BATCHES_READ"
            ]
        );
    }
}
