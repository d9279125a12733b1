//! Hostile and random texts: each is answered without a panic, and the guard agrees with
//! the parser about what is KDL.

use std::path::Path;

use proptest::prelude::*;

use super::sink::Sink;
use super::syntax::guard::guard;
use super::{Loaded, codes, load_text};
use crate::source::{FileId, RenderOptions, render_all};

const GOOD: &str = include_str!("../../fixtures/buildfile/everything/Buildfile.kdl");

/// Loads a text and checks that its diagnostics can be shown.
fn check(text: &str) -> Loaded {
    let loaded = load_text(text, Path::new("Buildfile.kdl"));
    for label in loaded.diagnostics.iter().flat_map(|d| &d.labels) {
        let (start, len) = (label.span.start as usize, label.span.len as usize);
        assert!(text.get(start..start + len).is_some(), "{label:?}");
    }
    let first = &loaded.diagnostics[..loaded.diagnostics.len().min(3)];
    let options = RenderOptions {
        color: false,
        width: 80,
    };
    render_all(first, &loaded.sources, options);
    loaded
}

#[test]
fn unbounded_texts_are_refused_in_linear_time() {
    let pieces = [
        "a /-{",
        "a /-",
        "/-",
        "a {\n",
        "{",
        "}",
        "a {}\n",
        "(",
        ")",
        "a(",
        "[",
        "\"",
        "#\"",
        "##\"\"\"\n",
        "\"\"\"\n",
        "\"\\u{",
        "#",
        "/*",
        "/* */",
        "//",
        "\\",
        "a\\\n",
        "=",
        "a=",
        "a=1 ",
        ";",
        "'",
        "1",
        "1.",
        "-",
        ".",
        "\u{feff}",
        "\n",
        "\r\n",
        " ",
        "a ",
        "é",
        "*/",
        "target a\n",
        "var a \"{a}\"\n",
        "target a{run \"{\"}\n",
        "env A=\"{env.A}\"\n",
    ];
    for piece in pieces {
        let text = piece.repeat((16 << 10) / piece.len());
        assert!(!check(&text).diagnostics.is_empty(), "{piece}");
    }
}

#[test]
fn deep_nesting_is_refused() {
    for depth in [65, 129, 10_000] {
        for (open, close) in [("a {", "}"), ("a {\n", "}\n"), ("/*", "*/"), ("/-a {", "}")] {
            let text = open.repeat(depth) + &close.repeat(depth);
            assert_eq!(check(&text).diagnostics[0].code, codes::NESTING, "{open}");
        }
    }
    let fits = "a {".repeat(64) + &"}".repeat(64);
    assert_eq!(check(&fits).diagnostics[0].code, codes::UNKNOWN_NODE);
}

#[test]
fn number_of_a_million_digits_is_refused() {
    let text = format!("target a {{ retries {} }}", "9".repeat(1_000_000));
    assert_eq!(check(&text).diagnostics[0].code, codes::SYNTAX);
}

#[test]
fn expansion_of_variables_is_limited() {
    let var = |i: usize| format!("var v{i} \"{}\"\n", format!("{{v{}}}", i + 1).repeat(20));
    let text: String = (0..50).map(var).collect();
    let bomb = text + "var v50 xxxxxxxx\ntarget a { run echo \"{v0}\" }";
    assert_eq!(check(&bomb).diagnostics[0].code, codes::EXPANSION);
}

#[test]
fn expansion_of_sets_is_limited() {
    let set = format!("files f {}\n", "a ".repeat(5_000));
    let target = |i| format!("target t{i} {{ inputs files=f; run x }}\n");
    let text: String = (0..1_000).map(target).collect();
    assert_eq!(check(&(set + &text)).diagnostics[0].code, codes::EXPANSION);
}

#[test]
fn long_chains_do_not_overflow_the_stack() {
    let var = |i: usize| format!("var v{i} \"{{v{}}}\"\n", i + 1);
    let template = |i: usize| format!("template t{i} from=t{}\n", i + 1);
    let env = |i: usize| format!("env A{i}=\"{{env.A{}}}\"\n", i + 1);
    let mut text: String = (0..5_000).flat_map(|i| [var(i), template(i)]).collect();
    text += "var v5000 x\ntemplate t5000 { run x }\n";
    text += "target a from=t0 { run \"{v0}\"\nenv A5000\n";
    text.extend((0..5_000).map(env));
    text += "}";
    let loaded = check(&text);
    assert_eq!(loaded.diagnostics, []);
    assert_eq!(loaded.buildfile.targets[0].commands.len(), 2);
    assert_eq!(loaded.buildfile.targets[0].env[0].name.value, "A5000");
}

/// Pieces of KDL, and some that are not.
const PIECES: &[&str] = &[
    "target",
    "a",
    "run",
    "sh",
    "env",
    "inputs",
    "outputs",
    "needs",
    "group",
    "tool",
    "1",
    "-1.5",
    "10m",
    "#true",
    "#false",
    "true",
    "\"x\"",
    "\"{v}\"",
    "\"{env.A}\"",
    "\"a\\n\"",
    "\"\\q\"",
    "#\"r\"#",
    "\"\"\"\nx\n\"\"\"",
    "=",
    "{",
    "}",
    "{",
    "}",
    ";",
    "\n",
    "\n",
    "\n",
    "/-",
    "/*c*/",
    "// c\n",
    "\\\n",
    "(",
    ")",
    "from",
    "committed",
    "\"**/x/\"",
    "é",
    "\"",
    "\r\n",
];

pub(super) fn soup() -> impl Strategy<Value = String> {
    let piece = (0..PIECES.len(), prop::bool::weighted(0.85));
    prop::collection::vec(piece, 0..40).prop_map(|pieces| {
        let word = |(i, is_spaced): &(usize, bool)| {
            let blank = if *is_spaced { " " } else { "" };
            format!("{}{blank}", PIECES[*i])
        };
        pieces.iter().map(word).collect()
    })
}

/// A valid text with random cuts and insertions.
pub(super) fn mutated() -> impl Strategy<Value = String> {
    let edit = (0.0..1.0, 0_usize..40, 0..PIECES.len());
    prop::collection::vec(edit, 1..8).prop_map(|edits| {
        let mut text = GOOD.to_owned();
        for (at, cut, piece) in edits {
            let boundary = |at: usize| (at..).find(|i| text.is_char_boundary(*i)).unwrap_or(0);
            let start = boundary((at * text.len() as f64) as usize);
            let end = boundary((start + cut).min(text.len()));
            text.replace_range(start..end, PIECES[piece]);
        }
        text
    })
}

/// Returns true if the guard finds no mistake in a text.
fn is_guarded(text: &str) -> bool {
    let mut sink = Sink::default();
    let guarded = guard(text, FileId(0), &mut sink);
    guarded.is_some() && sink.errors() == 0
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_causes_a_panic(text in "\\PC{0,200}") {
        check(&text);
    }

    #[test]
    fn no_change_of_a_good_text_causes_a_panic(text in mutated()) {
        check(&text);
    }

    #[test]
    fn parser_accepts_what_the_guard_accepts(text in soup()) {
        if is_guarded(&text) {
            let loaded = check(&text);
            let syntax = loaded.diagnostics.iter().find(|d| d.code == codes::SYNTAX);
            prop_assert!(syntax.is_none(), "{syntax:?}");
        }
    }

    #[test]
    fn guard_accepts_what_the_parser_accepts(text in soup()) {
        // With these, the parser is slower than the guard, and the guard is stricter.
        let is_plain = !text.contains(['(', '/']);
        if is_plain && kdl::KdlDocument::parse_v2(&text).is_ok() {
            prop_assert!(is_guarded(&text));
        }
    }
}
