//! Patterns as nondeterministic automata over characters, to answer questions about all
//! paths that a pattern matches. [`Matcher`](super::matcher::Matcher) is the faster way to
//! match one path.
//!
//! The construction is Thompson's: a piece of the pattern becomes a few states between two
//! ends. `**` takes part of its slashes with it, so that `a/**/b` matches `a/b`.

use super::Pattern;
use super::class::Class;
use crate::path::RelPath;

/// A character, or [`INVALID`].
pub(super) type Symbol = u32;

/// The symbol of a byte that is not part of a UTF-8 character.
pub(super) const INVALID: Symbol = 0x11_0000;
/// The symbol between two names of a path.
pub(super) const SLASH: Symbol = '/' as Symbol;

/// Every symbol of a path. The surrogates between the first two ranges are not characters.
const ALL: [Range; 2] = [Range(1, 0xD7FF), Range(0xE000, INVALID)];

/// Symbols from the first to the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range(pub(super) Symbol, pub(super) Symbol);

/// A set of states, one bit each.
pub(super) type States = Vec<u64>;

/// An automaton for the paths that a pattern matches below some folder.
pub(super) struct Automaton {
    nodes: Vec<Node>,
    start: States,
    end: usize,
}

#[derive(Default)]
struct Node {
    /// The states that are reached without a symbol.
    skips: Vec<usize>,
    /// The symbols that lead to the state after this one in `to`.
    steps: Vec<Step>,
}

struct Step {
    symbols: Vec<Range>,
    to: usize,
}

impl Automaton {
    /// Returns the automaton for the part below `folder` of the paths that `pattern` matches;
    /// `None` if it matches nothing there.
    pub(super) fn below(pattern: &Pattern, folder: &RelPath) -> Option<Self> {
        let mut builder = Builder::default();
        let start = builder.node();
        if let Some(rest) = pattern.folder.below(folder) {
            let mut end = builder.literal(start, &symbols(rest.as_bytes()));
            if let Some(tail) = &pattern.tail {
                if !rest.is_root() {
                    end = builder.literal(end, &[SLASH]);
                }
                end = builder.tail(end, &tail.text);
            }
            return Some(builder.finish(start, end));
        }
        let rest = folder.below(&pattern.folder)?;
        let end = builder.tail(start, &pattern.tail.as_ref()?.text);
        let mut automaton = builder.finish(start, end);
        for symbol in symbols(rest.as_bytes()).into_iter().chain([SLASH]) {
            automaton.start = automaton.next(&automaton.start, symbol);
        }
        let is_dead = automaton.start.iter().all(|word| *word == 0);
        (!is_dead).then_some(automaton)
    }

    /// Returns the states before the first symbol.
    pub(super) fn start(&self) -> &States {
        &self.start
    }

    /// Returns true if the path may end in these states.
    pub(super) fn accepts(&self, states: &States) -> bool {
        contains(states, self.end)
    }

    /// Returns the states after one more symbol.
    pub(super) fn next(&self, states: &States, symbol: Symbol) -> States {
        let mut next = vec![0; states.len()];
        for step in self.steps(states) {
            let mut ranges = step.symbols.iter();
            if ranges.any(|range| (range.0..=range.1).contains(&symbol)) {
                self.add(&mut next, step.to);
            }
        }
        next
    }

    /// Returns the ranges of symbols that lead on from these states.
    pub(super) fn ranges(&self, states: &States) -> impl Iterator<Item = Range> {
        self.steps(states).flat_map(|step| &step.symbols).copied()
    }

    fn steps(&self, states: &States) -> impl Iterator<Item = &Step> {
        let in_set = |(at, _): &(usize, &Node)| contains(states, *at);
        let nodes = self.nodes.iter().enumerate().filter(in_set);
        nodes.flat_map(|(_, node)| &node.steps)
    }

    /// Adds a state to a set, with all that is reached without a symbol.
    fn add(&self, states: &mut States, state: usize) {
        let mut open = vec![state];
        while let Some(state) = open.pop() {
            if !contains(states, state) {
                states[state / 64] |= 1 << (state % 64);
                open.extend(&self.nodes[state].skips);
            }
        }
    }
}

fn contains(states: &States, state: usize) -> bool {
    states[state / 64] & 1 << (state % 64) != 0
}

/// Returns the symbols of a path.
fn symbols(path: &[u8]) -> Vec<Symbol> {
    let mut symbols = Vec::with_capacity(path.len());
    for chunk in path.utf8_chunks() {
        symbols.extend(chunk.valid().chars().map(Symbol::from));
        symbols.extend(chunk.invalid().iter().map(|_| INVALID));
    }
    symbols
}

/// Returns the bytes of a path.
pub(super) fn bytes(symbols: &[Symbol]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(symbols.len());
    for symbol in symbols {
        match char::from_u32(*symbol) {
            Some(c) => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            None => bytes.push(0xFF),
        }
    }
    bytes
}

#[derive(Default)]
struct Builder {
    nodes: Vec<Node>,
}

impl Builder {
    fn node(&mut self) -> usize {
        self.nodes.push(Node::default());
        self.nodes.len() - 1
    }

    fn finish(self, start: usize, end: usize) -> Automaton {
        let mut automaton = Automaton {
            start: vec![0; self.nodes.len().div_ceil(64)],
            nodes: self.nodes,
            end,
        };
        let mut first = std::mem::take(&mut automaton.start);
        automaton.add(&mut first, start);
        automaton.start = first;
        automaton
    }

    fn skip(&mut self, from: usize, to: usize) {
        self.nodes[from].skips.push(to);
    }

    fn step(&mut self, from: usize, symbols: Vec<Range>, to: usize) {
        self.nodes[from].steps.push(Step { symbols, to });
    }

    fn literal(&mut self, from: usize, symbols: &[Symbol]) -> usize {
        let mut at = from;
        for symbol in symbols {
            let next = self.node();
            self.step(at, vec![Range(*symbol, *symbol)], next);
            at = next;
        }
        at
    }

    /// Adds any number of `symbols` after `from`.
    fn repeat(&mut self, from: usize, symbols: Vec<Range>) -> usize {
        let at = self.node();
        self.skip(from, at);
        self.step(at, symbols, at);
        at
    }

    /// Adds the tail of a pattern, which was read before, after `from`.
    fn tail(&mut self, from: usize, text: &str) -> usize {
        let mut rest = text;
        let mut at = from;
        if let Some(after) = text.strip_prefix("**") {
            at = self.repeat(from, ALL.to_vec());
            rest = after;
            while let Some(after) = rest.strip_prefix("/**") {
                rest = after;
            }
            if let Some(after) = rest.strip_prefix('/') {
                at = self.literal(at, &[SLASH]);
                self.skip(from, at);
                rest = after;
            }
        }
        let (end, _) = self.sequence(at, rest);
        end
    }

    /// Adds pieces up to the end of the text or of an alternative, and returns the rest.
    fn sequence<'t>(&mut self, from: usize, text: &'t str) -> (usize, &'t str) {
        self.pieces(from, text, Place::Top)
    }

    fn pieces<'t>(&mut self, from: usize, text: &'t str, place: Place) -> (usize, &'t str) {
        let (mut at, mut rest) = (from, text);
        while let Some(c) = rest.chars().next() {
            let after = &rest[c.len_utf8()..];
            (at, rest) = match c {
                '/' if is_stars(after) => self.folders(at, rest),
                '*' => (self.repeat(at, name_symbols()), after),
                '?' => self.one_of(at, name_symbols(), after),
                '[' => {
                    let mut chars = after.chars();
                    let class = Class::read(&mut chars);
                    let symbols = class.map_or_else(Vec::new, |class| class_symbols(&class));
                    self.one_of(at, symbols, chars.as_str())
                }
                '{' => self.alternatives(at, after),
                ',' | '}' if place == Place::Alternative => return (at, rest),
                // An escaped slash is a slash.
                '\\' if after.starts_with('/') => (at, after),
                '\\' => {
                    let escaped = after.chars().next().unwrap_or('\\');
                    let len = escaped.len_utf8().min(after.len());
                    (self.literal(at, &[Symbol::from(escaped)]), &after[len..])
                }
                c => (self.literal(at, &[Symbol::from(c)]), after),
            };
        }
        (at, rest)
    }

    fn one_of<'t>(&mut self, from: usize, symbols: Vec<Range>, rest: &'t str) -> (usize, &'t str) {
        let to = self.node();
        self.step(from, symbols, to);
        (to, rest)
    }

    /// Adds `/**/` or, at the end, `/**`, with the slashes around the stars.
    fn folders<'t>(&mut self, from: usize, text: &'t str) -> (usize, &'t str) {
        let mut rest = text;
        while let Some(after) = rest.strip_prefix("/**").filter(|_| is_stars(&rest[1..])) {
            rest = after;
        }
        let first = self.literal(from, &[SLASH]);
        let inside = self.repeat(first, ALL.to_vec());
        match rest.strip_prefix('/') {
            None => (inside, rest),
            Some(after) => {
                let end = self.literal(inside, &[SLASH]);
                self.skip(first, end);
                (end, after)
            }
        }
    }

    /// Adds alternatives after their opening brace.
    fn alternatives<'t>(&mut self, from: usize, text: &'t str) -> (usize, &'t str) {
        let to = self.node();
        let mut rest = text;
        loop {
            let (end, after) = self.pieces(from, rest, Place::Alternative);
            self.skip(end, to);
            match after.strip_prefix(',') {
                Some(after) => rest = after,
                None => return (to, after.strip_prefix('}').unwrap_or(after)),
            }
        }
    }
}

/// Where a piece of a pattern is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Outside of braces.
    Top,
    /// Between braces.
    Alternative,
}

/// Returns true if a text starts with a whole component `**`.
fn is_stars(text: &str) -> bool {
    text.strip_prefix("**")
        .is_some_and(|after| after.is_empty() || after.starts_with('/'))
}

/// Returns the symbols of a name.
fn name_symbols() -> Vec<Range> {
    without(&[Range(SLASH, SLASH)])
}

fn class_symbols(class: &Class) -> Vec<Range> {
    let range = |(first, last): &(char, char)| Range(Symbol::from(*first), Symbol::from(*last));
    let mut named: Vec<Range> = class.ranges().iter().map(range).collect();
    if !class.is_negated() {
        named = without(&named);
    }
    named.push(Range(SLASH, SLASH));
    without(&named)
}

/// Returns all symbols except some.
fn without(except: &[Range]) -> Vec<Range> {
    let mut except = except.to_vec();
    except.sort_unstable_by_key(|range| range.0);
    let mut rest = Vec::new();
    for Range(first, last) in ALL {
        let mut next = first;
        for Range(start, end) in &except {
            if *start > next {
                rest.push(Range(next, last.min(start - 1)));
            }
            next = next.max(end + 1);
        }
        rest.push(Range(next, last));
    }
    rest.retain(|range| range.0 <= range.1);
    rest
}

#[cfg(test)]
pub(super) mod strategies {
    use proptest::prelude::*;

    use super::*;

    /// Returns patterns of all kinds of pieces.
    pub(crate) fn pattern() -> impl Strategy<Value = Pattern> {
        let piece = prop::sample::select(vec![
            "a",
            "b",
            ".",
            "*",
            "?",
            "/",
            "/",
            "/**/",
            "**/",
            "[ab]",
            "[!a]",
            "[é-ü]",
            "é",
            "{a,b/c}",
            "{,a}",
            "{a/**/b,c}",
            "\\*",
            "\\/",
            "[]-]",
            "{*,?}",
            "ab",
            "x/",
            "{[ab],{b,c}}",
        ]);
        let text = prop::collection::vec(piece, 1..7).prop_map(|pieces| pieces.concat());
        text.prop_filter_map("no pattern", |text| Pattern::new(&text).ok())
    }

    /// Returns paths that such patterns may match.
    pub(crate) fn path() -> impl Strategy<Value = RelPath> {
        let byte = prop::sample::select(b"aabbc.x//*\xff\xc3\xa9".to_vec());
        let path = prop::collection::vec(byte, 1..9);
        path.prop_filter_map("no path", |bytes| {
            RelPath::new(bytes).ok().filter(|path| !path.is_root())
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Matches a path with the automaton of a pattern below one of the path's folders.
    fn matches(pattern: &Pattern, folder: &RelPath, path: &RelPath) -> bool {
        let Some(automaton) = Automaton::below(pattern, folder) else {
            return false;
        };
        let rest = path.below(folder).unwrap();
        let start = automaton.start().clone();
        let states = symbols(rest.as_bytes()).into_iter();
        let last = states.fold(start, |states, symbol| automaton.next(&states, symbol));
        automaton.accepts(&last)
    }

    #[test]
    fn ranges_are_removed() {
        let most = |ranges: &[Range]| without(&without(ranges));
        assert_eq!(without(&ALL), []);
        assert_eq!(without(&[]), ALL);
        assert_eq!(most(&[Range(5, 7)]), [Range(5, 7)]);
        assert_eq!(most(&[Range(6, 9), Range(5, 7)]), [Range(5, 9)]);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn automaton_agrees_with_the_matcher(pattern in strategies::pattern(), path in strategies::path(), depth in 0_usize..3) {
            let mut folder = path.parent().unwrap();
            for _ in 0..depth {
                folder = folder.parent().unwrap_or_default();
            }
            prop_assert_eq!(matches(&pattern, &folder, &path), pattern.matches(&path));
        }
    }
}
