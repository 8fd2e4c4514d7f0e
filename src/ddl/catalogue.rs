//! Forms that have no rule here: what each costs, as measured on PostgreSQL 12 to 18, and the way out.
//!
//! Data first; which form a statement is, below it.

use super::parse::{
    NodeEnum,
    node::{self, AlterTableType as Alter, ConstrType, ObjectType},
};

/// A form of statement.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Form {
    /// As an operator would call it.
    pub name: &'static str,
    /// Locks, scans, rewrites.
    pub costs: &'static str,
    /// What to do instead.
    pub way_out: &'static str,
}

const fn form(name: &'static str, costs: &'static str, way_out: &'static str) -> Form {
    Form { name, costs, way_out }
}

const ADD_COLUMN_DEFAULT: Form = form(
    "ADD COLUMN with a default that is not one constant",
    "if the expression is volatile, the table is rewritten under ACCESS EXCLUSIVE",
    "Write ADD COLUMN and ALTER COLUMN … SET DEFAULT in one ALTER TABLE (existing rows stay NULL, nothing is rewritten), then fill the old rows in batches.",
);
const ADD_COLUMN_NOT_NULL: Form = form(
    "ADD COLUMN NOT NULL without a default",
    "the server refuses it on a table with rows",
    "Give it a constant DEFAULT, or add it nullable, fill it in batches, and prove it with CHECK (… IS NOT NULL) NOT VALID and VALIDATE.",
);
const ADD_COLUMN_SERIAL: Form = form(
    "ADD COLUMN of a serial or identity type",
    "the table is rewritten and its indexes rebuilt under ACCESS EXCLUSIVE",
    "Add a bigint column, create the sequence OWNED BY it, SET DEFAULT nextval(…), then fill the old rows in batches.",
);
const ADD_COLUMN_GENERATED: Form = form(
    "ADD COLUMN GENERATED … STORED",
    "the table is rewritten under ACCESS EXCLUSIVE; there is no online form",
    "Use a plain column with a trigger, or a blue-green migration.",
);
const ADD_COLUMN_UNIQUE: Form = form(
    "ADD COLUMN … UNIQUE or PRIMARY KEY",
    "an index is built under ACCESS EXCLUSIVE",
    "ADD COLUMN alone, then CREATE UNIQUE INDEX, then ALTER TABLE … ADD CONSTRAINT … UNIQUE USING INDEX.",
);
const ADD_COLUMN_REFERENCES: Form = form(
    "ADD COLUMN … REFERENCES",
    "ACCESS EXCLUSIVE here and SHARE ROW EXCLUSIVE on the other table, with a scan of both when there is a default",
    "ADD COLUMN alone, then ADD CONSTRAINT … FOREIGN KEY … NOT VALID, then VALIDATE CONSTRAINT in a statement of its own.",
);
const ADD_COLUMN_CHECK: Form = form(
    "ADD COLUMN … CHECK",
    "the whole table is read under ACCESS EXCLUSIVE although the column is new",
    "ADD COLUMN c …, ADD CONSTRAINT k CHECK (…) NOT VALID in one ALTER TABLE, then VALIDATE CONSTRAINT in another.",
);
const ADD_COLUMN_TYPE: Form = form(
    "ADD COLUMN of a type that may be a domain with a check",
    "such a domain rewrites the table under ACCESS EXCLUSIVE",
    "Use the base type and a CHECK … NOT VALID; or create the type in these files, so that it is known to be none.",
);
const ALTER_TYPE: Form = form(
    "ALTER COLUMN … TYPE",
    "ACCESS EXCLUSIVE, and for most types a rewrite of the table and its indexes",
    "Add a column of the new type, keep it in step with a trigger, fill it in batches, and swap; or a blue-green migration.",
);
const SET_NOT_NULL: Form = form(
    "SET NOT NULL",
    "the whole table is read under ACCESS EXCLUSIVE",
    "ADD CONSTRAINT k CHECK (c IS NOT NULL) NOT VALID; VALIDATE CONSTRAINT k; SET NOT NULL; DROP CONSTRAINT k: four statements.",
);
const DROP_CASCADE: Form = form(
    "DROP … CASCADE",
    "everything that depends on it falls at once, each under ACCESS EXCLUSIVE",
    "Drop what depends on it first, one statement each, then drop without CASCADE.",
);
const ADD_CHECK: Form = form(
    "ADD CHECK",
    "the whole table is read under ACCESS EXCLUSIVE",
    "ADD CONSTRAINT … CHECK (…) NOT VALID, then VALIDATE CONSTRAINT in a statement of its own.",
);
const ADD_FOREIGN_KEY: Form = form(
    "ADD FOREIGN KEY",
    "both tables are read under SHARE ROW EXCLUSIVE, writers wait",
    "Index the referring columns, ADD CONSTRAINT … FOREIGN KEY … NOT VALID, then VALIDATE CONSTRAINT in a statement of its own.",
);
const ADD_UNIQUE: Form = form(
    "ADD UNIQUE",
    "an index is built under ACCESS EXCLUSIVE",
    "CREATE UNIQUE INDEX, then ALTER TABLE … ADD CONSTRAINT … UNIQUE USING INDEX.",
);
const ADD_PRIMARY_KEY: Form = form(
    "ADD PRIMARY KEY",
    "an index is built, and NULLs looked for, under ACCESS EXCLUSIVE",
    "Make the columns NOT NULL online, CREATE UNIQUE INDEX, then ADD CONSTRAINT … PRIMARY KEY USING INDEX.",
);
const ADD_EXCLUDE: Form = form(
    "ADD EXCLUDE, or a key WITHOUT OVERLAPS",
    "an index is built under ACCESS EXCLUSIVE; there is no online form",
    "A new table with the constraint, or a blue-green migration.",
);
const SET_EXPRESSION: Form = form(
    "SET EXPRESSION of a stored generated column",
    "every row is computed and written anew under ACCESS EXCLUSIVE; there is no online form",
    "A new plain column with a trigger that sets it, filled by an UPDATE (done in batches here), and a swap; or a blue-green migration.",
);
const VALIDATE: Form = form(
    "VALIDATE CONSTRAINT beside other changes",
    "the rows are read under the lock of the others",
    "Put VALIDATE CONSTRAINT in a statement of its own, after this one.",
);
const ADD_NOT_NULL: Form = form(
    "ADD CONSTRAINT … NOT NULL",
    "the whole table is read under ACCESS EXCLUSIVE",
    "On 18: add it NOT VALID, then VALIDATE CONSTRAINT in a statement of its own.",
);
const ALTER_CONSTRAINT: Form = form(
    "ALTER CONSTRAINT",
    "ACCESS EXCLUSIVE; ENFORCED reads both tables under it",
    "Add a second constraint NOT VALID, VALIDATE it, then drop the first.",
);
const SET_LOGGED: Form = form(
    "SET LOGGED or UNLOGGED",
    "the table is rewritten under ACCESS EXCLUSIVE",
    "A new table and a copy.",
);
const SET_TABLESPACE: Form = form(
    "SET TABLESPACE or ACCESS METHOD",
    "the table is copied under ACCESS EXCLUSIVE",
    "A blue-green migration, or pg_repack.",
);
const ALTER_OTHER: Form = form(
    "this form of ALTER TABLE",
    "its locks are not known here",
    "Run it by hand on a copy first, looking at pg_locks.",
);
const CREATE_TABLE_AS: Form = form(
    "CREATE TABLE AS or a materialized view",
    "reads its tables under ACCESS SHARE in one long snapshot, which CREATE INDEX CONCURRENTLY waits for",
    "Create the table empty, and fill it in batches.",
);
const DROP_OTHER: Form = form(
    "this DROP",
    "its locks are not known here",
    "Run it by hand under a lock_timeout, when nothing uses it.",
);
const ALTER_ENUM: Form = form(
    "ALTER TYPE",
    "no lock on tables for a new enum value; ACCESS EXCLUSIVE on typed tables otherwise",
    "Run it by hand; a new value can be used only after its transaction.",
);
const GRANT: Form = form("GRANT or REVOKE of a role", "it reaches beyond this database", "Run it by hand.");
const SUBSCRIPTION: Form = form(
    "CREATE, ALTER or DROP of a SUBSCRIPTION",
    "it reaches to another server, and begins or ends to write rows here",
    "Run it by hand.",
);
const EXTENSION: Form = form(
    "ALTER or DROP of an EXTENSION",
    "what its script does, and what falls with it, cannot be seen",
    "Run it by hand, on a copy first, looking at pg_locks.",
);
const WRITES: Form = form(
    "INSERT, UPDATE, DELETE or MERGE on a table in use",
    "row locks on every row it touches until it commits, in one transaction",
    "Write the rows in small keyed batches from the application or by hand, before or after this plan.",
);
const LOCK: Form = form(
    "LOCK TABLE",
    "the lock is held to the end of a transaction that is dissolved here",
    "Take it out: every statement takes the locks it needs.",
);
const COPY: Form = form("COPY", "reads or writes rows from outside", "Load rows before or after this plan.");
const SELECT: Form =
    form("a query", "what its functions do cannot be seen", "Take it out, or run it by hand.");
const MAINTENANCE: Form = form(
    "VACUUM FULL or CLUSTER",
    "the table is written anew under ACCESS EXCLUSIVE",
    "pg_repack or pg_squeeze; on 19, REPACK (CONCURRENTLY).",
);
const REINDEX_MANY: Form = form(
    "REINDEX of a schema, a database or system catalogs",
    "SHARE on every table while its indexes are built",
    "Write REINDEX TABLE for each table.",
);
const CREATE_INDEX: Form = form(
    "this CREATE INDEX",
    "SHARE on the table while the index is built: writers wait",
    "Simplify the statement: the CONCURRENTLY form could not be proved to mean the same.",
);
const DROP_INDEX: Form =
    form("this DROP INDEX", "ACCESS EXCLUSIVE on the table", "Write one DROP INDEX for each index.");
const RENAME_OTHER: Form =
    form("this RENAME", "the old name is gone for every client", "Run it by hand under a lock_timeout.");
const CREATE_ROLE: Form = form(
    "a statement on roles, databases, tablespaces or settings of the server",
    "it reaches beyond this database",
    "Run it by hand.",
);
const UNKNOWN: Form = form(
    "this form",
    "its locks are not known here",
    "Run it by hand on a copy first, looking at pg_locks; then open an issue with the statement.",
);

/// The form of a statement that no rule claimed.
pub(super) fn form_of(tree: &NodeEnum) -> &'static Form {
    match tree {
        NodeEnum::AlterTableStmt(alter) => alter
            .cmds
            .iter()
            .filter_map(|command| match &command.node {
                Some(NodeEnum::AlterTableCmd(command)) => Some(alter_form(command)),
                _ => None,
            })
            .find(|form| **form != ALTER_OTHER)
            .unwrap_or(&ALTER_OTHER),
        NodeEnum::DropStmt(drop) => drop_form(drop),
        NodeEnum::IndexStmt(_) => &CREATE_INDEX,
        NodeEnum::ReindexStmt(_) => &REINDEX_MANY,
        NodeEnum::CreateTableAsStmt(_) => &CREATE_TABLE_AS,
        NodeEnum::RenameStmt(_) => &RENAME_OTHER,
        NodeEnum::AlterEnumStmt(_) | NodeEnum::AlterTypeStmt(_) => &ALTER_ENUM,
        NodeEnum::GrantRoleStmt(_) => &GRANT,
        NodeEnum::CreateSubscriptionStmt(_)
        | NodeEnum::AlterSubscriptionStmt(_)
        | NodeEnum::DropSubscriptionStmt(_) => &SUBSCRIPTION,
        NodeEnum::InsertStmt(_)
        | NodeEnum::UpdateStmt(_)
        | NodeEnum::DeleteStmt(_)
        | NodeEnum::MergeStmt(_) => &WRITES,
        NodeEnum::LockStmt(_) => &LOCK,
        NodeEnum::CopyStmt(_) => &COPY,
        NodeEnum::SelectStmt(_) | NodeEnum::CallStmt(_) | NodeEnum::ExplainStmt(_) => &SELECT,
        NodeEnum::VacuumStmt(_) | NodeEnum::ClusterStmt(_) => &MAINTENANCE,
        NodeEnum::AlterExtensionStmt(_) | NodeEnum::AlterExtensionContentsStmt(_) => &EXTENSION,
        NodeEnum::CreateRoleStmt(_)
        | NodeEnum::AlterRoleStmt(_)
        | NodeEnum::DropRoleStmt(_)
        | NodeEnum::CreatedbStmt(_)
        | NodeEnum::DropdbStmt(_)
        | NodeEnum::AlterSystemStmt(_)
        | NodeEnum::AlterDatabaseSetStmt(_)
        | NodeEnum::AlterRoleSetStmt(_) => &CREATE_ROLE,
        _ => &UNKNOWN,
    }
}

fn drop_form(drop: &node::DropStmt) -> &'static Form {
    if drop.behavior() == node::DropBehavior::DropCascade {
        return &DROP_CASCADE;
    }
    match drop.remove_type() {
        ObjectType::ObjectIndex => &DROP_INDEX,
        ObjectType::ObjectExtension => &EXTENSION,
        _ => &DROP_OTHER,
    }
}

fn alter_form(command: &node::AlterTableCmd) -> &'static Form {
    match command.subtype() {
        Alter::AtAddColumn => add_column_form(command),
        Alter::AtAddConstraint => add_constraint_form(command),
        Alter::AtAlterColumnType => &ALTER_TYPE,
        Alter::AtSetNotNull => &SET_NOT_NULL,
        Alter::AtSetExpression => &SET_EXPRESSION,
        Alter::AtValidateConstraint => &VALIDATE,
        Alter::AtAlterConstraint => &ALTER_CONSTRAINT,
        Alter::AtDropColumn | Alter::AtDropConstraint
            if command.behavior() == node::DropBehavior::DropCascade =>
        {
            &DROP_CASCADE
        }
        Alter::AtSetLogged | Alter::AtSetUnLogged => &SET_LOGGED,
        Alter::AtSetTableSpace | Alter::AtSetAccessMethod => &SET_TABLESPACE,
        Alter::AtAddIdentity | Alter::AtSetIdentity | Alter::AtDropIdentity => &ADD_COLUMN_SERIAL,
        _ => &ALTER_OTHER,
    }
}

fn add_constraint_form(command: &node::AlterTableCmd) -> &'static Form {
    let Some(NodeEnum::Constraint(constraint)) = command.def.as_ref().and_then(|def| def.node.as_ref())
    else {
        return &ALTER_OTHER;
    };
    match constraint.contype() {
        ConstrType::ConstrCheck if !constraint.skip_validation => &ADD_CHECK,
        ConstrType::ConstrForeign => &ADD_FOREIGN_KEY,
        _ if constraint.without_overlaps => &ADD_EXCLUDE,
        ConstrType::ConstrUnique if constraint.indexname.is_empty() => &ADD_UNIQUE,
        ConstrType::ConstrPrimary => &ADD_PRIMARY_KEY,
        ConstrType::ConstrExclusion => &ADD_EXCLUDE,
        ConstrType::ConstrNotnull => &ADD_NOT_NULL,
        _ => &ALTER_OTHER,
    }
}

fn add_column_form(command: &node::AlterTableCmd) -> &'static Form {
    let Some(NodeEnum::ColumnDef(column)) = command.def.as_ref().and_then(|def| def.node.as_ref()) else {
        return &ALTER_OTHER;
    };
    let kinds = super::parts::constraint_types(column);
    let type_name = column.type_name.as_ref().and_then(|name| super::parse::strings(&name.names).pop());
    let has = |kind| kinds.contains(&kind);
    if type_name.is_some_and(|name| name.contains("serial")) || has(ConstrType::ConstrIdentity) {
        &ADD_COLUMN_SERIAL
    } else if has(ConstrType::ConstrGenerated) {
        &ADD_COLUMN_GENERATED
    } else if has(ConstrType::ConstrUnique) || has(ConstrType::ConstrPrimary) {
        &ADD_COLUMN_UNIQUE
    } else if has(ConstrType::ConstrForeign) {
        &ADD_COLUMN_REFERENCES
    } else if has(ConstrType::ConstrCheck) {
        &ADD_COLUMN_CHECK
    } else if has(ConstrType::ConstrDefault) {
        &ADD_COLUMN_DEFAULT
    } else if has(ConstrType::ConstrNotnull) {
        &ADD_COLUMN_NOT_NULL
    } else {
        &ADD_COLUMN_TYPE
    }
}
