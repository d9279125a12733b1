//! Resolves names given by the user to targets, and targets to all that they depend on.
//! It does not know what is done with them.

use crate::source::Diagnostic;

use super::lists::number;
use super::resolve::{self, UNKNOWN};
use super::{Graph, Named, TargetId};

/// The code of arguments that no target can take.
pub(super) const ARGUMENTS: &str = "fbuild::graph::arguments";

impl Graph {
    /// Returns the target or group with a name.
    pub fn find(&self, name: &str) -> Option<Named> {
        let node = resolve::find(&self.buildfile, &self.by_name, name)? as usize;
        Some(self.named(node))
    }

    /// Returns the targets and groups that a name or pattern stands for, sorted by name.
    pub fn matching(&self, name: &str) -> Vec<Named> {
        let found = resolve::matching(&self.buildfile, &self.by_name, name).into_iter();
        found.map(|node| self.named(node as usize)).collect()
    }

    fn named(&self, node: usize) -> Named {
        match node.checked_sub(self.len()) {
            Some(group) => Named::Group(group),
            None => Named::Target(TargetId(number(node))),
        }
    }

    /// Returns the names of all targets and groups, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let nodes = self.by_name.iter();
        nodes.map(|node| resolve::name(&self.buildfile, *node))
    }

    /// Returns the targets of the project's `default`, if there is one.
    pub fn default_targets(&self) -> Vec<TargetId> {
        let names = self.buildfile.project.iter().flat_map(|p| &p.default);
        let found = names.flat_map(|name| self.matching(&name.value));
        self.expand(found)
    }

    /// Returns the targets with the given names, each once, in the order given; without names,
    /// the default ones. Reports every unknown name, and a missing default.
    pub fn select<S: AsRef<str>>(&self, names: &[S]) -> Result<Vec<TargetId>, Vec<Diagnostic>> {
        if names.is_empty() {
            let targets = self.default_targets();
            return if targets.is_empty() {
                Err(vec![self.no_default()])
            } else {
                Ok(targets)
            };
        }
        let found = self.resolve(names)?;
        Ok(self.expand(found.into_iter()))
    }

    /// Returns the one target that the given names stand for, if it takes arguments.
    pub fn select_one_with_args<S: AsRef<str>>(
        &self,
        names: &[S],
    ) -> Result<TargetId, Vec<Diagnostic>> {
        let targets = self.select(names)?;
        let [id] = targets[..] else {
            let count = targets.len();
            let message = format!("arguments after `--` are for one target, and {count} are named");
            let help = match targets.iter().find(|id| self.target(**id).takes_args()) {
                Some(id) => format!("name it, as in `fbuild run {} -- …`", self.name(*id)),
                None => "name the target before `--`".to_owned(),
            };
            return Err(vec![Diagnostic::error(ARGUMENTS, message).help(help)]);
        };
        let target = self.target(id);
        if target.takes_args() {
            return Ok(id);
        }
        let message = format!("`{}` takes no arguments", target.name.value);
        let help =
            "write \"{args}\" as an argument of its `run`, or \"$@\" in the script of its `sh`";
        let diagnostic = Diagnostic::error(ARGUMENTS, message).help(help);
        Err(vec![diagnostic.label(
            target.name.span,
            "none of its commands has a place for them",
        )])
    }

    /// Returns the targets and groups with names that match the given ones, in which `*` is any
    /// number of characters. Reports every unknown name.
    pub fn resolve<S: AsRef<str>>(&self, names: &[S]) -> Result<Vec<Named>, Vec<Diagnostic>> {
        let (mut named, mut unknown) = (Vec::new(), Vec::new());
        for name in names {
            let found = self.matching(name.as_ref());
            if found.is_empty() {
                unknown.push(self.unknown(name.as_ref()));
            }
            named.extend(found);
        }
        if unknown.is_empty() {
            Ok(named)
        } else {
            Err(unknown)
        }
    }

    /// Returns the targets and everything that they need or run after, directly or not, each
    /// after its own dependencies.
    pub fn closure(&self, targets: &[TargetId]) -> Vec<TargetId> {
        let mut is_wanted = vec![false; self.len()];
        let mut open = targets.to_vec();
        while let Some(id) = open.pop() {
            if !std::mem::replace(&mut is_wanted[id.index()], true) {
                open.extend(self.needs(id).iter().chain(self.after(id)));
            }
        }
        let order = self.order.iter().copied();
        order.filter(|id| is_wanted[id.index()]).collect()
    }

    /// Replaces groups by their targets, and keeps each target once.
    fn expand(&self, named: impl Iterator<Item = Named>) -> Vec<TargetId> {
        let mut is_taken = vec![false; self.len()];
        let mut targets = Vec::new();
        for named in named {
            let one;
            let these = match named {
                Named::Group(group) => self.members(group),
                Named::Target(id) => {
                    one = [id];
                    &one
                }
            };
            for id in these {
                if !std::mem::replace(&mut is_taken[id.index()], true) {
                    targets.push(*id);
                }
            }
        }
        targets
    }

    fn unknown(&self, name: &str) -> Diagnostic {
        let shown = crate::path::escape(name.as_bytes());
        if resolve::is_pattern(name) {
            return Diagnostic::error(UNKNOWN, format!("no target matches `{shown}`"))
                .help("`*` stands for any characters of a name; `fbuild list` shows all names");
        }
        let diagnostic = Diagnostic::error(UNKNOWN, format!("unknown target `{shown}`"))
            .help("`fbuild list` shows all of them");
        diagnostic.did_you_mean(name, self.names())
    }

    fn no_default(&self) -> Diagnostic {
        let help = match self.names().next() {
            Some(name) => format!(
                "name one, as in `fbuild run {name}`, or write `default {name}` into `project`"
            ),
            None => "the Buildfile has no targets yet; `fbuild add NAME` writes one".to_owned(),
        };
        Diagnostic::error(
            UNKNOWN,
            "no target is named, and the project has no default",
        )
        .help(help)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{graph, names};
    use super::*;

    const TEXT: &str = "default all
        target manager needs web after lint
        target worker
        target web
        target lint
        target doc
        group all needs manager worker";

    fn selected(names_given: &[&str]) -> Result<String, Vec<(String, Option<String>)>> {
        let graph = graph(TEXT);
        let shown = |d: Diagnostic| (d.message, d.help);
        match graph.select(names_given) {
            Ok(targets) => Ok(names(&graph, &targets)),
            Err(unknown) => Err(unknown.into_iter().map(shown).collect()),
        }
    }

    #[test]
    fn names_select_targets_and_groups() {
        assert_eq!(selected(&["doc"]), Ok("doc".to_owned()));
        assert_eq!(
            selected(&["worker", "all"]),
            Ok("worker manager".to_owned())
        );
        assert_eq!(selected(&[]), Ok("manager worker".to_owned()));
    }

    #[test]
    fn every_unknown_name_is_reported() {
        let unknown = selected(&["manger", "doc", "\u{1b}[2J"]).unwrap_err();
        let help = |text: &str| Some(text.to_owned());
        let expected = [
            (
                "unknown target `manger`".to_owned(),
                help("did you mean `manager`?"),
            ),
            (
                r"unknown target `\x1b[2J`".to_owned(),
                help("`fbuild list` shows all of them"),
            ),
        ];
        assert_eq!(unknown, expected);
    }

    #[test]
    fn missing_default_is_reported() {
        let graph = graph("target a\ntarget b");
        let [diagnostic] = &graph.select::<&str>(&[]).unwrap_err()[..] else {
            panic!()
        };
        assert_eq!(
            diagnostic.message,
            "no target is named, and the project has no default"
        );
        assert_eq!(
            diagnostic.help.as_deref(),
            Some("name one, as in `fbuild run a`, or write `default a` into `project`")
        );
    }

    #[test]
    fn closure_is_in_order() {
        let graph = graph(TEXT);
        let closure = graph.closure(&graph.select(&["manager"]).unwrap());
        assert_eq!(names(&graph, &closure), "web lint manager");
    }

    #[test]
    fn arguments_need_one_target_that_takes_them() {
        let graph = graph(TEXT);
        let messages = |names: &[&str]| -> Vec<String> {
            let refused = graph.select_one_with_args(names).unwrap_err();
            refused.into_iter().map(|d| d.message).collect()
        };
        assert_eq!(messages(&["doc"]), ["`doc` takes no arguments"]);
        let several = "arguments after `--` are for one target, and 2 are named";
        assert_eq!(messages(&["all"]), [several]);
        assert_eq!(messages(&["nothing"]), ["unknown target `nothing`"]);
    }
}
