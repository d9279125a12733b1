//! Guesses a readable path that two patterns match, by filling in their wildcards. A path that
//! it returns is right; that it returns none means nothing.

use super::{Pattern, has_wildcard};
use crate::path::RelPath;

/// The text for a wildcard.
const FILLER: &str = "any-file";

/// Returns a path that both patterns match, if filling in their wildcards gives one.
pub(super) fn guess(a: &Pattern, b: &Pattern) -> Option<RelPath> {
    let path = RelPath::new(common(&segments(a), &segments(b))?).ok()?;
    (a.matches(&path) && b.matches(&path)).then_some(path)
}
/// Splits a pattern into segments, of which each except `**` matches one component.
fn segments(pattern: &Pattern) -> Vec<String> {
    let mut segments: Vec<String> = pattern.text().split('/').map(str::to_owned).collect();
    if segments.last().is_some_and(|last| last == "**") {
        // `x/**` does not match `x`: at least one component follows.
        segments.push("*".to_owned());
    }
    segments
}

/// Finds a path through both lists by visiting each pair of positions once, and returns its
/// components joined by slashes.
fn common(a: &[String], b: &[String]) -> Option<String> {
    let width = b.len() + 1;
    let mut came: Vec<Option<(usize, Option<String>)>> = vec![None; (a.len() + 1) * width];
    let mut open = vec![0];
    came[0] = Some((0, None));
    while let Some(at) = open.pop() {
        for (next, component) in steps(a, b, (at / width, at % width)) {
            let next = next.0 * width + next.1;
            if came[next].is_none() {
                came[next] = Some((at, component));
                open.push(next);
            }
        }
    }
    trace(&came)
}

type Position = (usize, usize);

/// Returns the next pairs of positions, each with the component that leads there.
fn steps(a: &[String], b: &[String], at: Position) -> Vec<(Position, Option<String>)> {
    let is_stars = |segment: &String| segment == "**";
    let mut steps = Vec::new();
    let (i, j) = at;
    let (left, right) = (a.get(i), b.get(j));
    if left.is_some_and(is_stars) {
        steps.push(((i + 1, j), None));
        if let Some(segment) = right.filter(|s| !is_stars(s)) {
            steps.push(((i, j + 1), Some(sample(segment))));
        }
    }
    if right.is_some_and(is_stars) {
        steps.push(((i, j + 1), None));
        if let Some(segment) = left.filter(|s| !is_stars(s)) {
            steps.push(((i + 1, j), Some(sample(segment))));
        }
    }
    if let (Some(left), Some(right)) = (left, right)
        && !is_stars(left)
        && !is_stars(right)
        && let Some(component) = both(left, right)
    {
        steps.push(((i + 1, j + 1), Some(component)));
    }
    steps
}

fn trace(came: &[Option<(usize, Option<String>)>]) -> Option<String> {
    let mut at = came.len() - 1;
    let mut components = Vec::new();
    while at != 0 {
        let (from, component) = came[at].as_ref()?;
        components.extend(component.as_deref());
        at = *from;
    }
    components.reverse();
    Some(components.join("/"))
}

/// Returns a component that both segments seem to match, by their literal starts and ends.
fn both(a: &str, b: &str) -> Option<String> {
    match (has_wildcard(a), has_wildcard(b)) {
        (false, _) => Some(a.to_owned()),
        (_, false) => Some(b.to_owned()),
        _ => {
            let start = longer(literal_start(a), literal_start(b), |l, s| l.starts_with(s))?;
            let end = longer(literal_end(a), literal_end(b), |l, s| l.ends_with(s))?;
            Some(format!("{start}{FILLER}{end}"))
        }
    }
}

fn longer<'a>(a: &'a str, b: &'a str, fits: fn(&str, &str) -> bool) -> Option<&'a str> {
    let (long, short) = if a.len() >= b.len() { (a, b) } else { (b, a) };
    fits(long, short).then_some(long)
}

fn literal_start(segment: &str) -> &str {
    let end = segment
        .find(['*', '?', '[', '{', '\\'])
        .unwrap_or(segment.len());
    &segment[..end]
}

fn literal_end(segment: &str) -> &str {
    let start = segment
        .rfind(['*', '?', ']', '}', '\\'])
        .map_or(0, |i| i + 1);
    &segment[start..]
}

/// Returns a component that the segment matches: the first of alternatives and classes.
fn sample(segment: &str) -> String {
    let mut out = String::new();
    let mut chars = segment.chars();
    while let Some(c) = chars.next() {
        match c {
            '*' => out.push_str(FILLER),
            '?' => out.push('x'),
            '[' => {
                out.extend(chars.next());
                chars.by_ref().find(|c| *c == ']');
            }
            '{' => {
                let inside: String = chars.by_ref().take_while(|c| *c != '}').collect();
                out.push_str(&sample(inside.split(',').next().unwrap_or("")));
            }
            '\\' => out.extend(chars.next()),
            c => out.push(c),
        }
    }
    out
}
