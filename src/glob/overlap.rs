//! Finds a path that two patterns match and some exceptions do not. It reads no files: it is
//! how a missing edge is found without running anything.
//!
//! A readable guess is tried first: the path with the fewest components, wildcards filled
//! in. If an exception matches it, or one of the patterns does not, the answer comes from a
//! breadth-first search of the product of the patterns' [automata](Automaton), which is
//! exact: a state of the product is a set of states of each automaton, so that a state that
//! was seen leads nowhere new. Only one symbol of each range that the automata distinguish
//! is followed. The number of states is exponential in theory (`**/*a???` has one for each
//! place where the `a` may be) and a few for each character of the patterns in practice;
//! the caller limits it, and then [`Overlap::Unknown`] is the answer.

use std::collections::{HashMap, VecDeque};
use std::ops::Range as Indices;

use super::Pattern;
use super::automaton::{Automaton, Range, SLASH, States, Symbol, bytes};
use super::guess::guess;
use crate::path::RelPath;

/// The most states of one search.
const MOST_STATES: usize = 20_000;

/// Two patterns, and the paths that do not count.
#[derive(Debug)]
pub struct Question<'p> {
    /// The patterns that must both match.
    pub both: [&'p Pattern; 2],
    /// The exceptions to them.
    pub except: Vec<Exception<'p>>,
}

/// The paths that `pattern` matches and none of `keep` does.
#[derive(Clone, Debug)]
pub struct Exception<'p> {
    /// The pattern.
    pub pattern: &'p Pattern,
    /// The exceptions to the exception.
    pub keep: Vec<&'p Pattern>,
}

/// The answer to a [`Question`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Overlap {
    /// There is no such path.
    Never,
    /// There are such paths; this is one.
    At(RelPath),
    /// The search was given up.
    Unknown,
}

/// Returns true if there may be a path that both patterns match.
pub fn may_overlap(a: &Pattern, b: &Pattern) -> bool {
    let question = Question {
        both: [a, b],
        except: Vec::new(),
    };
    let mut unlimited = usize::MAX;
    question.answer(&mut unlimited) != Overlap::Never
}

impl Exception<'_> {
    fn covers(&self, path: &RelPath) -> bool {
        self.pattern.matches(path) && !self.keep.iter().any(|keep| keep.matches(path))
    }
}

impl Question<'_> {
    /// Returns a path that both patterns and no exception match, if there is one. Takes the
    /// states that it visits off `effort`, and gives up when none is left.
    pub fn answer(&self, effort: &mut usize) -> Overlap {
        let [a, b] = self.both;
        for (one, other) in [(a, b), (b, a)] {
            if let Some(path) = one.as_literal() {
                let is_common = other.matches(path) && !self.excludes(path);
                return if is_common {
                    Overlap::At(path.clone())
                } else {
                    Overlap::Never
                };
            }
        }
        let folder = if a.folder().is_within(b.folder()) {
            a.folder()
        } else if b.folder().is_within(a.folder()) {
            b.folder()
        } else {
            return Overlap::Never;
        };
        if let Some(path) = guess(a, b).filter(|path| !self.excludes(path)) {
            return Overlap::At(path);
        }
        let Some(search) = Search::new(self, folder) else {
            return Overlap::Never;
        };
        match search.run(effort) {
            Found::Nothing => Overlap::Never,
            Found::GaveUp => Overlap::Unknown,
            Found::Path(rest) => match RelPath::new(bytes(&rest)) {
                Ok(rest) => Overlap::At(folder.join(&rest)),
                // The shortest path has a name that is too long, so all have.
                Err(_) => Overlap::Never,
            },
        }
    }

    fn excludes(&self, path: &RelPath) -> bool {
        self.except.iter().any(|exception| exception.covers(path))
    }
}

/// A breadth-first search of the product of automata.
struct Search {
    /// The automata of the two patterns, then those of the exceptions.
    automata: Vec<Automaton>,
    except: Vec<Excluded>,
    /// The visited states: the one before each, and the symbol that leads to it.
    visited: Vec<(usize, Symbol)>,
    numbers: HashMap<Product, usize>,
}

/// The automata of an [`Exception`].
struct Excluded {
    pattern: usize,
    keep: Indices<usize>,
}

enum Found {
    Nothing,
    Path(Vec<Symbol>),
    GaveUp,
}

/// A state of the product: the states of each automaton, and of the current name.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Product {
    states: Vec<States>,
    name: Name,
}

/// The part of the current name that decides whether it can be a name.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Name {
    /// Nothing.
    Empty,
    /// `.`
    Dot,
    /// `..`
    Dots,
    /// Anything else.
    Good,
}

const DOT: Symbol = '.' as Symbol;

impl Name {
    fn next(self, symbol: Symbol) -> Option<Self> {
        match (self, symbol) {
            (Self::Good, SLASH) => Some(Self::Empty),
            (_, SLASH) => None,
            (Self::Empty, DOT) => Some(Self::Dot),
            (Self::Dot, DOT) => Some(Self::Dots),
            _ => Some(Self::Good),
        }
    }
}

impl Search {
    /// Prepares a search below `folder`; `None` if a pattern matches nothing there.
    fn new(question: &Question<'_>, folder: &RelPath) -> Option<Self> {
        let below = |pattern: &Pattern| Automaton::below(pattern, folder);
        let both = question.both.map(below);
        let mut automata: Vec<Automaton> = both.into_iter().collect::<Option<_>>()?;
        let mut except = Vec::new();
        for exception in &question.except {
            let Some(pattern) = below(exception.pattern) else {
                continue;
            };
            automata.push(pattern);
            let first = automata.len();
            automata.extend(exception.keep.iter().filter_map(|keep| below(keep)));
            except.push(Excluded {
                pattern: first - 1,
                keep: first..automata.len(),
            });
        }
        Some(Self {
            automata,
            except,
            visited: Vec::new(),
            numbers: HashMap::new(),
        })
    }

    fn run(mut self, effort: &mut usize) -> Found {
        let first = Product {
            states: self.automata.iter().map(|a| a.start().clone()).collect(),
            name: Name::Empty,
        };
        self.visited.push((0, 0));
        self.numbers.insert(first.clone(), 0);
        let mut open = VecDeque::from([first]);
        while let Some(product) = open.pop_front() {
            let number = self.numbers.get(&product).copied().unwrap_or(0);
            for symbol in self.symbols(&product) {
                let Some(next) = self.next(&product, symbol) else {
                    continue;
                };
                if self.numbers.contains_key(&next) {
                    continue;
                }
                if *effort == 0 || self.visited.len() == MOST_STATES {
                    return Found::GaveUp;
                }
                *effort -= 1;
                self.visited.push((number, symbol));
                if self.is_found(&next) {
                    return Found::Path(self.path());
                }
                self.numbers.insert(next.clone(), self.visited.len() - 1);
                open.push_back(next);
            }
        }
        Found::Nothing
    }

    /// Returns the state after one more symbol; `None` if a pattern cannot match any more.
    fn next(&self, product: &Product, symbol: Symbol) -> Option<Product> {
        let name = product.name.next(symbol)?;
        let mut states = Vec::with_capacity(self.automata.len());
        for (automaton, current) in self.automata.iter().zip(&product.states) {
            let next = automaton.next(current, symbol);
            let is_pattern = states.len() < 2;
            if is_pattern && next.iter().all(|word| *word == 0) {
                return None;
            }
            states.push(next);
        }
        Some(Product { states, name })
    }

    fn is_found(&self, product: &Product) -> bool {
        let accepts = |i: usize| self.automata[i].accepts(&product.states[i]);
        let mut except = self.except.iter();
        product.name == Name::Good
            && accepts(0)
            && accepts(1)
            && !except.any(|e| accepts(e.pattern) && !e.keep.clone().any(accepts))
    }

    /// Returns one symbol for each range that an automaton distinguishes in a state.
    fn symbols(&self, product: &Product) -> Vec<Symbol> {
        let automata = self.automata.iter().zip(&product.states);
        let ranges = automata.flat_map(|(automaton, states)| automaton.ranges(states));
        let ranges = ranges.chain([Range(SLASH, SLASH), Range(DOT, DOT)]);
        let mut cuts: Vec<Symbol> = ranges.flat_map(|range| [range.0, range.1 + 1]).collect();
        cuts.sort_unstable();
        cuts.dedup();
        let pieces = cuts.windows(2).map(|cut| Range(cut[0], cut[1] - 1));
        let mut symbols: Vec<Symbol> = pieces.map(readable).collect();
        // Letters first, so that the path looks like one.
        symbols.sort_by_key(|symbol| !char::from_u32(*symbol).is_some_and(char::is_alphanumeric));
        symbols
    }

    /// Returns the symbols that lead to the last visited state.
    fn path(&self) -> Vec<Symbol> {
        let mut symbols = Vec::new();
        let mut at = self.visited.len() - 1;
        while at > 0 {
            let (before, symbol) = self.visited[at];
            symbols.push(symbol);
            at = before;
        }
        symbols.reverse();
        symbols
    }
}

/// Returns a symbol of a range: a letter or digit if it has one.
fn readable(range: Range) -> Symbol {
    let common = [('a', 'z'), ('A', 'Z'), ('0', '9')].map(|(first, last)| {
        let (first, last) = (Symbol::from(first), Symbol::from(last));
        (first.max(range.0), last.min(range.1))
    });
    let found = common.into_iter().find(|(first, last)| first <= last);
    found.map_or(range.0, |(first, _)| first)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::automaton::strategies;
    use super::*;

    #[track_caller]
    fn check(patterns: [&str; 2], except: &[&str], expected: Option<&str>) {
        let [a, b] = patterns.map(|text| Pattern::new(text).unwrap());
        let except: Vec<Pattern> = except.iter().map(|e| Pattern::new(e).unwrap()).collect();
        let expected = expected.map_or(Overlap::Never, |path| {
            Overlap::At(RelPath::new(path).unwrap())
        });
        for both in [[&a, &b], [&b, &a]] {
            let exception = |pattern| Exception {
                pattern,
                keep: Vec::new(),
            };
            let question = Question {
                both,
                except: except.iter().map(exception).collect(),
            };
            assert_eq!(question.answer(&mut 10_000), expected, "{question:?}");
        }
    }

    #[test]
    fn common_path_is_readable() {
        let manager = "addon/flamenco/manager";
        check(
            ["addon/**", "addon/flamenco/manager/**"],
            &[],
            Some(&format!("{manager}/any-file")),
        );
        check(
            ["pkg/api/*.gen.go", "pkg/**"],
            &[],
            Some("pkg/api/any-file.gen.go"),
        );
        check(
            ["pkg/api/a.gen.go", "pkg/**/*.go"],
            &[],
            Some("pkg/api/a.gen.go"),
        );
        check(["a/*.go", "a/x*"], &[], Some("a/xany-file.go"));
        check(["**/*.go", "web/**"], &[], Some("web/any-file.go"));
    }

    #[test]
    fn patterns_without_a_common_path_never_overlap() {
        check(["web/*.go", "web/static/**"], &[], None);
        check(["web/app/**", "web/static/**"], &[], None);
        check(["a/*.go", "a/*.rs"], &[], None);
        check(["a/b", "a/c"], &[], None);
        check(["a/*", "a/b/c"], &[], None);
        check(["x/**", "x"], &[], None);
        check(["*/[ab]", "x/{c,d}"], &[], None);
    }

    #[test]
    fn later_members_of_classes_and_alternatives_count() {
        check(["a/[xy]z", "a/?[z]"], &[], Some("a/xz"));
        check(["{a,b}/f", "b/*"], &[], Some("b/f"));
        check(["{a,x/y}/*", "x/**"], &[], Some("x/y/a"));
    }

    #[test]
    fn path_behind_an_exception_is_found() {
        check(["a/**", "a/{x,y}/f.go"], &["a/x/**"], Some("a/y/f.go"));
        check(["a/**", "a/{x,y}/f.go"], &["a/x/**", "a/y/*"], None);
        check(["src/**", "src/*.c"], &["**/any*"], Some("src/.c"));
        check(["src/**", "src/*.c"], &["**/[!a]*", "**/a*.c"], None);
    }

    #[test]
    fn kept_part_of_an_exception_is_found() {
        let patterns = ["out/**", "out/*", "out/**", "out/keep"];
        let [a, b, folder, keep] = patterns.map(|text| Pattern::new(text).unwrap());
        let question = Question {
            both: [&a, &b],
            except: vec![Exception {
                pattern: &folder,
                keep: vec![&keep],
            }],
        };
        let expected = Overlap::At(RelPath::new("out/keep").unwrap());
        assert_eq!(question.answer(&mut 10_000), expected);
    }

    #[test]
    fn path_is_a_valid_one() {
        check(["a/{.,..,b}", "a/?"], &[], Some("a/b"));
        check(["a{.,..,b}", "a?"], &["ab"], Some("a."));
        check(["[.][.]", "??"], &[], None);
        check(["{a,}{/,b}{,c}", "*"], &["a*"], Some("b"));
    }

    #[test]
    fn hostile_patterns_exhaust_the_effort() {
        let a = Pattern::new(&format!("**/*a{}x", "?".repeat(40))).unwrap();
        let b = Pattern::new(&format!("**/*a{}y", "?".repeat(40))).unwrap();
        let question = Question {
            both: [&a, &b],
            except: Vec::new(),
        };
        let mut effort = 1_000;
        assert_eq!(question.answer(&mut effort), Overlap::Unknown);
        assert_eq!(effort, 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn overlap_is_exact(
            a in strategies::pattern(),
            b in strategies::pattern(),
            except in prop::collection::vec(strategies::pattern(), 0..3),
            path in strategies::path(),
        ) {
            let exception = |pattern| Exception { pattern, keep: Vec::new() };
            let question = Question {
                both: [&a, &b],
                except: except.iter().map(exception).collect(),
            };
            let is_common = |path: &RelPath| {
                a.matches(path) && b.matches(path) && !except.iter().any(|e| e.matches(path))
            };
            match question.answer(&mut 10_000) {
                Overlap::Never => prop_assert!(!is_common(&path), "{path}"),
                Overlap::At(found) => prop_assert!(is_common(&found), "{found}"),
                Overlap::Unknown => {}
            }
        }
    }
}
