//! A client that knows nothing of the migration, and writes while it runs.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::task::JoinHandle;
use tokio_postgres::Client;

pub struct Busy {
    stop: Arc<AtomicBool>,
    writes: JoinHandle<(i64, Duration)>,
}

impl Busy {
    /// Writes again and again: what to say the nth time is asked for, counted from 0.
    pub fn begin(client: Client, sql: impl Fn(i64) -> String + Send + 'static) -> Busy {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let writes = tokio::spawn(async move {
            let (mut count, mut longest) = (0, Duration::ZERO);
            while !stopped.load(Ordering::Relaxed) {
                let began = Instant::now();
                client.batch_execute(&sql(count)).await.unwrap();
                longest = longest.max(began.elapsed());
                count += 1;
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            (count, longest)
        });
        Busy { stop, writes }
    }

    /// How many writes it came to. None of them may have waited longer than a short lock makes one wait.
    pub async fn end(self, patience: Duration) -> i64 {
        self.stop.store(true, Ordering::Relaxed);
        let (count, longest) = self.writes.await.unwrap();
        assert!(count > 5 && longest < patience, "{count} writes, longest {longest:?}");
        count
    }
}
