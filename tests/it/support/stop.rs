//! Being asked to stop.

use anyhow::Result;
use tokio::signal::unix::{SignalKind, signal};

/// The exit code of something that Ctrl-C ended.
pub const STOPPED: u8 = 130;

/// Begins to listen now; the future ends at the first Ctrl-C, SIGTERM or SIGHUP. None of them ends the process any more.
pub fn stopped() -> Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    })
}
