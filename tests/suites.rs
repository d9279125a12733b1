//! Proves what fbuild promises about correctness. `docs/reliability.md` says which suite proves
//! which promise, and how to run more of it.
//!
//! The models, the crashes and the random inputs are one binary: they share half of their
//! code, and linking it once takes less time than compiling their common part three times.

#![expect(clippy::unwrap_used, reason = "these are tests")]

mod crash;
mod fuzz;
mod model;

/// Helpers that know nothing of projects or stores.
mod support {
    pub(crate) mod calls;
    pub(crate) mod fake_tool;
    pub(crate) mod glob;
    pub(crate) mod image;
    pub(crate) mod rng;
    pub(crate) mod scale;
    pub(crate) mod tracer;
    pub(crate) mod tree;
    pub(crate) mod user;
}
