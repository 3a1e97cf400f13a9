//! What the command line says.

use crate::nemeses::{ALL, Nemesis};
use std::path::PathBuf;
use std::time::Duration;

/// What to do.
pub(crate) enum Order {
    /// Nothing was said: test the checker.
    SelfTest,
    /// Judge a history that was kept.
    Check(PathBuf),
    /// Run.
    Run(Run),
}

/// Runs of the harness.
pub(crate) struct Run {
    pub(crate) seed: Option<u64>,
    pub(crate) time: Duration,
    pub(crate) nemeses: Vec<&'static Nemesis>,
    pub(crate) planted: Option<String>,
    pub(crate) keep: bool,
}

/// How to use it.
pub(crate) const USAGE: &str =
    "cargo test --test chaos -- --seconds N [--seed N|random] [--only a,b] [--without a,b] [--keep]
cargo test --test chaos -- --check DIRECTORY";

/// Reads the arguments. What is for other test targets (a filter, `--nocapture`) is passed over.
pub(crate) fn read(arguments: impl Iterator<Item = String>) -> Result<Order, String> {
    let mut run =
        Run { seed: None, time: Duration::ZERO, nemeses: ALL.iter().collect(), planted: None, keep: false };
    let (mut runs, mut arguments) = (false, arguments);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value"));
        match argument.as_str() {
            "--seconds" => run.time = Duration::from_secs(number(&value()?)?),
            "--seed" => {
                run.seed =
                    Some(value()?).filter(|text| text != "random").map(|text| number(&text)).transpose()?;
            }
            "--only" => run.nemeses = named(&value()?)?,
            "--without" => {
                let without = named(&value()?)?;
                run.nemeses.retain(|nemesis| without.iter().all(|other| other.name != nemesis.name));
            }
            "--planted" => run.planted = Some(value()?),
            "--keep" => run.keep = true,
            "--check" => return Ok(Order::Check(value()?.into())),
            _ => continue,
        }
        runs = true;
    }
    if !runs {
        return Ok(Order::SelfTest);
    }
    if run.time.is_zero() {
        return Err("--seconds says for how long".to_owned());
    }
    Ok(Order::Run(run))
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{text} is not a number"))
}

fn named(names: &str) -> Result<Vec<&'static Nemesis>, String> {
    let one = |name| {
        ALL.iter().find(|nemesis| nemesis.name == name).ok_or_else(|| format!("there is no nemesis {name}"))
    };
    names.split(',').filter(|name| !name.is_empty()).map(one).collect()
}
