//! All SQL of `dispatch`, `scheduled`, `workers`, `leases`, `duties`, `catalog` and `weeks`.

mod catalog;
mod claims;
mod duties;
mod leases;
mod orphans;
mod remote;
mod waiting;
mod weeks;
mod workers;

pub use catalog::{
    Catalogued, bump, bump_removed, lock_revision, remove_lane, retire_lane, retired_lanes, revision,
};
pub use claims::{Taken, Wanted, claim, confirm};
pub use duties::{leave_duty, note_duty, take_duty};
pub use leases::{
    dead, expire, fence, fence_shortly, is_leased, leases_of, lock_dead, lock_item, lock_of, release_dead,
};
pub use orphans::{Cursor, sweep};
pub use remote::{Asked, Given, Outside, claim_remote, extend, lock_lanes, outside, ready};
pub use waiting::{
    PutOff, Which, hasten, hurry, lanes_of, next_due, promote, put_back, put_off, redirect, unschedule,
    withdraw,
};
pub use weeks::{Week, drop_week, lockers, make_week, note_week, weeks_after, weeks_before};
pub use workers::{Pulse, Renewed, Worker, bury, deregister, give_up, pulse, register, renew, tell_to_stop};
