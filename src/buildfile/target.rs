//! A target put together: templates below, its own block on top, then everything that
//! can be seen to be wrong without knowing other targets.

use std::collections::{HashMap, HashSet};

use super::body::Body;
use super::codes;
use super::lint;
use super::model::{EnvVar, Output, Spanned, Target};
use super::scope::{Scope, cycle};
use super::sink::shown;
use crate::path::RelPath;
use crate::source::{Diagnostic, Span};

/// Files that no output may take away: the Buildfiles themselves.
#[derive(Debug, Default)]
pub(super) struct Protected {
    files: HashSet<RelPath>,
    /// Every folder that one of them lies in.
    folders: HashSet<RelPath>,
}

impl Protected {
    /// Adds a file, relative to the root.
    pub(super) fn add(&mut self, file: RelPath) {
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

impl Body {
    /// Returns how many items it has.
    pub(super) fn len(&self) -> usize {
        let patterns: usize = self
            .inputs
            .iter()
            .map(|i| 1 + i.patterns.len() + i.except.len())
            .sum();
        let outputs: usize = self
            .outputs
            .iter()
            .map(|o| 1 + o.paths.len() + o.keep.len())
            .sum();
        let names = [
            &self.needs,
            &self.after,
            &self.pass,
            &self.secret,
            &self.tools,
            &self.locks,
        ];
        let names: usize = names.iter().map(|names| names.len()).sum();
        patterns + outputs + names + self.env.len() + self.commands.len() + self.uses.len()
    }

    /// Puts bodies on top of each other: lists add up, single values are overridden.
    pub(super) fn layered(layers: &[&Self]) -> Self {
        let mut all = Self::default();
        for layer in layers {
            all.add(layer);
        }
        all.env = overridden(std::mem::take(&mut all.env));
        for names in [
            &mut all.needs,
            &mut all.after,
            &mut all.pass,
            &mut all.secret,
            &mut all.tools,
            &mut all.locks,
        ] {
            once_each(names);
        }
        all
    }

    fn add(&mut self, layer: &Self) {
        self.is_damaged |= layer.is_damaged;
        let sets = layer
            .sets
            .iter()
            .map(|(name, index)| (name.clone(), self.inputs.len() + index));
        self.sets.extend(sets);
        self.needs.extend_from_slice(&layer.needs);
        self.after.extend_from_slice(&layer.after);
        self.inputs.extend_from_slice(&layer.inputs);
        self.outputs.extend_from_slice(&layer.outputs);
        self.env.extend_from_slice(&layer.env);
        self.env_uses.extend_from_slice(&layer.env_uses);
        self.pass.extend_from_slice(&layer.pass);
        self.secret.extend_from_slice(&layer.secret);
        self.tools.extend_from_slice(&layer.tools);
        self.commands.extend_from_slice(&layer.commands);
        self.uses.extend_from_slice(&layer.uses);
        self.locks.extend_from_slice(&layer.locks);
        self.add_single(layer);
    }

    fn add_single(&mut self, layer: &Self) {
        self.about = layer.about.clone().or(self.about.take());
        self.dir = layer.dir.clone().or(self.dir.take());
        self.timeout = layer.timeout.or(self.timeout);
        self.retries = layer.retries.or(self.retries);
        self.cache = layer.cache.or(self.cache);
        self.interactive = layer.interactive.or(self.interactive);
    }
}

/// Keeps the last declaration of each variable, where the first one stood.
fn overridden(env: Vec<EnvVar>) -> Vec<EnvVar> {
    let mut kept: Vec<EnvVar> = Vec::with_capacity(env.len());
    let mut index: HashMap<String, usize> = HashMap::with_capacity(env.len());
    for var in env {
        match index.get(&var.name.value) {
            Some(at) => kept[*at] = var,
            None => {
                index.insert(var.name.value.clone(), kept.len());
                kept.push(var);
            }
        }
    }
    kept
}

/// Keeps the first of equal names.
fn once_each(names: &mut Vec<Spanned<String>>) {
    if names.len() > 1 {
        let mut seen = HashSet::with_capacity(names.len());
        names.retain(|name| seen.insert(name.value.clone()));
    }
}

/// Checks the variables that one block declares: none twice, none nearly well known.
pub(super) fn check_variables(body: &Body, scope: &mut Scope<'_>) {
    let env = body.env.iter().map(|var| &var.name);
    let all = env.chain(&body.pass).chain(&body.secret);
    let mut seen: HashMap<&str, Span> = HashMap::new();
    for name in all {
        match seen.insert(&name.value, name.span) {
            Some(earlier) => scope.sink.push(twice(name, earlier)),
            None => near_miss(name, scope),
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

fn near_miss(name: &Spanned<String>, scope: &mut Scope<'_>) {
    if scope.is_linting()
        && let Some(known) = lint::near_miss(&name.value)
    {
        let message = format!("`{}` is one slip away from `{known}`", name.value);
        let diagnostic = Diagnostic::warning(codes::NEAR_MISS, message);
        let diagnostic = diagnostic.label(name.span, "not what common tools read");
        scope
            .sink
            .push(diagnostic.help(format!("did you mean `{known}`?")));
    }
}

/// The last step from a body to a target.
pub(super) struct Checks<'c, 's> {
    pub(super) scope: &'c mut Scope<'s>,
    pub(super) protected: &'c Protected,
}

impl Checks<'_, '_> {
    /// Checks a body with everything in place, and makes a target of it.
    pub(super) fn finish(&mut self, name: Spanned<String>, body: Body, base: &RelPath) -> Target {
        self.check_purpose(&name, &body);
        self.check_outputs(&body);
        self.check_conflicts(&body);
        self.check_uses(&name, &body);
        let env = self.in_order(&body);
        Target {
            name,
            about: body.about,
            needs: body.needs,
            after: body.after,
            inputs: body.inputs,
            outputs: body.outputs,
            env,
            pass: body.pass,
            secret: body.secret,
            tools: body.tools,
            commands: body.commands,
            dir: body.dir.unwrap_or_else(|| base.clone()),
            timeout: body.timeout,
            retries: body.retries.unwrap_or(0),
            cache: body.cache.unwrap_or(true),
            interactive: body.interactive.unwrap_or(false),
            locks: body.locks,
        }
    }

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

    fn check_outputs(&mut self, body: &Body) {
        for output in body.outputs.iter().flat_map(|outputs| &outputs.paths) {
            if self.protected.is_taken_by(&output.value) {
                let diagnostic =
                    Diagnostic::error(codes::OUTPUT, "an output would take away a Buildfile")
                        .label(output.span, "the Buildfile is, or lies in, this")
                        .help("let the commands write elsewhere");
                self.scope.once(diagnostic);
            }
            if let Some(folder) = others_folder(&output.value) {
                let message = format!("an output lies in `{folder}`, which is not the target's");
                let diagnostic = Diagnostic::error(codes::OUTPUT, message)
                    .label(output.span, "owning it could delete what others keep there")
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

    /// Checks that what commands and values refer to is declared with `env`.
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
                format!("use \"${variable}\" in `sh`, where it is never written down"),
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

    /// Returns the variables in an order in which each refers only to those before it.
    fn in_order(&mut self, body: &Body) -> Vec<EnvVar> {
        if body.env_uses.is_empty() {
            return body.env.clone();
        }
        let index: HashMap<&str, usize> = body
            .env
            .iter()
            .enumerate()
            .map(|(i, var)| (var.name.value.as_str(), i))
            .collect();
        let mut needs = vec![Vec::new(); body.env.len()];
        for (user, used) in &body.env_uses {
            if let (Some(user), Some(used)) =
                (index.get(user.as_str()), index.get(used.value.as_str()))
            {
                needs[*user].push(*used);
            }
        }
        let (order, circle) = ordered(&needs);
        if let Some(circle) = circle {
            let hop = |index: &usize| {
                (
                    body.env[*index].name.value.as_str(),
                    body.env[*index].name.span,
                )
            };
            let hops: Vec<_> = circle.iter().map(hop).collect();
            self.scope.once(cycle("environment variables", &hops));
        }
        order
            .into_iter()
            .map(|index| body.env[index].clone())
            .collect()
    }
}

/// Returns an order in which each index comes after those that it needs, otherwise as
/// they are, and the first circle, if there is one.
fn ordered(needs: &[Vec<usize>]) -> (Vec<usize>, Option<Vec<usize>>) {
    let mut order = Vec::with_capacity(needs.len());
    let mut circle = None;
    // 0 is unseen, 1 is open, 2 is done.
    let mut state = vec![0_u8; needs.len()];
    for start in 0..needs.len() {
        let mut open = vec![(start, 0)];
        while let Some((index, next)) = open.pop() {
            if next == 0 && state[index] == 2 {
                continue;
            }
            state[index] = 1;
            let Some(needed) = needs[index].get(next) else {
                state[index] = 2;
                order.push(index);
                continue;
            };
            open.push((index, next + 1));
            match state[*needed] {
                0 => open.push((*needed, 0)),
                1 => {
                    let from = open
                        .iter()
                        .position(|(index, _)| index == needed)
                        .unwrap_or(0);
                    let path = open[from..].iter().map(|(index, _)| *index).collect();
                    circle.get_or_insert(path);
                }
                _ => {}
            }
        }
    }
    (order, circle)
}

/// Returns the folder of version control's, or of fbuild's own, that an output is or lies
/// in. Where a pattern may reach is not looked at: nothing is ever looked for in there.
fn others_folder(output: &Output) -> Option<&'static str> {
    let pattern = output.pattern();
    let is_on_the_way = |name: &&str| {
        let mut components = pattern.folder().components();
        components.any(|component| component == name.as_bytes())
    };
    [".git", ".build-cache"].into_iter().find(is_on_the_way)
}
