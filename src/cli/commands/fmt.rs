//! STUB
use crate::cli::args::Fmt;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
pub(in crate::cli) fn run(_: &Context, _: &Fmt) -> Result<(), Failure> {
    todo!()
}
