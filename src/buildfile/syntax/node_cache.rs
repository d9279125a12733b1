//! Nodes that were read before, by the digests of their texts: of a changed Buildfile only
//! the nodes that changed are parsed again. It keeps what stands outside all blocks and has
//! no mistake in it, and knows nothing of what it means.
//!
//! Format 1, in a sealed file: a [`Head`] (postcard), the nodes one after another. Places
//! are relative to the beginning of the node.

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::node::{Data, Node, Prop, Value};
use crate::buildfile::grammar::{self, NodeSpec, allowed};
use crate::buildfile::model::Spanned;
use crate::checked_file::{self, CheckedFile, Magic};
use crate::digest::Digest;
use crate::source::{FileId, Span};

const MAGIC: &Magic = b"fbuild-nodes  1\n";

/// Nodes that were read before, and those that are read now.
#[derive(Default)]
pub struct NodeCache {
    file: Option<CheckedFile>,
    /// Where each node stands in the file.
    saved: HashMap<Digest, Range<usize>>,
    /// Whether nodes are looked up and kept.
    is_on: bool,
    /// What the next load may need.
    used: Vec<(Digest, Vec<u8>)>,
}

#[derive(Serialize, Deserialize)]
struct Head {
    /// The version of fbuild: another one may read the same text differently.
    fbuild: String,
    /// The text of each node, and how long its form is.
    nodes: Vec<(Digest, u32)>,
}

impl NodeCache {
    /// Reads what an earlier load kept; whatever is wrong with it, nothing is known then.
    pub fn read(file: &Path) -> Self {
        let known = checked_file::read(file, MAGIC).and_then(Self::parse);
        Self {
            is_on: true,
            ..known.unwrap_or_default()
        }
    }

    fn parse(file: CheckedFile) -> Option<Self> {
        let (head, rest) = postcard::take_from_bytes::<Head>(&file).ok()?;
        (head.fbuild == env!("CARGO_PKG_VERSION")).then_some(())?;
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

    /// Keeps the nodes of this load for the next one, if there are any.
    pub fn save(&self, file: &Path) -> io::Result<()> {
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

    /// Returns the node whose text this is, to stand at `start` in `file`, if it is known.
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

    /// Remembers the node that was read from `text`, which stands at `start`, if that text
    /// is read the same wherever it stands.
    pub(crate) fn add(&mut self, text: &str, start: usize, node: &Node) {
        if !self.is_on || node.is_damaged || !node.spec.is_repeatable {
            return;
        }
        if let Ok(form) = postcard::to_stdvec(&kept(node, start)) {
            self.used.push((Digest::of(text.as_bytes()), form));
        }
    }
}

/// A node as it is kept.
#[derive(Serialize, Deserialize)]
struct KeptNode<'a> {
    name: &'a str,
    place: Place,
    #[serde(borrow)]
    args: Vec<KeptValue<'a>>,
    props: Vec<KeptProp<'a>>,
    children: Vec<KeptNode<'a>>,
}

#[derive(Serialize, Deserialize)]
struct KeptProp<'a> {
    name: &'a str,
    place: Place,
    #[serde(borrow)]
    value: KeptValue<'a>,
    is_any: bool,
}

#[derive(Serialize, Deserialize)]
struct KeptValue<'a> {
    #[serde(borrow)]
    data: KeptData<'a>,
    place: Place,
}

#[derive(Serialize, Deserialize)]
enum KeptData<'a> {
    Text(&'a str),
    Flag(bool),
    Count(u32),
}

/// Where something begins, counted from where its node does, and its length.
type Place = (u32, u32);

fn kept(node: &Node, start: usize) -> KeptNode<'_> {
    let (args, props, children) = (node.args.iter(), node.props.iter(), node.children.iter());
    KeptNode {
        name: node.spec.name,
        place: place(node.span, start),
        args: args.map(|value| kept_value(value, start)).collect(),
        props: props.map(|prop| kept_prop(prop, start)).collect(),
        children: children.map(|child| kept(child, start)).collect(),
    }
}

fn kept_prop(prop: &Prop, start: usize) -> KeptProp<'_> {
    KeptProp {
        name: &prop.name.value,
        place: place(prop.name.span, start),
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
        place: place(value.span, start),
    }
}

fn place(span: Span, start: usize) -> Place {
    // A text is no longer than a few megabytes, and nothing in a node begins before it.
    let start = u32::try_from(start).unwrap_or(u32::MAX);
    (span.start.saturating_sub(start), span.len)
}

/// Where a node is put.
#[derive(Clone, Copy)]
struct Placement {
    file: FileId,
    start: usize,
}

impl Placement {
    /// Returns the node; `None` if the grammar does not know it.
    fn node(self, kept: KeptNode<'_>, parent: Option<&'static NodeSpec>) -> Option<Node> {
        let spec = grammar::find(allowed(parent), kept.name)?;
        let props = kept.props.into_iter().map(|prop| self.prop(prop, spec));
        let children = kept.children.into_iter();
        Some(Node {
            spec,
            span: self.span(kept.place),
            args: kept.args.into_iter().map(|v| self.value(v)).collect(),
            props: props.collect::<Option<_>>()?,
            children: children
                .map(|child| self.node(child, Some(spec)))
                .collect::<Option<_>>()?,
            is_damaged: false,
        })
    }

    fn prop(self, kept: KeptProp<'_>, node: &'static NodeSpec) -> Option<Prop> {
        let spec = match kept.is_any {
            true => node.any_prop.as_ref(),
            false => node.props.iter().find(|prop| prop.name == kept.name),
        };
        Some(Prop {
            spec: spec?,
            name: Spanned::new(kept.name.to_owned(), self.span(kept.place)),
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
            span: self.span(kept.place),
        }
    }

    fn span(self, (start, len): Place) -> Span {
        let own = u32::try_from(self.start).unwrap_or(u32::MAX);
        Span {
            file: self.file,
            start: own.saturating_add(start),
            len,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::buildfile::hostile::{mutated, soup};
    use crate::buildfile::{Loaded, load, load_cached};

    /// A folder with a Buildfile, and the nodes that are known of it.
    struct Place(tempfile::TempDir);

    impl Place {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn buildfile(&self) -> std::path::PathBuf {
            self.0.path().join("Buildfile.kdl")
        }

        /// Loads a text with what the last load kept, and keeps what it read.
        fn load(&self, text: &str) -> (Loaded, NodeCache) {
            let nodes = self.0.path().join("nodes");
            std::fs::write(self.buildfile(), text).unwrap();
            let mut cache = NodeCache::read(&nodes);
            let shown = Path::new("Buildfile.kdl");
            let loaded = load_cached(&self.buildfile(), shown, &mut cache).unwrap();
            cache.save(&nodes).unwrap();
            (loaded, cache)
        }

        /// Checks that it makes no difference what was loaded before.
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

    /// Returns a text long enough that its nodes are kept.
    fn long(from: usize) -> String {
        let node = |n| format!("target known{n} {{ run x; about \"one of very many targets\" }}\n");
        (from..from + 300).map(node).collect()
    }

    #[test]
    fn only_what_is_new_is_read_and_stands_where_it_should() {
        let place = Place::new();
        let (first, cache) = place.load(&long(0));
        assert_eq!(
            (first.buildfile.targets.len(), cache.used.len()),
            (300, 300)
        );
        assert_eq!(cache.saved.len(), 0);
        let text = format!("\n\n{}{}", long(1), "target known0 { run other }\n");
        let (second, mut cache) = place.load(&text);
        assert_eq!((cache.saved.len(), cache.used.len()), (300, 301));
        let target = second.buildfile.targets.last().unwrap();
        let start = target.name.span.start as usize;
        assert!(text[start..].starts_with("known0 {"));
        let node = |text| cache.find(text, FileId(0), 7);
        let old = "target known5 { run x; about \"one of very many targets\" }";
        assert_eq!(
            [old, "target known0 { run x }"]
                .map(node)
                .map(|n| n.is_some()),
            [true, false]
        );
        assert_eq!(
            shown(&second),
            shown(&load(&place.buildfile(), Path::new("Buildfile.kdl")).unwrap())
        );
    }

    #[test]
    fn what_the_guard_took_something_from_is_not_what_it_looks_like() {
        let place = Place::new();
        place.check(&format!("{}target wrong {{ outputs x   }}\n", long(0)));
        place.check(&format!("{}target wrong {{ outputs x ) }}\n", long(0)));
    }

    #[test]
    fn nodes_stay_apart_though_what_stood_between_them_was_taken_away() {
        let place = Place::new();
        place.check(&long(0));
        place.check(&format!("target}}target\n{}target}}target", long(1)));
        place.check(&format!("var v x /- \"never closed\n{}", long(1)));
        place.check(&format!("var v x /- a=\n{}", long(1)));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn it_makes_no_difference_what_was_known(
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
