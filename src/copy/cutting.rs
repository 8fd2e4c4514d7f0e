//! How a table is cut for the copy, as far as its size and the plan decide. Pure.

use crate::pg::name::TableName;
use crate::plan::Chunks;

/// Smaller tables stay whole: they are done soon, and FREEZE spares green a later rewrite. In bytes.
const SPLIT_BYTES_MIN: u64 = 256 << 20;
/// More ranges than this are only more to keep.
const RANGES_MAX: u64 = 10_000;

/// Whether a table is copied in ranges of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chunking {
    /// It is not.
    No,
    /// When its key allows it, in ranges of about so many bytes.
    IfPossible(u64),
    /// The plan says so: in ranges of about so many bytes, or not at all.
    Must(u64),
}

impl Chunking {
    /// What the plan says of a table of so many bytes.
    pub fn of(chunks: &Chunks, table: &TableName, bytes: u64) -> Chunking {
        match bytes > chunks.above.0 {
            _ if chunks.names(table) => Chunking::Must(chunks.size.0),
            true => Chunking::IfPossible(chunks.size.0),
            false => Chunking::No,
        }
    }
}

/// In how many ranges of its key a table is copied.
pub fn ranges(bytes: u64, range_bytes: u64) -> u64 {
    (bytes / range_bytes.max(1)).clamp(1, RANGES_MAX)
}

/// Whether a table of `bytes`, of `all_bytes` that are to be copied, is cut by its blocks when it is not cut by its key: one that
/// would keep one stream busy while the others have gone home. One that is only a little more than a stream's share stays whole, since
/// a table filled in one transaction is frozen by it and its indexes are built over rows that need no more marking;
/// builders use the core that becomes idle.
pub fn is_cut_by_blocks(bytes: u64, all_bytes: u64, streams: usize) -> bool {
    let share = all_bytes / streams.max(1) as u64;
    streams > 1 && bytes > (share + share / 2).max(SPLIT_BYTES_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::quantity::Size;

    const GB: u64 = 1 << 30;

    #[test]
    fn size_and_plan_decide() {
        let chunks = Chunks { tables: vec!["public.b*".into()], above: Size(64 * GB), size: Size(4 * GB) };
        let of = |name: &str, bytes| Chunking::of(&chunks, &TableName::new("public", name), bytes);
        assert_eq!(of("big", 1), Chunking::Must(4 * GB));
        assert_eq!(of("a", 64 * GB), Chunking::No);
        assert_eq!(of("a", 64 * GB + 1), Chunking::IfPossible(4 * GB));
        assert_eq!([ranges(100 * GB, 4 * GB), ranges(1, 4 * GB), ranges(u64::MAX, 1)], [25, 1, 10_000]);
    }

    #[test]
    fn only_what_would_keep_one_stream_busy_alone_is_cut_by_blocks() {
        assert!(is_cut_by_blocks(4 * GB, 4 * GB, 2));
        assert!(!is_cut_by_blocks(4 * GB, 4 * GB, 1));
        assert!(!is_cut_by_blocks(3 * GB, 4 * GB, 2));
        assert!(!is_cut_by_blocks(GB / 8, GB / 8, 2));
    }
}
