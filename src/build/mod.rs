//! The build.

pub mod plan;
pub mod reason;
pub mod spool;
pub mod tally;
