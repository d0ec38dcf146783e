//! The tree of cgroups by their ids, with those that are gone again.

use super::Hierarchy;
use std::collections::{BTreeMap, BTreeSet};

/// So many more cgroups are taken in before those that are gone are looked for. More than the ring buffer holds announcements of:
/// whatever was announced before one look has been taken in at the next.
const ROUND: usize = 2048;

/// Cgroups by their ids, each with the one that it lies in and its own name: as they were found, and as the kernel has told of
/// them since. A cgroup that lives for a millisecond has its path here, whatever the length.
///
/// It forgets a cgroup that was gone at two looks: nothing can be made in one that is gone, and what was made before is
/// announced by then.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    root: u64,
    nodes: BTreeMap<u64, Node>,
    added: usize,
}

#[derive(Clone, Debug)]
struct Node {
    parent: u64,
    name: String,
    /// It was gone at the last look.
    gone: bool,
}

impl Tree {
    /// Every cgroup that there is.
    #[must_use]
    pub fn of(hierarchy: &Hierarchy) -> Self {
        let mut tree = Self {
            root: hierarchy.root(),
            ..Self::default()
        };
        tree.find(hierarchy);
        tree
    }

    /// Takes in a cgroup. The ids of those that it has forgotten for that, which are gone.
    pub fn add(&mut self, hierarchy: &Hierarchy, id: u64, parent: u64, name: &str) -> Vec<u64> {
        self.insert(id, parent, name);
        self.added += 1;
        if self.added < ROUND {
            return Vec::new();
        }
        self.added = 0;
        self.look(hierarchy)
    }

    fn insert(&mut self, id: u64, parent: u64, name: &str) {
        let node = Node {
            parent,
            name: name.to_owned(),
            gone: false,
        };
        self.nodes.insert(id, node);
    }

    /// Looks at what there is, and forgets what was gone the last time already.
    fn look(&mut self, hierarchy: &Hierarchy) -> Vec<u64> {
        let there = self.find(hierarchy);
        let mut forgotten = Vec::new();
        self.nodes.retain(|id, node| {
            let gone = !there.contains(id);
            let keep = !(gone && node.gone);
            node.gone = gone;
            if !keep {
                forgotten.push(*id);
            }
            keep
        });
        forgotten
    }

    /// Takes in what there is, also where its announcement was lost. The ids of it.
    pub(crate) fn find(&mut self, hierarchy: &Hierarchy) -> BTreeSet<u64> {
        let mut there = BTreeSet::new();
        for found in hierarchy.all() {
            let name = found.cgroup.path.rsplit('/').next().unwrap_or_default();
            self.insert(found.cgroup.id, found.parent, name);
            there.insert(found.cgroup.id);
        }
        there
    }

    /// The cgroup and those above it, up to the first that is not known.
    fn line(&self, id: u64) -> impl Iterator<Item = (u64, &Node)> {
        let next = |id: u64| Some((id, self.nodes.get(&id)?));
        let mut left = self.nodes.len();
        std::iter::successors(next(id), move |(_, node)| {
            // Ids lead upwards; a loop would be a mistake of the kernel's.
            left = left.checked_sub(1)?;
            next(node.parent)
        })
    }

    /// The path of a cgroup below the mount, beginning with a slash; `None` where one above it is not known.
    #[must_use]
    pub fn path(&self, id: u64) -> Option<String> {
        let line: Vec<_> = self.line(id).collect();
        let (_, top) = line.last()?;
        let names = line.iter().rev().map(|(_, node)| format!("/{}", node.name));
        (top.parent == self.root).then(|| names.collect())
    }

    /// Does a cgroup lie below another?
    #[must_use]
    pub fn is_below(&self, id: u64, above: u64) -> bool {
        self.line(id).any(|(_, node)| node.parent == above)
    }

    /// How many cgroups are known above one, with itself: of a container's the uppermost has the fewest. `None` if it is not
    /// known.
    #[must_use]
    pub fn depth(&self, id: u64) -> Option<usize> {
        let depth = self.line(id).count();
        (depth > 0).then_some(depth)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(nodes: &[(u64, u64, &str)]) -> Tree {
        let mut tree = Tree {
            root: 1,
            ..Tree::default()
        };
        for (id, parent, name) in nodes {
            tree.insert(*id, *parent, name);
        }
        tree
    }

    #[test]
    fn paths_are_put_together_whatever_their_length() {
        let long = "n".repeat(255);
        let nodes: Vec<_> = (2..102).map(|id| (id, id - 1, long.as_str())).collect();
        let tree = tree(&nodes);
        assert_eq!(tree.path(101), Some(format!("/{long}").repeat(100)));
        assert_eq!(tree.path(2), Some(format!("/{long}")));
        assert!(tree.is_below(101, 2) && tree.is_below(101, 1));
        assert!(!tree.is_below(2, 101) && !tree.is_below(101, 101));
    }

    #[test]
    fn without_all_above_it_there_is_no_path() {
        let tree = tree(&[(3, 2, "b"), (4, 3, "c"), (7, 7, "loop")]);
        assert_eq!(tree.path(4), None);
        assert!(tree.is_below(4, 3) && tree.is_below(4, 2));
        assert_eq!(tree.path(5), None);
        assert_eq!(tree.path(7), None);
        assert!(!tree.is_below(7, 1));
    }
}
