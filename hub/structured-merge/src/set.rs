//! Sets of paths. What holds others is not in a set by that alone: `a.b` may be in it without `a`.

use std::collections::BTreeMap;

use crate::path::PathElement;

/// Paths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Set {
    pub(crate) nodes: BTreeMap<PathElement, Node>,
}

/// What a set has at a step and behind it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Node {
    /// The path that ends here is in the set.
    pub(crate) member: bool,
    pub(crate) children: Set,
}

impl Node {
    fn is_empty(&self) -> bool {
        !self.member && self.children.is_empty()
    }
}

impl Set {
    /// A set of paths of names.
    pub(crate) fn of_fields(paths: &[&[&str]]) -> Self {
        let mut out = Self::default();
        for path in paths {
            let path: Vec<_> = path.iter().map(|name| PathElement::Field((*name).into())).collect();
            out.insert(&path);
        }
        out
    }

    /// Whether nothing is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.values().all(Node::is_empty)
    }

    /// Adds a path. The empty one, which is the whole object, is nobody's.
    pub(crate) fn insert(&mut self, path: &[PathElement]) {
        let Some((first, rest)) = path.split_first() else { return };
        if !self.nodes.contains_key(first) {
            self.nodes.insert(first.clone(), Node::default());
        }
        let Some(node) = self.nodes.get_mut(first) else { return };
        if rest.is_empty() { node.member = true } else { node.children.insert(rest) }
    }

    /// Whether a path is in it.
    pub(crate) fn has(&self, path: &[PathElement]) -> bool {
        match path.split_first() {
            None => false,
            Some((last, [])) => self.has_member(last),
            Some((first, rest)) => self.nodes.get(first).is_some_and(|n| n.children.has(rest)),
        }
    }

    /// Whether a path of one step is in it.
    pub(crate) fn has_member(&self, step: &PathElement) -> bool {
        self.nodes.get(step).is_some_and(|node| node.member)
    }

    /// What is behind a step, unless that is nothing.
    pub(crate) fn behind(&self, step: &PathElement) -> Option<&Self> {
        self.nodes.get(step).map(|node| &node.children).filter(|children| !children.is_empty())
    }

    /// What is in either.
    pub(crate) fn union(&mut self, other: &Self) {
        for (step, node) in &other.nodes {
            match self.nodes.get_mut(step) {
                Some(own) => {
                    own.member |= node.member;
                    own.children.union(&node.children);
                }
                None => drop(self.nodes.insert(step.clone(), node.clone())),
            }
        }
    }

    /// What is in both.
    #[must_use]
    pub(crate) fn intersection(&self, other: &Self) -> Self {
        let both = |(step, own): (&PathElement, &Node)| {
            let node = other.nodes.get(step)?;
            let both = Node {
                member: own.member && node.member,
                children: own.children.intersection(&node.children),
            };
            (!both.is_empty()).then(|| (step.clone(), both))
        };
        Self { nodes: self.nodes.iter().filter_map(both).collect() }
    }

    /// Takes out what is in the other one; what is inside of that stays.
    pub(crate) fn remove(&mut self, other: &Self) {
        self.nodes.retain(|step, own| {
            if let Some(node) = other.nodes.get(step) {
                own.member &= !node.member;
                own.children.remove(&node.children);
            }
            !own.is_empty()
        });
    }

    /// Takes out what is in the other one, and all that is inside of that.
    pub(crate) fn remove_with_content(&mut self, other: &Self) {
        self.nodes.retain(|step, own| match other.nodes.get(step) {
            None => !own.is_empty(),
            Some(node) if node.member => false,
            Some(node) => {
                own.children.remove_with_content(&node.children);
                !own.is_empty()
            }
        });
    }

    /// How many paths there are.
    pub(crate) fn len(&self) -> usize {
        self.nodes.values().map(|node| usize::from(node.member) + node.children.len()).sum()
    }

    /// Shows every path, those that end here before those that go on, as long as `see` wants more.
    pub(crate) fn each<'a>(&'a self, see: &mut impl FnMut(&[&'a PathElement]) -> bool) {
        self.walk(&mut Vec::new(), see);
    }

    fn walk<'a>(
        &'a self,
        path: &mut Vec<&'a PathElement>,
        see: &mut impl FnMut(&[&'a PathElement]) -> bool,
    ) -> bool {
        let mut goes_on = true;
        for step in self.nodes.iter().filter(|(_, node)| node.member).map(|(step, _)| step) {
            path.push(step);
            goes_on = goes_on && see(path);
            path.pop();
        }
        for (step, node) in &self.nodes {
            path.push(step);
            goes_on = goes_on && node.children.walk(path, see);
            path.pop();
        }
        goes_on
    }

    /// Every path.
    #[cfg(test)]
    pub(crate) fn paths(&self) -> Vec<Vec<PathElement>> {
        let mut out = Vec::new();
        self.each(&mut |path| {
            out.push(path.iter().copied().cloned().collect());
            true
        });
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(paths: &[&[&str]]) -> Set {
        Set::of_fields(paths)
    }

    #[test]
    fn a_parent_and_its_child_are_two() {
        let mut both = set(&[&["a"], &["a", "b"]]);
        both.remove(&set(&[&["a"]]));
        assert_eq!(both, set(&[&["a", "b"]]));
        let mut both = set(&[&["a"], &["a", "b"]]);
        both.remove(&set(&[&["a", "b"]]));
        assert_eq!(both, set(&[&["a"]]));
        let mut both = set(&[&["a"], &["a", "b"], &["c"]]);
        both.remove_with_content(&set(&[&["a"]]));
        assert_eq!(both, set(&[&["c"]]));
    }

    #[test]
    fn what_is_in_both_is_told() {
        let (a, b) = (set(&[&["a", "b"], &["c"]]), set(&[&["a", "b"], &["a", "d"], &["c", "x"]]));
        assert_eq!(a.intersection(&b), set(&[&["a", "b"]]));
        let mut all = a.clone();
        all.union(&b);
        assert_eq!(all, set(&[&["a", "b"], &["a", "d"], &["c"], &["c", "x"]]));
        assert!(all.has(&[PathElement::Field("c".into()), PathElement::Field("x".into())]));
        assert!(a.intersection(&set(&[&["a"]])).is_empty());
    }
}
