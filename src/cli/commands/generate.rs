//! `fbuild completions` and `fbuild man`: what follows from the arguments alone.

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::cli::args::Cli;
use crate::cli::context::Context;
use crate::cli::failure::Failure;

pub(in crate::cli) fn completions(context: &Context, shell: Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "fbuild", &mut script);
    context.print(&script)
}

/// Prints the manual page of the program, and after it those of its commands.
pub(in crate::cli) fn man(context: &Context) -> Result<(), Failure> {
    let mut page = Vec::new();
    let mut command = Cli::command();
    command.build();
    let render = |command: &clap::Command, page: &mut Vec<u8>| {
        clap_mangen::Man::new(command.clone()).render(page)
    };
    render(&command, &mut page).map_err(|error| Failure::world("cannot write the page", &error))?;
    context.print(&page)
}
