//! STUB
use crate::cli::args::Init;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
pub(in crate::cli) fn run(_: &Context, _: &Init) -> Result<(), Failure> {
    todo!()
}
