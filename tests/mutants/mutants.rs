//! Selects the active mutant in the copy of fbuild that `tests/mutants/run.py` creates: one
//! program contains all of them, and `FBUILD_MUTANT` has the number of the active one. With
//! `FBUILD_MUTANTS_SEEN`, none is active, and the byte of each mutant that is reached is set in
//! that file.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// The environment was not read yet.
const UNREAD: u32 = u32::MAX;
/// Reached mutants are recorded.
const RECORDING: u32 = u32::MAX - 1;
/// No mutant has this number.
const NONE: u32 = 0;

static CHOSEN: AtomicU32 = AtomicU32::new(UNREAD);
static SEEN: [AtomicBool; 8192] = [const { AtomicBool::new(false) }; 8192];

/// Returns true if a mutant is active.
#[inline]
pub fn is(number: u32) -> bool {
    let chosen = CHOSEN.load(Ordering::Relaxed);
    match chosen >= RECORDING {
        true => choose(number),
        false => chosen == number,
    }
}

#[cold]
fn choose(number: u32) -> bool {
    let of = |name| std::env::var(name).ok();
    let file = of("FBUILD_MUTANTS_SEEN");
    let chosen = match &file {
        Some(_) => RECORDING,
        None => of("FBUILD_MUTANT").map_or(NONE, |text| text.parse().unwrap()),
    };
    CHOSEN.store(chosen, Ordering::Relaxed);
    if let Some(file) = file
        && !SEEN[number as usize].swap(true, Ordering::Relaxed)
    {
        let file = OpenOptions::new().write(true).open(file);
        let _ = file.map(|file| file.write_at(b"1", number.into()));
    }
    chosen == number
}

/// One of two iterators.
pub enum Either<L, R> {
    Left(L),
    Right(R),
}

impl<L: Iterator, R: Iterator<Item = L::Item>> Iterator for Either<L, R> {
    type Item = L::Item;

    fn next(&mut self) -> Option<L::Item> {
        match self {
            Self::Left(left) => left.next(),
            Self::Right(right) => right.next(),
        }
    }
}
