//! Bookkeeping of a decoder's uncommitted nodes.
//!
//! Tracks the parent and depth of each node, and the number of layers that it was run through. Both
//! backends use it, so that they reject the same input with the same error.

use super::{ForwardError, Node, Parent};

/// Uncommitted nodes, indexed by slot.
#[derive(Clone, Debug, Default)]
pub(super) struct UncommittedNodes {
    nodes: Vec<UncommittedNode>,
}

#[derive(Clone, Copy, Debug)]
struct UncommittedNode {
    parent: Option<usize>,
    depth: usize,
    layers: usize,
}

impl UncommittedNodes {
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Adds `nodes` after `len` committed positions, to be run through `layers` layers.
    ///
    /// `vocab` is the size of the vocabulary, `capacity` the number of positions that the cache can
    /// hold.
    ///
    /// # Errors
    /// If the cache is full, a token or a parent does not exist, or a parent was run through fewer
    /// layers. Nothing is added then.
    pub fn append(
        &mut self,
        vocab: usize,
        capacity: usize,
        len: usize,
        nodes: &[Node],
        layers: usize,
    ) -> Result<(), ForwardError> {
        let (before, needed) = (self.nodes.len(), len + self.nodes.len() + nodes.len());
        if needed > capacity {
            return Err(ForwardError::Full { needed, capacity });
        }
        for node in nodes {
            match self.check_node(vocab, node, layers) {
                Ok(node) => self.nodes.push(node),
                Err(e) => {
                    self.nodes.truncate(before);
                    return Err(e);
                }
            }
        }
        Ok(())
    }

    /// Returns the entry of `node`, which is to be run through `layers` layers.
    fn check_node(
        &self,
        vocab: usize,
        node: &Node,
        layers: usize,
    ) -> Result<UncommittedNode, ForwardError> {
        if node.token as usize >= vocab {
            return Err(ForwardError::Token { token: node.token, vocab });
        }
        let Parent::Slot(parent) = node.parent else {
            return Ok(UncommittedNode { parent: None, depth: 0, layers });
        };
        match self.nodes.get(parent) {
            None => Err(ForwardError::Parent { node: self.len(), parent }),
            Some(p) if p.layers < layers => Err(ForwardError::Unfinished { slot: parent }),
            Some(p) => Ok(UncommittedNode { parent: Some(parent), depth: p.depth + 1, layers }),
        }
    }

    /// Number of ancestors of slot `i` below the context.
    ///
    /// The position of the node is the number of committed positions plus this.
    pub fn depth(&self, i: usize) -> usize {
        self.nodes[i].depth
    }

    /// Iterates over slot `i`, its parent, and so on up to the context.
    pub fn path_to_context(&self, i: usize) -> impl Iterator<Item = usize> + '_ {
        std::iter::successors(Some(i), |&i| self.nodes[i].parent)
    }

    /// Checks that `path` leads from the context down through finished nodes.
    ///
    /// Every node must have been run through `layers` layers.
    ///
    /// # Errors
    /// If a slot does not continue the path, or was run through fewer layers.
    pub fn check_path(&self, path: &[usize], layers: usize) -> Result<(), ForwardError> {
        let mut parent = None;
        for &slot in path {
            match self.nodes.get(slot) {
                Some(s) if s.parent != parent => return Err(ForwardError::Path { slot }),
                Some(s) if s.layers < layers => return Err(ForwardError::Unfinished { slot }),
                Some(_) => parent = Some(slot),
                None => return Err(ForwardError::Path { slot }),
            }
        }
        Ok(())
    }

    /// Drops all nodes from `len` on.
    pub fn truncate(&mut self, len: usize) {
        self.nodes.truncate(len);
    }
}
