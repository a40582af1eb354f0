//! The uncommitted nodes of a decoder: who hangs under whom, and how far each was run.

use super::{ForwardError, Node, Parent};

/// Uncommitted nodes by slot. Both decoders keep their books with it, so that they refuse the same things.
#[derive(Clone, Debug, Default)]
pub(super) struct Slots {
    slots: Vec<Slot>,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    parent: Option<usize>,
    depth: usize,
    layers: usize,
}

impl Slots {
    /// Uncommitted nodes.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Adds `nodes`, of a vocabulary of `vocab` tokens, to be run through `layers` layers, behind `len` committed positions.
    ///
    /// # Errors
    /// If there is no room, a token or a parent is not there, or a parent was not run as far; then nothing is added.
    pub fn append(
        &mut self,
        vocab: usize,
        capacity: usize,
        len: usize,
        nodes: &[Node],
        layers: usize,
    ) -> Result<(), ForwardError> {
        let (before, needed) = (self.slots.len(), len + self.slots.len() + nodes.len());
        if needed > capacity {
            return Err(ForwardError::Full { needed, capacity });
        }
        for node in nodes {
            match self.slot(vocab, node, layers) {
                Ok(slot) => self.slots.push(slot),
                Err(e) => {
                    self.slots.truncate(before);
                    return Err(e);
                }
            }
        }
        Ok(())
    }

    fn slot(&self, vocab: usize, node: &Node, layers: usize) -> Result<Slot, ForwardError> {
        if node.token as usize >= vocab {
            return Err(ForwardError::Token { token: node.token, vocab });
        }
        let Parent::Slot(parent) = node.parent else { return Ok(Slot { parent: None, depth: 0, layers }) };
        match self.slots.get(parent) {
            None => Err(ForwardError::Parent { node: self.len(), parent }),
            Some(p) if p.layers < layers => Err(ForwardError::Unfinished { slot: parent }),
            Some(p) => Ok(Slot { parent: Some(parent), depth: p.depth + 1, layers }),
        }
    }

    /// Nodes between the context and slot `i`: its position is the count of committed ones plus this.
    pub fn depth(&self, i: usize) -> usize {
        self.slots[i].depth
    }

    /// Slot `i`, its parent, and so on up to the context.
    pub fn upward(&self, i: usize) -> impl Iterator<Item = usize> + '_ {
        std::iter::successors(Some(i), |&i| self.slots[i].parent)
    }

    /// Checks that `path` leads from the context down through nodes that were run through all `layers`.
    ///
    /// # Errors
    /// If it doesn't.
    pub fn check_path(&self, path: &[usize], layers: usize) -> Result<(), ForwardError> {
        let mut parent = None;
        for &slot in path {
            match self.slots.get(slot) {
                Some(s) if s.parent != parent => return Err(ForwardError::Path { slot }),
                Some(s) if s.layers < layers => return Err(ForwardError::Unfinished { slot }),
                Some(_) => parent = Some(slot),
                None => return Err(ForwardError::Path { slot }),
            }
        }
        Ok(())
    }

    /// Drops all from `len` on.
    pub fn truncate(&mut self, len: usize) {
        self.slots.truncate(len);
    }
}
