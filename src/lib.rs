//! A **buildfile** is read into a **graph**; each wanted target becomes an
//! **action**; the **store** may already hold its result; otherwise **exec** makes
//! it; **build** drives this in parallel and emits **events**; the **journal**
//! keeps them, **report** shows them; **cli** is the face.
//!
//! The modules stand below in layer order: a module may use only modules declared
//! above it, and `tests/architecture/main.rs` checks that it does. `docs/ARCHITECTURE.md`
//! is the map, with the invariants and the files on disk.

// Words.
pub mod system;

pub mod cancel;
pub mod digest;

pub mod checked_file;
pub mod path;
pub mod stamp;
pub mod user_key;

pub mod glob;
pub mod source;
pub mod test_report;

// The language.
pub mod buildfile;

// The graph.
pub mod graph;

pub mod workspace;

// What is to be done.
pub mod action;

pub mod event;

// Where results live.
pub mod store;

#[cfg(feature = "remote")]
pub mod remote;

pub mod journal;

// How results are made.
pub mod exec;

// What need not be built.
pub mod snapshot;

// The build.
pub mod build;

pub mod report;

// The face, and what it starts with.
pub mod session;

pub mod cli;
