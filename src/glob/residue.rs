//! Compares what patterns match below two folders, so that a walk which reaches one folder by
//! many paths, through links, need not walk it for each of them.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::OnceLock;

use super::Pattern;
use super::matcher::Matcher;
use crate::path::RelPath;

/// The part of a pattern that is left to match below a folder. If two folders have equal residues, the
/// same paths relative to them match.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Residue {
    /// Nothing.
    Nothing,
    /// The whole pattern: its own folder is at this path below.
    Whole(RelPath),
    /// The tail, from any of these components on (sorted).
    From(Vec<usize>),
    /// Only known to depend on the path of the folder.
    Path(RelPath),
}

/// The components of a tail, compiled when first needed.
#[derive(Default)]
pub(super) struct Components(OnceLock<Option<Vec<Component>>>);

enum Component {
    /// `**`: any number of components.
    Any,
    One(Box<Matcher>),
}

impl Pattern {
    /// Returns the part that is left to match below `folder`.
    pub fn residue(&self, folder: &RelPath) -> Residue {
        if let Some(below) = self.folder.below(folder)
            && !(below.is_root() && self.tail.is_none())
        {
            return Residue::Whole(below);
        }
        let (Some(tail), Some(below)) = (&self.tail, folder.below(&self.folder)) else {
            return Residue::Nothing;
        };
        match tail.components.get(&tail.text) {
            None => Residue::Path(folder.clone()),
            Some(components) => match after(components, &below) {
                from if from.is_empty() => Residue::Nothing,
                from => Residue::From(from),
            },
        }
    }
}

impl Components {
    /// Returns the components; `None` if `text` cannot be split, as in `{a/b,c}`.
    fn get(&self, text: &str) -> Option<&[Component]> {
        let compile = |component: &str| match component {
            "**" => Some(Component::Any),
            // A piece of braces or brackets that were split is no pattern.
            one => Matcher::new(one)
                .ok()
                .map(|one| Component::One(Box::new(one))),
        };
        let compiled = self
            .0
            .get_or_init(|| text.split('/').map(compile).collect());
        compiled.as_deref()
    }
}

/// Returns the components that may match next after `path`.
fn after(components: &[Component], path: &RelPath) -> Vec<usize> {
    let mut from = vec![false; components.len() + 1];
    from[0] = true;
    skip_any(components, &mut from);
    for name in path.components() {
        let name = Path::new(OsStr::from_bytes(name));
        let mut next = vec![false; from.len()];
        for (at, component) in components.iter().enumerate().filter(|(at, _)| from[*at]) {
            match component {
                Component::Any => next[at] = true,
                Component::One(matcher) => next[at + 1] |= matcher.is_match(name),
            }
        }
        from = next;
        skip_any(components, &mut from);
    }
    (0..components.len()).filter(|at| from[*at]).collect()
}

/// Adds the components after a `**`, which may match no component at all.
fn skip_any(components: &[Component], from: &mut [bool]) {
    for (at, component) in components.iter().enumerate() {
        from[at + 1] |= from[at] && matches!(component, Component::Any);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn residue(pattern: &str, folder: &str) -> Residue {
        let folder = RelPath::new(folder).unwrap();
        Pattern::new(pattern).unwrap().residue(&folder)
    }

    #[test]
    fn folders_with_equal_residues_match_the_same() {
        for (pattern, a, b) in [
            ("**", "x", "y/z"),
            ("**/*.js", "x", "y/z"),
            ("p/*/src/**", "p/a/src", "p/b/src/c"),
            ("p/**/lib/*.js", "p/a", "p/b/c"),
            ("p/**/lib/*.js", "p/lib", "p/b/lib"),
            ("p/x", "q", "p/y"),
        ] {
            assert_eq!(residue(pattern, a), residue(pattern, b), "{pattern}");
        }
    }

    #[test]
    fn folders_that_match_differently_differ() {
        for (pattern, a, b) in [
            ("p/*/src/*.c", "p/a", "p/a/src"),
            ("p/**/lib/*.js", "p/a", "p/lib"),
            ("p/x/y", "p", "p/x"),
            ("p/*.c", "p", "p/a"),
            ("{a/b,c}/*", "a", "c"),
            ("q/**", "", "q"),
        ] {
            assert_ne!(residue(pattern, a), residue(pattern, b), "{pattern}");
        }
    }

    #[test]
    fn nothing_is_left_where_nothing_can_match() {
        for (pattern, folder) in [("p/*.c", "p/a"), ("p/x", "p/x"), ("p/**", "q"), ("p", "p")] {
            assert_eq!(residue(pattern, folder), Residue::Nothing, "{pattern}");
        }
    }
}
