//! Chooses unique names for the targets of projects: the name of the program, or else the
//! folder with the purpose.

use std::collections::HashSet;
use std::path::Path;

use super::{Named, Project, Purpose, Step};
use crate::path::RelPath;

/// The groups that every Buildfile gets.
pub(super) const GROUPS: [(Purpose, &str); 2] =
    [(Purpose::Build, "build"), (Purpose::Test, "test")];

/// The names in use.
pub(super) struct Names {
    targets: HashSet<String>,
    sources: HashSet<String>,
}

impl Default for Names {
    fn default() -> Self {
        Self {
            targets: GROUPS.map(|(_, name)| name.to_owned()).into(),
            sources: HashSet::new(),
        }
    }
}

impl Names {
    /// Chooses names for the targets of all projects.
    pub(super) fn give(mut self, projects: Vec<Project>) -> Vec<Named> {
        let mut give = |project: Project| {
            let steps = project.steps.iter();
            let names = steps.map(|step| self.for_step(&project, step)).collect();
            Named {
                names,
                sources: self.for_sources(&project),
                project,
            }
        };
        projects.into_iter().map(&mut give).collect()
    }

    fn for_step(&mut self, project: &Project, step: &Step) -> String {
        let (folder, kind) = (of_path(&project.folder), project.kind.word());
        let verb = match step.purpose {
            Purpose::Build => "build",
            Purpose::Test => "test",
        };
        let candidates = match (&step.name, project.folder.is_root()) {
            (Some(name), true) => vec![plain(name), format!("{kind}-{}", plain(name))],
            (Some(name), false) => vec![plain(name), format!("{folder}-{}", plain(name))],
            (None, true) => vec![format!("{kind}-{verb}")],
            (None, false) => vec![
                format!("{folder}-{verb}"),
                format!("{folder}-{kind}-{verb}"),
            ],
        };
        take(&mut self.targets, &candidates)
    }

    fn for_sources(&mut self, project: &Project) -> String {
        let (folder, kind) = (of_path(&project.folder), project.kind.word());
        let candidates = if project.folder.is_root() {
            vec![format!("{kind}-sources")]
        } else {
            vec![
                format!("{folder}-sources"),
                format!("{folder}-{kind}-sources"),
            ]
        };
        take(&mut self.sources, &candidates)
    }
}

/// Takes the first free name, or the last one with a number.
fn take(taken: &mut HashSet<String>, candidates: &[String]) -> String {
    let last = candidates.last().cloned().unwrap_or_default();
    let numbered = (2..).map(|n| format!("{last}-{n}"));
    let mut all = candidates.iter().cloned().chain(numbered);
    all.find(|name| taken.insert(name.clone())).unwrap_or(last)
}

/// Returns the name for a project in a folder.
pub(super) fn of_folder(folder: &Path) -> String {
    let name = folder.file_name().unwrap_or_default();
    plain(&name.to_string_lossy())
}

fn of_path(folder: &RelPath) -> String {
    plain(&folder.to_string())
}

/// Turns a text into a name of letters, digits and a few signs.
fn plain(text: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "_.+@".contains(c);
    let plain = text.replace(|c| !is_plain(c), "-");
    let plain: String = plain
        .trim_matches(['-', '.', '+', '@'])
        .chars()
        .take(60)
        .collect();
    if plain.is_empty() {
        "project".to_owned()
    } else {
        plain
    }
}
