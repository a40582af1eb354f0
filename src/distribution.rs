//! Distributions over the vocabulary: temperature, top-k, top-p, entropy moments, sampling.
//!
//! Pure computation on logits. Every sum runs in a fixed order over token ids, so that equal logits
//! give equal bits.

use crate::tree::TokenId;

/// Sampling parameters, applied to the target's logits in order: temperature, top-k, top-p.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Temperature; 0 is greedy: the arg-max gets probability 1 (ties to the lower id).
    pub temperature: f32,
    /// Nucleus mass: keeps the smallest set of most probable tokens that reaches it.
    ///
    /// 1 keeps all tokens.
    pub top_p: f32,
    /// Number of most probable tokens that are kept; `None` keeps all.
    pub top_k: Option<usize>,
}

impl Sampling {
    /// Greedy decoding: the arg-max has probability 1.
    pub const GREEDY: Sampling = Sampling { temperature: 0.0, top_p: 1.0, top_k: None };
    /// Unmodified distribution of the model: temperature 1, no truncation.
    pub const PLAIN: Sampling = Sampling { temperature: 1.0, top_p: 1.0, top_k: None };

    /// Returns true if the distribution is always a single token.
    pub fn greedy(&self) -> bool {
        self.temperature == 0.0 || self.top_k == Some(1)
    }
}

/// Error for logits that define no distribution: some are not finite, or there are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.message())]
pub struct NotFinite {
    /// First token whose logit is not finite; `None` if there are no logits.
    pub token: Option<TokenId>,
}

impl NotFinite {
    fn message(&self) -> String {
        match self.token {
            Some(token) => format!(
                "the logit of token {token} is not finite: the weights are damaged: compare them with their checksum (speclight \
                 models verify)"
            ),
            None => "no logits came from the device".into(),
        }
    }
}

/// Entropy and second moment of the surprisal of one distribution.
#[derive(Clone, Copy, Debug, PartialEq, Default, serde::Serialize, serde::Deserialize)]
pub struct Moments {
    /// Entropy H = -sum p ln p, in nats.
    pub entropy: f64,
    /// Second moment sum p ln^2 p, in nats^2.
    pub second: f64,
}

impl Moments {
    /// Computes the moments from ln Z and the sums of z e^z and z^2 e^z.
    ///
    /// Here z = (logit - max) / T and Z is the sum of e^z, so that p = e^z / Z and ln p = z - ln Z.
    fn from_sums(log_z: f64, [s1, s2]: [f64; 2]) -> Moments {
        let z = log_z.exp();
        let (m1, m2) = (s1 / z, s2 / z);
        Moments {
            entropy: (log_z - m1).max(0.0),
            second: (m2 - 2.0 * log_z * m1 + log_z * log_z).max(0.0),
        }
    }
}

/// Sums over the logits of one position, for the whole vocabulary at a temperature T.
///
/// Computed on the device that holds the logits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LogitSums {
    /// Highest logit of the position.
    pub max: f32,
    /// Token of the highest logit; ties go to the lower id.
    pub best: TokenId,
    /// Sum of e^z, where z = (logit - max) / T.
    pub z: f64,
    /// Sums of z e^z and of z^2 e^z, in this order.
    pub sums: [f64; 2],
}

impl LogitSums {
    /// Returns true if all logits are finite; otherwise the sums are not.
    pub fn is_finite(&self) -> bool {
        self.max.is_finite() && self.z.is_finite() && self.sums.iter().all(|sum| sum.is_finite())
    }

    /// Returns the probability of a token with this logit.
    ///
    /// `inv_t` is 1 / T for the temperature T of these sums.
    pub fn p(&self, logit: f32, inv_t: f32) -> f64 {
        (f64::from((logit - self.max) * inv_t) - self.z.ln()).exp()
    }

    /// Returns the entropy and second moment of the distribution.
    pub fn moments(&self) -> Moments {
        Moments::from_sums(self.z.ln(), self.sums)
    }
}

/// Distribution of the next token under sampling parameters, over borrowed logits.
///
/// Tokens are ordered by descending logit, ties to the lower id; the support is always a prefix of
/// that order.
#[derive(Clone, Debug)]
pub struct TokenDist<'a> {
    logits: &'a [f32],
    max: f32,
    best: TokenId,
    inv_t: f32,
    /// Logit and id of the last token in the support; `None` for the whole vocabulary.
    last: Option<(f32, TokenId)>,
    /// Logarithm of the sum over the support of exp((logit - max) / T).
    log_z: f64,
    /// Sums over the support of z e^z and of z^2 e^z.
    ///
    /// Here z = (logit - max) / T.
    ///
    /// One pass over the logits yields the normalizer and both moments.
    sums: [f64; 2],
}

/// Returns the token with the highest logit, ties to the lower id, and its logit.
///
/// # Errors
/// If a logit is NaN or infinite, or there is none.
pub fn argmax(logits: &[f32]) -> Result<(TokenId, f32), NotFinite> {
    wide(
        #[inline(always)]
        || argmax_lanes(logits),
    )
}

#[inline(always)]
fn argmax_lanes(logits: &[f32]) -> Result<(TokenId, f32), NotFinite> {
    // Becomes NaN as soon as one term is not finite.
    let mut bad = [0f32; LANES];
    // First block with the highest logit: the position is searched only there.
    let (mut top, mut found) = (f32::NEG_INFINITY, 0);
    for (b, block) in logits.chunks(BLOCK).enumerate() {
        let mut max = [f32::NEG_INFINITY; LANES];
        let (chunks, rest) = block.as_chunks::<LANES>();
        for c in chunks {
            for i in 0..LANES {
                max[i] = if c[i] > max[i] { c[i] } else { max[i] };
                bad[i] += c[i] * 0.0;
            }
        }
        let mut here = f32::NEG_INFINITY;
        for &x in max.iter().chain(rest) {
            here = if x > here { x } else { here };
        }
        for x in rest {
            bad[0] += x * 0.0;
        }
        if here > top {
            (top, found) = (here, b * BLOCK);
        }
    }
    if logits.is_empty() || bad.iter().sum::<f32>() != 0.0 {
        let token = logits.iter().position(|x| !x.is_finite()).map(|token| token as TokenId);
        return Err(NotFinite { token });
    }
    let token = found + logits[found..].iter().position(|&x| x == top).unwrap_or(0);
    Ok((token as TokenId, top))
}

/// Runs `f`, inlined, with the widest instructions of this CPU.
///
/// The results have the same bits on every CPU, since nothing is reordered.
#[inline(always)]
fn wide<R>(f: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(f)
}

/// Returns the number of tokens before `token` in descending order; 0 for the arg-max.
///
/// Tokens are ordered by logit, ties to the lower id.
pub fn rank(logits: &[f32], token: TokenId) -> usize {
    let at = token as usize;
    let own = logits[at];
    wide(
        #[inline(always)]
        || {
            let above = logits.iter().map(|&x| u32::from(x > own)).sum::<u32>();
            let ties = logits[..at].iter().map(|&x| u32::from(x == own)).sum::<u32>();
            (above + ties) as usize
        },
    )
}

impl<'a> TokenDist<'a> {
    /// Builds the distribution of `logits` (one per vocabulary token) under `sampling`.
    ///
    /// # Errors
    /// If a logit is NaN or infinite, or there is none.
    pub fn new(logits: &'a [f32], sampling: &Sampling) -> Result<Self, NotFinite> {
        let (best, max) = argmax(logits)?;
        let mut dist =
            TokenDist { logits, max, best, inv_t: 1.0, last: None, log_z: 0.0, sums: [0.0; 2] };
        if sampling.greedy() {
            dist.last = Some((max, best));
            return Ok(dist);
        }
        dist.inv_t = 1.0 / sampling.temperature;
        if !dist.inv_t.is_finite() {
            // Temperature below the smallest normal number: only the arg-max has any mass.
            dist.inv_t = 1.0;
            dist.last = Some((max, best));
            return Ok(dist);
        }
        if let Some(k) = sampling.top_k.filter(|&k| k < logits.len()) {
            dist.last = Some(dist.nth(k.max(1) - 1));
        }
        dist.normalize();
        if sampling.top_p < 1.0 {
            dist.last = Some(dist.nucleus(f64::from(sampling.top_p.max(0.0))));
            dist.normalize();
        }
        Ok(dist)
    }

    /// Builds the distribution that gives `best`, whose logit is `max`, probability 1.
    ///
    /// For callers without the logits. [`TokenDist::rank`] then works for `best` only.
    pub fn one_hot(best: TokenId, max: f32) -> TokenDist<'static> {
        TokenDist {
            logits: &[],
            max,
            best,
            inv_t: 1.0,
            last: Some((max, best)),
            log_z: 0.0,
            sums: [0.0; 2],
        }
    }

    /// Returns the distribution of the same logits at temperature 1, over the whole vocabulary.
    pub fn to_unmodified(&self) -> TokenDist<'a> {
        let mut dist = TokenDist { inv_t: 1.0, last: None, ..self.clone() };
        dist.normalize();
        dist
    }

    /// Returns the most probable token; ties go to the lower id.
    pub fn best(&self) -> TokenId {
        self.best
    }

    /// Returns the probability of `token`; 0 outside the support.
    pub fn p(&self, token: TokenId) -> f64 {
        if self.last == Some((self.max, self.best)) {
            return f64::from(u8::from(token == self.best));
        }
        let x = self.logits[token as usize];
        if !self.in_support(x, token) {
            return 0.0;
        }
        (f64::from((x - self.max) * self.inv_t) - self.log_z).exp()
    }

    /// Returns the rank of `token` by descending logit; 0 for the arg-max.
    pub fn rank(&self, token: TokenId) -> usize {
        if token == self.best {
            return 0;
        }
        rank(self.logits, token)
    }

    /// Returns the entropy and second moment over the support.
    pub fn moments(&self) -> Moments {
        Moments::from_sums(self.log_z, self.sums)
    }

    /// Samples by inverse transform: returns the token at quantile `u` in \[0, 1).
    ///
    /// Tokens are taken in order of their ids. The same `u` gives the same token for the same
    /// logits, whichever drafter ran (common random numbers).
    pub fn sample(&self, u: f64) -> TokenId {
        if self.last == Some((self.max, self.best)) {
            return self.best;
        }
        self.quantile(u, &[]).unwrap_or(self.best)
    }

    /// Samples from the distribution without the tokens of `without`, at quantile `u` in \[0, 1).
    ///
    /// Tokens are taken in order of their ids. Returns `None` if no other token is in the support.
    pub fn sample_without(&self, u: f64, without: &[TokenId]) -> Option<TokenId> {
        let mut without = without.to_vec();
        without.sort_unstable();
        let mut other = None;
        self.quantile(u, &without).or_else(|| {
            // Rounding hid the remaining tokens, or there are none.
            self.for_each(|token, _| {
                other = other.or(Some(token).filter(|token| without.binary_search(token).is_err()))
            });
            other
        })
    }

    /// Returns the token at quantile `u` of the support minus `without`, which is ascending.
    ///
    /// Returns `None` if rounding leaves no token at that quantile.
    fn quantile(&self, u: f64, without: &[TokenId]) -> Option<TokenId> {
        let of = |token: TokenId| f64::from(self.weight(self.logits[token as usize], token).1);
        let goal = u * (self.log_z.exp() - without.iter().map(|&token| of(token)).sum::<f64>());
        let (mut below, mut without) = (0.0, without);
        for (b, block) in self.logits.chunks(BLOCK).enumerate() {
            let base = (b * BLOCK) as TokenId;
            let [mass] = wide(
                #[inline(always)]
                || self.block(block, base, &exp_term),
            );
            let (here, later) =
                without.split_at(without.partition_point(|&token| token < base + BLOCK as TokenId));
            let mass = mass - here.iter().map(|&token| of(token)).sum::<f64>();
            without = later;
            if below + mass > goal {
                let (mut at, mut found) = (below, None);
                for (i, &x) in block.iter().enumerate() {
                    let token = base + i as TokenId;
                    let e = f64::from(self.weight(x, token).1);
                    if e > 0.0 && here.binary_search(&token).is_err() {
                        at += e;
                        found = Some(token);
                        if at > goal {
                            return found;
                        }
                    }
                }
                // Reached only if rounding makes the block's sum larger than this walk: take its
                // last token.
                if found.is_some() {
                    return found;
                }
            }
            below += mass;
        }
        None
    }

    /// Returns the `n` most probable tokens of the support with their probabilities, descending.
    pub fn top(&self, n: usize) -> Vec<(TokenId, f64)> {
        if n == 0 {
            return Vec::new();
        }
        // Best n so far as a sorted list: n is small, and few tokens exceed the gate.
        let mut best: Vec<(f32, TokenId)> = Vec::with_capacity(n + 1);
        let mut gate = f32::NEG_INFINITY;
        for (lanes, first) in self.logits.chunks(LANES).zip((0..).step_by(LANES)) {
            if best.len() == n && !lanes.iter().fold(false, |any, &x| any | (x > gate)) {
                continue;
            }
            for (&x, token) in lanes.iter().zip(first..) {
                if x > gate || best.len() < n {
                    let at = best.partition_point(|&(y, _)| y >= x);
                    best.insert(at, (x, token));
                    best.truncate(n);
                    if best.len() == n {
                        gate = best[n - 1].0;
                    }
                }
            }
        }
        best.into_iter()
            .filter(|&(x, t)| self.in_support(x, t))
            .map(|(_, t)| (t, self.p(t)))
            .collect()
    }

    /// Calls `f` with every token of the support and its probability, in order of ids.
    pub fn for_each(&self, mut f: impl FnMut(TokenId, f64)) {
        let z = self.log_z.exp();
        for (i, &x) in self.logits.iter().enumerate() {
            let (_, e) = self.weight(x, i as TokenId);
            if e > 0.0 {
                f(i as TokenId, f64::from(e) / z);
            }
        }
    }

    /// Calls `f` with surprisal and probability of each support token of surprisal below `cut`.
    ///
    /// Surprisal is -ln p in nats, at least 0. Tokens come in order of ids.
    pub fn surprisals(&self, cut: f32, mut f: impl FnMut(f32, f64)) {
        if self.last == Some((self.max, self.best)) {
            if cut > 0.0 {
                f(0.0, 1.0);
            }
            return;
        }
        wide(
            #[inline(always)]
            || self.surprisals_lanes(cut, &mut f),
        );
    }

    #[inline(always)]
    fn surprisals_lanes(&self, cut: f32, f: &mut impl FnMut(f32, f64)) {
        match self.last {
            None => self.report_below::<true>((f32::NEG_INFINITY, 0), cut, f),
            Some(last) => self.report_below::<false>(last, cut, f),
        }
    }

    /// Reports tokens of surprisal below `cut` to `f`.
    ///
    /// With `ALL` every token is in the support, else those up to the one with logit `least` and id
    /// `last`.
    #[inline(always)]
    fn report_below<const ALL: bool>(
        &self,
        (least, last): (f32, TokenId),
        cut: f32,
        f: &mut impl FnMut(f32, f64),
    ) {
        let log_z = self.log_z as f32;
        // z of the matching tokens in order of ids, buffered until there are enough to report.
        let (mut kept, mut n) = ([0f32; REPORT_BUFFER], 0);
        let mut z = [0f32; LANES];
        for (lanes, first) in self.logits.chunks(LANES).zip((0..).step_by(LANES)) {
            // Loops, not chains of closures, as in `sums`. A short last group is padded with
            // -infinity.
            let mut near = false;
            let mut padded = [f32::NEG_INFINITY; LANES];
            let lanes = match <&[f32; LANES]>::try_from(lanes) {
                Ok(lanes) => lanes,
                Err(_) => {
                    padded[..lanes.len()].copy_from_slice(lanes);
                    &padded
                }
            };
            for i in 0..LANES {
                z[i] = (lanes[i] - self.max) * self.inv_t;
                near |= log_z - z[i] < cut;
            }
            // Most of a vocabulary lies in the tail: whole groups of it are skipped.
            if !near {
                continue;
            }
            // Matches within a group are unpredictable, so this does not branch: each z is written,
            // and the next one overwrites it unless it matched.
            for i in 0..LANES {
                let holds = ALL
                    | (lanes[i] > least)
                    | ((lanes[i] == least) & (first + i as TokenId <= last));
                kept[n % REPORT_BUFFER] = z[i];
                n += usize::from((log_z - z[i] < cut) & holds);
            }
            if n > REPORT_BUFFER - 2 * LANES {
                self.report(&kept[..n], f);
                n = 0;
            }
        }
        self.report(&kept[..n], f);
    }

    /// Calls `f` with surprisal and probability for each of these z, skipping probability 0.
    #[inline(always)]
    fn report(&self, kept: &[f32], f: &mut impl FnMut(f32, f64)) {
        let (log_z, inv_z) = (self.log_z as f32, (-self.log_z).exp());
        let (mut x, mut e) = ([0f32; LANES], [0f32; LANES]);
        for kept in kept.chunks(LANES) {
            for (i, &z) in kept.iter().enumerate() {
                (x[i], e[i]) = (log_z - z, z);
            }
            for e in &mut e {
                *e = exp(*e);
            }
            for (&x, &e) in x.iter().zip(&e).take(kept.len()) {
                if e > 0.0 {
                    f(x.max(0.0), f64::from(e) * inv_z);
                }
            }
        }
    }

    #[inline(always)]
    fn in_support(&self, x: f32, token: TokenId) -> bool {
        self.last.is_none_or(|(y, t)| x > y || (x == y && token <= t))
    }

    /// Returns (z, e^z) of one token, where e^z is 0 outside the support.
    ///
    /// Here z = (logit - max) / T.
    #[inline(always)]
    fn weight(&self, x: f32, token: TokenId) -> (f32, f32) {
        let z = (x - self.max) * self.inv_t;
        (z, if self.in_support(x, token) { exp(z) } else { 0.0 })
    }

    /// Sums f(z, e^z) over one block of logits whose first token is `base`.
    ///
    /// `f` must be 0 where e^z is 0.
    #[inline(always)]
    fn block<const N: usize>(
        &self,
        block: &[f32],
        base: TokenId,
        f: &impl Fn(f32, f32) -> [f32; N],
    ) -> [f64; N] {
        let mut lanes = [[0f32; LANES]; N];
        let chunks = block.chunks_exact(LANES);
        let (rest, whole) = (chunks.remainder(), block.len() / LANES * LANES);
        if let Some((y, last)) = self.last {
            for (c, first) in chunks.zip((base..).step_by(LANES)) {
                for i in 0..LANES {
                    let z = (c[i] - self.max) * self.inv_t;
                    let holds = (c[i] > y) | ((c[i] == y) & (first + i as TokenId <= last));
                    let terms = f(z, if holds { exp(z) } else { 0.0 });
                    for n in 0..N {
                        lanes[n][i] += terms[n];
                    }
                }
            }
        } else {
            for c in chunks {
                for i in 0..LANES {
                    let z = (c[i] - self.max) * self.inv_t;
                    let terms = f(z, exp(z));
                    for n in 0..N {
                        lanes[n][i] += terms[n];
                    }
                }
            }
        }
        for (i, &x) in rest.iter().enumerate() {
            let (z, e) = self.weight(x, base + (whole + i) as TokenId);
            let terms = f(z, e);
            for n in 0..N {
                lanes[n][i] += terms[n];
            }
        }
        lanes.map(|lanes| lanes.iter().map(|&x| f64::from(x)).sum())
    }

    #[inline(always)]
    fn sums<const N: usize>(&self, f: impl Fn(f32, f32) -> [f32; N]) -> [f64; N] {
        wide(
            #[inline(always)]
            || {
                // Loops, not chains of closures: all of it must be inlined here to be compiled for
                // these instructions.
                let mut sums = [0.0; N];
                for (b, block) in self.logits.chunks(BLOCK).enumerate() {
                    let more = self.block(block, (b * BLOCK) as TokenId, &f);
                    for n in 0..N {
                        sums[n] += more[n];
                    }
                }
                sums
            },
        )
    }

    /// Computes the normalizer, and the sums that the moments need, over the support.
    fn normalize(&mut self) {
        let [z, s1, s2] = self.sums(
            #[inline(always)]
            |z, e| [e, z * e, z * z * e],
        );
        (self.log_z, self.sums) = (z.ln(), [s1, s2]);
    }

    /// Returns logit and id of the token of rank `n`.
    ///
    /// Tokens are ordered by descending logit, ties to the lower id.
    fn nth(&self, n: usize) -> (f32, TokenId) {
        let mut order: Vec<(f32, TokenId)> =
            self.logits.iter().zip(0..).map(|(&x, t)| (x, t)).collect();
        let (_, at, _) = order.select_nth_unstable_by(n, by_descending_logit);
        *at
    }

    /// Returns the last token of the smallest prefix whose mass reaches `top_p`.
    ///
    /// The mass is relative to the current support.
    fn nucleus(&self, top_p: f64) -> (f32, TokenId) {
        let goal = top_p * self.log_z.exp();
        let mut last = (self.max, self.best);
        // Most nuclei lie within a few nats of the arg-max: more is sorted only where the mass does
        // not reach the goal.
        for cut in [6.0, 12.0, f32::INFINITY] {
            let mut order: Vec<(f32, TokenId)> = Vec::new();
            for (lanes, first) in self.logits.chunks(LANES).zip((0..).step_by(LANES)) {
                let near = |x: f32| (x - self.max) * self.inv_t >= -cut;
                if lanes.iter().fold(false, |any, &x| any | near(x)) {
                    let lanes = lanes.iter().zip(first..);
                    order.extend(
                        lanes
                            .filter(|&(&x, t)| near(x) && self.in_support(x, t))
                            .map(|(&x, t)| (x, t)),
                    );
                }
            }
            let weight = |x: f32| f64::from(exp((x - self.max) * self.inv_t));
            if cut.is_finite() && order.iter().map(|&(x, _)| weight(x)).sum::<f64>() < goal {
                continue;
            }
            order.sort_unstable_by(by_descending_logit);
            let mut below = 0.0;
            for (x, t) in order {
                last = (x, t);
                below += weight(x);
                if below >= goal {
                    return last;
                }
            }
        }
        last
    }
}

/// Returns e^z, the summand of the normalizer.
#[inline(always)]
fn exp_term(_: f32, e: f32) -> [f32; 1] {
    [e]
}

fn by_descending_logit(a: &(f32, TokenId), b: &(f32, TokenId)) -> std::cmp::Ordering {
    b.0.total_cmp(&a.0).then(a.1.cmp(&b.1))
}

const LANES: usize = 16;
/// Capacity of the buffer of tokens to be reported, a power of two.
const REPORT_BUFFER: usize = 256;
/// Tokens whose f32 lane sums are added before they go into the f64 total.
///
/// Short enough to keep an accuracy of 1e-6.
const BLOCK: usize = 1024;

/// Returns e^x for x <= 0 to about 1e-7 relative, and 0 below -87.
///
/// Evaluates 2^n p(f) without a branch, so that loops vectorize.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    const MAGIC: f32 = 12_582_912.0; // 1.5 * 2^23: adding it rounds to a whole number
    let y = x.max(-88.0) * std::f32::consts::LOG2_E;
    let n = (y + MAGIC) - MAGIC;
    // x - n ln 2 in two parts, so that the fraction keeps its last bits.
    let r = (x.max(-88.0) - n * 0.693_359_4) + n * 2.121_944_4e-4;
    let p = ((((1.987_569_2e-4 * r + 1.398_2e-3) * r + 8.333_452e-3) * r + 4.166_579_6e-2) * r
        + 1.666_666_5e-1)
        * r
        + 0.5;
    let p = p * r * r + r + 1.0;
    let scale = f32::from_bits(
        (((y + MAGIC).to_bits() as i32 - MAGIC.to_bits() as i32 + 127).max(0) as u32) << 23,
    );
    if x < -87.0 { 0.0 } else { p * scale }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Reference distribution by definition, in f64: sorted order, prefix by k, prefix by mass.
    fn reference_distribution(logits: &[f32], sampling: &Sampling) -> Vec<f64> {
        let mut order: Vec<usize> = (0..logits.len()).collect();
        order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]).then(a.cmp(&b)));
        let mut p = vec![0.0; logits.len()];
        if sampling.greedy() {
            p[order[0]] = 1.0;
            return p;
        }
        order.truncate(sampling.top_k.unwrap_or(usize::MAX).max(1));
        let top = f64::from(logits[order[0]]);
        let e = |i: usize| ((f64::from(logits[i]) - top) / f64::from(sampling.temperature)).exp();
        let total: f64 = order.iter().map(|&i| e(i)).sum();
        let (mut mass, mut keep) = (0.0, 0);
        for &i in &order {
            mass += e(i) / total;
            keep += 1;
            if sampling.top_p < 1.0 && mass >= f64::from(sampling.top_p) {
                break;
            }
        }
        order.truncate(keep);
        let total: f64 = order.iter().map(|&i| e(i)).sum();
        order.iter().for_each(|&i| p[i] = e(i) / total);
        p
    }

    fn samplings() -> impl Strategy<Value = Sampling> {
        (
            0.3f32..2.0,
            prop_oneof![Just(1.0f32), 0.05f32..0.99],
            prop_oneof![Just(None), (1usize..12).prop_map(Some)],
        )
            .prop_map(|(temperature, top_p, top_k)| Sampling { temperature, top_p, top_k })
    }

    proptest! {
        #[test]
        fn distribution_matches_its_definition(logits in prop::collection::vec(-12f32..12.0, 1..300), sampling in samplings()) {
            let dist = TokenDist::new(&logits, &sampling).unwrap();
            let hand = reference_distribution(&logits, &sampling);
            // A prefix sum that meets top-p to rounding may end one token off: skip those.
            let near = hand.iter().filter(|&&p| p > 0.0).count() as i64 - (0..logits.len()).filter(|&t| dist.p(t as u32) > 0.0).count() as i64;
            prop_assume!(near == 0 || sampling.top_p == 1.0);
            let (mut h, mut m2) = (0.0, 0.0);
            for (t, &p) in hand.iter().enumerate() {
                prop_assert!((dist.p(t as u32) - p).abs() < 2e-6, "token {t}: {} for {p}", dist.p(t as u32));
                if p > 0.0 {
                    h -= p * p.ln();
                    m2 += p * p.ln() * p.ln();
                }
            }
            let m = dist.moments();
            prop_assert!((m.entropy - h).abs() < 1e-5 && (m.second - m2).abs() < 1e-4, "{m:?} for {h}, {m2}");
        }

        #[test]
        fn sampling_inverts_the_distribution(logits in prop::collection::vec(-6f32..6.0, 1..200), sampling in samplings(), u in 0f64..1.0) {
            let dist = TokenDist::new(&logits, &sampling).unwrap();
            let token = dist.sample(u);
            let below: f64 = (0..token).map(|t| dist.p(t)).sum();
            prop_assert!(dist.p(token) > 0.0);
            prop_assert!(below <= u + 1e-5 && u <= below + dist.p(token) + 1e-5, "u {u}, [{below}, +{}]", dist.p(token));
        }

        #[test]
        fn sampling_without_tokens_inverts_the_rest(
            logits in prop::collection::vec(-6f32..6.0, 1..200), sampling in samplings(), u in 0f64..1.0,
            without in prop::collection::vec(any::<prop::sample::Index>(), 0..9), all in any::<bool>(),
        ) {
            let dist = TokenDist::new(&logits, &sampling).unwrap();
            let some: Vec<TokenId> = without.iter().map(|i| i.index(logits.len()) as TokenId).collect();
            let mut without = if all { (0..logits.len() as TokenId).collect() } else { some };
            without.dedup();
            let mut once = without.clone();
            once.sort_unstable();
            once.dedup();
            prop_assume!(once.len() == without.len());
            let remaining: Vec<f64> = (0..).zip(&logits).map(|(t, _)| if without.contains(&t) { 0.0 } else { dist.p(t) }).collect();
            let mass: f64 = remaining.iter().sum();
            let Some(token) = dist.sample_without(u, &without) else {
                prop_assert_eq!(mass, 0.0);
                return Ok(());
            };
            prop_assert!(remaining[token as usize] > 0.0);
            let below: f64 = remaining[..token as usize].iter().sum();
            // Where almost nothing is left, its sum is mostly rounding.
            prop_assert!(mass < 1e-4 || (below <= u * mass + 1e-5 && u * mass <= below + remaining[token as usize] + 1e-5));
        }

        #[test]
        fn surprisals_match_the_distribution(logits in prop::collection::vec(-12f32..12.0, 1..300), sampling in samplings(), cut in 0.1f32..20.0) {
            let dist = TokenDist::new(&logits, &sampling).unwrap();
            let mut surprisals = Vec::new();
            dist.surprisals(cut, |x, p| surprisals.push((x, p)));
            let want: Vec<f64> = (0..logits.len()).map(|t| dist.p(t as u32)).filter(|&p| p > 0.0).collect();
            // A surprisal that meets the cut to rounding may fall on either side of it.
            let near = want.iter().filter(|p| (-p.ln() - f64::from(cut)).abs() < 1e-4).count();
            let want: Vec<f64> = want.into_iter().filter(|p| -p.ln() < f64::from(cut)).collect();
            prop_assume!(near == 0);
            prop_assert_eq!(surprisals.len(), want.len());
            for ((x, p), w) in surprisals.into_iter().zip(want) {
                prop_assert!(x >= 0.0 && (p / w - 1.0).abs() < 1e-5, "{p} for {w}");
                prop_assert!((f64::from(x) + w.ln()).abs() < 1e-5, "{x} for {}", -w.ln());
            }
        }

        #[test]
        fn the_widest_instructions_give_the_same_bits(logits in prop::collection::vec(-12f32..12.0, 1..300), sampling in samplings(), cut in 0.1f32..20.0) {
            let dist = TokenDist::new(&logits, &sampling).unwrap();
            let (mut got, mut want) = (Vec::new(), Vec::new());
            dist.surprisals(cut, |x, p| got.push((x.to_bits(), p.to_bits())));
            // Compiled for the baseline instructions that every such CPU has.
            if dist.last == Some((dist.max, dist.best)) {
                want.push((0f32.to_bits(), 1f64.to_bits()));
            } else {
                dist.surprisals_lanes(cut, &mut |x, p| want.push((x.to_bits(), p.to_bits())));
            }
            prop_assert_eq!(got, want);
        }

        #[test]
        fn rank_and_top_follow_the_order(logits in prop::collection::vec((-4i8..4).prop_map(f32::from), 1..100)) {
            let dist = TokenDist::new(&logits, &Sampling::PLAIN).unwrap();
            let top = dist.top(logits.len());
            prop_assert_eq!(top.len(), logits.len());
            for (r, &(t, _)) in top.iter().enumerate() {
                prop_assert_eq!(dist.rank(t), r);
            }
            prop_assert_eq!(top[0].0, argmax(&logits).unwrap().0);
        }
    }

    #[test]
    fn the_first_of_the_highest_is_found_in_any_block() {
        for len in [BLOCK, 2 * BLOCK + 1, 3 * BLOCK - 3] {
            for at in
                [0, 5, BLOCK - 1, BLOCK, 2 * BLOCK, len - 1].into_iter().filter(|&at| at < len)
            {
                let mut logits: Vec<f32> = (0..len).map(|i| (i as f32 * 0.37).sin()).collect();
                logits[at] = 3.0;
                logits[len - 1] = 3.0;
                assert_eq!(argmax(&logits), Ok((at as TokenId, 3.0)));
                logits[at] = f32::NAN;
                assert_eq!(argmax(&logits), Err(NotFinite { token: Some(at as TokenId) }));
            }
        }
    }

    #[test]
    fn logits_that_are_not_finite_are_rejected() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for at in [0, 17, 40] {
                let mut logits = vec![0.5; 41];
                logits[at] = bad;
                assert_eq!(
                    TokenDist::new(&logits, &Sampling::PLAIN).unwrap_err(),
                    NotFinite { token: Some(at as u32) }
                );
            }
        }
        assert!(argmax(&[]).is_err());
    }

    #[test]
    fn large_uniform_distribution_has_exact_moments() {
        let logits = vec![1.25f32; 50_000];
        let dist = TokenDist::new(&logits, &Sampling::PLAIN).unwrap();
        let m = dist.moments();
        let h = 50_000f64.ln();
        assert!((m.entropy - h).abs() < 1e-5 && (m.second - h * h).abs() < 1e-4, "{m:?}");
        assert_eq!(dist.sample(0.0), 0);
        assert_eq!(dist.sample(0.999_999_99), 49_999);
    }

    #[test]
    fn exp_matches_the_standard_library() {
        for i in 0..870_000 {
            let x = -(i as f32) * 1e-4;
            let (got, want) = (f64::from(exp(x)), f64::from(x).exp());
            assert!((got / want - 1.0).abs() < 4e-7, "exp({x}) = {got}, not {want}");
        }
        assert_eq!(exp(-100.0), 0.0);
    }
}
