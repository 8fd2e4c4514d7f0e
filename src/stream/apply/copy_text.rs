//! Rows in the text format of COPY.

use crate::stream::pgoutput::Cell;
use bytes::{BufMut, BytesMut};

/// A column of digits, for what we add to a row ourselves.
pub(super) fn put_number(out: &mut BytesMut, number: i16) {
    out.extend_from_slice(number.to_string().as_bytes());
}

/// Adds a value. A value that was not sent is written as null, which nobody reads.
pub(super) fn put_cell(out: &mut BytesMut, cell: &Cell) {
    let Cell::Text(text) = cell else {
        out.extend_from_slice(b"\\N");
        return;
    };
    let mut rest: &[u8] = text;
    // Nearly no value has one, and to look through all of it without stopping takes the processor's wide registers.
    let has_special = rest.iter().fold(false, |has, byte| has | is_special(*byte));
    while has_special && let Some(at) = rest.iter().position(|byte| is_special(*byte)) {
        out.extend_from_slice(&rest[..at]);
        out.put_u8(b'\\');
        out.put_u8(match rest[at] {
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            other => other,
        });
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

/// It would end a value or a row, or begin an escape.
fn is_special(byte: u8) -> bool {
    matches!(byte, b'\\' | b'\n' | b'\r' | b'\t')
}

/// Adds a row of these cells, after what is on its line already.
pub(super) fn put_row<'c>(out: &mut BytesMut, cells: impl Iterator<Item = &'c Cell>) {
    for (at, cell) in cells.enumerate() {
        if at > 0 {
            out.put_u8(b'\t');
        }
        put_cell(out, cell);
    }
    out.put_u8(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_end_a_value_or_a_row_is_escaped() {
        let mut out = BytesMut::new();
        let text = |text: &'static str| Cell::Text(text.into());
        put_number(&mut out, -1);
        out.put_u8(b'\t');
        put_row(&mut out, [text("a\tb\\N\r\n"), Cell::Null, text(""), text("\\."), Cell::Unchanged].iter());
        assert_eq!(&out[..], b"-1\ta\\tb\\\\N\\r\\n\t\\N\t\t\\\\.\t\\N\n");
    }
}
