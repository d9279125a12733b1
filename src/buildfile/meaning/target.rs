//! Makes a target of its templates' bodies and its own. It checks only the order of its
//! variables; see [`checks`](crate::buildfile::checks).

use std::collections::{HashMap, HashSet};

use super::body::Body;
use super::scope::{Scope, cycle};
use crate::buildfile::model::{EnvVar, Spanned, Target, Test};
use crate::path::RelPath;

/// Makes a target of a complete body; `base` is its default folder.
pub(crate) fn assemble(
    name: Spanned<String>,
    body: Body,
    base: &RelPath,
    scope: &mut Scope<'_>,
) -> Target {
    Target {
        values: scope.values(),
        name,
        env: in_order(&body, scope),
        about: body.about,
        needs: body.needs,
        after: body.after,
        inputs: body.inputs,
        outputs: body.outputs,
        pass: body.pass,
        secret: body.secret,
        tools: body.tools,
        commands: body.commands,
        dir: body.dir.unwrap_or_else(|| base.clone()),
        timeout: body.timeout,
        retries: body.retries.unwrap_or(0),
        cache: body.cache.unwrap_or(true),
        remote: body.remote.unwrap_or(true),
        interactive: body.interactive.unwrap_or(false),
        locks: body.locks,
        trace: body.trace,
        test: None,
    }
}

/// Makes a test of a complete body; `base` is its default folder.
pub(crate) fn assemble_test(
    name: Spanned<String>,
    mut body: Body,
    base: &RelPath,
    scope: &mut Scope<'_>,
) -> Target {
    let test = Test {
        reports: std::mem::take(&mut body.reports),
        quarantine: body.quarantine,
    };
    Target {
        test: Some(test),
        ..assemble(name, body, base, scope)
    }
}

impl Body {
    /// Returns the number of its items, for the limit on expansion.
    pub(crate) fn len(&self) -> usize {
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

    /// Merges bodies: lists add up, a single value replaces the one before it.
    pub(crate) fn layered(layers: &[&Self]) -> Self {
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
        self.reports.extend_from_slice(&layer.reports);
        self.add_single(layer);
    }

    fn add_single(&mut self, layer: &Self) {
        self.about = layer.about.clone().or(self.about.take());
        self.dir = layer.dir.clone().or(self.dir.take());
        self.timeout = layer.timeout.or(self.timeout);
        self.retries = layer.retries.or(self.retries);
        self.cache = layer.cache.or(self.cache);
        self.remote = layer.remote.or(self.remote);
        self.interactive = layer.interactive.or(self.interactive);
        self.trace = layer.trace.or(self.trace);
        self.quarantine = layer.quarantine.or(self.quarantine);
    }
}

/// Keeps the last declaration of each variable, in the place of the first.
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

/// Removes repeated names.
fn once_each(names: &mut Vec<Spanned<String>>) {
    if names.len() > 1 {
        let mut seen = HashSet::with_capacity(names.len());
        names.retain(|name| seen.insert(name.value.clone()));
    }
}

/// Returns the variables in an order in which each refers only to earlier ones.
fn in_order(body: &Body, scope: &mut Scope<'_>) -> Vec<EnvVar> {
    if body.env_uses.is_empty() {
        return body.env.clone();
    }
    let names = body.env.iter().map(|var| var.name.value.as_str());
    let index: HashMap<&str, usize> = names.enumerate().map(|(i, name)| (name, i)).collect();
    let mut needs = vec![Vec::new(); body.env.len()];
    for (user, used) in &body.env_uses {
        let used = index.get(used.value.as_str());
        if let (Some(user), Some(used)) = (index.get(user.as_str()), used) {
            needs[*user].push(*used);
        }
    }
    let (order, circle) = ordered(&needs);
    if let Some(circle) = circle {
        let names = circle.iter().map(|index| &body.env[*index].name);
        let hops: Vec<_> = names.map(|name| (name.value.as_str(), name.span)).collect();
        scope.once(cycle("environment variables", &hops));
    }
    let variables = order.into_iter().map(|index| body.env[index].clone());
    variables.collect()
}

/// Returns the indices in an order in which each comes after those that it needs, and the
/// first cycle, if any.
fn ordered(needs: &[Vec<usize>]) -> (Vec<usize>, Option<Vec<usize>>) {
    let mut order = Vec::with_capacity(needs.len());
    let mut circle = None;
    // 0: not seen, 1: on the current path, 2: done.
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
