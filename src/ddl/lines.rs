//! Lines and columns of a file, found without reading it from the start each time.

use super::source::SqlFile;
use crate::finding::Place;

/// Where the lines of a file begin.
pub(super) struct Lines<'a> {
    file: &'a SqlFile,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    /// Reads the file once.
    pub fn of(file: &'a SqlFile) -> Lines<'a> {
        let newlines = file.text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let starts = std::iter::once(0).chain(newlines.map(|(at, _)| at + 1)).collect();
        Lines { file, starts }
    }

    /// Line and column of a byte offset, both from 1, the column in characters.
    pub fn place(&self, offset: usize) -> Place {
        let text = &self.file.text;
        let mut end = offset.min(text.len());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let line = self.starts.partition_point(|start| *start <= end);
        let line_start = line.checked_sub(1).and_then(|at| self.starts.get(at)).copied().unwrap_or(0);
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Place::Sql {
            file: self.file.name.clone(),
            line: number(line),
            column: number(text[line_start..end].chars().count() + 1),
        }
    }
}
