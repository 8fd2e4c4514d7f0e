//! Whole migrations over real servers, where something happens between two commands.

#[path = "journey/beginning.rs"]
mod beginning;
#[path = "journey/blue_altered.rs"]
mod blue_altered;
#[path = "journey/closed.rs"]
mod closed;
#[path = "journey/compat.rs"]
mod compat;
#[path = "journey/handover.rs"]
mod handover;
#[path = "journey/joined.rs"]
mod joined;
#[path = "journey/mapped.rs"]
mod mapped;
#[path = "journey/newcomers.rs"]
mod newcomers;
#[path = "journey/reshaped.rs"]
mod reshaped;
#[path = "journey/restarted.rs"]
mod restarted;
#[path = "journey/snapshot.rs"]
mod snapshot;
#[path = "journey/stage.rs"]
mod stage;
#[path = "journey/throttled.rs"]
mod throttled;
