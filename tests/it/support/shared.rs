//! The servers that all tests of one run share, as the `testbed` example wrote them down.

use super::cluster::Server;
use super::rabbitmq::Node;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::path::{Path, PathBuf};

/// The variable that names the file.
pub const VARIABLE: &str = "MIGRATE_TESTBED";

/// What is running.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Shared {
    /// Where leases are kept.
    pub directory: PathBuf,
    /// PostgreSQL servers; a major may be there twice.
    pub servers: Vec<Server>,
    /// The RabbitMQ node.
    pub node: Node,
}

impl Shared {
    /// Reads the file.
    ///
    /// # Panics
    /// Without the variable: live tests are run by `scripts/test`.
    pub fn read() -> Shared {
        let Some(path) = std::env::var_os(VARIABLE) else {
            panic!(
                "this test needs servers: run scripts/test, or cargo run --example testbed -- cargo nextest run"
            );
        };
        let text = std::fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("cannot read {}: {error}", Path::new(&path).display()));
        serde_json::from_str(&text).expect("the testbed's file is JSON of this shape")
    }

    /// Opens a file whose lock stands for something; the lock ends with the file handle, so with the process too.
    pub fn lease_file(&self, name: &str) -> File {
        let path = self.directory.join(format!("{name}.lease"));
        File::options()
            .create(true)
            .read(true)
            .write(true)
            .truncate(false)
            .open(&path)
            .unwrap_or_else(|error| panic!("cannot open {}: {error}", path.display()))
    }
}
