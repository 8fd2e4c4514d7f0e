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
const TRIGGER_STATE: Form = form(
    "ENABLE or DISABLE TRIGGER",
    "SHARE ROW EXCLUSIVE, brief; what writes do changes",
    "Run it by hand under a lock_timeout.",
);
const ROW_SECURITY: Form = form(
    "ROW LEVEL SECURITY",
    "ACCESS EXCLUSIVE, brief; without policies every non-owner sees no rows",
    "Run it by hand, policies first, under a lock_timeout.",
);
const INHERITANCE: Form = form(
    "INHERIT, NO INHERIT or OF",
    "ACCESS EXCLUSIVE on the child, brief",
    "Run it by hand under a lock_timeout.",
);
const ATTACH_PARTITION: Form = form(
    "ATTACH PARTITION",
    "the new partition is read under ACCESS EXCLUSIVE, and so is the DEFAULT partition",
    "Add a matching CHECK NOT VALID to it, VALIDATE, attach by hand under a lock_timeout, drop the CHECK.",
);
const DETACH_PARTITION: Form = form(
    "DETACH PARTITION",
    "ACCESS EXCLUSIVE on parent and partition",
    "DETACH PARTITION … CONCURRENTLY by hand.",
);
const ALTER_OTHER: Form = form(
    "this form of ALTER TABLE",
    "its locks are not known here",
    "Run it by hand on a copy first, looking at pg_locks.",
);
const CREATE_PARTITION: Form = form(
    "CREATE TABLE … PARTITION OF or INHERITS",
    "ACCESS EXCLUSIVE on the parent, and a scan of the DEFAULT partition",
    "CREATE TABLE … (LIKE parent INCLUDING ALL), then ATTACH PARTITION by hand under a lock_timeout.",
);
const CREATE_TABLE_AS: Form = form(
    "CREATE TABLE AS or a materialized view",
    "reads its tables under ACCESS SHARE in one long snapshot, which CREATE INDEX CONCURRENTLY waits for",
    "Create the table empty, and fill it in batches.",
);
const DROP_TABLE: Form = form(
    "DROP TABLE, VIEW or the like",
    "ACCESS EXCLUSIVE on it and on every table its foreign keys refer to",
    "Drop its foreign keys first (ALTER TABLE … DROP CONSTRAINT, one statement each); then drop it by hand under a lock_timeout when no client uses it.",
);
const DROP_OTHER: Form = form(
    "this DROP",
    "its locks are not known here",
    "Run it by hand under a lock_timeout, when nothing uses it.",
);
const SET_SCHEMA: Form = form(
    "SET SCHEMA",
    "ACCESS EXCLUSIVE, brief; the old name is gone for every client",
    "Keep a view under the old name; run it by hand under a lock_timeout.",
);
const CREATE_TRIGGER: Form = form(
    "CREATE TRIGGER",
    "SHARE ROW EXCLUSIVE, brief; what writes do changes",
    "Run it by hand under a lock_timeout.",
);
const POLICY: Form = form(
    "CREATE, ALTER or DROP of a POLICY or RULE",
    "ACCESS EXCLUSIVE, brief",
    "Run it by hand under a lock_timeout.",
);
const ALTER_ENUM: Form = form(
    "ALTER TYPE",
    "no lock on tables for a new enum value; ACCESS EXCLUSIVE on typed tables otherwise",
    "Run it by hand; a new value can be used only after its transaction.",
);
const ALTER_DOMAIN: Form = form(
    "ALTER DOMAIN",
    "every table that uses it is read under SHARE",
    "Use CHECK constraints of the tables, NOT VALID and then VALIDATE.",
);
const ALTER_SEQUENCE: Form = form(
    "ALTER SEQUENCE",
    "SHARE ROW EXCLUSIVE on the sequence: everybody's nextval() waits until it commits",
    "Run it by hand in a transaction of its own, under a lock_timeout.",
);
const STATISTICS: Form = form("CREATE or DROP STATISTICS", "SHARE UPDATE EXCLUSIVE", "Run it by hand.");
const GRANT: Form = form(
    "GRANT, REVOKE or ALTER OWNER",
    "nobody waits for its locks",
    "Run it by hand; who may do what is not part of this migration's schema yet.",
);
const PUBLICATION: Form = form(
    "CREATE, ALTER or DROP of a PUBLICATION or SUBSCRIPTION",
    "SHARE UPDATE EXCLUSIVE on its tables",
    "Run it by hand: it changes what replication sends.",
);
const REFRESH: Form = form(
    "REFRESH MATERIALIZED VIEW",
    "ACCESS EXCLUSIVE on the view while the query runs",
    "REFRESH … CONCURRENTLY by hand; it needs a unique index.",
);
const WRITES: Form = form(
    "INSERT, UPDATE, DELETE or MERGE on a table in use",
    "row locks on every row it touches until it commits, in one transaction",
    "Write the rows in small keyed batches from the application or by hand, before or after this plan.",
);
const TRUNCATE: Form =
    form("TRUNCATE", "ACCESS EXCLUSIVE, and the rows are gone", "Run it by hand, if it is really wanted.");
const LOCK: Form = form(
    "LOCK TABLE",
    "the lock is held to the end of a transaction that is dissolved here",
    "Take it out: every statement takes the locks it needs.",
);
const COPY: Form = form("COPY", "reads or writes rows from outside", "Load rows before or after this plan.");
const SELECT: Form =
    form("a query", "what its functions do cannot be seen", "Take it out, or run it by hand.");
const MAINTENANCE: Form = form(
    "VACUUM, ANALYZE or CLUSTER",
    "VACUUM FULL and CLUSTER rewrite the table under ACCESS EXCLUSIVE",
    "VACUUM and ANALYZE by hand; pg_repack in place of the others.",
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
const DO_BLOCK: Form = form(
    "DO",
    "what is inside runs unseen, in one transaction",
    "Write out the statements that it would run.",
);
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
        NodeEnum::CreateStmt(_) | NodeEnum::CreateForeignTableStmt(_) => &CREATE_PARTITION,
        NodeEnum::CreateTableAsStmt(_) => &CREATE_TABLE_AS,
        NodeEnum::RenameStmt(_) => &RENAME_OTHER,
        NodeEnum::AlterObjectSchemaStmt(_) => &SET_SCHEMA,
        NodeEnum::CreateTrigStmt(_) => &CREATE_TRIGGER,
        NodeEnum::CreatePolicyStmt(_) | NodeEnum::AlterPolicyStmt(_) | NodeEnum::RuleStmt(_) => &POLICY,
        NodeEnum::AlterEnumStmt(_) | NodeEnum::AlterTypeStmt(_) => &ALTER_ENUM,
        NodeEnum::AlterDomainStmt(_) => &ALTER_DOMAIN,
        NodeEnum::AlterSeqStmt(_) => &ALTER_SEQUENCE,
        NodeEnum::CreateStatsStmt(_) | NodeEnum::AlterStatsStmt(_) => &STATISTICS,
        NodeEnum::GrantStmt(_)
        | NodeEnum::GrantRoleStmt(_)
        | NodeEnum::AlterOwnerStmt(_)
        | NodeEnum::AlterDefaultPrivilegesStmt(_) => &GRANT,
        NodeEnum::CreatePublicationStmt(_)
        | NodeEnum::AlterPublicationStmt(_)
        | NodeEnum::CreateSubscriptionStmt(_)
        | NodeEnum::AlterSubscriptionStmt(_)
        | NodeEnum::DropSubscriptionStmt(_) => &PUBLICATION,
        NodeEnum::RefreshMatViewStmt(_) => &REFRESH,
        NodeEnum::InsertStmt(_)
        | NodeEnum::UpdateStmt(_)
        | NodeEnum::DeleteStmt(_)
        | NodeEnum::MergeStmt(_) => &WRITES,
        NodeEnum::TruncateStmt(_) => &TRUNCATE,
        NodeEnum::LockStmt(_) => &LOCK,
        NodeEnum::CopyStmt(_) => &COPY,
        NodeEnum::SelectStmt(_) | NodeEnum::CallStmt(_) | NodeEnum::ExplainStmt(_) => &SELECT,
        NodeEnum::VacuumStmt(_) => &MAINTENANCE,
        NodeEnum::DoStmt(_) => &DO_BLOCK,
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
        ObjectType::ObjectTable
        | ObjectType::ObjectView
        | ObjectType::ObjectMatview
        | ObjectType::ObjectForeignTable => &DROP_TABLE,
        ObjectType::ObjectPolicy | ObjectType::ObjectRule => &POLICY,
        ObjectType::ObjectPublication => &PUBLICATION,
        ObjectType::ObjectStatisticExt => &STATISTICS,
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
        Alter::AtEnableTrig
        | Alter::AtEnableAlwaysTrig
        | Alter::AtEnableReplicaTrig
        | Alter::AtDisableTrig
        | Alter::AtEnableTrigAll
        | Alter::AtDisableTrigAll
        | Alter::AtEnableTrigUser
        | Alter::AtDisableTrigUser => &TRIGGER_STATE,
        Alter::AtEnableRowSecurity
        | Alter::AtDisableRowSecurity
        | Alter::AtForceRowSecurity
        | Alter::AtNoForceRowSecurity => &ROW_SECURITY,
        Alter::AtAddInherit | Alter::AtDropInherit | Alter::AtAddOf | Alter::AtDropOf => &INHERITANCE,
        Alter::AtAttachPartition => &ATTACH_PARTITION,
        Alter::AtDetachPartition | Alter::AtDetachPartitionFinalize => &DETACH_PARTITION,
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
    let kinds: Vec<ConstrType> = column
        .constraints
        .iter()
        .filter_map(|item| match &item.node {
            Some(NodeEnum::Constraint(constraint)) => Some(constraint.contype()),
            _ => None,
        })
        .collect();
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
