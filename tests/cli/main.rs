//! The command line, from outside: every command, every option, and every kind of bad input,
//! exact on what is printed, what is said and how it ends. Each file is one topic; what they
//! share is [`project::Project`].

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "these are tests")]
#![expect(
    clippy::disallowed_methods,
    reason = "this plays the shell that starts fbuild"
)]

#[path = "../support/processes.rs"]
#[expect(dead_code, reason = "places are for tests of processes")]
mod processes;
mod project;
mod redact;

mod buildfile;
mod cache;
mod command;
mod edit;
mod env;
mod find;
mod folder;
mod forge;
mod generate;
mod hostile;
mod inputs;
mod json;
mod links;
mod names;
mod outputs;
mod run;
mod secrets;
mod show;
mod snapshot;
mod together;
