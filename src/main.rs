//! The command line.

use std::process::ExitCode;

fn main() -> std::io::Result<ExitCode> {
    match std::env::args().nth(1).as_deref() {
        Some("javascript-child") => postrider::queues::javascript::child::main(),
        _ => Ok(ExitCode::FAILURE),
    }
}
