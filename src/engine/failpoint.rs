//! Named places where a test kills the process, or lets it sleep.
//!
//! `MIGRATE_FAIL_POINT=switch/fence-blue:effected` makes the process die there by `kill -9`: no destructor runs, no
//! connection says goodbye. `MIGRATE_SLEEP_POINT` stops it there once, as a laptop that is closed, until somebody sends
//! SIGCONT. Only builds with debug assertions look at them. The engine's own points are
//! `<step>:{planned,started,effected,applied,undo-started,undo-effected,undone}`.

use std::sync::atomic::{AtomicBool, Ordering};

/// Dies or sleeps here, when a test has named this point.
pub fn hit(name: &str) {
    static SLEPT: AtomicBool = AtomicBool::new(false);
    let named =
        |variable| cfg!(debug_assertions) && std::env::var(variable).is_ok_and(|wanted| wanted == name);
    if named("MIGRATE_SLEEP_POINT") && !SLEPT.swap(true, Ordering::SeqCst) {
        send("-STOP", name);
    }
    if named("MIGRATE_FAIL_POINT") {
        send("-9", name);
        tracing::error!(name, "survived a fail point");
        std::process::abort();
    }
}

fn send(signal: &str, point: &str) {
    let pid = std::process::id().to_string();
    let sent = std::process::Command::new("kill").args([signal, &pid]).status();
    tracing::debug!(?sent, point, "came to a point that a test has named");
}
