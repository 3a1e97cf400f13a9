//! What this project's own program, tests and benchmarks look into. It is no part of the library, and may change at any time.
//! What is named neither here nor in `lib.rs` is private, so that the compiler finds what nobody uses any more.

pub mod cli {
    pub use crate::cli::main;
}

pub mod auth {
    pub use crate::auth::sign;
}

pub mod db {
    pub use crate::db::{Database, embedded, migrate, session, transaction};
}

pub mod flow {
    pub use crate::flow::rate::Rate;
    pub use crate::flow::store::{parts, rates};
}

pub mod http {
    pub use crate::http::json_text::to_value;
    pub use crate::http::outbound::{Outbound, Request};
    pub use crate::http::trace::init_logging;
}

pub mod hub {
    pub use crate::hub::definitions::catalog::Catalog;
    pub use crate::hub::definitions::store::stores::ensure;
    pub use crate::hub::delivery::store::why;
    pub use crate::hub::delivery::store::{listing as delivery_listing, log_listing, page as delivery_page};
    pub use crate::hub::listing::page::{Page, Span, WALK};
    pub use crate::hub::routing::message::{Draft, MAX_HOPS, State};
    pub use crate::hub::routing::{decide, store::page as message_page};
}

pub mod jobs {
    pub use crate::jobs::access_key;
    pub use crate::jobs::job_type::BUILT_IN;
}

pub mod queues {
    pub use crate::queues::store::{listing, pushes, why};
    pub use crate::queues::{identity, javascript};
}

pub mod reports {
    pub use crate::reports::REPORTS;
}

pub mod traces {
    pub use crate::traces::Origin;
}

pub mod worker {
    pub use crate::worker::retention::bounds::BOUNDS;
    pub use crate::worker::store;
}
