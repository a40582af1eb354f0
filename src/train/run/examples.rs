//! Choice of the texts for a step, and the network's inputs from them.

use std::ops::Range;

use candle_core::{D, Device, Tensor};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use super::super::TrainError;
use super::super::corpus::{CorpusText, TOP};
use super::super::net::{Example, TargetDistributions};
use super::super::teacher::{Teacher, TeacherOutput};
use super::Run;
use crate::model::HeadForm;
use crate::model::device::memory;
use crate::tree::TokenId;

/// Approximate bytes of GPU memory for an entry.
///
/// They hold distributions over two vocabularies, and what the network keeps until it has its
/// gradients.
const BYTES: usize = 2 << 20;
/// Maximum number of entries that are read together.
const MAX_ENTRIES: usize = 16_384;
/// Number of entries that a GPU processes while the host launches a group.
const LAUNCH_OVERHEAD_ENTRIES: usize = 2048;

/// Piece of a text, as a range of its entries.
struct Piece {
    text: CorpusText,
    from: usize,
    to: usize,
}

impl Piece {
    fn len(&self) -> usize {
        self.to - self.from
    }
}

impl Run<'_> {
    /// Returns the order of the texts in an epoch, and a random number.
    ///
    /// Both depend on seed and epoch alone.
    fn order(&self, epoch: usize) -> (Vec<usize>, u64) {
        let mut order: Vec<usize> =
            (0..self.corpus.len()).filter(|i| i % self.options.held_out != 0).collect();
        let mut rng = ChaCha8Rng::seed_from_u64(self.options.seed ^ 0x5eed);
        rng.set_stream(epoch as u64);
        for i in (1..order.len()).rev() {
            order.swap(i, (rng.next_u64() % (i as u64 + 1)) as usize);
        }
        (order, rng.next_u64())
    }

    /// Returns the texts of the current step, each with a random number.
    ///
    /// The number decides which piece of a longer text is read.
    pub(super) fn batch(&self) -> Vec<(usize, u64)> {
        let texts = self.corpus.len() - self.corpus.len().div_ceil(self.options.held_out);
        let (mut epoch, mut order, mut random) = (None, Vec::new(), 0);
        let place = |b: usize| self.step * self.options.batch + b;
        (0..self.options.batch)
            .map(|b| {
                let (now, at) = (place(b) / texts, place(b) % texts);
                if epoch != Some(now) {
                    (epoch, (order, random)) = (Some(now), self.order(now));
                }
                (order[at], random.wrapping_add(at as u64))
            })
            .collect()
    }

    /// Builds the network's inputs from a piece of each text.
    ///
    /// A longer text is cut at a place that its random number decides. Without a teacher each text
    /// is an example of its own; with one, texts of similar length are joined. `best` requests the
    /// target's most probable tokens from the teacher.
    pub(super) fn examples(
        &mut self,
        texts: &[(usize, u64)],
        best: bool,
    ) -> Result<Vec<Example>, TrainError> {
        let mut pieces = Vec::with_capacity(texts.len());
        for &(i, random) in texts {
            let text = self.corpus.read(i)?;
            let entries = text.positions().saturating_sub(1);
            let spare = entries.saturating_sub(self.options.window);
            let from = if spare == 0 { 0 } else { (random % (spare as u64 + 1)) as usize };
            pieces.push(Piece { to: entries.min(from + self.options.window), text, from });
        }
        // A text of one or two tokens has nothing to learn from.
        pieces.retain(|piece| piece.len() > 0);
        let Some(teacher) = &self.teacher else {
            return pieces.iter().map(|piece| self.example(piece)).collect();
        };
        pieces.sort_by_key(|piece| piece.to);
        let lens: Vec<usize> = pieces.iter().map(|piece| piece.to).collect();
        let groups = grouped(&lens, (memory(teacher.device()) / BYTES).min(MAX_ENTRIES));
        groups.into_iter().map(|group| self.together(&pieces[group], teacher, best)).collect()
    }

    /// Returns the weight of an entry of a piece: 1, or the prompt weight.
    ///
    /// The answer begins with the distribution after the prompt's last token.
    fn count(&self, piece: &Piece, i: usize) -> f32 {
        match piece.from + i + 2 >= piece.text.prompt_tokens as usize {
            true => 1.0,
            false => self.options.prompt_weight,
        }
    }

    /// Builds the example of one text from the corpus.
    fn example(&self, piece: &Piece) -> Result<Example, TrainError> {
        let Piece { text, from, .. } = piece;
        let (dim, width) = (self.net.sizes.dim, self.net.sizes.dim * self.after.len());
        let n = piece.len();
        let hidden: Vec<f32> = match self.options.form {
            HeadForm::Eagle => {
                text.hidden[from * width..piece.to * width].iter().map(|x| x.to_f32()).collect()
            }
            HeadForm::Adapter => (text.hidden.chunks_exact(width).skip(from + 1).take(n))
                .flat_map(|states| states[..dim].iter().map(|x| x.to_f32()))
                .collect(),
        };
        let mut embedded = Vec::with_capacity(n * dim);
        for &token in &text.tokens[from + 1..piece.to + 1] {
            embedded.extend_from_slice(&self.embedding[token as usize * dim..][..dim]);
        }
        let (mut rows, mut weights, mut best) =
            (vec![0u32; n * TOP], vec![0f32; n * TOP], vec![None; n]);
        for i in 0..n {
            let law = &text.distributions[(from + i + 1) * TOP..][..TOP];
            best[i] = self.rows[law[0].0 as usize];
            for (k, (token, p)) in law.iter().enumerate() {
                if let Some(row) = self.rows[*token as usize] {
                    rows[i * TOP + k] = row;
                    weights[i * TOP + k] = p.to_f32();
                }
            }
        }
        Ok(Example {
            hidden: Tensor::from_vec(hidden, (1, n, self.net.sizes.fused * dim), &Device::Cpu)?,
            embedded: Tensor::from_vec(embedded, (1, n, dim), &Device::Cpu)?,
            targets: TargetDistributions::Top { rows, weights },
            counts: (0..n).map(|i| self.count(piece, i)).collect(),
            best,
            lens: vec![n],
        })
    }

    /// Builds the example of several texts with the teacher.
    fn together<'a>(
        &'a self,
        pieces: &'a [Piece],
        teacher: &Teacher,
        best: bool,
    ) -> Result<Example, TrainError> {
        let n = pieces.iter().map(Piece::len).max().unwrap_or(0);
        let read = pieces.iter().map(|piece| piece.to + 1).max().unwrap_or(0);
        let (texts, dim) = (pieces.len(), self.net.sizes.dim);
        let token = |piece: &Piece, i: usize| if i <= piece.to { piece.text.tokens[i] } else { 0 };
        let tokens: Vec<TokenId> =
            pieces.iter().flat_map(|piece| (0..read).map(|i| token(piece, i))).collect();
        // Token indices of the first `len` entries of each piece, `ahead` tokens further on.
        let places = |ahead: usize, len: &dyn Fn(&Piece) -> usize| -> Vec<u32> {
            let of = |(t, piece): (usize, &Piece)| {
                let from = piece.from + ahead;
                (0..len(piece)).map(move |i| (t * read + (from + i).min(read - 1)) as u32)
            };
            pieces.iter().enumerate().flat_map(of).collect()
        };
        let TeacherOutput { hidden, distributions: laws } =
            teacher.evaluate(&tokens, texts, &places(1, &Piece::len))?;
        let behind = match self.options.form {
            HeadForm::Eagle => 0,
            HeadForm::Adapter => 1,
        };
        let width = self.net.sizes.fused * dim;
        let behind = Tensor::new(places(behind, &|_| n), teacher.device())?;
        let hidden = hidden
            .flatten_to(1)?
            .index_select(&behind, 0)?
            .narrow(1, 0, width)?
            .reshape((texts, n, width))?;
        let best = match best {
            true => laws
                .argmax(D::Minus1)?
                .to_vec1::<u32>()?
                .into_iter()
                .map(|token| self.rows[token as usize])
                .collect(),
            false => Vec::new(),
        };
        let laws = laws.index_select(&Tensor::new(self.tokens.as_slice(), teacher.device())?, 1)?;
        let mass = laws.sum_keepdim(1)?;
        let next: Vec<TokenId> =
            places(1, &|_| n).into_iter().map(|i| tokens[i as usize]).collect();
        let counts = |piece: &'a Piece| (0..piece.len()).map(move |i| self.count(piece, i));
        Ok(Example {
            hidden,
            embedded: teacher.llama().embed(&next)?.reshape((texts, n, dim))?,
            // Where the whole mass is below 32-bit range, nothing is learned.
            targets: TargetDistributions::Whole {
                given: laws.broadcast_div(&mass.maximum(f32::MIN_POSITIVE)?)?,
                mass,
            },
            counts: pieces.iter().flat_map(counts).collect(),
            best,
            lens: pieces.iter().map(Piece::len).collect(),
        })
    }
}

/// Groups texts that are read together, at the least total cost.
///
/// `lens` are their lengths in ascending order. A group has at most `most` entries unless it is a
/// single text. It costs its entries, each text padded to the longest, and
/// [`LAUNCH_OVERHEAD_ENTRIES`] more.
fn grouped(lens: &[usize], most: usize) -> Vec<Range<usize>> {
    // Least cost of the first texts, and the start of their last group.
    let mut least = vec![(0, 0)];
    for end in 1..=lens.len() {
        let fits = |&begin: &usize| begin + 1 == end || (end - begin) * lens[end - 1] <= most;
        let cost = |begin: usize| {
            (least[begin].0 + LAUNCH_OVERHEAD_ENTRIES + (end - begin) * lens[end - 1], begin)
        };
        least.push((0..end).filter(fits).map(cost).min().unwrap_or_default());
    }
    let (mut end, mut groups) = (lens.len(), Vec::new());
    while end > 0 {
        groups.push(least[end].1..end);
        end = least[end].1;
    }
    groups.reverse();
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_like_length_are_read_together() {
        assert_eq!(grouped(&[], 9000), Vec::<Range<usize>>::new());
        // A few more entries cost less than another pass, many more do not, and no group exceeds
        // the limit.
        assert_eq!(grouped(&[100, 150, 200], 9000), vec![0..3]);
        assert_eq!(grouped(&[10, 10, 10, 10, 2000], 90_000), vec![0..4, 4..5]);
        assert_eq!(grouped(&[4000, 4000, 4000, 20_000], 9000), vec![0..1, 1..3, 3..4]);
    }
}
