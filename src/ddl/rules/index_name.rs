//! The name Postgres would choose for an index, and names of ours that fit its 63 bytes.

use crate::{
    ddl::{
        parse::{self, NodeEnum, node},
        scene::Scene,
    },
    pg::name::{Ident, TableName},
};

/// Bytes a name may have (`NAMEDATALEN - 1`).
const LONGEST: usize = 63;

/// `name1_name2_label`, the longer of the two cut until it fits: Postgres' `makeObjectName`.
pub(in crate::ddl) fn object_name(name1: &str, name2: &str, label: &str) -> String {
    let join = |parts: [&str; 3]| {
        parts.iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join("_")
    };
    let (mut first, mut second) = (name1.to_owned(), name2.to_owned());
    while join([&first, &second, label]).len() > LONGEST {
        if first.len() > second.len() {
            first.pop();
        } else if second.pop().is_none() {
            break;
        }
    }
    join([&first, &second, label])
}

/// `name` with `suffix`, cut so that it fits.
pub(in crate::ddl) fn with_suffix(name: &str, suffix: &str) -> String {
    let mut cut = name.to_owned();
    while cut.len() + suffix.len() > LONGEST {
        cut.pop();
    }
    cut + suffix
}

/// The name Postgres gives an index without one, when we can tell: columns and plain function calls only.
pub(super) fn chosen(index: &node::IndexStmt, table: &TableName, scene: &Scene) -> Option<Ident> {
    let mut columns: Vec<String> = Vec::new();
    for item in index.index_params.iter().chain(&index.index_including_params) {
        let Some(NodeEnum::IndexElem(element)) = &item.node else { return None };
        let base = match element.expr.as_ref().and_then(|expression| expression.node.as_ref()) {
            None => element.name.clone(),
            Some(NodeEnum::FuncCall(call)) => parse::strings(&call.funcname).pop()?,
            Some(_) => return None,
        };
        let unused = (1..).map(|nth| with_suffix(&base, &nth.to_string()));
        let name = std::iter::once(base.clone()).chain(unused).find(|name| !columns.contains(name))?;
        columns.push(name);
    }
    let joined = columns.join("_");
    free(table, scene, |nth| {
        let label = if nth == 0 { "idx".to_owned() } else { format!("idx{nth}") };
        object_name(table.name.as_str(), &joined, &label)
    })
}

/// The first name of a series that is free beside `table`, or already an index of it (an earlier run of ours).
pub(super) fn free(table: &TableName, scene: &Scene, nth_name: impl Fn(u32) -> String) -> Option<Ident> {
    (0..1_000)
        .map(|nth| Ident::new(nth_name(nth)))
        .find(|name| scene.is_free(&TableName { schema: table.schema.clone(), name: name.clone() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_and_never_cut_a_character() {
        let long = "é".repeat(40);
        for name in [object_name(&long, &long, "idx"), with_suffix(&long, "__new")] {
            assert!(name.len() <= 63 && name.contains('é'), "{name}");
        }
        assert_eq!(object_name("t", "a_b", "idx"), "t_a_b_idx");
        let name = object_name(&"t".repeat(50), "a", "idx");
        assert_eq!(name, format!("{}_a_idx", "t".repeat(50)));
    }
}
