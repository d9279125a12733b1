//! Finds Cargo packages and workspaces by `Cargo.toml`, with their programs and tests.

use super::tables::{self, Table};
use super::tree::Tree;
use super::{Kind, Project, Purpose, Step, Tool};
use crate::glob::Pattern;
use crate::path::RelPath;

/// Finds all workspaces, and all packages outside of them.
pub(super) fn find(tree: &Tree) -> Vec<Project> {
    let folders = tree.folders_with("Cargo.toml");
    let texts: Vec<String> = folders
        .iter()
        .map(|f| tree.text_in(f, "Cargo.toml"))
        .collect();
    let manifests: Vec<Manifest<'_>> = folders
        .iter()
        .zip(&texts)
        .map(|(folder, text)| Manifest {
            folder,
            tables: tables::read(text),
        })
        .collect();
    let is_member = |manifest: &Manifest<'_>| manifests.iter().any(|m| m.has_member(manifest));
    let own = manifests.iter().filter(|manifest| !is_member(manifest));
    own.map(|own| {
        let members = manifests.iter().filter(|m| own.has_member(m));
        project(tree, own, &members.collect::<Vec<_>>())
    })
    .collect()
}

/// A `Cargo.toml`.
struct Manifest<'t> {
    folder: &'t RelPath,
    tables: Vec<Table<'t>>,
}

impl Manifest<'_> {
    fn string(&self, table: &str, key: &str) -> Option<&str> {
        tables::string(&self.tables, table, key)
    }

    /// Returns true if another package is in this workspace.
    fn has_member(&self, other: &Self) -> bool {
        let workspace = self.tables.iter().find(|table| table.name == "workspace");
        let (Some(workspace), Some(below)) = (workspace, other.folder.below(self.folder)) else {
            return false;
        };
        let is_in = |key: &str| {
            let patterns = workspace.strings(key).into_iter().map(Pattern::new);
            patterns.flatten().any(|pattern| pattern.matches(&below))
        };
        !below.is_root() && is_in("members") && !is_in("exclude")
    }

    /// Returns the names of the programs that the package makes.
    fn programs(&self, tree: &Tree) -> Vec<String> {
        let is_bin = |table: &&Table<'_>| table.name == "bin";
        let declared = self.tables.iter().filter(is_bin);
        let declared = declared.filter_map(|bin| bin.string("name"));
        let mut programs: Vec<String> = declared.map(str::to_owned).collect();
        let src = self.folder.child(b"src");
        if let Some(package) = self.string("package", "name") {
            let has_main = tree.has(&src, "main.rs");
            // A declared program may be made from `src/main.rs`, under its own name.
            if has_main && programs.is_empty() {
                programs.push(package.to_owned());
            }
            programs.extend(in_bin_folder(tree, &src.child(b"bin")));
        }
        let is_plain = |c: char| c.is_alphanumeric() || "-_".contains(c);
        programs.retain(|name| !name.is_empty() && name.chars().all(is_plain));
        programs
    }
}

/// Returns the programs that Cargo finds without a declaration: `src/bin/NAME.rs` and
/// `src/bin/NAME/main.rs`.
fn in_bin_folder(tree: &Tree, folder: &RelPath) -> Vec<String> {
    let name = |file: &RelPath| {
        let below = file.below(folder)?;
        let parts: Vec<&[u8]> = below.components().collect();
        let name = match parts.as_slice() {
            [file] => file.strip_suffix(b".rs")?,
            [folder, b"main.rs"] => folder,
            _ => return None,
        };
        Some(String::from_utf8_lossy(name).into_owned())
    };
    tree.below(folder).filter_map(name).collect()
}

fn project(tree: &Tree, own: &Manifest<'_>, members: &[&Manifest<'_>]) -> Project {
    let mut programs = own.programs(tree);
    programs.extend(members.iter().flat_map(|member| member.programs(tree)));
    programs.sort();
    programs.dedup();
    let is_locked = tree.has(own.folder, "Cargo.lock");
    let cargo = |verb: &str, more: &[&str]| {
        let locked = is_locked.then_some("--locked");
        let workspace = (!members.is_empty()).then_some("--workspace");
        let words = ["cargo", verb].into_iter().chain(more.iter().copied());
        words
            .chain(workspace)
            .chain(locked)
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let mut build = Step::new(Purpose::Build, about(&programs));
    build
        .commands
        .push(super::Command::Run(cargo("build", &["--release"])));
    build.outputs = programs
        .iter()
        .map(|name| format!("target/release/{name}"))
        .collect();
    let mut test = Step::new(Purpose::Test, "the Rust tests");
    test.commands.push(super::Command::Run(cargo("test", &[])));
    for step in [&mut build, &mut test] {
        step.is_exclusive = true;
        if tree.has_folder(&own.folder.child(b".cargo")) {
            step.extra_inputs.push(".cargo/**".to_owned());
        }
    }
    let version = own.string("package", "rust-version");
    let version = version.or_else(|| own.string("workspace.package", "rust-version"));
    Project {
        kind: Kind::Cargo,
        folder: own.folder.clone(),
        title: own.string("package", "name").map(str::to_owned),
        manifest: "Cargo.toml",
        tools: vec![
            Tool {
                name: "cargo",
                version: None,
            },
            Tool {
                name: "rustc",
                version: version.map(|version| format!(">={version}")),
            },
        ],
        litter: vec!["target/**"],
        reaches: Vec::new(),
        notes: notes(is_locked),
        steps: vec![build, test],
    }
}

fn about(programs: &[String]) -> String {
    match programs {
        [] => "compiles everything".to_owned(),
        [one] => format!("the program {one}"),
        _ => "the Rust programs".to_owned(),
    }
}

fn notes(is_locked: bool) -> Vec<String> {
    let mut notes =
        vec!["Only the programs are outputs; the rest of `target` belongs to Cargo.".to_owned()];
    if !is_locked {
        notes.push("Without a Cargo.lock, the same sources may give another result.".to_owned());
    }
    notes
}
