//! Every fixed statement is one that each promised major takes.

use crate::support::Pair;
use std::{
    fs,
    path::{Path, PathBuf},
};

fn files() -> Vec<PathBuf> {
    let below = |directory: &Path| -> Vec<PathBuf> {
        let mut found: Vec<PathBuf> =
            fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
        found.sort();
        found
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("sql");
    below(&root).iter().flat_map(|area| below(area)).collect()
}

#[tokio::test]
async fn every_statement_is_taken_by_every_major() {
    for major in [15, 16, 17, 18] {
        let pair = Pair::of_majors("statements", major, 18).await;
        let client = pair.blue().await;
        // As sessions of ours are: a name that is found only by a search path is found out.
        client.batch_execute("set search_path = ''").await.unwrap();
        for batch in ["create_blue", "create_green"] {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("sql/state/{batch}.sql"));
            client.batch_execute(&fs::read_to_string(path).unwrap()).await.unwrap();
        }
        let mut prepared = 0;
        for path in files() {
            let sql = fs::read_to_string(&path).unwrap();
            let taken = if sql.contains("run as one batch") {
                client.batch_execute(&sql).await
            } else {
                prepared += 1;
                client.prepare(&sql).await.map(|_| ())
            };
            if let Err(error) = taken {
                panic!("{} on {major}: {error:?}", path.display());
            }
        }
        assert!(prepared >= 60, "{prepared}");
    }
}
