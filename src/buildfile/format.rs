//! `fbuild fmt`: one layout for all Buildfiles. It moves blanks and line breaks and
//! nothing else: words, strings, numbers and comments stay as they are spelled, in the
//! order in which they stand. It knows tokens, not what they mean.
//!
//! Lines stay as they are broken. Four blanks for each block that is open and four more
//! where a backslash joins lines, one blank between values, none around `=`, at most
//! one empty line, none at the edges of a block, comments behind consecutive lines in
//! one column.

use std::path::Path;

use super::codes;
use super::lex::{Kind, Lexer, Token, is_newline, is_space};
use super::load_text;
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
    Ok(write(&aligned(layout.lines)))
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
    /// Whether blanks stand before the next token.
    is_spaced: bool,
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
            is_spaced: false,
            breaks: 0,
            ended: None,
        }
    }

    fn token(&mut self, token: Token) {
        match token.kind {
            Kind::Space => self.is_spaced = true,
            Kind::Newline => {
                self.end_line();
                self.breaks += 1;
            }
            kind => {
                self.place(kind, &self.text[token.start..token.end]);
                self.is_spaced = false;
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

    fn place(&mut self, kind: Kind, text: &str) {
        let Some(last) = self.last else {
            self.begin_line(kind);
            self.line.code.push_str(text.trim_end_matches(is_space));
            return;
        };
        if kind == Kind::LineComment {
            self.line.comment = Some(text.trim_end_matches(is_space).to_owned());
            return;
        }
        if self.has_blank(last, kind) {
            self.line.code.push(' ');
        }
        self.line.code.push_str(text);
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

    /// Tells whether a blank stands between two tokens of a line.
    fn has_blank(&self, last: Kind, next: Kind) -> bool {
        match (last, next) {
            (_, Kind::Semicolon) | (Kind::Open, Kind::Close) => false,
            (Kind::BlockComment, _) | (_, Kind::BlockComment) => true,
            (_, Kind::Equals) | (Kind::Equals, _) => false,
            (Kind::SlashDash, _) => self.is_spaced,
            _ => true,
        }
    }

    fn end_line(&mut self) {
        if let Some(last) = self.last.take() {
            self.ended = Some(last);
            self.lines.push(std::mem::take(&mut self.line));
        }
        self.is_spaced = false;
    }
}

/// Puts the comments behind consecutive lines of one block into one column.
fn aligned(mut lines: Vec<Line>) -> Vec<Line> {
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
    lines
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

    use super::super::guard::guard;
    use super::super::hostile;
    use super::super::sink::Sink;
    use super::*;
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
            "a 1    // one\nbb 22  // two\n\nc  // three\n// alone\nd /*x*/ 1 /- 2 /-{ y }\n/-e {\n    f\n}\n",
        );
        check("a { // x\n// y\n}", "a {  // x\n    // y\n}\n");
        check("a /* b\n  c */ d", "a /* b\n  c */ d\n");
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
    }
}
