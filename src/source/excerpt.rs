//! Cuts an excerpt around some ranges of a text: a few lines, and of long lines only the
//! nearby part. Lines keep their numbers and ranges their columns. It does not know the
//! meaning of the ranges.

use std::ops::Range;

use miette::{MietteError, MietteSpanContents, SourceCode, SourceSpan, SpanContents};

/// The lines kept around a range: more than are shown, because ranges near each other are
/// shown with everything between them.
const LINES: usize = 10;
/// The most bytes of a line that is kept whole.
const LONGEST: usize = 400;
/// The bytes kept around a range in a longer line.
const AROUND: usize = 100;

/// An excerpt of a text.
#[derive(Debug)]
pub(super) struct Excerpt {
    name: String,
    text: String,
    places: Vec<Place>,
}

/// A range in the whole text and in the excerpt.
#[derive(Debug)]
struct Place {
    was: Range<usize>,
    now: Range<usize>,
    /// Its column in the whole text, from 0.
    column: usize,
}

impl Excerpt {
    /// Cuts an excerpt around `places`, ranges of bytes of `text`.
    pub(super) fn new(name: String, text: &str, places: &[Range<usize>]) -> Self {
        let shown: Vec<Range<usize>> = places
            .iter()
            .map(|place| lines_around(text, place))
            .collect();
        let mut writer = Writer {
            text,
            out: String::new(),
            kept: Vec::new(),
        };
        let mut at = 0;
        for line in text.split_inclusive('\n') {
            let range = at..at + line.len();
            at = range.end;
            if shown.iter().any(|shown| shown.contains(&range.start)) {
                writer.line(range, places)
            } else {
                writer.out.extend(line.ends_with('\n').then_some('\n'))
            }
        }
        let place = |was: &Range<usize>| Place {
            was: was.clone(),
            now: writer.place(was.start)..writer.place(was.end),
            column: text
                .get(line_start(text, was.start)..was.start)
                .map_or(0, |s| s.chars().count()),
        };
        Self {
            places: places.iter().map(place).collect(),
            name,
            text: writer.out,
        }
    }

    /// Returns a range of the text as a range of the excerpt.
    pub(super) fn find(&self, was: &Range<usize>) -> Range<usize> {
        let place = self.places.iter().find(|place| place.was == *was);
        place.map_or(0..0, |place| place.now.clone())
    }
}

impl SourceCode for Excerpt {
    fn read_span<'a>(
        &'a self,
        span: &SourceSpan,
        lines_before: usize,
        lines_after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        let contents = self
            .text
            .as_str()
            .read_span(span, lines_before, lines_after)?;
        // miette counts lines from the start of the text, and so takes two ranges far apart for
        // one long snippet.
        let lines = contents.data().split_inclusive(|byte| *byte == b'\n');
        let mut places = self.places.iter();
        let place = places.find(|place| lines_before == 0 && place.now.start == span.offset());
        let column = place.map_or(contents.column(), |place| place.column);
        Ok(Box::new(MietteSpanContents::new_named(
            self.name.clone(),
            contents.data(),
            *contents.span(),
            contents.line(),
            column,
            lines.count(),
        )))
    }
}

/// Writes an excerpt, and records the parts that it kept.
struct Writer<'t> {
    text: &'t str,
    out: String,
    /// The offset of each part in the excerpt, and its range in the text; in order.
    kept: Vec<(usize, Range<usize>)>,
}

impl Writer<'_> {
    fn line(&mut self, line: Range<usize>, places: &[Range<usize>]) {
        if line.len() <= LONGEST {
            return self.keep(line);
        }
        let ends = places.iter().flat_map(|place| [place.start, place.end]);
        let inside = ends.filter(|end| line.contains(end));
        let mut near: Vec<Range<usize>> = inside
            .map(|end| end.saturating_sub(AROUND).max(line.start)..(end + AROUND).min(line.end))
            .collect();
        if near.is_empty() {
            near.push(line.start..line.start + 2 * AROUND);
        }
        near.sort_by_key(|range| range.start);
        let mut at = line.start;
        for range in near {
            let start = self.text.floor_char_boundary(range.start).max(at);
            let end = self.text.ceil_char_boundary(range.end).max(at);
            if start > at {
                self.out.push('…');
            }
            self.keep(start..end);
            at = end;
        }
        if at < line.end {
            self.out.push('…');
            self.out
                .extend(self.text[..line.end].ends_with('\n').then_some('\n'));
        }
    }

    fn keep(&mut self, range: Range<usize>) {
        if range.is_empty() {
            return;
        }
        self.kept.push((self.out.len(), range.clone()));
        self.out
            .push_str(&super::render::harmless(&self.text[range]));
    }

    /// Returns the offset in the excerpt for an offset in the text.
    fn place(&self, was: usize) -> usize {
        let after = self.kept.partition_point(|(_, range)| range.start <= was);
        match after.checked_sub(1).and_then(|at| self.kept.get(at)) {
            Some((at, range)) => at + was.min(range.end) - range.start,
            None => 0,
        }
    }
}

/// Returns the lines of a range, with some before and after it.
fn lines_around(text: &str, place: &Range<usize>) -> Range<usize> {
    let mut start = line_start(text, place.start);
    for _ in 0..LINES {
        start = line_start(text, start.saturating_sub(1));
    }
    let mut end = place.end.min(text.len());
    for _ in 0..=LINES {
        let newline = text.as_bytes()[end..]
            .iter()
            .position(|byte| *byte == b'\n');
        end = newline.map_or(text.len(), |newline| end + newline + 1);
    }
    // A range after the last line belongs to it.
    start..end.max(start + 1)
}

fn line_start(text: &str, at: usize) -> usize {
    let before = &text.as_bytes()[..at.min(text.len())];
    before
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |newline| newline + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distant_lines_are_empty_but_counted() {
        let text: String = (10..99).map(|n| format!("{n}\n")).collect();
        let place = text.find("50").unwrap();
        let two_digits = place..place + 2;
        let excerpt = Excerpt::new("x".to_owned(), &text, std::slice::from_ref(&two_digits));
        let lines: Vec<&str> = excerpt.text.lines().collect();
        assert_eq!(lines[40], "50");
        assert_eq!(
            (lines[29], lines[30], lines[50], lines[51]),
            ("", "40", "60", "")
        );
        assert_eq!(lines.len(), 89);
        assert_eq!(&excerpt.text[excerpt.find(&(place..place + 2))], "50");
    }

    #[test]
    fn long_line_is_cut_around_its_ranges() {
        let text = format!(
            "a\n{}x{}yy{}\nb",
            "ö".repeat(500),
            "-".repeat(1000),
            "=".repeat(1000)
        );
        let (x, yy) = (text.find('x').unwrap(), text.find("yy").unwrap());
        let places = [x..x + 1, yy..yy + 2];
        let excerpt = Excerpt::new("x".to_owned(), &text, &places);
        let shown = format!(
            "a\n…{}x{}…{}yy{}…\nb",
            "ö".repeat(50),
            "-".repeat(100),
            "-".repeat(100),
            "=".repeat(100)
        );
        assert_eq!(excerpt.text, shown);
        let texts = places.map(|place| &excerpt.text[excerpt.find(&place)]);
        assert_eq!(texts, ["x", "yy"]);
        assert_eq!(excerpt.places[1].column, 1501);
    }

    #[test]
    fn ranges_at_the_end_are_found() {
        for text in ["", "a", "a\n", &"z".repeat(5000)] {
            let end = text.len();
            let excerpt = Excerpt::new("x".to_owned(), text, &[end..end, 0..end]);
            assert!(excerpt.find(&(end..end)).start <= excerpt.text.len());
            let whole = excerpt.find(&(0..end));
            assert!(excerpt.text.is_char_boundary(whole.end), "{whole:?}");
        }
    }
}
