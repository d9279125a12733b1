//! Renders diagnostics with miette: the source line, a caret, the help. It does not choose
//! them, and prints nothing.

use std::ops::Range;

use miette::{GraphicalReportHandler, GraphicalTheme, LabeledSpan, ReportHandler, SourceCode};

use super::excerpt::Excerpt;
use super::{Diagnostic, FileId, Label, Severity, Sources};

/// The most diagnostics shown at once; the rest are counted.
const MOST_SHOWN: usize = 50;

/// The options of rendering.
#[derive(Clone, Copy, Debug)]
pub struct RenderOptions {
    /// Whether colours are used.
    pub color: bool,
    /// The width of the terminal in columns.
    pub width: usize,
}

/// Renders at most 50 diagnostics, and the number of the rest.
pub fn render_all(diagnostics: &[Diagnostic], sources: &Sources, options: RenderOptions) -> String {
    let mut out = String::new();
    for diagnostic in diagnostics.iter().take(MOST_SHOWN) {
        out.push_str(&render(diagnostic, sources, options));
        out.push('\n');
    }
    match diagnostics.len().saturating_sub(MOST_SHOWN) {
        0 => {}
        more => out.push_str(&format!("… and {more} more\n")),
    }
    out
}

/// Renders a diagnostic; labels in several files become one snippet for each file.
pub fn render(diagnostic: &Diagnostic, sources: &Sources, options: RenderOptions) -> String {
    let report = Report::new(diagnostic, sources);
    let theme = if options.color {
        GraphicalTheme::unicode()
    } else {
        GraphicalTheme::unicode_nocolor()
    };
    let handler = GraphicalReportHandler::new_themed(theme)
        .with_links(false)
        .with_width(options.width);
    format!("{:?}", Handled(&handler, &report))
}

struct Handled<'a>(&'a GraphicalReportHandler, &'a Report);

impl std::fmt::Debug for Handled<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.debug(self.1, f)
    }
}

/// A diagnostic as miette expects it: the labels in one file, the others as related reports.
#[derive(Debug)]
struct Report {
    code: Option<String>,
    severity: miette::Severity,
    message: String,
    help: Option<String>,
    source: Option<Excerpt>,
    labels: Vec<LabeledSpan>,
    related: Vec<Report>,
}

impl Report {
    fn new(diagnostic: &Diagnostic, sources: &Sources) -> Self {
        let severity = match diagnostic.severity {
            Severity::Error => miette::Severity::Error,
            Severity::Warning => miette::Severity::Warning,
        };
        let mut files: Vec<_> = diagnostic.labels.iter().map(|l| l.span.file).collect();
        files.dedup();
        let mut parts = files.into_iter().map(|file| {
            let (source, labels) = shown(diagnostic, sources, file);
            Self {
                code: None,
                severity: miette::Severity::Advice,
                message: "also here".to_owned(),
                help: None,
                source,
                labels,
                related: Vec::new(),
            }
        });
        let first = parts.next();
        let (source, labels) = first.map_or((None, Vec::new()), |p| (p.source, p.labels));
        Self {
            code: Some(diagnostic.code.clone()),
            severity,
            message: diagnostic.message.clone(),
            help: diagnostic.help.clone(),
            source,
            labels,
            related: parts.collect(),
        }
    }
}

/// Returns the excerpt of a file, and the labels in it.
fn shown(
    diagnostic: &Diagnostic,
    sources: &Sources,
    file: FileId,
) -> (Option<Excerpt>, Vec<LabeledSpan>) {
    let Some(source) = sources.get(file) else {
        return (None, Vec::new());
    };
    let here = diagnostic.labels.iter().filter(|l| l.span.file == file);
    let place = |label: &Label| {
        let start = label.span.start as usize;
        start..start + label.span.len as usize
    };
    let places: Vec<Range<usize>> = here.clone().map(place).collect();
    let excerpt = Excerpt::new(source.path.display().to_string(), &source.text, &places);
    let labels = here.map(|label| {
        let place = excerpt.find(&place(label));
        LabeledSpan::new(Some(label.text.clone()), place.start, place.len())
    });
    let labels = labels.collect();
    (Some(excerpt), labels)
}

/// Replaces characters that act on a terminal (control characters, and marks that turn the
/// writing direction) by others of the same length in bytes, so that spans still fit.
pub(super) fn harmless(text: &str) -> String {
    let replace = |c: char| match (c, c.len_utf8()) {
        ('\n' | '\r' | '\t', _) => c,
        (c, 1) if c.is_control() => '?',
        (c, 2) if c.is_control() => '\u{00B7}',
        (c, 3) if crate::path::is_escaped(c) => '\u{FFFD}',
        _ => c,
    };
    text.chars().map(replace).collect()
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Report {}

impl miette::Diagnostic for Report {
    fn code<'a>(&'a self) -> Option<Box<dyn std::fmt::Display + 'a>> {
        let code = self.code.as_ref()?;
        Some(Box::new(code))
    }

    fn severity(&self) -> Option<miette::Severity> {
        Some(self.severity)
    }

    fn help<'a>(&'a self) -> Option<Box<dyn std::fmt::Display + 'a>> {
        let help = self.help.as_ref()?;
        Some(Box::new(help))
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.source.as_ref().map(|s| s as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        Some(Box::new(self.labels.iter().cloned()))
    }

    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn miette::Diagnostic> + 'a>> {
        if self.related.is_empty() {
            return None;
        }
        let related = self.related.iter();
        Some(Box::new(related.map(|r| r as &dyn miette::Diagnostic)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Span;
    use super::*;

    const PLAIN: RenderOptions = RenderOptions {
        color: false,
        width: 80,
    };

    #[test]
    fn diagnostic_shows_its_span_and_help() {
        let mut sources = Sources::default();
        let file = sources.add("Buildfile.kdl", "target manager {\n    needs wroker\n}\n");
        let span = Span {
            file,
            start: 27,
            len: 6,
        };
        let diagnostic = Diagnostic::error("fbuild::graph::unknown", "unknown target `wroker`")
            .label(span, "not a target or group")
            .did_you_mean("wroker", ["worker"]);
        let text = render(&diagnostic, &sources, PLAIN);
        for part in [
            "unknown target `wroker`",
            "Buildfile.kdl:2:11",
            "not a target",
            "`worker`",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
    }

    #[test]
    fn distant_labels_are_two_snippets() {
        let mut sources = Sources::default();
        let text = "x\n".repeat(300);
        let file = sources.add("Buildfile.kdl", text);
        let at = |line: u32| Span {
            file,
            start: 2 * (line - 1),
            len: 1,
        };
        let diagnostic = Diagnostic::error("fbuild::graph::missing_edge", "far apart")
            .label(at(150), "written here")
            .label(at(240), "read here");
        let text = render(&diagnostic, &sources, PLAIN);
        assert!(text.contains(":240:1]"), "{text}");
        assert!(text.lines().count() < 20, "{text}");
    }

    #[test]
    fn control_characters_are_replaced() {
        let text = "a\u{1b}[31m \u{202e} \u{9b} ü\n";
        let shown = harmless(text);
        assert_eq!(shown.len(), text.len());
        assert!(!shown.contains(['\u{1b}', '\u{202e}', '\u{9b}']));
    }
}
