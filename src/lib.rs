//! Postrider.
pub mod auth;
pub mod config;
pub mod db;
pub mod error;
pub mod http;
pub mod queues;
pub mod worker;
