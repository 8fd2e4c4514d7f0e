//! How many work on a copy at a time, and how much memory of green's they may use.

use crate::error::{Doing, Kind, Result};
use tokio_postgres::Client;

const READ_GREEN_SETTINGS: &str = include_str!("../../sql/copy/read_green_settings.sql");
/// More streams of rows than this won nothing on any machine measured.
const STREAMS_MAX: usize = 8;
/// What `max_worker_processes` is when nobody set it: it says nothing of the machine then.
const WORKER_PROCESSES_UNSET: u32 = 8;
/// Cores that any machine may be taken to have that serves a database worth copying.
const CORES_UNKNOWN: usize = 4;
/// A sort gains little from more than this, in bytes.
const BUILD_BYTES_MAX: u64 = 2 << 30;

/// What is known of the machine that green is on. A server does not tell its cores and memory; it tells what its operator gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Machine {
    /// Its cores, when green is on ours.
    pub own_cores: Option<usize>,
    /// `max_worker_processes`.
    pub worker_processes: u32,
}

impl Machine {
    /// Cores that we may count on; `ours` are those of our machine, which move the rows.
    fn cores(self, ours: usize) -> usize {
        match self.own_cores {
            Some(cores) => cores,
            None if self.worker_processes == WORKER_PROCESSES_UNSET => ours.min(CORES_UNKNOWN),
            None => ours.min(self.worker_processes as usize),
        }
    }
}

/// Sessions at work, by what they do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crew {
    /// Streams of rows, a session on each side.
    pub streams: usize,
    /// Sessions that build indexes of whole tables while rows are still copied.
    pub builders_beside: usize,
    /// Sessions that build indexes when all rows are there, those from before among them.
    pub builders: usize,
}

impl Crew {
    /// `streams` is the plan's wish, which decides; without one it is a stream for each core, at least 2 and at most 8.
    ///
    /// With both servers and us on two cores, one stream, which may freeze what it writes, took 1.18 times as long as a
    /// subscription with deferred indexes (10 million rows of pgbench, 15 to 18); two streams took 0.82 times as long.
    pub fn of(streams: Option<u32>, ours: usize, green: Machine) -> Crew {
        Crew {
            streams: streams
                .map_or(green.cores(ours).clamp(2, STREAMS_MAX), |streams| streams.max(1) as usize),
            builders_beside: 1,
            builders: 2,
        }
    }
}

/// The cores of the machine we run on.
pub fn own_cores() -> usize {
    std::thread::available_parallelism().map_or(2, std::num::NonZero::get)
}

/// What green's operator gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GreenSettings {
    /// `maintenance_work_mem`, in bytes.
    pub maintenance_bytes: u64,
    /// `shared_buffers`, in bytes.
    pub shared_bytes: u64,
    /// `max_worker_processes`.
    pub worker_processes: u32,
}

impl GreenSettings {
    /// Asks green.
    ///
    /// # Errors
    /// [`Kind::Server`].
    pub async fn read(green: &Client) -> Result<GreenSettings> {
        let row = green
            .query_one(READ_GREEN_SETTINGS, &[])
            .await
            .doing(Kind::Server, || "green does not tell its settings".into())?;
        let bytes = |column: &str| u64::try_from(row.get::<_, i64>(column)).unwrap_or_default();
        Ok(GreenSettings {
            maintenance_bytes: bytes("maintenance_bytes"),
            shared_bytes: bytes("shared_bytes"),
            worker_processes: u32::try_from(row.get::<_, i32>("worker_processes")).unwrap_or_default(),
        })
    }

    /// What all `builders` together may use for sorting, in bytes: `wish` is the plan's, which decides.
    ///
    /// Without one it is the larger of two things that green's operator has called safe: `maintenance_work_mem` for each
    /// builder, which any session may take; and half of `shared_buffers`, since that is usually a quarter of the memory, and a
    /// green that nobody uses yet needs the rest for little else. A server that nobody has tuned (128 MB and 64 MB) gives
    /// 128 MB. More than 2 GB for each builder is not taken: sorts gain little from it.
    pub fn build_bytes(&self, wish: Option<u64>, builders: usize) -> u64 {
        let builders = builders as u64;
        let of_sessions = self.maintenance_bytes.saturating_mul(builders);
        wish.unwrap_or_else(|| {
            of_sessions.max((self.shared_bytes / 2).min(BUILD_BYTES_MAX.saturating_mul(builders)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: u64 = 1 << 20;

    #[test]
    fn the_plan_has_the_last_word_on_streams() {
        let here = |cores| Machine { own_cores: Some(cores), worker_processes: 8 };
        let streams = |wish, cores| Crew::of(wish, cores, here(cores)).streams;
        assert_eq!([streams(None, 1), streams(None, 4), streams(None, 64)], [2, 4, 8]);
        assert_eq!([streams(Some(12), 2), streams(Some(0), 2)], [12, 1]);
    }

    #[test]
    fn another_machine_is_taken_for_no_larger_than_it_says() {
        let streams = |ours, worker_processes| {
            Crew::of(None, ours, Machine { own_cores: None, worker_processes }).streams
        };
        assert_eq!([streams(64, 6), streams(64, 16), streams(64, 8)], [6, 8, 4]);
        assert_eq!([streams(3, 16), streams(3, 8), streams(1, 0)], [3, 3, 2]);
    }

    #[test]
    fn memory_for_builds_is_what_green_was_given_or_what_the_plan_says() {
        let bytes = |maintenance, shared, wish| {
            let settings = GreenSettings {
                maintenance_bytes: maintenance * MB,
                shared_bytes: shared * MB,
                worker_processes: 8,
            };
            settings.build_bytes(wish, 2) / MB
        };
        assert_eq!(bytes(64, 128, None), 128);
        assert_eq!(bytes(512, 128, None), 1024);
        assert_eq!(bytes(64, 8192, None), 4096);
        // However much was given to it; but what any session may take, two may.
        assert_eq!(bytes(64, 1 << 20, None), 4096);
        assert_eq!(bytes(16 * 1024, 128, None), 32 * 1024);
        assert_eq!(bytes(512, 8192, Some(32 * MB)), 32);
    }
}
