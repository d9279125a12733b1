//! Shows the events of a run: on a terminal, as plain lines, as JSON. It decides nothing
//! and reads nothing but the events it is given.

use crate::event::Event;

/// Somebody to whom the events of a run are told, in the order they happened.
pub trait Reporter {
    /// Takes in one event.
    fn report(&mut self, event: &Event);

    /// Called some ten times a second while nothing happens, for what shows time passing.
    fn tick(&mut self, _at_ms: u64) {}
}
