//! All SQL of `dispatch`, `scheduled`, `workers`, `leases`, `duties`, `catalog` and `weeks`.

mod catalog;
mod claims;
mod duties;
mod leases;
mod waiting;
mod weeks;
mod workers;

pub use catalog::{bump, lock_revision, remove_lane, revision};
pub use claims::{Taken, Wanted, claim, claim_outside, extend, outside};
pub use duties::{leave_duty, take_duty};
pub use leases::{expire, fence, is_leased, leases_of, lock_dead, lock_item};
pub use waiting::{hurry, promote, put_back, redirect, sweep, unschedule, withdraw};
pub use weeks::{Week, drop_week, lockers, make_week, note_week, weeks_after, weeks_before};
pub use workers::{Pulse, bury, deregister, pulse, register, renew};
