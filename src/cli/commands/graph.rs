//! STUB
use crate::cli::args::Graph;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
pub(in crate::cli) fn run(_: &Context, _: &Graph) -> Result<(), Failure> {
    todo!()
}
