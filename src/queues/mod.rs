//! Push a message, have it handled, ask for its result.

pub mod javascript;
