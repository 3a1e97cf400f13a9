//! All SQL of `dispatch`, `scheduled`, `workers`, `leases` and `duties`.

mod claims;
mod duties;
mod leases;
mod waiting;
mod workers;

pub use claims::{Taken, Wanted, claim, claim_outside, extend, outside};
pub use duties::{leave_duty, take_duty};
pub use leases::{expire, fence, leases_of, lock_dead, lock_item};
pub use waiting::{promote, put_back, sweep, unschedule};
pub use workers::{Pulse, bury, deregister, pulse, register, renew};
