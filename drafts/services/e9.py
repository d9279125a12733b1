exec(open('drafts/services/edits.py').read().split("g='src")[0])
sub('src/action/environment.rs',('''        Self {
            env: env_of(target, host_env),
            secrets: secrets.collect(),
        }
''','''        let mut env = env_of(target, host_env);
        for with in &target.with {
            let name = format!("{}_COUNT", service_variable(&with.service.value));
            let count = Some(with.count.to_string().into());
            env.entry(name).or_insert(count);
        }
        Self {
            env,
            secrets: secrets.collect(),
        }
'''),('''/// Variables that describe the terminal.
''','''/// Returns the name of a service as the first part of the names of variables.
pub fn service_variable(service: &str) -> String {
    let letter = |c: char| {
        if c.is_ascii_alphanumeric() {
            c.to_ascii_uppercase()
        } else {
            '_'
        }
    };
    service.chars().map(letter).collect()
}

/// Variables that describe the terminal.
'''))
s=open('src/build/services/places.rs').read()
s=s[:s.index("/// Returns the name of a service as a part")].rstrip()+"\n"
s=s.replace("variable(service)","service_variable(service)").replace("use crate::action::{Action,","use crate::action::environment::service_variable;\nuse crate::action::{Action,")
open('src/build/services/places.rs','w').write(s)
s=open('src/build/services/instance.rs').read()
s=s.replace('''                stop: exec::Stop {
                    signal: self.service.stop.signal,
                    grace: self.service.stop.grace,
                },
''','''                stop: self.service.stop,
''')
open('src/build/services/instance.rs','w').write(s)
s=open('src/build/services/mod.rs').read()
s=s.replace("crate::event::in_seconds(*after)",'format_args!("{after:?}")').replace("std::thread::sleep(POLL);","std::thread::park_timeout(POLL);")
open('src/build/services/mod.rs','w').write(s)
sub('src/build/mod.rs',('''mod slot;
mod spool;
''','''mod services;
mod slot;
mod spool;
'''),('''//! | `test_cases` |''','''//! | `services` | the services that a test uses |
//! | `test_cases` |'''))
sub('src/build/step.rs',('''        if let Some(reason) = self.unconditional(target) {
            return Ok(self.miss(job, draft, reason));
        }
        let index = self.parts.index;
''','''        if target.service.is_some() {
            return Ok(Prepared::UpToDate(self.service(draft)));
        }
        if let Some(reason) = self.unconditional(target) {
            return Ok(self.miss(job, draft, reason));
        }
        let index = self.parts.index;
'''),('''    /// Returns why the commands run whether or not''','''    /// Returns the result of a service, which makes nothing: its commands run while others use
    /// it. Its key is a part of theirs.
    fn service(&self, draft: Draft) -> Arc<Success> {
        // Its loss costs only the reason for running its users.
        let manifest = self.parts.store.write(&mut draft.manifest.text().as_bytes());
        Arc::new(Success {
            key: draft.key,
            result: ActionResult {
                outputs: Vec::new(),
                log: None,
                manifest: manifest.unwrap_or(draft.key.0),
                duration_ms: 0,
            },
        })
    }

    /// Returns why the commands run whether or not'''))
sub('src/build/run/mod.rs',('''                Arc::ptr_eq(last, &success) || last.result.outputs == success.result.outputs
            };
''','''                // Without outputs, only the key shows a change.
                let outputs = &success.result.outputs;
                last.key == success.key || !outputs.is_empty() && last.result.outputs == *outputs
            };
'''))
sub('src/build/runner.rs',('''    /// Executes the commands; `None` if they were stopped because the run was.
    fn execute(&mut self, spool: &mut Spool) -> Result<Option<Execution>, Failure> {
        let parts = self.step.parts;
        let task = self.task();
''','''    /// Executes the commands, with the services that they use; `None` if they were stopped
    /// because the run was.
    fn execute(&mut self, spool: &mut Spool) -> Result<Option<Execution>, Failure> {
        let parts = self.step.parts;
        let miss = self.miss;
        if self.target.with.is_empty() {
            return self.execute_action(&miss.draft.action, parts.cancel, spool);
        }
        let mut notes = services::Notes::default();
        let executed = services::run_with(parts, miss.id, &mut notes, |places, cancel| {
            let mut action = miss.draft.action.clone();
            places.apply(&mut action);
            self.execute_action(&action, cancel, spool)
        });
        for warning in notes.warnings {
            self.listener.on_warning(warning);
        }
        if executed.is_err() {
            self.show_logs(&notes.logs, spool);
        }
        executed
    }

    /// Adds the logs of services to the output of a failed test.
    fn show_logs(&mut self, logs: &[(String, String)], spool: &mut Spool) {
        for (name, log) in logs {
            let text = format!("log of the service `{name}`:\\n{log}");
            self.listener.on_output(text.as_bytes());
            if let Err(error) = spool.push(text.as_bytes()) {
                self.listener.on_warning(warnings::output_lost(&error));
            }
        }
    }

    /// Executes the commands of an action; `None` if they were stopped because the run was.
    fn execute_action(
        &mut self,
        action: &Action,
        cancel: &Cancel,
        spool: &mut Spool,
    ) -> Result<Option<Execution>, Failure> {
        let parts = self.step.parts;
        let task = self.task(action);
'''),
('''        let execution = parts.executor.execute(&task, &mut output, parts.cancel);
''','''        let execution = parts.executor.execute(&task, &mut output, cancel);
'''),
('''execution.map_err(|error| self.with_repeat(Failure::of(&error), 0))?;
''','''execution.map_err(|error| self.with_repeat(Failure::of(&error), &task, 0))?;
'''),
('''                Err(self.with_repeat(failure, execution.command))
''','''                Err(self.with_repeat(failure, &task, execution.command))
'''),
('''    fn task(&self) -> Task<'a> {
        Task {
            name: &self.target.name.value,
            action: &self.miss.draft.action,
''','''    fn task<'t>(&self, action: &'t Action) -> Task<'t>
    where
        'a: 't,
    {
        Task {
            name: &self.target.name.value,
            action,
'''),
('''    fn with_repeat(&self, mut failure: Failure, command: usize) -> Failure {
        let command = self.miss.draft.action.commands.get(command);
        let root = &self.step.parts.workspace.root;
        failure.repeat = command.map(|command| exec::command_line(root, &self.task(), command));
        failure
''','''    fn with_repeat(&self, mut failure: Failure, task: &Task<'_>, command: usize) -> Failure {
        let command = task.action.commands.get(command);
        let root = &self.step.parts.workspace.root;
        failure.repeat = command.map(|command| exec::command_line(root, task, command));
        failure
'''),
('''use super::{drift, failure, test_cases, warnings};
use crate::action::{ActionResult, Entry};
use crate::buildfile::model::Target;
''','''use super::{drift, failure, services, test_cases, warnings};
use crate::action::{Action, ActionResult, Entry};
use crate::buildfile::model::Target;
use crate::cancel::Cancel;
'''))
sub('src/cli/commands/list.rs',('''        kind: if target.test.is_some() {
            "test"
        } else {
            "target"
        },
''','''        kind: match (&target.test, &target.service) {
            (Some(_), _) => "test",
            (_, Some(_)) => "service",
            _ => "target",
        },
'''))

sub('src/exec/probe.rs',('        grace: GRACE,\n','        stop: Stop {\n            grace: GRACE,\n            ..Stop::default()\n        },\n'))
sub('tests/process/main.rs',('            grace: limits.grace,\n','            stop: Stop {\n                grace: limits.grace,\n                ..Stop::default()\n            },\n'))
sub('tests/process/starts.rs',('        grace: LONG,\n','        stop: Stop {\n            grace: LONG,\n            ..Stop::default()\n        },\n'))
sub('benches/spawn.rs',('        grace: GRACE,\n','        stop: Stop {\n            grace: GRACE,\n            ..Stop::default()\n        },\n'))
for f,a in [('src/exec/probe.rs','use crate::buildfile::model::Stop;\n'),('tests/process/main.rs','use fbuild::buildfile::model::Stop;\n'),('benches/spawn.rs','use fbuild::buildfile::model::Stop;\n')]:
    s=open(f).read()
    key='use crate::' if 'src' in f else 'use fbuild::'
    i=s.index(key); s=s[:i]+a+s[i:]
    open(f,'w').write(s)
