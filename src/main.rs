//! The doorway. Everything is in the library; start reading at `lib.rs`.

use std::process::ExitCode;

fn main() -> ExitCode {
    migrate::cli::run(std::env::args_os())
}
