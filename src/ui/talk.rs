//! The thread that talks. Events are told from the data path, which must not wait for a terminal or a full pipe; so they
//! go through a queue of fixed length, and when it is full, progress is dropped first of all.

use super::{Form, bars::Bars, lines::Lines};
use crate::event::{Event, Listener};
use indicatif::MultiProgress;
use std::{
    io::Write,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, Receiver, SyncSender, TrySendError},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// How many events may wait to be shown.
const QUEUE: usize = 4096;
/// How long the end of the program waits for the last words to be shown.
const LAST_WORDS: Duration = Duration::from_secs(2);

enum Message {
    Event(Event),
    Text(String),
    Flush(SyncSender<()>),
    Clear(SyncSender<()>),
}

/// The way to the thread.
pub struct Talk {
    queue: Mutex<Option<SyncSender<Message>>>,
    dropped: AtomicU64,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Where and how the thread talks.
pub struct Stage {
    /// How events are shown.
    pub form: Form,
    /// Standard error.
    pub out: Box<dyn Write + Send>,
    /// Whether it takes colors.
    pub colors: bool,
    /// Where bars are drawn, in that mode.
    pub screen: Option<MultiProgress>,
}

impl Talk {
    /// Starts the thread.
    pub fn start(stage: Stage) -> Talk {
        let (queue, events) = mpsc::sync_channel(QUEUE);
        let thread = std::thread::Builder::new().name("ui".into()).spawn(move || show(stage, &events));
        if let Err(error) = &thread {
            tracing::error!(%error, "the thread that shows progress cannot be started");
        }
        Talk { queue: Mutex::new(Some(queue)), dropped: AtomicU64::new(0), thread: Mutex::new(thread.ok()) }
    }

    fn queue(&self) -> Option<SyncSender<Message>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many events were dropped and not yet reported.
    #[cfg(test)]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Shows text as it is. Waits when the queue is full.
    pub fn text(&self, text: String) {
        if let Some(queue) = self.queue() {
            // It fails only when the thread is gone, and nobody reads.
            let _ = queue.send(Message::Text(text));
        }
    }

    /// Like [`Talk::text`], but never waits: for logs.
    pub fn try_text(&self, text: String) {
        if let Some(queue) = self.queue() {
            let _ = queue.try_send(Message::Text(text));
        }
    }

    /// Waits until everything told so far is shown, or [`LAST_WORDS`].
    pub fn flush(&self) {
        self.wait_for(Message::Flush);
    }

    /// Like [`Talk::flush`], and takes the bars away.
    pub fn clear(&self) {
        self.wait_for(Message::Clear);
    }

    fn wait_for(&self, message: impl FnOnce(SyncSender<()>) -> Message) {
        let (done, shown) = mpsc::sync_channel(1);
        if self.queue().is_some_and(|queue| queue.try_send(message(done)).is_ok()) {
            let _ = shown.recv_timeout(LAST_WORDS);
        }
    }
}

impl Listener for Talk {
    /// Never waits. When the queue is full, the event is counted as dropped.
    fn tell(&self, event: Event) {
        let Some(queue) = self.queue() else { return };
        let told = match self.dropped.load(Ordering::Relaxed) {
            0 => Ok(()),
            dropped => {
                let text = format!("{dropped} messages were not shown, since nobody read them in time");
                queue.try_send(Message::Event(Event::Warning { text })).map(|()| {
                    self.dropped.fetch_sub(dropped, Ordering::Relaxed);
                })
            }
        };
        if let Err(TrySendError::Full(_)) = told.and_then(|()| queue.try_send(Message::Event(event))) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Talk {
    /// Lets the thread show what is left and end; one that hangs on its terminal is left behind.
    fn drop(&mut self) {
        self.flush();
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).take();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let until = Instant::now() + LAST_WORDS;
        if let Some(thread) = thread {
            while !thread.is_finished() && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
}

fn show(mut stage: Stage, events: &Receiver<Message>) {
    let mut lines = Lines::default();
    let mut bars = stage.screen.clone().map(Bars::new);
    while let Ok(message) = events.recv() {
        match message {
            Message::Event(event) => {
                let line = match (stage.form, &mut bars) {
                    (Form::Json, _) => serde_json::to_string(&event).ok(),
                    (Form::Bars, Some(bars)) => bars.draw(&event, Instant::now()),
                    (Form::Bars | Form::Lines, _) => lines.line(&event, Instant::now()),
                };
                if let Some(line) = line {
                    print(&mut stage, &format!("{line}\n"));
                }
            }
            Message::Text(text) => print(&mut stage, &text),
            Message::Flush(done) => {
                let _ = done.send(());
            }
            Message::Clear(done) => {
                bars.iter_mut().for_each(Bars::clear);
                let _ = done.send(());
            }
        }
    }
    bars.iter_mut().for_each(Bars::clear);
}

/// Prints above the bars. What cannot be written is lost: talk is not data, and a closed pipe must not stop a migration.
fn print(stage: &mut Stage, text: &str) {
    let text = match stage.colors {
        true => text.to_owned(),
        false => anstream::adapter::strip_str(text).to_string(),
    };
    let out = &mut stage.out;
    let mut write = || out.write_all(text.as_bytes()).and_then(|()| out.flush());
    let _ = match &stage.screen {
        Some(screen) => screen.suspend(write),
        None => write(),
    };
}
