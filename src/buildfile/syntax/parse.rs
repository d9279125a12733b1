//! Parses a text into nodes: the guard, then the `kdl` crate node by node, then the check
//! against the grammar. It continues after mistakes, and knows no meaning.

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

/// The stack of the parsing thread: enough for the deepest nesting that the guard allows,
/// in every kind of build.
const STACK: usize = 16 << 20;

/// How many bytes are parsed before their trees are passed on and freed. Trees take forty
/// times the memory of the text.
const PIECE: usize = 32 << 10;

/// The least bytes of a text whose nodes are cached: a shorter one is parsed in less than
/// a millisecond.
const LONG: usize = 2 << 10;

/// The nodes of a text.
#[derive(Debug, Default)]
pub(crate) struct Parsed {
    /// The top-level nodes.
    pub(crate) nodes: Vec<Node>,
    /// Whether whole nodes could not be read, and with them the names that they declare.
    pub(crate) has_lost_names: bool,
}

/// Parses a text, and reports its mistakes to `sink`.
pub(crate) fn parse(text: &str, file: FileId, sink: &mut Sink, cache: &mut NodeCache) -> Parsed {
    let lost = Parsed {
        nodes: Vec::new(),
        has_lost_names: true,
    };
    let Some(guarded) = guard(text, file, sink) else {
        return lost;
    };
    let mut unused = NodeCache::default();
    let cache = if text.len() < LONG {
        &mut unused
    } else {
        cache
    };
    let mut read = || {
        let checker = Checker::new(text, file, &guarded.damaged, sink);
        read(file, &guarded, checker, cache)
    };
    let on_big_stack = thread::scope(|scope| {
        let builder = thread::Builder::new().stack_size(STACK);
        builder.spawn_scoped(scope, &mut read).map(|t| t.join())
    });
    match on_big_stack {
        Ok(Ok(parsed)) => parsed,
        // No thread is available: the guard's limits fit this stack as well.
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

/// Reads the guarded nodes: from the cache, or by parsing them in pieces.
fn read(
    file: FileId,
    guarded: &Guarded,
    checker: Checker<'_, '_>,
    cache: &mut NodeCache,
) -> Parsed {
    let cached = find_cached(file, guarded, cache);
    let uncached = uncached(&guarded.nodes, &cached);
    let mut reader = Reader {
        guarded,
        cache,
        parsed: Parsed {
            nodes: Vec::with_capacity(guarded.nodes.len()),
            has_lost_names: guarded.has_lost_nodes,
        },
        checker,
        end: None,
    };
    each_piece(&guarded.clean, &uncached, |piece, documents| {
        reader.piece(piece, documents);
        reader.end.is_none()
    });
    let end = reader.end.unwrap_or(u32::MAX);
    let mut parsed = reader.parsed;
    parsed.has_lost_names |= reader.checker.has_lost_names || reader.end.is_some();
    let cached = cached.into_iter().flatten();
    parsed
        .nodes
        .extend(cached.filter(|node| node.span.start < end));
    parsed.nodes.sort_by_key(|node| node.span.start);
    parsed
}

/// Looks up each undamaged node in the cache.
fn find_cached(file: FileId, guarded: &Guarded, cache: &mut NodeCache) -> Vec<Option<Node>> {
    let is_damaged = |node: &Range<usize>| {
        let after = guarded.damaged.partition_point(|at| *at < node.start);
        guarded.damaged.get(after).is_some_and(|at| *at < node.end)
    };
    let find = |node: &Range<usize>| {
        if is_damaged(node) {
            return None;
        }
        cache.find(&guarded.clean[node.clone()], file, node.start)
    };
    guarded.nodes.iter().map(find).collect()
}

/// Divides the nodes that are not cached into pieces.
fn uncached<'g>(nodes: &'g [Range<usize>], cached: &[Option<Node>]) -> Vec<&'g [Range<usize>]> {
    let mut uncached = Vec::new();
    let mut rest = nodes;
    for run in cached.chunk_by(|a, b| a.is_some() == b.is_some()) {
        let (run_nodes, after) = rest.split_at(run.len());
        rest = after;
        if run.first().is_some_and(Option::is_none) {
            uncached.extend(pieces(run_nodes));
        }
    }
    uncached
}

/// Divides nodes into pieces of at most [`PIECE`] bytes, or one node.
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

/// Parses pieces in parallel and passes them to `take` in order, until it returns false.
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
            // Without a thread, nothing is received, and the piece is parsed below.
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

/// Parses each node on its own, so that its neighbours make no difference.
fn documents(clean: &str, piece: &[Range<usize>]) -> Vec<Document> {
    let parse = |node: &Range<usize>| KdlDocument::parse_v2(&clean[node.clone()]);
    piece.iter().map(parse).collect()
}

struct Reader<'t, 's> {
    guarded: &'t Guarded,
    cache: &'s mut NodeCache,
    parsed: Parsed,
    checker: Checker<'t, 's>,
    /// Where reading stopped because there were enough diagnostics.
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

    /// Reports a node that the parser refused, usually because of one of its strings.
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
            let line = clean.lines().next().unwrap_or("");
            let place = self.checker.span(node.start, node.start + line.len());
            let diagnostic = Diagnostic::error(codes::SYNTAX, message)
                .label(place, "in the node that starts here");
            self.checker.sink.push(diagnostic);
        }
    }

    fn bad_string(&mut self, start: usize, string: &str) {
        let quotes = string.trim_start_matches('#');
        let opening = string.len() - quotes.len();
        let (message, help) = if !quotes.starts_with("\"\"\"") {
            (
                "this string cannot be read",
                "check the character after each `\\` in it",
            )
        } else if string.contains('\n') {
            (
                "the lines of this string do not start with the blanks before its closing quotes",
                "indent every line at least as far as the closing `\"\"\"`, with the same blanks",
            )
        } else {
            (
                "this string could be taken for one of several lines",
                "write \"\\\"\" for a single quote",
            )
        };
        let place = self.checker.span(start, start + opening + 1);
        let diagnostic = Diagnostic::error(codes::SYNTAX, message)
            .label(place, "it starts here")
            .help(help);
        self.checker.sink.push(diagnostic);
    }
}
