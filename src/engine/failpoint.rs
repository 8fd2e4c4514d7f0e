//! Named places where a test kills the process.
//!
//! `MIGRATE_FAIL_POINT=switch/fence-blue:effected` makes the process die there by `kill -9`: no destructor runs, no
//! connection says goodbye. Only builds with debug assertions look at it. The engine's own points are
//! `<step>:{planned,started,effected,applied,undo-started,undo-effected,undone}`.

/// Dies here, when a test has named this point.
pub fn hit(name: &str) {
    if cfg!(debug_assertions) && std::env::var("MIGRATE_FAIL_POINT").is_ok_and(|wanted| wanted == name) {
        let pid = std::process::id().to_string();
        let killed = std::process::Command::new("kill").args(["-9", &pid]).status();
        tracing::error!(?killed, name, "survived a fail point");
        std::process::abort();
    }
}
