//! Shared caches on real servers: a folder, nginx as a plain HTTP cache, Redis, and
//! buildbox-casd as a server of the Remote Execution API.
//!
//! Debian's packages `nginx-light` and `redis-server`, and the programs of buildbox in the
//! folder `FBUILD_CASD`. A server that is missing is a failure where `CI` is set, and is
//! named elsewhere.

#![expect(clippy::unwrap_used, reason = "these are tests")]

mod contract;
mod faults;
mod proxy;
mod servers;
