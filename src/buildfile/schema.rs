//! Makes files of the grammar: a schema in the KDL Schema Language for editors, and the
//! reference for users. It writes no file.

use super::editing::quote::in_quotes;
use super::grammar::{ArgSpec, BODY, NodeSpec, PropSpec, TEST_ONLY, TOP, Type};

/// Returns every generated file with its path in this repository.
///
/// `UPDATE=1 cargo test generated_files` writes them.
pub fn generated_files() -> Vec<(&'static str, String)> {
    vec![
        ("schemas/buildfile.kdl", kdl_schema()),
        ("docs/buildfile.md", reference()),
    ]
}

/// Returns the schema of a Buildfile, in the KDL Schema Language.
fn kdl_schema() -> String {
    let mut out = Indented::default();
    out.line("// Generated from src/buildfile/grammar.rs; update it with `UPDATE=1 cargo test generated_files`.");
    out.open("document");
    out.open("info");
    out.line("title Buildfile lang=en");
    out.line("description \"What fbuild builds, and how\" lang=en");
    out.line("license MIT spdx=MIT");
    out.line("license \"Apache License 2.0\" spdx=Apache-2.0");
    out.close();
    for node in TOP {
        schema_node(&mut out, node);
    }
    out.open("definitions");
    out.open("children id=body");
    for node in BODY {
        schema_node(&mut out, node);
    }
    out.close();
    out.close();
    out.close();
    out.text
}

fn schema_node(out: &mut Indented, node: &'static NodeSpec) {
    out.open(&format!(
        "node {} description={}",
        node.name,
        in_quotes(node.doc)
    ));
    if !node.is_repeatable {
        out.line("max 1");
    }
    for prop in node.props {
        schema_prop(out, prop);
    }
    if let Some(prop) = &node.any_prop {
        let head = format!("prop description={}", in_quotes(prop.doc));
        schema_rules(out, &head, schema_type(prop.ty));
    }
    for arg in node.args {
        schema_value(out, arg, "min 1; max 1");
    }
    if let Some(rest) = &node.rest {
        schema_value(out, &rest.arg, &format!("min {}", rest.min));
    }
    if std::ptr::eq(node.children, BODY) {
        out.line("children ref=#\"[id=\"body\"]\"#");
    } else if !node.children.is_empty() {
        out.open("children");
        for child in node.children {
            schema_node(out, child);
        }
        out.close();
    }
    out.close();
}

fn schema_prop(out: &mut Indented, prop: &PropSpec) {
    let head = format!("prop {} description={}", prop.name, in_quotes(prop.doc));
    schema_rules(out, &head, schema_type(prop.ty));
}

fn schema_value(out: &mut Indented, arg: &ArgSpec, count: &str) {
    let head = format!("value description={}", in_quotes(arg.what));
    let rules = [Some(count.to_owned()), schema_type(arg.ty)];
    schema_rules(out, &head, rules.into_iter().flatten());
}

fn schema_rules(out: &mut Indented, head: &str, rules: impl IntoIterator<Item = String>) {
    let rules: Vec<String> = rules.into_iter().collect();
    if rules.is_empty() {
        out.line(head)
    } else {
        out.line(&format!("{head} {{ {} }}", rules.join("; ")))
    }
}

/// Returns the rules for a type; `None` where a number is read as text.
fn schema_type(ty: Type) -> Option<String> {
    let pattern = match ty {
        Type::Name => r##"#"^[\p{Alphabetic}\p{Number}_@][\p{Alphabetic}\p{Number}_.:+/@-]*$"#"##,
        Type::NewName => {
            r##"#"^[\p{Alphabetic}\p{Number}_@{][\p{Alphabetic}\p{Number}_.:+/@{}-]*$"#"##
        }
        Type::Reference => {
            r##"#"^[\p{Alphabetic}\p{Number}_@{*][\p{Alphabetic}\p{Number}_.:+/@{}*-]*$"#"##
        }
        Type::Variable => "\"^[A-Za-z_][A-Za-z0-9_]*$\"",
        Type::VarName => "\"^[A-Za-z_][A-Za-z0-9_-]*$\"",
        Type::Flag => return Some("type boolean".to_owned()),
        Type::Count(min, max) => {
            return Some(format!(
                "type number; format u32; \">=\" {min}; \"<=\" {max}"
            ));
        }
        ty if ty.takes_numbers() => return None,
        _ => return Some("type string".to_owned()),
    };
    Some(format!("type string; pattern {pattern}"))
}

/// A text indented by four blanks for each open block.
#[derive(Default)]
struct Indented {
    text: String,
    depth: usize,
}

impl Indented {
    fn line(&mut self, line: &str) {
        self.text.push_str(&"    ".repeat(self.depth));
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn open(&mut self, line: &str) {
        self.line(&format!("{line} {{"));
        self.depth += 1;
    }

    fn close(&mut self) {
        self.depth -= 1;
        self.line("}");
    }
}

/// Returns `docs/buildfile.md`.
fn reference() -> String {
    let mut out = INTRODUCTION.to_owned();
    out.push_str("\n## Top-level nodes\n");
    for node in TOP {
        reference_node(&mut out, node, "");
    }
    out.push_str("\n## Nodes of a target, test or template\n");
    for node in BODY {
        reference_node(&mut out, node, "");
    }
    out.push_str("\n## Nodes of a test only\n");
    for node in TEST_ONLY {
        reference_node(&mut out, node, "");
    }
    out
}

/// Writes the section of a node, then those of the nodes that occur only in it.
fn reference_node(out: &mut String, node: &'static NodeSpec, place: &str) {
    let title = match place {
        "" => format!("`{}`", node.name),
        place => format!("`{}` in `{place}`", node.name),
    };
    out.push_str(&format!("\n### {title}\n\n{}.\n\n", capitalised(node.doc)));
    out.push_str(&format!("    {}\n", synopsis(node)));
    let mut facts = Vec::new();
    for arg in node
        .args
        .iter()
        .chain(node.rest.as_ref().map(|rest| &rest.arg))
    {
        facts.push(format!("`{}`: {}.", arg.what, described(arg.ty)));
    }
    facts.extend(node.props.iter().chain(&node.any_prop).map(property));
    if !node.default.is_empty() {
        facts.push(format!("Without it: {}.", node.default));
    }
    if node.is_repeatable {
        facts.push("Can be given several times.".to_owned());
    }
    facts.push(format!("Since {}.", node.since));
    out.push('\n');
    for fact in facts {
        out.push_str(&format!("- {fact}\n"));
    }
    out.push_str(&format!("\n```kdl\n{}\n```\n", node.example));
    if !node.children.is_empty() {
        let is_listed = |child: &&NodeSpec| {
            let mut listed = BODY.iter().chain(TEST_ONLY);
            listed.any(|n| n.kind == child.kind)
        };
        let own = node.children.iter().filter(|child| !is_listed(child));
        own.for_each(|child| reference_node(out, child, node.name));
    }
}

fn property(prop: &PropSpec) -> String {
    let default = match prop.default {
        "" => String::new(),
        default => format!(" Without it: {default}."),
    };
    let (name, doc, ty) = (prop.name, prop.doc, described(prop.ty));
    format!("`{name}=`: {doc} ({ty}).{default}")
}

/// Returns a line with everything that a node takes.
fn synopsis(node: &NodeSpec) -> String {
    let mut parts = vec![node.name.to_owned()];
    parts.extend(node.args.iter().map(|arg| arg.what.to_owned()));
    if let Some(rest) = &node.rest {
        let what = rest.arg.what;
        parts.push(match rest.min {
            0 => format!("[{what}…]"),
            _ => format!("{what}…"),
        });
    }
    let props = node.props.iter().map(|prop| format!("[{}=…]", prop.name));
    parts.extend(props);
    parts.extend(
        node.any_prop
            .as_ref()
            .map(|prop| format!("[{}=…]", prop.name)),
    );
    if is_body(node.children) {
        parts.push("{ … }".to_owned());
    } else if !node.children.is_empty() {
        let names: Vec<_> = node.children.iter().map(|child| child.name).collect();
        parts.push(format!("{{ {} }}", names.join("; ")));
    }
    parts.join(" ")
}

/// Returns true if these are the nodes of a target, perhaps with others.
fn is_body(nodes: &[NodeSpec]) -> bool {
    BODY.iter()
        .all(|node| nodes.iter().any(|n| n.kind == node.kind))
}

fn described(ty: Type) -> String {
    match ty {
        Type::Count(min, max) => format!("a whole number from {min} to {max}"),
        Type::Flag => "`#true` or `#false`".to_owned(),
        Type::Text | Type::Value => "text, in which `{NAME}` has meaning".to_owned(),
        Type::NewName => "a name, in which `{NAME}` has meaning".to_owned(),
        Type::Reference => "a name, in which `{NAME}` and `*` have meaning".to_owned(),
        Type::Argument => "text, in which `{NAME}` and `{env.NAME}` have meaning".to_owned(),
        Type::Script => "a script, taken as it is".to_owned(),
        Type::Duration => "a duration such as `10m`, `1h30m` or `500ms`".to_owned(),
        Type::Size => "a size such as `2 GiB` or `500 MB`".to_owned(),
        Type::Date => "a date such as `2026-12-31`".to_owned(),
        Type::Requirement => "a version requirement such as `>=1.21` or `>=1.21, <2`".to_owned(),
        ty => ty.name().to_owned(),
    }
}

fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|c| c.to_uppercase().to_string());
    first.unwrap_or_default() + chars.as_str()
}

const INTRODUCTION: &str = r##"<!-- Generated from src/buildfile; update it with `UPDATE=1 cargo test generated_files`. -->

# The Buildfile

A Buildfile lists what can be built, and how. It is a [KDL 2](https://kdl.dev) document
named `Buildfile.kdl`, and it is data: reading it runs nothing.

```kdl
tool go version=">=1.21"
var version "3.9"

target worker {
    about "the Worker"
    tools go
    inputs go.mod go.sum "cmd/worker/**" "internal/**"
    outputs worker
    env CGO_ENABLED="0"
    run go build -ldflags "-X main.version={version}" -o worker "./cmd/worker"
}
```

## Writing it down

- A line is a *node*: its name, then *arguments*, then *properties* (`name=value`), then
  perhaps a block in braces. A node ends with its line, or with `;`.
- Text needs quotes if it has a blank or one of `/ \ ( ) { } [ ] ; " # =`, if it is
  empty, and if it starts like a number (`"10m"`, `"./cmd"`, `"**/*.go"`).
- `#true` and `#false` are flags. `#"…"#` is text in which `\` and `"` mean themselves.
  Text of several lines is written between `"""`, each on a line of its own.
- `//` comments out the rest of a line, `/* */` what is between them, `/-` the node,
  argument, property or block that follows.
- A `\` at the end of a line continues it on the next one.
- Names of targets, groups, templates, sets, tools and locks are letters, digits and
  `-_.:+/@`, at most 200 of them, and start with a letter, a digit, `_` or `@`. Targets
  and groups share one name space.

The order of nodes has no meaning, except for the commands of a target.

## Paths and patterns

Paths are relative to the project's root, which is the Buildfile's folder unless `root`
sets another one; in an included file, to the folder of that file. None can leave the root.

`*` is any number of characters within a name, `?` one of them, `[a-z]` one of a class,
`[!a-z]` one outside it, `{a,b}` one of several, `**` any number of folders. A `\` makes the
next character literal. A character is one of Unicode, however many bytes it has: `[à-ü]` is
a range like any other. A pattern that ends with a slash means everything below that folder.
Names that start with a dot are ordinary names. A pattern that reaches into a folder
through a symbolic link matches the files behind it; see [Cache and keys](cache-and-keys.md#which-files-are-inputs).

## Variables

`{NAME}` in a string stands for the value of `var NAME`. It has a meaning everywhere but
in `root` and `include`, in scripts, and in names except those of targets and groups. `{env.NAME}` stands for an environment
variable that the target declares with `env`; it is allowed in `run`, and in the values of
`env`.

Braces have this meaning only around a plain name, so `{a,b}`,
`{}`, `{print $1}` and `{{.Dir}}` mean themselves. For the text `{name}` itself, write
`{{name}}`.

Nothing is pasted into the scripts of `sh`. Hand values over as environment:

```kdl
env VERSION="{version}"
sh #"echo "$VERSION" > version.txt"#
```

## Arguments

`fbuild run TARGET -- ARG…` passes arguments to the commands of one target. `"{args}"`, an
argument of its own in `run`, is replaced by all of them, or by none; a script of `sh` has them in
`"$@"`. A target whose commands have neither refuses arguments.

```kdl
target test {
    inputs "**/*.go" go.mod
    run go test "./..." "{args}"
}
```

A run with arguments has a key of its own. It does not replace the target's last success, so the
next run without arguments is as before, and its outputs are restored if they differ.

## Templates

A target with `from=NAME` starts with everything in the template, and a template
can start from another one. Lists (needs, inputs, outputs, variables, tools, commands, …)
add up, the template's first. Single values (`about`, `dir`, `timeout`, …) and variables
of the same name are overridden.

`param NAME` declares a text that each user of the template gives behind `from=`, and that
`{NAME}` stands for in the template. One with a default can be left out.

```kdl
template go-binary {
    param cmd
    param os default="linux"
    inputs "cmd/{cmd}/**"
    outputs "bin/{cmd}-{os}"
    env GOOS="{os}"
    run go build -o "bin/{cmd}-{os}" "./cmd/{cmd}"
}
target worker from=go-binary cmd=worker
target manager-windows from=go-binary cmd=manager os=windows
```

## Many targets from one

A target or group with `for` stands for several, one for each value. `{NAME}` is the value, in
the name, and wherever variables have a meaning. Several `for` make one target for each
combination, except for those that an `except` in one of them names.

```kdl
target "build-{os}-{arch}" {
    for os linux darwin windows
    for arch amd64 arm64 { except os=windows arch=arm64 }
    env GOOS="{os}" GOARCH="{arch}"
    inputs "**/*.go" go.mod
    outputs "bin/{os}-{arch}/"
    run go build -o "bin/{os}-{arch}/" "./..."
}
```

The values can be parts of the names of files: `for unit files="src/{unit}.c"` makes one target for
each C file, and `for app files="apps/{app}/package.json"` one for each application. The pattern
is relative to the project's root (in an included file, to its folder) and has one `{NAME}` for a
part of one name; other parts can have `*`, but not `**`. It matches files, or folders if it ends
with a slash; names that start with a dot only if the pattern does. The files are
those in the tree when a run begins: for files that a target makes, list the values.

At most 100,000 targets come from one.

`needs`, `after`, `default` and the command line accept patterns over names, in which `*` is any
number of characters: `needs "build-*-amd64"`, `fbuild run 'test-*'`. A target that matches the
pattern of its own `needs` is not meant.

## Limits

A Buildfile has at most 8 MiB, blocks at most 64 deep, and 65,536 values in a node and
nodes in a block. Variables and templates can put 64 MiB of text and four million items
into targets.
"##;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use kdl::{KdlDocument, KdlNode};

    use super::super::grammar::{Kind, TEST_BODY};
    use super::super::{format, load_text};
    use super::*;
    use crate::source::golden::is_updating;

    #[test]
    fn generated_files_are_fresh() {
        for (path, text) in generated_files() {
            let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
            if is_updating() {
                fs::create_dir_all(file.parent().unwrap()).unwrap();
                fs::write(&file, text).unwrap();
                continue;
            }
            let written = fs::read_to_string(&file).unwrap_or_default();
            let is_fresh = written == text;
            assert!(
                is_fresh,
                "{path} is stale: `UPDATE=1 cargo test generated_files` writes it"
            );
        }
    }

    #[test]
    fn example_of_the_introduction_is_good() {
        let blocks: Vec<&str> = INTRODUCTION.split("```kdl\n").skip(1).collect();
        let code = |block: &str| block.split("```").next().unwrap().to_owned();
        let first = load_text(&code(blocks[0]), Path::new("Buildfile.kdl"));
        assert_eq!(first.diagnostics, []);
    }

    #[test]
    fn examples_of_nodes_are_good() {
        for node in TOP {
            let text = node.example.to_owned() + "\ngroup other { needs a }";
            let diagnostics = load_text(&text, Path::new("Buildfile.kdl")).diagnostics;
            let codes = diagnostics.iter().map(|d| d.code.as_str());
            // Examples name tools and templates that other examples define.
            let is_expected = |c: &str| c.ends_with("unknown_name") || c.ends_with("include");
            assert!(codes.into_iter().all(is_expected), "{text}");
        }
        for node in &TEST_BODY {
            let head = match node.kind {
                Kind::For => "target \"a-{os}\" {\nneeds b",
                Kind::Param => "target b { run x; }\ntemplate a {",
                _ => "test a {\nneeds b",
            };
            let text = format!("{head}\nrun x\n{}\n}}", node.example);
            let diagnostics = load_text(&text, Path::new("Buildfile.kdl")).diagnostics;
            let codes = diagnostics.iter().map(|d| d.code.as_str());
            assert!(
                codes.into_iter().all(|c| c.ends_with("unknown_name")),
                "{text}"
            );
        }
    }

    #[test]
    fn schema_is_formatted() {
        assert_eq!(format(&kdl_schema()).unwrap(), kdl_schema());
    }

    /// Compares nodes with a schema. It knows enough of the schema language to see that the
    /// schema accepts good Buildfiles.
    struct Validator<'s> {
        body: &'s KdlDocument,
    }

    impl<'s> Validator<'s> {
        fn check(&self, nodes: &KdlDocument, schema: &'s KdlDocument) -> Result<(), String> {
            for node in nodes.nodes() {
                let name = node.name().value();
                let named = |s: &&KdlNode| s.name().value() == "node" && first(s) == Some(name);
                let spec = schema.nodes().iter().find(named);
                let spec = spec.ok_or(format!("unknown node {name}"))?;
                let rules = spec.children().ok_or("no rules")?;
                self.check_values(node, rules)?;
                let inner = rules
                    .get("children")
                    .map(|children| match children.get("ref") {
                        Some(_) => self.body,
                        None => children.children().unwrap(),
                    });
                match (node.children(), inner) {
                    (Some(children), Some(inner)) => self.check(children, inner)?,
                    (Some(_), None) => return Err(format!("{name} has a block")),
                    (None, _) => {}
                }
            }
            Ok(())
        }

        fn check_values(&self, node: &KdlNode, rules: &KdlDocument) -> Result<(), String> {
            let name = node.name().value();
            let props = || {
                rules
                    .nodes()
                    .iter()
                    .filter(|rule| rule.name().value() == "prop")
            };
            let (args, given): (Vec<_>, Vec<_>) =
                node.entries().iter().partition(|e| e.name().is_none());
            for prop in given {
                let key = prop.name().unwrap().value();
                if !props().any(|rule| first(rule).is_none_or(|known| known == key)) {
                    return Err(format!("{name} has {key}="));
                }
            }
            let values = rules
                .nodes()
                .iter()
                .filter(|rule| rule.name().value() == "value");
            let counts = values.map(|rule| {
                let rules = rule.children().unwrap();
                let count = |key| rules.get_arg(key).and_then(|v| v.as_integer());
                (count("min").unwrap_or(0), count("max"))
            });
            let (min, max) = counts.fold((0, Some(0)), |(min, max), (low, high)| {
                (min + low, max.zip(high).map(|(a, b)| a + b))
            });
            let count = args.len() as i128;
            let fits = count >= min && max.is_none_or(|max| count <= max);
            fits.then_some(())
                .ok_or(format!("{name} has {count} arguments"))
        }
    }

    /// Compares a text with the schema.
    fn validate(text: &str) -> Result<(), String> {
        let schema = KdlDocument::parse_v2(&kdl_schema()).unwrap();
        let document = schema.get("document").unwrap().children().unwrap();
        let definitions = document.get("definitions").unwrap().children().unwrap();
        let validator = Validator {
            body: definitions.get("children").unwrap().children().unwrap(),
        };
        validator.check(&KdlDocument::parse_v2(text).unwrap(), document)
    }

    fn first(node: &KdlNode) -> Option<&str> {
        node.entries()
            .iter()
            .find(|e| e.name().is_none())?
            .value()
            .as_string()
    }

    #[test]
    fn schema_accepts_good_buildfiles() {
        for path in [
            "Buildfile.kdl",
            "fixtures/buildfile/everything/Buildfile.kdl",
        ] {
            let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
            assert_eq!(validate(&fs::read_to_string(path).unwrap()), Ok(()));
        }
    }

    #[test]
    fn schema_refuses_bad_buildfiles() {
        let refused = |text: &str| validate(text).unwrap_err();
        assert_eq!(refused("targt a"), "unknown node targt");
        assert_eq!(
            refused("target a { inputs x }; jobs"),
            "jobs has 0 arguments"
        );
        assert_eq!(refused("target a { input x }"), "unknown node input");
        assert_eq!(refused("group a form=b"), "group has form=");
        assert_eq!(refused("jobs 1 { x }"), "jobs has a block");
    }
}
