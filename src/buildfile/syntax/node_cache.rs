//! Caches parsed nodes by the digest of their text, so that only the changed nodes of a
//! Buildfile are parsed again. It holds top-level nodes without mistakes, and does not know
//! what they mean.
//!
//! Format 1, in a checked file: a [`Head`] (postcard), then the nodes one after another.
//! Spans are relative to the start of the node.

use std::collections::HashMap;
use std::io;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::node::{Data, Node, Prop, Value};
use crate::buildfile::grammar::{self, NodeSpec, allowed};
use crate::buildfile::model::Spanned;
use crate::checked_file::{self, CheckedFile, Magic, StateFile};
use crate::digest::Digest;
use crate::source::{FileId, Span};

const MAGIC: &Magic = b"fbuild-nodes  2\n";

/// Parsed nodes of an earlier load, and those of this load.
#[derive(Default)]
pub struct NodeCache {
    file: Option<CheckedFile>,
    /// The range of each node in the file.
    saved: HashMap<Digest, Range<usize>>,
    /// Whether nodes are looked up and stored.
    is_on: bool,
    /// The nodes of this load, for the next one.
    used: Vec<(Digest, Vec<u8>)>,
}

#[derive(Serialize, Deserialize)]
struct Head {
    /// The version of fbuild: another one may read the same text differently.
    fbuild: String,
    /// The digest of each node's text, and the length of its stored form.
    nodes: Vec<(Digest, u32)>,
}

impl NodeCache {
    /// Reads the cache of an earlier load; a missing or damaged file is an empty cache.
    pub fn read(file: &StateFile) -> Self {
        let saved = checked_file::read(file, MAGIC).and_then(Self::parse);
        Self {
            is_on: true,
            ..saved.unwrap_or_default()
        }
    }

    fn parse(file: CheckedFile) -> Option<Self> {
        let (head, rest) = postcard::take_from_bytes::<Head>(&file).ok()?;
        if head.fbuild != env!("CARGO_PKG_VERSION") {
            return None;
        }
        let mut start = file.len() - rest.len();
        let mut saved = HashMap::with_capacity(head.nodes.len());
        for (text, len) in head.nodes {
            let end = start.checked_add(usize::try_from(len).ok()?)?;
            saved.insert(text, start..end);
            start = end;
        }
        Some(Self {
            file: Some(file),
            saved,
            ..Self::default()
        })
    }

    /// Saves the nodes of this load, if there are any.
    pub fn save(&self, file: &StateFile) -> io::Result<()> {
        if self.used.is_empty() {
            return Ok(());
        }
        let len = |form: &Vec<u8>| u32::try_from(form.len()).unwrap_or(u32::MAX);
        let nodes = self.used.iter().map(|(text, form)| (*text, len(form)));
        let head = Head {
            fbuild: env!("CARGO_PKG_VERSION").to_owned(),
            nodes: nodes.collect(),
        };
        let head = postcard::to_stdvec(&head).map_err(io::Error::other)?;
        let forms = self.used.iter().map(|(_, form)| form.as_slice());
        let parts: Vec<&[u8]> = [head.as_slice()].into_iter().chain(forms).collect();
        checked_file::write(file, MAGIC, &parts)
    }

    /// Returns the cached node with this text, moved to `start` in `file`.
    pub(crate) fn find(&mut self, text: &str, file: FileId, start: usize) -> Option<Node> {
        if self.saved.is_empty() {
            return None;
        }
        let text = Digest::of(text.as_bytes());
        let form = self.file.as_ref()?.get(self.saved.get(&text)?.clone())?;
        let kept: KeptNode<'_> = postcard::from_bytes(form).ok()?;
        let node = Placement { file, start }.node(kept, None)?;
        self.used.push((text, form.to_owned()));
        Some(node)
    }

    /// Stores the node that was read from `text` at `start`, unless its meaning depends on
    /// its place.
    pub(crate) fn add(&mut self, text: &str, start: usize, node: &Node) {
        if !self.is_on || node.is_damaged || !node.spec.is_repeatable {
            return;
        }
        if let Ok(form) = postcard::to_stdvec(&kept(node, start)) {
            self.used.push((Digest::of(text.as_bytes()), form));
        }
    }
}

/// The stored form of a node.
#[derive(Serialize, Deserialize)]
struct KeptNode<'a> {
    name: &'a str,
    span: LocalSpan,
    #[serde(borrow)]
    args: Vec<KeptValue<'a>>,
    props: Vec<KeptProp<'a>>,
    children: Vec<KeptNode<'a>>,
}

#[derive(Serialize, Deserialize)]
struct KeptProp<'a> {
    name: &'a str,
    span: LocalSpan,
    #[serde(borrow)]
    value: KeptValue<'a>,
    is_any: bool,
}

#[derive(Serialize, Deserialize)]
struct KeptValue<'a> {
    #[serde(borrow)]
    data: KeptData<'a>,
    span: LocalSpan,
}

#[derive(Serialize, Deserialize)]
enum KeptData<'a> {
    Text(&'a str),
    Flag(bool),
    Count(u32),
}

/// A span, relative to the start of its node.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct LocalSpan {
    start: u32,
    len: u32,
}

fn kept(node: &Node, start: usize) -> KeptNode<'_> {
    let (args, props, children) = (node.args.iter(), node.props.iter(), node.children.iter());
    KeptNode {
        name: node.spec.name,
        span: local(node.span, start),
        args: args.map(|value| kept_value(value, start)).collect(),
        props: props.map(|prop| kept_prop(prop, start)).collect(),
        children: children.map(|child| kept(child, start)).collect(),
    }
}

fn kept_prop(prop: &Prop, start: usize) -> KeptProp<'_> {
    KeptProp {
        name: &prop.name.value,
        span: local(prop.name.span, start),
        value: kept_value(&prop.value, start),
        is_any: prop.is_any,
    }
}

fn kept_value(value: &Value, start: usize) -> KeptValue<'_> {
    let data = match &value.data {
        Data::Text(text) => KeptData::Text(text),
        Data::Flag(flag) => KeptData::Flag(*flag),
        Data::Count(count) => KeptData::Count(*count),
    };
    KeptValue {
        data,
        span: local(value.span, start),
    }
}

fn local(span: Span, start: usize) -> LocalSpan {
    // A text has at most a few megabytes, and no part of a node starts before it.
    let start = u32::try_from(start).unwrap_or(u32::MAX);
    LocalSpan {
        start: span.start.saturating_sub(start),
        len: span.len,
    }
}

/// The position to move a node to.
#[derive(Clone, Copy)]
struct Placement {
    file: FileId,
    start: usize,
}

impl Placement {
    /// Returns the node; `None` if the grammar does not allow it.
    fn node(self, kept: KeptNode<'_>, parent: Option<&'static NodeSpec>) -> Option<Node> {
        let spec = grammar::find(allowed(parent), kept.name)?;
        let props = kept.props.into_iter().map(|prop| self.prop(prop, spec));
        let children = kept.children.into_iter();
        Some(Node {
            spec,
            span: self.span(kept.span),
            args: kept.args.into_iter().map(|v| self.value(v)).collect(),
            props: props.collect::<Option<_>>()?,
            children: children
                .map(|child| self.node(child, Some(spec)))
                .collect::<Option<_>>()?,
            is_damaged: false,
        })
    }

    fn prop(self, kept: KeptProp<'_>, node: &'static NodeSpec) -> Option<Prop> {
        let spec = if kept.is_any {
            node.any_prop.as_ref()
        } else {
            node.props.iter().find(|prop| prop.name == kept.name)
        };
        Some(Prop {
            spec: spec?,
            name: Spanned::new(kept.name.to_owned(), self.span(kept.span)),
            value: self.value(kept.value),
            is_any: kept.is_any,
        })
    }

    fn value(self, kept: KeptValue<'_>) -> Value {
        let data = match kept.data {
            KeptData::Text(text) => Data::Text(text.to_owned()),
            KeptData::Flag(flag) => Data::Flag(flag),
            KeptData::Count(count) => Data::Count(count),
        };
        Value {
            data,
            span: self.span(kept.span),
        }
    }

    fn span(self, local: LocalSpan) -> Span {
        let start = u32::try_from(self.start).unwrap_or(u32::MAX);
        Span {
            file: self.file,
            start: start.saturating_add(local.start),
            len: local.len,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;
    use crate::buildfile::hostile::{mutated, soup};
    use crate::buildfile::{Loaded, load, load_cached};
    use crate::digest::Key;

    /// A folder with a Buildfile and its node cache.
    struct Place(tempfile::TempDir);

    impl Place {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn buildfile(&self) -> std::path::PathBuf {
            self.0.path().join("Buildfile.kdl")
        }

        /// Loads a text with the cache of the last load, and saves the cache.
        fn load(&self, text: &str) -> (Loaded, NodeCache) {
            let nodes = StateFile::new(self.0.path().join("nodes"), Key::new([1; 32]));
            std::fs::write(self.buildfile(), text).unwrap();
            let mut cache = NodeCache::read(&nodes);
            let shown = Path::new("Buildfile.kdl");
            let loaded = load_cached(&self.buildfile(), shown, &mut cache).unwrap();
            cache.save(&nodes).unwrap();
            (loaded, cache)
        }

        /// Checks that the cache makes no difference to the result.
        fn check(&self, text: &str) {
            let (loaded, _) = self.load(text);
            let fresh = load(&self.buildfile(), Path::new("Buildfile.kdl")).unwrap();
            assert_eq!(shown(&loaded), shown(&fresh), "{text}");
        }
    }

    fn shown(loaded: &Loaded) -> String {
        let is_complete = loaded.is_complete;
        format!(
            "{:#?} {:#?} {is_complete}",
            loaded.buildfile, loaded.diagnostics
        )
    }

    /// Returns a text long enough for its nodes to be cached.
    fn long(from: usize) -> String {
        let node = |n| format!("target known{n} {{ run x; about \"one of very many targets\" }}\n");
        (from..from + 300).map(node).collect()
    }

    #[test]
    fn long_text_is_cached_node_by_node() {
        let place = Place::new();
        let (loaded, cache) = place.load(&long(0));
        assert_eq!(loaded.buildfile.targets.len(), 300);
        assert_eq!((cache.saved.len(), cache.used.len()), (0, 300));
        let (_, cache) = place.load(&long(1));
        assert_eq!((cache.saved.len(), cache.used.len()), (300, 300));
    }

    #[test]
    fn cached_node_moves_with_its_text() {
        let place = Place::new();
        place.load(&long(0));
        let text = format!("\n\n{}target other {{ run x }}\n", long(1));
        let (loaded, _) = place.load(&text);
        let first = loaded.buildfile.targets[0].name.span.start as usize;
        assert!(text[first..].starts_with("known1 {"));
        place.check(&text);
    }

    #[test]
    fn find_returns_nodes_with_the_same_text_only() {
        let place = Place::new();
        place.load(&long(0));
        let (_, mut cache) = place.load(&long(1));
        let mut is_found = |text| cache.find(text, FileId(0), 7).is_some();
        assert!(is_found(
            "target known5 { run x; about \"one of very many targets\" }"
        ));
        assert!(!is_found("target known5 { run x }"));
    }

    #[test]
    fn nodes_with_mistakes_are_not_cached() {
        let place = Place::new();
        place.check(&format!("{}target wrong {{ outputs x   }}\n", long(0)));
        place.check(&format!("{}target wrong {{ outputs x ) }}\n", long(0)));
    }

    #[test]
    fn nodes_are_not_joined_by_blanked_text() {
        let place = Place::new();
        place.check(&long(0));
        place.check(&format!("target}}target\n{}target}}target", long(1)));
        place.check(&format!("var v x /- \"never closed\n{}", long(1)));
        place.check(&format!("var v x /- a=\n{}", long(1)));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn cache_makes_no_difference_to_the_result(
            pool in prop::collection::vec(prop_oneof![mutated(), soup(), mutated()], 4..8),
            versions in prop::collection::vec(prop::collection::vec(0_usize..8, 0..5), 2..5),
        ) {
            let place = Place::new();
            for version in versions {
                let some = version.iter().map(|at| pool[at % pool.len()].as_str());
                let some: Vec<&str> = some.collect();
                place.check(&format!("{}\n{}{}", some.join("\n"), long(version.len()), some.concat()));
            }
        }
    }
}
