//! Holds the copy within the plan's throttle: all streams of rows share one rate, and wait while blue is over a limit.
//!
//! A stream waits between two batches, with its COPY open. The lock it has on blue is in nobody's way for long meanwhile: the
//! lock watch ends it for whoever waits. Its snapshot holds vacuum back, so a wait that is longer than
//! [`HELD_MAX`] gives the piece up, and the piece begins again when blue is calm. A wait as such has no end of its own; the slot's limit of
//! retained WAL ends the copy, and so does the operator.

use super::load::{LoadWatch, Over};
use crate::error::{Error, Kind, Result};
use crate::event::{Ears, Event};
use crate::pg::conninfo::ConnInfo;
use crate::plan::Throttle as Limits;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

/// How long a snapshot of ours may stay on blue while nothing is read by it.
pub const HELD_MAX: Duration = Duration::from_secs(300);
/// How often blue is asked.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often in a row blue must be calm before the copy goes on: a load that touches the limit would make it stop and go.
const CALM_LOOKS: u32 = 3;
/// What a stall may be made up for afterwards.
const MADE_UP_MAX: Duration = Duration::from_millis(250);

/// The limits, and how long they may hold a snapshot up.
#[derive(Clone)]
pub struct Throttling {
    /// The newest limits of the plan.
    pub limits: watch::Receiver<Limits>,
    /// As [`HELD_MAX`].
    pub held_max: Duration,
}

/// A wait was longer than a snapshot may be held.
#[derive(Debug)]
pub(super) struct HeldTooLong;

/// What the streams must know.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Now {
    bytes_per_second: Option<u64>,
    paused: bool,
}

/// Works until dropped.
pub(super) struct Throttle {
    bucket: Mutex<Bucket>,
    now: watch::Receiver<Now>,
    held_max: Duration,
    task: JoinHandle<()>,
}

impl Drop for Throttle {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Throttle {
    /// Begins with the limits of now. Whatever they need to know of blue is asked once: a limit that cannot be measured is none,
    /// and that must be said before the copy begins.
    ///
    /// # Errors
    /// [`Kind::Plan`] when blue refuses to answer; [`Kind::Connect`].
    pub(super) async fn start(
        blue: &ConnInfo,
        epoch: i64,
        throttling: Throttling,
        ears: Ears,
    ) -> Result<Throttle> {
        let Throttling { mut limits, held_max } = throttling;
        let current = limits.borrow_and_update().clone();
        let mut watch = LoadWatch::new(blue, epoch);
        let over = watch.look(&current).await?;
        let (tell, now) = watch::channel(Now::default());
        let mut keeper = LimitKeeper {
            watch,
            current,
            limits,
            calm_looks: CALM_LOOKS,
            over: None,
            tell,
            ears,
            warned: None,
        };
        if !keeper.current.is_none() {
            keeper.note(format!("the plan's throttle holds for the copy: {}", words(&keeper.current)));
        }
        keeper.take_in(over).await;
        let task = tokio::spawn(keeper.keep());
        Ok(Throttle { bucket: Mutex::new(Bucket::new(Instant::now())), now, held_max, task })
    }

    /// Waits until so many bytes may be moved, while a snapshot is held on blue.
    ///
    /// # Errors
    /// When blue was over a limit for longer than a snapshot may be held.
    pub(super) async fn pass(&self, bytes: u64) -> Result<(), HeldTooLong> {
        self.wait(|bucket, now| bucket.take(bytes, now.bytes_per_second), Some(self.held_max)).await
    }

    /// Waits while blue is over a limit, before anything is begun. What was begun already may hold a snapshot.
    ///
    /// # Errors
    /// As [`Throttle::pass`], when a snapshot is held.
    pub(super) async fn begin(&self, holds_snapshot: bool) -> Result<(), HeldTooLong> {
        self.wait(|_, _| None, holds_snapshot.then_some(self.held_max)).await
    }

    /// Waits until `due` gives no time to wait any more, and blue is calm.
    async fn wait(
        &self,
        due: impl Fn(&mut Bucket, &Now) -> Option<Duration>,
        held_max: Option<Duration>,
    ) -> Result<(), HeldTooLong> {
        let mut now = self.now.clone();
        let mut paused_since = None;
        loop {
            let wait = {
                let now = now.borrow_and_update();
                if now.paused {
                    let since: Instant = *paused_since.get_or_insert_with(Instant::now);
                    match held_max.map(|max| max.saturating_sub(since.elapsed())) {
                        Some(Duration::ZERO) => return Err(HeldTooLong),
                        Some(left) => left,
                        // The keeper says when it ends.
                        None => Duration::from_secs(3600),
                    }
                } else {
                    paused_since = None;
                    let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
                    match due(&mut bucket, &now) {
                        None => return Ok(()),
                        Some(wait) => wait,
                    }
                }
            };
            if let Ok(Err(_)) = timeout(wait, now.changed()).await {
                // The keeper is gone, and with it whatever held us back.
                return Ok(());
            }
        }
    }
}

/// Asks blue, takes new limits in, and says what the streams must know.
struct LimitKeeper {
    watch: LoadWatch,
    current: Limits,
    limits: watch::Receiver<Limits>,
    /// How often in a row blue was calm.
    calm_looks: u32,
    /// What the streams wait for.
    over: Option<Over>,
    tell: watch::Sender<Now>,
    ears: Ears,
    /// The last complaint, which is not repeated.
    warned: Option<String>,
}

impl LimitKeeper {
    async fn keep(mut self) {
        let mut may_change = true;
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                changed = self.limits.changed(), if may_change => {
                    may_change = changed.is_ok();
                    self.change().await;
                }
            }
            let looked = self.watch.look(&self.current).await;
            match looked {
                Ok(over) => self.take_in(over).await,
                Err(error) => {
                    // It was answered before. A limit that cannot be measured any more must not hold the copy, and with it blue's WAL, for ever.
                    self.warn_once(format!(
                        "blue's load cannot be looked at, and does not hold the copy back meanwhile: {}",
                        error.chain().join(": ")
                    ));
                    self.take_in(None).await;
                }
            }
        }
    }

    /// Takes new limits in when blue answers what they ask.
    async fn change(&mut self) {
        let wanted = self.limits.borrow_and_update().clone();
        if wanted == self.current {
            return;
        }
        match self.watch.look(&wanted).await {
            Err(error) if error.kind == Kind::Plan => self.warn_once(refusal(&error)),
            Ok(_) | Err(_) => {
                self.note(format!("the copy's throttle was changed: {}", words(&wanted)));
                self.current = wanted;
                // What blue was over may be no limit any more.
                self.calm_looks = CALM_LOOKS;
                self.warned = None;
            }
        }
    }

    async fn take_in(&mut self, over: Option<Over>) {
        self.calm_looks = if over.is_some() { 0 } else { self.calm_looks.saturating_add(1) };
        let was = self.over.as_ref().map(|over| over.limit);
        match over {
            Some(over) => self.over = Some(over),
            None if self.calm_looks >= CALM_LOOKS => self.over = None,
            None => {}
        }
        let now = self.over.as_ref().map(|over| over.limit);
        self.tell.send_if_modified(|told| {
            let new = Now {
                bytes_per_second: self.current.rate_max.map(|rate| rate.0),
                paused: self.over.is_some(),
            };
            let is_new = *told != new;
            *told = new;
            is_new
        });
        if was != now {
            self.ears.tell(Event::Throttled {
                by: self.over.as_ref().map(|over| format!("{}: {}", over.limit, over.seen)),
            });
            self.watch.say(self.over.as_ref()).await;
        }
    }

    fn note(&self, text: String) {
        self.ears.tell(Event::Note { text });
    }

    fn warn_once(&mut self, text: String) {
        if self.warned.as_ref() != Some(&text) {
            self.ears.tell(Event::Warning { text: text.clone() });
            self.warned = Some(text);
        }
    }
}

fn refusal(error: &Error) -> String {
    format!("the plan's new throttle is not taken, the old one stays: {}", error.chain().join(": "))
}

/// Limits as the plan writes them.
fn words(limits: &Limits) -> String {
    let mut words = Vec::new();
    words.extend(limits.rate_max.map(|rate| format!("rate_max {rate}")));
    words.extend(limits.active_sessions_max.map(|max| format!("active_sessions_max {max}")));
    words.extend(limits.replica_lag_max.map(|max| format!("replica_lag_max {max}")));
    words.extend(limits.pause_while.as_ref().map(|sql| format!("pause_while {sql}")));
    if words.is_empty() { "no limits".into() } else { words.join(", ") }
}

/// What was moved and not yet paid for by time. Whoever comes after a large row waits for all of it.
#[derive(Debug)]
struct Bucket {
    owed_bytes: f64,
    at: Instant,
}

impl Bucket {
    fn new(now: Instant) -> Bucket {
        Bucket { owed_bytes: 0.0, at: now }
    }

    /// Takes `bytes`, or says how long to wait before asking again.
    fn take(&mut self, bytes: u64, bytes_per_second: Option<u64>) -> Option<Duration> {
        self.take_at(Instant::now(), bytes, bytes_per_second)
    }

    fn take_at(&mut self, now: Instant, bytes: u64, bytes_per_second: Option<u64>) -> Option<Duration> {
        let Some(rate) = bytes_per_second.map(|rate| rate as f64) else {
            *self = Bucket::new(now);
            return None;
        };
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.owed_bytes = (self.owed_bytes - rate * passed).max(-rate * MADE_UP_MAX.as_secs_f64());
        self.at = now;
        if self.owed_bytes <= 0.0 {
            self.owed_bytes += bytes as f64;
            return None;
        }
        // Rounded up, so that nobody asks in vain.
        Some(Duration::from_secs_f64(self.owed_bytes / rate) + Duration::from_micros(100))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: u64 = 1 << 20;

    /// Bytes that two streams take in that many seconds.
    fn taken(bucket: &mut Bucket, begun: Instant, seconds: u64, rate: Option<u64>) -> u64 {
        let end = begun + Duration::from_secs(seconds);
        let (mut streams, mut taken) = ([begun, begun], 0);
        loop {
            let next = usize::from(streams[1] < streams[0]);
            let now = streams[next];
            if now >= end {
                return taken;
            }
            match bucket.take_at(now, MB / 8, rate) {
                Some(wait) => streams[next] = now + wait,
                None => {
                    taken += MB / 8;
                    streams[next] = now + Duration::from_millis(1);
                }
            }
        }
    }

    #[test]
    fn streams_share_the_rate() {
        let begun = Instant::now();
        let seconds = taken(&mut Bucket::new(begun), begun, 10, Some(5 * MB)) as f64 / (5 * MB) as f64;
        assert!((9.9..10.2).contains(&seconds), "{seconds}");
    }

    #[test]
    fn a_large_row_is_paid_for_and_a_rest_is_not_saved_up() {
        let begun = Instant::now();
        let mut bucket = Bucket::new(begun);
        assert_eq!(bucket.take_at(begun, 10 * MB, Some(MB)), None);
        let wait = bucket.take_at(begun, 1, Some(MB)).unwrap();
        assert!((9.9..10.1).contains(&wait.as_secs_f64()), "{wait:?}");
        let later = begun + Duration::from_secs(1000);
        let seconds = taken(&mut bucket, later, 10, Some(5 * MB)) as f64 / (5 * MB) as f64;
        assert!((9.9..10.4).contains(&seconds), "{seconds}");
    }

    #[test]
    fn a_higher_rate_or_none_shortens_a_wait() {
        let begun = Instant::now();
        let mut bucket = Bucket::new(begun);
        bucket.take_at(begun, 10 * MB, Some(MB));
        let wait = bucket.take_at(begun, 1, Some(100 * MB)).unwrap();
        assert!(wait < Duration::from_millis(110), "{wait:?}");
        assert_eq!(bucket.take_at(begun, 1, None), None);
        assert_eq!(bucket.take_at(begun, 1, Some(MB)), None);
    }
}
