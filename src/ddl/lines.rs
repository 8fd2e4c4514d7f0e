//! Lines and columns of a file, found without reading it from the start each time.

use super::source::SqlFile;
use crate::finding::Place;
use std::cell::Cell;

/// Where the lines of a file begin.
pub(super) struct Lines<'a> {
    file: &'a SqlFile,
    starts: Vec<usize>,
    /// A place that was asked for, and the characters before it on its line: the next one is mostly a little further on.
    last: Cell<(usize, usize)>,
}

impl<'a> Lines<'a> {
    /// Reads the file once.
    pub fn of(file: &'a SqlFile) -> Lines<'a> {
        let newlines = file.text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let starts = std::iter::once(0).chain(newlines.map(|(at, _)| at + 1)).collect();
        Lines { file, starts, last: Cell::new((0, 0)) }
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
        let (from, before) = match self.last.get() {
            (from, before) if (line_start..=end).contains(&from) => (from, before),
            _ => (line_start, 0),
        };
        let before = before + text[from..end].chars().count();
        self.last.set((end, before));
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Place::Sql { file: self.file.name.clone(), line: number(line), column: number(before + 1) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_right_in_any_order() {
        let file = SqlFile::new("a", "é1\n\nab😀c\n");
        let lines = Lines::of(&file);
        let shown = |offset: usize| lines.place(offset).to_string();
        for (offset, place) in [
            (0, "a:1:1"),
            (2, "a:1:2"),
            (5, "a:3:1"),
            (12, "a:3:5"),
            (11, "a:3:4"),
            (8, "a:3:3"),
            (3, "a:1:3"),
            (4, "a:2:1"),
            (99, "a:4:1"),
        ] {
            assert_eq!(shown(offset), place, "{offset}");
        }
    }
}
