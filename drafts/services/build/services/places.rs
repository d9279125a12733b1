//! The ports of services, as the commands of their users see them.

use std::ffi::OsString;

use super::Instance;
use crate::action::{Action, ResolvedCommand};
use crate::buildfile::model::Target;

/// The texts that replace placeholders such as `{port.HTTP}`, and the variables beside them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::build) struct Places {
    texts: Vec<(String, String)>,
    env: Vec<(String, String)>,
}

impl Places {
    /// Returns the ports of the instances that a target uses with `with`.
    pub(super) fn of_users(instances: &[Instance<'_>], user: &Target) -> Self {
        let used: Vec<&Instance<'_>> = instances
            .iter()
            .filter(|instance| {
                let mut with = user.with.iter();
                with.any(|with| with.service.value == instance.target.name.value)
            })
            .collect();
        let mut places = Self::default();
        for instance in &used {
            let service = &instance.target.name.value;
            for (name, port) in &instance.ports {
                let (number, value) = (instance.number, port.number().to_string());
                places.add(
                    format!("{{port.{service}.{number}.{name}}}"),
                    format!("{}_{number}_PORT_{name}", variable(service)),
                    &value,
                );
                if number == 1 {
                    places.add(
                        format!("{{port.{service}.{name}}}"),
                        format!("{}_PORT_{name}", variable(service)),
                        &value,
                    );
                }
                let has_it = |other: &&&Instance<'_>| other.ports.iter().any(|(n, _)| n == name);
                if used.iter().filter(has_it).count() == 1 {
                    places.add(format!("{{port.{name}}}"), format!("PORT_{name}"), &value);
                }
            }
        }
        places
    }

    /// Adds the ports of an instance itself, which hide those of services that it uses.
    pub(super) fn and_own(mut self, instance: &Instance<'_>) -> Self {
        for (name, port) in &instance.ports {
            let (text, variable) = (format!("{{port.{name}}}"), format!("PORT_{name}"));
            self.texts.retain(|(known, _)| *known != text);
            self.env.retain(|(known, _)| *known != variable);
            self.add(text, variable, &port.number().to_string());
        }
        self.env
            .push(("FBUILD_INSTANCE".to_owned(), instance.number.to_string()));
        self
    }

    /// Adds the private folder of an instance.
    pub(super) fn and_folder(mut self, folder: &std::path::Path) -> Self {
        let folder = folder.to_string_lossy().into_owned();
        self.texts.push(("{tmp}".to_owned(), folder));
        self
    }

    fn add(&mut self, text: String, variable: String, value: &str) {
        self.texts.push((text, value.to_owned()));
        self.env.push((variable, value.to_owned()));
    }

    /// Returns a text with the placeholders replaced.
    pub(super) fn fill(&self, text: &str) -> String {
        let mut out = text.to_owned();
        for (placeholder, value) in &self.texts {
            if out.contains(placeholder) {
                out = out.replace(placeholder, value);
            }
        }
        out
    }

    /// Replaces the placeholders in the arguments and variables of an action, and adds the
    /// variables with the ports. Scripts stay as they are.
    pub(in crate::build) fn apply(&self, action: &mut Action) {
        let fill = |word: &mut OsString| {
            if let Some(text) = word.to_str().filter(|text| text.contains('{')) {
                *word = self.fill(text).into();
            }
        };
        for command in &mut action.commands {
            if let ResolvedCommand::Run(argv) = command {
                argv.iter_mut().for_each(fill);
            }
        }
        action.env.values_mut().flatten().for_each(fill);
        for (name, value) in &self.env {
            action.inherited.insert(name.clone(), value.into());
        }
    }
}

/// Returns the name of a service as a part of variables.
pub(in crate::build) fn variable(service: &str) -> String {
    let letter = |c: char| {
        if c.is_ascii_alphanumeric() {
            c.to_ascii_uppercase()
        } else {
            '_'
        }
    };
    service.chars().map(letter).collect()
}
