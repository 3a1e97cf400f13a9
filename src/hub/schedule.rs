//! Schedules: an interval, or cron with a time zone.

/// When something happens by itself.
#[derive(Debug, Clone)]
pub struct Schedule;
