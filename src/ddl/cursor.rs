//! Where the grammar stopped: the one place with `unsafe`, since `pg_query::Error` drops the position.

use std::ffi::{CStr, CString, c_char, c_int};

// As in libpg_query's pg_query.h; the symbols are linked by `pg_query`.
#[repr(C)]
struct PgQueryError {
    message: *mut c_char,
    funcname: *mut c_char,
    filename: *mut c_char,
    lineno: c_int,
    cursorpos: c_int,
    context: *mut c_char,
}

#[repr(C)]
struct PgQueryProtobuf {
    len: usize,
    data: *mut c_char,
}

#[repr(C)]
struct PgQueryProtobufParseResult {
    parse_tree: PgQueryProtobuf,
    stderr_buffer: *mut c_char,
    error: *mut PgQueryError,
}

unsafe extern "C" {
    fn pg_query_parse_protobuf(input: *const c_char) -> PgQueryProtobufParseResult;
    fn pg_query_free_protobuf_parse_result(result: PgQueryProtobufParseResult);
}

/// The message and the position (characters, from 1; 0 when the grammar gave none) of the first error in `sql`.
///
/// `None` when it parses, or holds a NUL.
pub(super) fn first_error(sql: &str) -> Option<(String, usize)> {
    let input = CString::new(sql).ok()?;
    // SAFETY: `input` is a NUL-terminated string that lives through the call. The result is a struct by value whose
    // layout is the header's; its pointers are read before it is freed, once, by the library's own function, and
    // `error` and `message` are checked for null before they are followed.
    unsafe {
        let result = pg_query_parse_protobuf(input.as_ptr());
        let error = result.error.as_ref().map(|error| {
            let message = if error.message.is_null() {
                "the statement cannot be parsed".to_owned()
            } else {
                CStr::from_ptr(error.message).to_string_lossy().into_owned()
            };
            (message, usize::try_from(error.cursorpos).unwrap_or(0))
        });
        pg_query_free_protobuf_parse_result(result);
        error
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_position_counts_characters() {
        assert_eq!(first_error("select 'é' frm x y"), Some(("syntax error at or near \"x\"".into(), 16)));
        assert_eq!(first_error("select 1"), None);
    }
}
