//! Runs that are killed, lose power, or work on disks that fail: results afterwards are right
//! or missing, and the next run goes on without repairs.

mod damage;
mod ext4;
mod file_systems;
pub(crate) mod fixture;
mod io_errors;
mod kill;
mod lossy_disk;
mod power_cut;
mod recorder;
