//! Postrider.
pub mod app;
pub mod auth;
pub mod cli;
pub mod config;
pub mod db;
pub mod error;
pub mod http;
pub mod queues;
pub mod reports;
pub mod worker;
