//! Patterns over paths, for `inputs`, `outputs`, `except` and `keep`. They match given
//! paths; they do not walk folders.
//!
//! ```
//! # use fbuild::{glob::Pattern, path::RelPath};
//! let sources = Pattern::new("internal/**/*.go")?;
//! assert!(sources.matches(&RelPath::new("internal/a/b.go")?));
//! assert!(!sources.matches(&RelPath::new("cmd/main.go")?));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! `?` is one character, `*` any number of them within a component, `[a-z]` a class,
//! `{a,b}` alternatives, `**` any number of whole components, and a backslash makes the
//! next character literal. A trailing slash means everything below. Names that start with
//! a dot are ordinary names.
//!
//! A pattern is split into a literal folder and a tail with the wildcards. Ten thousand
//! targets whose patterns differ only in the folder share one compiled matcher.

mod automaton;
mod characters;
mod class;
mod guess;
mod matcher;
mod overlap;
mod residue;

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::path::{self, RelPath};

pub use overlap::{Exception, Overlap, Question, may_overlap};
pub use residue::Residue;

use matcher::Matcher;

/// The deepest nesting of alternatives.
const DEEPEST: usize = 10;

/// A pattern over paths below the root.
#[derive(Clone)]
pub struct Pattern {
    text: Arc<str>,
    /// The leading components without wildcards; the whole path if there is no tail.
    folder: RelPath,
    tail: Option<Arc<Tail>>,
}

/// The part of a pattern from its first wildcard on, shared between equal patterns.
struct Tail {
    text: Box<str>,
    matcher: Matcher,
    components: residue::Components,
    /// The folders below which the tail matches everything.
    covered: Covered,
    /// The most components of a match; `None` with `**`.
    most_components: Option<usize>,
}

/// The folders below which a tail matches everything.
enum Covered {
    /// None, because the tail does not end with `**`.
    None,
    /// All, because the tail is `**`.
    All,
    /// Those that the tail matches, and those that this matches (`x` for `x/**`).
    Matching(Box<Matcher>),
}

/// The error of reading a pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It is not a path below the root.
    #[error(transparent)]
    Path(#[from] path::Error),
    /// `**` is not alone between slashes.
    #[error("`**` must stand alone between slashes")]
    StarsNotAlone,
    /// It is empty.
    #[error("the pattern is empty")]
    Empty,
    /// It has `?` or a class, and names too many characters beyond ASCII.
    #[error(
        "beside `?` or a class, at most {} characters and ranges beyond ASCII are told apart",
        characters::MOST
    )]
    TooManyCharacters,
    /// It has another mistake.
    #[error("{0}")]
    Syntax(String),
}

impl Pattern {
    /// Reads a pattern.
    pub fn new(text: &str) -> Result<Self, Error> {
        let normal = normalise(text)?;
        let parts: Vec<&str> = normal.split('/').collect();
        if parts
            .iter()
            .any(|part| part.contains("**") && *part != "**")
        {
            return Err(Error::StarsNotAlone);
        }
        let literal = parts.iter().take_while(|part| !has_wildcard(part)).count();
        let folder = RelPath::new(parts[..literal].join("/"))?;
        let tail = match &parts[literal..] {
            [] => None,
            rest => Some(Tail::shared(&rest.join("/"))?),
        };
        Ok(Self {
            text: normal.into(),
            folder,
            tail,
        })
    }

    /// Returns the pattern for exactly one path, whatever its characters.
    pub fn literal_path(path: &RelPath) -> Self {
        Self {
            text: path.to_string().into(),
            folder: path.clone(),
            tail: None,
        }
    }

    /// Returns the pattern for everything below `folder`.
    pub fn everything_below(folder: &RelPath) -> Self {
        static EVERYTHING: LazyLock<Option<Arc<Tail>>> = LazyLock::new(|| Tail::shared("**").ok());
        let text = if folder.is_root() {
            "**".to_owned()
        } else {
            format!("{folder}/**")
        };
        Self {
            text: text.into(),
            folder: folder.clone(),
            tail: EVERYTHING.clone(),
        }
    }

    /// Returns the same pattern for paths below `folder`.
    #[must_use]
    pub fn within(&self, folder: &RelPath) -> Self {
        let text = if folder.is_root() {
            self.text.clone()
        } else {
            format!("{folder}/{}", self.text).into()
        };
        Self {
            text,
            folder: folder.join(&self.folder),
            tail: self.tail.clone(),
        }
    }

    /// Returns its normalised text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns the one path that it matches, if it has no wildcard.
    pub fn as_literal(&self) -> Option<&RelPath> {
        self.tail.is_none().then_some(&self.folder)
    }

    /// Returns the folder of everything that it matches; for a pattern without wildcards, the
    /// path itself.
    pub fn folder(&self) -> &RelPath {
        &self.folder
    }

    /// Returns true if it matches `path`.
    pub fn matches(&self, path: &RelPath) -> bool {
        match &self.tail {
            None => *path == self.folder,
            Some(_) if *path == self.folder => false,
            Some(tail) => self
                .rest(path)
                .is_some_and(|rest| tail.matcher.is_match(rest)),
        }
    }

    /// Returns true if it matches everything below `folder`, so that an exclusion need not be
    /// checked file by file.
    pub fn covers_folder(&self, folder: &RelPath) -> bool {
        let (Some(tail), Some(rest)) = (&self.tail, self.rest(folder)) else {
            return false;
        };
        match &tail.covered {
            Covered::None => false,
            Covered::All => true,
            Covered::Matching(stem) => stem.is_match(rest) || tail.matcher.is_match(rest),
        }
    }

    /// Returns true if it can match anything below `folder`, which must be within its own
    /// folder.
    pub fn reaches_into(&self, folder: &RelPath) -> bool {
        let Some(tail) = &self.tail else {
            return self.folder.is_within(folder) && self.folder != *folder;
        };
        let depth = |path: &RelPath| path.components().count();
        tail.most_components
            .is_none_or(|most| depth(folder) < depth(&self.folder) + most)
    }

    /// Returns the part of `path` below the literal folder.
    fn rest<'p>(&self, path: &'p RelPath) -> Option<&'p Path> {
        if !path.is_within(&self.folder) {
            return None;
        }
        let rest = &path.as_bytes()[self.folder.as_bytes().len()..];
        let rest = rest.strip_prefix(b"/").unwrap_or(rest);
        Some(Path::new(OsStr::from_bytes(rest)))
    }
}

/// Checks the text as a path, and normalises it.
fn normalise(text: &str) -> Result<String, Error> {
    if text.is_empty() {
        return Err(Error::Empty);
    }
    if text.starts_with('/') {
        return Err(path::Error::Absolute.into());
    }
    let is_kept = |part: &&str| !part.is_empty() && *part != ".";
    let mut parts: Vec<&str> = text.split('/').filter(is_kept).collect();
    if parts.contains(&"..") {
        return Err(path::Error::Parent.into());
    }
    if parts.is_empty() || text.ends_with('/') {
        parts.push("**");
    }
    check_size(text)?;
    Ok(parts.join("/"))
}

/// Refuses patterns that are too long or nested too deep for the matcher.
fn check_size(text: &str) -> Result<(), Error> {
    if text.len() > path::MAX_PATH {
        return Err(path::Error::TooLong.into());
    }
    let (mut depth, mut deepest) = (0_usize, 0);
    for byte in text.bytes() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    if deepest > DEEPEST {
        let message = format!("alternatives are nested more than {DEEPEST} deep");
        return Err(Error::Syntax(message));
    }
    Ok(())
}

/// Returns the text of the pattern that matches only the path `text`.
pub fn escaped(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for c in text.chars() {
        if has_wildcard(c.encode_utf8(&mut [0; 4])) {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
}

fn has_wildcard(part: &str) -> bool {
    part.contains(['*', '?', '[', ']', '{', '}', '\\'])
}

/// The tails of all existing patterns.
#[derive(Default)]
struct Tails {
    by_text: HashMap<Box<str>, Weak<Tail>>,
    /// The number of entries at which unused ones are removed.
    most: usize,
}

impl Tails {
    fn add(&mut self, tail: &Arc<Tail>) {
        if self.by_text.len() >= self.most {
            self.by_text.retain(|_, tail| tail.strong_count() > 0);
            self.most = (2 * self.by_text.len()).max(1024);
        }
        self.by_text.insert(tail.text.clone(), Arc::downgrade(tail));
    }
}

impl Tail {
    /// Returns the compiled form of `text`, shared by all patterns that have it.
    fn shared(text: &str) -> Result<Arc<Self>, Error> {
        static TAILS: LazyLock<Mutex<Tails>> = LazyLock::new(Mutex::default);
        let mut tails = TAILS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tail) = tails.by_text.get(text).and_then(Weak::upgrade) {
            return Ok(tail);
        }
        let tail = Arc::new(Self::compile(text)?);
        tails.add(&tail);
        Ok(tail)
    }

    fn compile(text: &str) -> Result<Self, Error> {
        let covered = match text.strip_suffix("**") {
            None => Covered::None,
            Some("") => Covered::All,
            Some(stem) => Covered::Matching(Box::new(Matcher::new(stem.trim_end_matches('/'))?)),
        };
        let components = text.split('/').count();
        Ok(Self {
            text: text.into(),
            matcher: Matcher::new(text)?,
            components: residue::Components::default(),
            covered,
            most_components: (!text.contains("**")).then_some(components),
        })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pattern({})", self.text)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Pattern {}

/// As text for human-readable formats. Otherwise as the parts that the text was split into,
/// so that a compiled Buildfile with tens of thousands of patterns is read quickly.
impl Serialize for Pattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            return serializer.serialize_str(&self.text);
        }
        let tail = self.tail.as_ref().map(|tail| &*tail.text);
        (&*self.text, &self.folder, tail).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
            return Self::new(&text).map_err(serde::de::Error::custom);
        }
        let (text, folder, tail): (&str, RelPath, Option<&str>) =
            Deserialize::deserialize(deserializer)?;
        let tail = tail.map(Tail::shared).transpose();
        Ok(Self {
            text: text.into(),
            folder,
            tail: tail.map_err(serde::de::Error::custom)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::new(text).unwrap()
    }

    fn path(text: &str) -> RelPath {
        RelPath::new(text).unwrap()
    }

    #[track_caller]
    fn check(text: &str, yes: &[&str], no: &[&str]) {
        let pattern = pattern(text);
        for p in yes {
            assert!(pattern.matches(&path(p)), "{text} must match {p}");
        }
        for p in no {
            assert!(!pattern.matches(&path(p)), "{text} must not match {p}");
        }
    }

    #[test]
    fn wildcards_match_as_documented() {
        check("go.mod", &["go.mod"], &["a/go.mod", "go.modx"]);
        check(
            "web/*.go",
            &["web/a.go", "web/.go"],
            &["web/a/b.go", "a.go", "web"],
        );
        check(
            "internal/**",
            &["internal/a", "internal/a/b"],
            &["internal", "x/internal/a"],
        );
        check("src/", &["src/a/b"], &["src"]);
        check("**/*_test.go", &["a_test.go", "x/y/a_test.go"], &["a.go"]);
        check("a/**/z", &["a/z", "a/b/c/z"], &["a/b", "z"]);
        check("[ab]?.txt", &["ax.txt"], &["cx.txt", "a.txt"]);
        check("{web,addon}/x", &["web/x", "addon/x"], &["x"]);
        check(r"\*.txt", &["*.txt"], &["a.txt"]);
        check("**", &["a", "a/b", ".hidden"], &[]);
    }

    #[test]
    fn question_mark_matches_one_character() {
        check(
            "?.txt",
            &["é.txt", "😀.txt", "a.txt"],
            &["ab.txt", "éa.txt", ".txt"],
        );
        check("é?", &["éa", "éü", "éé"], &["é", "üa", "éab"]);
        check("[éü]x", &["éx", "üx"], &["öx", "x", "\u{1}x"]);
        check("[!é]/*", &["a/é", "ü/x", "\u{1}/x"], &["é/x", "aa/x"]);
        check("**/?é", &["aé", "b/éé"], &["é", "b/é"]);
        check("a/?/**", &["a/é/b"], &["a/éé/b"]);
        assert!(pattern("a/?/**").covers_folder(&path("a/é")));
        let odd = RelPath::new(b"\xff\xfe").unwrap();
        assert!(pattern("??").matches(&odd) && !pattern("?").matches(&odd));
    }

    #[test]
    fn ranges_are_of_characters() {
        check(
            "[à-ü].c",
            &["à.c", "é.c", "ü.c"],
            &["a.c", "ß.c", "ý.c", "àé.c"],
        );
        check(
            "[!à-ü]",
            &["a", "ß", "ÿ", "😀", "\u{1}"],
            &["à", "é", "ü", "aa"],
        );
        check("[a-ü]", &["a", "z", "~", "é", "ü", "¡"], &["A", "ý", "中"]);
        check("[一-龥]*é", &["中é", "一xé"], &["é", "aé", "ア"]);
        check("[à-éè-ü]é", &["éé", "üé", "àé"], &["éê", "aé"]);
        check("{[à-ü],x}/?", &["é/é", "x/a"], &["a/é", "é/aa"]);
        check("x[à-ü]/**", &["xé/a", "xü/é/b"], &["xa/a", "xé"]);
        check(r"\[à-ü]", &["[à-ü]"], &["é", "à"]);
        let reversed = Pattern::new("[ü-à]").unwrap_err().to_string();
        assert_eq!(reversed, "invalid range; 'ü' > 'à'");
    }

    #[test]
    fn class_never_matches_a_slash() {
        check("a[!b]c", &["axc", "aéc"], &["abc", "a/c"]);
        check("a[+-9]c", &["a+c", "a-c", "a.c", "a0c"], &["a/c", "a:c"]);
        check("[]-]", &["]", "-"], &["a"]);
        check("[a^!-]", &["a", "^", "!", "-"], &["b", "\u{7f}"]);
        check("[^^]", &["a", "!"], &["^"]);
    }

    #[test]
    fn names_that_are_not_utf8_match() {
        let odd = RelPath::new(b"a/\xff\xfe.go").unwrap();
        assert!(pattern("a/*.go").matches(&odd));
        assert!(pattern("**").matches(&odd));
    }

    #[test]
    fn bad_patterns_are_refused() {
        assert_eq!(Pattern::new(""), Err(Error::Empty));
        assert_eq!(Pattern::new("/a"), Err(path::Error::Absolute.into()));
        assert_eq!(Pattern::new("a/../b"), Err(path::Error::Parent.into()));
        assert_eq!(Pattern::new("a**/b"), Err(Error::StarsNotAlone));
        assert!(matches!(Pattern::new("a[b"), Err(Error::Syntax(_))));
        assert_eq!(
            Pattern::new(&"*a".repeat(5_000)),
            Err(path::Error::TooLong.into())
        );
        let many: String = ('一'..='丿').chain(['?']).collect();
        assert_eq!(Pattern::new(&many), Err(Error::TooManyCharacters));
        let deep = "{a,".repeat(900) + &"}".repeat(900);
        assert!(matches!(Pattern::new(&deep), Err(Error::Syntax(_))));
        for long in [
            "*[a-z]?{b,c}",
            "*a",
            "?",
            "{*,?}",
            "[!a]",
            "**/",
            "a*/",
            "é*",
        ] {
            let text = long.repeat(path::MAX_PATH / long.len());
            pattern(&text).matches(&path("x"));
        }
    }

    #[test]
    fn covered_folders_match_as_a_whole() {
        let modules = pattern("**/node_modules/**");
        assert!(modules.covers_folder(&path("web/node_modules")));
        assert!(modules.covers_folder(&path("node_modules/a/b")));
        assert!(!modules.covers_folder(&path("web")));
        assert!(pattern("web/**").covers_folder(&path("web")));
        assert!(!pattern("web/*").covers_folder(&path("web")));
    }

    #[test]
    fn patterns_reach_into_folders_of_possible_matches() {
        assert!(pattern("web/*/x").reaches_into(&path("web/a")));
        assert!(!pattern("web/*").reaches_into(&path("web/a")));
        assert!(pattern("a/b/c.txt").reaches_into(&path("a/b")));
    }

    #[test]
    fn escaped_pattern_matches_only_its_path() {
        let text = "a[b]*{c}?\\";
        let pattern = pattern(&escaped(text));
        assert!(pattern.matches(&path(text)));
        assert!(!pattern.matches(&path("ab*{c}?\\")));
    }

    #[test]
    fn within_moves_a_pattern_below_a_folder() {
        let inner = pattern("src/*.go").within(&path("tools/gen"));
        assert_eq!(inner, pattern("tools/gen/src/*.go"));
        assert!(inner.matches(&path("tools/gen/src/a.go")));
    }

    #[test]
    fn unused_tails_are_removed() {
        let mut tails = Tails::default();
        let kept = Arc::new(Tail::compile("*").unwrap());
        tails.add(&kept);
        for i in 0..5_000 {
            tails.add(&Arc::new(Tail::compile(&format!("*{i}")).unwrap()));
        }
        assert!(tails.by_text.len() <= 1024);
        assert!(tails.by_text["*"].upgrade().is_some());
    }

    #[test]
    fn patterns_survive_serialisation() {
        let odd = Pattern::literal_path(&RelPath::new(b"a*\xff/[b").unwrap());
        let below = Pattern::everything_below(&path("a"));
        let inner = pattern("*.go").within(&path("x/y"));
        for before in [pattern("go.mod"), pattern("**"), below, inner, odd.clone()] {
            let bytes = postcard::to_stdvec(&before).unwrap();
            let after: Pattern = postcard::from_bytes(&bytes).unwrap();
            assert_eq!(after, before);
            assert_eq!(after.folder(), before.folder());
            assert_eq!(after.as_literal(), before.as_literal());
        }
        let json = serde_json::to_string(&pattern("a/*.go")).unwrap();
        assert_eq!(json, "\"a/*.go\"");
        assert_eq!(
            serde_json::from_str::<Pattern>(&json).unwrap(),
            pattern("a/*.go")
        );
    }
}
