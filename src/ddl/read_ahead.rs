//! Reading ahead: a thread of its own cuts the next files into statements while those before them are rewritten.

use super::{
    long_name, session,
    source::{self, SqlFile, Statement},
};
use crate::finding::Finding;
use std::{sync::mpsc, thread};

/// Files read and not yet rewritten, at most: their trees are what takes memory.
const FILES_AHEAD: usize = 16;

/// The grammar goes as deep as the main thread's stack lets it, so the reader's is as large. In bytes.
const STACK_BYTES: usize = 8 << 20;

/// A file, read.
pub(super) struct ReadFile {
    /// In order; none when it cannot be read.
    pub statements: Vec<Statement>,
    /// Why it cannot be read, or remarks on what is in it.
    pub findings: Vec<Finding>,
}

/// Hands the files over, in order, each when it is asked for.
pub(super) fn each<T>(files: &[SqlFile], take: impl FnOnce(&mut dyn Iterator<Item = ReadFile>) -> T) -> T {
    thread::scope(|scope| {
        let (sender, receiver) = mpsc::sync_channel(FILES_AHEAD);
        let reader = move || {
            // Who stops asking has no use for the rest.
            files.iter().map(read).try_for_each(|file| sender.send(file)).ok()
        };
        match thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, reader) {
            Ok(_) => take(&mut receiver.into_iter()),
            // A machine without a thread to spare reads one after the other.
            Err(_) => take(&mut files.iter().map(read)),
        }
    })
}

fn read(file: &SqlFile) -> ReadFile {
    match source::statements(file) {
        Ok((mut statements, remarks)) => {
            session::assign(&mut statements);
            let long = statements.iter().filter_map(long_name::finding);
            ReadFile { findings: long.chain(remarks).collect(), statements }
        }
        Err(error) => ReadFile { statements: Vec::new(), findings: vec![error.finding] },
    }
}
