//! When work may run, whatever it is: at which moments it comes by itself.
//!
//! Below the features, and knows none of them.

pub mod timing;
