//! npm packages: `package.json`, its `build` and `test` scripts, and the lock file that
//! says whether npm, Yarn or pnpm installs what it needs.

use serde_json::Value;

use super::tree::Tree;
use super::{Kind, Project, Purpose, Step, Tool};
use crate::path::RelPath;

/// The lock files, and who reads them.
const LOCKS: [(&str, Kind); 4] = [
    ("package-lock.json", Kind::Npm),
    ("npm-shrinkwrap.json", Kind::Npm),
    ("yarn.lock", Kind::Yarn),
    ("pnpm-lock.yaml", Kind::Pnpm),
];
/// Words of a build script or of a dependency, and where what they build goes.
const BUILDERS: [(&str, &str); 7] = [
    ("next build", ".next/"),
    ("nuxt build", ".output/"),
    ("nuxi build", ".output/"),
    ("react-scripts build", "build/"),
    ("docusaurus build", "build/"),
    ("gatsby build", "public/"),
    ("eleventy", "_site/"),
];

/// Finds all packages that belong to no other one's workspace.
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
    /// Its lock file, and who reads that.
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

    /// Tells whether another package is installed together with this one.
    fn has_member(&self, other: &Self) -> bool {
        let is_below = other.folder != self.folder && other.folder.is_within(self.folder);
        is_below && self.is_workspace() && other.lock.is_none()
    }

    /// Returns a script that does something.
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
            Purpose::Build => ("build", "what the build script makes"),
            Purpose::Test => ("test", "the JavaScript tests"),
        };
        let doing: Vec<&&Self> = members
            .iter()
            .filter(|m| m.script(script).is_some())
            .collect();
        let (run, makers): (Vec<&str>, Vec<&Self>) = match self.script(script) {
            Some(_) => (vec![kind.word(), "run", script], vec![self]),
            None if doing.is_empty() => return None,
            None => (
                everywhere(kind, script),
                doing.into_iter().copied().collect(),
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

    /// Returns the command that installs exactly what the lock file says.
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

    /// Returns where the build script puts what it makes, below `folder`: where its
    /// builder does unless told otherwise, or where TypeScript is told to.
    fn output(&self, folder: &RelPath) -> String {
        let script = self.script("build").unwrap_or("");
        let builder = BUILDERS.iter().find(|(words, _)| script.contains(words));
        let told = || self.tree.text_in(self.folder, "tsconfig.json");
        let told = script
            .contains("tsc")
            .then(told)
            .and_then(|text| out_dir(&text));
        let output = match (told, builder) {
            (_, Some((_, output))) => (*output).to_owned(),
            (Some(told), None) if !script.contains("vite") => told,
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
                "Without a lock file, the same sources can give another result: `npm install` writes one."
                    .to_owned(),
            );
        }
        if steps.len() > 1 {
            notes.push(
                "Both install into the same `node_modules`, so never at the same time.".to_owned(),
            );
        }
        notes
    }
}

/// Returns the command that runs a script in every package of a workspace that has it.
fn everywhere(kind: Kind, script: &str) -> Vec<&str> {
    match kind {
        Kind::Yarn => vec!["yarn", "workspaces", "run", script],
        Kind::Pnpm => vec!["pnpm", "--recursive", "run", script],
        _ => vec!["npm", "run", script, "--workspaces", "--if-present"],
    }
}

/// Returns the folder that a `tsconfig.json`, which may have comments, sends output to.
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
