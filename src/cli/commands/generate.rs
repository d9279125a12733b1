//! `fbuild completions` and `fbuild man`: prints text generated from the arguments.

use std::io;

use clap::{Command, CommandFactory as _};
use clap_complete::Shell;
use clap_mangen::Man;

use crate::cli::args::Cli;
use crate::cli::context::Context;
use crate::cli::failure::Failure;

/// The sections of the manual page about exit codes and files.
const ENDING: &str = r#".SH "EXIT STATUS"
.TP
0
done
.TP
1
a target failed, or a check did
.TP
2
the arguments or the Buildfile are wrong
.TP
3
an obstacle outside of fbuild: files, tools or the system
.TP
130
interrupted
.TP
101
a bug in fbuild: please report it
.SH FILES
.TP
\fIBuildfile.kdl\fR
the Buildfile, searched for in the folder and its parents
.TP
\fI.build\-cache/\fR
results and other state, beside the Buildfile; it can be removed at any time
"#;

pub(in crate::cli) fn completions(context: &Context, shell: Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "fbuild", &mut script);
    context.print(&script)
}

/// Prints the manual page: the program, and below it each of its commands.
pub(in crate::cli) fn man(context: &Context) -> Result<(), Failure> {
    let page = page().map_err(|error| Failure::world("cannot write the page", &error))?;
    context.print(page.as_bytes())
}

fn page() -> io::Result<String> {
    let mut program = Cli::command();
    program.build();
    let man = Man::new(program.clone());
    let title = rendered(|out| man.render_title(out))?;
    let mut page = title;
    for part in [
        part(|out| man.render_name_section(out))?,
        part(|out| man.render_synopsis_section(out))?,
        part(|out| man.render_description_section(out))?,
        ".SH COMMANDS\n".to_owned(),
        command_sections(&program)?,
        part(|out| man.render_options_section(out))?,
        ENDING.to_owned(),
        part(|out| man.render_version_section(out))?,
    ] {
        page.push_str(&part);
    }
    Ok(page)
}

/// Returns a section for each command, in the order of the help.
fn command_sections(program: &Command) -> io::Result<String> {
    let mut out = String::new();
    for command in program.get_subcommands().filter(|c| c.get_name() != "help") {
        if command.has_subcommands() {
            out.push_str(&command_sections(command)?);
        } else {
            out.push_str(&command_section(command)?);
        }
    }
    Ok(out)
}

/// Returns the section of a command, without the global options.
fn command_section(command: &Command) -> io::Result<String> {
    let name = command
        .get_bin_name()
        .unwrap_or(command.get_name())
        .to_owned();
    let is_common = |arg: &clap::Arg| {
        arg.is_global_set() || ["help", "version"].contains(&arg.get_id().as_str())
    };
    let own = command
        .clone()
        .mut_args(|arg| if is_common(&arg) { arg.hide(true) } else { arg });
    let has_own = own.get_arguments().any(|arg| !arg.is_hide_set());
    let man = Man::new(own);
    let mut out = format!(".SS \"{name}\"\n");
    out += &body(&part(|out| man.render_synopsis_section(out))?);
    out += ".PP\n";
    out += &body(&part(|out| man.render_description_section(out))?);
    if has_own {
        out += &body(&part(|out| man.render_options_section(out))?);
    }
    Ok(out)
}

fn rendered(render: impl FnOnce(&mut dyn io::Write) -> io::Result<()>) -> io::Result<String> {
    let mut out = Vec::new();
    render(&mut out)?;
    String::from_utf8(out).map_err(io::Error::other)
}

/// Renders a part of the page, without the preamble.
fn part(render: impl FnOnce(&mut dyn io::Write) -> io::Result<()>) -> io::Result<String> {
    let text = rendered(render)?;
    let is_preamble = |line: &&str| line.starts_with(".ie ") || line.starts_with(".el ");
    let lines = text.lines().filter(|line| !is_preamble(line));
    Ok(lines.map(|line| format!("{line}\n")).collect())
}

/// Removes the heading of a section.
fn body(section: &str) -> String {
    let lines = section.lines().filter(|line| !line.starts_with(".SH"));
    lines.map(|line| format!("{line}\n")).collect()
}
