//! Checks one target: variables declared twice, outputs in places that are not its own,
//! commands that refer to undeclared variables. It knows no other target.

use std::collections::{HashMap, HashSet};

use super::near_miss;
use crate::buildfile::codes;
use crate::buildfile::meaning::body::Body;
use crate::buildfile::meaning::scope::Scope;
use crate::buildfile::model::{Buildfile, Output, Spanned};
use crate::buildfile::sink::shown;
use crate::glob::Pattern;
use crate::path::RelPath;
use crate::source::{Diagnostic, Span};

/// The files that no output may replace: the Buildfiles themselves.
#[derive(Debug, Default)]
pub(crate) struct Protected {
    files: HashSet<RelPath>,
    /// Every folder that contains one of them.
    folders: HashSet<RelPath>,
}

impl Protected {
    /// Adds a file; its path is relative to the root.
    pub(crate) fn add(&mut self, file: RelPath) {
        let mut folder = file.parent();
        while let Some(path) = folder {
            folder = path.parent();
            self.folders.insert(path);
        }
        self.files.insert(file);
    }

    fn is_taken_by(&self, output: &Output) -> bool {
        match output {
            Output::File(path) => self.files.contains(path) || self.folders.contains(path),
            Output::Folder(path) => self.folders.contains(path) || self.files.contains(path),
            Output::Glob(pattern) => self
                .files
                .iter()
                .take(100)
                .any(|path| pattern.matches(path)),
        }
    }
}

/// Reports variables of one block that are declared twice or misspelled.
pub(crate) fn check_variables(body: &Body, scope: &mut Scope<'_>) {
    let env = body.env.iter().map(|var| &var.name);
    let all = env.chain(&body.pass).chain(&body.secret);
    let mut seen: HashMap<&str, Span> = HashMap::new();
    for name in all {
        match seen.insert(&name.value, name.span) {
            Some(earlier) => scope.sink.push(twice(name, earlier)),
            None => warn_of_near_miss(name, scope),
        }
    }
}

fn twice(name: &Spanned<String>, earlier: Span) -> Diagnostic {
    let message = format!("the variable `{}` is declared twice", shown(&name.value));
    Diagnostic::error(codes::ENV_TWICE, message)
        .label(name.span, "again here")
        .label(earlier, "first declared here")
        .help(
            "keep one: with `env` its value is part of the key, with `pass` and `secret` it is not",
        )
}

fn warn_of_near_miss(name: &Spanned<String>, scope: &mut Scope<'_>) {
    if scope.is_linting()
        && let Some(known) = near_miss::find(&name.value)
    {
        let message = format!("`{}` is one typo away from `{known}`", name.value);
        let diagnostic = Diagnostic::warning(codes::NEAR_MISS, message);
        let diagnostic = diagnostic.label(name.span, "not the name that common tools read");
        scope
            .sink
            .push(diagnostic.help(format!("did you mean `{known}`?")));
    }
}

/// Checks a target's complete body.
pub(crate) fn check(
    name: &Spanned<String>,
    body: &Body,
    protected: &Protected,
    scope: &mut Scope<'_>,
) {
    let mut checks = Checks { scope, protected };
    checks.check_purpose(name, body);
    checks.check_inputs(body);
    checks.check_outputs(body);
    checks.check_conflicts(body);
    checks.check_uses(name, body);
}

struct Checks<'c, 's> {
    scope: &'c mut Scope<'s>,
    protected: &'c Protected,
}

impl Checks<'_, '_> {
    fn check_purpose(&mut self, name: &Spanned<String>, body: &Body) {
        if body.is_damaged {
            return;
        }
        let shown = shown(&name.value);
        let diagnostic = match (&body.commands[..], &body.needs[..], body.outputs.first()) {
            ([_, ..], ..) => return,
            ([], _, Some(outputs)) => {
                let message = format!("nothing makes the outputs of `{shown}`");
                let place = outputs.paths.first().map_or(name.span, |path| path.span);
                Diagnostic::error(codes::COMMAND, message)
                    .label(place, "declared here")
                    .label(name.span, "has no command")
                    .help("add the command: `run PROGRAM ARG…` or `sh \"SCRIPT\"`")
            }
            ([], [], None) => Diagnostic::error(codes::NOTHING, format!("`{shown}` does nothing"))
                .label(name.span, "has no command and no needs")
                .help("add a command, as in: run go build \"./cmd/worker\""),
            _ => return,
        };
        self.scope.once(diagnostic);
    }

    fn check_inputs(&mut self, body: &Body) {
        for input in body.inputs.iter().flat_map(|inputs| &inputs.patterns) {
            let Some(folder) = reserved_folder(&input.value) else {
                continue;
            };
            let message = format!(
                "`{}` is in `{folder}`, which is never an input",
                input.value
            );
            let diagnostic = Diagnostic::error(codes::INPUT, message)
                .label(input.span, "changes on its own")
                .help("pass what decides the result in a variable: `env COMMIT`, and `COMMIT=$(git rev-parse HEAD) fbuild run`");
            self.scope.once(diagnostic);
        }
    }

    fn check_outputs(&mut self, body: &Body) {
        for output in body.outputs.iter().flat_map(|outputs| &outputs.paths) {
            if self.protected.is_taken_by(&output.value) {
                let diagnostic =
                    Diagnostic::error(codes::OUTPUT, "an output would replace a Buildfile")
                        .label(output.span, "the Buildfile is this, or in it")
                        .help("let the commands write elsewhere");
                self.scope.once(diagnostic);
            }
            if let Some(folder) = reserved_folder(&output.value.pattern()) {
                let message = format!("an output is in `{folder}`, which is not the target's");
                let diagnostic = Diagnostic::error(codes::OUTPUT, message)
                    .label(output.span, "owning it could delete files of others")
                    .help("let the commands write elsewhere");
                self.scope.once(diagnostic);
            }
        }
    }

    /// Reports variables that one layer declares with `env` and another with `pass`.
    fn check_conflicts(&mut self, body: &Body) {
        let mut seen: HashMap<&str, Span> = HashMap::new();
        let env = body.env.iter().map(|var| &var.name);
        for name in env.chain(&body.pass).chain(&body.secret) {
            if let Some(earlier) = seen.insert(&name.value, name.span) {
                self.scope.once(twice(name, earlier));
            }
        }
    }

    /// Reports references to variables that `env` does not declare.
    fn check_uses(&mut self, name: &Spanned<String>, body: &Body) {
        if body.uses.is_empty() && body.env_uses.is_empty() {
            return;
        }
        let declared: HashSet<&str> = body.env.iter().map(|var| var.name.value.as_str()).collect();
        let in_values = body.env_uses.iter().map(|(_, used)| used);
        for used in body.uses.iter().chain(in_values) {
            if !declared.contains(used.value.as_str()) {
                self.undeclared(name, body, used);
            }
        }
    }

    fn undeclared(&mut self, target: &Spanned<String>, body: &Body, used: &Spanned<String>) {
        let variable = shown(&used.value);
        let is_in = |names: &[Spanned<String>]| names.iter().any(|name| name.value == used.value);
        let declared = body.env.iter().map(|var| var.name.value.as_str());
        let target = shown(&target.value);
        let (why, help) = if is_in(&body.pass) {
            (
                format!("cannot be pasted: `{target}` declares it with `pass`"),
                format!("declare it with `env {variable}`, or use \"${variable}\" in `sh`"),
            )
        } else if is_in(&body.secret) {
            (
                format!("cannot be pasted: it is a secret of `{target}`"),
                format!("use \"${variable}\" in `sh`, where it is never stored"),
            )
        } else {
            let help = match self.scope.sink.nearest(&used.value, declared) {
                Some(near) => format!("did you mean `{{env.{near}}}`?"),
                None => format!("add `env {variable}` to the target"),
            };
            (format!("is not declared in `{target}`"), help)
        };
        let message = format!("`{{env.{variable}}}` {why}");
        let diagnostic = Diagnostic::error(codes::ENV_UNDECLARED, message)
            .label(used.span, "only what `env` declares can be pasted")
            .help(help);
        self.scope.once(diagnostic);
    }
}

/// Reports outputs that contain the folder of the cache, or are in it. An absolute folder is
/// taken to be elsewhere.
pub(crate) fn check_cache(buildfile: &Buildfile, scope: &mut Scope<'_>) {
    let root = buildfile.project.as_ref().and_then(|p| p.root.as_ref());
    let root = root.map_or_else(RelPath::root, |root| root.value.clone());
    let Some(dir) = &buildfile.cache.dir else {
        return;
    };
    let Some(cache) = RelPath::new(&dir.value)
        .ok()
        .and_then(|dir| dir.below(&root))
    else {
        return;
    };
    // The root is no folder for a cache, which the run reports.
    if cache.is_root() {
        return;
    }
    let outputs = buildfile.targets.iter().flat_map(|target| &target.outputs);
    for outputs in outputs {
        let is_kept = outputs.keep.iter().any(|k| k.value.covers_folder(&cache));
        for output in &outputs.paths {
            let place = output.value.pattern().folder().clone();
            let is_owned = matches!(output.value, Output::Folder(_)) && cache.is_within(&place);
            if (is_owned && !is_kept) || place.is_within(&cache) {
                let message = format!("the folder of the cache, `{cache}`, and an output overlap");
                let diagnostic = Diagnostic::error(codes::OUTPUT, message)
                    .label(output.span, "the target owns what is in it")
                    .label(dir.span, "the cache is here")
                    .help("keep the cache in a folder of its own");
                scope.once(diagnostic);
            }
        }
    }
}

/// Returns the folder of version control or of fbuild that a pattern is or is in. The
/// wildcards of a pattern do not matter: no walk goes into these folders.
fn reserved_folder(pattern: &Pattern) -> Option<&'static str> {
    let is_on_the_way = |name: &&str| {
        let mut components = pattern.folder().components();
        components.any(|component| component == name.as_bytes())
    };
    [".git", ".build-cache"].into_iter().find(is_on_the_way)
}
