//! Tests the command line from outside: every command, every option, and every kind of invalid
//! input, with the exact output, messages and exit code. Each file is a topic; they share
//! [`project::Project`].

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "these are tests")]
#![expect(
    clippy::disallowed_methods,
    reason = "stands in for the shell that starts fbuild"
)]

#[path = "../support/processes.rs"]
#[expect(dead_code, reason = "places are for tests of processes")]
mod processes;
mod project;
mod redact;

mod arguments;
mod buildfile;
mod cache;
mod command;
mod edit;
mod env;
mod expand;
mod find;
mod folder;
mod forge;
mod generate;
mod hostile;
mod inputs;
mod json;
mod links;
mod lock;
mod names;
mod outputs;
mod ownership;
mod remote;
mod run;
mod secrets;
mod show;
mod snapshot;
mod test;
mod together;
mod trace;
