//! ADD COLUMN with more than a name, a type and one value for all rows: the bare column comes first, and its default with it
//! (ADD COLUMN and SET DEFAULT in one ALTER TABLE write no row); filling, proving and indexing follow.

use super::{
    Answer, Pieces, Type, Whole, check_and_foreign_key::unindexed_column, key::attributes as key_attributes,
};
use crate::{
    ddl::{
        parse::node::ConstrType,
        parts::{self, Clause, ColumnText},
        types::SqlType,
        volatility::{self, Known},
    },
    facts::Persistence,
    finding::{Finding, Severity},
    pg::name::{Ident, TableName, literal},
};

/// A column in the making.
struct Column<'a> {
    whole: &'a Whole<'a>,
    text: ColumnText,
    name: Ident,
    sql_type: Option<SqlType>,
}

/// Where its values come from.
enum Values {
    /// NULL, or one value for all rows.
    One,
    /// An expression that must be computed for each row.
    Each { expression: String },
    /// `serial`: a sequence of its own.
    Serial { integer: &'static str },
    /// `generated … as identity (options)`: a sequence of the column's, which it can only have when it is filled.
    Identity { options: String },
}

pub(super) fn apply(whole: &Whole, at: usize) -> Answer {
    if whole.command(at).subtype() != Type::AtAddColumn {
        return Answer::AsIs;
    }
    let Some(text) = parts::column(whole.text(at)) else { return Answer::AsIs };
    if let Some(answer) = already_there(whole, at, &text.name) {
        return answer;
    }
    let name = Ident::new(&text.name);
    let sql_type = match whole.command(at).def.as_ref().and_then(|def| def.node.as_ref()) {
        Some(super::parse::NodeEnum::ColumnDef(column)) => column.type_name.as_ref().and_then(SqlType::of),
        _ => None,
    };
    let column = Column { whole, text, name, sql_type };
    if let Some(finding) = column.refused() {
        return Answer::Refused(finding);
    }
    let mut findings = Vec::new();
    let values = column.values(&mut findings);
    if matches!(values, Values::One) && !column.clauses_are_heavy() && !column.must_be_proved() {
        return if findings.is_empty() {
            Answer::AsIs
        } else {
            Answer::Pieces(Pieces { here: vec![whole.text(at).to_owned()], findings, ..Pieces::default() })
        };
    }
    let mut pieces = column.pieces(&values);
    pieces.findings.extend(findings);
    Answer::Pieces(pieces)
}

/// A column that is there: with IF NOT EXISTS the statement would do nothing, under ACCESS EXCLUSIVE all the same.
fn already_there(whole: &Whole, at: usize, name: &str) -> Option<Answer> {
    let dropped =
        whole.siblings(at).any(|(_, tree)| tree.subtype() == Type::AtDropColumn && tree.name == name);
    if dropped || whole.scene.has_column(&whole.table, name) != Some(true) {
        return None;
    }
    let what = format!("{} has a column {name} already", whole.table.plain());
    if !whole.command(at).missing_ok {
        return Some(whole.refuse(
            "DDL_NAME_TAKEN",
            what,
            "Take the statement out, or give the column another name.",
        ));
    }
    let what =
        format!("{what}; ADD COLUMN IF NOT EXISTS is left out, since it would lock the table to do nothing");
    let finding = whole.finding(Severity::Info, "DDL_ALREADY_THERE", what, "Nothing to do.");
    Some(Answer::Pieces(Pieces { findings: vec![finding], ..Pieces::default() }))
}

impl Column<'_> {
    fn has(&self, kind: ConstrType) -> bool {
        self.text.clause(kind).is_some()
    }

    fn clauses_are_heavy(&self) -> bool {
        use ConstrType::*;
        [ConstrUnique, ConstrPrimary, ConstrForeign, ConstrCheck].into_iter().any(|kind| self.has(kind))
    }

    /// NOT NULL on a column that has nothing: an empty table takes it, and reads itself under ACCESS EXCLUSIVE to see that it is.
    fn must_be_proved(&self) -> bool {
        self.has(ConstrType::ConstrNotnull) && self.default().is_none() && !self.makes_values()
    }

    /// `serial` and identity.
    fn makes_values(&self) -> bool {
        self.is_serial() || self.has(ConstrType::ConstrIdentity)
    }

    fn default(&self) -> Option<&Clause> {
        self.text.clause(ConstrType::ConstrDefault).filter(|clause| {
            let tree = clause.tree.raw_expr.as_ref();
            !tree.is_none_or(|tree| crate::ddl::rules::add_column::is_null(tree))
        })
    }

    fn refuse(&self, code: &str, what: &str, help: &str) -> Option<Finding> {
        let what = format!("column {} of {}: {what}", self.text.name, self.whole.table.plain());
        Some(self.whole.finding(Severity::Blocking, code, what, help))
    }

    /// What has no online form, or fails.
    fn refused(&self) -> Option<Finding> {
        if let Some(clause) = self.text.clause(ConstrType::ConstrGenerated) {
            return self.generated(&clause.tree.generated_kind);
        }
        if let Some(clause) = self.text.clause(ConstrType::ConstrIdentity)
            && identity_options(&clause.text).is_none()
        {
            return self.refuse(
                "DDL_NO_RULE",
                "an identity column is filled for every row while ACCESS EXCLUSIVE is held, and with a name of its own its sequence cannot be made before",
                "Leave SEQUENCE NAME out, and rename the sequence after this statement.",
            );
        }
        let is_known = self.is_serial() || self.sql_type.as_ref().is_some_and(SqlType::is_builtin);
        if !is_known && let Some(finding) = self.domain() {
            return Some(finding);
        }
        let must_be_set = self.has(ConstrType::ConstrNotnull) || self.has(ConstrType::ConstrPrimary);
        let is_empty = self.whole.live.is_some_and(|table| table.has_rows == Some(false));
        if must_be_set && self.default().is_none() && !self.makes_values() && !is_empty {
            return self.refuse(
                "DDL_FAILS",
                "NOT NULL without a default: the server refuses it on a table with rows, and clients that do not know the column could write no more",
                "Give it a DEFAULT; or add it nullable, let clients write it, UPDATE the old rows (done in batches here), and then SET NOT NULL (made online here).",
            );
        }
        None
    }

    fn generated(&self, kind: &str) -> Option<Finding> {
        let major = self.whole.scene.major();
        if kind != "v" {
            return self.refuse(
                "DDL_NO_RULE",
                "GENERATED … STORED writes the whole table under ACCESS EXCLUSIVE, and there is no online form",
                "A plain column with a trigger that sets it and an UPDATE of the old rows; GENERATED … VIRTUAL on PostgreSQL 18; or a blue-green migration.",
            );
        }
        if major.is_some_and(|major| major < 18) {
            return self.refuse(
                "DDL_FAILS",
                "VIRTUAL exists from PostgreSQL 18 on, and this server is older",
                "A view that computes it, or a blue-green migration to 18.",
            );
        }
        let reads = self.has(ConstrType::ConstrNotnull) || self.clauses_are_heavy();
        reads
            .then(|| {
                self.refuse(
                    "DDL_NO_RULE",
                    "constraints of a VIRTUAL column are checked for every row under ACCESS EXCLUSIVE",
                    "Add the column without them; then ALTER TABLE … ADD CONSTRAINT … NOT NULL or CHECK in a statement of its own, which is made online here.",
                )
            })
            .flatten()
    }

    /// A domain with a check rewrites the table, even when all its values are NULL.
    fn domain(&self) -> Option<Finding> {
        let sql_type = self.sql_type.as_ref()?;
        let scene = self.whole.scene;
        if scene.is_plain_type(&sql_type.name) {
            return None;
        }
        let domain =
            scene.domain(sql_type.schema.as_deref(), &sql_type.name, &self.whole.statement.search_path);
        let is_new = scene.is_domain_made_here(&sql_type.name);
        if scene.looked() && !is_new && domain.is_none_or(|domain| !domain.constrained) {
            return None;
        }
        let sure = if domain.is_some() || is_new { "is" } else { "may be" };
        let base = domain.map_or("its base type", |domain| domain.base.as_str());
        let what = format!(
            "{} {sure} a domain with a constraint or default of its own, which writes the whole table under ACCESS EXCLUSIVE",
            sql_type.name
        );
        let help = format!(
            "Use {base} and a CHECK of the table, which is made online here; or create the type in these files, or plan with the database, so that it is known to be harmless."
        );
        self.refuse("DDL_NO_RULE", &what, &help)
    }

    fn values(&self, findings: &mut Vec<Finding>) -> Values {
        if let Some(integer) = self.sql_type.as_ref().and_then(SqlType::serial) {
            return Values::Serial { integer };
        }
        if let Some(clause) = self.text.clause(ConstrType::ConstrIdentity) {
            return Values::Identity { options: identity_options(&clause.text).unwrap_or_default() };
        }
        let Some((clause, tree)) =
            self.default().and_then(|clause| Some((clause, clause.tree.raw_expr.as_ref()?)))
        else {
            return Values::One;
        };
        match volatility::of(tree, self.whole.scene, &self.whole.statement.search_path) {
            Known::OneValue => Values::One,
            Known::Volatile => Values::Each { expression: expression_of(&clause.text) },
            Known::Assumed { functions } => {
                findings.push(self.whole.assumed(format!(
                    "{} was not looked at; it is taken as volatile, a value for each row",
                    functions.join(", ")
                )));
                Values::Each { expression: expression_of(&clause.text) }
            }
        }
    }

    fn pieces(&self, values: &Values) -> Pieces {
        let mut pieces = Pieces::default();
        let is_filled_later = !matches!(values, Values::One);
        let bare = match values {
            Values::Serial { integer } => self.bare_of(integer),
            _ => self.text.bare.clone(),
        };
        pieces.here.push(self.with_quick_clauses(bare, is_filled_later));
        match values {
            Values::One => {}
            Values::Each { expression } => {
                pieces.here.push(format!("alter column {} set default {expression}", self.name));
                pieces.after.push(self.fill(expression));
            }
            Values::Serial { integer } => self.sequence(integer, &mut pieces),
            Values::Identity { options } => self.identity(options, &mut pieces),
        }
        if is_filled_later && self.whole.scene.fires_triggers(&self.whole.table) == Some(true) {
            pieces.findings.push(self.triggers());
        }
        self.constraints(is_filled_later, &mut pieces);
        pieces
    }

    /// NULL and, where all rows have a value at once, DEFAULT and NOT NULL stay with the column.
    fn with_quick_clauses(&self, mut bare: String, is_filled_later: bool) -> String {
        for clause in &self.text.clauses {
            let stays = match clause.kind {
                ConstrType::ConstrDefault => !is_filled_later,
                ConstrType::ConstrNotnull => !is_filled_later && !self.must_be_proved(),
                _ => false,
            };
            if stays {
                let named = &clause.tree.conname;
                let prefix = if named.is_empty() {
                    String::new()
                } else {
                    format!("constraint {} ", Ident::new(named))
                };
                bare = format!("{bare} {prefix}{}", clause.text);
            }
        }
        bare
    }

    /// `add column n serial` with the integer type under it.
    fn bare_of(&self, integer: &str) -> String {
        let end = self.text.bare.len() - self.text.type_text.len();
        match self.text.bare.get(..end) {
            Some(head) if self.text.bare.ends_with(&self.text.type_text) => format!("{head}{integer}"),
            _ => format!("add column {} {integer}", self.name),
        }
    }

    fn fill(&self, expression: &str) -> String {
        format!("update {} set {} = {expression} where {} is null", self.whole.table, self.name, self.name)
    }

    fn triggers(&self) -> Finding {
        self.whole.finding(
            Severity::Warning,
            "DDL_FILL_TRIGGERS",
            format!(
                "filling {} of {} is an UPDATE of every row, which fires the triggers of the table; the statement as written would not",
                self.text.name,
                self.whole.table.plain()
            ),
            "Look whether a trigger sets a time of change, writes history or refuses; if so, let it pass over rows of which only this column changes.",
        )
    }

    fn sequence(&self, integer: &str, pieces: &mut Pieces) {
        let table = &self.whole.table;
        let name = self.whole.names.free(&self.text.name, "seq");
        let sequence = TableName { schema: table.schema.clone(), name };
        let unlogged = self.whole.live.is_some_and(|live| live.persistence == Persistence::Unlogged);
        let unlogged = if unlogged && self.whole.scene.major().is_some_and(|major| major >= 15) {
            "unlogged "
        } else {
            ""
        };
        let next = format!("nextval({}::regclass)", literal(&sequence.to_string()));
        pieces.after.extend([
            format!("create {unlogged}sequence {sequence} as {integer} owned by {table}.{}", self.name),
            self.whole.statement_of(&format!("alter column {} set default {next}", self.name)),
            self.fill(&next),
        ]);
        if !self.has(ConstrType::ConstrPrimary) {
            pieces.after.push(self.set_not_null());
        }
    }

    /// A sequence for the time of filling; then the column gets its own, which goes on where that one stands.
    fn identity(&self, options: &str, pieces: &mut Pieces) {
        let table = &self.whole.table;
        let interim =
            TableName { schema: table.schema.clone(), name: self.whole.names.free(&self.text.name, "fill") };
        let next = format!("nextval({}::regclass)", literal(&interim.to_string()));
        pieces.after.extend([
            format!("create sequence {interim} as {} {options}", self.text.type_text).trim_end().to_owned(),
            self.whole.statement_of(&format!("alter column {} set default {next}", self.name)),
            self.fill(&next),
            self.set_not_null(),
        ]);
        let clause = self.text.clause(ConstrType::ConstrIdentity).map_or("", |clause| clause.text.as_str());
        let own = format!(
            "pg_get_serial_sequence({}, {})",
            literal(&table.to_string()),
            literal(self.name.as_str())
        );
        pieces.at_once.extend([
            self.whole.statement_of(&format!(
                "alter column {} drop default, alter column {} add {clause}",
                self.name, self.name
            )),
            format!("select setval({own}, {next}, false)"),
            format!("drop sequence {interim}"),
        ]);
    }

    fn set_not_null(&self) -> String {
        self.whole.statement_of(&format!("alter column {} set not null", self.name))
    }

    /// What a column constraint is as one of the table, in an order in which each finds what it needs.
    fn constraints(&self, is_filled_later: bool, pieces: &mut Pieces) {
        let name = |clause: &Clause| self.whole.names.of(&clause.tree, self.column_in_name(clause));
        let each = |kind: ConstrType| self.text.clauses.iter().filter(move |clause| clause.kind == kind);
        for clause in each(ConstrType::ConstrCheck) {
            let name = name(clause);
            let added = format!("add constraint {name} {}{}", clause.text, clause.attributes);
            if is_filled_later {
                // Bound now, it would refuse every UPDATE of a row that is not filled yet.
                pieces.after.push(self.whole.statement_of(&added));
            } else if clause.attributes.to_lowercase().contains("not enforced") {
                pieces.here.push(added);
            } else {
                pieces.here.push(format!("{added} not valid"));
                pieces.after.push(self.whole.statement_of(&format!("validate constraint {name}")));
            }
        }
        let is_proved_later = is_filled_later || self.must_be_proved();
        if is_proved_later
            && self.has(ConstrType::ConstrNotnull)
            && !self.makes_values()
            && !self.has(ConstrType::ConstrPrimary)
        {
            pieces.after.push(self.set_not_null());
        }
        for clause in each(ConstrType::ConstrUnique).chain(each(ConstrType::ConstrPrimary)) {
            let added = self.as_table_key(clause, &name(clause));
            pieces.after.push(self.whole.statement_of(&added));
        }
        for clause in each(ConstrType::ConstrForeign) {
            let added = format!(
                "add constraint {} foreign key ({}) {}{}",
                name(clause),
                self.name,
                clause.text,
                clause.attributes
            );
            pieces.after.push(self.whole.statement_of(&added));
            pieces.findings.extend(
                unindexed_column(self.whole, &self.text.name)
                    .filter(|_| !self.has(ConstrType::ConstrUnique) && !self.has(ConstrType::ConstrPrimary)),
            );
        }
    }

    fn is_serial(&self) -> bool {
        self.sql_type.as_ref().is_some_and(|sql_type| sql_type.serial().is_some())
    }

    /// A CHECK takes its name from the columns it reads, the others from this column.
    fn column_in_name(&self, clause: &Clause) -> Option<&str> {
        (clause.kind != ConstrType::ConstrCheck).then_some(self.text.name.as_str())
    }

    /// `unique nulls not distinct with (…)` with the column put in.
    fn as_table_key(&self, clause: &Clause, name: &Ident) -> String {
        use crate::ddl::parse::{self, node::Token as Kind};
        let tokens = parse::tokens(&clause.text).unwrap_or_default();
        let is_head = |kind| {
            matches!(
                kind,
                Kind::Unique | Kind::Primary | Kind::Key | Kind::NullsP | Kind::Not | Kind::Distinct
            )
        };
        let head = tokens.iter().take_while(|token| is_head(token.kind)).last().map_or(0, |token| token.end);
        let (kind, rest) = clause.text.split_at(head);
        let attributes =
            if clause.attributes.is_empty() { key_attributes(&clause.tree) } else { &clause.attributes };
        format!("add constraint {name} {kind} ({}){rest}{attributes}", self.name)
    }
}

/// What stands in the brackets of `generated … as identity (…)`; `None` when it names the sequence.
fn identity_options(text: &str) -> Option<String> {
    use crate::ddl::parse::{self, node::Token as Kind};
    let tokens = parse::tokens(text).ok()?;
    if tokens.iter().any(|token| token.kind == Kind::Sequence) {
        return None;
    }
    let bracket = |kind| tokens.iter().find(|token| token.kind == kind);
    let inner = bracket(Kind::Ascii40)
        .zip(bracket(Kind::Ascii41))
        .and_then(|(open, close)| text.get(open.end..close.start));
    Some(inner.unwrap_or_default().trim().to_owned())
}

/// The expression of `default expression`.
fn expression_of(text: &str) -> String {
    let tokens = crate::ddl::parse::tokens(text).unwrap_or_default();
    tokens.get(1).and_then(|token| text.get(token.start..)).unwrap_or(text).to_owned()
}
