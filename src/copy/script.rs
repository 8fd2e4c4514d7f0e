//! pg_dump's output as single statements, with what each needs from green. Pure.

use crate::error::{Doing, Error, Kind, Result};
use crate::pg::name::{Ident, TableName};
use pg_query::NodeEnum;
use pg_query::protobuf::{
    AlterOwnerStmt, AlterTableStmt, GrantStmt, Node, ObjectType, RoleSpec, RoleSpecType,
};
use std::collections::BTreeSet;

/// One statement of a dump.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Statement {
    /// Its text, without the semicolon.
    pub(super) sql: String,
    /// What it does, as far as we treat it differently.
    pub(super) does: Does,
    /// Roles it names, besides PUBLIC and the like.
    pub(super) roles: BTreeSet<String>,
}

/// What a statement does, as far as we treat it differently.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Does {
    /// Creates an extension.
    CreateExtension(String),
    /// Describes an extension, which its own script does too.
    CommentExtension,
    /// Creates a schema.
    CreateSchema(String),
    /// Gives an object to a role.
    ChangeOwner {
        /// A GRANT that leaves the role what an owner does with rows, for when it cannot own.
        instead: Option<String>,
    },
    /// Acts as a role that is not ours, for the grants that follow.
    ActAs,
    /// Says as whom a role of ours logs in to a foreign server.
    MapUser,
    /// Sets a parameter for the rest of the session.
    Set {
        /// Its name.
        parameter: String,
        /// Its first value, when it is a string.
        value: Option<String>,
    },
    /// Puts a trigger of ours on a table: left by an attempt that had armed blue.
    OurTrigger,
    /// Anything else.
    Other,
}

/// Splits a dump, leaving out the `\restrict` lines that newer pg_dumps write for psql.
///
/// # Errors
/// [`Kind::Server`] when the text is not SQL.
pub(super) fn split(dump: &str) -> Result<Vec<Statement>> {
    let sql = without_restrict(dump);
    let parsed = pg_query::parse(&sql, pg_query::ParserOptions::default())
        .doing(Kind::Server, || "pg_dump's output cannot be parsed".into())?;
    let mut statements = Vec::with_capacity(parsed.protobuf.stmts.len());
    for raw in &parsed.protobuf.stmts {
        let range = slice(&sql, raw.stmt_location, raw.stmt_len);
        let node = raw.stmt.as_deref().and_then(|node| node.node.as_ref());
        let (Some(text), Some(node)) = (range, node) else {
            return Err(Error::new(Kind::Bug, "a statement of pg_dump's output has no place in it"));
        };
        let mut roles = BTreeSet::new();
        name_roles(node, &mut roles);
        let sql = match node {
            NodeEnum::AlterTableStmt(alter) if sets_version(alter) => without_version(text.trim()),
            _ => Some(text.trim().to_owned()),
        };
        statements.extend(sql.map(|sql| Statement { sql, does: classify(node), roles }));
    }
    Ok(statements)
}

/// Servers since 15.20 keep a number of their own among a column's options. Their own pg_dump leaves it out; an older one of a
/// newer major writes it down, and every server refuses it by name.
const COLUMN_VERSION: &str = "pg_attver";

fn sets_version(alter: &AlterTableStmt) -> bool {
    let sets = |command: &pg_query::protobuf::AlterTableCmd| {
        let Some(NodeEnum::List(options)) = command.def.as_ref().and_then(|def| def.node.as_ref()) else {
            return false;
        };
        options.items.iter().any(
            |item| matches!(&item.node, Some(NodeEnum::DefElem(option)) if option.defname == COLUMN_VERSION),
        )
    };
    alter.cmds.iter().filter_map(command_of).any(sets)
}

/// `ALTER TABLE … SET (n_distinct=5, pg_attver=7)` without the last; `None` when that was all.
fn without_version(sql: &str) -> Option<String> {
    let (head, options) = sql.rsplit_once('(')?;
    let options = options.trim_end().trim_end_matches(')').split(',').map(str::trim);
    let kept: Vec<&str> = options.filter(|option| !option.starts_with(COLUMN_VERSION)).collect();
    (!kept.is_empty()).then(|| format!("{head}({})", kept.join(", ")))
}

/// psql alone knows `\restrict TOKEN`. The line is known by its token: the closing line repeats it, and a function's
/// body that happens to hold such a line has another.
fn without_restrict(dump: &str) -> String {
    let Some(token) = dump.lines().find_map(|line| line.strip_prefix("\\restrict ")) else {
        return dump.to_owned();
    };
    let (open, close) = (format!("\\restrict {token}"), format!("\\unrestrict {token}"));
    dump.split_inclusive('\n')
        .filter(|line| {
            let line = line.trim_end_matches(['\r', '\n']);
            line != open && line != close
        })
        .collect()
}

/// A length of 0 reaches to the end.
fn slice(sql: &str, start: i32, len: i32) -> Option<&str> {
    let start = usize::try_from(start).ok()?;
    match usize::try_from(len).ok()? {
        0 => sql.get(start..),
        len => sql.get(start..start + len),
    }
}

fn string_of(node: &Node) -> Option<&str> {
    match node.node.as_ref()? {
        NodeEnum::String(string) => Some(&string.sval),
        NodeEnum::AConst(constant) => match constant.val.as_ref()? {
            pg_query::protobuf::a_const::Val::Sval(string) => Some(&string.sval),
            _ => None,
        },
        _ => None,
    }
}

fn classify(node: &NodeEnum) -> Does {
    match node {
        NodeEnum::CreateExtensionStmt(stmt) => Does::CreateExtension(stmt.extname.clone()),
        NodeEnum::CommentStmt(stmt) if stmt.objtype == ObjectType::ObjectExtension as i32 => {
            Does::CommentExtension
        }
        NodeEnum::CreateSchemaStmt(stmt) => Does::CreateSchema(stmt.schemaname.clone()),
        NodeEnum::AlterOwnerStmt(stmt) => Does::ChangeOwner { instead: grant_schema(stmt) },
        NodeEnum::AlterTableStmt(stmt) => {
            let mut commands = stmt.cmds.iter().filter_map(command_of);
            if let Some(owner) = commands.clone().find_map(|command| command.newowner.as_ref()) {
                Does::ChangeOwner { instead: grant_relation(stmt, owner) }
            } else if commands.any(|command| command.name.starts_with("migrate_gate")) {
                Does::OurTrigger
            } else {
                Does::Other
            }
        }
        NodeEnum::CreateTrigStmt(stmt) if stmt.funcname.first().and_then(string_of) == Some("migrate") => {
            Does::OurTrigger
        }
        NodeEnum::CreateUserMappingStmt(_) => Does::MapUser,
        NodeEnum::VariableSetStmt(stmt) if stmt.name == "session_authorization" => Does::ActAs,
        NodeEnum::VariableSetStmt(stmt) => Does::Set {
            parameter: stmt.name.clone(),
            value: stmt.args.first().and_then(string_of).map(str::to_owned),
        },
        _ => Does::Other,
    }
}

/// On a sequence too, `on table` gives all that the kind of relation has.
fn grant_relation(stmt: &AlterTableStmt, owner: &RoleSpec) -> Option<String> {
    let relation = stmt.relation.as_ref()?;
    let table = TableName::new(&relation.schemaname, &relation.relname);
    Some(format!("grant all on table {table} to {}", Ident::new(&owner.rolename)))
}

/// Functions and types are everybody's to use unless a REVOKE says otherwise; schemas are not.
fn grant_schema(stmt: &AlterOwnerStmt) -> Option<String> {
    let is_schema = stmt.object_type == ObjectType::ObjectSchema as i32;
    let schema = stmt.object.as_deref().and_then(string_of).filter(|_| is_schema)?;
    let owner = &stmt.newowner.as_ref()?.rolename;
    Some(format!("grant all on schema {} to {}", Ident::new(schema), Ident::new(owner)))
}

fn command_of(node: &Node) -> Option<&pg_query::protobuf::AlterTableCmd> {
    match node.node.as_ref()? {
        NodeEnum::AlterTableCmd(command) => Some(command),
        _ => None,
    }
}

fn name_roles(node: &NodeEnum, roles: &mut BTreeSet<String>) {
    match node {
        NodeEnum::AlterOwnerStmt(stmt) => add(stmt.newowner.as_ref(), roles),
        NodeEnum::AlterTableStmt(stmt) => {
            for command in stmt.cmds.iter().filter_map(command_of) {
                add(command.newowner.as_ref(), roles);
            }
        }
        NodeEnum::GrantStmt(stmt) => add_grantees(stmt, roles),
        NodeEnum::AlterDefaultPrivilegesStmt(stmt) => {
            for option in &stmt.options {
                if let Some(NodeEnum::DefElem(option)) = &option.node
                    && option.defname == "roles"
                    && let Some(NodeEnum::List(list)) =
                        option.arg.as_deref().and_then(|arg| arg.node.as_ref())
                {
                    add_all(&list.items, roles);
                }
            }
            if let Some(action) = &stmt.action {
                add_grantees(action, roles);
            }
        }
        NodeEnum::CreatePolicyStmt(stmt) => add_all(&stmt.roles, roles),
        NodeEnum::CreateSchemaStmt(stmt) => add(stmt.authrole.as_ref(), roles),
        NodeEnum::CreateUserMappingStmt(stmt) => add(stmt.user.as_ref(), roles),
        NodeEnum::VariableSetStmt(stmt) if stmt.name == "session_authorization" => {
            roles.extend(stmt.args.iter().filter_map(string_of).map(str::to_owned));
        }
        _ => {}
    }
}

fn add_grantees(grant: &GrantStmt, roles: &mut BTreeSet<String>) {
    add_all(&grant.grantees, roles);
    add(grant.grantor.as_ref(), roles);
}

fn add_all(nodes: &[Node], roles: &mut BTreeSet<String>) {
    for node in nodes {
        if let Some(NodeEnum::RoleSpec(role)) = &node.node {
            add(Some(role), roles);
        }
    }
}

fn add(role: Option<&RoleSpec>, roles: &mut BTreeSet<String>) {
    if let Some(role) = role
        && role.roletype == RoleSpecType::RolespecCstring as i32
    {
        roles.insert(role.rolename.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(sql: &str) -> Statement {
        let mut statements = split(sql).unwrap();
        assert_eq!(statements.len(), 1, "{statements:?}");
        statements.remove(0)
    }

    #[test]
    fn a_servers_own_number_of_a_column_is_left_out() {
        let dump = "ALTER TABLE ONLY public.p ALTER COLUMN id SET (pg_attver=707365640);\n\
             ALTER TABLE ONLY public.p ALTER COLUMN a SET (n_distinct=5, pg_attver=7);\n\
             ALTER TABLE ONLY public.p ALTER COLUMN b SET (n_distinct=-1);";
        let sqls: Vec<String> = split(dump).unwrap().into_iter().map(|one| one.sql).collect();
        assert_eq!(
            sqls,
            [
                "ALTER TABLE ONLY public.p ALTER COLUMN a SET (n_distinct=5)",
                "ALTER TABLE ONLY public.p ALTER COLUMN b SET (n_distinct=-1)"
            ]
        );
    }

    #[test]
    fn restrict_lines_go_by_their_token_alone() {
        let dump = "\\restrict abc\n\nSELECT 1;\nCREATE FUNCTION f() RETURNS text LANGUAGE sql AS $$\n\
                    \\restrict other\n$$;\n\\unrestrict abc\n";
        let statements = split(dump).unwrap();
        assert_eq!(statements.len(), 2);
        assert!(statements[1].sql.contains("\\restrict other"));
        assert!(!statements.iter().any(|statement| statement.sql.contains("abc")));
    }

    #[test]
    fn roles_are_named_wherever_a_dump_puts_them() {
        let named = |sql| one(sql).roles.into_iter().collect::<Vec<_>>();
        assert_eq!(named("ALTER TABLE public.t OWNER TO \"App Owner\";"), ["App Owner"]);
        assert_eq!(named("ALTER FUNCTION public.f() OWNER TO app;"), ["app"]);
        assert_eq!(named("GRANT SELECT ON TABLE public.t TO reader, PUBLIC;"), ["reader"]);
        assert_eq!(
            named("ALTER DEFAULT PRIVILEGES FOR ROLE a IN SCHEMA public GRANT SELECT ON TABLES TO b;"),
            ["a", "b"]
        );
        assert_eq!(named("CREATE POLICY p ON public.t TO c USING (true);"), ["c"]);
        assert_eq!(named("SET SESSION AUTHORIZATION d;"), ["d"]);
        assert!(named("CREATE TABLE public.t (a int);").is_empty());
    }

    #[test]
    fn statements_are_told_apart() {
        assert_eq!(
            one("CREATE EXTENSION IF NOT EXISTS citext WITH SCHEMA public;").does,
            Does::CreateExtension("citext".into())
        );
        assert_eq!(one("COMMENT ON EXTENSION citext IS 'x';").does, Does::CommentExtension);
        assert_eq!(one("COMMENT ON TABLE public.t IS 'x';").does, Does::Other);
        assert_eq!(one("CREATE SCHEMA \"Odd\";").does, Does::CreateSchema("Odd".into()));
        let owner = |sql| match one(sql).does {
            Does::ChangeOwner { instead } => instead,
            other => panic!("{other:?}"),
        };
        assert_eq!(
            owner("ALTER SEQUENCE public.\"S\" OWNER TO a;").unwrap(),
            "grant all on table \"public\".\"S\" to \"a\""
        );
        assert_eq!(owner("ALTER SCHEMA s OWNER TO a;").unwrap(), "grant all on schema \"s\" to \"a\"");
        assert_eq!(owner("ALTER FUNCTION public.f() OWNER TO a;"), None);
        assert_eq!(
            one("SET default_tablespace = fast;").does,
            Does::Set { parameter: "default_tablespace".into(), value: Some("fast".into()) }
        );
        assert_eq!(
            one("CREATE TRIGGER g BEFORE INSERT ON public.t EXECUTE FUNCTION migrate.gate_check();").does,
            Does::OurTrigger
        );
    }
}
