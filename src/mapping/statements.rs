//! The statements that write mapped rows on green. Every one evaluates the expressions in the same form: a derived
//! table with blue's column names and types, below it nothing of green's, so that a name in an expression can only
//! mean a column of blue.

use super::fit::Fitted;
use crate::pg::name::TableName;
use std::collections::BTreeSet;

/// Which image of a row a cell is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Image {
    /// Before the change.
    Before,
    /// After it.
    After,
}

/// The parameters of a statement, in order: each cell is one, however often the statement names it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parameters(pub Vec<(Image, usize)>);

impl Parameters {
    /// The placeholder of a cell.
    pub fn place(&mut self, image: Image, source: usize) -> String {
        let known = self.0.iter().position(|cell| *cell == (image, source));
        let at = known.unwrap_or_else(|| {
            self.0.push((image, source));
            self.0.len() - 1
        });
        format!("${}", at + 1)
    }
}

/// What a landed row is called in the statements that read it.
pub const LANDED: &str = "migrate_landed";

/// The column of a table of tried rows that says which landed row each is made of.
pub const MADE_OF: &str = "migrate_made_of";

/// What green's row is called.
const GREEN: &str = "migrate_green";

/// Gives the text that stands for a cell: a parameter, or a column of a landing table.
type Cells<'c> = dyn FnMut(Image, usize) -> String + 'c;

impl Fitted {
    /// The sources that must be known of a row before its change.
    pub fn sources_before(&self) -> Vec<usize> {
        let of_key = self.key.iter().flat_map(|at| self.outputs[*at].uses.iter());
        let of_condition = self.condition.iter().flat_map(|(_, uses)| uses);
        of_key.chain(of_condition).copied().collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// The outputs that an update has to compute when some cells were not sent: those of which every source was. One that
    /// needs none never changes.
    pub fn outputs_after(&self, is_sent: impl Fn(usize) -> bool) -> Vec<usize> {
        let computed = |at: &usize| {
            let uses = &self.outputs[*at].uses;
            !uses.is_empty() && uses.iter().all(|source| is_sent(*source))
        };
        (0..self.outputs.len()).filter(computed).collect()
    }

    /// Inserts rows, of which those that the condition leaves out count as written.
    pub fn insert(&self, rows: usize, cell: &mut dyn FnMut(usize, usize) -> String) -> String {
        let all: Vec<usize> = (0..self.outputs.len()).collect();
        let source = |at: usize| &self.sources[at];
        let row = if self.sources.is_empty() {
            format!("(select) as {}", self.blue.name)
        } else {
            let names: Vec<_> = self.sources.iter().map(|source| source.name.to_string()).collect();
            let values: Vec<_> = (0..rows)
                .map(|row| {
                    let one = |at| format!("{}::{}", cell(row, at), source(at).type_name);
                    format!("({})", (0..self.sources.len()).map(one).collect::<Vec<_>>().join(", "))
                })
                .collect();
            format!("(values {}) as {} ({})", values.join(", "), self.blue.name, names.join(", "))
        };
        let insert = self.insert_from(&self.computed(&all, &row));
        match self.condition {
            None => insert,
            Some(_) => format!("with added as ({insert}) select from pg_catalog.generate_series(1, {rows})"),
        }
    }

    /// Updates one row, the outputs given. With a condition the row may come to green or leave it by that. Touches, or
    /// returns, exactly one row when green's row was as expected.
    pub fn update(&self, outputs: &[usize], cells: &mut Cells<'_>) -> String {
        let before = self.before(cells);
        let Some(_) = self.condition else {
            return self.update_from(outputs, &before, cells).unwrap_or_else(|| {
                format!(
                    "select from {} as {GREEN}, {before} where {} for no key update of {GREEN}",
                    self.green,
                    self.found()
                )
            });
        };
        let (was, is) = (self.is_chosen(Image::Before, cells), self.is_chosen(Image::After, cells));
        let all: Vec<usize> = (0..self.outputs.len()).collect();
        let after = self.after(&all, cells);
        let gone = format!(
            "delete from {} as {GREEN} using {before} where {} and not {is} returning 1",
            self.green,
            self.found()
        );
        let kept = match self.update_from(outputs, &before, cells) {
            Some(update) => format!("{update} returning 1"),
            None => {
                format!("select from {} as {GREEN}, {before} where {} and {is}", self.green, self.found())
            }
        };
        let come = format!("{} where not {was}", self.insert_from(&after));
        format!(
            "with gone as ({gone}), kept as ({kept}), come as ({come}) \
             select where (select count(*) from {before}) = (select count(*) from gone) + (select count(*) from kept)"
        )
    }

    /// Deletes one row. Touches, or returns, exactly one row when green's row was as expected.
    pub fn delete(&self, cells: &mut Cells<'_>) -> String {
        let before = self.before(cells);
        let delete = format!("delete from {} as {GREEN} using {before} where {}", self.green, self.found());
        match self.condition {
            None => delete,
            Some(_) => format!(
                "with gone as ({delete} returning 1) select where (select count(*) from {before}) = (select count(*) from gone)"
            ),
        }
    }

    /// Inserts landed rows.
    pub fn insert_landed(&self, landing: &str, chosen: &str, cells: &mut Cells<'_>) -> String {
        let all: Vec<usize> = (0..self.outputs.len()).collect();
        let after = self.after(&all, cells);
        format!(
            "{} where {chosen}",
            self.insert_from(&format!("{landing} as {LANDED} cross join lateral {after}"))
        )
    }

    /// Deletes green's rows of landed ones.
    pub fn delete_landed(&self, landing: &str, chosen: &str, cells: &mut Cells<'_>) -> String {
        let before = self.before(cells);
        format!(
            "delete from {} as {GREEN} using {landing} as {LANDED} cross join lateral {before} where {chosen} and {}",
            self.green,
            self.found()
        )
    }

    /// Updates green's rows of landed ones; `None` when there is nothing to set.
    pub fn update_landed(
        &self,
        landing: &str,
        chosen: &str,
        outputs: &[usize],
        cells: &mut Cells<'_>,
    ) -> Option<String> {
        let before = self.before(cells);
        let from = format!("{landing} as {LANDED} cross join lateral {before}");
        Some(format!("{} and {chosen}", self.update_joined(outputs, &from, " cross join lateral ", cells)?))
    }

    /// Whether a row is on green, as a condition; only for a map that has one.
    pub fn is_chosen(&self, image: Image, cells: &mut Cells<'_>) -> String {
        match &self.condition {
            None => "true".to_owned(),
            Some((condition, uses)) => {
                let row = self.row(uses.iter().copied(), image, cells);
                format!("exists (select from {row} where {})", condition.enclosed())
            }
        }
    }

    /// For each key: the row that blue's makes, and the row that green has, as text. Parameters: a text array for each
    /// source, then a boolean array that says whether blue has the row.
    pub fn compare(&self) -> String {
        let mut cells = |_: Image, at: usize| format!("{LANDED}.c{at}");
        let all: Vec<usize> = (0..self.outputs.len()).collect();
        let after = self.after(&all, &mut cells);
        let expected: Vec<_> =
            all.iter().map(|at| format!("migrate_after.v{at}::{}", self.outputs[*at].type_name)).collect();
        let actual: Vec<_> = self.outputs.iter().map(|output| format!("{GREEN}.{}", output.name)).collect();
        let before = self.keys(self.sources_before().into_iter(), None, &mut cells);
        format!(
            "select {LANDED}.at, case when {LANDED}.there then (select row({})::text from {after}) end as expected, \
             (select row({})::text from {} as {GREEN}, {before} where {}) as actual \
             from {}",
            expected.join(", "),
            actual.join(", "),
            self.green,
            self.found(),
            self.unnested(),
        )
    }

    /// What becomes of rows, as text arrays in the order of the outputs; null for one that the condition leaves out.
    /// Parameters: a text array for each source, then a boolean array, as long.
    pub fn show(&self) -> String {
        let mut cells = |_: Image, at: usize| format!("{LANDED}.c{at}");
        let all: Vec<usize> = (0..self.outputs.len()).collect();
        let after = self.after(&all, &mut cells);
        // As the type itself writes it.
        let text = |at: &usize| {
            format!(
                "case when migrate_after.v{at} is not null then pg_catalog.format('%s', migrate_after.v{at}) end"
            )
        };
        let texts: Vec<_> = all.iter().map(text).collect();
        format!(
            "select (select array[{}]::text[] from {after}) as made from {} order by {LANDED}.at",
            texts.join(", "),
            self.unnested(),
        )
    }

    /// Makes rows of landed ones in a table that has green's columns, and one before them for the number (`landed`) of the
    /// row they come from; of the outputs given.
    pub fn try_landed(&self, outputs: &[usize], landing: &str, made: &TableName, chosen: &str) -> String {
        let after = self.after(outputs, &mut |_, at| format!("{LANDED}.c{at}"));
        let names: String = outputs.iter().map(|at| format!(", {}", self.outputs[*at].name)).collect();
        let values: String = outputs.iter().map(|at| format!(", migrate_after.v{at}")).collect();
        format!(
            "insert into {made} ({MADE_OF}{names}) select {LANDED}.landed{values} \
             from {landing} as {LANDED} cross join lateral {after} where {chosen}"
        )
    }

    /// Rows of parameters, as `migrate_landed`: a text array for each source, and a boolean array, which says of how many.
    fn unnested(&self) -> String {
        let count = self.sources.len();
        let arrays: String = (1..=count).map(|at| format!("${at}::text[], ")).collect();
        let names: String = (0..count).map(|at| format!("c{at}, ")).collect();
        format!("unnest({arrays}${}::boolean[]) with ordinality as {LANDED} ({names}there, at)", count + 1)
    }

    fn insert_from(&self, from: &str) -> String {
        let names: Vec<_> = self.outputs.iter().map(|output| output.name.to_string()).collect();
        let values: Vec<_> = (0..self.outputs.len()).map(|at| format!("migrate_after.v{at}")).collect();
        format!(
            "insert into {} ({}) overriding system value select {} from {from}",
            self.green,
            names.join(", "),
            values.join(", ")
        )
    }

    fn update_from(&self, outputs: &[usize], before: &str, cells: &mut Cells<'_>) -> Option<String> {
        self.update_joined(outputs, before, ", ", cells)
    }

    fn update_joined(
        &self,
        outputs: &[usize],
        from: &str,
        join: &str,
        cells: &mut Cells<'_>,
    ) -> Option<String> {
        let (kept, set): (Vec<usize>, Vec<usize>) =
            outputs.iter().partition(|at| self.outputs[**at].identity_always);
        if set.is_empty() {
            return None;
        }
        let sets: Vec<_> =
            set.iter().map(|at| format!("{} = migrate_after.v{at}", self.outputs[*at].name)).collect();
        let keeps: String = kept
            .iter()
            .map(|at| format!(" and {GREEN}.{} = migrate_after.v{at}", self.outputs[*at].name))
            .collect();
        let after = self.after(outputs, cells);
        Some(format!(
            "update {} as {GREEN} set {} from {from}{join}{after} where {}{keeps}",
            self.green,
            sets.join(", "),
            self.found()
        ))
    }

    /// `(select … from <blue's row> where <condition>) as migrate_after`: the outputs' values.
    fn after(&self, outputs: &[usize], cells: &mut Cells<'_>) -> String {
        let uses = outputs.iter().flat_map(|at| self.outputs[*at].uses.iter());
        let of_condition = self.condition.iter().flat_map(|(_, uses)| uses);
        let needed: BTreeSet<usize> = uses.chain(of_condition).copied().collect();
        let row = self.row(needed.into_iter(), Image::After, cells);
        self.computed(outputs, &row)
    }

    fn computed(&self, outputs: &[usize], row: &str) -> String {
        let values: Vec<_> = outputs
            .iter()
            .map(|at| format!("{} as v{at}", self.outputs[*at].expression.enclosed()))
            .collect();
        format!("(select {} from {row}{}) as migrate_after", values.join(", "), self.chosen())
    }

    /// `(select … from <blue's row> where <condition>) as migrate_before`: the key that green's row had.
    fn before(&self, cells: &mut Cells<'_>) -> String {
        self.keys(self.sources_before().into_iter(), Some(self.chosen()), cells)
    }

    fn keys(
        &self,
        needed: impl Iterator<Item = usize>,
        chosen: Option<String>,
        cells: &mut Cells<'_>,
    ) -> String {
        let row = self.row(needed, Image::Before, cells);
        let values: Vec<_> = self
            .key
            .iter()
            .map(|at| {
                let output = &self.outputs[*at];
                format!("{}::{} as k{at}", output.expression.enclosed(), output.type_name)
            })
            .collect();
        format!("(select {} from {row}{}) as migrate_before", values.join(", "), chosen.unwrap_or_default())
    }

    fn chosen(&self) -> String {
        let condition =
            self.condition.as_ref().map(|(condition, _)| format!(" where {}", condition.enclosed()));
        condition.unwrap_or_default()
    }

    /// Green's row is the one of the key before.
    fn found(&self) -> String {
        let equal = |at: &usize| format!("{GREEN}.{} = migrate_before.k{at}", self.outputs[*at].name);
        self.key.iter().map(equal).collect::<Vec<_>>().join(" and ")
    }

    /// A derived table of one row with blue's names and types.
    fn row(&self, needed: impl Iterator<Item = usize>, image: Image, cells: &mut Cells<'_>) -> String {
        let columns: Vec<_> = needed
            .map(|at| {
                let source = &self.sources[at];
                format!("{}::{} as {}", cells(image, at), source.type_name, source.name)
            })
            .collect();
        format!("(select {}) as {}", columns.join(", "), self.blue.name)
    }
}

#[cfg(test)]
#[path = "statements_tests.rs"]
mod tests;
