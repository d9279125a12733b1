import re,sys
def sub(path, *pairs):
    s=open(path).read()
    for a,b in pairs:
        assert s.count(a)==1, (path, a, s.count(a))
        s=s.replace(a,b)
    open(path,'w').write(s)
g='src/buildfile/grammar.rs'
s=open(g).read()
s=s.replace('''#[derive(Debug)]
pub struct NodeSpec''','''#[derive(Clone, Copy, Debug)]
pub struct NodeSpec''').replace('''#[derive(Debug)]
pub struct ArgSpec''','''#[derive(Clone, Copy, Debug)]
pub struct ArgSpec''').replace('''#[derive(Debug)]
pub struct RestSpec''','''#[derive(Clone, Copy, Debug)]
pub struct RestSpec''').replace('''#[derive(Debug)]
pub struct PropSpec''','''#[derive(Clone, Copy, Debug)]
pub struct PropSpec''')
open(g,'w').write(s)
sub(g,
('''    /// A version requirement such as `>=1.21`.
    Requirement,
''','''    /// A version requirement such as `>=1.21`.
    Requirement,
    /// A day such as `2026-12-31`.
    Date,
'''),
('''            Self::Requirement => "a version requirement",
''','''            Self::Requirement => "a version requirement",
            Self::Date => "a date",
'''),
('''    Target,
    Group,
''','''    Target,
    Test,
    Group,
'''),
('''    Interactive,
    Locks,
}
''','''    Interactive,
    Locks,
    Report,
    Quarantine,
}
'''),
('''    node(Kind::Group, "group", "a name''','''    node(Kind::Test, "test", "a target whose success is its result; `fbuild test` runs all of them")
        .args(NAME)
        .props(&[FROM])
        .children(&TEST_BODY)
        .repeatable()
        .example("test unit from=go {\\n    inputs \\"internal/**\\"\\n    report \\"out/unit.json\\"\\n    sh \\"go test -json ./... > out/unit.json\\"\\n}"),
    node(Kind::Group, "group", "a name'''),
('''/// The nodes of a target or template.
pub static BODY''','''/// The nodes of a test that a target does not have.
pub static TEST_ONLY: &[NodeSpec] = &[
    node(
        Kind::Report,
        "report",
        "outputs with the results of its cases: JUnit XML, the lines of `go test -json`, or TAP",
    )
    .rest(1, "PATH", Type::Output)
    .repeatable()
    .example("report \\"out/unit.xml\\""),
    node(
        Kind::Quarantine,
        "quarantine",
        "until this day, its failure does not fail `fbuild test`",
    )
    .props(&[prop("until", Type::Date, "the last day, in UTC")])
    .example("quarantine until=\\"2026-12-31\\""),
];

/// The nodes of a test.
pub static TEST_BODY: [NodeSpec; BODY.len() + TEST_ONLY.len()] = joined(BODY, TEST_ONLY);

/// Joins two lists of nodes into one.
const fn joined<const N: usize>(first: &[NodeSpec], second: &[NodeSpec]) -> [NodeSpec; N] {
    let mut all = [ABOUT; N];
    let mut at = 0;
    while at < N {
        all[at] = if at < first.len() {
            first[at]
        } else {
            second[at - first.len()]
        };
        at += 1;
    }
    all
}

/// The nodes of a target or template.
pub static BODY'''),
('''        for nodes in [TOP, BODY] {''','''        for nodes in [TOP, &TEST_BODY] {'''),
('''places("inputs"), ["template", "target"]''','''places("inputs"), ["template", "target", "test"]'''),
('''places("cache"), ["", "template", "target"]''','''places("cache"), ["", "template", "target", "test"]'''),
('''["files", "inputs", "inputs"]''','''["files", "inputs", "inputs", "inputs"]'''),
)
# BODY must precede? order irrelevant
m='src/buildfile/model.rs'
sub(m,('''    /// The locks that it holds while it runs.
    pub locks: Vec<Spanned<String>>,
}
''','''    /// The locks that it holds while it runs.
    pub locks: Vec<Spanned<String>>,
    /// What only a `test` has; `None` for a `target`.
    pub test: Option<Test>,
}

/// What `test NAME { … }` has beyond a target.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Test {
    /// The outputs with the results of its cases; also among its outputs.
    pub reports: Vec<Spanned<Output>>,
    /// The last day on which its failure does not fail `fbuild test`.
    pub quarantine: Option<Date>,
}

/// A day of the calendar; the order is that of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Date {
    /// The year, from 1 to 9999.
    pub year: u16,
    /// The month, from 1 to 12.
    pub month: u8,
    /// The day of the month, from 1.
    pub day: u8,
}
'''))
sub('src/buildfile/meaning/body.rs',
('''    pub(crate) locks: Vec<Spanned<String>>,
}
''','''    pub(crate) locks: Vec<Spanned<String>>,
    /// The outputs that are reports of a test.
    pub(crate) reports: Vec<Spanned<Output>>,
    /// The last day of a test's quarantine.
    pub(crate) quarantine: Option<Date>,
}
'''),
('''            Kind::Locks => self.body.locks.extend(names(node)),
''','''            Kind::Locks => self.body.locks.extend(names(node)),
            Kind::Report => self.report(node),
            Kind::Quarantine => self.quarantine(node),
'''),
('''    fn keep_nothing(&mut self''','''    /// Reads a `report`: its files are outputs, so that they are stored and restored.
    fn report(&mut self, node: &Node) {
        let paths: Vec<_> = node.args.iter().filter_map(|v| self.output(v)).collect();
        self.body.reports.extend_from_slice(&paths);
        self.body.outputs.push(Outputs {
            paths,
            committed: false,
            keep: Vec::new(),
        });
    }

    fn quarantine(&mut self, node: &Node) {
        match node.prop("until") {
            Some(until) => self.body.quarantine = values::date(until, self.scope),
            None if node.is_damaged => {}
            None => {
                let diagnostic =
                    Diagnostic::error(codes::MISSING, "`quarantine` needs its last day")
                        .label(node.span, "until= is missing")
                        .help(node.spec.hint());
                self.scope.sink.push(diagnostic);
            }
        }
    }

    fn keep_nothing(&mut self'''),
('use crate::buildfile::model::{Command, EnvValue, EnvVar, Inputs, Output, Outputs, Spanned, Text};','use crate::buildfile::model::{\n    Command, Date, EnvValue, EnvVar, Inputs, Output, Outputs, Spanned, Text,\n};'),
)
sub('src/buildfile/meaning/target.rs',
('''    name: Spanned<String>,
    body: Body,
    base: &RelPath,
    scope: &mut Scope<'_>,
) -> Target {
''','''    name: Spanned<String>,
    body: Body,
    base: &RelPath,
    scope: &mut Scope<'_>,
) -> Target {
'''),
('''        locks: body.locks,
    }
}
''','''        locks: body.locks,
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
'''),
('''        self.locks.extend_from_slice(&layer.locks);
''','''        self.locks.extend_from_slice(&layer.locks);
        self.reports.extend_from_slice(&layer.reports);
'''),
('''        self.interactive = layer.interactive.or(self.interactive);
''','''        self.interactive = layer.interactive.or(self.interactive);
        self.quarantine = layer.quarantine.or(self.quarantine);
'''),
('use crate::buildfile::model::{EnvVar, Spanned, Target};','use crate::buildfile::model::{EnvVar, Spanned, Target, Test};'),
)
sub('src/buildfile/expand.rs',
('''                Kind::Target if self''','''                Kind::Target | Kind::Test if self'''),
('''        let target = target::assemble(name, body, &placed.base, &mut self.scope);
''','''        let assemble = if placed.node.spec.kind == Kind::Test {
            target::assemble_test
        } else {
            target::assemble
        };
        let target = assemble(name, body, &placed.base, &mut self.scope);
'''))
sub('src/buildfile/meaning/definitions.rs',('''        Kind::Group => Some(Kind::Target),
''','''        Kind::Group | Kind::Test => Some(Kind::Target),
'''))
sub('src/graph/testing.rs',('''        locks: Vec::new(),
    }''','''        locks: Vec::new(),
        test: None,
    }'''))
sub('src/workspace/compiled.rs',('fbuild-graph  2','fbuild-graph  3'))
sub('src/buildfile/syntax/node_cache.rs',('fbuild-nodes  1','fbuild-nodes  2'))
sub('src/buildfile/meaning/values.rs',('''/// Reads a size.
''','''/// Reads a date.
pub(crate) fn date(value: &Value, scope: &mut Scope<'_>) -> Option<Date> {
    let text = scope.plain(value)?;
    let date = quantity::date(&text);
    if date.is_none() {
        let message = format!("`{}` is not a day", shown(&text));
        let diagnostic = Diagnostic::error(codes::DATE, message)
            .label(value.span, "not a date")
            .help("write year, month and day, as in \\"2026-12-31\\"");
        scope.sink.push(diagnostic);
    }
    date
}

/// Reads a size.
'''),('use crate::buildfile::model::{Requirement, Spanned};','use crate::buildfile::model::{Date, Requirement, Spanned};'))
sub('src/buildfile/codes.rs',('''    SIZE "fbuild::buildfile::size"''','''    DATE "fbuild::buildfile::date"
    "A day cannot be read, or the calendar does not have it. Write year, month and day: `quarantine until=\\"2026-12-31\\"`."

    SIZE "fbuild::buildfile::size"'''))
