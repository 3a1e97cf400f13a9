//! Storefront pollers: they read the API of a store, page by page, and tell what changed in it.
//!
//! ```text
//!   schedule ─▶ firing ─▶ dispatch: one run at a time ─▶ fetch: every page since the bookmark
//!                                                              │
//!     snapshots, bookmarks, messages ◀── change: each record against its snapshot
//!     in one transaction a page, before the next page is asked for
//! ```
//!
//! An unknown record is `<key>:new`; a changed one is `<key>:update`, or what a rule says instead.

pub mod change;
pub mod consumer;
pub mod definition;
pub mod document;
pub mod documented;
pub mod firing;
pub mod page;
pub mod pollers;
pub mod routes;
pub mod store;
pub mod walk;

mod fetch;
mod mark;
mod paging;
mod pass;
mod preview;
mod run;
mod tell;
