//! The conditions of a DO block, as far as what was seen on the database decides them: whether a constraint, column, index or table
//! of some name is there.

use super::{
    parse::{
        self, NodeEnum,
        node::{self, BoolExprType, NullTestType, SubLinkType, a_const::Val},
    },
    scene::{Known, Scene},
};
use crate::{
    facts::ConstraintKind,
    pg::name::{Ident, TableName},
};

/// Whether a condition holds now; `None` when only the server can tell.
pub(super) fn holds(condition: &str, scene: &Scene, path: &[Ident]) -> Option<bool> {
    if !scene.looked() {
        return None;
    }
    let NodeEnum::SelectStmt(select) = parse::parse_one(&format!("select {condition}")).ok()? else {
        return None;
    };
    let [target] = select.target_list.as_slice() else { return None };
    let Some(NodeEnum::ResTarget(target)) = &target.node else { return None };
    Facts { scene, path }.truth(target.val.as_ref()?.node.as_ref()?)
}

/// Whether a statement would meet something of the name that it makes; `None` when that cannot be told.
pub(super) fn meets_duplicate(tree: &NodeEnum, scene: &Scene, path: &[Ident]) -> Option<bool> {
    if !scene.looked() {
        return None;
    }
    let NodeEnum::AlterTableStmt(alter) = tree else { return None };
    let [command] = alter.cmds.as_slice() else { return None };
    let Some(NodeEnum::AlterTableCmd(command)) = &command.node else { return None };
    let table = scene.range(alter.relation.as_ref()?, path);
    match (command.subtype(), command.def.as_ref()?.node.as_ref()?) {
        (node::AlterTableType::AtAddConstraint, NodeEnum::Constraint(added)) if !added.conname.is_empty() => {
            Some(scene.constraint(&table, &added.conname).is_some())
        }
        (node::AlterTableType::AtAddColumn, NodeEnum::ColumnDef(column)) => {
            scene.has_column(&table, &column.colname)
        }
        _ => None,
    }
}

struct Facts<'a> {
    scene: &'a Scene<'a>,
    path: &'a [Ident],
}

impl Facts<'_> {
    fn truth(&self, tree: &NodeEnum) -> Option<bool> {
        match tree {
            NodeEnum::BoolExpr(several) => {
                let parts =
                    several.args.iter().map(|part| part.node.as_ref().and_then(|part| self.truth(part)));
                combined(several.boolop(), &parts.collect::<Vec<_>>())
            }
            NodeEnum::SubLink(link) if link.sub_link_type() == SubLinkType::ExistsSublink => {
                let NodeEnum::SelectStmt(select) = link.subselect.as_ref()?.node.as_ref()? else {
                    return None;
                };
                self.finds(select)
            }
            NodeEnum::NullTest(test) => {
                let NodeEnum::FuncCall(call) = test.arg.as_ref()?.node.as_ref()? else { return None };
                let ("to_regclass", [name]) =
                    (parse::strings(&call.funcname).last()?.as_str(), call.args.as_slice())
                else {
                    return None;
                };
                let is_there = self.is_relation(&self.named(&text(name)?)?);
                Some(is_there == (test.nulltesttype() == NullTestType::IsNotNull))
            }
            _ => None,
        }
    }

    /// Whether a query of one catalog, by names only, finds a row.
    fn finds(&self, select: &node::SelectStmt) -> Option<bool> {
        let [from] = select.from_clause.as_slice() else { return None };
        let Some(NodeEnum::RangeVar(from)) = &from.node else { return None };
        let plain = select.group_clause.is_empty()
            && select.having_clause.is_none()
            && select.limit_count.is_none()
            && select.with_clause.is_none()
            && select.op() == node::SetOperation::SetopNone;
        if !plain {
            return None;
        }
        let mut wanted = Wanted::default();
        wanted.read(select.where_clause.as_ref()?.node.as_ref()?, self.path)?;
        match (from.schemaname.as_str(), from.relname.as_str()) {
            ("" | "pg_catalog", "pg_constraint") => {
                self.constraint(&wanted.named(&["conname", "conrelid", "contype"])?)
            }
            ("information_schema", "table_constraints") => {
                let names =
                    ["constraint_name", "table_name", "constraint_type", "table_schema", "constraint_schema"];
                self.constraint(&wanted.named(&names)?)
            }
            ("information_schema", "columns") => {
                let wanted = wanted.named(&["column_name", "table_name", "table_schema"])?;
                match self.table(&wanted)? {
                    Some(table) => self.scene.has_column(&table, wanted.of(&["column_name"])?),
                    None => Some(false),
                }
            }
            ("information_schema", "tables") => {
                Some(self.table(&wanted.named(&["table_name", "table_schema"])?)?.is_some())
            }
            ("" | "pg_catalog", "pg_indexes") => {
                let wanted = wanted.named(&["indexname", "tablename", "schemaname"])?;
                let schema = wanted.of(&["schemaname"]).or_else(|| self.path.first().map(Ident::as_str))?;
                Some(self.is_index(&TableName::new(schema, wanted.of(&["indexname"])?)))
            }
            _ => None,
        }
    }

    fn constraint(&self, wanted: &Wanted) -> Option<bool> {
        let name = wanted.of(&["conname", "constraint_name"])?;
        let kind = match wanted.of(&["contype", "constraint_type"]) {
            Some(kind) => Some(kind_of(kind)?),
            None => None,
        };
        let is_named = wanted.of(&["conrelid", "table_name"]).is_some();
        if is_named {
            let Some(table) = self.table(wanted)? else { return Some(false) };
            return match self.scene.constraint(&table, name) {
                Some(found) => Some(kind.is_none_or(|kind| found.kind == kind)),
                // A new table may have constraints that got their names from the server.
                None => (!matches!(self.scene.relation(&table), Known::New)).then_some(false),
            };
        }
        // By its name alone it may be any table's, and of a kind that nobody told.
        let schema = wanted.of(&["table_schema", "constraint_schema"]);
        if kind.is_some() {
            return None;
        }
        Some(match schema {
            Some(schema) => !self.scene.is_free_constraint(&Ident::new(schema), name),
            None => self.scene.schemas().iter().any(|schema| !self.scene.is_free_constraint(schema, name)),
        })
    }

    /// The table that a query is about, if it is there; the outer `None` when that cannot be told.
    fn table(&self, wanted: &Wanted) -> Option<Option<TableName>> {
        let is_there = |name: &TableName| !matches!(self.scene.relation(name), Known::Missing);
        if let Some(relation) = wanted.of(&["conrelid"]) {
            return Some(Some(self.named(relation)?).filter(is_there));
        }
        let name = wanted.of(&["table_name"])?;
        if let Some(schema) = wanted.of(&["table_schema", "constraint_schema"]) {
            return Some(Some(TableName::new(schema, name)).filter(is_there));
        }
        let schemas = self.scene.schemas();
        let mut found = schemas.iter().map(|schema| TableName::new(schema.as_str(), name)).filter(is_there);
        match (found.next(), found.next()) {
            (only, None) => Some(only),
            _ => None,
        }
    }

    /// A relation by its name as SQL writes it.
    fn named(&self, text: &str) -> Option<TableName> {
        let NodeEnum::SelectStmt(select) = parse::parse_one(&format!("select from {text}")).ok()? else {
            return None;
        };
        match &select.from_clause.first()?.node {
            Some(NodeEnum::RangeVar(range)) => Some(self.scene.range(range, self.path)),
            _ => None,
        }
    }

    fn is_relation(&self, name: &TableName) -> bool {
        !matches!(self.scene.relation(name), Known::Missing) || self.is_index(name)
    }

    fn is_index(&self, name: &TableName) -> bool {
        self.scene.index(name).is_some() || self.scene.made_index(name).is_some()
    }
}

fn combined(how: BoolExprType, parts: &[Option<bool>]) -> Option<bool> {
    let decides = |truth: bool| parts.contains(&Some(truth)).then_some(truth);
    match how {
        BoolExprType::NotExpr => parts.first().copied().flatten().map(|truth| !truth),
        BoolExprType::AndExpr => {
            decides(false).or_else(|| parts.iter().all(|part| part.is_some()).then_some(true))
        }
        BoolExprType::OrExpr => {
            decides(true).or_else(|| parts.iter().all(|part| part.is_some()).then_some(false))
        }
        BoolExprType::Undefined => None,
    }
}

fn kind_of(kind: &str) -> Option<ConstraintKind> {
    Some(match kind {
        "f" | "FOREIGN KEY" => ConstraintKind::ForeignKey,
        "p" | "PRIMARY KEY" => ConstraintKind::PrimaryKey,
        "u" | "UNIQUE" => ConstraintKind::Unique,
        "c" => ConstraintKind::Check,
        "x" => ConstraintKind::Exclusion,
        _ => return None,
    })
}

/// The columns of a catalog that a query wants to have a value.
#[derive(Default)]
struct Wanted(Vec<(String, String)>);

impl Wanted {
    /// `a = 'x' and b = 'y'::regclass`; anything else cannot be told.
    fn read(&mut self, tree: &NodeEnum, path: &[Ident]) -> Option<()> {
        match tree {
            NodeEnum::BoolExpr(several) if several.boolop() == BoolExprType::AndExpr => {
                several.args.iter().try_for_each(|part| self.read(part.node.as_ref()?, path))
            }
            NodeEnum::AExpr(equal) if parse::strings(&equal.name) == ["="] => {
                let NodeEnum::ColumnRef(column) = equal.lexpr.as_ref()?.node.as_ref()? else { return None };
                let column = parse::strings(&column.fields).pop()?;
                let value = equal.rexpr.as_ref()?;
                let schema =
                    || path.first().filter(|_| is_current_schema(value)).map(|name| name.as_str().to_owned());
                self.0.push((column, text(value).or_else(schema)?));
                Some(())
            }
            _ => None,
        }
    }

    /// Itself, when it is about these columns only.
    fn named(self, columns: &[&str]) -> Option<Wanted> {
        self.0.iter().all(|(column, _)| columns.contains(&column.as_str())).then_some(self)
    }

    fn of(&self, columns: &[&str]) -> Option<&str> {
        self.0.iter().find(|(column, _)| columns.contains(&column.as_str())).map(|(_, value)| value.as_str())
    }
}

fn is_current_schema(node: &node::Node) -> bool {
    match &node.node {
        Some(NodeEnum::SqlvalueFunction(function)) => {
            function.op() == node::SqlValueFunctionOp::SvfopCurrentSchema
        }
        Some(NodeEnum::FuncCall(call)) => parse::strings(&call.funcname) == ["current_schema"],
        _ => false,
    }
}

/// A constant text, perhaps with a type.
fn text(node: &node::Node) -> Option<String> {
    match node.node.as_ref()? {
        NodeEnum::AConst(constant) => match constant.val.as_ref()? {
            Val::Sval(text) => Some(text.sval.clone()),
            _ => None,
        },
        NodeEnum::TypeCast(cast) => text(cast.arg.as_ref()?),
        _ => None,
    }
}
