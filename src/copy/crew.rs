//! How many work on a copy at a time.

/// More streams of rows than this won nothing on any machine measured.
const STREAMS_MAX: usize = 8;

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
    /// `streams` is the plan's wish; `cores` are this machine's, which stand for the servers' too, since those cannot be counted.
    ///
    /// With both servers and us on two cores, one stream, which may freeze what it writes, took 1.18 times as long as a
    /// subscription with deferred indexes (10 million rows of pgbench, 15 to 18); two streams took 0.82 times as long.
    pub fn of(streams: Option<u32>, cores: usize) -> Crew {
        Crew {
            streams: streams.map_or(cores.clamp(2, STREAMS_MAX), |streams| streams.max(1) as usize),
            builders_beside: 1,
            builders: 2,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plan_has_the_last_word_on_streams() {
        let streams = |wish, cores| Crew::of(wish, cores).streams;
        assert_eq!([streams(None, 1), streams(None, 4), streams(None, 64)], [2, 4, 8]);
        assert_eq!([streams(Some(12), 2), streams(Some(0), 2)], [12, 1]);
    }
}
