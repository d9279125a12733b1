//! Writes the proposal down as a Buildfile, with comments for somebody who never saw one.
//! It decides neither what is built nor how.

use std::fmt::Write as _;

use super::names::GROUPS;
use super::sources::{self, below};
use super::{Command, Kind, Named, Purpose, Step, Tool, templates};
use crate::buildfile::{in_quotes, quoted};

const EXAMPLE: &str = r#"
// Nothing that fbuild knows was found, so this is an example.
target hello {
    about "says hello; replace it by what your project needs"
    sh "echo hello"
}

// What most targets look like:
//
//     target program {
//         inputs "src/**"         // the files that decide the result
//         outputs program         // what the command makes
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
        out.push_str(&of_project(named, all));
    }
    out.push_str(&groups(all));
    formatted(out)
}

/// Lays a text out in the standard way.
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
        "hello" => "says hello".to_owned(),
        name => format!("{name}s it"),
    };
    let mut lines = line("fbuild run", &does);
    if groups == ["build", "test"] {
        lines += &line("fbuild run test", "tests it");
    }
    lines += &line("fbuild list", "every target, and what it is for");
    lines += &line(&example, "what a target depends on, and why it last ran");
    format!(
        "// What fbuild builds here. `fbuild init` wrote it from the manifests that it found;
// it is yours to change, and `fbuild check` says whether it still makes sense.
//
{lines}
project {} {{
    default {default} // what `fbuild run` without names does
}}

// Results are kept in .build-cache/; what was not used for longest goes first.
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
            // Two manifests that want different things: neither is what holds for all.
            Some(known) if known.version != tool.version => known.version = None,
            Some(_) => {}
            None => tools.push(tool),
        }
    }
    let mut out =
        "\n// Programs that targets use. Their versions are part of what decides a result.\n"
            .to_owned();
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

/// Leaves out what a manifest says of a version in a language that is not ours.
fn with_requirement(tool: &Tool) -> Tool {
    let is_ours = |text: &String| text.parse::<crate::buildfile::model::Requirement>().is_ok();
    Tool {
        name: tool.name,
        version: tool.version.clone().filter(is_ours),
    }
}

const SOURCES: &str = "
// Sources of a project, below: everything in its folder that nothing makes. The fewer
// they are, the fewer changes build it again; but what is missing changes unnoticed.
";

fn of_project(named: &Named, all: &[Named]) -> String {
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
        out += &target(named, (step, name), &elsewhere);
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

/// Returns a target, and what it reads elsewhere, with who makes that.
fn target(
    named: &Named,
    (step, name): (&Step, &str),
    (elsewhere, needs): &(Vec<String>, Vec<&str>),
) -> String {
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
    if !needs.is_empty() {
        let needs: Vec<String> = needs.iter().map(|name| quoted(name)).collect();
        out += &format!("    needs {}\n", needs.join(" "));
    }
    out += &format!("    inputs files={}{except}\n", quoted(&named.sources));
    if !elsewhere.is_empty() {
        let elsewhere: Vec<String> = elsewhere.iter().map(|pattern| quoted(pattern)).collect();
        out += &format!("    inputs {} optional=#true\n", wrapped(&elsewhere));
    }
    if !step.besides.is_empty() {
        out += &format!("    inputs {} optional=#true\n", list(&step.besides));
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
        out += &of_command(command);
    }
    out + "}\n"
}

fn of_command(command: &Command) -> String {
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

/// Returns the targets of all projects that are for a purpose.
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

/// Returns words on as many lines as they take.
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

/// Returns a text that stays in its comment.
fn comment(text: &str) -> String {
    crate::report::text::harmless(text).into_owned()
}
