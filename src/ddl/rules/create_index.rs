//! CREATE INDEX: built CONCURRENTLY; on a partitioned table the parent's first and empty, then each leaf's, then attached.

use super::{
    Outcome, Rule, alter_table::attach_index, as_written, blocking, concurrently, index_name, info,
    unknown_relation,
};
use crate::{
    ddl::{
        edit::{self, Edit},
        lock::{Cost, LockMode, LockRole, LockTaken},
        parse::{self, NodeEnum, Token, node},
        scene::{Known, Scene},
        source::Statement,
        statement::{IndexShape, Online, Undo, Verify},
    },
    facts::{Table, TableKind},
    pg::name::{Ident, TableName},
};

const RECIPE: &str = "create_index";

/// A CREATE INDEX, as it is to be made.
pub(super) struct Wanted<'a> {
    statement: &'a Statement,
    index: &'a node::IndexStmt,
    table: TableName,
    name: Ident,
}

pub(super) const RULE: Rule = Rule {
    name: RECIPE,
    about: "An index is built CONCURRENTLY; on a partitioned table the parent's first and empty, then each leaf's, then attached.",
    manual: "sql-createindex.html",
    apply: rule,
};

fn rule(statement: &Statement, scene: &Scene) -> Option<Outcome> {
    let NodeEnum::IndexStmt(index) = &statement.tree else { return None };
    let table = scene.range(index.relation.as_ref()?, &statement.search_path);
    let name = if index.idxname.is_empty() {
        match index_name::chosen(index, &table, scene) {
            Some(name) => name,
            None => {
                return Outcome::finding(blocking(
                    statement,
                    "DDL_INDEX_NAME",
                    format!(
                        "the index on {} has no name, and only the server can choose one for an expression",
                        table.plain()
                    ),
                    "Give it a name: a build that is interrupted leaves an INVALID index that must be found again.",
                ));
            }
        }
    } else {
        Ident::new(&index.idxname)
    };
    let wanted = Wanted { statement, index, table, name };
    if let Some(finding) = wanted.name_taken(scene) {
        return Outcome::finding(finding);
    }
    let mut outcome = wanted.steps(scene)?;
    outcome.findings.extend(wanted.leftover(scene));
    Some(outcome)
}

/// The steps that make the index of `statement` under another name.
pub(super) fn under_name(statement: &Statement, scene: &Scene, name: &Ident) -> Option<Outcome> {
    let NodeEnum::IndexStmt(index) = &statement.tree else { return None };
    let table = scene.range(index.relation.as_ref()?, &statement.search_path);
    Wanted { statement, index, table, name: name.clone() }.steps(scene)
}

impl Wanted<'_> {
    fn qualified(&self) -> TableName {
        TableName { schema: self.table.schema.clone(), name: self.name.clone() }
    }

    /// A valid index of this name that is clearly not the one wanted.
    fn name_taken(&self, scene: &Scene) -> Option<crate::finding::Finding> {
        let (table, live) = scene.index(&self.qualified())?;
        let only_parent = table.kind == TableKind::Partitioned;
        let other =
            table.name != self.table || (!self.index.if_not_exists && live.unique != self.index.unique);
        (other && (live.valid || only_parent)).then(|| {
            blocking(
                self.statement,
                "DDL_NAME_TAKEN",
                format!("{} exists already: {}", self.qualified().plain(), live.definition),
                "Choose another name, or drop the old index in these files first: then the two are swapped without a gap.",
            )
        })
    }

    /// What an interrupted build left behind.
    fn leftover(&self, scene: &Scene) -> Option<crate::finding::Finding> {
        let (table, live) = scene.index(&self.qualified())?;
        (!live.valid && table.kind != TableKind::Partitioned).then(|| {
            info(
                self.statement,
                "DDL_INVALID_LEFTOVER",
                format!("{} exists but is INVALID, left by an interrupted build; it is dropped before it is built again", self.qualified().plain()),
                "Nothing to do. IF NOT EXISTS alone would have taken it for the real one.",
            )
        })
    }

    fn steps(&self, scene: &Scene) -> Option<Outcome> {
        let known = scene.relation(&self.table);
        let only = self.index.relation.as_ref().is_some_and(|range| !range.inh);
        match known {
            Known::Missing => Outcome::finding(unknown_relation(self.statement, &self.table)),
            Known::Live(table) if table.kind == TableKind::Partitioned => {
                let mut steps = vec![self.on_parent(&self.table, &self.name)?];
                if !only {
                    self.below(table, &self.name, scene, &mut steps)?;
                    if let Some(Verify::Recorded { valid }) = steps.last_mut().map(|step| &mut step.verify) {
                        *valid = Some(self.qualified());
                    }
                }
                Some(Outcome { steps, findings: Vec::new() })
            }
            // Without a look, ON ONLY says that the table is partitioned, since it has no other use.
            Known::Unseen if only => Outcome::step(self.on_parent(&self.table, &self.name)?),
            _ => Outcome::step(self.on_leaf(&self.table, &self.name)?),
        }
    }

    /// The empty index of a partitioned table: no rows, so SHARE is held for a moment.
    fn on_parent(&self, table: &TableName, name: &Ident) -> Option<Online> {
        let mut wanted = self.index.clone();
        wanted.concurrent = false;
        let sql = self.edited(wanted, table, name, true)?;
        let lock = LockTaken { relation: table.clone(), mode: LockMode::Share, role: LockRole::Target };
        let title = format!("create index {} on only {}", name.as_str(), table.plain());
        let mut step = as_written(self.statement, RECIPE, title, Cost::brief(vec![lock]));
        step.sql = sql;
        step.was = self.was();
        step.why =
            "the parent's index holds no rows; it becomes valid when every partition's is attached".into();
        let index = TableName { schema: table.schema.clone(), name: name.clone() };
        step.undo = Some(Undo::Brief { sql: format!("drop index if exists {index}") });
        Some(step)
    }

    /// The indexes of everything below a partitioned table, each attached when it is there.
    fn below(
        &self,
        parent: &Table,
        parent_index: &Ident,
        scene: &Scene,
        steps: &mut Vec<Online>,
    ) -> Option<()> {
        for table in
            scene.partitions(&parent.name).into_iter().filter(|table| table.kind != TableKind::Foreign)
        {
            let name = self.partition_index(parent, table, parent_index, scene)?;
            if table.kind == TableKind::Partitioned {
                steps.push(self.on_parent(&table.name, &name)?);
                self.below(table, &name, scene, steps)?;
            } else {
                steps.push(self.on_leaf(&table.name, &name)?);
            }
            steps.push(self.attach(parent, parent_index, table, &name));
        }
        Some(())
    }

    fn partition_index(
        &self,
        parent: &Table,
        table: &Table,
        parent_index: &Ident,
        scene: &Scene,
    ) -> Option<Ident> {
        let name = |nth: u32| {
            let label = if nth == 0 { String::new() } else { nth.to_string() };
            index_name::object_name(table.name.name.as_str(), parent_index.as_str(), &label)
        };
        let ours = Ident::new(name(0));
        // When the parent's index is there already, an earlier run of ours made both: the name must be the same then.
        let upper = TableName { schema: parent.name.schema.clone(), name: parent_index.clone() };
        let made = scene.index(&upper).is_some() && table.indexes.iter().any(|index| index.name == ours);
        if made { Some(ours) } else { index_name::free(&table.name, scene, name) }
    }

    fn attach(&self, parent: &Table, parent_index: &Ident, table: &Table, name: &Ident) -> Online {
        let upper = TableName { schema: parent.name.schema.clone(), name: parent_index.clone() };
        let lower = TableName { schema: table.name.schema.clone(), name: name.clone() };
        let locks = attach_index(&parent.name, &table.name);
        let title = format!("attach index {} to {}", name.as_str(), parent_index.as_str());
        let mut step = as_written(self.statement, RECIPE, title, Cost::brief(locks));
        step.sql = format!("alter index {upper} attach partition {lower}");
        step.why = "makes the partition's index part of the parent's".into();
        // A part of a partitioned index cannot be dropped alone; dropping the whole takes its parts along.
        step.undo = Some(Undo::Brief { sql: format!("drop index if exists {upper}") });
        step
    }

    /// An index with rows: built beside readers and writers.
    fn on_leaf(&self, table: &TableName, name: &Ident) -> Option<Online> {
        let mut wanted = self.index.clone();
        wanted.concurrent = true;
        let sql = self.edited(wanted, table, name, false)?;
        let lock = LockTaken {
            relation: table.clone(),
            mode: LockMode::ShareUpdateExclusive,
            role: LockRole::Target,
        };
        let unique = if self.index.unique { "unique " } else { "" };
        let title = format!("create {unique}index {} on {}", name.as_str(), table.plain());
        let index = TableName { schema: table.schema.clone(), name: name.clone() };
        let shape = self.shape(&index, table);
        let step = as_written(self.statement, RECIPE, title, Cost::building(vec![lock]));
        let mut step = concurrently(step, sql, Verify::IndexValid(shape));
        step.was = self.was();
        step.why = "the index is built while the table is read and written".into();
        step.undo = Some(Undo::DropIndex { index });
        Some(step)
    }

    fn was(&self) -> Option<Cost> {
        let lock = LockTaken { relation: self.table.clone(), mode: LockMode::Share, role: LockRole::Target };
        let only = self.index.relation.as_ref().is_some_and(|range| !range.inh);
        (!self.index.concurrent && !only).then(|| Cost::building(vec![lock]))
    }

    fn shape(&self, index: &TableName, table: &TableName) -> IndexShape {
        let keys = self.index.index_params.iter().map(|item| match &item.node {
            Some(NodeEnum::IndexElem(element)) if element.expr.is_none() => Some(Ident::new(&element.name)),
            _ => None,
        });
        IndexShape {
            index: index.clone(),
            table: table.clone(),
            unique: self.index.unique,
            method: self.index.access_method.clone(),
            keys: keys.collect(),
            partial: self.index.where_clause.is_some(),
            any_shape: self.index.if_not_exists,
        }
    }

    /// The operator's text with another name, table or keyword, proved to mean `wanted`.
    fn edited(
        &self,
        mut wanted: node::IndexStmt,
        table: &TableName,
        name: &Ident,
        only: bool,
    ) -> Option<String> {
        let mut edits = Vec::new();
        let text = Layout::read(&self.statement.sql)?;
        match text.concurrently {
            Some(token) if !wanted.concurrent => edits.push(Edit::replace(token, "")),
            None if wanted.concurrent => edits.push(Edit::insert(text.index.end, " CONCURRENTLY")),
            _ => {}
        }
        if wanted.idxname != name.as_str() {
            wanted.idxname = name.as_str().to_owned();
            edits.push(match text.name {
                Some(token) => Edit::replace(token, name.to_string()),
                None => Edit::insert(text.on.start, format!("{name} ")),
            });
        }
        let range = wanted.relation.as_mut()?;
        if range.inh == only {
            range.inh = !only;
            edits.push(match text.only {
                Some(token) => Edit::replace(token, ""),
                None => Edit::insert(text.on.end, " ONLY"),
            });
        }
        if *table != self.table {
            (range.schemaname, range.relname) =
                (table.schema.as_str().to_owned(), table.name.as_str().to_owned());
            range.catalogname.clear();
            edits.push(Edit { start: text.relation.0, end: text.relation.1, text: table.to_string() });
        }
        edit::proved(&self.statement.sql, edits, &NodeEnum::IndexStmt(Box::new(wanted)))
    }
}

/// Where the parts of a CREATE INDEX are.
struct Layout {
    index: Token,
    concurrently: Option<Token>,
    name: Option<Token>,
    on: Token,
    only: Option<Token>,
    relation: (usize, usize),
}

impl Layout {
    fn read(sql: &str) -> Option<Layout> {
        use node::Token as Kind;
        let tokens = parse::tokens(sql).ok()?;
        let index = edit::find(&tokens, Kind::Index)?;
        let on = index + edit::find(&tokens[index..], Kind::On)?;
        let between = &tokens[index + 1..on];
        let concurrently = between.iter().find(|token| token.kind == Kind::Concurrently).copied();
        let name =
            between.last().filter(|token| !matches!(token.kind, Kind::Concurrently | Kind::Exists)).copied();
        let only = tokens.get(on + 1).filter(|token| token.kind == Kind::Only).copied();
        let first = on + if only.is_some() { 2 } else { 1 };
        let length =
            tokens[first..].iter().position(|token| matches!(token.kind, Kind::Using | Kind::Ascii40))?;
        let last = tokens.get(first + length.checked_sub(1)?)?;
        let relation = (tokens[first].start, last.end);
        Some(Layout { index: tokens[index], concurrently, name, on: tokens[on], only, relation })
    }
}

#[cfg(test)]
mod tests {
    use crate::ddl::tests::{on_live, told};

    #[test]
    fn a_plain_table_gets_the_concurrent_form_and_the_text_stays() {
        assert_eq!(
            on_live("create  unique index /* c */ i ON t (a) -- end"),
            ["concurrent, SHARE UPDATE EXCLUSIVE t: create  unique index CONCURRENTLY /* c */ i ON t (a)"]
        );
    }

    #[test]
    fn an_index_without_a_name_gets_the_servers() {
        assert_eq!(
            on_live("create index on t (a, lower(b)) include (id)"),
            [
                "concurrent, SHARE UPDATE EXCLUSIVE t: create index CONCURRENTLY \"t_a_lower_id_idx\" on t (a, lower(b)) include (id)"
            ]
        );
        assert_eq!(on_live("create index on t ((a + 1))"), ["blocking DDL_INDEX_NAME"]);
    }

    #[test]
    fn a_partitioned_table_gets_the_parents_then_each_leafs_then_attaches() {
        assert_eq!(
            on_live("create index if not exists i on p using btree (a)"),
            [
                "brief, SHARE p: create index if not exists i on ONLY p using btree (a)",
                "concurrent, SHARE UPDATE EXCLUSIVE p1: create index CONCURRENTLY if not exists \"p1_i\" on \"public\".\"p1\" using btree (a)",
                "brief, SHARE UPDATE EXCLUSIVE p + ACCESS EXCLUSIVE p1: alter index \"public\".\"i\" attach partition \"public\".\"p1_i\"",
                "brief, SHARE sub: create index if not exists \"sub_i\" on ONLY \"public\".\"sub\" using btree (a)",
                "concurrent, SHARE UPDATE EXCLUSIVE sub1: create index CONCURRENTLY if not exists \"sub1_sub_i\" on \"public\".\"sub1\" using btree (a)",
                "brief, SHARE UPDATE EXCLUSIVE sub + ACCESS EXCLUSIVE sub1: alter index \"public\".\"sub_i\" attach partition \"public\".\"sub1_sub_i\"",
                "brief, SHARE UPDATE EXCLUSIVE p + ACCESS EXCLUSIVE sub: alter index \"public\".\"i\" attach partition \"public\".\"sub_i\"",
            ]
        );
    }

    #[test]
    fn a_leftover_is_told_and_a_taken_name_stops() {
        assert_eq!(
            on_live("create index if not exists t_broken on t (a)")[1..],
            ["info DDL_INVALID_LEFTOVER"]
        );
        assert_eq!(on_live("create index t_a on r (a)"), ["blocking DDL_NAME_TAKEN"]);
    }

    #[test]
    fn a_table_made_here_is_not_in_use() {
        assert_eq!(
            told("create table n (a int); create index i on n (a)", None),
            ["catalog, no lock: create table n (a int)", "catalog, no lock: create index i on n (a)"]
        );
    }

    #[test]
    fn an_unknown_table_stops() {
        assert_eq!(on_live("create index i on nowhere (a)"), ["blocking DDL_UNKNOWN_RELATION"]);
    }
}
