//! The commands, one file each.

pub(super) mod add;
pub(super) mod cache;
pub(super) mod check;
pub(super) mod clean;
pub(super) mod explain;
pub(super) mod fmt;
pub(super) mod generate;
pub(super) mod graph;
pub(super) mod init;
pub(super) mod list;
#[cfg(feature = "remote")]
pub(super) mod remote;
pub(super) mod run;
pub(super) mod status;
pub(super) mod test;
pub(super) mod trash;
