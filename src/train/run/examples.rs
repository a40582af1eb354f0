//! Which texts a step reads, and what the network reads of them.

use candle_core::{D, Device, Tensor};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use super::super::TrainError;
use super::super::corpus::{TOP, Text};
use super::super::net::{Example, Laws};
use super::super::teacher::{Lesson, Teacher};
use super::Run;
use crate::model::HeadForm;
use crate::tree::TokenId;

/// Entries that a GPU reads together, those that fill up the shorter texts included. Their laws take some gigabytes.
const TOGETHER: usize = 4096;

/// A piece of a text: its entries from one on up to another.
struct Piece {
    text: Text,
    from: usize,
    to: usize,
}

impl Piece {
    fn len(&self) -> usize {
        self.to - self.from
    }
}

impl Run<'_> {
    /// The order in which the texts are read in an epoch, and a random number: a function of seed and epoch alone.
    fn order(&self, epoch: usize) -> (Vec<usize>, u64) {
        let mut order: Vec<usize> = (0..self.corpus.len()).filter(|i| i % self.options.held_out != 0).collect();
        let mut rng = ChaCha8Rng::seed_from_u64(self.options.seed ^ 0x5eed);
        rng.set_stream(epoch as u64);
        for i in (1..order.len()).rev() {
            order.swap(i, (rng.next_u64() % (i as u64 + 1)) as usize);
        }
        (order, rng.next_u64())
    }

    /// Which texts the present step reads, each with a random number that says where in it.
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

    /// What the network reads of these texts, a piece of each, where in a longer text its random number says: one by one, or with a
    /// teacher those of like length together. With `best` the target's most probable tokens, too.
    pub(super) fn examples(&mut self, texts: &[(usize, u64)], best: bool) -> Result<Vec<Example>, TrainError> {
        let mut pieces = Vec::with_capacity(texts.len());
        for &(i, random) in texts {
            let text = self.corpus.read(i)?;
            let entries = text.positions().saturating_sub(1);
            let spare = entries.saturating_sub(self.options.window);
            let from = if spare == 0 { 0 } else { (random % (spare as u64 + 1)) as usize };
            pieces.push(Piece { to: entries.min(from + self.options.window), text, from });
        }
        // A text of one token or two has nothing to tell.
        pieces.retain(|piece| piece.len() > 0);
        let Some(teacher) = &self.teacher else { return pieces.iter().map(|piece| self.example(piece)).collect() };
        pieces.sort_by_key(Piece::len);
        let mut examples = Vec::new();
        let mut rest = &pieces[..];
        while let Some(first) = rest.first() {
            // What begins within a text is read alone.
            let fits = |n: usize| rest[n].from == 0 && first.from == 0 && (n + 1) * rest[n].len() <= TOGETHER;
            let (now, later) = rest.split_at((1..rest.len()).find(|&n| !fits(n)).unwrap_or(rest.len()));
            examples.push(self.together(now, teacher, best)?);
            rest = later;
        }
        Ok(examples)
    }

    /// How much an entry of a piece counts: the answer begins with the law after the prompt's last token.
    fn count(&self, piece: &Piece, i: usize) -> f32 {
        match piece.from + i + 2 >= piece.text.prompt_tokens as usize {
            true => 1.0,
            false => self.options.prompt_weight,
        }
    }

    /// Of one text, by what the corpus has of it.
    fn example(&self, piece: &Piece) -> Result<Example, TrainError> {
        let Piece { text, from, .. } = piece;
        let (dim, width) = (self.net.sizes.dim, self.net.sizes.dim * self.after.len());
        let n = piece.len();
        let hidden: Vec<f32> = match self.options.form {
            HeadForm::Eagle => text.hidden[from * width..piece.to * width].iter().map(|x| x.to_f32()).collect(),
            HeadForm::Adapter => (text.hidden.chunks_exact(width).skip(from + 1).take(n))
                .flat_map(|states| states[..dim].iter().map(|x| x.to_f32()))
                .collect(),
        };
        let mut embedded = Vec::with_capacity(n * dim);
        for &token in &text.tokens[from + 1..piece.to + 1] {
            embedded.extend_from_slice(&self.embedding[token as usize * dim..][..dim]);
        }
        let (mut rows, mut weights, mut best) = (vec![0u32; n * TOP], vec![0f32; n * TOP], vec![None; n]);
        for i in 0..n {
            let law = &text.laws[(from + i + 1) * TOP..][..TOP];
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
            laws: Laws::Top { rows, weights },
            counts: (0..n).map(|i| self.count(piece, i)).collect(),
            best,
            lens: vec![n],
        })
    }

    /// Of several texts, by what the teacher says of them.
    fn together(&self, pieces: &[Piece], teacher: &Teacher, best: bool) -> Result<Example, TrainError> {
        let from = pieces.first().map_or(0, |piece| piece.from);
        let n = pieces.iter().map(Piece::len).max().unwrap_or(0);
        let (texts, dim) = (pieces.len(), self.net.sizes.dim);
        let token = |piece: &Piece, i: usize| if i <= piece.to { piece.text.tokens[i] } else { 0 };
        let tokens = |from: usize| -> Vec<TokenId> {
            pieces.iter().flat_map(|piece| (from..=piece.from + n).map(|i| token(piece, i))).collect()
        };
        let Lesson { hidden, laws } = teacher.read(&tokens(0), texts)?;
        let hidden = match self.options.form {
            HeadForm::Eagle => hidden.narrow(1, from, n)?,
            HeadForm::Adapter => hidden.narrow(1, from + 1, n)?.narrow(2, 0, dim)?,
        };
        let laws = laws.narrow(1, from + 1, n)?.flatten_to(1)?;
        let best = match best {
            true => laws.argmax(D::Minus1)?.to_vec1::<u32>()?.into_iter().map(|token| self.rows[token as usize]).collect(),
            false => Vec::new(),
        };
        let rows = Tensor::new(self.tokens.as_slice(), teacher.device())?;
        let count = |piece: &Piece, i: usize| if i < piece.len() { self.count(piece, i) } else { 0.0 };
        Ok(Example {
            hidden: hidden.contiguous()?,
            embedded: teacher.llama().embed(&tokens(from + 1))?.reshape((texts, n, dim))?,
            laws: Laws::Whole(laws.index_select(&rows, 1)?),
            counts: pieces.iter().flat_map(|piece| (0..n).map(move |i| count(piece, i))).collect(),
            best,
            lens: pieces.iter().map(Piece::len).collect(),
        })
    }
}
