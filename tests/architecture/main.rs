//! Checks the invariants of `docs/ARCHITECTURE.md` that the sources prove: layers, permitted
//! names, sizes. Reads the sources as text and compiles nothing.
//!
//! Comments, strings and tests are blanked first, so that only code counts. If the code breaks a
//! rule, change the code, not the rule.

#![expect(clippy::expect_used, reason = "these are tests")]

mod seeded;
#[path = "../support/sources.rs"]
mod sources;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use sources::{
    Function, Source, functions, line_of, lines_with, parameters, product_lines, sources,
    without_tests, without_words, words,
};

/// The parts of `src` that may use each third-party crate: a file, or a folder and everything
/// below it.
const CRATES: &[(&str, &[&str])] = &[
    // Used in one place.
    ("clap", &["cli/"]),
    ("clap_complete", &["cli/"]),
    ("clap_mangen", &["cli/commands/generate.rs"]),
    ("ignore", &["journal/ownership/ignored.rs"]),
    ("crossbeam_channel", &["build/"]),
    ("globset", &["glob/matcher.rs"]),
    ("humansize", &["report/text.rs"]),
    ("kdl", &["buildfile/"]),
    ("polyval", &["digest/key.rs"]),
    ("sha2", &["digest/"]),
    ("strsim", &["source/mod.rs"]),
    ("xmlparser", &["test_report/junit.rs"]),
    (
        "bazel_remote_apis",
        &["remote/grpc.rs", "remote/http.rs", "remote/wire.rs"],
    ),
    ("ed25519_dalek", &["remote/trust.rs"]),
    ("prost", &["remote/http.rs", "remote/wire.rs"]),
    ("redis", &["remote/redis.rs"]),
    ("rusty_s3", &["remote/config.rs", "remote/http.rs"]),
    ("tokio", &["remote/"]),
    ("tokio_stream", &["remote/grpc.rs"]),
    ("tonic", &["remote/grpc.rs"]),
    ("ureq", &["remote/http.rs"]),
    ("url", &["remote/config.rs"]),
    ("zstd", &["remote/codec.rs", "remote/grpc.rs"]),
    // The two places that use all processors, and the two that handle signals.
    ("libc", &["exec/", "build/failure.rs"]),
    ("rayon", &["build/run/mod.rs", "action/index/hash.rs"]),
    ("signal_hook", &["exec/", "cli/signals.rs"]),
    // Vocabulary: on-disk types, errors, system calls.
    (
        "miette",
        &[
            "source/",
            "buildfile/",
            "workspace/",
            "action/",
            "event.rs",
            "store/",
            "exec/",
            "build/",
            "cli/",
            "test_report/",
        ],
    ),
    (
        "postcard",
        &[
            "action/index/",
            "buildfile/syntax/node_cache.rs",
            "journal/",
            "remote/record.rs",
            "snapshot/file.rs",
            "store/record.rs",
            "workspace/",
        ],
    ),
    (
        "rustix",
        &[
            "action/index/",
            "cancel.rs",
            "session/run_lock.rs",
            "exec/",
            "journal/ownership/ledger.rs",
            "report/terminal/",
            "checked_file.rs",
            "digest/key.rs",
            "stamp.rs",
            "store/",
            "system/",
            "user_key.rs",
            "workspace/",
        ],
    ),
    (
        "serde",
        &[
            "action/",
            "buildfile/",
            "cli/",
            "digest/",
            "event.rs",
            "glob/",
            "graph/",
            "journal/",
            "path.rs",
            "report/",
            "snapshot/",
            "source/",
            "stamp.rs",
            "test_report/",
            "workspace/",
        ],
    ),
    (
        "serde_json",
        &[
            "cli/context.rs",
            "cli/init/npm.rs",
            "journal/",
            "report/",
            "test_report/go.rs",
        ],
    ),
    (
        "tempfile",
        &[
            "build/spool.rs",
            "cli/rewrite.rs",
            "session/state.rs",
            "exec/",
            "journal/",
            "checked_file.rs",
            "remote/",
            "stamp.rs",
            "user_key.rs",
        ],
    ),
    (
        "thiserror",
        &[
            "action/",
            "buildfile/",
            "digest/",
            "exec/",
            "glob/",
            "path.rs",
            "remote/",
            "cli/commands/remote.rs",
            "journal/ownership/ledger.rs",
            "session/",
            "store/",
            "test_report/",
            "user_key.rs",
            "workspace/",
        ],
    ),
];

/// Functions of the standard library with side effects, and the files that may use them.
const WORDS: &[(&str, &[&str])] = &[
    ("Command::new", &["exec/process.rs"]),
    ("env::var", &["cli/context.rs"]),
    ("env::var_os", &["cli/context.rs"]),
    ("env::vars", &["cli/context.rs"]),
    ("env::vars_os", &["cli/context.rs"]),
    ("env::current_dir", &["cli/context.rs"]),
    ("env::set_current_dir", &[]),
    ("env::set_var", &[]),
    ("env::remove_var", &[]),
    ("env::temp_dir", &[]),
    ("env::args", &["main.rs"]),
    ("env::args_os", &["main.rs", "cli/context.rs"]),
    ("println!", &[]),
    ("eprintln!", &[]),
    ("print!", &[]),
    ("eprint!", &[]),
    ("dbg!", &[]),
    ("todo!", &[]),
    ("unimplemented!", &[]),
    ("process::exit", &[]),
];

/// Endings of type names without meaning.
const EMPTY_NAMES: &[&str] = &[
    "Manager", "Handler", "Helper", "Util", "Utils", "Engine", "Service", "Impl",
];

const MAX_LINES_OF_FILE: usize = 600;
const MAX_LINES_OF_FUNCTION: usize = 80;
const MAX_LINES_OF_MAIN: usize = 20;
const MAX_PARAMETERS: usize = 5;
const MAX_MODULES: usize = 24;

/// The table of the language may have any length.
const TABLES: &[&str] = &["buildfile/grammar.rs"];

#[test]
fn module_uses_only_modules_above_it() {
    let sources = sources();
    let layers = layers(sources);
    let (mut wrong, mut uses) = (String::new(), 0);
    for source in sources {
        let module = source.module();
        let Some(own) = module.first().and_then(|name| layers.get(*name)) else {
            continue;
        };
        for (line, used) in used_modules(source) {
            uses += 1;
            if layers.get(used.as_str()).is_some_and(|layer| layer > own) {
                let _ = writeln!(
                    wrong,
                    "src/{}:{line} uses `{used}`, declared below",
                    source.path
                );
            }
        }
    }
    assert!(uses > 200, "only {uses} uses were found");
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn nothing_is_async() {
    forbid(|source| !source.is_at(&["remote/"]), &["async", "await"]);
}

#[test]
fn side_effects_are_in_permitted_files() {
    let mut wrong = String::new();
    for source in sources() {
        for (word, _) in WORDS.iter().filter(|(_, places)| !source.is_at(places)) {
            for line in lines_with(&source.product, word) {
                let _ = writeln!(wrong, "src/{}:{line} uses `{word}`", source.path);
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn crates_are_used_in_permitted_files() {
    let table: BTreeMap<&str, &[&str]> = CRATES.iter().copied().collect();
    assert_eq!(
        dependencies(),
        table.keys().copied().map(str::to_owned).collect()
    );
    let (mut wrong, mut unused) = (String::new(), BTreeSet::new());
    for (name, places) in &table {
        unused.extend(places.iter().map(|place| (*name, *place)));
    }
    for source in sources() {
        for (name, places) in &table {
            let uses = crate_uses(&source.product, name);
            unused.retain(|(n, place)| n != name || uses.is_empty() || !source.is_at(&[place]));
            if !source.is_at(places) {
                for line in uses {
                    let _ = writeln!(wrong, "src/{}:{line} names `{name}`", source.path);
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(
        unused.is_empty(),
        "the table allows unused places: {unused:?}"
    );
}

#[test]
fn every_file_starts_with_a_comment() {
    let is_undocumented = |source: &&Source| !source.text.starts_with("//! ");
    let undocumented = sources().iter().filter(is_undocumented);
    let undocumented: Vec<&str> = undocumented.map(|source| source.path.as_str()).collect();
    assert_eq!(undocumented, [""; 0]);
}

#[test]
fn files_and_functions_are_short() {
    let mut wrong = String::new();
    for source in sources() {
        let lines = product_lines(source);
        if lines > max_lines(&source.path) {
            let _ = writeln!(wrong, "src/{}: {lines} lines without tests", source.path);
        }
        for function in functions(&source.product) {
            let Function { name, line, .. } = &function;
            let place = format!("src/{}:{line} `{name}`", source.path);
            if function.lines > MAX_LINES_OF_FUNCTION {
                let _ = writeln!(wrong, "{place} has {} lines", function.lines);
            }
            if function.parameters > MAX_PARAMETERS {
                let _ = writeln!(wrong, "{place} has {} parameters", function.parameters);
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

fn max_lines(path: &str) -> usize {
    match path {
        "main.rs" => MAX_LINES_OF_MAIN,
        _ if TABLES.contains(&path) => usize::MAX,
        _ => MAX_LINES_OF_FILE,
    }
}

#[test]
fn top_level_modules_are_few() {
    let count = layers(sources()).len();
    assert!(count <= MAX_MODULES, "{count} modules");
}

#[test]
fn no_todo_or_lint_exception_remains() {
    let mut wrong = String::new();
    for source in sources() {
        for word in ["TODO", "FIXME", "XXX"] {
            for line in lines_with(&source.text, word) {
                let _ = writeln!(wrong, "src/{}:{line} contains {word}", source.path);
            }
        }
        for attribute in ["#[allow", "#![allow", "#[ignore", "#[should_panic"] {
            for (number, line) in source.code.lines().enumerate() {
                if line.contains(attribute) {
                    let _ = writeln!(wrong, "src/{}:{} has {attribute}]", source.path, number + 1);
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn type_names_have_no_empty_endings() {
    let mut wrong = String::new();
    for source in sources() {
        let words: Vec<&str> = words(&source.product).map(|(_, word)| word).collect();
        for pair in words.windows(2) {
            let is_type = matches!(pair[0], "struct" | "enum" | "trait" | "type" | "union");
            if is_type && EMPTY_NAMES.iter().any(|end| pair[1].ends_with(end)) {
                let _ = writeln!(wrong, "src/{} declares `{}`", source.path, pair[1]);
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn plan_has_no_side_effects() {
    let world = [
        "std::fs",
        "std::io",
        "std::time",
        "std::thread",
        "std::process",
    ];
    let tools = [
        "crossbeam_channel",
        "rayon",
        "rustix",
        "Mutex",
        "RwLock",
        "Instant",
        "SystemTime",
    ];
    for words in [&world[..], &tools[..]] {
        forbid(
            |source| source.is_at(&["build/plan.rs", "build/tally.rs"]),
            words,
        );
    }
}

#[test]
fn graph_and_action_have_no_hidden_state() {
    let hidden = [
        "Cell", "RefCell", "Mutex", "RwLock", "OnceCell", "OnceLock", "LazyLock", "LazyCell",
    ];
    let places = [
        "graph/",
        "action/mod.rs",
        "action/manifest.rs",
        "action/environment.rs",
    ];
    forbid(|source| source.is_at(&places), &hidden);
}

#[test]
fn every_code_is_explained() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/errors.md");
    let page = fs::read_to_string(page).expect("the page can be read");
    let heading = |line: &str| Some(line.strip_prefix("### `")?.strip_suffix('`')?.to_owned());
    let headings: Vec<String> = page.lines().filter_map(heading).collect();
    let explained: BTreeSet<String> = headings.iter().cloned().collect();
    assert_eq!(explained.len(), headings.len(), "a code is explained twice");
    let codes = codes();
    let unexplained: Vec<_> = codes.difference(&explained).collect();
    let unused: Vec<_> = explained.difference(&codes).collect();
    assert!(
        unexplained.is_empty(),
        "not in docs/errors.md: {unexplained:?}"
    );
    assert!(
        unused.is_empty(),
        "in docs/errors.md, but not in the sources: {unused:?}"
    );
}

/// Returns every code in the sources.
fn codes() -> BTreeSet<String> {
    let mut codes = BTreeSet::new();
    for text in sources().iter().map(|source| &source.product_text) {
        for start in ["\"fbuild::", "code(fbuild::"] {
            for (at, _) in text.match_indices(start) {
                let code = &text[at + start.len() - "fbuild::".len()..];
                let is_part = |c: char| c.is_ascii_lowercase() || c == '_' || c == ':';
                codes.extend(code.find(|c| !is_part(c)).map(|end| code[..end].to_owned()));
            }
        }
    }
    assert!(codes.len() > 60, "the codes were not found");
    codes
}

/// Fails if a file selected by `concerned` uses one of `words` outside its tests.
fn forbid(concerned: impl Fn(&Source) -> bool, words: &[&str]) {
    let mut wrong = String::new();
    for source in sources().iter().filter(|source| concerned(source)) {
        for word in words {
            for line in lines_with(&source.product, word) {
                let _ = writeln!(wrong, "src/{}:{line} uses `{word}`", source.path);
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// Returns the modules of `lib.rs` with their layers.
fn layers(sources: &[Source]) -> BTreeMap<String, usize> {
    let lib = sources
        .iter()
        .find(|source| source.path == "lib.rs")
        .expect("there is a lib.rs");
    let words: Vec<&str> = words(&lib.code).map(|(_, word)| word).collect();
    let modules = words
        .windows(2)
        .filter(|pair| pair[0] == "mod")
        .map(|pair| pair[1].to_owned());
    modules.zip(1..).collect()
}

/// Returns the top-level modules that a file uses, through `crate::` or enough `super::`.
fn used_modules(source: &Source) -> Vec<(usize, String)> {
    let depth = source.module().len();
    let to_root = "super::".repeat(depth);
    let mut used = Vec::new();
    for start in ["crate::", to_root.as_str()] {
        for (at, _) in source.code.match_indices(start) {
            let before = source.code[..at].chars().next_back();
            let is_start = !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':');
            if is_start {
                let line = line_of(&source.code, at);
                let names = first_names(&source.code[at + start.len()..]);
                used.extend(names.into_iter().map(|name| (line, name)));
            }
        }
    }
    used
}

/// Returns the first name of each path of a `use`: a single one, or those between braces.
fn first_names(rest: &str) -> Vec<String> {
    let Some(list) = rest.trim_start().strip_prefix('{') else {
        return words(rest)
            .next()
            .map(|(_, word)| word.to_owned())
            .into_iter()
            .collect();
    };
    let (mut depth, mut names, mut expected) = (1, Vec::new(), true);
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 1 => break,
            '}' => depth -= 1,
            ',' if depth == 1 => expected = true,
            c if expected && c.is_alphabetic() => {
                names.extend(words(&list[at..]).next().map(|(_, word)| word.to_owned()));
                expected = false;
            }
            _ => {}
        }
    }
    names
}

/// Returns the names of the dependencies in `Cargo.toml`, as they are in code.
fn dependencies() -> BTreeSet<String> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let text = fs::read_to_string(file).expect("Cargo.toml can be read");
    let section = text
        .lines()
        .skip_while(|line| *line != "[dependencies]")
        .skip(1);
    let section = section.take_while(|line| !line.starts_with('['));
    let names = section
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once(" = "));
    names.map(|(name, _)| name.replace('-', "_")).collect()
}

/// Returns the lines that use a crate: `name::`, `use name`, or an attribute of it.
fn crate_uses(code: &str, name: &str) -> Vec<usize> {
    let is_use = |at: usize| {
        let after = &code[at + name.len()..];
        let before = code[..at].trim_end_matches(' ');
        let is_inner = before.ends_with(':') || before.ends_with('.') || before.ends_with("mod");
        !is_inner && (after.starts_with("::") || before.ends_with("use"))
    };
    let found = words(code).filter(|(at, word)| *word == name && is_use(*at));
    found.map(|(at, _)| line_of(code, at)).collect()
}

#[test]
fn blanking_leaves_only_code() {
    let text = "a('x', \"q\\\"q\", r#\"r\"r\"#, b'\\'') // c\n#[cfg(test)]\nmod tests { fn f<'a>() {} }\nb";
    let code = without_words(text);
    let gone =
        code.contains('q') || code.contains('x') || code.contains('r') && code.contains("//");
    assert!(!gone, "{code}");
    assert!(code.contains("fn f<'a>() {}"), "{code}");
    assert_eq!(without_tests(&code).split_whitespace().last(), Some("b"));
    assert_eq!(code.lines().count(), text.lines().count());
    assert_eq!(first_names("{a, b::{c, d}, e}; f"), ["a", "b", "e"]);
    assert_eq!(
        parameters("&'a mut self, (a, b): (A<C, D>, B), c: impl Fn(X) -> Y"),
        2
    );
}
