//! The brownout: how long statements of ours make other sessions wait. It is measured from a second session, told, and held to a
//! budget.
//!
//! The server itself says since when a session waits, so a look now and then is enough: what is missed is a wait that is shorter
//! than the time between two looks. Who waits for a session that waits for us is counted too.

use super::DdlWorld;
use crate::error::{Error, Kind};
use std::{
    collections::BTreeMap,
    convert::Infallible,
    future::Future,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};
use tokio::sync::Mutex;
use tokio_postgres::{Client, Statement};

/// Work that is through by then is not looked at: nobody waits longer for it.
const FIRST_LOOK: Duration = Duration::from_millis(20);
/// Between looks, at first.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// And when the work goes on for long.
const LOOK_AT_LEAST_EVERY: Duration = Duration::from_millis(500);

/// What other sessions waited for us.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Waited {
    /// All waits together.
    pub total: Duration,
    /// The longest.
    pub longest: Duration,
    /// How many waits there were.
    pub waits: u64,
}

impl Waited {
    fn and(self, other: Waited) -> Waited {
        Waited {
            total: self.total + other.total,
            longest: self.longest.max(other.longest),
            waits: self.waits + other.waits,
        }
    }
}

impl std::fmt::Display for Waited {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (total, longest) = (self.total.as_secs_f64(), self.longest.as_secs_f64());
        match self.waits {
            0 => write!(f, "no session waited"),
            1 => write!(f, "one session waited {total:.2} s"),
            waits => write!(f, "sessions waited {waits} times, {total:.2} s in all, {longest:.2} s at most"),
        }
    }
}

/// How long others may be made to wait in one run, and how long they were.
#[derive(Debug)]
pub struct Brownout {
    max: Duration,
    total_us: AtomicU64,
    longest_us: AtomicU64,
    waits: AtomicU64,
    /// A statement was cancelled since nothing was left.
    cancelled: AtomicBool,
    eyes: Mutex<Option<Eyes>>,
}

impl Default for Brownout {
    fn default() -> Brownout {
        Brownout::of(Brownout::MAX)
    }
}

impl Brownout {
    /// The budget of a run whose plan names none.
    pub const MAX: Duration = Duration::from_secs(60);

    /// A budget nothing of which is spent.
    pub fn of(max: Duration) -> Brownout {
        let [total_us, longest_us, waits] = [const { AtomicU64::new(0) }; 3];
        Brownout {
            max,
            total_us,
            longest_us,
            waits,
            cancelled: AtomicBool::new(false),
            eyes: Mutex::new(None),
        }
    }

    /// What it allows.
    pub fn max(&self) -> Duration {
        self.max
    }

    /// What was spent of it.
    pub fn waited(&self) -> Waited {
        Waited {
            total: Duration::from_micros(self.total_us.load(Ordering::Relaxed)),
            longest: Duration::from_micros(self.longest_us.load(Ordering::Relaxed)),
            waits: self.waits.load(Ordering::Relaxed),
        }
    }

    /// What is left of it.
    pub(super) fn left(&self) -> Duration {
        self.max.saturating_sub(self.waited().total)
    }

    /// Whether nothing is left of it.
    pub(super) fn is_spent(&self) -> bool {
        self.left().is_zero()
    }

    /// Whether a statement was cancelled since nothing was left.
    pub(super) fn cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    fn spend(&self, waited: Waited) {
        let us = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.total_us.fetch_add(us(waited.total), Ordering::Relaxed);
        self.longest_us.fetch_max(us(waited.longest), Ordering::Relaxed);
        self.waits.fetch_add(waited.waits, Ordering::Relaxed);
    }

    /// Why we stop when it is spent; `in_the_way` are those for whom we waited ourselves, and so everybody behind us.
    pub(super) fn spent(&self, doing: &str, in_the_way: &str) -> Error {
        let max_s = self.max.as_secs_f64();
        let what = format!(
            "{doing}: others have waited for us as long as this run may make them wait, {max_s} s in all ({}); in the way: {in_the_way}",
            self.waited()
        );
        Error::new(Kind::Stopped, what).hint(
            "end or wait for those transactions, or choose a quieter time, and run the same command again: it goes on from here, with a new budget (schema.brownout_max)",
        )
    }
}

/// What to do when the budget is spent while work goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WhenSpent {
    /// The work is cancelled; the server then takes all of it back.
    Cancel,
    /// The work goes on, since what it would leave half done is worse.
    GoOn,
}

/// The session that looks; one for a run, opened before it is needed, since opening takes longer than a short wait.
#[derive(Debug)]
struct Eyes {
    client: Client,
    waiting: Statement,
}

impl Eyes {
    async fn open(world: &dyn DdlWorld) -> Result<Eyes, Trouble> {
        let client = world.session("ddl brownout").await?;
        let waiting = client.prepare(include_str!("../../../sql/ddl/list_waiting_behind.sql")).await?;
        Ok(Eyes { client, waiting })
    }

    async fn look(&self, pid: i32, seen: &mut Seen) -> Result<(), Trouble> {
        let rows = self.client.query(&self.waiting, &[&pid]).await?;
        let micros = |us: i64| Duration::from_micros(u64::try_from(us).unwrap_or(0));
        seen.look(
            rows.iter().map(|row| ((row.get("pid"), row.get("since_us")), micros(row.get("waited_us")))),
        );
        Ok(())
    }
}

type Trouble = Box<dyn std::error::Error + Send + Sync>;

/// Looks who waits behind one session.
pub(super) struct Watch<'w> {
    world: &'w dyn DdlWorld,
    pid: i32,
    waited: Waited,
}

impl<'w> Watch<'w> {
    /// Of the session with this pid.
    pub async fn of(world: &'w dyn DdlWorld, pid: i32) -> Watch<'w> {
        let watch = Watch { world, pid, waited: Waited::default() };
        let mut eyes = world.brownout().eyes.lock().await;
        watch.open(&mut eyes).await;
        watch
    }

    /// Being unable to look is no reason to stop the work.
    async fn open(&self, eyes: &mut Option<Eyes>) {
        if eyes.as_ref().is_none_or(|eyes| eyes.client.is_closed()) {
            match Eyes::open(self.world).await {
                Ok(opened) => *eyes = Some(opened),
                Err(error) => tracing::warn!(%error, "cannot look who waits for us"),
            }
        }
    }

    /// What others waited for all the work so far.
    pub fn waited(&self) -> Waited {
        self.waited
    }

    /// Does work of the session, and measures meanwhile; returns what others waited for this piece too.
    pub async fn over<T>(&mut self, when: WhenSpent, work: impl Future<Output = T>) -> (T, Waited) {
        tokio::pin!(work);
        tokio::select! {
            biased;
            done = &mut work => return (done, Waited::default()),
            () = tokio::time::sleep(FIRST_LOOK) => {}
        }
        let mut seen = Seen::default();
        let done = tokio::select! {
            biased;
            done = &mut work => done,
            never = self.look(when, &mut seen) => match never {},
        };
        let waited = seen.in_all();
        self.world.brownout().spend(waited);
        self.waited = self.waited.and(waited);
        (done, waited)
    }

    /// Looks until nobody needs it any more.
    async fn look(&self, when: WhenSpent, seen: &mut Seen) -> Infallible {
        let began = Instant::now();
        let brownout = self.world.brownout();
        let mut eyes = brownout.eyes.lock().await;
        let mut cancelled = false;
        loop {
            self.open(&mut eyes).await;
            let Some(open) = eyes.as_ref() else {
                tokio::time::sleep(LOOK_AT_LEAST_EVERY).await;
                continue;
            };
            if let Err(error) = open.look(self.pid, seen).await {
                tracing::warn!(%error, "cannot look who waits for us");
            }
            let spent = seen.in_all().total >= brownout.left();
            if spent && when == WhenSpent::Cancel && !cancelled {
                cancelled = self.cancel(open).await;
            }
            tokio::time::sleep((began.elapsed() / 50).clamp(LOOK_EVERY, LOOK_AT_LEAST_EVERY)).await;
        }
    }

    async fn cancel(&self, eyes: &Eyes) -> bool {
        self.world.brownout().cancelled.store(true, Ordering::Relaxed);
        match eyes.client.execute("select pg_cancel_backend($1)", &[&self.pid]).await {
            Ok(_) => true,
            Err(error) => {
                tracing::warn!(%error, pid = self.pid, "cannot cancel a statement that others waited for too long");
                false
            }
        }
    }
}

/// A wait: who, and since when by the server's clock in microseconds.
type Wait = (i32, i64);

/// The waits seen while one piece of work went on.
#[derive(Default)]
struct Seen {
    waits: BTreeMap<Wait, Duration>,
    /// Those of the last look, which may have gone on since.
    last: Vec<Wait>,
    looked: Option<Instant>,
}

impl Seen {
    fn look(&mut self, found: impl Iterator<Item = (Wait, Duration)>) {
        self.looked = Some(Instant::now());
        self.last.clear();
        for (wait, waited) in found {
            self.waits.insert(wait, waited);
            self.last.push(wait);
        }
    }

    /// Those of the last look are taken to wait still.
    fn in_all(&self) -> Waited {
        let since = self.looked.map(|looked| looked.elapsed()).unwrap_or_default();
        let of = |(wait, waited): (&Wait, &Duration)| {
            if self.last.contains(wait) { *waited + since } else { *waited }
        };
        self.waits
            .iter()
            .map(of)
            .fold(Waited::default(), |all, one| all.and(Waited { total: one, longest: one, waits: 1 }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn a_wait_is_counted_once_with_its_longest_look() {
        let mut seen = Seen::default();
        seen.look([((1, 10), MS(20)), ((2, 11), MS(5))].into_iter());
        seen.look([((1, 10), MS(40)), ((1, 99), MS(1))].into_iter());
        seen.look(std::iter::empty());
        let waited = seen.in_all();
        assert_eq!(waited, Waited { total: MS(46), longest: MS(40), waits: 3 });
        assert_eq!(waited.to_string(), "sessions waited 3 times, 0.05 s in all, 0.04 s at most");
    }

    #[test]
    fn who_waited_at_the_last_look_is_taken_to_wait_until_the_end() {
        let mut seen = Seen::default();
        seen.look([((1, 10), MS(20))].into_iter());
        std::thread::sleep(MS(5));
        assert!(seen.in_all().total >= MS(25));
    }

    #[test]
    fn a_budget_is_spent_by_all_waits_together() {
        let budget = Brownout::of(MS(100));
        for _ in 0..2 {
            assert!(!budget.is_spent());
            budget.spend(Waited { total: MS(50), longest: MS(30), waits: 2 });
        }
        assert!(budget.is_spent());
        assert_eq!(budget.waited(), Waited { total: MS(100), longest: MS(30), waits: 4 });
        let error = budget.spent("cannot add a column (a.sql:1:1)", "pid 7");
        assert!(
            error.what.ends_with("in the way: pid 7") && error.what.contains(", 0.1 s in all ("),
            "{}",
            error.what
        );
    }
}
