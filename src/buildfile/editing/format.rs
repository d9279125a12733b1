//! `fbuild fmt`: one layout for all Buildfiles. It moves blanks and line breaks and
//! nothing else: words, strings, numbers and comments stay as they are spelled, in the
//! order in which they stand. It knows tokens, not what they mean.
//!
//! Lines stay as they are broken, as in gofmt. Blanks have no influence on the result: four for
//! each block that is open and four more where a backslash joins lines, one between values,
//! none around `=` and after `/-`, at most one empty line, none at the edges of a block,
//! comments behind consecutive lines in one column.

use std::path::Path;

use crate::buildfile::codes;
use crate::buildfile::load_text;
use crate::buildfile::syntax::lex::{Kind, Lexer, Token, is_newline, is_space};
use crate::source::Diagnostic;

/// The blanks for each block that is open.
const INDENT: usize = 4;
/// The least blanks before a comment behind something else.
const GAP: usize = 2;

/// Returns `text` in the one layout, or why it is not KDL.
pub fn format(text: &str) -> Result<String, Vec<Diagnostic>> {
    let mut mistakes = load_text(text, Path::new("Buildfile.kdl")).diagnostics;
    let of_text = [codes::SYNTAX, codes::NESTING, codes::CHARACTER];
    mistakes.retain(|d| of_text.contains(&d.code.as_str()));
    if !mistakes.is_empty() {
        return Err(mistakes);
    }
    let text = text.replace("\r\n", "\n");
    let mut layout = Layout::new(&text);
    for token in Lexer::new(&text) {
        layout.token(token);
    }
    layout.end_line();
    align_comments(&mut layout.lines);
    Ok(write(&layout.lines))
}

/// One line of the result; more than one when a string or comment in it has several.
#[derive(Debug, Default)]
struct Line {
    indent: usize,
    /// Whether an empty line stands before it.
    is_set_off: bool,
    code: String,
    /// A comment behind the code.
    comment: Option<String>,
}

struct Layout<'t> {
    text: &'t str,
    lines: Vec<Line>,
    line: Line,
    /// How many blocks are open.
    depth: usize,
    /// The last token on this line.
    last: Option<Kind>,
    /// How many line breaks stand before the next token.
    breaks: usize,
    /// What the line before ended with.
    ended: Option<Kind>,
}

impl<'t> Layout<'t> {
    fn new(text: &'t str) -> Self {
        Self {
            text,
            lines: Vec::new(),
            line: Line::default(),
            depth: 0,
            last: None,
            breaks: 0,
            ended: None,
        }
    }

    fn token(&mut self, token: Token) {
        match token.kind {
            Kind::Space => {}
            Kind::Newline => {
                self.end_line();
                self.breaks += 1;
            }
            kind => {
                self.place(token);
                self.last = match (self.last, kind) {
                    (Some(last), Kind::LineComment) => Some(last),
                    (Some(Kind::Backslash), Kind::BlockComment) => self.last,
                    _ => Some(kind),
                };
                match kind {
                    Kind::Open => self.depth += 1,
                    Kind::Close => self.depth = self.depth.saturating_sub(1),
                    _ => {}
                }
            }
        }
    }

    fn place(&mut self, token: Token) {
        let kind = token.kind;
        let text = self.text[token.start..token.end].trim_end_matches(is_space);
        let Some(last) = self.last else {
            self.begin_line(kind);
            self.line.code.push_str(text);
            return;
        };
        if kind == Kind::LineComment {
            self.line.comment = Some(text.to_owned());
        } else {
            if has_blank(last, kind) {
                self.line.code.push(' ');
            }
            self.line.code.push_str(text);
        }
    }

    /// Settles what stands before the first token of a line.
    fn begin_line(&mut self, kind: Kind) {
        let is_joined = self.ended == Some(Kind::Backslash);
        let is_edge = kind == Kind::Close || matches!(self.ended, None | Some(Kind::Open));
        // An empty line behind a backslash is what ends the node.
        self.line.is_set_off = self.breaks > 1 && (is_joined || !is_edge);
        let is_continued = is_joined && self.breaks == 1;
        let depth = match kind {
            Kind::Close => self.depth.saturating_sub(1),
            _ => self.depth + usize::from(is_continued),
        };
        self.line.indent = depth * INDENT;
        self.breaks = 0;
    }

    fn end_line(&mut self) {
        if let Some(last) = self.last.take() {
            self.ended = Some(last);
            self.lines.push(std::mem::take(&mut self.line));
        }
    }
}

/// Returns true if a blank separates two tokens of a line.
fn has_blank(last: Kind, next: Kind) -> bool {
    match (last, next) {
        (_, Kind::Semicolon) | (Kind::Open, Kind::Close) => false,
        (Kind::BlockComment, _) | (_, Kind::BlockComment) => true,
        (_, Kind::Equals) | (Kind::Equals | Kind::SlashDash, _) => false,
        _ => true,
    }
}

/// Puts the comments behind consecutive lines of one block into one column.
fn align_comments(lines: &mut [Line]) {
    let is_grouped = |a: &Line, b: &Line| {
        a.comment.is_some() && b.comment.is_some() && a.indent == b.indent && !b.is_set_off
    };
    for group in lines.chunk_by_mut(is_grouped) {
        let column = group.iter().map(width).max().unwrap_or(0) + GAP;
        for line in group {
            if let Some(comment) = line.comment.take() {
                let blanks = column - width(line);
                line.code.extend(std::iter::repeat_n(' ', blanks));
                line.code.push_str(&comment);
            }
        }
    }
}

/// Returns the column in which the code of a line ends.
fn width(line: &Line) -> usize {
    match line.code.rsplit_once(is_newline) {
        Some((_, last)) => last.chars().count(),
        None => line.indent + line.code.chars().count(),
    }
}

fn write(lines: &[Line]) -> String {
    let mut out = String::new();
    for line in lines {
        if line.is_set_off {
            out.push('\n');
        }
        out.extend(std::iter::repeat_n(' ', line.indent));
        out.push_str(&line.code);
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::buildfile::hostile;
    use crate::buildfile::sink::Sink;
    use crate::buildfile::syntax::guard::guard;
    use crate::source::FileId;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(format(text).unwrap(), expected);
        assert_eq!(format(expected).unwrap(), expected);
    }

    #[test]
    fn blanks_are_set_and_nothing_else_is_changed() {
        check(
            "\n\n  target   a from = b{\n\n\n\trun  x\t0x1F   \"a  b\" ;  run y\n\n\n\n needs c;\n\n }\n\n\n",
            "target a from=b {\n    run x 0x1F \"a  b\"; run y\n\n    needs c;\n}\n",
        );
        check("a{}", "a {}\n");
        check("a { }\r\nb {c}\r\n", "a {}\nb { c }\n");
        check("", "");
        check("\u{feff}a", "a\n");
    }

    #[test]
    fn comments_stay_and_stand_in_one_column() {
        check(
            "a 1 // one  \nbb 22   // two\n\nc // three\n  // alone\nd /*x*/ 1 /- 2 /-{ y }\n/-e {\nf\n}\n",
            "a 1    // one\nbb 22  // two\n\nc  // three\n// alone\nd /*x*/ 1 /-2 /-{ y }\n/-e {\n    f\n}\n",
        );
        check("a { // x\n// y\n}", "a {  // x\n    // y\n}\n");
        check("a /* b\n  c */ d", "a /* b\n  c */ d\n");
    }

    #[test]
    fn blanks_between_values_make_no_columns() {
        check(
            "tool go   version=\">=1\" { probe go }\ntool node version=\">=20\"\n",
            "tool go version=\">=1\" { probe go }\ntool node version=\">=20\"\n",
        );
        check("a /-  1 /- { b }\n", "a /-1 /-{ b }\n");
    }

    #[test]
    fn joined_lines_are_indented_once_more() {
        check(
            "a {\nrun x \\\ny \\ // why\nz\nb \\\n\nc\n}",
            "a {\n    run x \\\n        y \\  // why\n        z\n    b \\\n\n    c\n}\n",
        );
    }

    #[test]
    fn strings_of_several_lines_stay_as_they_are() {
        let text = "a {\n  sh \"\"\"\n      one\n\n    two\n    \"\"\" // x\n}";
        check(
            text,
            "a {\n    sh \"\"\"\n      one\n\n    two\n    \"\"\"  // x\n}\n",
        );
    }

    #[test]
    fn what_is_not_kdl_is_not_touched() {
        let mistakes = format("a {\n").unwrap_err();
        assert_eq!(mistakes[0].code, codes::SYNTAX);
        assert!(format("nonsense {\nof any kind\n}").is_ok());
    }

    /// Everything that a text says, in the order in which it says it.
    fn words(text: &str) -> Vec<String> {
        let text = text.replace("\r\n", "\n");
        let blank = |t: &Token| matches!(t.kind, Kind::Space | Kind::Newline);
        let words = Lexer::new(&text).filter(|t| !blank(t));
        words
            .map(|t| text[t.start..t.end].trim_end().to_owned())
            .collect()
    }

    /// What the parser makes of a text, without its layout.
    fn meaning(text: &str) -> String {
        let guarded = guard(text, FileId(0), &mut Sink::default()).unwrap();
        let node = |range: &std::ops::Range<usize>| {
            let mut document = kdl::KdlDocument::parse_v2(&guarded.clean[range.clone()]).unwrap();
            document.autoformat();
            document.to_string()
        };
        guarded.nodes.iter().map(node).collect()
    }

    /// Replaces the blanks of a text by other ones, and adds some where blanks may be.
    fn reblanked(text: &str, seed: u64) -> String {
        let text = text.replace("\r\n", "\n");
        let (mut state, mut out) = (seed, String::new());
        let mut blanks = |least: usize| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let more = usize::try_from(state >> 62).unwrap_or(0);
            [" ", "\t", "  "][more % 3].repeat(least + more)
        };
        for token in Lexer::new(&text) {
            let part = &text[token.start..token.end];
            match token.kind {
                Kind::Space => out.push_str(&blanks(1)),
                Kind::Newline => {
                    out.push_str(&blanks(0));
                    out.push_str(part);
                    out.push_str(&blanks(0));
                }
                Kind::Open | Kind::Close | Kind::Semicolon => {
                    out.push_str(&blanks(0));
                    out.push_str(part);
                    out.push_str(&blanks(0));
                }
                _ => out.push_str(part),
            }
        }
        out
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn formatting_keeps_what_is_said_and_is_done_once(text in prop_oneof![hostile::soup(), hostile::mutated()]) {
            if let Ok(formatted) = format(&text) {
                prop_assert_eq!(words(&formatted), words(&text));
                prop_assert_eq!(meaning(&formatted), meaning(&text));
                prop_assert_eq!(format(&formatted).unwrap(), formatted);
            }
        }

        #[test]
        fn layout_does_not_depend_on_blanks(
            text in prop_oneof![hostile::soup(), hostile::mutated()],
            seed: u64,
        ) {
            if let (Ok(formatted), Ok(again)) = (format(&text), format(&reblanked(&text, seed))) {
                prop_assert_eq!(formatted, again);
            }
        }
    }
}
