//! The grammar of the language, as one table: the nodes, their places, their values. The
//! checks, the schema, the reference and `fmt` are derived from it. It knows the shape of
//! a Buildfile, not its meaning.

/// A node of the language.
#[derive(Clone, Copy, Debug)]
pub struct NodeSpec {
    /// The kind of node.
    pub kind: Kind,
    /// Its name in the text.
    pub name: &'static str,
    /// Its meaning, in one line.
    pub doc: &'static str,
    /// Its first arguments, each required.
    pub args: &'static [ArgSpec],
    /// The arguments after those.
    pub rest: Option<RestSpec>,
    /// Its properties.
    pub props: &'static [PropSpec],
    /// The meaning of properties with any other name, if they are allowed.
    pub any_prop: Option<PropSpec>,
    /// The nodes allowed in its block.
    pub children: &'static [NodeSpec],
    /// Whether it may be given several times in one place.
    pub is_repeatable: bool,
    /// The value when it is absent.
    pub default: &'static str,
    /// An example of it.
    pub example: &'static str,
    /// The first version of fbuild that knows it.
    pub since: &'static str,
}

/// An argument.
#[derive(Clone, Copy, Debug)]
pub struct ArgSpec {
    /// Its name in the reference.
    pub what: &'static str,
    /// The type of its value.
    pub ty: Type,
}

/// The arguments after the first ones.
#[derive(Clone, Copy, Debug)]
pub struct RestSpec {
    /// The form of each.
    pub arg: ArgSpec,
    /// The least number of them.
    pub min: usize,
}

/// A property.
#[derive(Clone, Copy, Debug)]
pub struct PropSpec {
    /// Its name in the text.
    pub name: &'static str,
    /// The type of its value.
    pub ty: Type,
    /// Its meaning, in one line.
    pub doc: &'static str,
    /// The value when it is absent.
    pub default: &'static str,
}

/// The type of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// The name of a target, group, template, set, tool or lock.
    Name,
    /// The name of a new target or group, with `{NAME}` in it.
    NewName,
    /// The name of a target or group, or a pattern over names, with `{NAME}` in it.
    Reference,
    /// The name of an environment variable.
    Variable,
    /// The name of a `var`.
    VarName,
    /// Text with `{NAME}` in it.
    Text,
    /// Text with `{NAME}` in it; a number counts as its spelling.
    Value,
    /// Text with `{NAME}` and `{env.NAME}` in it; a number counts as its spelling.
    Argument,
    /// A shell script, taken as it is.
    Script,
    /// A path, taken as it is.
    Place,
    /// A path below the root.
    Path,
    /// A pattern over paths.
    Pattern,
    /// A file, a pattern, or a folder with a trailing slash.
    Output,
    /// A duration such as `10m`.
    Duration,
    /// A size such as `2 GiB`.
    Size,
    /// A version requirement such as `>=1.21`.
    Requirement,
    /// A day such as `2026-12-31`.
    Date,
    /// `#true` or `#false`.
    Flag,
    /// A whole number between these two.
    Count(u32, u32),
}

impl Type {
    /// Returns its name in messages and in the reference.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Name | Self::NewName => "a name",
            Self::Reference => "a name or pattern",
            Self::Variable => "the name of an environment variable",
            Self::VarName => "the name of a variable",
            Self::Text | Self::Value | Self::Argument => "text",
            Self::Script => "a script",
            Self::Place | Self::Path => "a path",
            Self::Pattern => "a pattern",
            Self::Output => "a path or pattern",
            Self::Duration => "a duration",
            Self::Size => "a size",
            Self::Requirement => "a version requirement",
            Self::Date => "a date",
            Self::Flag => "#true or #false",
            Self::Count(..) => "a whole number",
        }
    }

    /// Returns true if a number is allowed and read as text, as if it were quoted.
    pub const fn takes_numbers(self) -> bool {
        matches!(self, Self::Value | Self::Argument | Self::Requirement)
    }
}

/// The kind of node that a [`NodeSpec`] describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is the node of that name")]
pub enum Kind {
    Project,
    Root,
    Default,
    Cache,
    Jobs,
    Remote,
    RemoteMode,
    Upload,
    Auth,
    Sign,
    Scope,
    Shared,
    Tool,
    Probe,
    Var,
    Files,
    Except,
    Template,
    Target,
    Test,
    Group,
    Include,
    About,
    Needs,
    After,
    Inputs,
    Outputs,
    Keep,
    Env,
    Pass,
    Secret,
    Tools,
    Run,
    Sh,
    Dir,
    Timeout,
    Retries,
    Stored,
    Interactive,
    Locks,
    Trace,
    For,
    Without,
    Param,
    Report,
    Quarantine,
}

/// Makes a node without arguments or properties; the methods add them.
const fn node(kind: Kind, name: &'static str, doc: &'static str) -> NodeSpec {
    NodeSpec {
        kind,
        name,
        doc,
        args: &[],
        rest: None,
        props: &[],
        any_prop: None,
        children: &[],
        is_repeatable: false,
        default: "",
        example: "",
        since: "0.1",
    }
}

const fn prop(name: &'static str, ty: Type, doc: &'static str) -> PropSpec {
    PropSpec {
        name,
        ty,
        doc,
        default: "",
    }
}

const fn arg(what: &'static str, ty: Type) -> ArgSpec {
    ArgSpec { what, ty }
}

impl NodeSpec {
    /// Returns the first line of its example, for a hint.
    pub fn hint(&self) -> String {
        let line = self.example.lines().next().unwrap_or("");
        format!("for example: {}", line.trim_end_matches([' ', '{']))
    }

    const fn args(self, args: &'static [ArgSpec]) -> Self {
        Self { args, ..self }
    }

    const fn rest(self, min: usize, what: &'static str, ty: Type) -> Self {
        let rest = Some(RestSpec {
            arg: arg(what, ty),
            min,
        });
        Self { rest, ..self }
    }

    const fn props(self, props: &'static [PropSpec]) -> Self {
        Self { props, ..self }
    }

    const fn any_prop(self, spec: PropSpec) -> Self {
        Self {
            any_prop: Some(spec),
            ..self
        }
    }

    const fn children(self, children: &'static [NodeSpec]) -> Self {
        Self { children, ..self }
    }

    const fn repeatable(self) -> Self {
        Self {
            is_repeatable: true,
            ..self
        }
    }

    const fn default(self, default: &'static str) -> Self {
        Self { default, ..self }
    }

    const fn example(self, example: &'static str) -> Self {
        Self { example, ..self }
    }
}

impl PropSpec {
    const fn default(self, default: &'static str) -> Self {
        Self { default, ..self }
    }
}

const NAME: &[ArgSpec] = &[arg("NAME", Type::Name)];
const NEW_NAME: &[ArgSpec] = &[arg("NAME", Type::NewName)];

const FOR: NodeSpec = node(
    Kind::For,
    "for",
    "makes one target for each value: `{NAME}` stands for the value, in the target's name as well. Several make one for each combination",
)
.args(&[arg("NAME", Type::VarName)])
.rest(0, "VALUE", Type::Value)
.props(&[prop(
    "files",
    Type::Text,
    "a pattern with `{NAME}` for a part of a file's name; the values are these parts",
)])
.children(&[node(
    Kind::Without,
    "except",
    "leaves out the combinations in which each NAME has this VALUE",
)
.any_prop(prop("NAME", Type::Value, "the value of the `for` of this name"))
.repeatable()
.example("except os=windows arch=arm64")])
.repeatable()
.example("for os linux darwin windows");

const PARAM: PropSpec = prop(
    "PARAM",
    Type::Value,
    "the text of a parameter of the template",
);

const ABOUT: NodeSpec = node(
    Kind::About,
    "about",
    "describes it in one line; `fbuild list` shows it",
)
.args(&[arg("TEXT", Type::Text)])
.example("about \"the web app, bundled\"");

const NEEDS: NodeSpec = node(
    Kind::Needs,
    "needs",
    "runs after them; their outputs are inputs, by content. A need without outputs counts by its key; one without commands stands for its own needs",
)
.rest(1, "NAME", Type::Reference)
.repeatable()
.example("needs generate-go webapp \"test-*\"");

const TRACE: NodeSpec = node(
    Kind::Trace,
    "trace",
    "whether the files that commands use are compared with the declaration: `off`, `warn` or `deny`",
)
.args(&[arg("MODE", Type::Name)])
.default("that of the project, or `off`")
.example("trace warn");

const EXCEPT: NodeSpec = node(
    Kind::Except,
    "except",
    "excludes the files that match these patterns",
)
.rest(1, "PATTERN", Type::Pattern)
.repeatable()
.example("except \"**/*_test.go\"");

/// The top-level nodes.
pub static TOP: &[NodeSpec] = &[
    node(Kind::Project, "project", "the name and the settings of the whole project")
        .args(NAME)
        .children(&[
            node(Kind::Root, "root", "the folder that every path is relative to; below this file's folder")
                .args(&[arg("PATH", Type::Place)])
                .default("this file's folder")
                .example("root \"fixtures/flamenco\""),
            node(Kind::Default, "default", "the targets of `fbuild run` without names")
                .rest(1, "NAME", Type::Reference)
                .example("default build"),
            TRACE,
        ])
        .example("project flamenco {\n    default build\n}"),
    node(Kind::Cache, "cache", "the place and the limits of stored results")
        .props(&[
            prop("dir", Type::Text, "the folder, relative to the Buildfile's")
                .default(".build-cache"),
            prop("max-size", Type::Size, "the most bytes to keep").default("no limit"),
            prop("max-age", Type::Duration, "remove results unused for longer than this").default("no limit"),
        ])
        .example("cache max-size=\"2 GiB\" max-age=\"30d\""),
    node(Kind::Jobs, "jobs", "the most targets that run at once")
        .args(&[arg("N", Type::Count(1, 1024))])
        .default("the number of processors, at most 4")
        .example("jobs 4"),
    node(Kind::Remote, "remote", "a server that shares results: `file:`, `http:`, `https:`, `s3:`, `gs:`, `redis:`, `rediss:`, `grpc:` or `grpcs:`")
        .args(&[arg("URL", Type::Text)])
        .children(&[
            node(Kind::RemoteMode, "mode", "whether results are looked up there and sent there: `off`, `read`, `write` or `read-write`")
                .args(&[arg("MODE", Type::Name)])
                .default("read")
                .example("mode read-write"),
            node(Kind::Timeout, "timeout", "time limits of one exchange")
                .props(&[
                    prop("connect", Type::Duration, "until a connection is open").default("2s"),
                    prop("idle", Type::Duration, "between two pieces of data").default("10s"),
                    prop("total", Type::Duration, "for all of it").default("60s"),
                ])
                .example("timeout connect=\"2s\" idle=\"10s\" total=\"60s\""),
            node(Kind::Upload, "upload", "limits of what is sent")
                .props(&[
                    prop("max", Type::Size, "results with a larger file are not sent").default("512 MiB"),
                    prop("jobs", Type::Count(1, 64), "how many results are sent at once").default("4"),
                ])
                .example("upload max=\"512 MiB\" jobs=4"),
            node(Kind::Auth, "auth", "the environment variables that hold the credentials, or `netrc=#true` for `~/.netrc`; never the credentials themselves")
                .props(&[
                    prop("env", Type::Variable, "the variable with a bearer token"),
                    prop("user-env", Type::Variable, "the variable with a user name (S3: the access key)"),
                    prop("password-env", Type::Variable, "the variable with a password (S3: the secret key)"),
                    prop("netrc", Type::Flag, "whether to take user and password from `~/.netrc`").default("#false"),
                ])
                .default("S3 and GCS: `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`; others: none")
                .example("auth env=FBUILD_REMOTE_TOKEN"),
            node(Kind::Sign, "sign", "whose results are believed: the trusted public keys, and the variable with the private key that signs")
                .rest(0, "KEY", Type::Text)
                .props(&[
                    prop("key-env", Type::Variable, "the variable with the private key"),
                    prop("trust", Type::Text, "a public key, `ed25519:` and 64 hexadecimal digits; more follow as arguments"),
                ])
                .example("sign key-env=FBUILD_SIGNING_KEY trust=\"ed25519:3b6a27bcceb6a42d62a3a8d02a6f0d73653215771de243a63ac048a18b59da29\""),
            node(Kind::Scope, "scope", "the name under which results are written, and those that are read")
                .args(&[arg("NAME", Type::Text)])
                .props(&[prop("read", Type::Text, "the scopes that are read, separated by spaces").default("the one that is written")])
                .default("`main`")
                .example("scope \"pr-12\" read=\"main pr-12\""),
        ])
        .example("remote \"https://cache.example.com/flamenco\" {\n    auth env=FBUILD_REMOTE_TOKEN\n    sign trust=\"ed25519:3b6a27bcceb6a42d62a3a8d02a6f0d73653215771de243a63ac048a18b59da29\"\n}"),
    node(Kind::Tool, "tool", "a program on `PATH` that targets name; its version is part of their keys")
        .args(NAME)
        .props(&[prop("version", Type::Requirement, "the required version").default("any")])
        .children(&[
            node(Kind::Probe, "probe", "the command that prints its version")
                .rest(1, "ARG", Type::Text)
                .default("`NAME --version`, or the known spelling for the tool")
                .example("probe java -version"),
        ])
        .repeatable()
        .example("tool go version=\">=1.21\""),
    node(Kind::Var, "var", "a text for `{NAME}` in other strings")
        .args(&[arg("NAME", Type::VarName), arg("VALUE", Type::Value)])
        .repeatable()
        .example("var version \"3.9\""),
    node(Kind::Files, "files", "names a set of patterns, for `inputs files=NAME`")
        .args(NAME)
        .rest(1, "PATTERN", Type::Pattern)
        .children(&[EXCEPT])
        .repeatable()
        .example("files go-sources go.mod go.sum \"internal/**\" {\n    except \"**/*_test.go\"\n}"),
    node(Kind::Template, "template", "a body that targets start from with `from=`")
        .args(NAME)
        .props(&[FROM])
        .any_prop(PARAM)
        .children(BODY)
        .repeatable()
        .example("template go-binary {\n    tools go\n    env CGO_ENABLED=\"0\"\n}"),
    node(Kind::Target, "target", "one unit of work: its inputs, its commands, its outputs")
        .args(NEW_NAME)
        .props(&[FROM])
        .any_prop(PARAM)
        .children(BODY)
        .repeatable()
        .example("target worker from=go-binary {\n    inputs \"cmd/worker/**\"\n    outputs worker\n    run go build -o worker \"./cmd/worker\"\n}"),
    node(Kind::Test, "test", "a target whose success is its result; `fbuild test` runs all of them")
        .args(NEW_NAME)
        .props(&[FROM])
        .any_prop(PARAM)
        .children(&TEST_BODY)
        .repeatable()
        .example("test unit from=go {\n    inputs \"internal/**\"\n    report \"out/unit.json\"\n    sh \"go test -json ./... > out/unit.json\"\n}"),
    node(Kind::Group, "group", "a name for several targets; it runs nothing itself")
        .args(NEW_NAME)
        .children(&[ABOUT, NEEDS, FOR])
        .repeatable()
        .example("group build {\n    needs manager worker\n}"),
    node(Kind::Include, "include", "another file's nodes; its paths are relative to its own folder")
        .args(&[arg("PATH", Type::Place)])
        .repeatable()
        .example("include \"tools/Buildfile.kdl\""),
];

const FROM: PropSpec = prop(
    "from",
    Type::Name,
    "the template to start from: lists add up, single values are overridden",
);

/// The nodes of a test that a target does not have.
pub static TEST_ONLY: &[NodeSpec] = &[
    node(
        Kind::Report,
        "report",
        "outputs with the results of its cases: JUnit XML, the lines of `go test -json`, or TAP",
    )
    .rest(1, "PATH", Type::Output)
    .repeatable()
    .example("report \"out/unit.xml\""),
    node(
        Kind::Quarantine,
        "quarantine",
        "until this day, its failure does not fail `fbuild test`",
    )
    .props(&[prop("until", Type::Date, "the last day, in UTC")])
    .example("quarantine until=\"2026-12-31\""),
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
pub static BODY: &[NodeSpec] = &[
    ABOUT,
    NEEDS,
    node(
        Kind::After,
        "after",
        "runs after them and nothing else: not part of the key",
    )
    .rest(1, "NAME", Type::Reference)
    .repeatable()
    .example("after database-up"),
    FOR,
    node(
        Kind::Param,
        "param",
        "in a template: a text for `{NAME}` in it, which `from=TEMPLATE NAME=\"…\"` gives",
    )
    .args(&[arg("NAME", Type::VarName)])
    .props(&[prop("default", Type::Value, "the text if none is given")])
    .repeatable()
    .example("param cmd"),
    node(
        Kind::Inputs,
        "inputs",
        "files that decide the result; a pattern that matches nothing is an error",
    )
    .rest(0, "PATTERN", Type::Pattern)
    .props(&[
        prop("files", Type::Name, "a set of patterns to add"),
        prop("optional", Type::Flag, "whether patterns may match nothing").default("#false"),
    ])
    .children(&[EXCEPT])
    .repeatable()
    .example("inputs \"web/app/**\" {\n    except \"**/node_modules/**\"\n}"),
    node(
        Kind::Outputs,
        "outputs",
        "the files that it makes: paths, patterns, or folders (with a trailing slash), which it owns",
    )
    .rest(1, "PATH", Type::Output)
    .props(&[prop(
        "committed",
        Type::Flag,
        "whether they are generated files in version control, rewritten only where they differ",
    )
    .default("#false")])
    .children(&[node(
        Kind::Keep,
        "keep",
        "files in the owned folder that are not the target's; patterns relative to that folder",
    )
    .rest(1, "PATTERN", Type::Pattern)
    .repeatable()
    .example("keep emptyfile")])
    .repeatable()
    .example("outputs \"web/static/\" {\n    keep emptyfile\n}"),
    node(
        Kind::Env,
        "env",
        "variables that its commands see; names and values are part of the key",
    )
    .rest(0, "NAME", Type::Variable)
    .props(&[prop(
        "default",
        Type::Argument,
        "the value of the one NAME if the environment does not set it",
    )])
    .any_prop(prop(
        "NAME",
        Type::Argument,
        "sets the variable NAME to this value",
    ))
    .repeatable()
    .example("env GOOS CGO_ENABLED=\"0\"\nenv GOFLAGS default=\"-trimpath\""),
    node(
        Kind::Pass,
        "pass",
        "variables that its commands see and the key ignores",
    )
    .rest(1, "NAME", Type::Variable)
    .repeatable()
    .example("pass GOCACHE"),
    node(
        Kind::Secret,
        "secret",
        "variables that its commands see; never written anywhere, masked in output",
    )
    .rest(1, "NAME", Type::Variable)
    .repeatable()
    .example("secret DEPLOY_TOKEN"),
    node(
        Kind::Tools,
        "tools",
        "tools that it uses; their versions are part of the key",
    )
    .rest(1, "NAME", Type::Name)
    .repeatable()
    .example("tools go node"),
    node(
        Kind::Run,
        "run",
        "a command, without a shell; several run in order, until one fails",
    )
    .rest(1, "ARG", Type::Argument)
    .repeatable()
    .example("run go build -o worker \"./cmd/worker\""),
    node(
        Kind::Sh,
        "sh",
        "a script for `sh -eu`; values reach it as environment variables, nothing is pasted",
    )
    .args(&[arg("SCRIPT", Type::Script)])
    .repeatable()
    .example("sh \"npm ci && npm run build\""),
    node(Kind::Dir, "dir", "the folder that its commands run in")
        .args(&[arg("PATH", Type::Path)])
        .default("the root; in an included file, its folder")
        .example("dir \"web/app\""),
    node(Kind::Timeout, "timeout", "the time limit of one attempt")
        .args(&[arg("DURATION", Type::Duration)])
        .default("none")
        .example("timeout \"10m\""),
    node(
        Kind::Retries,
        "retries",
        "the number of attempts after a failed one",
    )
    .args(&[arg("N", Type::Count(0, 100))])
    .default("0")
    .example("retries 2"),
    node(
        Kind::Stored,
        "cache",
        "whether its results are stored; with `#false` it always runs",
    )
    .args(&[arg("FLAG", Type::Flag)])
    .default("#true")
    .example("cache #false"),
    node(
        Kind::Shared,
        "remote",
        "whether its results are looked up on the remote cache and sent there",
    )
    .args(&[arg("FLAG", Type::Flag)])
    .default("#true")
    .example("remote #false"),
    node(
        Kind::Interactive,
        "interactive",
        "whether it owns the terminal while it runs",
    )
    .args(&[arg("FLAG", Type::Flag)])
    .default("#false")
    .example("interactive #true"),
    node(
        Kind::Locks,
        "locks",
        "locks that it holds while it runs; no other target with one of them runs meanwhile",
    )
    .rest(1, "NAME", Type::Name)
    .repeatable()
    .example("locks database"),
    TRACE,
];

/// Returns the nodes allowed in the block of `parent`; `None` is the document.
pub fn allowed(parent: Option<&'static NodeSpec>) -> &'static [NodeSpec] {
    parent.map_or(TOP, |spec| spec.children)
}

/// Returns the node called `name` among `nodes`.
pub fn find(nodes: &'static [NodeSpec], name: &str) -> Option<&'static NodeSpec> {
    nodes.iter().find(|node| node.name == name)
}

/// Returns the nodes whose block allows a node called `name`; the empty name is the
/// document itself.
pub fn places(name: &str) -> Vec<&'static str> {
    let mut places = Vec::new();
    let mut open: Vec<(&'static str, &'static [NodeSpec])> = vec![("", TOP)];
    while let Some((place, nodes)) = open.pop() {
        if find(nodes, name).is_some() {
            places.push(place);
        }
        open.extend(nodes.iter().rev().map(|node| (node.name, node.children)));
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(nodes: &'static [NodeSpec]) -> Vec<&'static NodeSpec> {
        let inner = nodes.iter().flat_map(|node| all(node.children));
        nodes.iter().chain(inner).collect()
    }

    #[test]
    fn every_node_has_a_doc_line_and_an_example() {
        for node in all(TOP) {
            assert!(
                !node.doc.is_empty() && !node.doc.ends_with('.'),
                "{}",
                node.name
            );
            assert!(node.example.starts_with(node.name), "{}", node.name);
        }
    }

    #[test]
    fn names_are_unique_in_each_place() {
        for nodes in [TOP, &TEST_BODY] {
            let mut names: Vec<_> = nodes.iter().map(|node| node.name).collect();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), nodes.len());
        }
    }

    #[test]
    fn places_lists_the_parents_of_a_node() {
        assert_eq!(places("inputs"), ["template", "target", "test"]);
        assert_eq!(places("cache"), ["", "template", "target", "test"]);
        assert!(places("except").contains(&"for"));
        assert!(places("nothing").is_empty());
    }
}
