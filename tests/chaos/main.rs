//! The chaos harness: clients that write down what they were told, nemeses, and a checker that judges it.
//! `README.md` says how to use it.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::print_stdout, reason = "it says what it has found")]

mod api;
mod args;
mod checker;
mod clients;
mod dice;
mod history;
mod last;
mod nemeses;
mod node;
mod place;
mod postgres;
mod proxy;
mod run;
mod summary;
mod world;

use crate::run::{Judged, Settings};
use std::path::Path;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

fn main() -> ExitCode {
    match args::read(std::env::args().skip(1)) {
        Ok(args::Order::SelfTest) => self_test(),
        Ok(args::Order::Check(directory)) => check(&directory),
        Ok(args::Order::Run(order)) => chaos(order),
        Err(why) => {
            println!("{why}\n{}", args::USAGE);
            ExitCode::from(2)
        }
    }
}

/// Tests the checker on small histories, and says how to have more.
fn self_test() -> ExitCode {
    let (mut passed, mut failed) = (0, 0);
    println!("\nrunning {} tests", checker::tests::ALL.len());
    for (name, test) in checker::tests::ALL {
        let result = std::panic::catch_unwind(test);
        println!("test checker::{name} ... {}", if result.is_ok() { "ok" } else { "FAILED" });
        *(if result.is_ok() { &mut passed } else { &mut failed }) += 1;
    }
    let word = if failed == 0 { "ok" } else { "FAILED" };
    println!("\nchaos itself: cargo test --test chaos -- --seconds 120 --seed 7");
    println!(
        "\ntest result: {word}. {passed} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out\n"
    );
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn check(directory: &Path) -> ExitCode {
    let events = history::read(directory);
    let findings = checker::check(&events, world::LEASE);
    report(&Judged { events, findings, missing: Vec::new(), kept: None })
}

fn report(judged: &Judged) -> ExitCode {
    println!("{}", summary::of(judged));
    if judged.findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn chaos(order: args::Run) -> ExitCode {
    let random =
        u64::from_be_bytes(uuid::Uuid::new_v4().as_bytes()[..8].try_into().unwrap_or_default()) >> 32;
    let args::Run { seed, time, nemeses, planted, keep } = order;
    let settings = Settings { seed: seed.unwrap_or(random), time, nemeses, planted, keep };
    println!("chaos for {} s, seed {}", time.as_secs(), settings.seed);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let judged = runtime.block_on(async {
        let mut interrupted = signal(SignalKind::interrupt()).unwrap();
        let mut terminated = signal(SignalKind::terminate()).unwrap();
        tokio::select! {
            judged = run::run(&settings) => Some(judged),
            _ = interrupted.recv() => None,
            _ = terminated.recv() => None,
        }
    });
    // Whoever still holds the servers lets go of them here, and they end.
    drop(runtime);
    let Some(judged) = judged else {
        println!("interrupted: nothing is judged, and nothing is left");
        return ExitCode::from(130);
    };
    let code = report(&judged);
    if let Some(kept) = &judged.kept {
        println!("  kept: {}", kept.display());
        println!("  judge it again: cargo test --test chaos -- --check {}", kept.display());
    }
    if !judged.findings.is_empty() {
        println!(
            "  run it again: cargo test --test chaos -- --seconds {} --seed {}",
            time.as_secs(),
            settings.seed
        );
    }
    code
}
