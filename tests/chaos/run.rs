//! One run: everybody starts, the nemeses come and go, everything comes to rest, and the history is judged.

use crate::checker::{self, Finding};
use crate::clients::{self, Endpoints};
use crate::history::Event;
use crate::nemeses::{self, Nemesis};
use crate::place::Place;
use crate::world::{Act, LEASE, World};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How long everything may take to come to rest: many times what it takes.
const REST: Duration = Duration::from_secs(90);

/// What to run.
pub(crate) struct Settings {
    pub(crate) seed: u64,
    pub(crate) time: Duration,
    pub(crate) nemeses: Vec<&'static Nemesis>,
    /// A fault for the servers to have, when they are built with it.
    pub(crate) planted: Option<String>,
    pub(crate) keep: bool,
}

/// What came of it.
pub(crate) struct Judged {
    pub(crate) events: Vec<Event>,
    pub(crate) findings: Vec<Finding>,
    /// Nemeses that this machine does not allow.
    pub(crate) missing: Vec<&'static str>,
    /// Where the history is, if it was kept.
    pub(crate) kept: Option<PathBuf>,
}

/// Runs it. However it ends, dropped or by a panic, what it has started ends with it.
pub(crate) async fn run(settings: &Settings) -> Judged {
    let wants = |name: &str| settings.nemeses.iter().any(|nemesis| nemesis.name == name);
    let place = Place::new(wants("fill-disk"));
    let world = World::start(settings.seed, place, wants("clock"), settings.planted.as_deref()).await;
    let endpoints = Endpoints::start(settings.seed).await;
    endpoints.belong_to(&world);
    world.open(&endpoints.url).await;
    let missing = nemeses::missing(&world, &settings.nemeses);
    let mut clients = clients::start(&world);
    {
        let world = Arc::clone(&world);
        clients.spawn(async move { world.tend().await });
    }
    nemeses::run(&world, settings.time, &settings.nemeses).await;
    world.begin(Act::Drain);
    crate::last::rest(&world, REST).await;
    // Those who follow read on to the end.
    world.sleep(Duration::from_secs(3)).await;
    world.begin(Act::Over);
    clients.join_all().await;
    crate::last::read(&world).await.unwrap();
    let events = world.history.events();
    let findings = checker::check(&events, LEASE);
    let kept = (settings.keep || !findings.is_empty()).then(|| world.place.path().to_owned());
    if kept.is_some() {
        world.place.keep();
    }
    Judged { events, findings, missing, kept }
}
