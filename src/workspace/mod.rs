//! To be written.

mod layout;

pub use layout::Layout;
