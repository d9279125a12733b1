//! The Buildfile language: from text to plain types, with every mistake reported.

pub mod model;
