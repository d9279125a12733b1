//! What stands in front of the `kdl` crate: one linear pass over the text that finds
//! every mistake of structure and hands on only what that parser takes in its stride.
//!
//! The crate needs exponential time for nested slash-dashes, overflows the stack on deep
//! nesting and on comments, and stops at the first mistake it cannot recover from. So it
//! is given a copy of the text, of the same length, in which comments, what is
//! slash-dashed and what is wrong are blanks, and it is given that node by node.

use std::ops::Range;

use super::codes;
use super::lex::{self, Kind, Lexer, Problem, Token};
use super::sink::{Sink, shown};
use crate::source::{Diagnostic, FileId, Span, nearest};

/// The longest text that is read, in bytes.
pub(super) const MOST_BYTES: u64 = 8 << 20;
/// The deepest nesting of blocks.
pub(super) const DEEPEST: usize = 64;
/// The most arguments and properties of one node, and the most nodes in one block.
pub(super) const MOST_IN_NODE: usize = 65_536;
/// The longest number, in characters; more than any property takes.
const LONGEST_NUMBER: usize = 30;

/// A text as the guard leaves it.
#[derive(Debug)]
pub(super) struct Guarded {
    /// The text for the parser.
    pub(super) clean: String,
    /// Where each node outside all blocks stands, without what follows it on its line.
    pub(super) nodes: Vec<Range<usize>>,
    /// Where nodes begin from which something wrong was taken away, in order.
    pub(super) damaged: Vec<usize>,
    /// Whether whole nodes had to be taken away.
    pub(super) has_lost_nodes: bool,
}

/// Looks through a text and says everything that is wrong with its structure. Returns
/// `None` when what is left could not be understood, or not safely.
pub(super) fn guard(text: &str, file: FileId, sink: &mut Sink) -> Option<Guarded> {
    if has_forbidden_characters(text, file, sink) {
        return None;
    }
    let mut scan = Scan {
        text,
        file,
        sink,
        frames: vec![Frame::default()],
        blanks: Vec::new(),
        nodes: Vec::new(),
        damaged: Vec::new(),
        backslash: None,
        line: Line::default(),
        suspect: None,
        has_lost_nodes: false,
        is_lost: false,
    };
    for token in Lexer::new(text) {
        scan.token(token);
        if scan.is_lost {
            return None;
        }
    }
    scan.finish()
}

/// Reports characters that KDL forbids: they act on terminals, or hide what stands there.
fn has_forbidden_characters(text: &str, file: FileId, sink: &mut Sink) -> bool {
    let is_forbidden =
        |(at, c): &(usize, char)| lex::is_forbidden(*c) && (*at, *c) != (0, '\u{FEFF}');
    let mut found = false;
    for (at, c) in text.char_indices().filter(is_forbidden) {
        found = true;
        if sink.is_full() {
            break;
        }
        let code = format!("U+{:04X}", c as u32);
        let span = span(file, at, at + c.len_utf8());
        let message = format!("the character {code} is not allowed in a Buildfile");
        let help = format!(
            "delete it, or write it in a quoted string as `\\u{{{:X}}}`",
            c as u32
        );
        let diagnostic = Diagnostic::error(codes::CHARACTER, message);
        sink.push(diagnostic.label(span, "it cannot be seen").help(help));
    }
    found
}

fn span(file: FileId, start: usize, end: usize) -> Span {
    let narrow = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Span {
        file,
        start: narrow(start),
        len: narrow(end.saturating_sub(start)),
    }
}

/// The state of the pass.
struct Scan<'t, 's> {
    text: &'t str,
    file: FileId,
    sink: &'s mut Sink,
    /// The document, then every block that is open.
    frames: Vec<Frame>,
    /// What the parser must not see.
    blanks: Vec<Range<usize>>,
    nodes: Vec<Range<usize>>,
    damaged: Vec<usize>,
    /// A backslash whose line has not ended yet.
    backslash: Option<usize>,
    line: Line,
    /// A block that seems to lack its `}`, and the node that makes it seem so.
    suspect: Option<(usize, usize)>,
    /// Whether whole nodes had to be taken away.
    has_lost_nodes: bool,
    /// Whether the rest of the text is meaningless.
    is_lost: bool,
}

/// The line that the pass is in.
#[derive(Default)]
struct Line {
    start: usize,
    /// Its indentation in bytes, once something stands on it.
    indent: Option<usize>,
}

/// A block, or the document.
#[derive(Default)]
struct Frame {
    /// Its `{`.
    open: usize,
    /// The indentation of the line that its `{` stands on.
    indent: usize,
    /// From where on it is blanked when it ends.
    blank_from: Option<usize>,
    state: State,
    /// A slash-dash before the next node.
    dash: Option<usize>,
    node: Node,
    /// How many nodes it has.
    count: usize,
}

/// Where in a block the pass is.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum State {
    /// Between nodes.
    #[default]
    Start,
    /// Behind a node's name.
    Entries,
    /// Behind a node's block.
    After,
}

/// The node that is being read.
#[derive(Default)]
struct Node {
    start: usize,
    end: usize,
    /// From where on it is blanked when it ends.
    blank_from: Option<usize>,
    /// Whether blanks stand before what comes next.
    is_spaced: bool,
    /// A slash-dash before the next entry or block.
    dash: Option<usize>,
    /// The last string or number; it is a property's name when `=` follows.
    last: Option<Token>,
    /// The `=` whose value comes next.
    equals: Option<usize>,
    entries: usize,
    /// Whether what is read was found wrong; what is glued to it is no second mistake.
    is_spoilt: bool,
    /// Whether something was found behind its block.
    is_overrun: bool,
    is_damaged: bool,
}

impl<'t> Scan<'t, '_> {
    fn frame(&mut self) -> &mut Frame {
        let last = self.frames.len() - 1;
        &mut self.frames[last]
    }

    fn node(&mut self) -> &mut Node {
        &mut self.frame().node
    }

    fn word(&self, token: Token) -> &'t str {
        &self.text[token.start..token.end]
    }

    fn token(&mut self, token: Token) {
        self.note_line(token);
        if self.is_joining(token) {
            return;
        }
        match token.kind {
            Kind::Space => self.spaced(),
            Kind::BlockComment | Kind::LineComment => {
                self.blanks.push(token.start..token.end);
                self.spaced();
            }
            Kind::Backslash => self.backslash = Some(token.start),
            _ => match self.frame().state {
                State::Start => self.at_start(token),
                State::Entries => self.in_entries(token),
                State::After => self.after_block(token),
            },
        }
    }

    fn spaced(&mut self) {
        let node = self.node();
        node.is_spaced = true;
        node.is_spoilt = false;
    }

    fn note_line(&mut self, token: Token) {
        match token.kind {
            Kind::Newline => {
                self.line = Line {
                    start: token.end,
                    indent: None,
                }
            }
            Kind::Space => {}
            _ => {
                let indent = token.start.saturating_sub(self.line.start);
                self.line.indent.get_or_insert(indent);
            }
        }
    }

    /// Takes what stands between a backslash and the end of its line.
    fn is_joining(&mut self, token: Token) -> bool {
        let Some(at) = self.backslash else {
            return false;
        };
        match token.kind {
            Kind::Space => return true,
            Kind::BlockComment | Kind::LineComment => {
                self.blanks.push(token.start..token.end);
                return true;
            }
            Kind::Newline => {
                self.backslash = None;
                self.spaced();
                return true;
            }
            _ => {}
        }
        self.backslash = None;
        self.problem(
            "a `\\` outside a string must be the last thing on its line",
            (at, at + 1, "it joins this line and the next"),
            "put the text in quotes, and write each `\\` in it as `\\\\`",
        );
        self.blanks.push(at..at + 1);
        false
    }

    fn at_start(&mut self, token: Token) {
        match token.kind {
            Kind::SlashDash => self.dash_before_node(token),
            Kind::Word | Kind::Quoted | Kind::Raw | Kind::Bad(_) => self.begin_node(token),
            Kind::Open => self.nameless_block(token),
            Kind::Close => self.close(token),
            Kind::Semicolon | Kind::Equals | Kind::ParenOpen | Kind::ParenClose => {
                self.unexpected(token, "a node begins with its name");
            }
            _ => {}
        }
    }

    fn dash_before_node(&mut self, token: Token) {
        match self.frame().dash {
            None => self.frame().dash = Some(token.start),
            Some(_) => self.unexpected(token, "one `/-` is enough"),
        }
    }

    fn begin_node(&mut self, token: Token) {
        self.suspect_block(token);
        let dash = self.frame().dash.take();
        let frame = self.frame();
        frame.state = State::Entries;
        frame.count += 1;
        frame.node = Node {
            start: token.start,
            end: token.end,
            blank_from: dash,
            ..Node::default()
        };
        let is_inner = self.frames.len() > 1;
        if is_inner && self.frame().count > MOST_IN_NODE {
            self.too_many("nodes in one block", token);
        } else if !self.is_name(token) {
            self.node().blank_from.get_or_insert(token.start);
            self.has_lost_nodes = true;
        }
    }

    /// Remembers the first node that stands too far left for its block.
    fn suspect_block(&mut self, token: Token) {
        let is_first = self.line.indent == Some(token.start.saturating_sub(self.line.start));
        let line_start = self.line.start;
        let (depth, indent) = (self.frames.len(), self.line.indent);
        let frame = self.frame();
        let is_too_left = is_first && frame.open < line_start && indent <= Some(frame.indent);
        let found = (frame.open, token.start);
        if depth > 1 && is_too_left {
            self.suspect.get_or_insert(found);
        }
    }

    /// Checks that a token can name a node, and says so if it cannot.
    fn is_name(&mut self, token: Token) -> bool {
        match token.kind {
            Kind::Bad(problem) => self.bad_token(token, problem),
            Kind::Word if lex::is_number_like(self.word(token)) => {
                let message = format!("`{}` cannot be the name of a node", self.word(token));
                let label = (token.start, token.end, "a number stands here");
                self.problem(
                    message,
                    label,
                    "begin the line with a node's name, such as `target`",
                );
            }
            Kind::Word if is_keyword_like(self.word(token)) => self.bad_keyword(token),
            _ => return true,
        }
        false
    }

    fn nameless_block(&mut self, token: Token) {
        self.has_lost_nodes = true;
        self.problem(
            "a `{` stands where a node's name is expected",
            (token.start, token.end, "this block belongs to no node"),
            "put the `{` on the line of its node, as in `target NAME {`",
        );
        let from = self.frame().dash.take().unwrap_or(token.start);
        self.frame().node = Node {
            start: token.start,
            end: token.end,
            blank_from: Some(from),
            ..Node::default()
        };
        self.open(token, None);
    }

    fn in_entries(&mut self, token: Token) {
        match token.kind {
            Kind::Newline if self.is_between_dash_and_entry() => self.spaced(),
            Kind::Newline | Kind::Semicolon => self.end_node(),
            Kind::Open => {
                self.end_entry();
                let dash = self.node().dash.take();
                self.open(token, dash);
            }
            Kind::Close => self.close(token),
            _ if self.node().is_spoilt => self.blanks.push(token.start..token.end),
            Kind::SlashDash => self.dash_before_entry(token),
            Kind::Equals => self.equals(token),
            Kind::ParenOpen | Kind::ParenClose => {
                self.unexpected(token, "text with parentheses in it must be quoted");
            }
            _ => self.value(token),
        }
    }

    fn is_between_dash_and_entry(&mut self) -> bool {
        let node = self.node();
        node.dash.is_some() && node.last.is_none()
    }

    fn dash_before_entry(&mut self, token: Token) {
        self.end_entry();
        let node = self.node();
        node.end = token.end;
        match node.dash {
            None => node.dash = Some(token.start),
            Some(_) => self.unexpected(token, "one `/-` is enough"),
        }
    }

    fn equals(&mut self, token: Token) {
        let last = self.node().last.map(|last| self.word(last));
        let is_name = last.is_some_and(|w| !lex::is_number_like(w) && !w.starts_with("#"));
        let is_raw = self.node().last.is_some_and(|last| last.kind == Kind::Raw);
        if self.node().equals.is_some() || !(is_name || is_raw) {
            self.problem(
                "text with `=` in it must be quoted",
                (token.start, token.end, "this belongs to no NAME=VALUE"),
                "put the whole value in quotes: \"…\"",
            );
            self.blanks.push(token.start..token.end);
            return;
        }
        let node = self.node();
        node.equals = Some(token.start);
        node.end = token.end;
    }

    /// Takes a string, a number, a keyword, or what should be one.
    fn value(&mut self, token: Token) {
        let is_property = self.node().equals.is_some();
        if !is_property {
            self.end_entry();
            if !self.node().is_spaced {
                self.glued(token);
                return;
            }
        }
        let node = self.node();
        let start = node.last.map_or(token.start, |last| last.start);
        node.end = token.end;
        node.is_spaced = false;
        node.entries += 1;
        let is_too_many = node.entries > MOST_IN_NODE;
        if is_too_many {
            self.too_many("arguments and properties of one node", token);
        } else if !self.is_value(token) {
            self.blanks.push(start..token.end);
            self.node().dash = None;
            self.node().last = None;
            self.node().equals = None;
            return;
        }
        self.node().last = Some(token);
        if is_property {
            self.node().last = Some(Token { start, ..token });
            self.node().equals = None;
            self.end_entry();
        }
    }

    fn glued(&mut self, token: Token) {
        self.problem(
            "a blank is missing between two values",
            (
                token.start,
                token.end,
                "this begins where the value before it ends",
            ),
            "put a blank between them, or one pair of quotes around both",
        );
        self.blanks.push(token.start..token.end);
    }

    /// Checks that a token can be a value, and says so if it cannot.
    fn is_value(&mut self, token: Token) -> bool {
        let Kind::Word = token.kind else {
            let Kind::Bad(problem) = token.kind else {
                return true;
            };
            self.bad_token(token, problem);
            return false;
        };
        let word = self.word(token);
        if is_keyword_like(word) {
            let is_good = lex::is_keyword(word);
            if !is_good {
                self.bad_keyword(token);
            }
            return is_good;
        }
        if !lex::is_number_like(word) {
            return true;
        }
        let is_good = lex::is_number(word) && word.len() <= LONGEST_NUMBER;
        if !is_good {
            self.bad_number(token);
        }
        is_good
    }

    fn bad_number(&mut self, token: Token) {
        let word = self.word(token);
        let label = (token.start, token.end, "begins like a number");
        if word.len() > LONGEST_NUMBER {
            self.problem(
                "the number is too long",
                label,
                "put it in quotes if it is text",
            );
            return;
        }
        let message = format!("`{word}` is neither a number nor a word");
        let help = format!("put it in quotes: \"{word}\"");
        self.problem(message, label, help);
    }

    fn bad_keyword(&mut self, token: Token) {
        let word = self.word(token).to_owned();
        let sharp = format!("#{}", word.trim_start_matches('#'));
        let label = (token.start, token.end, "not a keyword of KDL");
        let help = match lex::KEYWORDS.iter().find(|k| **k == sharp) {
            Some(keyword) => format!("write `{keyword}`, or \"{word}\" if it is text"),
            None => match nearest(&sharp, lex::KEYWORDS) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("put it in quotes if it is text: \"{}\"", shown(&word)),
            },
        };
        self.problem(format!("`{}` is not a value", shown(&word)), label, help);
    }

    fn bad_token(&mut self, token: Token, problem: Problem) {
        let at = |len: usize| (token.start, (token.start + len).min(token.end));
        let labelled = |(start, end): (usize, usize), text| (start, end, text);
        match problem {
            Problem::OpenString => self.problem(
                "the string is never closed",
                labelled(at(1), "it begins here, and its line ends without a `\"`"),
                "close it with `\"`; a text of several lines stands between `\"\"\"`, each on its own line",
            ),
            Problem::OpenMultiline => self.lost(
                "the string is never closed",
                labelled(at(3), "it begins here"),
                "close it with `\"\"\"` on a line of its own",
            ),
            Problem::OpenComment => self.lost(
                "the comment is never closed",
                labelled(at(2), "it begins here"),
                "close it with `*/`",
            ),
            Problem::DeepComment => self.too_deep(token, "comments"),
            Problem::MultilineStart => self.problem(
                "a string of several lines begins on the line after `\"\"\"`",
                labelled(at(3), "nothing may follow on this line"),
                "start a new line after `\"\"\"`, or use single quotes and write each `\"` inside as `\\\"`",
            ),
            Problem::Escape(offset) => self.bad_escape(offset),
            Problem::Unquoted => self.unquoted(token),
        }
    }

    fn bad_escape(&mut self, offset: usize) {
        let next = self.text[offset + 1..].chars().next();
        let end = offset + 1 + next.map_or(0, char::len_utf8);
        let escape = shown(&self.text[offset..end]);
        let message = match next {
            Some('u') => "`\\u` needs the number of a character, as in `\\u{1F600}`".to_owned(),
            _ => format!("`{escape}` means nothing in a string"),
        };
        let label = (offset, end, "this `\\` stands alone");
        self.problem(
            message,
            label,
            "write `\\\\` for a `\\`, or use a raw string: #\"…\"#",
        );
    }

    fn unquoted(&mut self, token: Token) {
        let word = shown(self.word(token));
        let message = format!("`{word}` must be quoted");
        let label = (
            token.start,
            token.end,
            "has a character that only strings can hold",
        );
        self.problem(message, label, format!("write \"{word}\""));
    }

    fn after_block(&mut self, token: Token) {
        match token.kind {
            Kind::Newline | Kind::Semicolon => self.end_node(),
            Kind::Close => self.close(token),
            Kind::SlashDash => self.dash_before_entry(token),
            Kind::Open => {
                let dash = self.node().dash.take();
                if dash.is_none() {
                    self.has_lost_nodes = true;
                    let label = (token.start, token.end, "this would be its second");
                    self.problem(
                        "a node has only one block",
                        label,
                        "move its content into the first",
                    );
                }
                self.open(token, dash.or(Some(token.start)));
            }
            _ => self.after_its_end(token),
        }
    }

    /// Takes away what stands behind a block on its line.
    fn after_its_end(&mut self, token: Token) {
        self.has_lost_nodes = true;
        if !std::mem::replace(&mut self.node().is_overrun, true) {
            self.unexpected(
                token,
                "a node ends with its block; begin the next one on a new line",
            );
        }
        self.blanks.push(token.start..token.end);
    }

    /// Begins a block; with `blank_from` it is blanked when it ends.
    fn open(&mut self, token: Token, blank_from: Option<usize>) {
        self.frame().state = State::After;
        self.node().end = token.end;
        if self.frames.len() > DEEPEST {
            self.too_deep(token, "blocks");
            return;
        }
        let indent = self.line.indent.unwrap_or(0);
        self.frames.push(Frame {
            open: token.start,
            indent,
            blank_from,
            ..Frame::default()
        });
    }

    fn close(&mut self, token: Token) {
        self.end_node();
        if self.frames.len() == 1 {
            self.unexpected(token, "there is no block to close");
            return;
        }
        let frame = self.frames.pop();
        if let Some(from) = frame.and_then(|frame| frame.blank_from) {
            self.blanks.push(from..token.end);
        }
        let node = self.node();
        node.end = token.end;
        node.is_spaced = false;
    }

    /// Ends the argument or property that is being read.
    fn end_entry(&mut self) {
        if let Some(at) = self.node().equals.take() {
            let start = self.node().last.map_or(at, |name| name.start);
            self.problem(
                "a value is missing after `=`",
                (at, at + 1, "nothing that could be a value follows"),
                "write NAME=VALUE, and put values with special characters in quotes",
            );
            self.blanks.push(start..at + 1);
            self.node().last = None;
            self.node().dash = None;
            return;
        }
        let node = self.node();
        if let (Some(last), Some(dash)) = (node.last.take(), node.dash) {
            node.dash = None;
            self.blanks.push(dash..last.end);
        }
    }

    fn end_node(&mut self) {
        if let Some(at) = self.frame().dash.take() {
            self.lone_dash(at);
        }
        if self.frame().state == State::Start {
            return;
        }
        self.end_entry();
        if let Some(at) = self.node().dash.take() {
            self.lone_dash(at);
        }
        self.frame().state = State::Start;
        let is_top = self.frames.len() == 1;
        let node = std::mem::take(self.node());
        match node.blank_from {
            Some(from) => self.blanks.push(from..node.end),
            None if is_top => self.nodes.push(node.start..node.end),
            None => {}
        }
        if node.is_damaged {
            self.damaged.push(node.start);
        }
    }

    fn lone_dash(&mut self, at: usize) {
        let label = (at, at + 2, "takes away what follows it");
        self.problem("nothing follows this `/-`", label, "delete it");
        self.blanks.push(at..at + 2);
    }

    fn unexpected(&mut self, token: Token, help: &str) {
        let message = format!("unexpected `{}`", shown(self.word(token)));
        self.problem(message, (token.start, token.end, "not possible here"), help);
        self.blanks.push(token.start..token.end);
    }

    fn problem(
        &mut self,
        message: impl Into<String>,
        (start, end, label): (usize, usize, &str),
        help: impl Into<String>,
    ) {
        let place = span(self.file, start, end);
        let diagnostic = Diagnostic::error(codes::SYNTAX, message);
        self.sink.push(diagnostic.label(place, label).help(help));
        if self.frame().state != State::Start {
            self.node().is_damaged = true;
            self.node().is_spoilt = true;
            self.node().is_spaced = false;
        }
    }

    /// Reports what makes the rest of the text meaningless.
    fn lost(&mut self, message: &str, label: (usize, usize, &str), help: &str) {
        self.problem(message, label, help);
        self.is_lost = true;
    }

    fn too_deep(&mut self, token: Token, what: &str) {
        let message = format!("{what} are nested more than {DEEPEST} deep");
        let place = span(self.file, token.start, (token.start + 2).min(token.end));
        let diagnostic = Diagnostic::error(codes::NESTING, message);
        let help = "a Buildfile needs three levels; look for a missing `}` or `*/` before this";
        self.sink
            .push(diagnostic.label(place, "one too many").help(help));
        self.is_lost = true;
    }

    fn too_many(&mut self, what: &str, token: Token) {
        let message = format!("more than {MOST_IN_NODE} {what}");
        let place = span(self.file, token.start, token.end);
        let diagnostic = Diagnostic::error(codes::NESTING, message);
        self.sink
            .push(diagnostic.label(place, "one too many").help("split it"));
        self.is_lost = true;
    }

    fn finish(mut self) -> Option<Guarded> {
        if self.frames.len() > 1 {
            self.never_closed();
            return None;
        }
        self.end_node();
        self.damaged.sort_unstable();
        Some(Guarded {
            clean: self.blanked(),
            nodes: self.nodes,
            damaged: self.damaged,
            has_lost_nodes: self.has_lost_nodes,
        })
    }

    fn never_closed(&mut self) {
        let innermost = self.frame().open;
        let (open, node) = match self.suspect {
            Some((open, node)) if self.frames.iter().any(|f| f.open == open) => (open, Some(node)),
            _ => (innermost, None),
        };
        let first = |at: usize| self.text[at..].chars().next().map_or(0, char::len_utf8);
        let at = |start| span(self.file, start, start + first(start));
        let mut diagnostic = Diagnostic::error(codes::SYNTAX, "a block is never closed")
            .label(at(open), "this `{` has no `}`");
        if let Some(node) = node {
            diagnostic = diagnostic.label(at(node), "this seems to stand outside the block");
        }
        self.sink.push(diagnostic.help("add the missing `}`"));
    }

    /// Returns the text with blanks in place of everything that is not to be seen.
    fn blanked(&self) -> String {
        let mut ranges = self.blanks.clone();
        ranges.sort_unstable_by_key(|range| range.start);
        let mut clean = String::with_capacity(self.text.len());
        for range in ranges {
            let start = range.start.max(clean.len());
            if start < range.end {
                clean.push_str(&self.text[clean.len()..start]);
                clean.extend(std::iter::repeat_n(' ', range.end - start));
            }
        }
        clean.push_str(&self.text[clean.len()..]);
        clean
    }
}

/// Tells whether a word is meant as a keyword, with or without its `#`.
fn is_keyword_like(word: &str) -> bool {
    word.starts_with('#') || matches!(word, "true" | "false" | "null" | "inf" | "-inf" | "nan")
}
