//! Postrider: queues, job channels and a delivery hub on nothing but PostgreSQL.
//!
//! This page is the architecture: read it once, and every file has a place. Queues, job channels and the hub are
//! three consumers of one engine, which claims, runs and settles items and knows nothing else of them.
//!
//! # Bird's-eye view
//!
//! ```text
//!   HTTP ──▶ queues::routes ──▶ queues::push ──┐ one statement, many messages
//!                                              ▼
//!            SQL: enqueue() ─────────▶  messages + dispatch | scheduled        (PostgreSQL)
//!                                              │ claim: DELETE … RETURNING, one lease a batch
//!   worker::claim ◀────────────────────────────┘
//!        │ load, run: JavaScript child · HTTP · native Rust      (remote workers claim over HTTP)
//!        ▼
//!   worker::settle ──▶ outcomes | attempts + dispatch | scheduled, fenced by the lease
//! ```
//!
//! Axum handlers write rows; a worker loop claims them, runs handlers and settles them. Messages and outcomes
//! are only ever inserted, but for a message that waits and is replaced: a message's status is what the view
//! `queue_messages` says of it. The tables that change, `dispatch` and `leases`, hold only what is due and what runs, and stay
//! small.
//!
//! # Code map
//!
//! | module | is |
//! | --- | --- |
//! | `app` | the composition root: the only file that knows every feature |
//! | `cli` | one file a subcommand |
//! | `queues` | push a message, have it handled, ask for its result |
//! | `jobs` | follow a job, and answer what it asks |
//! | `hub` | route a message to every mapped endpoint, and deliver it until it is taken |
//! | `reports` | the rows of `sql/reports/*.sql` |
//! | `flow` | when work may run, whatever it is: moments (`flow::timing`) of intervals and cron, which the ticker (`flow::ticker`) fires, rate limits (`flow::rates`) and circuits (`flow::circuit`) of lanes, lines (`flow::store::lines`) of items that run one after another |
//! | `worker` | claim, run, settle, reclaim: the engine; knows items only as claimable; retention (`worker::retention`) of what has ended; what a reason is why an item is not running (`worker::why`) |
//! | `auth` | token → caller → may this caller do that |
//! | `http` | bodies, limits, health, OpenAPI, which web pages may call (CORS), the guarded client, work that is too slow for the threads that all share (`http::aside`); knows no feature |
//! | `db` | pools, transactions, ids, migrations, the embedded server; who may call (`db::grants`) the SQL functions |
//! | `seal` | encryption at rest, and what becomes of it when keys are changed (`seal::Rotated`) |
//! | `traces` | the W3C context that travels with what is pushed, and spans for a collector (OTLP) |
//! | `error`, `config` | problem documents; every setting |
//!
//! Who may import whom, checked by `tests/house/architecture.rs`:
//! `cli → app → {queues, jobs, hub, reports} → {flow, worker, auth, http} → {db, seal, traces, error, config}`. Features never
//! import each other, nor do the four below them, but for `flow`, which reads with `http`; and no files import each
//! other in a circle (`tests/house/circles.rs`). From a route to its SQL it is two hops: `routes/` → `store/`. Each table is written by one part, listed in the same file; the engine's
//! `dispatch`, `scheduled` and `lanes` take inserts from every part that stores what is to run.
//!
//! # The journey of a message
//!
//! 1. `POST /queues/{queue}/messages` (`queues::routes`): token, queue, role, body, schema, in this order.
//! 2. `queues::push` stores it with those that came at the same time, in one statement; the answer follows
//!    the commit. The claim loop's bell rings.
//! 3. The claim loop takes due items of every lane that has room, in the order of priority and push: dispatch
//!    rows go, one lease row comes. It waits for nothing but claims: looks at the database, promotion, reclaim and
//!    changed definitions have tasks of their own (`worker`). Remote workers claim over HTTP: those who wait stand in
//!    the lane's line, and one look serves all of them (`worker::remote`).
//! 4. The consumer (`queues::consumer`) loads the messages and makes each ready to run
//!    (`queues::runners`). No transaction and no connection is held while handlers run.
//! 5. Ends queue up at the settler, which writes many in one transaction, fenced by their leases. The last end
//!    of a lease removes it. A batch ends at items, bytes and time; one that the database does not take is halved
//!    aside until the one end is found, which then ends with the reason. What an attempt ran under decides about its
//!    end, whatever the definition says by then; where nobody knows (its worker was lost), the definition as it is now.
//! 6. A worker that dies leaves its lease behind. Once its heartbeat is older than its lease, any process gives it up
//!    and puts what had not ended back. One that is told to stop gives back by itself what it cannot finish.
//!
//! Messages also come by themselves: schedules (`queues::schedules`) push them in the transaction that notes their moment.
//! Messages that have keys of their own, or values that are unique in their queue (`queues::uniqueness`), take a way of their
//! own into the database: the function `push_identified` decides for all ways in which of them there is already.
//!
//! Definitions (queues, endpoints, mappings, pollers, job types) are compiled once and kept, one snapshot at a time
//! (`worker::definitions`): a change counts up the catalog's revision, and a process reads what is newer than it knows.
//!
//! # The journey of a job
//!
//! 1. `POST /{job_type}` (`jobs::routes`) writes the job, its dispatch row and its creator's registration in
//!    one transaction. A worker takes it over HTTP: a lease of the engine, and from there the job's time runs.
//!    The job's data lies sealed (`jobs::data`); only the worker that holds the lease reads it.
//! 2. What is said about it goes through the SQL function `broadcast`: the job's row changes, its counter grows
//!    under the row's lock, and the log gets the message. So messages become visible in their order, and a
//!    cursor can neither skip one nor see one twice.
//! 3. Who follows polls (one read when there is nothing), waits, reads again or streams (`jobs::follow`).
//!    All reads share a bounded room for what they found, until it is sent (`jobs::room`).
//! 4. A question is an envelope: one a job, one answer, sealed (`seal`) until the worker reads it.
//!    What the owner hands over for the worker alone lies in a safe (`jobs::safe`), and may be the answer, too.
//! 5. Time ends what nobody ends (`jobs::upkeep`), whichever process lives (`tests/faults/deadlines.rs`); the
//!    engine takes back what lost workers held (`jobs::consumer`).
//!
//! The vendor's own client speaks in sessions (`jobs::sdk`): a layer around the routes (`jobs::routes`) verifies what it signs,
//! opens what it encrypts, tells them the caller (`auth::Admitted`), and encrypts the answer (`tests/jobs/sdk.rs`). No route
//! knows of it.
//!
//! # The journey of a message of the hub
//!
//! 1. `POST /stores/{store}/messages` (`hub::routes`) decides by what the process knows which mappings want it
//!    (`hub::routing::decide`), and stores it with a delivery for each, and its idempotency key, in one round trip: a
//!    statement that stores nothing if a mapping of the store is newer than that (`hub::routing::push`). A key that
//!    was used before takes a second one (`tests/hub/pushes.rs`). Identifiers that were sent before make a
//!    duplicate (SKIPPED); a mapping that is switched off holds its deliveries, a serial one lines them up.
//! 2. What comes otherwise ends in the same routing: messages of an answer with its settlement, polls of schedules
//!    (`hub::polling::firing`), changes that pollers find (`hub::polling`). What the SQL function `publish` stores,
//!    and what is to wait, is pending until the router (`hub::routing::pending`) takes it from its lane.
//! 3. Each endpoint has a lane. The claim loop takes as much of it as concurrency, rate limit (`flow::rates`) and
//!    circuit (`flow::circuit`) leave room for, so that a slow endpoint holds up no other. What goes to a
//!    service that fails waits, each delivery for a time of its own, and one tries at a time
//!    (`hub/delivery/probing.rs`), so that a service holds up no other of its endpoint (`tests/hub/services.rs`).
//! 4. The consumer (`hub::delivery::consumer`) opens token and parameters as they are now, and sends the request
//!    (`hub::delivery::request`, `hub::delivery::headers`) with the guarded client (`http::outbound`). No transaction is
//!    held meanwhile. What it looks like the endpoint's wire says: the hub's own document and headers, or the bare payload
//!    with headers and signatures (`hub::definitions::signing`) that an application has published (`tests/hub/senders.rs`).
//! 5. The answer becomes a verdict (`hub::delivery::answer`, `hub::delivery::verdict`): delivered, failed, or
//!    deferred by the endpoint. What it quotes of our secrets is blotted out (`hub::delivery::redact`).
//! 6. One transaction, fenced by the lease, writes the attempt, the delivery's end, the messages that the answer
//!    brings and their deliveries, parameters and log entries; and, when a circuit opens or closes, an endpoint is gone
//!    or a delivery is parked, a message that says so, once (`hub::notices`, `tests/hub/notices.rs`).
//!    A message that comes back to a mapping over answers, and one beyond the budget of the message from outside that it
//!    comes of, is stored with its delivery parked (`hub::routing::lineage`): circles end.
//! 7. An endpoint whose definition says so is switched off once it has failed for too long (`hub::delivery::disabling`), in a
//!    transaction of its own after the settlement that finds it (`tests/hub/disabling.rs`).
//! 8. What failed waits by backoff (`hub::delivery::outcome`), without limit unless its mapping sets one; then it is
//!    parked, until somebody has it run again or archives it.
//!
//! # The journey of a trace
//!
//! 1. Each request has a span (`http::edge`), whose context is stored with what it pushes; without a collector, that which
//!    it brought (`traces`).
//! 2. An attempt is a child of what is stored with its message. The id of its span follows from item and lease, so that
//!    whoever runs it can pass it on, and whoever writes its end, be it another process or the reclaim, exports it
//!    (`queues::failures`, `hub::delivery::spans`, `jobs::failures`), after the commit (`worker::Lines`).
//! 3. What a handler or an answer brings carries the context of the attempt, and comes of the same request
//!    (`traces::Origin`; `tests/traces/across.rs`).
//! 4. Spans leave by a bounded queue in a task of its own: a collector delays nothing (`tests/traces/exporting.rs`).
//!
//! # Why something is not running
//!
//! Each feature reads the facts of one item in a short transaction and decides by a pure function (`queues::why`,
//! `hub::delivery::why`, `jobs::why`); what holds for every kind of item, `worker::why` knows. A route and `cli::why` call
//! the same. However many items wait, it costs the same (`tests/queues/why.rs`, `tests/hub/why.rs`). Where an id or a name
//! leads, `app::jump` asks each feature.
//!
//! # Invariants, and the tests that hold them
//!
//! 1. The schema refuses an impossible state: a result only if COMPLETE, an error only if ERROR, at most one
//!    outcome a message (`tests/engine`).
//! 2. Every end is fenced by the claim that made it; a lost claim is normal, logged, and changes nothing
//!    (`tests/engine`, `tests/faults`). An end is said to count only when this very end is stored: rows tell what a
//!    worker said from what the reclaim wrote under the same lease (`tests/queues/ends.rs`, `tests/jobs/ends.rs`).
//!    No attempt starts after its lease is over, by the process's own monotonic clock (`worker/tenure.rs`), nor late under a claim that a crash undid (`worker/hold.rs`,
//!    `tests/faults/stopped.rs`); a graceful stop counts none (`tests/faults/terminated.rs`).
//! 3. No transaction and no connection is held while a handler runs (`worker`).
//! 4. Time is the database's; ids carry it (`db::Ids`). Clippy bans `Utc::now`. When a lease is over, the functions
//!    `is_silent` and `is_over` say, also when the clock was set (`tests/engine/clock.rs`, `tests/faults/clock.rs`).
//! 5. What is accepted is committed; what one step causes commits with it (`tests/faults`).
//!    One order of locks, so that nobody waits in a circle: the catalog, leases, definitions (schedules of queues,
//!    mappings, pollers), their moments (`schedules`), unfinished deliveries, endpoints, circuits, lines, and then what
//!    waits (`tests/hub/kept.rs`). A push locks its endpoints first, but waits for none, and nothing but the deletion of
//!    one, which has only the catalog, waits for it. A firing locks moments first, but leaves out those and the
//!    definitions that somebody has; a PUT, which has the definition, waits for the moment, and so for a firing that goes
//!    by what was there before (`tests/queues/schedules_put.rs`). Only messages that answer each other along two lines
//!    can meet in a circle; PostgreSQL undoes one of the settlements, which comes again.
//! 6. A handler's failure is data (`queues::outcome`), never an `Err`.
//! 7. Secrets are `SecretString`, never in logs, errors or metrics, nor in what endpoints said, and sealed in the database
//!    (`tests/house/configuration.rs`, `tests/house/sealed.rs`, `tests/jobs/secrets.rs`, `tests/hub/secrets.rs`).
//! 8. Nothing holds state in a database session: a transaction-mode pooler can stand in between
//!    (`tests/faults/pooled.rs`). A session listens only where it is ours alone (`db::session`).
//! 9. Every operation of the API needs a token and a role (`tests/house/authorization.rs`).
//! 10. A job's log has no hole and no message is handed out twice with one key (`tests/jobs/channels.rs`).
//! 11. Every attempt of a delivery carries its id, as `webhook-id` or where the headers of a bare wire say, and, while
//!     its parameters stay as they are, the same bytes (`every_attempt_carries_the_same_id_and_the_same_bytes` in `tests/hub/deliveries.rs`).
//! 12. What an answer causes takes effect once, with the end of its delivery, whenever a server dies or a commit goes
//!     unanswered (`tests/hub/killed.rs`).
//! 13. The same identifiers go to a mapping once
//!     (`of_many_pushes_at_once_with_the_same_identifiers_one_is_delivered` in `tests/hub/routing.rs`), and of a line
//!     only the head runs (`in_a_serial_mapping_everybody_waits_for_the_head` in `tests/hub/control.rs`).
//! 14. An endpoint that hangs, lies or floods costs bounded time and memory, and delays no other
//!     (`tests/hub/hostile.rs`).
//! 15. Nothing that is held is forgotten, however pushes and switches meet (`tests/hub/held.rs`).
//! 16. A moment of a schedule fires once over all servers, by the database's clock, whoever's runs ahead, also of ten
//!     thousand at once (`flow::ticker`; `tests/queues/schedules.rs`, `tests/faults/schedules.rs`, `tests/hub/schedules.rs`); a change in a storefront is
//!     told once, whatever fails on the way (`tests/hub/pollers.rs`), and page by page (`tests/hub/poller_pages.rs`).
//! 17. Neither changing definitions, nor an open transaction of somebody else, nor what cannot be promoted or
//!     reclaimed, keeps a claim waiting (`tests/engine/changes.rs`, `tests/jobs/held.rs`, `tests/engine/duties.rs`).
//! 18. No lane takes the room of a process, whatever its definition says (`tests/engine/shares.rs`).
//! 19. No end, push or record that the database takes too long for holds up the others for longer than a statement
//!     may take (`tests/engine/poison.rs`, `tests/queues/parts.rs`).
//! 20. What is sent again under its idempotency key happens once, also when it would be refused by now, and only pushes of
//!     a key wait for a transaction that uses it (`http::idempotency`; `tests/queues/idempotency.rs`,
//!     `tests/queues/held_keys.rs`, `tests/queues/schedules_run.rs`, `tests/jobs/idempotency.rs`, `tests/hub/pushes.rs`).
//! 21. JSON is text, kept as it was sent; a value is only made to look into it (`http::json_text`;
//!     `tests/queues/json_text.rs`).
//! 22. What must stay does not keep what may go, and a reader of an old week holds up nobody
//!     (`tests/engine/retention.rs`, `tests/hub/upkeep.rs`); no duty of the upkeep waits for the long work of another,
//!     and no start for any of them (`worker::upkeep`, `tests/engine/upkeep.rs`); every table says what bounds it
//!     (`worker::retention::bounds`, `tests/house/bounds.rs`); no page of a listing reads more than a bounded number of
//!     rows (`tests/queues/pages.rs`, `tests/hub/pages.rs`).
//! 23. Whatever services answer, what comes of one message from outside ends (`tests/hub/loops.rs`).
//! 24. Of pushes of one value, from wherever they come at the same time, one is stored while it is held; what holds it is
//!     judged by what has become of its message, so that neither claims nor ends know of it, nor do queues without
//!     (`tests/queues/unique_races.rs`, `tests/queues/unique.rs`); what replaces a message that waits is never lost
//!     (`tests/queues/unique_replace.rs`), and nothing that comes back runs after what replaces it
//!     (`tests/queues/unique_given_back.rs`).
//! 25. A role of PostgreSQL gets through SQL what it was granted and nothing else: the functions for applications are
//!     `SECURITY DEFINER` with a pinned search path, and ask `db::grants` (`tests/commands/grants.rs`).
//!
//! # As a library
//!
//! An application that only writes messages takes a [`client`] and its own connection. One that runs the work itself,
//! with handlers in Rust, is an [`App`]:
//!
//! ```no_run
//! use postrider::{App, Config, Failure, Message, Parts};
//!
//! async fn resize(message: Message) -> Result<serde_json::Value, Failure> {
//!     let width: u32 = message.json()?;
//!     Ok(serde_json::json!({ "width": width / 2 }))
//! }
//!
//! # async fn run() -> anyhow::Result<()> {
//! let config = Config::from_env()?;
//! let database = "postgres://localhost/app".parse()?;
//! postrider::migrate(&database, &config.schema).await?;
//! let server = App::new(config)
//!     .handler("resize", resize)
//!     .queue("resize", serde_json::json!({ "handler": { "kind": "native", "name": "resize" } }))
//!     .start(&database, Parts::Everything)
//!     .await?;
//! # server.stop().await;
//! # Ok(())
//! # }
//! ```

mod app;
mod auth;
mod cli;
pub mod client;
pub mod config;
mod db;
mod error;
mod flow;
mod http;
mod hub;
#[doc(hidden)]
pub mod internals;
mod jobs;
#[cfg(feature = "planted-bugs")]
mod planted;
mod queues;
mod reports;
mod seal;
mod traces;
mod worker;

pub use app::{App, Parts, Prepared, Server};
pub use client::Client;
pub use config::Config;
pub use db::migrate::migrate;
pub use queues::native::{Failure, Handler, Message};

/// The guide to the library, whose program compiles.
#[cfg(doctest)]
#[doc = include_str!("../docs/library.md")]
struct Library;
