//! Writes the proposal as a Buildfile, with comments for newcomers.

use std::fmt::Write as _;

use super::names::GROUPS;
use super::sources::{self, Elsewhere, below};
use super::{Command, Kind, Named, Purpose, Step, Tool, templates};
use crate::buildfile::{in_quotes, quoted};

const EXAMPLE: &str = r#"
// fbuild found no project that it knows, so this is an example.
target hello {
    about "prints hello; replace it by a target of your project"
    sh "echo hello"
}

// Most targets look like this:
//
//     target program {
//         inputs "src/**"         // the files that it depends on
//         outputs program         // the files that the command makes
//         run make program        // or sh "…", for a shell
//     }
"#;

/// Writes the Buildfile of a project called `name`.
pub(super) fn buildfile(name: &str, all: &[Named]) -> String {
    let with_targets = || all.iter().filter(|named| !named.names.is_empty());
    let mut out = head(name, all);
    if with_targets().next().is_none() {
        out.push_str(EXAMPLE);
        return formatted(out);
    }
    out.push_str(&tools(all));
    let mut templates: Vec<Kind> = with_targets().map(|named| named.project.kind).collect();
    templates.sort();
    templates.dedup();
    for kind in templates {
        out.push_str(&templates::of(kind));
    }
    out.push_str(SOURCES);
    for named in with_targets() {
        out.push_str(&project(named, all));
    }
    out.push_str(&groups(all));
    formatted(out)
}

/// Formats a text in the standard layout.
fn formatted(text: String) -> String {
    crate::buildfile::format(&text).unwrap_or(text)
}

fn head(name: &str, all: &[Named]) -> String {
    let groups: Vec<&str> = GROUPS
        .into_iter()
        .filter(|(purpose, _)| !members(all, *purpose).is_empty())
        .map(|(_, name)| name)
        .collect();
    let default = groups.first().copied().unwrap_or("hello");
    let example = all.iter().flat_map(|named| &named.names).next();
    let example = format!("fbuild explain {}", example.map_or("hello", String::as_str));
    let width = example.len() + 4;
    let line = |command: &str, what: &str| format!("//     {command:<width$}{what}\n");
    let does = match default {
        "hello" => "prints hello".to_owned(),
        name => format!("{name}s the project"),
    };
    let mut lines = line("fbuild run", &does);
    if groups == ["build", "test"] {
        lines += &line("fbuild run test", "tests the project");
    }
    lines += &line("fbuild list", "lists all targets");
    lines += &line(&example, "shows the inputs of a target and their changes");
    format!(
        "// The targets of this project. `fbuild init` wrote them from the manifests that it
// found. Edit them as needed; `fbuild check` finds mistakes.
//
{lines}
project {} {{
    default {default} // the targets of a plain `fbuild run`
}}

// Results are kept in .build-cache/; the least recently used ones are removed first.
cache max-size=\"2 GiB\" max-age=\"30d\"
",
        quoted(name)
    )
}

fn tools(all: &[Named]) -> String {
    let mut tools: Vec<Tool> = Vec::new();
    let used = all.iter().filter(|named| !named.names.is_empty());
    for tool in used.flat_map(|named| &named.project.tools) {
        let tool = with_requirement(tool);
        match tools.iter_mut().find(|known| known.name == tool.name) {
            // Two manifests with different requirements: none applies to all targets.
            Some(known) if known.version != tool.version => known.version = None,
            Some(_) => {}
            None => tools.push(tool),
        }
    }
    let mut out =
        "\n// Programs that targets use. Their versions are part of the key.\n".to_owned();
    for tool in &tools {
        let version = tool
            .version
            .as_ref()
            .map(|v| format!(" version={}", in_quotes(v)));
        // Writing to a String cannot fail.
        let _ = writeln!(out, "tool {}{}", tool.name, version.unwrap_or_default());
    }
    out
}

/// Drops a version requirement that the Buildfile cannot express.
fn with_requirement(tool: &Tool) -> Tool {
    let is_valid = |text: &String| text.parse::<crate::buildfile::model::Requirement>().is_ok();
    Tool {
        name: tool.name,
        version: tool.version.clone().filter(is_valid),
    }
}

const SOURCES: &str = "
// The sources of each project below are all files in its folder that no target makes. Fewer
// files mean fewer builds, but a change of a file that is missing here goes unnoticed.
";

fn project(named: &Named, all: &[Named]) -> String {
    let project = &named.project;
    let sources = sources::of(named, all);
    let place = if project.folder.is_root() {
        String::new()
    } else {
        format!(" in {}", project.folder)
    };
    let title = project
        .title
        .as_ref()
        .map(|title| format!(": {}", comment(title)));
    let title = title.unwrap_or_default();
    let mut out = format!(
        "\n// {} ({}{place}){title}\n",
        heading(project.kind),
        project.manifest
    );
    for note in &project.notes {
        out += &format!("// {note}\n");
    }
    let patterns: Vec<String> = sources.patterns.iter().map(|p| in_quotes(p)).collect();
    let except: Vec<String> = sources.except.iter().map(|p| in_quotes(p)).collect();
    out += &format!(
        "files {} {} {{\n    except {}\n}}\n",
        quoted(&named.sources),
        patterns.join(" "),
        wrapped(&except)
    );
    let elsewhere = sources::elsewhere(named, all);
    for (step, name) in project.steps.iter().zip(&named.names) {
        out += &target(named, step, name, &elsewhere);
    }
    out
}

fn heading(kind: Kind) -> &'static str {
    match kind {
        Kind::Go => "Go module",
        Kind::Cargo => "Cargo",
        Kind::Npm | Kind::Yarn | Kind::Pnpm => "npm package",
        Kind::Python | Kind::Uv => "Python project",
    }
}

/// Writes a target, with its inputs in other projects.
fn target(named: &Named, step: &Step, name: &str, elsewhere: &Elsewhere<'_>) -> String {
    let project = &named.project;
    let folder = &project.folder;
    let list = |rest: &[String]| {
        let paths = rest.iter().map(|rest| quoted(&below(folder, rest)));
        paths.collect::<Vec<_>>().join(" ")
    };
    let mut out = format!(
        "\ntarget {} from={} {{\n",
        quoted(name),
        project.kind.word()
    );
    out += &format!("    about {}\n", in_quotes(&step.about));
    let except: Vec<String> = step
        .except
        .iter()
        .map(|rest| in_quotes(&below(folder, rest)))
        .collect();
    let except = if except.is_empty() {
        String::new()
    } else {
        format!(" {{ except {} }}", except.join(" "))
    };
    if !elsewhere.needs.is_empty() {
        let needs: Vec<String> = elsewhere.needs.iter().map(|name| quoted(name)).collect();
        out += &format!("    needs {}\n", needs.join(" "));
    }
    out += &format!("    inputs files={}{except}\n", quoted(&named.sources));
    if !elsewhere.patterns.is_empty() {
        let patterns = elsewhere.patterns.iter().map(|pattern| quoted(pattern));
        let patterns: Vec<String> = patterns.collect();
        out += &format!("    inputs {} optional=#true\n", wrapped(&patterns));
    }
    if !step.extra_inputs.is_empty() {
        out += &format!("    inputs {} optional=#true\n", list(&step.extra_inputs));
    }
    if !step.outputs.is_empty() {
        out += &format!("    outputs {}\n", list(&step.outputs));
    }
    if !folder.is_root() {
        out += &format!("    dir {}\n", in_quotes(&folder.to_string()));
    }
    if step.is_exclusive && project.steps.len() > 1 {
        out += &format!(
            "    locks {}\n",
            quoted(&named.sources.replace("-sources", ""))
        );
    }
    for command in &step.commands {
        out += &command_node(command);
    }
    out + "}\n"
}

fn command_node(command: &Command) -> String {
    match command {
        Command::Run(words) => {
            let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
            format!("    run {}\n", words.join(" "))
        }
        Command::Sh(lines) => {
            let lines: String = lines
                .iter()
                .map(|line| format!("        {line}\n"))
                .collect();
            format!("    sh #\"\"\"\n{lines}        \"\"\"#\n")
        }
    }
}

/// Returns the targets of all projects for a purpose.
fn members(all: &[Named], purpose: Purpose) -> Vec<&str> {
    let pairs = all
        .iter()
        .flat_map(|named| named.project.steps.iter().zip(&named.names));
    let pairs = pairs.map(|(step, name)| (step.purpose, name));
    let pairs = pairs.filter(|(of, _)| *of == purpose);
    pairs.map(|(_, name)| name.as_str()).collect()
}

fn groups(all: &[Named]) -> String {
    let mut out = String::new();
    for (purpose, name) in GROUPS {
        let members: Vec<String> = members(all, purpose).into_iter().map(quoted).collect();
        if !members.is_empty() {
            out += &format!("\ngroup {name} {{\n    needs {}\n}}\n", wrapped(&members));
        }
    }
    out
}

/// Joins words, and breaks long lines.
fn wrapped(words: &[String]) -> String {
    let (mut out, mut width) = (String::new(), 0);
    for word in words {
        if width > 0 && width + word.len() > 76 {
            out.push_str(" \\\n        ");
            width = 0;
        } else if width > 0 {
            out.push(' ');
        }
        out.push_str(word);
        width += word.len() + 1;
    }
    out
}

/// Escapes a text for a comment.
fn comment(text: &str) -> String {
    crate::report::text::harmless(text).into_owned()
}
