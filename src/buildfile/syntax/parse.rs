//! From text to nodes: the guard, then the `kdl` crate piece by piece, then the
//! grammar. It never stops at the first mistake, and knows no meaning of any node.

use std::ops::Range;
use std::sync::mpsc::sync_channel;
use std::thread;

use kdl::{KdlDocument, KdlError};

use super::check::Checker;
use super::guard::{Guarded, guard};
use super::lex::{Kind, Lexer};
use super::node::Node;
use super::node_cache::NodeCache;
use crate::buildfile::codes;
use crate::buildfile::sink::Sink;
use crate::source::{Diagnostic, FileId, Span};

/// The stack of the thread that parses: enough for the deepest nesting that the guard
/// lets through, in every kind of build.
const STACK: usize = 16 << 20;

/// How much text is parsed before its trees are handed over. They take forty times the
/// text, so they are made and thrown away piece by piece, and some pieces at the same time.
const PIECE: usize = 32 << 10;

/// From which length on it is worth to remember the nodes of a text: a shorter one is
/// parsed in less than a millisecond.
const LONG: usize = 2 << 10;

/// What could be understood of a text.
#[derive(Debug, Default)]
pub(crate) struct Parsed {
    /// The nodes outside all blocks.
    pub(crate) nodes: Vec<Node>,
    /// Whether whole nodes could not be understood, and with them the names they declare.
    pub(crate) has_lost_names: bool,
}

/// Reads a text; what is wrong with it is in `sink`.
pub(crate) fn parse(text: &str, file: FileId, sink: &mut Sink, cache: &mut NodeCache) -> Parsed {
    let lost = Parsed {
        nodes: Vec::new(),
        has_lost_names: true,
    };
    let Some(guarded) = guard(text, file, sink) else {
        return lost;
    };
    let mut nothing = NodeCache::default();
    let cache = match text.len() < LONG {
        true => &mut nothing,
        false => cache,
    };
    let mut read = || read((text, file), &guarded, sink, cache);
    let on_big_stack = thread::scope(|scope| {
        let builder = thread::Builder::new().stack_size(STACK);
        builder.spawn_scoped(scope, &mut read).map(|t| t.join())
    });
    match on_big_stack {
        Ok(Ok(parsed)) => parsed,
        // No thread to be had: the guard's limits fit this stack as well.
        Err(_) => read(),
        Ok(Err(_)) => {
            let message = "the text cannot be parsed";
            let place = Span {
                file,
                start: 0,
                len: 0,
            };
            let help = "this is a mistake in fbuild; please report it with the Buildfile";
            let diagnostic = Diagnostic::error(codes::SYNTAX, message);
            sink.push(diagnostic.label(place, "somewhere in this file").help(help));
            lost
        }
    }
}

/// Reads what the guard left: the nodes that are known, and the others in pieces.
fn read(
    (text, file): (&str, FileId),
    guarded: &Guarded,
    sink: &mut Sink,
    cache: &mut NodeCache,
) -> Parsed {
    let found = find(file, guarded, cache);
    let unknown = unknown(&guarded.nodes, &found);
    let mut reader = Reader {
        text,
        guarded,
        cache,
        parsed: Parsed {
            nodes: Vec::with_capacity(guarded.nodes.len()),
            has_lost_names: guarded.has_lost_nodes,
        },
        checker: Checker::new(text, file, &guarded.damaged, sink),
        end: None,
    };
    each_piece(&guarded.clean, &unknown, |piece, documents| {
        reader.piece(piece, documents);
        reader.end.is_none()
    });
    let end = reader.end.unwrap_or(u32::MAX);
    let mut parsed = reader.parsed;
    parsed.has_lost_names |= reader.checker.has_lost_names || reader.end.is_some();
    let found = found.into_iter().flatten();
    parsed
        .nodes
        .extend(found.filter(|node| node.span.start < end));
    parsed.nodes.sort_by_key(|node| node.span.start);
    parsed
}

/// Returns, for each node that the guard left, what is known of it.
fn find(file: FileId, guarded: &Guarded, cache: &mut NodeCache) -> Vec<Option<Node>> {
    let is_damaged = |node: &Range<usize>| {
        let after = guarded.damaged.partition_point(|at| *at < node.start);
        guarded.damaged.get(after).is_some_and(|at| *at < node.end)
    };
    let nodes = guarded.nodes.iter();
    nodes
        .map(|node| match is_damaged(node) {
            true => None,
            false => cache.find(&guarded.clean[node.clone()], file, node.start),
        })
        .collect()
}

/// Divides the nodes of which nothing was found into pieces.
fn unknown<'g>(nodes: &'g [Range<usize>], found: &[Option<Node>]) -> Vec<&'g [Range<usize>]> {
    let mut unknown = Vec::new();
    let mut rest = nodes;
    for run in found.chunk_by(|a, b| a.is_some() == b.is_some()) {
        let (run_nodes, after) = rest.split_at(run.len());
        rest = after;
        if run.first().is_some_and(Option::is_none) {
            unknown.extend(pieces(run_nodes));
        }
    }
    unknown
}

/// Divides nodes into as many as are parsed at once.
fn pieces(nodes: &[Range<usize>]) -> Vec<&[Range<usize>]> {
    let mut pieces = Vec::new();
    let mut rest = nodes;
    while let Some(first) = rest.first() {
        let fits = |node: &Range<usize>| node.end - first.start <= PIECE;
        let count = rest.iter().take_while(|node| fits(node)).count().max(1);
        let (piece, after) = rest.split_at(count);
        pieces.push(piece);
        rest = after;
    }
    pieces
}

type Document = Result<KdlDocument, KdlError>;

/// Parses pieces, several at a time, and hands them to `take` in their order, until that
/// returns false.
fn each_piece(
    clean: &str,
    pieces: &[&[Range<usize>]],
    mut take: impl FnMut(&[Range<usize>], Vec<Document>) -> bool,
) {
    let processors = || thread::available_parallelism().map_or(1, usize::from);
    let workers = match pieces.len() {
        0 | 1 => 0,
        several => processors().min(several),
    };
    thread::scope(|scope| {
        let work = |at: usize| {
            let (send, receive) = sync_channel(1);
            let mut own = pieces.iter().skip(at).step_by(workers);
            // Where no thread is to be had, nothing will be received.
            let builder = thread::Builder::new().stack_size(STACK);
            let _ = builder.spawn_scoped(scope, move || {
                own.try_for_each(|piece| send.send(documents(clean, piece)))
            });
            receive
        };
        let received: Vec<_> = (0..workers).map(work).collect();
        let mut received = received.iter().cycle();
        for piece in pieces {
            let parsed = received.next().and_then(|one| one.recv().ok());
            if !take(piece, parsed.unwrap_or_else(|| documents(clean, piece))) {
                break;
            }
        }
    });
}

/// Parses each node by itself: what stands around it must make no difference.
fn documents(clean: &str, piece: &[Range<usize>]) -> Vec<Document> {
    let nodes = piece.iter();
    nodes
        .map(|node| KdlDocument::parse_v2(&clean[node.clone()]))
        .collect()
}

struct Reader<'t, 's> {
    text: &'t str,
    guarded: &'t Guarded,
    cache: &'s mut NodeCache,
    parsed: Parsed,
    checker: Checker<'t, 's>,
    /// Where reading ended because there was enough to say.
    end: Option<u32>,
}

impl Reader<'_, '_> {
    fn piece(&mut self, piece: &[Range<usize>], documents: Vec<Document>) {
        for (range, document) in piece.iter().zip(documents) {
            match document {
                Ok(document) => self.node(range, &document),
                Err(error) => self.refused(range, &error),
            }
            if self.checker.sink.is_full() {
                self.end = Some(self.checker.span(range.end, range.end).start);
                return;
            }
        }
    }

    fn node(&mut self, range: &Range<usize>, document: &KdlDocument) {
        let nodes = self.checker.piece(document, range.start);
        for node in &nodes {
            let text = &self.guarded.clean[range.clone()];
            self.cache.add(text, range.start, node);
        }
        self.parsed.nodes.extend(nodes);
    }

    /// Says what the parser would not take in a node: nearly always one of its strings.
    fn refused(&mut self, node: &Range<usize>, error: &kdl::KdlError) {
        self.parsed.has_lost_names = true;
        let clean = &self.guarded.clean[node.clone()];
        let mut found = false;
        for token in Lexer::new(clean).filter(|t| matches!(t.kind, Kind::Quoted | Kind::Raw)) {
            let string = &clean[token.start..token.end];
            if KdlDocument::parse_v2(&format!("- {string}")).is_err() {
                found = true;
                self.bad_string(node.start + token.start, string);
            }
        }
        if !found {
            let what = error.diagnostics.first().and_then(|d| d.message.clone());
            let message = what.map_or("this is not KDL".to_owned(), |what| what.to_lowercase());
            let line = self.text[node.clone()].lines().next().unwrap_or("");
            let diagnostic = Diagnostic::error(codes::SYNTAX, message);
            let place = self.checker.span(node.start, node.start + line.len());
            let diagnostic = diagnostic.label(place, "in the node that begins here");
            self.checker.sink.push(diagnostic);
        }
    }

    fn bad_string(&mut self, start: usize, string: &str) {
        let quotes = string.trim_start_matches('#');
        let opening = string.len() - quotes.len();
        let (message, help) = match quotes.starts_with("\"\"\"") {
            true if string.contains('\n') => (
                "the lines of this string do not begin with the blanks that stand before its closing quotes",
                "indent every line at least as far as the closing `\"\"\"`, with the same blanks",
            ),
            true => (
                "this string could be taken for one of several lines",
                "write \"\\\"\" for a single quote",
            ),
            false => (
                "this string cannot be read",
                "look at what follows each `\\` in it",
            ),
        };
        let diagnostic = Diagnostic::error(codes::SYNTAX, message);
        let place = self.checker.span(start, start + opening + 1);
        self.checker
            .sink
            .push(diagnostic.label(place, "it begins here").help(help));
    }
}
