//! DROP INDEX: one CONCURRENTLY for each name; a partitioned index has no such form and is dropped under brief locks.

use super::{
    Outcome, Rule, as_written, blocking, concurrently,
    expand::{cascade_unseen, in_turn, instead_of},
    function::without_cascade,
    warning,
};
use crate::{
    ddl::{
        edit::{self, Edit},
        lock::{Cost, LockMode, LockRole, LockTaken},
        parse::{self, NodeEnum, node},
        scene::{self, ForeignKey, Rests, Scene},
        source::Statement,
        statement::{Undo, Verify},
    },
    facts::{Index, Table, TableKind},
    pg::name::TableName,
};

const RECIPE: &str = "drop_index";

/// A DROP INDEX statement, if it is one.
pub(in crate::ddl) fn of(statement: &Statement) -> Option<&node::DropStmt> {
    match &statement.tree {
        NodeEnum::DropStmt(drop) if drop.remove_type() == node::ObjectType::ObjectIndex => Some(drop),
        _ => None,
    }
}

pub(super) const RULE: Rule = Rule {
    name: RECIPE,
    about: "Each index is dropped CONCURRENTLY; a partitioned one has no such form and is dropped under brief locks.",
    manual: "sql-dropindex.html",
    apply: rule,
};

fn rule(statement: &Statement, scene: &Scene) -> Option<Outcome> {
    let drop = of(statement)?;
    let [(schema, name)] = scene::dropped_names(drop).try_into().ok()?;
    let index = scene.resolve(&schema, &name, &statement.search_path);
    let live = scene.index(&index);
    if let Some((table, constraint)) =
        live.and_then(|(table, index)| Some((table, index.constraint.as_ref()?)))
    {
        return Outcome::finding(blocking(
            statement,
            "DDL_INDEX_OF_CONSTRAINT",
            format!(
                "{} belongs to the constraint {} of {}; the server refuses to drop it alone",
                index.plain(),
                constraint.as_str(),
                table.name.plain()
            ),
            "Drop the constraint instead: ALTER TABLE … DROP CONSTRAINT.",
        ));
    }
    if drop.behavior() == node::DropBehavior::DropCascade {
        return cascade(statement, scene, &index, live);
    }
    let mut outcome = match live {
        Some((table, _)) if table.kind == TableKind::Partitioned => {
            partitioned(statement, scene, drop, &index, table)
        }
        _ => plain(statement, drop, &index, live)?,
    };
    if live.is_none() && scene.looked() && !drop.missing_ok && scene.made_index(&index).is_none() {
        outcome.findings.push(warning(
            statement,
            "DDL_ALREADY_ABSENT",
            format!("there is no index {} on the database", index.plain()),
            "If an earlier run dropped it, nothing to do; otherwise correct the name, since as it stands nothing is dropped.",
        ));
    }
    Some(outcome)
}

/// DROP INDEX … CASCADE: the foreign keys that rest on it, each in a transaction of its own, then the index.
fn cascade(
    statement: &Statement,
    scene: &Scene,
    index: &TableName,
    live: Option<(&Table, &Index)>,
) -> Option<Outcome> {
    // A key seen on the database rests on an index by the name it was seen with.
    let found = live.map(|(table, seen)| (&table.name, &seen.name));
    let Some((table, held_by)) = found.or_else(|| Some((scene.made_index(index)?, &index.name))) else {
        return if scene.looked() {
            in_turn(statement, scene, RECIPE, &[without_cascade(statement)?])
        } else {
            cascade_unseen(statement, "DROP INDEX")
        };
    };
    let mut keys = scene.referring(table);
    if let Some(key) = keys.iter().find(|key| key.rests_on(held_by) == Rests::Perhaps) {
        return Outcome::finding(blocking(
            statement,
            "DDL_CASCADE",
            format!(
                "the foreign key {} rests on {} or on another unique index of the same columns: before it runs it cannot be told whether it falls with it",
                key.plain(),
                index.plain()
            ),
            "Drop that foreign key in a statement of its own before, if it is to go; and the index without CASCADE.",
        ));
    }
    keys.retain(|key| key.rests_on(held_by) == Rests::Yes);
    let mut sqls: Vec<String> = keys.iter().map(ForeignKey::dropped).collect();
    sqls.push(without_cascade(statement)?);
    let exclusive = |relation: &TableName| LockTaken {
        relation: relation.clone(),
        mode: LockMode::AccessExclusive,
        role: LockRole::Table,
    };
    let locks = [exclusive(table)].into_iter().chain(keys.iter().map(|key| exclusive(&key.table)));
    let mut outcome = instead_of(in_turn(statement, scene, RECIPE, &sqls), Cost::brief(locks.collect()))?;
    outcome.findings.extend(keys.iter().map(|key| {
        warning(
            statement,
            "DDL_KEY_GONE",
            format!("the foreign key {} rests on {} and falls with it: rows are not checked any more", key.plain(), index.plain()),
            "Make another unique index first, and the foreign key on it (ADD … NOT VALID, VALIDATE), if the check is still wanted.",
        )
    }));
    Some(outcome)
}

fn plain(
    statement: &Statement,
    drop: &node::DropStmt,
    index: &TableName,
    live: Option<(&Table, &Index)>,
) -> Option<Outcome> {
    let mut wanted = drop.clone();
    wanted.concurrent = true;
    let tokens = parse::tokens(&statement.sql).ok()?;
    let at = tokens.get(edit::find(&tokens, node::Token::Index)?)?.end;
    let edits = if drop.concurrent { Vec::new() } else { vec![Edit::insert(at, " CONCURRENTLY")] };
    let sql = edit::proved(&statement.sql, edits, &NodeEnum::DropStmt(wanted))?;
    // Offline we do not know the index's table; the index stands for it.
    let relation = live.map_or_else(|| index.clone(), |(table, _)| table.name.clone());
    let lock = |mode| LockTaken { relation: relation.clone(), mode, role: LockRole::Table };
    let title = format!("drop index {}", index.name.as_str());
    let step = as_written(statement, RECIPE, title, Cost::brief(vec![lock(LockMode::ShareUpdateExclusive)]));
    let mut step = concurrently(step, sql, Verify::IndexAbsent { index: index.clone() });
    step.was = (!drop.concurrent).then(|| Cost::brief(vec![lock(LockMode::AccessExclusive)]));
    step.why = "readers and writers go on; it waits until no query uses the index any more".into();
    step.undo = Some(Undo::RecreateIndex { index: index.clone() });
    Outcome::step(step)
}

fn partitioned(
    statement: &Statement,
    scene: &Scene,
    drop: &node::DropStmt,
    index: &TableName,
    table: &Table,
) -> Outcome {
    let exclusive = |relation: &TableName, role| LockTaken {
        relation: relation.clone(),
        mode: LockMode::AccessExclusive,
        role,
    };
    let mut locks = vec![exclusive(&table.name, LockRole::Table)];
    locks.extend(
        scene.all_partitions(&table.name).iter().map(|part| exclusive(&part.name, LockRole::Partition)),
    );
    let title = format!("drop partitioned index {}", index.name.as_str());
    let mut step = as_written(statement, RECIPE, title, Cost::brief(locks));
    step.why =
        "a partitioned index has no concurrent drop: the table and its partitions are locked for a moment"
            .into();
    let mut findings = Vec::new();
    if drop.concurrent {
        findings.push(blocking(
            statement,
            "DDL_NO_RULE",
            format!("{} is a partitioned index: the server refuses to drop it CONCURRENTLY", index.plain()),
            "Write DROP INDEX; it runs under a brief ACCESS EXCLUSIVE lock with retries.",
        ));
        return Outcome { steps: Vec::new(), findings };
    }
    Outcome { steps: vec![step], findings }
}

/// The statement cut into one for each index it names, each keeping its own spelling.
pub(in crate::ddl) fn one_by_one(statement: Statement) -> Vec<Statement> {
    let Some(drop) = of(&statement).filter(|drop| drop.objects.len() > 1) else { return vec![statement] };
    let cut = || {
        use node::Token as Kind;
        let tokens = parse::tokens(&statement.sql).ok()?;
        let index = edit::find(&tokens, Kind::Index)?;
        let is_keyword = |kind| matches!(kind, Kind::Concurrently | Kind::IfP | Kind::Exists);
        let first = index + 1 + tokens[index + 1..].iter().position(|token| !is_keyword(token.kind))?;
        let tail =
            tokens[first..].iter().position(|token| matches!(token.kind, Kind::Cascade | Kind::Restrict));
        let last = tail.map_or(tokens.len(), |tail| first + tail);
        let head = &statement.sql[..tokens[first].start];
        let rest = tail.map_or("", |_| &statement.sql[tokens[last - 1].end..]);
        let names = tokens[first..last].split(|token| token.kind == Kind::Ascii44);
        names
            .zip(&drop.objects)
            .map(|(name, object)| {
                let mut wanted = drop.clone();
                wanted.objects = vec![object.clone()];
                let wanted = NodeEnum::DropStmt(wanted);
                let name = &statement.sql[name.first()?.start..name.last()?.end];
                let sql = edit::proved(&format!("{head}{name}{rest}"), Vec::new(), &wanted)?;
                Some(Statement { sql, tree: wanted, ..statement.clone() })
            })
            .collect::<Option<Vec<_>>>()
    };
    match cut() {
        Some(parts) => parts,
        None => vec![statement],
    }
}

#[cfg(test)]
mod tests {
    use crate::ddl::tests::on_live;

    #[test]
    fn several_become_several_each_concurrently() {
        assert_eq!(
            on_live("drop index if exists t_a, /* two */ public.\"t_uq\" restrict"),
            [
                "concurrent, SHARE UPDATE EXCLUSIVE t: drop index CONCURRENTLY if exists t_a restrict",
                "concurrent, SHARE UPDATE EXCLUSIVE t: drop index CONCURRENTLY if exists public.\"t_uq\" restrict",
            ]
        );
    }

    #[test]
    fn a_partitioned_index_is_dropped_under_brief_locks_on_all() {
        assert_eq!(
            on_live("drop index p_a"),
            [
                "brief, ACCESS EXCLUSIVE p + ACCESS EXCLUSIVE p1 + ACCESS EXCLUSIVE sub + ACCESS EXCLUSIVE sub1: drop index p_a"
            ]
        );
        assert_eq!(on_live("drop index concurrently p_a"), ["blocking DDL_NO_RULE"]);
    }

    #[test]
    fn a_constraints_index_is_refused() {
        assert_eq!(on_live("drop index t_pkey"), ["blocking DDL_INDEX_OF_CONSTRAINT"]);
        assert_eq!(on_live("drop index t_pkey cascade"), ["blocking DDL_INDEX_OF_CONSTRAINT"]);
    }

    #[test]
    fn the_foreign_keys_that_rest_on_it_fall_one_by_one() {
        assert_eq!(
            on_live("drop index r_uq cascade"),
            [
                "brief, ACCESS EXCLUSIVE t + ACCESS EXCLUSIVE r: alter table \"public\".\"t\" drop constraint \"t_r_fk\"",
                "concurrent, SHARE UPDATE EXCLUSIVE r: drop index CONCURRENTLY r_uq",
                "warning DDL_KEY_GONE",
            ]
        );
        assert_eq!(
            on_live("drop index t_uq cascade"),
            ["concurrent, SHARE UPDATE EXCLUSIVE t: drop index CONCURRENTLY t_uq"]
        );
        assert_eq!(crate::ddl::tests::told("drop index t_uq cascade", None), ["blocking DDL_CASCADE"]);
    }

    /// What falls with `drop index …`, when it runs after `before`.
    fn fallen(before: &str, drop: &str) -> Vec<String> {
        let without = on_live(before);
        let told = on_live(&format!("{before}; {drop}"));
        told.into_iter().filter(|line| !without.contains(line)).collect()
    }

    #[test]
    fn a_foreign_key_that_the_plan_made_falls_too() {
        for (before, falls) in [
            (
                "alter table t add constraint k foreign key (a) references r (id)",
                "\"public\".\"t\" drop constraint \"k\"",
            ),
            (
                "create table n (r_id int); alter table n add foreign key (r_id) references r (id)",
                "\"public\".\"n\" drop constraint \"n_r_id_fkey\"",
            ),
            (
                "create table n (a int); alter table n add column r_id int constraint k references r (id)",
                "\"public\".\"n\" drop constraint \"k\"",
            ),
            (
                "create table n (r_id int references r (id) on delete cascade)",
                "\"public\".\"n\" drop constraint \"n_r_id_fkey\"",
            ),
            (
                "create table n (b int, foreign key (b) references r (id)); alter table n rename to m; alter table m rename constraint n_b_fkey to x",
                "\"public\".\"m\" drop constraint \"x\"",
            ),
        ] {
            let told = fallen(before, "drop index r_uq cascade");
            let drops = told.iter().any(|line| {
                line.starts_with("brief, ") && line.contains("ACCESS EXCLUSIVE r") && line.ends_with(falls)
            });
            assert!(drops && told.contains(&"warning DDL_KEY_GONE".to_owned()), "{before}: {told:#?}");
            assert!(
                told.contains(
                    &"concurrent, SHARE UPDATE EXCLUSIVE r: drop index CONCURRENTLY r_uq".to_owned()
                ),
                "{told:#?}"
            );
        }
        let told = fallen(
            "create table n (r_id int references r (id)); alter table n drop constraint n_r_id_fkey",
            "drop index r_uq cascade",
        );
        assert!(!told.iter().any(|line| line.contains("n_r_id_fkey")), "{told:#?}");
        let told =
            fallen("create table n (r_id int references r (id)); drop table n", "drop index r_uq cascade");
        assert!(!told.iter().any(|line| line.contains("n_r_id_fkey")), "{told:#?}");
    }

    #[test]
    fn a_foreign_key_falls_with_an_index_that_the_plan_made() {
        let made = "create unique index u on r (a); create table n (r_a int constraint k references r (a))";
        let told = fallen(made, "drop index u cascade");
        assert!(told.iter().any(|line| line.ends_with("\"n\" drop constraint \"k\"")), "{told:#?}");
        let renamed = fallen(&format!("{made}; alter index u rename to w"), "drop index w cascade");
        assert!(renamed.iter().any(|line| line.ends_with("\"n\" drop constraint \"k\"")), "{renamed:#?}");
        assert_eq!(fallen(made, "drop index r_uq cascade").len(), 3, "k does not rest on it");
    }

    #[test]
    fn on_which_of_two_it_rests_only_the_server_can_tell() {
        let made =
            "create unique index u on r (id); create table n (r_id int constraint k references r (id))";
        assert_eq!(fallen(made, "drop index u cascade"), ["blocking DDL_CASCADE"]);
        assert_eq!(fallen(made, "drop index r_uq cascade"), ["blocking DDL_CASCADE"]);
    }

    #[test]
    fn a_foreign_key_seen_falls_by_its_names_of_now() {
        let renamed = "alter table t rename to t2; alter table t2 rename constraint t_r_fk to k";
        let told = fallen(renamed, "drop index r_uq cascade");
        assert!(told[0].ends_with("alter table \"public\".\"t2\" drop constraint \"k\""), "{told:#?}");
    }

    #[test]
    fn an_index_that_is_not_there_is_said() {
        assert_eq!(on_live("drop index gone")[1..], ["warning DDL_ALREADY_ABSENT"]);
        assert_eq!(on_live("drop index if exists gone").len(), 1);
    }
}
