//! CREATE TABLE … PARTITION OF: locks the whole table, so a table of the same shape is made and attached.

use super::{
    super::{
        Outcome, Rule, as_written, blocking,
        expand::{exclusive, in_turn, instead_of},
        info, unknown_relation,
    },
    bound,
};
use crate::{
    ddl::{
        lock::{Cost, LockMode, LockRole, LockTaken},
        parse::{
            self, NodeEnum,
            node::{self, Token as Kind},
        },
        scene::{Known, Scene},
        source::Statement,
    },
    pg::name::{Ident, TableName},
};

const RECIPE: &str = "create_partition";

/// What a partition made in place has of its parent. Identity comes with attaching.
const LIKE: &str = "including all excluding identity excluding comments excluding statistics";

pub(in crate::ddl::rules) const RULE: Rule = Rule {
    name: RECIPE,
    about: "CREATE TABLE … PARTITION OF locks the whole table, so a table of the same shape is made and attached.",
    manual: "ddl-partitioning.html",
    apply: rule,
};

fn rule(statement: &Statement, scene: &Scene) -> Option<Outcome> {
    let NodeEnum::CreateStmt(create) = &statement.tree else { return None };
    let [parent] = create.inh_relations.as_slice() else { return None };
    let Some(NodeEnum::RangeVar(parent)) = &parent.node else { return None };
    let parent = scene.range(parent, &statement.search_path);
    match scene.relation(&parent) {
        Known::New => return None,
        Known::Missing => return Outcome::finding(unknown_relation(statement, &parent)),
        _ => {}
    }
    let own = own_name(create, &statement.search_path);
    if create.partbound.is_none() {
        return child(statement, &parent, &own);
    }
    if create.if_not_exists && matches!(scene.relation(&own), Known::Live(_)) {
        return Outcome::finding(info(
            statement,
            "DDL_ALREADY_THERE",
            format!(
                "{} exists already; as it is written, the statement would lock {} to find that out",
                own.plain(),
                parent.plain()
            ),
            "Nothing to do.",
        ));
    }
    let default = scene.default_partition(&parent);
    let mut locks = vec![exclusive(&parent, LockRole::Parent)];
    locks.extend(default.map(|default| exclusive(default, LockRole::Partition)));
    let was = Cost { scan: default.is_some(), ..Cost::brief(locks) };
    match as_two(statement, &parent, &own) {
        Some(sqls) => instead_of(in_turn(statement, scene, RECIPE, &sqls), was),
        None if was.scan => Outcome::finding(blocking(
            statement,
            "DDL_NO_RULE",
            format!(
                "the DEFAULT partition of {} is read while everybody waits, and a partition with columns of its own cannot be rewritten",
                parent.plain()
            ),
            "CREATE TABLE … (LIKE parent INCLUDING ALL), change its columns, then ALTER TABLE … ATTACH PARTITION.",
        )),
        None => {
            let mut step = as_written(statement, RECIPE, format!("create partition {}", own.plain()), was);
            step.why = "only the catalog changes; the table is locked for a moment".into();
            Outcome::step(step)
        }
    }
}

fn own_name(create: &node::CreateStmt, path: &[Ident]) -> TableName {
    let range = create.relation.clone().unwrap_or_default();
    let first = path.first().map_or("public", Ident::as_str);
    let schema = if range.schemaname.is_empty() { first } else { range.schemaname.as_str() };
    TableName::new(schema, range.relname.as_str())
}

/// INHERITS: the parent is locked against other changes of its shape only.
fn child(statement: &Statement, parent: &TableName, own: &TableName) -> Option<Outcome> {
    let lock =
        LockTaken { relation: parent.clone(), mode: LockMode::ShareUpdateExclusive, role: LockRole::Parent };
    let title = format!("create table {}", own.plain());
    let mut step = as_written(statement, RECIPE, title, Cost::brief(vec![lock]));
    step.why = "readers and writers of the parent go on".into();
    Outcome::step(step)
}

/// The table by itself, and its attaching.
fn as_two(statement: &Statement, parent: &TableName, own: &TableName) -> Option<Vec<String>> {
    let sql = &statement.sql;
    let tokens = parse::tokens(sql).ok()?;
    let of =
        tokens.windows(2).position(|pair| pair[0].kind == Kind::Partition && pair[1].kind == Kind::Of)?;
    // The parent's name: one word, or two with a dot. Then the bound; anything else is columns of its own.
    let first = of + 3;
    let first = if tokens.get(first)?.kind == Kind::Ascii46 { first + 2 } else { first };
    let (_, after) = bound::read(sql, &tokens, first)?;
    let bound = &sql[tokens[first].start..tokens[after - 1].end];
    let head = sql[..tokens[of].start].trim_end();
    let tail = tokens.get(after).map_or("", |token| &sql[token.start..]);
    let create = format!("{head} (like {parent} {LIKE}) {tail}");
    let attach = format!("alter table {parent} attach partition {own} {bound}");
    // Same table, same options, same bound: read back from what is written.
    let NodeEnum::CreateStmt(before) = &statement.tree else { return None };
    let NodeEnum::CreateStmt(made) = parse::parse_one(&create).ok()? else { return None };
    let mut wanted = before.clone();
    wanted.inh_relations.clear();
    wanted.partbound = None;
    wanted.table_elts.clone_from(&made.table_elts);
    parse::same_tree(&NodeEnum::CreateStmt(made), &NodeEnum::CreateStmt(wanted)).then_some(())?;
    Some(vec![create.trim_end().to_owned(), attach])
}

#[cfg(test)]
mod tests {
    use crate::ddl::tests::{on_live, told};

    const LIKE: &str = super::LIKE;

    #[test]
    fn it_is_made_beside_the_table_and_attached() {
        assert_eq!(
            on_live("create table if not exists p9 partition of public.p for values in (9) with (fillfactor = 70)"),
            [
                format!("catalog, no lock: create table if not exists p9 (like \"public\".\"p\" {LIKE}) with (fillfactor = 70)"),
                "catalog, SHARE UPDATE EXCLUSIVE p: alter table \"public\".\"p\" attach partition \"public\".\"p9\" for values in (9)".into(),
            ]
        );
        assert_eq!(told("create table p9 partition of p for values in (9)", None).len(), 2);
    }

    #[test]
    fn columns_of_its_own_need_the_lock() {
        let sql = "create table p9 partition of p (a default 5) for values in (9)";
        assert_eq!(on_live(sql), [format!("brief, ACCESS EXCLUSIVE p: {sql}")]);
        let sql = "create table d9 partition of d (a default 5) for values from (9) to (10)";
        assert_eq!(on_live(sql), ["blocking DDL_NO_RULE"]);
    }

    #[test]
    fn what_is_there_is_left_alone() {
        assert_eq!(
            on_live("create table if not exists p1 partition of p for values in (1)"),
            ["info DDL_ALREADY_THERE"]
        );
        assert_eq!(on_live("create table x partition of nowhere default"), ["blocking DDL_UNKNOWN_RELATION"]);
    }

    #[test]
    fn a_child_by_inheritance_lets_the_parent_go_on() {
        assert_eq!(
            on_live("create table x () inherits (t)"),
            ["catalog, SHARE UPDATE EXCLUSIVE t: create table x () inherits (t)"]
        );
    }
}
