//! STUB
use crate::cli::args::Cache;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
pub(in crate::cli) fn run(_: &Context, _: &Cache) -> Result<(), Failure> {
    todo!()
}
