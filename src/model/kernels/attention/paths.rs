//! Which positions the tokens of a pass see, and where these lie.

/// The paths of the tokens of a pass.
#[derive(Debug, Default)]
pub struct Paths {
    nodes: Vec<u32>,
    /// For each token where its path ends in `nodes`, and how many nodes from its begin on are numbered as they stand.
    ends: Vec<(usize, usize)>,
    longest: usize,
}

impl Paths {
    /// No token.
    pub fn clear(&mut self) {
        self.nodes.clear();
        self.ends.clear();
        self.longest = 0;
    }

    /// One more token, given from itself up to the context.
    pub fn push(&mut self, upward: impl Iterator<Item = usize>) {
        let from = self.nodes.len();
        self.nodes.extend(upward.map(|node| node as u32));
        let path = &mut self.nodes[from..];
        path.reverse();
        self.longest = self.longest.max(path.len());
        let same = path.iter().zip(0u32..).take_while(|&(&node, j)| node == j).count();
        self.ends.push((self.nodes.len(), same));
    }

    /// What token `t` sees behind a context of `len` positions.
    pub fn sight(&self, t: usize, len: usize) -> Sight<'_> {
        let from = if t == 0 { 0 } else { self.ends[t - 1].0 };
        let (end, same) = self.ends[t];
        let path = &self.nodes[from..end];
        Sight { path, end: len + path.len(), direct: len + same }
    }

    /// Nodes of the longest path.
    pub fn longest(&self) -> usize {
        self.longest
    }

    /// Tokens.
    pub fn tokens(&self) -> usize {
        self.ends.len()
    }
}

/// What one token sees, in positions.
#[derive(Clone, Copy)]
pub struct Sight<'a> {
    /// The uncommitted nodes on the way to it, itself last.
    pub path: &'a [u32],
    /// Positions, its own included.
    pub end: usize,
    /// Up to here position and slot are the same.
    pub direct: usize,
}
