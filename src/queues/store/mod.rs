//! All SQL of the queues' tables: definitions here, messages, attempts and their ends in the files beside.

pub mod definitions;
pub mod depths;
pub mod ends;
pub mod follow;
pub mod identified;
pub mod jump;
pub mod keys;
pub mod listing;
pub mod messages;
pub mod pushes;
pub mod retention;
pub mod schedules;
pub mod why;
