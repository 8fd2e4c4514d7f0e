//! What a statement does to the names, columns and types that clients know.

use crate::{
    ddl::{
        Settings, block,
        parse::{
            self, NodeEnum,
            node::{self, AlterTableType as Type, ConstrType, ObjectType},
        },
        parts,
        recipe::{self, type_and_using},
        scene,
        source::{Span, Statement},
        types::SqlType,
    },
    finding::Place,
    pg::name::Ident,
};

/// One thing a statement does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Effect {
    /// To a relation, named as it is written.
    Relation {
        schema: String,
        name: String,
        /// Not to its partitions and heirs.
        only: bool,
        change: Change,
    },
    /// A relation of this name is made.
    Made { schema: String, name: String },
    /// A schema of this name is made.
    SchemaMade(String),
    /// A type is dropped, named as it is written.
    TypeDropped(Vec<String>),
}

/// What is done to a relation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    Added(Added),
    /// A column must have a value from here on.
    Demanded(String),
    /// A column gets a default, or loses it.
    Default {
        column: String,
        is_set: bool,
    },
    Dropped(String),
    Retyped(Retyped),
    Renamed {
        from: String,
        to: String,
    },
    NewName(String),
    NewSchema(String),
    DroppedTable,
}

/// A column that is added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Added {
    pub name: String,
    /// It must have a value.
    pub demanded: bool,
    /// The server gives it one.
    pub given: bool,
}

/// A column gets another type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Retyped {
    pub column: String,
    /// The new type, as written.
    pub to: String,
    /// The expression after USING.
    pub using: Option<String>,
    /// The second column that takes the place of the first in the same transaction.
    pub through: Option<String>,
}

/// What a text of one or more statements does, in order.
pub(super) fn of(sql: &str) -> Vec<Effect> {
    let mut effects = Vec::new();
    for parsed in parse::parse(sql).unwrap_or_default() {
        of_tree(&parsed.tree, &sql[parsed.start..parsed.end], &mut effects);
    }
    effects
}

fn of_tree(tree: &NodeEnum, sql: &str, effects: &mut Vec<Effect>) {
    let made = |range: Option<&node::RangeVar>| {
        range.map(|range| Effect::Made { schema: range.schemaname.clone(), name: range.relname.clone() })
    };
    match tree {
        NodeEnum::AlterTableStmt(alter) if alter.objtype() == ObjectType::ObjectTable => {
            altered(sql, effects)
        }
        NodeEnum::RenameStmt(rename) => effects.extend(renamed(rename)),
        NodeEnum::AlterObjectSchemaStmt(moved) if moved.object_type() == ObjectType::ObjectTable => {
            let change = Change::NewSchema(moved.newschema.clone());
            effects.extend(moved.relation.as_ref().map(|range| on(range, change)));
        }
        NodeEnum::DropStmt(drop) => dropped(drop, effects),
        NodeEnum::CreateStmt(create) => effects.extend(made(create.relation.as_ref())),
        NodeEnum::ViewStmt(view) => effects.extend(made(view.view.as_ref())),
        NodeEnum::CreateTableAsStmt(create) => {
            effects.extend(made(create.into.as_ref().and_then(|into| into.rel.as_ref())));
        }
        NodeEnum::CreateSchemaStmt(create) => effects.push(Effect::SchemaMade(create.schemaname.clone())),
        NodeEnum::DoStmt(_) => {
            for inside in block::read(sql).unwrap_or_default().statements {
                effects.extend(of(&inside.sql));
            }
        }
        _ => {}
    }
}

fn on(range: &node::RangeVar, change: Change) -> Effect {
    Effect::Relation {
        schema: range.schemaname.clone(),
        name: range.relname.clone(),
        only: !range.inh,
        change,
    }
}

fn altered(sql: &str, effects: &mut Vec<Effect>) {
    let Some(statement) = as_statement(sql) else { return };
    let Some(alter) = parts::alter(&statement) else { return };
    let Some(range) = &alter.tree.relation else { return };
    for (text, command) in &alter.commands {
        let change = match command.subtype() {
            Type::AtAddColumn => match command.def.as_ref().and_then(|def| def.node.as_ref()) {
                Some(NodeEnum::ColumnDef(column)) => Change::Added(added(column)),
                _ => continue,
            },
            Type::AtSetNotNull => Change::Demanded(command.name.clone()),
            Type::AtAddConstraint => match recipe::added(command) {
                Some(constraint) if constraint.contype() == ConstrType::ConstrNotnull => {
                    Change::Demanded(parse::strings(&constraint.keys).pop().unwrap_or_default())
                }
                _ => continue,
            },
            Type::AtColumnDefault => {
                Change::Default { column: command.name.clone(), is_set: command.def.is_some() }
            }
            Type::AtAddIdentity => Change::Default { column: command.name.clone(), is_set: true },
            Type::AtDropColumn => Change::Dropped(command.name.clone()),
            Type::AtAlterColumnType => match type_and_using(text) {
                Some((to, using)) => {
                    Change::Retyped(Retyped { column: command.name.clone(), to, using, through: None })
                }
                None => continue,
            },
            _ => continue,
        };
        effects.push(on(range, change));
    }
}

fn added(column: &node::ColumnDef) -> Added {
    let kinds = parts::constraint_types(column);
    let has = |wanted: &[ConstrType]| kinds.iter().any(|kind| wanted.contains(kind));
    let serial = column.type_name.as_ref().and_then(SqlType::of).is_some_and(|sql| sql.serial().is_some());
    Added {
        name: column.colname.clone(),
        demanded: has(&[ConstrType::ConstrNotnull, ConstrType::ConstrPrimary]),
        given: serial
            || has(&[ConstrType::ConstrDefault, ConstrType::ConstrIdentity, ConstrType::ConstrGenerated]),
    }
}

/// A text as a statement of its own, wherever it stands.
fn as_statement(sql: &str) -> Option<Statement> {
    Some(Statement {
        sql: sql.to_owned(),
        comment: String::new(),
        span: Span { start: 0, end: sql.len() },
        place: Place::Sql { file: String::new(), line: 1, column: 1 },
        tree: parse::parse_one(sql).ok()?,
        search_path: Vec::new(),
        settings: Settings::default(),
    })
}

fn renamed(rename: &node::RenameStmt) -> Option<Effect> {
    let range = rename.relation.as_ref()?;
    match rename.rename_type() {
        ObjectType::ObjectTable => Some(on(range, Change::NewName(rename.newname.clone()))),
        ObjectType::ObjectColumn if rename.relation_type() == ObjectType::ObjectTable => {
            let (from, to) = (rename.subname.clone(), rename.newname.clone());
            Some(on(range, Change::Renamed { from, to }))
        }
        _ => None,
    }
}

fn dropped(drop: &node::DropStmt, effects: &mut Vec<Effect>) {
    match drop.remove_type() {
        ObjectType::ObjectTable | ObjectType::ObjectView | ObjectType::ObjectMatview => {
            for (schema, name) in scene::dropped_names(drop) {
                effects.push(Effect::Relation { schema, name, only: false, change: Change::DroppedTable });
            }
        }
        ObjectType::ObjectType | ObjectType::ObjectDomain => {
            for object in &drop.objects {
                if let Some(NodeEnum::TypeName(name)) = &object.node {
                    effects.push(Effect::TypeDropped(parse::strings(&name.names)));
                }
            }
        }
        _ => {}
    }
}

/// A second column that takes the name of one that is dropped in the same transaction is a change of its type; `wanted` knows
/// what the operator asked for.
pub(super) fn swaps(effects: Vec<Effect>, wanted: &dyn Fn(&str) -> Option<Retyped>) -> Vec<Effect> {
    let mut swapped: Vec<Effect> = Vec::with_capacity(effects.len());
    let mut taken: Vec<Effect> = Vec::new();
    for (at, effect) in effects.iter().enumerate() {
        if taken.contains(effect) {
            continue;
        }
        let through = match effect {
            Effect::Relation { schema, name, change: Change::Dropped(column), only } => {
                effects[at + 1..].iter().find_map(|later| match later {
                    Effect::Relation {
                        schema: on, name: of, change: Change::Renamed { from, to }, ..
                    } if (on, of, to) == (schema, name, column) => {
                        let mut retyped = wanted(column)?;
                        retyped.through = Some(from.clone());
                        let change = Change::Retyped(retyped);
                        let whole =
                            Effect::Relation { schema: on.clone(), name: of.clone(), only: *only, change };
                        Some((whole, later.clone()))
                    }
                    _ => None,
                })
            }
            _ => None,
        };
        match through {
            Some((whole, later)) => {
                taken.push(later);
                swapped.push(whole);
            }
            None => swapped.push(effect.clone()),
        }
    }
    swapped
}

/// The change of a column's type that a statement of the operator's asks for.
pub(super) fn retyped(statement: &Statement, column: &str) -> Option<Retyped> {
    of(&statement.sql).into_iter().find_map(|effect| match effect {
        Effect::Relation { change: Change::Retyped(retyped), .. } if retyped.column == column => {
            Some(retyped)
        }
        _ => None,
    })
}

/// The first of the schemas in which names are looked up.
pub(super) fn first(path: &[Ident]) -> Ident {
    path.first().cloned().unwrap_or_else(|| Ident::new("public"))
}
