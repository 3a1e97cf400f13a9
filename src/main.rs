//! The command line.

use std::process::ExitCode;

/// A delivery allocates some hundred times; this does it for a fifth less CPU than the C library (`cargo bench`).
#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    postrider::cli::main()
}
