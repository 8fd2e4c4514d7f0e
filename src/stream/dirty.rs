//! The keys changed last: what the fence compares once more before it closes.

use crate::pg::name::TableName;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

/// A row that the stream changed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DirtyKey {
    /// The table on blue.
    pub table: TableName,
    /// Its key, column by column, in text.
    pub key: Vec<String>,
}

/// The last distinct keys, up to a limit.
#[derive(Debug, Default)]
pub(super) struct DirtyKeys {
    limit: usize,
    turn: u64,
    last_seen: HashMap<Arc<DirtyKey>, u64>,
    // An entry for each turn; those whose key was seen again later are stale, and dropped now and then.
    order: VecDeque<(u64, Arc<DirtyKey>)>,
}

impl DirtyKeys {
    pub fn new(limit: usize) -> DirtyKeys {
        DirtyKeys { limit, ..DirtyKeys::default() }
    }

    pub fn add(&mut self, key: DirtyKey) {
        self.turn += 1;
        let key = Arc::new(key);
        self.last_seen.insert(Arc::clone(&key), self.turn);
        self.order.push_back((self.turn, key));
        while self.last_seen.len() > self.limit {
            let Some((turn, key)) = self.order.pop_front() else { return };
            if self.last_seen.get(&key) == Some(&turn) {
                self.last_seen.remove(&key);
            }
        }
        if self.order.len() > 2 * self.limit {
            self.order.retain(|(turn, key)| self.last_seen.get(key) == Some(turn));
        }
    }

    /// Adds keys that come last one first, as if they had been added in the order of their changes. Looks at no more of
    /// them than are kept.
    pub fn extend_from_last(&mut self, keys: impl Iterator<Item = DirtyKey>) {
        let mut last: Vec<DirtyKey> = Vec::new();
        let mut seen = HashSet::new();
        for key in keys {
            if seen.len() >= self.limit {
                break;
            }
            if seen.insert(key.clone()) {
                last.push(key);
            }
        }
        last.into_iter().rev().for_each(|key| self.add(key));
    }

    /// Oldest first.
    pub fn list(&self) -> Vec<DirtyKey> {
        let latest = |(turn, key): &&(u64, Arc<DirtyKey>)| self.last_seen.get(key) == Some(turn);
        self.order.iter().filter(latest).map(|(_, key)| DirtyKey::clone(key)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u32) -> DirtyKey {
        DirtyKey { table: TableName::new("public", "t"), key: vec![n.to_string()] }
    }

    #[test]
    fn the_last_distinct_keys_are_kept_in_the_order_of_their_last_change() {
        let mut dirty = DirtyKeys::new(3);
        for n in [1, 2, 3, 1, 4] {
            dirty.add(key(n));
        }
        assert_eq!(dirty.list(), [key(3), key(1), key(4)]);
    }

    #[test]
    fn keys_from_the_last_on_are_kept_as_if_added_one_by_one() {
        let changes = [5, 1, 2, 2, 3, 1, 4, 4, 3];
        for limit in 1..8 {
            let (mut each, mut all) = (DirtyKeys::new(limit), DirtyKeys::new(limit));
            each.add(key(9));
            all.add(key(9));
            changes.iter().for_each(|n| each.add(key(*n)));
            all.extend_from_last(changes.iter().rev().map(|n| key(*n)));
            assert_eq!(each.list(), all.list(), "limit {limit}");
        }
    }

    #[test]
    fn a_key_that_changes_for_ever_takes_no_more_room() {
        let mut dirty = DirtyKeys::new(3);
        dirty.add(key(1));
        (0..1000).for_each(|_| dirty.add(key(2)));
        assert!(dirty.order.len() <= 6);
        assert_eq!(dirty.list(), [key(1), key(2)]);
    }
}
