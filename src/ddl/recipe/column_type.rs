//! ALTER COLUMN … TYPE: free when the old bytes mean the same; a shorter length is kept as a CHECK; for what would write the table
//! anew see [`swap_column`](super::swap_column).

use super::{Answer, Pieces, Type, Whole};
use crate::{
    ddl::{
        parse::{self, NodeEnum, node},
        types::{self, Change, SqlType},
        volatility,
    },
    facts::ConstraintKind,
    finding::Severity,
    pg::name::Ident,
};

const WAY_OUT: &str = "Take what is in the way away first and give it back after, in these files; or keep the column and let new clients use a second one; or a blue-green migration.";

/// What an ALTER COLUMN … TYPE does.
struct Wanted<'w> {
    column: &'w str,
    shown: String,
    from: SqlType,
    to: SqlType,
    change: Change,
}

pub(super) fn apply(whole: &Whole, at: usize) -> Answer {
    let Some(definition) = type_change(whole, at) else { return Answer::AsIs };
    let wanted = match wanted(whole, at, definition) {
        Ok(wanted) => wanted,
        Err(refused) => return refused,
    };
    let (column, shown) = (wanted.column, wanted.shown.as_str());
    match wanted.change {
        Change::Free => free(whole, column, shown),
        Change::FreeInUtc => in_utc(whole, column, shown),
        Change::Shorter { length } => shorter(whole, column, shown, length),
        // The next recipe's.
        Change::Rewrite => Answer::AsIs,
    }
}

/// The old type and the new one, where the table would be written anew.
pub(super) fn rewriting(whole: &Whole, at: usize) -> Option<(SqlType, SqlType)> {
    let wanted = wanted(whole, at, type_change(whole, at)?).ok()?;
    (wanted.change == Change::Rewrite).then_some((wanted.from, wanted.to))
}

fn type_change<'w>(whole: &'w Whole, at: usize) -> Option<&'w node::ColumnDef> {
    let command = whole.command(at);
    match command.def.as_ref().and_then(|def| def.node.as_ref()) {
        Some(NodeEnum::ColumnDef(wanted)) if command.subtype() == Type::AtAlterColumnType => Some(wanted),
        _ => None,
    }
}

fn wanted<'w>(whole: &'w Whole, at: usize, definition: &node::ColumnDef) -> Result<Wanted<'w>, Answer> {
    let column = whole.command(at).name.as_str();
    let shown = format!("{}.{column}", whole.table.plain());
    let views: Vec<String> =
        whole.scene.views_of(&whole.table, column).iter().map(|view| view.plain()).collect();
    if !views.is_empty() {
        return Err(whole.refuse(
            "DDL_FAILS",
            format!(
                "{shown} is used by {}; the server refuses to change its type under a view",
                views.join(", ")
            ),
            "Drop the view before this statement and create it again after it, in these files.",
        ));
    }
    let Some(to) = definition.type_name.as_ref().and_then(SqlType::of) else {
        return Err(refuse_rewrite(whole, &shown, "its new type could not be told"));
    };
    let Some(from) = whole.scene.column_type(&whole.table, column) else {
        let what = if whole.live.is_some() {
            "its old type could not be told"
        } else {
            "its old type was not looked at, so the worst is assumed"
        };
        return Err(refuse_rewrite(whole, &shown, what));
    };
    let from = base_of(whole, from);
    let computed = types::is_computed(definition, column, &to);
    let change = match if computed { Change::Rewrite } else { change_to(whole, &from, &to) } {
        Change::Free | Change::FreeInUtc if builds_indexes(whole, column, definition) => Change::Rewrite,
        change => change,
    };
    Ok(Wanted { column, shown, from, to, change })
}

pub(super) fn refuse_rewrite(whole: &Whole, shown: &str, why: &str) -> Answer {
    whole.refuse(
        "DDL_NO_RULE",
        format!("ALTER COLUMN … TYPE of {shown} cannot be run online: {why}"),
        WAY_OUT,
    )
}

/// Indexes that the server builds anew under ACCESS EXCLUSIVE, whatever becomes of the rows: of another order of texts, and those
/// with the column in an expression or predicate.
fn builds_indexes(whole: &Whole, column: &str, wanted: &node::ColumnDef) -> bool {
    let scene = whole.scene;
    (types::orders_anew(wanted) && scene.is_indexed(&whole.table, column))
        || scene.is_in_expression(&whole.table, column)
}

/// A domain's own type, since leaving a domain is free.
fn base_of(whole: &Whole, from: SqlType) -> SqlType {
    let domain = whole.scene.domain(from.schema.as_deref(), &from.name, &whole.statement.search_path);
    let base = domain.filter(|_| !from.array).and_then(|domain| SqlType::parse(&domain.base));
    base.unwrap_or(from)
}

/// Into a domain without constraints it is as into its base type.
fn change_to(whole: &Whole, from: &SqlType, to: &SqlType) -> Change {
    let domain = whole.scene.domain(to.schema.as_deref(), &to.name, &whole.statement.search_path);
    match domain {
        Some(domain) if domain.constrained => Change::Rewrite,
        Some(domain) => {
            SqlType::parse(&domain.base).map_or(Change::Rewrite, |base| types::change(from, &base))
        }
        None => types::change(from, to),
    }
}

/// `c at time zone 'UTC'`: the one conversion between times that no setting of a session changes.
pub(super) fn is_at_time_zone(using: &node::Node) -> bool {
    let Some(NodeEnum::FuncCall(call)) = &using.node else { return false };
    let is_column = |node: &node::Node| matches!(node.node, Some(NodeEnum::ColumnRef(_)));
    let is_text = |node: &node::Node| matches!(node.node, Some(NodeEnum::AConst(_)));
    let by_name = parse::strings(&call.funcname).last().is_some_and(|name| name == "timezone");
    by_name && matches!(call.args.as_slice(), [zone, column] if is_text(zone) && is_column(column))
}

fn free(whole: &Whole, column: &str, shown: &str) -> Answer {
    match checked(whole, column) {
        Some(check) => whole.refuse(
            "DDL_NO_RULE",
            format!("the type of {shown} changes for free, but its constraint {check} is proved again for every row under ACCESS EXCLUSIVE"),
            "Drop that constraint before this statement and add it again after it: adding it is made online here.",
        ),
        None => Answer::AsIs,
    }
}

/// A CHECK over the column: the server adds it again, and with it reads the rows.
fn checked(whole: &Whole, column: &str) -> Option<String> {
    let constraints = whole.scene.constraints(&whole.table).into_iter();
    constraints.filter(|(_, now)| now.kind == ConstraintKind::Check).find_map(|(name, now)| {
        let definition = now.definition?;
        let inner = definition.strip_prefix("CHECK (")?.rsplit_once(')')?.0.to_owned();
        let tree = volatility::expression(&inner)?.node?;
        parse::columns(&tree).iter().any(|named| named == column).then_some(name)
    })
}

fn in_utc(whole: &Whole, column: &str, shown: &str) -> Answer {
    let zone = whole.scene.setting("TimeZone").unwrap_or_default();
    let is_utc = ["UTC", "Etc/UTC", "GMT", "Etc/GMT", "UCT", "Etc/UCT", "Universal", "Zulu"]
        .iter()
        .any(|name| name.eq_ignore_ascii_case(zone));
    if !is_utc {
        let seen = if whole.live.is_some() {
            format!("the database's TimeZone is {zone}")
        } else {
            "the database's TimeZone was not looked at".into()
        };
        return refuse_rewrite(
            whole,
            shown,
            &format!("it is free only where times are kept in UTC, and {seen}"),
        );
    }
    if whole.scene.is_indexed(&whole.table, column) {
        return whole.refuse(
            "DDL_NO_RULE",
            format!("the rows of {shown} stay as they are in UTC, but its indexes are rebuilt under ACCESS EXCLUSIVE"),
            "Drop the indexes of the column before this statement, and create them again after it, in these files.",
        );
    }
    free(whole, column, shown)
}

/// The type is kept; what it would have refused, a CHECK refuses.
fn shorter(whole: &Whole, column: &str, shown: &str, length: i64) -> Answer {
    if !whole.is_alone() {
        return refuse_rewrite(
            whole,
            shown,
            "a shorter length is proved for every row under ACCESS EXCLUSIVE; write it in a statement of its own",
        );
    }
    let name = whole.names.free(column, "check");
    let quoted = Ident::new(column);
    let here = vec![format!("add constraint {name} check (length({quoted}) <= {length}) not valid")];
    let after = vec![whole.statement_of(&format!("validate constraint {name}"))];
    let finding = whole.finding(
        Severity::Warning,
        "DDL_TYPE_KEPT",
        format!("{shown} keeps its type; the constraint {} holds its values to {length} characters instead", name.as_str()),
        "Nothing to do, unless something reads the length from the catalog. The type itself can be changed on a copy (a blue-green migration).",
    );
    Answer::Pieces(Pieces { here, after, findings: vec![finding], ..Pieces::default() })
}
