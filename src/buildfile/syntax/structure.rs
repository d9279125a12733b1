//! Scans how tokens form nodes, arguments, properties and blocks, without recursion. It
//! reports every structural mistake and collects what the parser must not see; it builds
//! no tree.

use std::ops::Range;

use super::indent::Indents;
use super::lex::{Kind, Lexer, Token};
use super::mistake::{self, Mark, Mistake, span};
use crate::buildfile::codes;
use crate::buildfile::sink::Sink;
use crate::source::{Diagnostic, FileId};

/// The deepest nesting of blocks.
const DEEPEST: usize = 64;
/// The most arguments and properties of one node, and the most nodes in one block.
pub(super) const MOST_IN_NODE: usize = 65_536;

/// The structure of a text.
pub(super) struct Structure {
    /// The ranges to blank, in no order.
    pub(crate) blanks: Vec<Range<usize>>,
    /// The range of each top-level node, without the rest of its last line.
    pub(crate) nodes: Vec<Range<usize>>,
    /// The starts of the nodes of which a part is blanked, sorted.
    pub(super) damaged: Vec<usize>,
    /// Whether whole nodes are blanked.
    pub(super) has_lost_nodes: bool,
}

/// Scans a text; returns `None` if the rest of it is meaningless after a mistake.
pub(super) fn scan(text: &str, file: FileId, sink: &mut Sink) -> Option<Structure> {
    let mut scan = Scan {
        text,
        file,
        sink,
        frames: vec![Frame::default()],
        blanks: Vec::new(),
        nodes: Vec::new(),
        damaged: Vec::new(),
        backslash: None,
        indents: Indents::default(),
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

/// The state of the scan.
pub(super) struct Scan<'t, 's> {
    pub(crate) text: &'t str,
    file: FileId,
    pub(crate) sink: &'s mut Sink,
    /// The document, then every open block.
    frames: Vec<Frame>,
    /// The ranges to blank.
    pub(crate) blanks: Vec<Range<usize>>,
    nodes: Vec<Range<usize>>,
    damaged: Vec<usize>,
    /// A backslash whose line has not ended yet.
    pub(crate) backslash: Option<usize>,
    indents: Indents,
    /// Whether whole nodes are blanked.
    has_lost_nodes: bool,
    /// Whether the rest of the text is meaningless.
    is_lost: bool,
}

/// A block, or the document.
#[derive(Default)]
pub(super) struct Frame {
    /// The offset of its `{`.
    open: usize,
    /// The indentation of the line with its `{`.
    indent: usize,
    /// Where blanking starts once it ends.
    blank_from: Option<usize>,
    state: State,
    /// A slash-dash before the next node.
    pub(super) dash: Option<usize>,
    node: Node,
    /// The number of its nodes.
    count: usize,
}

/// The position of the scan within a block.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum State {
    /// Between nodes.
    #[default]
    Start,
    /// After a node's name.
    Entries,
    /// After a node's block.
    After,
}

/// The node that is being scanned.
#[derive(Default)]
pub(crate) struct Node {
    start: usize,
    pub(crate) end: usize,
    /// Where blanking starts once it ends.
    blank_from: Option<usize>,
    /// Whether there is a blank before the next token.
    pub(crate) is_spaced: bool,
    /// A slash-dash before the next entry or block.
    pub(super) dash: Option<usize>,
    /// The last string or number; it is a property's name when `=` follows.
    pub(crate) last: Option<Token>,
    /// The `=` whose value comes next.
    pub(super) equals: Option<usize>,
    pub(crate) entries: usize,
    /// Whether a mistake was just reported; what is glued to it is not a second one.
    pub(super) is_spoilt: bool,
    /// Whether a token after its block was reported.
    is_overrun: bool,
    is_damaged: bool,
}

impl<'t> Scan<'t, '_> {
    fn frame(&mut self) -> &mut Frame {
        let last = self.frames.len() - 1;
        &mut self.frames[last]
    }

    pub(crate) fn node(&mut self) -> &mut Node {
        &mut self.frame().node
    }

    pub(crate) fn word(&self, token: Token) -> &'t str {
        &self.text[token.start..token.end]
    }

    fn token(&mut self, token: Token) {
        self.indents.note(token);
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

    pub(super) fn spaced(&mut self) {
        let node = self.node();
        node.is_spaced = true;
        node.is_spoilt = false;
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
        let (open, indent) = (self.frame().open, self.frame().indent);
        if is_inner {
            self.indents.node(token, open, indent);
        }
        if is_inner && self.frame().count > MOST_IN_NODE {
            self.too_many("nodes in one block", token);
        } else if let Some(mistake) = mistake::of_name(self.text, token) {
            self.report_token(token, mistake);
            self.node().blank_from.get_or_insert(token.start);
            self.has_lost_nodes = true;
        }
    }

    fn nameless_block(&mut self, token: Token) {
        self.has_lost_nodes = true;
        self.problem(
            "a `{` where a node's name is expected",
            Mark::token(token, "this block belongs to no node"),
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

    fn after_block(&mut self, token: Token) {
        match token.kind {
            Kind::Newline | Kind::Semicolon => self.end_node(),
            Kind::Close => self.close(token),
            Kind::SlashDash => self.dash_before_entry(token),
            Kind::Open => {
                let dash = self.node().dash.take();
                if dash.is_none() {
                    self.has_lost_nodes = true;
                    self.problem(
                        "a node has only one block",
                        Mark::token(token, "this would be its second"),
                        "move its content into the first",
                    );
                }
                self.open(token, dash.or(Some(token.start)));
            }
            _ => self.after_its_end(token),
        }
    }

    /// Blanks a token after a block on the same line, and reports the first one.
    fn after_its_end(&mut self, token: Token) {
        self.has_lost_nodes = true;
        if !std::mem::replace(&mut self.node().is_overrun, true) {
            self.unexpected(
                token,
                "a node ends with its block; start the next one on a new line",
            );
        }
        self.blanks.push(token.start..token.end);
    }

    /// Opens a block; with `blank_from`, it is blanked once it ends.
    pub(crate) fn open(&mut self, token: Token, blank_from: Option<usize>) {
        self.frame().state = State::After;
        self.node().end = token.end;
        if self.frames.len() > DEEPEST {
            self.report(Mistake::too_deep("blocks", DEEPEST, token));
            self.is_lost = true;
            return;
        }
        let indent = self.indents.of_line();
        self.frames.push(Frame {
            open: token.start,
            indent,
            blank_from,
            ..Frame::default()
        });
    }

    pub(crate) fn close(&mut self, token: Token) {
        self.end_node();
        if self.frames.len() == 1 {
            self.unexpected(token, "there is no block to close");
            return;
        }
        let frame = self.frames.pop().unwrap_or_default();
        self.blanks
            .extend(frame.blank_from.map(|from| from..token.end));
        self.indents.close(frame.open);
        let node = self.node();
        node.end = token.end;
        node.is_spaced = false;
    }

    pub(super) fn end_node(&mut self) {
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
        let mark = Mark::new(at..at + 2, "comments out what follows it");
        self.problem("nothing follows this `/-`", mark, "delete it");
        self.blanks.push(at..at + 2);
    }

    /// Reports a token that cannot be in its place, and blanks it.
    pub(crate) fn unexpected(&mut self, token: Token, help: &str) {
        self.report(Mistake::unexpected(self.text, token, help));
        self.blanks.push(token.start..token.end);
    }

    /// Reports a mistake in a token itself.
    pub(super) fn report_token(&mut self, token: Token, mistake: Mistake) {
        self.report(mistake);
        self.is_lost |= mistake::is_fatal(token.kind);
    }

    pub(super) fn problem(&mut self, message: &str, mark: Mark, help: &str) {
        self.report(Mistake::new(message, mark, help));
    }

    fn report(&mut self, mistake: Mistake) {
        self.sink.push(mistake.diagnostic(self.file));
        if self.frame().state != State::Start {
            let node = self.node();
            node.is_damaged = true;
            node.is_spoilt = true;
            node.is_spaced = false;
        }
    }

    pub(super) fn too_many(&mut self, what: &str, token: Token) {
        let message = format!("more than {MOST_IN_NODE} {what}");
        self.report(Mistake::too_much(message, token, "split it"));
        self.is_lost = true;
    }

    fn finish(mut self) -> Option<Structure> {
        if self.frames.len() > 1 {
            self.never_closed();
            return None;
        }
        self.end_node();
        self.damaged.sort_unstable();
        Some(Structure {
            blanks: self.blanks,
            nodes: self.nodes,
            damaged: self.damaged,
            has_lost_nodes: self.has_lost_nodes,
        })
    }

    fn never_closed(&mut self) {
        let innermost = self.frame().open;
        let suspect = self.indents.suspect();
        let open = suspect.map_or(innermost, |(open, _)| open);
        let first = |at: usize| self.text[at..].chars().next().map_or(0, char::len_utf8);
        let at = |start| span(self.file, start, start + first(start));
        let mut diagnostic = Diagnostic::error(codes::SYNTAX, "a block is never closed")
            .label(at(open), "this `{` has no `}`");
        if let Some((_, node)) = suspect {
            diagnostic = diagnostic.label(at(node), "this seems to be outside the block");
        }
        self.sink.push(diagnostic.help("add the missing `}`"));
    }
}
