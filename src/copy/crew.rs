//! How many work on a copy at a time.

use crate::pg::conninfo::ConnInfo;

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

/// Where the two servers are, seen from us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Servers {
    /// Both on this machine: they and we share its cores.
    Here,
    /// At least one elsewhere, with cores that we cannot count.
    Elsewhere,
}

impl Servers {
    /// As their addresses tell.
    pub fn of(blue: &ConnInfo, green: &ConnInfo) -> Servers {
        if blue.is_on_this_machine() && green.is_on_this_machine() {
            Servers::Here
        } else {
            Servers::Elsewhere
        }
    }
}

impl Crew {
    /// `streams` is the plan's wish; `cores` are this machine's.
    ///
    /// A stream of rows takes a whole core of green and most of another, of blue and us. Where all three share their cores,
    /// half as many streams as cores leave nothing idle; and a table copied in one piece is frozen while it is written.
    pub fn of(streams: Option<u32>, cores: usize, servers: Servers) -> Crew {
        let wanted = streams.map(|streams| streams.max(1) as usize);
        match servers {
            Servers::Here => {
                let streams = wanted.unwrap_or((cores / 2).clamp(1, STREAMS_MAX));
                let builders = cores.clamp(1, STREAMS_MAX);
                let builders_beside = cores.saturating_sub(streams).clamp(1, builders);
                Crew { streams, builders_beside, builders }
            }
            Servers::Elsewhere => Crew {
                streams: wanted.unwrap_or(cores.clamp(2, STREAMS_MAX)),
                builders_beside: 1,
                builders: 2,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_on_our_machine_share_its_cores_with_us() {
        let crew = |cores| Crew::of(None, cores, Servers::Here);
        assert_eq!(crew(1), Crew { streams: 1, builders_beside: 1, builders: 1 });
        assert_eq!(crew(2), Crew { streams: 1, builders_beside: 1, builders: 2 });
        assert_eq!(crew(8), Crew { streams: 4, builders_beside: 4, builders: 8 });
    }

    #[test]
    fn the_plan_has_the_last_word_on_streams() {
        assert_eq!(Crew::of(Some(6), 2, Servers::Here), Crew { streams: 6, builders_beside: 1, builders: 2 });
        assert_eq!(Crew::of(Some(0), 2, Servers::Elsewhere).streams, 1);
        assert_eq!(Crew::of(None, 1, Servers::Elsewhere).streams, 2);
    }
}
