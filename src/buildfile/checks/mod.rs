//! Mistakes that can be seen in one target, without knowing other targets or files.

mod near_miss;
pub(super) mod target;
