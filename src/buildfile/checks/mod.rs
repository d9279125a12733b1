//! Finds mistakes in single targets. It knows no other target and no files.

mod near_miss;
pub(super) mod spelling;
pub(super) mod target;
