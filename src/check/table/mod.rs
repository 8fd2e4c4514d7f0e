//! The list of checks, by subject, in the order an operator reads them.

mod databases;
mod decoding;
mod green;
mod mapping;
mod outside;
mod rights;
mod selection;
mod tables;

use super::Check;

const SUBJECTS: [&[Check]; 8] = [
    databases::CHECKS,
    decoding::CHECKS,
    rights::CHECKS,
    selection::CHECKS,
    tables::CHECKS,
    green::CHECKS,
    mapping::CHECKS,
    outside::CHECKS,
];

/// Every check there is. Codes are stable; a check that is no more keeps its code unused.
pub fn checks() -> impl Iterator<Item = &'static Check> {
    SUBJECTS.into_iter().flatten()
}
