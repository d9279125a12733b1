//! The suites that prove what fbuild promises about correctness. `docs/reliability.md` says
//! which promise each proves, and how to run more of it.

#![expect(clippy::unwrap_used, reason = "these are tests")]

mod bench;
mod builder;
mod calls;
mod crowd;
mod damage;
mod fuzz;
mod generate;
mod glob;
mod golden;
mod habit;
mod history;
mod huge;
mod image;
mod inprocess;
mod kill;
mod known;
mod lossy;
mod mixer;
mod model;
mod oracle;
mod powercut;
mod process;
mod project;
mod realcut;
mod recorder;
mod rng;
mod scale;
mod scene;
mod stamps;
mod step;
mod tracer;
mod tree;
mod trouble;
