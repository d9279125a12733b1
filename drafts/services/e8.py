exec(open('drafts/services/edits.py').read().split("g='src")[0])
import shutil
shutil.copy('drafts/services/exec/ports.rs','src/exec/ports.rs'); shutil.copy('drafts/services/exec/ready.rs','src/exec/ready.rs')
import os
os.makedirs('src/build/services',exist_ok=True)
shutil.copy('drafts/services/build/services.rs','src/build/services/mod.rs')
for f in ['places','instance']: shutil.copy(f'drafts/services/build/services/{f}.rs',f'src/build/services/{f}.rs')
g='src/buildfile/grammar.rs'
sub(g,('''    Test,
    Group,
''','''    Test,
    Service,
    Group,
'''),('''    Report,
    Quarantine,
}
''','''    Report,
    Quarantine,
    With,
    Port,
    Ready,
    Stop,
}
'''),('''    node(Kind::Group, "group", "a name''','''    node(Kind::Service, "service", "a program that tests use: started when one needs it, and stopped afterwards")
        .args(NAME)
        .children(&SERVICE_BODY)
        .repeatable()
        .example("service manager {\\n    needs build-manager\\n    port HTTP\\n    run \\"./manager\\" -listen \\"127.0.0.1:{port.HTTP}\\" -database \\"{tmp}/db.sqlite\\"\\n    ready http=\\"http://127.0.0.1:{port.HTTP}/version\\"\\n}"),
    node(Kind::Group, "group", "a name'''),
('''    .props(&[prop("until", Type::Date, "the last day, in UTC")])
    .example("quarantine until=\\"2026-12-31\\""),
];
''','''    .props(&[prop("until", Type::Date, "the last day, in UTC")])
    .example("quarantine until=\\"2026-12-31\\""),
    WITH,
];

const WITH: NodeSpec = node(
    Kind::With,
    "with",
    "a service that runs while its commands run. Its ports are in `{port.SERVICE.PORT}` and in variables such as `$SERVICE_PORT_HTTP`",
)
.args(&[arg("SERVICE", Type::Name)])
.props(&[prop("count", Type::Count(1, 256), "the number of instances").default("1")])
.repeatable()
.example("with manager");

/// The nodes of a target that a service has as well.
const SHARED_KINDS: [Kind; 10] = [
    Kind::About,
    Kind::Needs,
    Kind::Inputs,
    Kind::Env,
    Kind::Pass,
    Kind::Secret,
    Kind::Tools,
    Kind::Run,
    Kind::Sh,
    Kind::Dir,
];

/// The nodes of a service that a target does not have.
pub static SERVICE_ONLY: &[NodeSpec] = &[
    WITH,
    node(
        Kind::Port,
        "port",
        "a free port, in `{port.NAME}` and `$PORT_NAME`; no other run has it at the same time",
    )
    .args(&[arg("NAME", Type::Variable)])
    .repeatable()
    .example("port HTTP"),
    node(
        Kind::Ready,
        "ready",
        "the sign that it can be used: one of `http`, `tcp`, `line` and `run`",
    )
    .props(&[
        prop("http", Type::Text, "a URL that answers with a status from 200 to 399"),
        prop("tcp", Type::Text, "an address that accepts connections"),
        prop("line", Type::Text, "a text that it prints"),
        prop("run", Type::Script, "a script for `sh -eu` that succeeds"),
        prop("timeout", Type::Duration, "the time until it must be ready").default("30s"),
    ])
    .default("it can be used as soon as it is started")
    .example("ready http=\\"http://127.0.0.1:{port.HTTP}/version\\" timeout=\\"20s\\""),
    node(Kind::Stop, "stop", "how it is stopped")
        .props(&[
            prop("signal", Type::Name, "the signal that it receives").default("SIGTERM"),
            prop("grace", Type::Duration, "the time until it is killed").default("1500ms"),
        ])
        .example("stop signal=SIGINT grace=\\"5s\\""),
];

/// The nodes of a service.
pub static SERVICE_BODY: [NodeSpec; SHARED_KINDS.len() + SERVICE_ONLY.len()] =
    joined(&picked(BODY, &SHARED_KINDS), SERVICE_ONLY);

/// Returns the nodes of these kinds, all of which must be in the list.
const fn picked<const N: usize>(from: &[NodeSpec], kinds: &[Kind; N]) -> [NodeSpec; N] {
    let mut all = [ABOUT; N];
    let mut at = 0;
    while at < N {
        let mut next = 0;
        while from[next].kind as u8 != kinds[at] as u8 {
            next += 1;
        }
        all[at] = from[next];
        at += 1;
    }
    all
}
'''),
('''        for nodes in [TOP, &TEST_BODY] {''','''        for nodes in [TOP, &TEST_BODY, &SERVICE_BODY] {'''),
('''places("inputs"), ["template", "target", "test"]''','''places("inputs"), ["template", "target", "test", "service"]'''),
('''["files", "inputs", "inputs", "inputs"]''','''["files", "inputs", "inputs", "inputs", "inputs"]'''),
)
sub('src/buildfile/model.rs',('''    /// What only a `test` has; `None` for a `target`.
    pub test: Option<Test>,
}
''','''    /// The services that run while its commands run; also among its needs.
    pub with: Vec<With>,
    /// What only a `test` has.
    pub test: Option<Test>,
    /// What only a `service` has: its commands run while others use it.
    pub service: Option<Service>,
}

/// `with SERVICE count=N`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct With {
    /// The name of the service.
    pub service: Spanned<String>,
    /// The number of instances.
    pub count: u32,
}

/// What `service NAME { … }` has beyond a target.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// The names of its ports.
    pub ports: Vec<Spanned<String>>,
    /// The sign that it can be used; `None`: as soon as it is started.
    pub ready: Option<Ready>,
    /// How it is stopped.
    pub stop: Stop,
}

/// `ready http= tcp= line= run= timeout=`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    /// The check.
    pub check: Check,
    /// The time until it must succeed.
    pub timeout: Duration,
}

/// A check whether a service is ready. Texts may contain `{port.NAME}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Check {
    /// A URL answers.
    Http(String),
    /// An address accepts connections.
    Tcp(String),
    /// The service prints a text.
    Line(String),
    /// A script succeeds.
    Run(String),
}

/// `stop signal= grace=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stop {
    /// The signal that asks it to stop.
    pub signal: StopSignal,
    /// The time until it is killed.
    pub grace: Duration,
}

impl Default for Stop {
    fn default() -> Self {
        Self {
            signal: StopSignal::Term,
            grace: Duration::from_millis(1500),
        }
    }
}

/// A signal that asks a program to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "each is the signal of that name")]
pub enum StopSignal {
    Term,
    Int,
    Quit,
    Hup,
    Kill,
    Usr1,
    Usr2,
}

impl StopSignal {
    /// Returns the signal with a name such as `SIGTERM` or `TERM`.
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name.strip_prefix("SIG").unwrap_or(name) {
            "TERM" => Self::Term,
            "INT" => Self::Int,
            "QUIT" => Self::Quit,
            "HUP" => Self::Hup,
            "KILL" => Self::Kill,
            "USR1" => Self::Usr1,
            "USR2" => Self::Usr2,
            _ => return None,
        })
    }
}
'''))
sub('src/graph/testing.rs',('''        test: None,
''','''        with: Vec::new(),
        test: None,
        service: None,
'''))
sub('src/buildfile/meaning/definitions.rs',('Kind::Group | Kind::Test =>','Kind::Group | Kind::Test | Kind::Service =>'))
sub('src/buildfile/meaning/target.rs',
('''        test: None,
    }
}

/// Makes a test of a''','''        with: body.with,
        test: None,
        service: None,
    }
}

/// Makes a service of a complete body; `base` is its default folder.
pub(crate) fn assemble_service(
    name: Spanned<String>,
    mut body: Body,
    base: &RelPath,
    scope: &mut Scope<'_>,
) -> Target {
    let service = Service {
        ports: std::mem::take(&mut body.ports),
        ready: body.ready.take(),
        stop: body.stop.unwrap_or_default(),
    };
    Target {
        service: Some(service),
        ..assemble(name, body, base, scope)
    }
}

/// Makes a test of a'''),
('''        needs: body.needs,
''','''        needs: with_services(body.needs, &body.with),
'''),
('''/// Makes a service of a complete body''','''/// Returns needs and the services that a target uses: their keys are part of its key, and what
/// they need is made first.
fn with_services(mut needs: Vec<Spanned<String>>, with: &[With]) -> Vec<Spanned<String>> {
    needs.extend(with.iter().map(|with| with.service.clone()));
    once_each(&mut needs);
    needs
}

/// Makes a service of a complete body'''),
('''        self.reports.extend_from_slice(&layer.reports);
''','''        self.reports.extend_from_slice(&layer.reports);
        self.with.extend_from_slice(&layer.with);
        self.ports.extend_from_slice(&layer.ports);
'''),
('''        self.quarantine = layer.quarantine.or(self.quarantine);
''','''        self.quarantine = layer.quarantine.or(self.quarantine);
        self.ready = layer.ready.clone().or(self.ready.take());
        self.stop = layer.stop.or(self.stop);
'''),
('use crate::buildfile::model::{EnvVar, Spanned, Target, Test};','use crate::buildfile::model::{EnvVar, Service, Spanned, Target, Test, With};'))
sub('src/buildfile/meaning/body.rs',
('''    /// The last day of a test's quarantine.
    pub(crate) quarantine: Option<Date>,
''','''    /// The last day of a test's quarantine.
    pub(crate) quarantine: Option<Date>,
    pub(crate) with: Vec<With>,
    /// The ports of a service.
    pub(crate) ports: Vec<Spanned<String>>,
    pub(crate) ready: Option<Ready>,
    pub(crate) stop: Option<Stop>,
'''),
('''            Kind::Quarantine => self.quarantine(node),
''','''            Kind::Quarantine => self.quarantine(node),
            Kind::With => self.body.with.extend(service::with(node)),
            Kind::Port => self.body.ports.extend(names(node)),
            Kind::Ready => self.body.ready = service::ready(node, self.scope),
            Kind::Stop => self.body.stop = service::stop(node, self.scope),
'''),
('''use super::scope::Scope;
use super::values;
''','''use super::scope::Scope;
use super::{service, values};
'''),
('''    Command, Date, EnvValue, EnvVar, Inputs, Output, Outputs, Spanned, Text,
''','''    Command, Date, EnvValue, EnvVar, Inputs, Output, Outputs, Ready, Spanned, Stop, Text, With,
'''),
('''    scope.local = env.flat_map(variables).collect();
''','''    scope.local = env.flat_map(variables).collect();
    scope.placeholders = if node.spec.kind == Kind::Service {
        &["tmp"]
    } else {
        &[]
    };
'''))
sub('src/buildfile/meaning/scope.rs',
('''    pub(super) local: HashSet<String>,
''','''    pub(super) local: HashSet<String>,
    /// The names that stay in braces, because their values are known when commands run.
    pub(super) placeholders: &'static [&'static str],
'''),
('''            local: HashSet::new(),
''','''            local: HashSet::new(),
            placeholders: &[],
'''),
('''        let Some(value) = self.vars.get(name) else {
            self.unknown''','''        let Some(value) = self.vars.get(name) else {
            if self.placeholders.contains(&name) {
                return Some(format!("{{{name}}}"));
            }
            self.unknown'''))
sub('src/buildfile/meaning/mod.rs',('''pub(super) mod scope;
''','''pub(super) mod scope;
mod service;
'''))
open('src/buildfile/meaning/service.rs','w').write('''//! Reads the nodes about services: `with`, `ready` and `stop`. It does not know which services
//! exist.

use std::time::Duration;

use super::scope::Scope;
use super::values;
use crate::buildfile::codes;
use crate::buildfile::model::{Check, Ready, Spanned, Stop, StopSignal, With};
use crate::buildfile::sink::shown;
use crate::buildfile::syntax::node::Node;
use crate::source::Diagnostic;

/// The time until a service must be ready if the Buildfile sets none.
const READY_TIMEOUT: Duration = Duration::from_secs(30);

/// Reads `with SERVICE count=N`.
pub(super) fn with(node: &Node) -> Option<With> {
    let service = node.first()?;
    let count = node.prop("count").and_then(values::count).unwrap_or(1);
    Some(With { service, count })
}

/// Reads `ready`, which must have exactly one check.
pub(super) fn ready(node: &Node, scope: &mut Scope<'_>) -> Option<Ready> {
    let timeout = node.prop("timeout");
    let timeout = timeout.and_then(|value| values::duration(value, scope));
    let mut checks = Vec::new();
    for name in ["http", "tcp", "line", "run"] {
        let Some(value) = node.prop(name) else {
            continue;
        };
        let text = if name == "run" {
            Some(value.text().to_owned())
        } else {
            scope.plain(value)
        };
        let text = text?;
        checks.push(match name {
            "http" => Check::Http(text),
            "tcp" => Check::Tcp(text),
            "line" => Check::Line(text),
            _ => Check::Run(text),
        });
    }
    let is_single = checks.len() == 1;
    let check = checks.pop().filter(|_| is_single);
    if check.is_none() && !node.is_damaged {
        let message = "`ready` needs exactly one of `http`, `tcp`, `line` and `run`";
        let diagnostic = Diagnostic::error(codes::SERVICE, message)
            .label(node.span, "the sign that it can be used")
            .help(node.spec.hint());
        scope.sink.push(diagnostic);
    }
    Some(Ready {
        check: check?,
        timeout: timeout.unwrap_or(READY_TIMEOUT),
    })
}

/// Reads `stop`.
pub(super) fn stop(node: &Node, scope: &mut Scope<'_>) -> Option<Stop> {
    let mut stop = Stop::default();
    if let Some(grace) = node.prop("grace") {
        stop.grace = values::duration(grace, scope)?;
    }
    if let Some(value) = node.prop("signal") {
        let Some(signal) = StopSignal::parse(value.text()) else {
            let message = format!("`{}` is not a signal to stop with", shown(value.text()));
            let diagnostic = Diagnostic::error(codes::SERVICE, message)
                .label(value.span, "unknown signal")
                .help("choose SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGKILL, SIGUSR1 or SIGUSR2");
            scope.sink.push(diagnostic);
            return None;
        };
        stop.signal = signal;
    }
    Some(stop)
}

/// Returns the name of a service that a node uses.
#[cfg(test)]
fn name(with: &With) -> &Spanned<String> {
    &with.service
}
'''.split("\n/// Returns the name of a service that")[0]+"\n")
s=open('src/buildfile/meaning/service.rs').read().replace("model::{Check, Ready, Spanned, Stop,","model::{Check, Ready, Stop,")
open('src/buildfile/meaning/service.rs','w').write(s)
sub('src/buildfile/expand.rs',
('''                Kind::Target | Kind::Test if self''','''                Kind::Target | Kind::Test | Kind::Service if self'''),
('''        let assemble = if placed.node.spec.kind == Kind::Test {
            target::assemble_test
        } else {
            target::assemble
        };
''','''        let assemble = match placed.node.spec.kind {
            Kind::Test => target::assemble_test,
            Kind::Service => target::assemble_service,
            _ => target::assemble,
        };
'''),
('''        check::check_cache(&buildfile, &mut self.scope);
''','''        check::check_cache(&buildfile, &mut self.scope);
        service::check(&buildfile, &mut self.scope);
'''),
('''use super::checks::target::{self as check, Protected};
''','''use super::checks::service;
use super::checks::target::{self as check, Protected};
'''))
s=open('src/buildfile/checks/mod.rs').read()
print(s)
open('src/buildfile/checks/service.rs','w').write('''//! Checks the uses of services: that they are services, and that the ports in braces exist.

use std::collections::HashMap;

use crate::buildfile::codes;
use crate::buildfile::meaning::scope::Scope;
use crate::buildfile::model::{Buildfile, Check, Command, EnvValue, Piece, Target, Text};
use crate::buildfile::sink::shown;
use crate::source::{Diagnostic, Span};

/// Reports wrong uses of services and their ports.
pub(crate) fn check(buildfile: &Buildfile, scope: &mut Scope<'_>) {
    let uses = |target: &&Target| target.service.is_some() || !target.with.is_empty();
    let users: Vec<&Target> = buildfile.targets.iter().filter(uses).collect();
    if users.is_empty() {
        return;
    }
    let targets = buildfile.targets.iter();
    let by_name: HashMap<&str, &Target> = targets.map(|t| (t.name.value.as_str(), t)).collect();
    for user in users {
        check_services(user, &by_name, buildfile, scope);
        check_command(user, scope);
        check_ports(user, &by_name, scope);
    }
}

fn check_services(
    user: &Target,
    by_name: &HashMap<&str, &Target>,
    buildfile: &Buildfile,
    scope: &mut Scope<'_>,
) {
    for with in &user.with {
        let name = &with.service;
        let is_group = || buildfile.groups.iter().any(|g| g.name.value == name.value);
        let what = match by_name.get(name.value.as_str()) {
            Some(target) if target.service.is_some() => continue,
            Some(target) if target.test.is_some() => "a test",
            Some(_) => "a target",
            None if is_group() => "a group",
            // The graph reports unknown names.
            None => continue,
        };
        let message = format!("`{}` is {what}, not a service", shown(&name.value));
        let diagnostic = Diagnostic::error(codes::SERVICE, message)
            .label(name.span, "`with` runs a service")
            .help(format!("write `needs {}` to build it first", shown(&name.value)));
        scope.once(diagnostic);
    }
}

fn check_command(user: &Target, scope: &mut Scope<'_>) {
    if user.service.is_none() || !user.commands.is_empty() {
        return;
    }
    let name = shown(&user.name.value);
    let diagnostic = Diagnostic::error(codes::SERVICE, format!("`{name}` has no command"))
        .label(user.name.span, "nothing to start")
        .help("add the program, as in: run \\"./manager\\" -listen \\"127.0.0.1:{port.HTTP}\\"");
    scope.once(diagnostic);
}

/// Reports ports in braces that neither the target nor a service that it uses has.
fn check_ports(user: &Target, by_name: &HashMap<&str, &Target>, scope: &mut Scope<'_>) {
    let mut known: Vec<String> = ports(user).map(|port| format!("port.{port}")).collect();
    for with in &user.with {
        let service = with.service.value.as_str();
        for port in by_name.get(service).into_iter().flat_map(|s| ports(s)) {
            known.push(format!("port.{port}"));
            known.push(format!("port.{service}.{port}"));
            known.extend((1..=with.count).map(|n| format!("port.{service}.{n}.{port}")));
        }
    }
    for (text, span) in texts(user) {
        for name in references(text) {
            if known.iter().any(|known| known == name) {
                continue;
            }
            let message = format!("unknown port `{{{}}}`", shown(name));
            let place = scope.narrow(span, &format!("{{{name}}}"));
            let near = scope.sink.nearest(name, known.iter().map(String::as_str));
            let help = match near {
                Some(near) => format!("did you mean `{{{near}}}`?"),
                None => "a service declares its ports with `port NAME`".to_owned(),
            };
            let diagnostic = Diagnostic::error(codes::SERVICE, message)
                .label(place, "no service used here has it")
                .help(help);
            scope.once(diagnostic);
        }
    }
}

fn ports(target: &Target) -> impl Iterator<Item = &str> {
    let ports = target.service.iter().flat_map(|service| &service.ports);
    ports.map(|port| port.value.as_str())
}

/// Returns the texts in which ports have a meaning.
fn texts(target: &Target) -> Vec<(&str, Span)> {
    let mut texts = Vec::new();
    for command in &target.commands {
        if let Command::Run(argv) = &command.value {
            texts.extend(argv.iter().flat_map(literals).map(|text| (text, command.span)));
        }
    }
    for var in &target.env {
        if let EnvValue::Set(text) | EnvValue::Default(text) = &var.value {
            texts.extend(literals(text).map(|text| (text, var.name.span)));
        }
    }
    let ready = target.service.iter().filter_map(|service| service.ready.as_ref());
    for ready in ready {
        if let Check::Http(text) | Check::Tcp(text) = &ready.check {
            texts.push((text, target.name.span));
        }
    }
    texts
}

fn literals(text: &Text) -> impl Iterator<Item = &str> {
    text.0.iter().filter_map(|piece| match piece {
        Piece::Literal(literal) => Some(literal.as_str()),
        Piece::Env(_) => None,
    })
}

/// Returns the names of ports in braces, as in `port.HTTP`.
fn references(text: &str) -> impl Iterator<Item = &str> {
    let starts = text.match_indices("{port.");
    starts.filter_map(|(at, _)| {
        let rest = &text[at + 1..];
        let name = &rest[..rest.find('}')?];
        let is_name = |c: char| c.is_ascii_alphanumeric() || "_-.:+/@".contains(c);
        name.chars().all(is_name).then_some(name)
    })
}
''')
sub('src/buildfile/codes.rs',('''    SIZE "fbuild::buildfile::size"''','''    SERVICE "fbuild::buildfile::service"
    "A service or its use is wrong: `with` names something that is no service, `{port.NAME}` names a port that no service here declares, a service has no command, `ready` has no check or several, or `stop` an unknown signal."

    SIZE "fbuild::buildfile::size"'''))
sub('src/exec/mod.rs',('''mod private;
mod probe;
''','''mod ports;
mod private;
mod probe;
'''),('''mod procfs;
mod run;
''','''mod procfs;
mod ready;
mod run;
'''),('''pub use probe::{''','''pub use ports::ReservedPort;
pub use probe::{'''),('''pub use run::{Completion, GRACE, run};
''','''pub use ready::{check_http, check_tcp};
pub use run::{Completion, GRACE, run};
'''),('''        cancel: &Cancel,
    ) -> Result<Execution, Error>;
}
''','''        cancel: &Cancel,
    ) -> Result<Execution, Error>;

    /// Runs a service until its commands end or `cancel` is raised.
    ///
    /// Postcondition: no process that was started for the service is still running.
    fn serve(
        &self,
        service: &ServiceTask<'_>,
        output: &mut dyn FnMut(&[u8]),
        cancel: &Cancel,
    ) -> Result<Execution, Error> {
        let action = (service.action)(Path::new("/tmp"));
        let task = Task {
            name: service.name,
            action: &action,
            timeout: None,
            interactive: false,
        };
        self.execute(&task, output, cancel)
    }

    /// Reserves a free port for a service.
    fn reserve_port(&self) -> Result<ReservedPort, Error> {
        Ok(ReservedPort::unlocked(1))
    }
}

/// The commands of a service.
#[derive(Clone, Copy)]
pub struct ServiceTask<'a> {
    /// The service's name, used for `FBUILD_TARGET` and in messages.
    pub name: &'a str,
    /// Returns its commands for a private folder, which exists as long as they run.
    pub action: &'a dyn Fn(&Path) -> Action,
    /// How it is stopped.
    pub stop: Stop,
}
'''),('''use std::process::ExitStatus;
use std::time::Duration;

use crate::action::Action;
use crate::cancel::Cancel;
''','''use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use crate::action::Action;
use crate::buildfile::model::Stop;
use crate::cancel::Cancel;
'''),('''//! belong to which command,''','''//! belong to which command, `ports` reserves ports and `ready` checks services,'''))
sub('src/exec/local.rs',('''        let started = Instant::now();
        let stopped_before = stopped_time();
        let private = self
            .private
            .create()
            .map_err(Error::system("create a folder for temporary files"))?;
        let dir''','''        let private = self.private_folder()?;
        let stop = Stop {
            grace: GRACE,
            ..Stop::default()
        };
        self.execute_in(private.path(), (task, stop), output, cancel)
    }

    fn serve(
        &self,
        service: &ServiceTask<'_>,
        output: &mut dyn FnMut(&[u8]),
        cancel: &Cancel,
    ) -> Result<Execution, Error> {
        let private = self.private_folder()?;
        let action = (service.action)(private.path());
        let task = Task {
            name: service.name,
            action: &action,
            timeout: None,
            interactive: false,
        };
        self.execute_in(private.path(), (&task, service.stop), output, cancel)
    }

    fn reserve_port(&self) -> Result<ReservedPort, Error> {
        ports::reserve(self.private.user_dirs()).map_err(Error::system("reserve a port"))
    }
}

impl Local {
    fn private_folder(&self) -> Result<PrivateDir<'_>, Error> {
        let created = self.private.create();
        created.map_err(Error::system("create a folder for temporary files"))
    }

    /// Runs the commands of a task with a private folder.
    fn execute_in(
        &self,
        private: &Path,
        (task, stop): (&Task<'_>, Stop),
        output: &mut dyn FnMut(&[u8]),
        cancel: &Cancel,
    ) -> Result<Execution, Error> {
        let started = Instant::now();
        let stopped_before = stopped_time();
        let dir'''),
('''environment(task, &dir, private.path());''','''environment(task, &dir, private);'''),
('''                grace: GRACE,
                watchdog''','''                stop,
                watchdog'''),
('''use super::{End, Error, Execution, Executor, Task, shell};
use crate::action::ResolvedCommand;
''','''use super::{End, Error, Execution, Executor, ReservedPort, ServiceTask, Task, ports, shell};
use crate::action::ResolvedCommand;
use crate::buildfile::model::Stop;
'''))
sub('src/exec/private.rs',('''    fn lock(&self) -> MutexGuard<'_, Option<Run>> {''','''    /// Returns the user's folders.
    pub(super) fn user_dirs(&self) -> &UserDirs {
        &self.user_dirs
    }

    fn lock(&self) -> MutexGuard<'_, Option<Run>> {'''))
sub('src/exec/process.rs',('''    /// The time between TERM and KILL; usually [`GRACE`](super::GRACE).
    pub grace: Duration,
''','''    /// The signal that terminates it, and the time until KILL; usually TERM and
    /// [`GRACE`](super::GRACE).
    pub stop: Stop,
'''),('use std::time::{Duration, Instant};\n\nuse rustix::fs::Access;','use std::time::{Duration, Instant};\n\nuse rustix::fs::Access;'))
s=open('src/exec/process.rs').read()
s=s.replace("use crate::system::access;","use crate::buildfile::model::Stop;\nuse crate::system::access;")
open('src/exec/process.rs','w').write(s)
sub('src/exec/run.rs',('''        let kill_at = Instant::now() + self.program.grace;
''','''        let kill_at = Instant::now() + self.program.stop.grace;
'''),('''        self.tree.signal(Signal::TERM);
''','''        self.tree.signal(match self.program.stop.signal {
            StopSignal::Term => Signal::TERM,
            StopSignal::Int => Signal::INT,
            StopSignal::Quit => Signal::QUIT,
            StopSignal::Hup => Signal::HUP,
            StopSignal::Kill => Signal::KILL,
            StopSignal::Usr1 => Signal::USR1,
            StopSignal::Usr2 => Signal::USR2,
        });
'''),('''use crate::cancel::{Cancel, Urgency};
''','''use crate::buildfile::model::StopSignal;
use crate::cancel::{Cancel, Urgency};
'''))
for f in ['src/exec/probe.rs','tests/process/main.rs','tests/process/starts.rs','benches/spawn.rs']:
    s=open(f).read()
    import re
    print(f, re.findall(r'.*grace.*',s), re.findall(r'.*GRACE.*',s))
