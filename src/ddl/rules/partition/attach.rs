//! ATTACH PARTITION: what the server would read, build or check under ACCESS EXCLUSIVE is proved before, beside the others.
//!
//! A CHECK that says the same as the bound spares reading the new partition, one that says the opposite spares reading the
//! DEFAULT partition; matching indexes and foreign keys are taken over as they are.

use super::{
    super::{
        Outcome, Rule, as_written, blocking,
        expand::{exclusive, in_turn, instead_of, referenced},
        index_name, unknown_relation,
    },
    bound::{self, Bound},
};
use crate::{
    ddl::{
        lock::{Cost, LockMode, LockRole, LockTaken},
        parse::{
            self, NodeEnum,
            node::{self, AlterTableType, ConstrType, Token as Kind},
        },
        scene::{ForeignKey, Known, Scene, constraint_node},
        source::Statement,
    },
    facts::{Constraint, Partitioned, Table, TableKind},
    pg::name::{Ident, TableName},
};
use std::collections::BTreeMap;

const RECIPE: &str = "attach_partition";

pub(in crate::ddl::rules) const RULE: Rule = Rule {
    name: RECIPE,
    about: "What ATTACH PARTITION would read, build or check under ACCESS EXCLUSIVE is proved before, beside readers and writers.",
    manual: "ddl-partitioning.html",
    apply: rule,
};

fn rule(statement: &Statement, scene: &Scene) -> Option<Outcome> {
    let NodeEnum::AlterTableStmt(alter) = &statement.tree else { return None };
    let [command] = alter.cmds.as_slice() else { return None };
    let Some(NodeEnum::AlterTableCmd(command)) = &command.node else { return None };
    let in_tables = alter.objtype() == node::ObjectType::ObjectTable;
    if !in_tables || command.subtype() != AlterTableType::AtAttachPartition {
        return None;
    }
    let Some(NodeEnum::PartitionCmd(part)) = command.def.as_ref()?.node.as_ref() else { return None };
    let parent = scene.range(alter.relation.as_ref()?, &statement.search_path);
    let partition = scene.range(part.name.as_ref()?, &statement.search_path);
    for name in [&parent, &partition] {
        if matches!(scene.relation(name), Known::Missing) {
            return Outcome::finding(unknown_relation(statement, name));
        }
    }
    let tokens = parse::tokens(&statement.sql).ok()?;
    let first = tokens.iter().rposition(|token| token.kind == Kind::Values).map(|at| at - 1);
    let (bound, _) = bound::read(&statement.sql, &tokens, first.unwrap_or(tokens.len() - 1))?;
    let attach = Attach { statement, scene, parent, partition, bound };
    match attach.before() {
        Ok(sqls) if sqls.is_empty() => attach.as_it_is(),
        Ok(mut sqls) => {
            let checks: Vec<String> = sqls.iter().filter_map(|sql| undone(sql)).collect();
            sqls.push(statement.sql.clone());
            sqls.extend(checks);
            let was = Cost { scan: true, ..attach.cost() };
            instead_of(in_turn(statement, scene, RECIPE, &sqls), was)
        }
        Err((what, help)) => Outcome::finding(blocking(statement, "DDL_NO_RULE", what, help)),
    }
}

/// A CHECK of ours is in the way of nobody, but serves for the attaching only.
fn undone(sql: &str) -> Option<String> {
    let (head, rest) = sql.split_once(" add constraint ")?;
    rest.contains(" check (").then(|| {
        let name = rest.split(" check (").next().unwrap_or_default();
        format!("{head} drop constraint {name}")
    })
}

type Refusal = (String, &'static str);

struct Attach<'a> {
    statement: &'a Statement,
    scene: &'a Scene<'a>,
    parent: TableName,
    partition: TableName,
    bound: Bound,
}

impl Attach<'_> {
    /// The partition, when it may hold rows.
    fn with_rows(&self) -> Option<&Table> {
        match self.scene.relation(&self.partition) {
            Known::Live(table) => Some(table),
            _ => None,
        }
    }

    /// What is done before, so that attaching reads and builds nothing.
    fn before(&self) -> Result<Vec<String>, Refusal> {
        let mut sqls = Vec::new();
        let unseen = matches!(self.scene.relation(&self.partition), Known::Unseen);
        if unseen {
            let what = format!(
                "attaching {} reads its rows under ACCESS EXCLUSIVE, unless a CHECK says that they belong there; nobody has looked how {} is cut",
                self.partition.plain(),
                self.parent.plain()
            );
            return Err((what, "Plan with the database, then the CHECK is written and proved first."));
        }
        let cut = self.scene.partitioned(&self.parent);
        if let (Some(table), Some(cut)) = (self.with_rows(), cut) {
            sqls.extend(self.prove(&table.name, &self.within(cut)?)?);
            sqls.extend(self.indexes(table)?);
            sqls.extend(self.foreign_keys(table)?);
        }
        if let (Some(default), Some(cut)) = (self.scene.default_partition(&self.parent), cut)
            && self.bound != Bound::Default
        {
            let expression = bound::expression(cut, &self.bound).ok_or_else(|| self.no_check())?;
            sqls.extend(self.prove(default, &format!("not ({expression})"))?);
        }
        Ok(sqls)
    }

    /// What holds for every row of the partition: its bound, and its table's own when that is a partition itself.
    fn within(&self, cut: &Partitioned) -> Result<String, Refusal> {
        let expression = bound::expression(cut, &self.bound).ok_or_else(|| self.no_check())?;
        Ok(match &cut.constraint {
            Some(own) => format!("{own} and ({expression})"),
            None => expression,
        })
    }

    fn no_check(&self) -> Refusal {
        let what = format!(
            "attaching {} reads rows under ACCESS EXCLUSIVE, and a CHECK that spares it can be written here only for a key of one column, by list or range",
            self.partition.plain()
        );
        (what, "Attach the partition while it is empty, and fill it in batches; or use a maintenance window.")
    }

    /// A CHECK, made and proved, unless one is there.
    fn prove(&self, table: &TableName, expression: &str) -> Result<Vec<String>, Refusal> {
        let not_null: Vec<Ident> = match self.scene.relation(table) {
            Known::Live(seen) => seen
                .columns
                .iter()
                .filter(|column| column.not_null)
                .map(|column| column.name.clone())
                .collect(),
            _ => Vec::new(),
        };
        if bound::implied(expression, &self.scene.proved_checks(table), &not_null) {
            return Ok(Vec::new());
        }
        let taken: Vec<String> =
            self.scene.constraint_trees(table).into_iter().map(|(name, _)| name).collect();
        let base = index_name::with_suffix(table.name.as_str(), "_attach");
        let name = (0..100)
            .map(|nth| if nth == 0 { base.clone() } else { index_name::with_suffix(&base, &nth.to_string()) })
            .find(|name| !taken.contains(name))
            .ok_or_else(|| self.no_check())?;
        let name = Ident::new(name);
        Ok(vec![
            format!("alter table {table} add constraint {name} check ({expression}) not valid"),
            format!("alter table {table} validate constraint {name}"),
        ])
    }

    /// An index for each of the parent's that the partition lacks.
    fn indexes(&self, table: &Table) -> Result<Vec<String>, Refusal> {
        let there = self.scene.index_trees(&table.name);
        let mut sqls = Vec::new();
        for wanted in self.scene.index_trees(&self.parent) {
            if there.iter().any(|index| same_index(index, &wanted)) {
                continue;
            }
            let constraint = self
                .scene
                .index(&self.index_of_parent(&wanted))
                .and_then(|(_, index)| index.constraint.clone());
            if let Some(constraint) = constraint {
                let what = format!(
                    "{} has no counterpart of the constraint {} of {}, so attaching builds its index under ACCESS EXCLUSIVE",
                    table.name.plain(),
                    constraint.as_str(),
                    self.parent.plain()
                );
                return Err((
                    what,
                    "CREATE UNIQUE INDEX on it, then ADD CONSTRAINT … USING INDEX (columns of a primary key NOT NULL first), then ATTACH.",
                ));
            }
            let beside = || {
                index_name::free(&table.name, self.scene, |nth| {
                    let label = if nth == 0 { String::new() } else { nth.to_string() };
                    index_name::object_name(table.name.name.as_str(), &wanted.idxname, &label)
                })
            };
            let name = index_name::chosen(&wanted, &table.name, self.scene).or_else(beside);
            let sql = name.and_then(|name| self.index_like(&wanted, &table.name, &name));
            sqls.push(sql.ok_or_else(|| {
                let what = format!("{} has no counterpart of the index {} of {}, so attaching builds it under ACCESS EXCLUSIVE", table.name.plain(), wanted.idxname, self.parent.plain());
                (what, "CREATE INDEX on it with the same definition first, then ATTACH.")
            })?);
        }
        Ok(sqls)
    }

    fn index_of_parent(&self, index: &node::IndexStmt) -> TableName {
        TableName { schema: self.parent.schema.clone(), name: Ident::new(&index.idxname) }
    }

    /// The parent's definition, for another table under another name.
    fn index_like(&self, wanted: &node::IndexStmt, table: &TableName, name: &Ident) -> Option<String> {
        let (_, index) = self.scene.index(&self.index_of_parent(wanted))?;
        let (_, definition) = index.definition.split_once(" USING ")?;
        let unique = if wanted.unique { "unique " } else { "" };
        Some(format!("create {unique}index concurrently {name} on {table} using {definition}"))
    }

    /// A foreign key for each of the parent's that the partition lacks.
    fn foreign_keys(&self, table: &Table) -> Result<Vec<String>, Refusal> {
        let there = self.scene.constraint_trees(&table.name);
        let Known::Live(parent) = self.scene.relation(&self.parent) else { return Ok(Vec::new()) };
        let mut sqls = Vec::new();
        for (name, wanted) in self.scene.constraint_trees(&self.parent) {
            let same = |(_, one): &(String, node::Constraint)| same_foreign_key(one, &wanted);
            if wanted.contype() != ConstrType::ConstrForeign || there.iter().any(same) {
                continue;
            }
            let seen = parent.constraints.iter().find(|key| key.name.as_str() == name);
            let Some(seen) = seen.filter(|seen| !self.is_copy(seen, parent)) else { continue };
            let name = Ident::new(name);
            sqls.push(format!(
                "alter table {} add constraint {name} {} not valid",
                table.name, seen.definition
            ));
            sqls.push(format!("alter table {} validate constraint {name}", table.name));
        }
        Ok(sqls)
    }

    /// The server's own copy of a foreign key to a partitioned table, for one partition of that. Made by hand it would be a key of
    /// its own, which refuses rows that refer to the other partitions.
    fn is_copy(&self, key: &Constraint, parent: &Table) -> bool {
        let above = |table: &TableName| match self.scene.relation(table) {
            Known::Live(table) => self.scene.parent(table).cloned(),
            _ => None,
        };
        let first = key.references.as_ref().and_then(above);
        key.inherited
            && std::iter::successors(first, above)
                .any(|table| parent.constraints.iter().any(|other| other.references.as_ref() == Some(&table)))
    }

    /// What ATTACH itself locks.
    fn cost(&self) -> Cost {
        let lock = |relation: &TableName, mode, role| LockTaken { relation: relation.clone(), mode, role };
        let mut locks = Vec::new();
        if !matches!(self.scene.relation(&self.parent), Known::New) {
            locks.push(lock(&self.parent, LockMode::ShareUpdateExclusive, LockRole::Target));
        }
        if !matches!(self.scene.relation(&self.partition), Known::New) {
            locks.push(exclusive(&self.partition, LockRole::Partition));
            let below = self.scene.all_partitions(&self.partition);
            locks.extend(below.iter().map(|part| exclusive(&part.name, LockRole::Partition)));
        }
        let default = self.scene.default_partition(&self.parent);
        locks.extend(default.map(|default| exclusive(default, LockRole::Partition)));
        if let Known::Live(parent) = self.scene.relation(&self.parent) {
            let mut others: BTreeMap<TableName, LockMode> = BTreeMap::new();
            for key in self.scene.foreign_keys(&parent.name) {
                let mode = self.lock_of_key(&key);
                let strongest = others.entry(key.references).or_insert(mode);
                *strongest = mode.max(*strongest);
            }
            // Measured: the partitions of the other table are locked with it.
            locks.extend(others.iter().flat_map(|(other, mode)| referenced(self.scene, other, *mode)));
        }
        Cost::brief(locks)
    }

    /// On the other table of a foreign key. Measured: taking over one that the partition has drops its triggers there.
    fn lock_of_key(&self, key: &ForeignKey) -> LockMode {
        let there = self.scene.constraint_trees(&self.partition);
        let taken_over = constraint_node(&key.definition)
            .is_some_and(|wanted| there.iter().any(|(_, one)| same_foreign_key(one, &wanted)));
        if taken_over { LockMode::AccessExclusive } else { LockMode::ShareRowExclusive }
    }

    fn as_it_is(&self) -> Option<Outcome> {
        let title = format!("attach {} to {}", self.partition.plain(), self.parent.plain());
        let mut step = as_written(self.statement, RECIPE, title, self.cost());
        step.why =
            "nothing is read or built: the new partition is empty, or its rows are proved to belong there"
                .into();
        step.undo = Some(crate::ddl::statement::Undo::Brief {
            sql: format!("alter table {} detach partition {}", self.parent, self.partition),
        });
        Outcome::step(step)
    }
}

/// Whether an index is what the server takes for the counterpart of another.
fn same_index(one: &node::IndexStmt, wanted: &node::IndexStmt) -> bool {
    let bare = |index: &node::IndexStmt| {
        let mut bare = index.clone();
        (bare.idxname, bare.relation, bare.concurrent) = (String::new(), None, false);
        bare.if_not_exists = false;
        bare.options.clear();
        if bare.access_method.is_empty() {
            bare.access_method = "btree".into();
        }
        NodeEnum::IndexStmt(Box::new(bare))
    };
    parse::same_tree(&bare(one), &bare(wanted))
}

/// Whether two foreign keys are over the same columns of the same tables with the same actions.
pub(super) fn same_foreign_key(one: &node::Constraint, wanted: &node::Constraint) -> bool {
    let table = |constraint: &node::Constraint| {
        constraint.pktable.as_ref().map(|range| {
            let schema =
                if range.schemaname.is_empty() { "public".to_owned() } else { range.schemaname.clone() };
            (schema, range.relname.clone())
        })
    };
    let key = |constraint: &node::Constraint| {
        (
            parse::strings(&constraint.fk_attrs),
            constraint.fk_upd_action.clone(),
            constraint.fk_del_action.clone(),
            constraint.fk_matchtype.clone(),
        )
    };
    let (left, right) = (parse::strings(&one.pk_attrs), parse::strings(&wanted.pk_attrs));
    one.contype() == ConstrType::ConstrForeign
        && key(one) == key(wanted)
        && table(one) == table(wanted)
        && (left == right || left.is_empty() || right.is_empty())
}

/// Whether a table holds rows of its own.
pub(super) fn is_leaf(table: &Table) -> bool {
    table.kind == TableKind::Plain
}

#[cfg(test)]
mod tests {
    use crate::{
        ddl::tests::{constraint, live, on_live, told},
        facts::ConstraintKind,
    };

    #[test]
    fn the_rows_are_proved_first_and_the_check_goes_after() {
        assert_eq!(
            on_live("alter table p attach partition spare for values in (7)"),
            [
                "brief, ACCESS EXCLUSIVE spare: alter table \"public\".\"spare\" add constraint \"spare_attach\" check (\"id\" is not null and \"id\" in (7)) not valid",
                "validate, SHARE UPDATE EXCLUSIVE spare: alter table \"public\".\"spare\" validate constraint \"spare_attach\"",
                "concurrent, SHARE UPDATE EXCLUSIVE spare: create index concurrently \"spare_a_idx\" on \"public\".\"spare\" using btree (a)",
                "brief, SHARE UPDATE EXCLUSIVE p + ACCESS EXCLUSIVE spare: alter table p attach partition spare for values in (7)",
                "brief, ACCESS EXCLUSIVE spare: alter table \"public\".\"spare\" drop constraint \"spare_attach\"",
            ]
        );
    }

    #[test]
    fn the_partitions_of_the_other_table_of_a_foreign_key_are_locked_with_it() {
        let mut live = live();
        let p = live.tables.iter_mut().find(|table| table.name.name.as_str() == "p").unwrap();
        let mut key = constraint("p_d_fk", ConstraintKind::ForeignKey, Some("d"));
        key.definition = "FOREIGN KEY (b) REFERENCES d(id)".into();
        p.constraints.push(key);
        let steps =
            told("create table n (id int); alter table p attach partition n for values in (7)", Some(&live));
        let locks = "SHARE ROW EXCLUSIVE d + SHARE ROW EXCLUSIVE d1 + SHARE ROW EXCLUSIVE dd: ";
        assert!(steps.iter().any(|step| step.contains(locks)), "{steps:#?}");
        let steps = told("alter table p detach partition p1", Some(&live));
        assert!(steps.iter().any(|step| step.contains(locks)), "{steps:#?}");
    }

    #[test]
    fn what_the_server_keeps_for_each_partition_of_the_other_table_is_not_made_by_hand() {
        let mut live = live();
        let p = live.tables.iter_mut().find(|table| table.name.name.as_str() == "p").unwrap();
        let mut key = constraint("p_d_fk", ConstraintKind::ForeignKey, Some("d"));
        key.definition = "FOREIGN KEY (b) REFERENCES d(id)".into();
        let mut copy = constraint("p_d_fk1", ConstraintKind::ForeignKey, Some("d1"));
        copy.definition = "FOREIGN KEY (b) REFERENCES d1(id)".into();
        copy.inherited = true;
        p.constraints.extend([key, copy]);
        let steps = told("alter table p attach partition spare for values in (7)", Some(&live));
        let made: Vec<&String> = steps.iter().filter(|step| step.contains("FOREIGN KEY")).collect();
        assert!(matches!(made.as_slice(), [only] if only.contains("REFERENCES d(id)")), "{steps:#?}");
    }

    #[test]
    fn the_default_partition_is_proved_too() {
        let steps = on_live("alter table d attach partition spare for values from (1) to (2)");
        assert_eq!(steps.len(), 7, "{steps:#?}");
        assert_eq!(
            steps[2],
            "brief, ACCESS EXCLUSIVE dd: alter table \"public\".\"dd\" add constraint \"dd_attach\" check (not (\"id\" is not null and \"id\" >= 1 and \"id\" < 2)) not valid"
        );
        assert_eq!(
            steps[4],
            "brief, SHARE UPDATE EXCLUSIVE d + ACCESS EXCLUSIVE spare + ACCESS EXCLUSIVE dd: alter table d attach partition spare for values from (1) to (2)"
        );
    }

    #[test]
    fn a_check_that_is_there_is_enough() {
        let attach = "alter table d attach partition spare for values from (5) to (6)";
        let told = on_live(&format!(
            "alter table spare add constraint mine check (id >= 5 and id < 6) not valid; alter table spare validate constraint mine; {attach}"
        ));
        assert!(!told.iter().any(|line| line.contains("spare_attach")), "{told:#?}");
        assert!(told.iter().any(|line| line.contains("dd_attach")), "{told:#?}");
    }

    #[test]
    fn an_empty_table_made_here_needs_nothing() {
        assert_eq!(
            on_live(
                "create table n (id int, a int, b int); alter table p attach partition n for values in (8)"
            )[1],
            "catalog, SHARE UPDATE EXCLUSIVE p: alter table p attach partition n for values in (8)"
        );
    }

    #[test]
    fn taking_over_a_foreign_key_shuts_the_other_table_out_for_a_moment() {
        let mut facts = live();
        let p = facts.tables.iter_mut().find(|table| table.name.name.as_str() == "p").unwrap();
        p.constraints.push(constraint("p_r_fk", ConstraintKind::ForeignKey, Some("r")));
        let attach = |before: &str| {
            let sql = format!("{before}; alter table p attach partition n for values in (8)");
            told(&sql, Some(&facts)).pop().unwrap()
        };
        let made = "create table n (id int, a int, b int)";
        assert!(attach(made).contains("SHARE ROW EXCLUSIVE r: "));
        let spare = told("alter table p attach partition spare for values in (7)", Some(&facts));
        let line = spare.iter().find(|line| line.contains("attach partition")).unwrap();
        assert!(line.contains(" + ACCESS EXCLUSIVE r: "), "{spare:#?}");
    }

    #[test]
    fn without_a_look_it_is_refused() {
        assert_eq!(
            told("alter table p attach partition q for values in (7)", None),
            ["blocking DDL_NO_RULE"]
        );
        assert_eq!(
            on_live("alter table p attach partition nowhere for values in (7)"),
            ["blocking DDL_UNKNOWN_RELATION"]
        );
    }
}
