//! Everything that needs the real binary or a real database, one file a capability.

mod javascript;
mod javascript_hostile;
mod javascript_pool;
mod javascript_services;
