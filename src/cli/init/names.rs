//! Names for the targets of projects, each of them once: a program's own, else what is done
//! and to which folder.

use std::collections::HashSet;
use std::path::Path;

use super::{Named, Project, Purpose, Step};
use crate::path::RelPath;

/// The groups that every Buildfile gets.
pub(super) const GROUPS: [(Purpose, &str); 2] =
    [(Purpose::Build, "build"), (Purpose::Test, "test")];

/// The names that are taken.
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
    /// Names the targets of all projects.
    pub(super) fn give(mut self, projects: Vec<Project>) -> Vec<Named> {
        let mut give = |project: Project| {
            let steps = project.steps.iter();
            let names = steps.map(|step| self.of_step(&project, step)).collect();
            Named {
                names,
                sources: self.of_sources(&project),
                project,
            }
        };
        projects.into_iter().map(&mut give).collect()
    }

    fn of_step(&mut self, project: &Project, step: &Step) -> String {
        let (folder, kind) = (of_path(&project.folder), project.kind.word());
        let verb = match step.purpose {
            Purpose::Build => "build",
            Purpose::Test => "test",
        };
        let wishes = match (&step.name, project.folder.is_root()) {
            (Some(name), true) => vec![plain(name), format!("{kind}-{}", plain(name))],
            (Some(name), false) => vec![plain(name), format!("{folder}-{}", plain(name))],
            (None, true) => vec![format!("{kind}-{verb}")],
            (None, false) => vec![
                format!("{folder}-{verb}"),
                format!("{folder}-{kind}-{verb}"),
            ],
        };
        take(&mut self.targets, &wishes)
    }

    fn of_sources(&mut self, project: &Project) -> String {
        let (folder, kind) = (of_path(&project.folder), project.kind.word());
        let wishes = if project.folder.is_root() {
            vec![format!("{kind}-sources")]
        } else {
            vec![
                format!("{folder}-sources"),
                format!("{folder}-{kind}-sources"),
            ]
        };
        take(&mut self.sources, &wishes)
    }
}

/// Takes the first name that is free, or the last one with a number behind it.
fn take(taken: &mut HashSet<String>, wishes: &[String]) -> String {
    let last = wishes.last().cloned().unwrap_or_default();
    let numbered = (2..).map(|n| format!("{last}-{n}"));
    let mut all = wishes.iter().cloned().chain(numbered);
    all.find(|name| taken.insert(name.clone())).unwrap_or(last)
}

/// Returns the name of a folder, for the project in it.
pub(super) fn of_folder(folder: &Path) -> String {
    let name = folder.file_name().unwrap_or_default();
    plain(&name.to_string_lossy())
}

fn of_path(folder: &RelPath) -> String {
    plain(&folder.to_string())
}

/// Returns a text as a name: letters, digits and few signs.
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
