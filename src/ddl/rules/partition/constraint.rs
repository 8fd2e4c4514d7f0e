//! Keys of a partitioned table: each partition's is made and proved beside readers and writers, then the table's takes them over.

use super::{
    super::{
        Outcome, Rule, as_written, blocking,
        expand::{exclusive, in_turn, instead_of},
        index_name,
    },
    attach::{is_leaf, same_foreign_key},
};
use crate::{
    ddl::{
        lock::{Cost, LockMode, LockRole, LockTaken},
        parse::{
            self, NodeEnum,
            node::{self, AlterTableType, ConstrType},
        },
        scene::{Known, Scene},
        source::Statement,
    },
    facts::{Table, TableKind},
    pg::name::{Ident, TableName},
};

const RECIPE: &str = "partitioned_key";

pub(in crate::ddl::rules) const RULE: Rule = Rule {
    name: RECIPE,
    about: "Each partition's key is made and proved beside readers and writers, then the table's takes them over.",
    manual: "ddl-partitioning.html",
    apply: rule,
};

fn rule(statement: &Statement, scene: &Scene) -> Option<Outcome> {
    let NodeEnum::AlterTableStmt(alter) = &statement.tree else { return None };
    let [command] = alter.cmds.as_slice() else { return None };
    let Some(NodeEnum::AlterTableCmd(command)) = &command.node else { return None };
    if alter.objtype() != node::ObjectType::ObjectTable
        || command.subtype() != AlterTableType::AtAddConstraint
    {
        return None;
    }
    let Some(NodeEnum::Constraint(constraint)) = command.def.as_ref()?.node.as_ref() else { return None };
    let range = alter.relation.as_ref()?;
    let name = scene.range(range, &statement.search_path);
    let Known::Live(table) = scene.relation(&name) else { return None };
    if table.kind != TableKind::Partitioned {
        return None;
    }
    let key = Key { statement, scene, table, constraint };
    match constraint.contype() {
        ConstrType::ConstrForeign if !constraint.skip_validation => key.foreign(),
        ConstrType::ConstrPrimary | ConstrType::ConstrUnique if !range.inh => key.on_parent_only(),
        ConstrType::ConstrPrimary | ConstrType::ConstrUnique if !constraint.keys.is_empty() => key.unique(),
        _ => None,
    }
}

struct Key<'a> {
    statement: &'a Statement,
    scene: &'a Scene<'a>,
    table: &'a Table,
    constraint: &'a node::Constraint,
}

impl Key<'_> {
    fn leaves(&self) -> Vec<&Table> {
        self.scene.all_partitions(&self.table.name).into_iter().filter(|table| is_leaf(table)).collect()
    }

    fn without_name(&self) -> Option<Outcome> {
        Outcome::finding(blocking(
            self.statement,
            "DDL_NO_RULE",
            format!(
                "the constraint on {} has no name, and its partitions get theirs first",
                self.table.name.plain()
            ),
            "Give it a name: ADD CONSTRAINT name ….",
        ))
    }

    /// The text of the constraint, from its kind on.
    fn definition(&self) -> Option<&str> {
        let tokens = parse::tokens(&self.statement.sql).ok()?;
        let at = tokens.iter().position(|token| token.kind == node::Token::Constraint)?;
        Some(&self.statement.sql[tokens.get(at + 2)?.start..])
    }

    fn foreign(&self) -> Option<Outcome> {
        if self.constraint.conname.is_empty() {
            return self.without_name();
        }
        let name = Ident::new(&self.constraint.conname);
        let definition = self.definition()?;
        let referenced = self.scene.range(self.constraint.pktable.as_ref()?, &self.statement.search_path);
        let mut sqls = Vec::new();
        for leaf in self.leaves() {
            let there = self.scene.constraint_trees(&leaf.name);
            let proved = there.iter().any(|(_, one)| same_foreign_key(one, self.constraint));
            if !proved {
                sqls.push(format!("alter table {} add constraint {name} {definition} not valid", leaf.name));
                sqls.push(format!("alter table {} validate constraint {name}", leaf.name));
            }
        }
        let lock = |relation: &TableName, mode, role| LockTaken { relation: relation.clone(), mode, role };
        let with = |on_referenced| {
            let mode = LockMode::ShareRowExclusive;
            let mut locks = vec![lock(&self.table.name, mode, LockRole::Target)];
            let parts = self.scene.all_partitions(&self.table.name);
            locks.extend(parts.iter().map(|part| lock(&part.name, mode, LockRole::Partition)));
            if !matches!(self.scene.relation(&referenced), Known::New) {
                locks.push(lock(&referenced, on_referenced, LockRole::Referenced));
            }
            Cost::brief(locks)
        };
        if !sqls.is_empty() {
            sqls.push(self.statement.sql.clone());
            let was = Cost { scan: true, ..with(LockMode::ShareRowExclusive) };
            return instead_of(in_turn(self.statement, self.scene, RECIPE, &sqls), was);
        }
        // Measured: taking over a partition's key drops its triggers on the other table, under ACCESS EXCLUSIVE there.
        let title = format!("add foreign key {} to {}", name.as_str(), self.table.name.plain());
        let mut step = as_written(self.statement, RECIPE, title, with(LockMode::AccessExclusive));
        step.why = "every partition has the key already, proved, so nothing is read".into();
        Outcome::step(step)
    }

    /// The columns of a primary key that a partition may hold NULLs in.
    fn nullable(&self) -> Vec<String> {
        let keys = parse::strings(&self.constraint.keys);
        let tables = [self.table].into_iter().chain(self.scene.all_partitions(&self.table.name));
        let mut found = Vec::new();
        for table in tables {
            let nullable = table
                .columns
                .iter()
                .filter(|column| !column.not_null && keys.iter().any(|key| key == column.name.as_str()));
            found.extend(nullable.map(|column| format!("{}.{}", table.name.plain(), column.name.as_str())));
        }
        found
    }

    fn unique(&self) -> Option<Outcome> {
        if self.constraint.conname.is_empty() {
            return self.without_name();
        }
        let primary = self.constraint.contype() == ConstrType::ConstrPrimary;
        let nullable = if primary { self.nullable() } else { Vec::new() };
        if !nullable.is_empty() {
            return Outcome::finding(blocking(
                self.statement,
                "DDL_NO_RULE",
                format!(
                    "the columns {} may be NULL, so every row would be read under ACCESS EXCLUSIVE",
                    nullable.join(", ")
                ),
                "ALTER COLUMN … SET NOT NULL first, in a statement of its own; then ADD PRIMARY KEY.",
            ));
        }
        // INCLUDE, DEFERRABLE, NULLS NOT DISTINCT and storage options have no place in the recipe.
        let plain = self.constraint.including.is_empty()
            && self.constraint.options.is_empty()
            && self.constraint.indexspace.is_empty()
            && !self.constraint.deferrable
            && !self.constraint.nulls_not_distinct
            && !self.constraint.without_overlaps;
        if !plain {
            return None;
        }
        let kind = if primary { "primary key" } else { "unique" };
        let columns: Vec<String> =
            parse::strings(&self.constraint.keys).iter().map(|key| Ident::new(key).to_string()).collect();
        let columns = columns.join(", ");
        let mut sqls = Vec::new();
        self.below(self.table, &Ident::new(&self.constraint.conname), kind, &columns, &mut sqls)?;
        let mut locks = vec![exclusive(&self.table.name, LockRole::Target)];
        let parts = self.scene.all_partitions(&self.table.name);
        locks.extend(parts.iter().map(|part| exclusive(&part.name, LockRole::Partition)));
        instead_of(in_turn(self.statement, self.scene, RECIPE, &sqls), Cost::building(locks))
    }

    /// The constraint of a partitioned table alone, then everything below it, each attached when it is there.
    fn below(
        &self,
        table: &Table,
        name: &Ident,
        kind: &str,
        columns: &str,
        sqls: &mut Vec<String>,
    ) -> Option<()> {
        let upper = TableName { schema: table.name.schema.clone(), name: name.clone() };
        let mut attach = Vec::new();
        for part in self.scene.partitions(&table.name) {
            let own = index_name::free(&part.name, self.scene, |nth| {
                let label = if nth == 0 { String::new() } else { nth.to_string() };
                index_name::object_name(part.name.name.as_str(), name.as_str(), &label)
            })?;
            let lower = TableName { schema: part.name.schema.clone(), name: own.clone() };
            match part.kind {
                TableKind::Partitioned => self.below(part, &own, kind, columns, sqls)?,
                TableKind::Plain => {
                    sqls.push(format!("create unique index concurrently {own} on {} ({columns})", part.name));
                    sqls.push(format!(
                        "alter table {} add constraint {own} {kind} using index {own}",
                        part.name
                    ));
                }
                TableKind::Foreign => return None,
            }
            attach.push(format!("alter index {upper} attach partition {lower}"));
        }
        sqls.push(format!("alter table only {} add constraint {name} {kind} ({columns})", table.name));
        sqls.append(&mut attach);
        Some(())
    }

    /// ADD PRIMARY KEY or UNIQUE on ONLY a partitioned table: its index holds no entries.
    fn on_parent_only(&self) -> Option<Outcome> {
        let title = format!("add key {} to only {}", self.constraint.conname, self.table.name.plain());
        let cost = Cost::brief(vec![exclusive(&self.table.name, LockRole::Target)]);
        let mut step = as_written(self.statement, RECIPE, title, cost);
        step.why =
            "the table's own index holds no entries; it becomes valid when every partition's is attached"
                .into();
        Outcome::step(step)
    }
}

#[cfg(test)]
mod tests {
    use crate::ddl::tests::on_live;

    #[test]
    fn a_foreign_key_is_proved_partition_by_partition() {
        let sql = "alter table p add constraint k foreign key (b) references r (id)";
        assert_eq!(
            on_live(sql),
            [
                "brief, SHARE ROW EXCLUSIVE p1 + SHARE ROW EXCLUSIVE r: alter table \"public\".\"p1\" add constraint \"k\" foreign key (b) references r (id) not valid",
                "validate, SHARE UPDATE EXCLUSIVE p1 + ROW SHARE r: alter table \"public\".\"p1\" validate constraint \"k\"",
                "brief, SHARE ROW EXCLUSIVE sub1 + SHARE ROW EXCLUSIVE r: alter table \"public\".\"sub1\" add constraint \"k\" foreign key (b) references r (id) not valid",
                "validate, SHARE UPDATE EXCLUSIVE sub1 + ROW SHARE r: alter table \"public\".\"sub1\" validate constraint \"k\"",
                "brief, SHARE ROW EXCLUSIVE p + SHARE ROW EXCLUSIVE p1 + SHARE ROW EXCLUSIVE sub + SHARE ROW EXCLUSIVE sub1 + ACCESS EXCLUSIVE r: alter table p add constraint k foreign key (b) references r (id)",
            ]
        );
    }

    #[test]
    fn a_primary_key_is_built_partition_by_partition() {
        let steps = on_live("alter table p add constraint k primary key (id)");
        let sqls: Vec<&str> = steps.iter().map(|step| step.split_once(": ").unwrap().1).collect();
        assert_eq!(
            sqls,
            [
                "create unique index concurrently \"p1_k\" on \"public\".\"p1\" (\"id\")",
                "alter table \"public\".\"p1\" add constraint \"p1_k\" primary key using index \"p1_k\"",
                "create unique index concurrently \"sub1_sub_k\" on \"public\".\"sub1\" (\"id\")",
                "alter table \"public\".\"sub1\" add constraint \"sub1_sub_k\" primary key using index \"sub1_sub_k\"",
                "alter table only \"public\".\"sub\" add constraint \"sub_k\" primary key (\"id\")",
                "alter index \"public\".\"sub_k\" attach partition \"public\".\"sub1_sub_k\"",
                "alter table only \"public\".\"p\" add constraint \"k\" primary key (\"id\")",
                "alter index \"public\".\"k\" attach partition \"public\".\"p1_k\"",
                "alter index \"public\".\"k\" attach partition \"public\".\"sub_k\"",
            ]
        );
    }

    #[test]
    fn what_may_be_null_and_what_has_no_name_is_refused() {
        assert_eq!(on_live("alter table p add constraint k primary key (a)"), ["blocking DDL_NO_RULE"]);
        assert_eq!(on_live("alter table p add primary key (id)"), ["blocking DDL_NO_RULE"]);
        assert_eq!(on_live("alter table p add foreign key (b) references r"), ["blocking DDL_NO_RULE"]);
    }
}
