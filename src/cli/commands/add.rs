//! STUB
use crate::cli::args::Add;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
pub(in crate::cli) fn run(_: &Context, _: Add) -> Result<(), Failure> {
    todo!()
}
