//! The doorway. Everything is in the library; start reading at `lib.rs`.

use mimalloc::MiMalloc;
use std::process::ExitCode;

/// Trees of SQL are made of small pieces, made in one thread and freed in another: with the system's allocator 100,000 lines
/// took 1.7 times as long to plan.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    migrate::cli::run(std::env::args_os())
}
