//! Visible positions of the tokens of a pass, and the cache slots that hold them.

/// Paths of the tokens of a pass, from the context down.
#[derive(Debug, Default)]
pub struct Paths {
    nodes: Vec<u32>,
    /// End of each token's path in `nodes`, and the length of a prefix.
    ///
    /// In the prefix, the node numbers equal their indices on the path.
    ends: Vec<(usize, usize)>,
    longest: usize,
}

impl Paths {
    pub fn clear(&mut self) {
        self.nodes.clear();
        self.ends.clear();
        self.longest = 0;
    }

    /// Adds the path of one more token, given from the token up to the context.
    pub fn push(&mut self, upward: impl Iterator<Item = usize>) {
        let from = self.nodes.len();
        self.nodes.extend(upward.map(|node| node as u32));
        let path = &mut self.nodes[from..];
        path.reverse();
        self.longest = self.longest.max(path.len());
        let same = path.iter().zip(0u32..).take_while(|&(&node, j)| node == j).count();
        self.ends.push((self.nodes.len(), same));
    }

    /// Returns the positions visible to token `t` after a context of `len` positions.
    pub fn visibility(&self, t: usize, len: usize) -> Visibility<'_> {
        let from = if t == 0 { 0 } else { self.ends[t - 1].0 };
        let (end, same) = self.ends[t];
        let path = &self.nodes[from..end];
        Visibility { path, end: len + path.len(), direct: len + same }
    }

    /// Number of nodes on the longest path.
    pub fn longest(&self) -> usize {
        self.longest
    }

    /// Number of tokens in the pass.
    pub fn tokens(&self) -> usize {
        self.ends.len()
    }
}

/// Positions visible to one token.
#[derive(Clone, Copy)]
pub struct Visibility<'a> {
    /// Uncommitted nodes on the path to the token, the token last.
    pub path: &'a [u32],
    /// Number of visible positions, the token's own included.
    pub end: usize,
    /// Positions below this one lie in the slot of the same number.
    pub direct: usize,
}
