//! Finds the patterns of a project's sources: everything below its folder, except outputs,
//! other projects and hidden files.

use super::Named;
use crate::glob::{Pattern, may_overlap};
use crate::path::RelPath;

/// Patterns relative to the root, and their exceptions.
pub(super) struct Sources {
    pub(super) patterns: Vec<String>,
    pub(super) except: Vec<String>,
}

/// Returns the sources of one of `all` projects.
pub(super) fn of(own: &Named, all: &[Named]) -> Sources {
    let folder = &own.project.folder;
    let mut except = vec![below(folder, "**/.*/**")];
    if folder.is_root() {
        except.push(crate::workspace::FILE_NAME.to_owned());
    }
    for other in all.iter().map(|other| &other.project) {
        if other.folder == *folder {
            except.extend(other.litter.iter().map(|litter| below(folder, litter)));
        } else if other.folder.is_within(folder) && !other.steps.is_empty() {
            except.push(below(&other.folder, "**"));
        }
        if other.folder == *folder {
            let outputs = other.steps.iter().flat_map(|step| &step.outputs);
            let is_litter = |output: &&String| {
                let heads = other
                    .litter
                    .iter()
                    .filter_map(|litter| litter.strip_suffix("**"));
                heads
                    .into_iter()
                    .any(|head| !head.contains('*') && output.starts_with(head))
            };
            let outputs = outputs.filter(|output| !is_litter(output) && !output.starts_with('.'));
            except.extend(outputs.map(|output| below(folder, &pattern(output))));
        }
    }
    let mut unique = Vec::new();
    for pattern in except {
        if !unique.contains(&pattern) {
            unique.push(pattern);
        }
    }
    Sources {
        patterns: vec![below(folder, "**")],
        except: unique,
    }
}

/// Inputs of a project in the folders of inner projects, which are not among its sources.
pub(super) struct Elsewhere<'n> {
    /// Patterns relative to the root.
    pub(super) patterns: Vec<String>,
    /// The targets that make files for these patterns.
    pub(super) needs: Vec<&'n str>,
}

/// Finds the inputs of a project in the folders of inner projects.
pub(super) fn elsewhere<'n>(own: &Named, all: &'n [Named]) -> Elsewhere<'n> {
    let folder = &own.project.folder;
    let reaches: Vec<String> = own
        .project
        .reaches
        .iter()
        .map(|p| below(folder, p))
        .collect();
    let (mut patterns, mut needs) = (Vec::new(), Vec::new());
    let is_inner = |other: &&Named| {
        let other = &other.project;
        other.folder != *folder && other.folder.is_within(folder) && !other.steps.is_empty()
    };
    for other in all.iter().filter(is_inner) {
        let inner = &other.project.folder;
        let is_inside =
            |text: &&String| Pattern::new(text).is_ok_and(|p| p.folder().is_within(inner));
        for text in reaches.iter().filter(is_inside) {
            patterns.push(text.clone());
            needs.extend(makers(other, text));
        }
    }
    needs.dedup();
    Elsewhere { patterns, needs }
}

/// Returns the targets of a project whose outputs a pattern may match.
fn makers<'n>(other: &'n Named, text: &str) -> Vec<&'n str> {
    let folder = &other.project.folder;
    let overlaps = |output: &String| {
        let patterns = [
            Pattern::new(text),
            Pattern::new(&below(folder, &pattern(output))),
        ];
        matches!(patterns, [Ok(a), Ok(b)] if may_overlap(&a, &b))
    };
    let steps = other.project.steps.iter().zip(&other.names);
    let makers = steps.filter(|(step, _)| step.outputs.iter().any(overlaps));
    makers.map(|(_, name)| name.as_str()).collect()
}

/// Returns the pattern for an output.
fn pattern(output: &str) -> String {
    if output.ends_with('/') {
        format!("{output}**")
    } else {
        output.to_owned()
    }
}

/// Returns a pattern or path below a folder.
pub(super) fn below(folder: &RelPath, rest: &str) -> String {
    if folder.is_root() {
        rest.to_owned()
    } else {
        format!("{folder}/{rest}")
    }
}
