//! Suites that interrupt runs: kills, power cuts and failing disks. Results afterwards are right
//! or missing, and the next run needs no repair.

mod damage;
mod ext4;
mod file_systems;
pub(crate) mod fixture;
mod io_errors;
mod kill;
mod lossy_disk;
mod power_cut;
mod recorder;
