//! How tokens stand together: nodes, arguments, properties and blocks, followed through
//! a text without recursion. It finds every mistake of structure, and what the parser
//! must not see; it builds no tree.

use std::ops::Range;

use super::indent::Indents;
use super::lex::{Kind, Lexer, Token};
use super::mistake::{self, Mistake, span};
use crate::buildfile::codes;
use crate::buildfile::sink::Sink;
use crate::source::{Diagnostic, FileId};

/// The deepest nesting of blocks.
const DEEPEST: usize = 64;
/// The most arguments and properties of one node, and the most nodes in one block.
pub(super) const MOST_IN_NODE: usize = 65_536;

/// What was found in a text.
pub(super) struct Structure {
    /// What the parser must not see, in no order.
    pub(crate) blanks: Vec<Range<usize>>,
    /// Where each node outside all blocks stands, without what follows it on its line.
    pub(crate) nodes: Vec<Range<usize>>,
    /// Where nodes begin from which something wrong is taken away, in order.
    pub(super) damaged: Vec<usize>,
    /// Whether whole nodes are taken away.
    pub(super) has_lost_nodes: bool,
}

/// Follows the tokens of a text, and returns what can be parsed of it.
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

/// The state of the pass.
pub(super) struct Scan<'t, 's> {
    pub(crate) text: &'t str,
    file: FileId,
    pub(crate) sink: &'s mut Sink,
    /// The document, then every block that is open.
    frames: Vec<Frame>,
    /// What the parser must not see.
    pub(crate) blanks: Vec<Range<usize>>,
    nodes: Vec<Range<usize>>,
    damaged: Vec<usize>,
    /// A backslash whose line has not ended yet.
    pub(crate) backslash: Option<usize>,
    indents: Indents,
    /// Whether whole nodes had to be taken away.
    has_lost_nodes: bool,
    /// Whether the rest of the text is meaningless.
    is_lost: bool,
}

/// A block, or the document.
#[derive(Default)]
pub(super) struct Frame {
    /// Its `{`.
    open: usize,
    /// The indentation of the line that its `{` stands on.
    indent: usize,
    /// From where on it is blanked when it ends.
    blank_from: Option<usize>,
    state: State,
    /// A slash-dash before the next node.
    pub(super) dash: Option<usize>,
    node: Node,
    /// How many nodes it has.
    count: usize,
}

/// Where in a block the pass is.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum State {
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
pub(crate) struct Node {
    start: usize,
    pub(crate) end: usize,
    /// From where on it is blanked when it ends.
    blank_from: Option<usize>,
    /// Whether blanks stand before what comes next.
    pub(crate) is_spaced: bool,
    /// A slash-dash before the next entry or block.
    pub(super) dash: Option<usize>,
    /// The last string or number; it is a property's name when `=` follows.
    pub(crate) last: Option<Token>,
    /// The `=` whose value comes next.
    pub(super) equals: Option<usize>,
    pub(crate) entries: usize,
    /// Whether what is read was found wrong; what is glued to it is no second mistake.
    pub(super) is_spoilt: bool,
    /// Whether something was found behind its block.
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
        let label = (at, at + 2, "takes away what follows it");
        self.problem("nothing follows this `/-`", label, "delete it");
        self.blanks.push(at..at + 2);
    }

    /// Reports a token that cannot stand where it does, and takes it away.
    pub(crate) fn unexpected(&mut self, token: Token, help: &str) {
        self.report(Mistake::unexpected(self.text, token, help));
        self.blanks.push(token.start..token.end);
    }

    /// Reports what is wrong with a token in itself.
    pub(super) fn report_token(&mut self, token: Token, mistake: Mistake) {
        self.report(mistake);
        self.is_lost |= mistake::is_fatal(token.kind);
    }

    pub(super) fn problem(
        &mut self,
        message: &str,
        label: (usize, usize, &'static str),
        help: &str,
    ) {
        self.report(Mistake::new(message, label, help));
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
            diagnostic = diagnostic.label(at(node), "this seems to stand outside the block");
        }
        self.sink.push(diagnostic.help("add the missing `}`"));
    }
}
