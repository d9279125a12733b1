//! Finds Python projects by `pyproject.toml`, `setup.py` or requirements, with their tests
//! and wheels. `uv.lock` decides between pip and uv.

use super::tables::{self, Table};
use super::tree::Tree;
use super::{Command, Kind, Project, Purpose, Step, Tool};
use crate::path::RelPath;

/// The files that make a folder a project.
const MANIFESTS: [&str; 3] = ["pyproject.toml", "setup.py", "requirements.txt"];
/// The files with requirements, in the order of installation.
const REQUIREMENTS: [&str; 5] = [
    "requirements.txt",
    "requirements-dev.txt",
    "requirements-test.txt",
    "dev-requirements.txt",
    "test-requirements.txt",
];

/// Finds all projects.
pub(super) fn find(tree: &Tree) -> Vec<Project> {
    let mut folders: Vec<(RelPath, &'static str)> = Vec::new();
    for manifest in MANIFESTS {
        for folder in tree.folders_with(manifest) {
            if !folders.iter().any(|(known, _)| *known == folder) {
                folders.push((folder, manifest));
            }
        }
    }
    let all: Vec<RelPath> = folders.iter().map(|(folder, _)| folder.clone()).collect();
    let project = |(folder, manifest): &(RelPath, &'static str)| {
        let inner = all.iter().filter(|f| *f != folder && f.is_within(folder));
        Python::read(tree, folder).project(manifest, &inner.collect::<Vec<_>>())
    };
    folders.iter().map(project).collect()
}

/// The files of a project.
struct Python<'t> {
    tree: &'t Tree,
    folder: &'t RelPath,
    pyproject: String,
    requirements: Vec<&'static str>,
}

impl<'t> Python<'t> {
    fn read(tree: &'t Tree, folder: &'t RelPath) -> Self {
        let requirements = REQUIREMENTS
            .into_iter()
            .filter(|name| tree.has(folder, name));
        Self {
            tree,
            folder,
            pyproject: tree.text_in(folder, "pyproject.toml"),
            requirements: requirements.collect(),
        }
    }

    fn project(&self, manifest: &'static str, inner: &[&RelPath]) -> Project {
        let tables = tables::read(&self.pyproject);
        let kind = if self.tree.has(self.folder, "uv.lock") {
            Kind::Uv
        } else {
            Kind::Python
        };
        let wheel = tables::has(&tables, "build-system").then(|| self.wheel(kind));
        let test = self.has_tests(inner).then(|| self.test(kind, &tables));
        let python = Tool {
            name: "python3",
            version: tables::string(&tables, "project", "requires-python").map(str::to_owned),
        };
        let uv = (kind == Kind::Uv).then_some(Tool {
            name: "uv",
            version: None,
        });
        Project {
            kind,
            folder: self.folder.clone(),
            title: tables::string(&tables, "project", "name").map(str::to_owned),
            manifest,
            tools: [python].into_iter().chain(uv).collect(),
            litter: vec![
                "**/__pycache__/**",
                "**/*.egg-info/**",
                "build/**",
                "venv/**",
            ],
            reaches: Vec::new(),
            notes: vec!["The environment is in TMPDIR, so it is removed after the run.".to_owned()],
            steps: wheel.into_iter().chain(test).collect(),
        }
    }

    fn has_tests(&self, inner: &[&RelPath]) -> bool {
        let is_test = |file: &RelPath| {
            let name = String::from_utf8_lossy(file.name());
            let is_named = name.starts_with("test_") || name.ends_with("_test.py");
            is_named && name.ends_with(".py")
        };
        let is_own = |file: &&RelPath| !inner.iter().any(|inner| file.is_within(inner));
        self.tree.below(self.folder).filter(is_own).any(is_test)
    }

    /// Returns the folder for wheels; `dist` may belong to an npm package.
    fn wheels(&self) -> &'static str {
        if self.tree.has(self.folder, "package.json") {
            "wheels"
        } else {
            "dist"
        }
    }

    fn wheel(&self, kind: Kind) -> Step {
        let folder = self.wheels();
        let step = Step::new(Purpose::Build, "the wheel");
        let mut step = match kind {
            Kind::Uv => step.run(&["uv", "build", "--wheel", "--out-dir", folder]),
            _ => step.run(&[
                "python3",
                "-m",
                "pip",
                "wheel",
                "--quiet",
                "--no-deps",
                "--wheel-dir",
                folder,
                ".",
            ]),
        };
        step.outputs.push(format!("{folder}/"));
        step.is_exclusive = true;
        step
    }

    fn test(&self, kind: Kind, tables: &[Table<'_>]) -> Step {
        let texts = self
            .requirements
            .iter()
            .map(|name| self.tree.text_in(self.folder, name));
        let mentions = |text: &str| text.contains("pytest");
        let has_pytest = mentions(&self.pyproject) || texts.into_iter().any(|t| mentions(&t));
        let run = if has_pytest {
            "\"$TMPDIR/venv/bin/python\" -m pytest -p no:cacheprovider"
        } else {
            "\"$TMPDIR/venv/bin/python\" -m unittest discover"
        };
        let mut script = match kind {
            Kind::Uv => vec![
                "export UV_PROJECT_ENVIRONMENT=\"$TMPDIR/venv\"".to_owned(),
                "uv sync --locked".to_owned(),
            ],
            _ => vec!["python3 -m venv \"$TMPDIR/venv\"".to_owned()],
        };
        let install = match kind {
            Kind::Uv => "uv pip install --python \"$TMPDIR/venv\"",
            _ => "\"$TMPDIR/venv/bin/pip\" install --quiet",
        };
        let files = self
            .requirements
            .iter()
            .map(|name| format!("{install} -r {name}"));
        script.extend(files);
        let is_package =
            tables::has(tables, "build-system") || self.tree.has(self.folder, "setup.py");
        if kind != Kind::Uv && is_package {
            script.push(format!("{install} ."));
        }
        script.push(run.to_owned());
        let mut step = Step::new(Purpose::Test, "the Python tests");
        step.commands.push(Command::Sh(script));
        step.is_exclusive = true;
        step
    }
}
