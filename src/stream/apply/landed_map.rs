//! The landing of a mapped table: the cells that the mapping needs, in blue's types, of the row after a change and of
//! the row before it.

use super::landing::{DELETED, INSERTED, LandingStatement};
use crate::mapping::{Image, LANDED};
use crate::stream::shape::Mapped;

/// The command that makes it.
pub(super) fn create(name: &str, mapped: &Mapped) -> String {
    let sources = &mapped.fitted.sources;
    let after = (0..sources.len()).map(|at| format!(", c{at} {}", sources[at].type_name));
    let before =
        mapped.fitted.sources_before().into_iter().map(|at| format!(", o{at} {}", sources[at].type_name));
    let columns: Vec<_> = after.chain(before).collect();
    format!("create temporary table {name} (way int2{}) on commit delete rows", columns.concat())
}

/// The text of a statement; none for an update of an unknown number, or one that has nothing to set.
pub(super) fn sql<'l>(
    name: &str,
    mapped: &Mapped,
    statement: LandingStatement,
    unchanged: impl Fn(i16) -> Option<&'l [bool]>,
) -> Option<String> {
    let fitted = &mapped.fitted;
    let landing = format!("pg_temp.{name}");
    let mut cell = |image, at| match image {
        Image::After => format!("{LANDED}.c{at}"),
        Image::Before => format!("{LANDED}.o{at}"),
    };
    let was = fitted.is_chosen(Image::Before, &mut cell);
    let is = fitted.is_chosen(Image::After, &mut cell);
    // With a condition, an update may make a row leave green, or come to it.
    let (gone, come) = match fitted.condition {
        None => (format!("{LANDED}.way = {DELETED}"), format!("{LANDED}.way = {INSERTED}")),
        Some(_) => (
            format!("({LANDED}.way = {DELETED} or {LANDED}.way >= 0 and not {is})"),
            format!("({LANDED}.way = {INSERTED} or {LANDED}.way >= 0 and not {was})"),
        ),
    };
    Some(match statement {
        LandingStatement::Fill => {
            let after = (0..fitted.sources.len()).map(|at| format!(", c{at}"));
            let before = fitted.sources_before().into_iter().map(|at| format!(", o{at}"));
            let columns: Vec<_> = after.chain(before).collect();
            format!("copy {landing} (way{}) from stdin", columns.concat())
        }
        LandingStatement::Delete => fitted.delete_landed(&landing, &gone, &mut cell),
        LandingStatement::Insert => fitted.insert_landed(&landing, &come, &mut cell),
        LandingStatement::Update(number) => {
            let outputs = mapped.outputs(unchanged(number)?);
            fitted.update_landed(&landing, &format!("{LANDED}.way = {number}"), &outputs, &mut cell)?
        }
        LandingStatement::Count => format!(
            "select count(*) filter (where {gone} and {was}), count(*) filter (where {LANDED}.way >= 0 and {was} and {is}), \
             count(*) filter (where {come} and {is}) from {landing} as {LANDED}"
        ),
    })
}
