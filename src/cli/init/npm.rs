//! Finds npm packages by `package.json`, with their `build` and `test` scripts. The lock file
//! decides between npm, Yarn and pnpm.

use serde_json::Value;

use super::tree::Tree;
use super::{Kind, Project, Purpose, Step, Tool};
use crate::path::RelPath;

/// The lock files, and the package managers that read them.
const LOCKS: [(&str, Kind); 4] = [
    ("package-lock.json", Kind::Npm),
    ("npm-shrinkwrap.json", Kind::Npm),
    ("yarn.lock", Kind::Yarn),
    ("pnpm-lock.yaml", Kind::Pnpm),
];
/// Words in a build script, and the output folders of their tools.
const BUILDERS: [(&str, &str); 7] = [
    ("next build", ".next/"),
    ("nuxt build", ".output/"),
    ("nuxi build", ".output/"),
    ("react-scripts build", "build/"),
    ("docusaurus build", "build/"),
    ("gatsby build", "public/"),
    ("eleventy", "_site/"),
];

/// Finds all packages, except members of a workspace.
pub(super) fn find(tree: &Tree) -> Vec<Project> {
    let folders = tree.folders_with("package.json");
    let packages: Vec<Package<'_>> = folders
        .iter()
        .filter_map(|folder| Package::read(tree, folder))
        .collect();
    let is_member = |package: &Package<'_>| packages.iter().any(|p| p.has_member(package));
    let own = packages.iter().filter(|package| !is_member(package));
    own.map(|own| {
        let members: Vec<_> = packages.iter().filter(|p| own.has_member(p)).collect();
        own.project(&members)
    })
    .collect()
}

/// A `package.json`.
struct Package<'t> {
    tree: &'t Tree,
    folder: &'t RelPath,
    json: Value,
    /// The lock file, and the package manager that reads it.
    lock: Option<(&'static str, Kind)>,
}

impl<'t> Package<'t> {
    fn read(tree: &'t Tree, folder: &'t RelPath) -> Option<Self> {
        let json = serde_json::from_str(&tree.text_in(folder, "package.json")).ok()?;
        let lock = LOCKS.into_iter().find(|(name, _)| tree.has(folder, name));
        Some(Self {
            tree,
            folder,
            json,
            lock,
        })
    }

    fn is_workspace(&self) -> bool {
        !self.json["workspaces"].is_null() || self.tree.has(self.folder, "pnpm-workspace.yaml")
    }

    /// Returns true if another package is installed together with this one.
    fn has_member(&self, other: &Self) -> bool {
        let is_below = other.folder != self.folder && other.folder.is_within(self.folder);
        is_below && self.is_workspace() && other.lock.is_none()
    }

    /// Returns a script, unless it is npm's placeholder.
    fn script(&self, name: &str) -> Option<&str> {
        let script = self.json["scripts"][name].as_str()?;
        (!script.contains("no test specified")).then_some(script)
    }

    fn project(&self, members: &[&Self]) -> Project {
        let kind = self.lock.map_or(Kind::Npm, |(_, kind)| kind);
        let mut steps: Vec<Step> = [Purpose::Build, Purpose::Test]
            .into_iter()
            .filter_map(|purpose| self.step(kind, purpose, members))
            .collect();
        let is_exclusive = steps.len() > 1;
        for step in &mut steps {
            step.is_exclusive = is_exclusive;
        }
        Project {
            kind,
            folder: self.folder.clone(),
            title: self.json["name"].as_str().map(str::to_owned),
            manifest: "package.json",
            tools: self.tools(kind),
            litter: vec!["**/node_modules/**", "coverage/**"],
            reaches: Vec::new(),
            notes: self.notes(&steps),
            steps,
        }
    }

    fn step(&self, kind: Kind, purpose: Purpose, members: &[&Self]) -> Option<Step> {
        let (script, about) = match purpose {
            Purpose::Build => ("build", "runs the build script"),
            Purpose::Test => ("test", "the JavaScript tests"),
        };
        let with_script: Vec<&&Self> = members
            .iter()
            .filter(|m| m.script(script).is_some())
            .collect();
        let (run, makers): (Vec<&str>, Vec<&Self>) = match self.script(script) {
            Some(_) => (vec![kind.word(), "run", script], vec![self]),
            None if with_script.is_empty() => return None,
            None => (
                everywhere(kind, script),
                with_script.into_iter().copied().collect(),
            ),
        };
        let mut step = Step::new(purpose, about).run(&self.install(kind)).run(&run);
        if purpose == Purpose::Build {
            step.outputs = makers
                .iter()
                .map(|maker| maker.output(self.folder))
                .collect();
        }
        Some(step)
    }

    /// Returns the command that installs the versions in the lock file.
    fn install(&self, kind: Kind) -> Vec<&'static str> {
        match (self.lock, kind) {
            (None, _) => vec![
                "npm",
                "install",
                "--no-package-lock",
                "--no-audit",
                "--no-fund",
            ],
            (_, Kind::Yarn) if self.has_modern_yarn() => vec!["yarn", "install", "--immutable"],
            (_, Kind::Yarn) => vec!["yarn", "install", "--frozen-lockfile"],
            (_, Kind::Pnpm) => vec!["pnpm", "install", "--frozen-lockfile"],
            _ => vec!["npm", "ci", "--no-audit", "--no-fund"],
        }
    }

    fn has_modern_yarn(&self) -> bool {
        let manager = self.json["packageManager"].as_str().unwrap_or("");
        let is_old = manager.is_empty() || manager.starts_with("yarn@1.");
        !is_old || self.tree.has(self.folder, ".yarnrc.yml")
    }

    /// Returns the output folder of the build script, relative to `folder`: the default of
    /// its tool, or the one in TypeScript's configuration.
    fn output(&self, folder: &RelPath) -> String {
        let script = self.script("build").unwrap_or("");
        let builder = BUILDERS.iter().find(|(words, _)| script.contains(words));
        let configured = if script.contains("tsc") {
            out_dir(&self.tree.text_in(self.folder, "tsconfig.json"))
        } else {
            None
        };
        let output = match (configured, builder) {
            (_, Some((_, output))) => (*output).to_owned(),
            (Some(folder), None) if !script.contains("vite") => folder,
            _ => "dist/".to_owned(),
        };
        let below = self.folder.below(folder).unwrap_or_default();
        if below.is_root() {
            output
        } else {
            format!("{below}/{output}")
        }
    }

    fn tools(&self, kind: Kind) -> Vec<Tool> {
        let node = Tool {
            name: "node",
            version: self.json["engines"]["node"].as_str().map(str::to_owned),
        };
        let manager = Tool {
            name: kind.word(),
            version: None,
        };
        vec![node, manager]
    }

    fn notes(&self, steps: &[Step]) -> Vec<String> {
        let mut notes = Vec::new();
        if self.lock.is_none() {
            notes.push(
                "Without a lock file, the same sources may give another result; `npm install` writes one."
                    .to_owned(),
            );
        }
        if steps.len() > 1 {
            notes.push(
                "Both install into the same `node_modules`, so they never run at the same time."
                    .to_owned(),
            );
        }
        notes
    }
}

/// Returns the command that runs a script in every package of a workspace.
fn everywhere(kind: Kind, script: &str) -> Vec<&str> {
    match kind {
        Kind::Yarn => vec!["yarn", "workspaces", "run", script],
        Kind::Pnpm => vec!["pnpm", "--recursive", "run", script],
        _ => vec!["npm", "run", script, "--workspaces", "--if-present"],
    }
}

/// Returns the output folder in a `tsconfig.json`, which may have comments.
fn out_dir(text: &str) -> Option<String> {
    let (_, rest) = text.split_once("\"outDir\"")?;
    let value = rest
        .trim_start()
        .strip_prefix(':')?
        .trim_start()
        .strip_prefix('"')?;
    let (value, _) = value.split_once('"')?;
    let folder = RelPath::new(value.trim_start_matches("./").trim_end_matches('/')).ok()?;
    let is_plain = value
        .chars()
        .all(|c| c.is_alphanumeric() || "-_./".contains(c));
    (!folder.is_root() && is_plain).then(|| format!("{folder}/"))
}
