//! Follow a job, and answer what it asks.
//!
//! A *job* is long work done elsewhere: in a virtual browser, by any worker that speaks HTTP. Its owner and
//! others follow it by *broadcasts*, a log of statuses. What it asks, its owner alone answers, in an
//! *envelope*.
//!
//! ```text
//!            claim, or a first call           termination_type: the worker's, a timeout's,
//! (created) ─────────────────────▶ (started) ───────────────────────────────▶ (finished)
//!     ▲ │                           │  ▲  │                  a cancellation's     ▲
//!     │ │ cancel: NEVER_STARTED     │  │  └ ask ▶ PENDING_TFA · PENDING_NEWCREDS ──┤ not answered
//!     │ └───────────────────────────┼──┼──────────────────────────────────────────┘
//!     │        worker lost          │  └ answer: TFA_CODE_RECEIVED · CREDS_RECEIVED
//!     └─────────────────────────────┘  (as often as the type allows)
//! ```
//!
//! The words of `status` are an open set. What is certain is in the schema: a job is finished when and only
//! when it has a termination type, and never changes again; it asks one thing at a time; it has deadlines
//! only while it runs. Every change is one broadcast in the same transaction, through the function
//! `broadcast(job, status)`, which SQL applications call too.
//!
//! A *registration* is a place in a job's log with an access key; one key is one reader, however many polls
//! it has under way. The same log is polled, waited for (`wait`), read again (`after`) and streamed.
//!
//! What is secret lies sealed: the [`data`] of a job until its worker takes it, an answer until its worker picks it
//! up, and what its owner puts into its [`safe`] for the worker alone until the job ends.
//!
//! Clients come with tokens, as to all of Postrider, or, as the vendor's own client does, in sessions of theirs
//! ([`sdk`]).

pub mod access_key;
pub mod consumer;
pub mod data;
pub mod deadline;
pub mod depths;
pub mod envelope;
pub mod failures;
pub mod follow;
pub mod job_type;
pub mod jump;
pub mod message;
pub mod metrics;
pub mod remote;
pub mod roles;
pub mod room;
pub mod routes;
pub mod safe;
pub mod sdk;
pub mod store;
pub mod tidy;
pub mod types;
pub mod upkeep;
pub mod why;

pub use follow::Tails;
