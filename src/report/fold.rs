//! Folds long lists of paths: a large folder becomes one line with a count.

use std::ops::Range;

/// A line of a folded list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// The path with this index in the list.
    Path(usize),
    /// A folder, with a slash at its end, and the indexes of the paths in it.
    Folder(String, Vec<usize>),
}

/// Folds a list into at most `most` lines if that is possible: the paths at the top of the
/// tree are never folded. Lines are in the order of the tree.
pub fn fold(paths: &[&str], most: usize) -> Vec<Line> {
    let mut order: Vec<usize> = (0..paths.len()).collect();
    order.sort_by(|a, b| paths[*a].split('/').cmp(paths[*b].split('/')));
    let sorted: Vec<&str> = order.iter().map(|index| paths[*index]).collect();
    let mut nodes = children(&sorted, 0..sorted.len(), 0);
    while let Some((at, inner)) = next_expansion(&sorted, &nodes, most) {
        nodes.splice(at..=at, inner);
    }
    let line = |node: &Node| match node.folder {
        None => Line::Path(order[node.range.start]),
        Some(len) => Line::Folder(
            sorted[node.range.start][..len].to_owned(),
            order[node.range.clone()].to_vec(),
        ),
    };
    nodes.iter().map(line).collect()
}

/// A path, or all paths in a folder.
struct Node {
    /// The paths, in the sorted list.
    range: Range<usize>,
    /// The length of the folder's path with its slash; `None` for a single path.
    folder: Option<usize>,
}

/// Returns the largest folder that fits when it is expanded, and its children.
fn next_expansion(sorted: &[&str], nodes: &[Node], most: usize) -> Option<(usize, Vec<Node>)> {
    let folders = nodes.iter().enumerate().filter_map(|(at, node)| {
        let inner = children(sorted, node.range.clone(), node.folder?);
        (nodes.len() - 1 + inner.len() <= most).then_some((at, inner))
    });
    folders.max_by_key(|(at, _)| nodes[*at].range.len())
}

/// Splits the paths below a folder, whose path is `len` bytes long, by the next component.
fn children(sorted: &[&str], range: Range<usize>, len: usize) -> Vec<Node> {
    let mut nodes = Vec::new();
    let mut start = range.start;
    while start < range.end {
        let mut end = start + 1;
        if let Some(component) = next_component(sorted[start], len) {
            let has_component = |path: &&&str| next_component(path, len) == Some(component);
            let others = sorted[end..range.end].iter().take_while(has_component);
            end += others.count();
        }
        nodes.push(node(sorted, start..end));
        start = end;
    }
    nodes
}

/// Returns a node for paths that share a folder: their deepest common one.
fn node(sorted: &[&str], range: Range<usize>) -> Node {
    let (first, last) = (sorted[range.start], sorted[range.end - 1]);
    let pairs = first.bytes().zip(last.bytes());
    let common = pairs.take_while(|(a, b)| a == b).count();
    let folder = first.as_bytes()[..common]
        .iter()
        .rposition(|byte| *byte == b'/');
    Node {
        folder: folder.filter(|_| range.len() > 1).map(|slash| slash + 1),
        range,
    }
}

/// Returns the next component with its slash; `None` for the last component.
fn next_component(path: &str, len: usize) -> Option<&str> {
    let rest = &path[len..];
    rest.find('/').map(|slash| &rest[..=slash])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folded(paths: &[&str], most: usize) -> Vec<String> {
        let text = |line: &Line| match line {
            Line::Path(index) => paths[*index].to_owned(),
            Line::Folder(folder, inner) => format!("{folder} {}", inner.len()),
        };
        fold(paths, most).iter().map(text).collect()
    }

    const PATHS: &[&str] = &[
        "web/src/a.ts",
        "web/src/b.ts",
        "web/src/deep/c.ts",
        "web/src/deep/d.ts",
        "web/package.json",
        "go.mod",
        "cmd/main.go",
        "web-old/x",
    ];

    #[test]
    fn short_list_keeps_every_path() {
        assert_eq!(folded(PATHS, PATHS.len()).len(), PATHS.len());
        assert!(folded(&[], 3).is_empty());
    }

    #[test]
    fn large_folders_become_one_line() {
        assert_eq!(
            folded(PATHS, 4),
            ["cmd/main.go", "go.mod", "web/ 5", "web-old/x"]
        );
        assert_eq!(
            folded(PATHS, 5),
            [
                "cmd/main.go",
                "go.mod",
                "web/package.json",
                "web/src/ 4",
                "web-old/x"
            ]
        );
        assert_eq!(
            folded(PATHS, 7)[3..6],
            ["web/src/a.ts", "web/src/b.ts", "web/src/deep/ 2"]
        );
    }

    #[test]
    fn top_level_paths_are_never_folded() {
        assert_eq!(folded(&["b", "a", "c"], 1), ["a", "b", "c"]);
    }

    #[test]
    fn chain_of_folders_is_one_line() {
        assert_eq!(folded(&["a/b/c/1", "a/b/c/2"], 1), ["a/b/c/ 2"]);
    }
}
