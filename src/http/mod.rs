//! What every route shares; knows no feature.

mod connection;
mod content_type;
mod json_text;
mod shape;

pub mod address;
pub mod body;
pub mod extract;
pub mod outbound;
pub mod server;
