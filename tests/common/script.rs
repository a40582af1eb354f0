//! Seeded fake engine for tests and benchmarks.
//!
//! Its records could come from a real engine and are consistent (distributions, entropies, E[X|T],
//! paths, means).

use std::sync::Arc;

use speclight::distribution::Moments;
use speclight::draft::{DrafterKind, Shape};
use speclight::engine::{Event, RunInfo};
use speclight::telemetry::{
    BudgetChoice, BudgetReason, Ceilings, EntropyClassBound, FluidBound, Interval, Miss, MissCause,
    OracleResult, OracleSearchState, OracleTree, Overlap, PositionEntropy, RankedToken,
    ReachedIntervals, RuleCeiling, StageTimes, StepRecord, StepSettings, TokenClass, TreeRecord,
};
use speclight::theory::cost::CostCurve;
use speclight::theory::light::OracleCurve;
use speclight::theory::pool::SurprisalPool;
use speclight::theory::transport::without_replacement_ceiling;

/// Vocabulary of the fake model; some tokens have no printable form.
const WORDS: &[&str] = &[
    " the",
    " light",
    " of",
    " a",
    " star",
    ",",
    " and",
    " it",
    " takes",
    " eight",
    " minutes",
    " to",
    " reach",
    " us",
    ".",
    "\n\n",
    " When",
    " we",
    " look",
    " up",
    " at",
    " night",
    " sky",
    " is",
    " full",
    " past",
    " \"",
    "now",
    "\"",
    " small",
    " distance",
    " 日本",
    " é",
    "\t",
    " speed",
    " no",
    " faster",
    " than",
    " message",
    " sent",
];

/// Settings of a run.
pub fn settings(drafter: &str, budget: usize, temperature: f32) -> StepSettings {
    StepSettings { seed: 1, ..StepSettings::new(drafter, Shape::BestFirst, budget, temperature) }
}

/// Run information shown in the header.
pub fn info() -> RunInfo {
    RunInfo {
        version: "0.1.0".into(),
        model: "SmolLM2-135M-Instruct".into(),
        quantisation: "Q4_1".into(),
        device: "cpu (avx2, 2 threads)".into(),
        context: 8192,
        cache_bytes: 94_371_840,
        vocabulary: 49152,
        drafters: ["none", "ngram", "early-exit"].map(DrafterKind::from).to_vec(),
        drafter_costs: ["nothing", "a look into the text so far", "10 of 30 layers a depth"]
            .map(String::from)
            .to_vec(),
        shapes: vec![Shape::Chain, Shape::BestFirst],
        prompts: ["Why is the sky dark at night?", "Write a haiku.", "Sum it up."]
            .map(String::from)
            .to_vec(),
        ..RunInfo::default()
    }
}

/// Seeded fake engine.
pub struct Script {
    state: u64,
    steps: usize,
    position: usize,
    positions: f64,
    sums: (f64, f64),
    /// Distributions of the generated positions.
    pool: SurprisalPool,
    /// The same distributions, grouped by entropy.
    kinds: [SurprisalPool; 3],
    /// Budget, fluid bound and its floor, when last computed.
    fluid: (usize, f64, f64),
    /// E[X|T] of all steps.
    expected: Vec<f64>,
    reached: Option<ReachedIntervals>,
    /// Result of an oracle search after the last step.
    search_result: Option<OracleResult>,
    curve: Option<Arc<OracleCurve>>,
    tree: Option<Arc<OracleTree>>,
}

/// Number of steps between two evaluations of the fluid bound and the intervals.
const EVERY: usize = 8;
/// Lower entropy limits of the kinds of positions, in nats.
const KINDS: [f64; 3] = [0.0, 0.25, 1.5];
/// Largest pass in tokens for which the oracle's trees are known.
const LARGEST: usize = 32;
/// Number of steps below which there is no interval.
const EARLY: usize = 24;

/// Distribution over [`WORDS`]: token and probability, the most probable first.
type Law = Vec<(u32, f64)>;

impl Script {
    pub fn new(seed: u64) -> Script {
        Script {
            state: seed,
            steps: 0,
            position: 40,
            positions: 0.0,
            sums: (0.0, 0.0),
            pool: SurprisalPool::new(),
            kinds: Default::default(),
            fluid: (0, 0.0, 0.0),
            expected: Vec::new(),
            reached: None,
            search_result: None,
            curve: None,
            tree: None,
        }
    }

    /// Returns the next random number, uniform in [0, 1) (SplitMix64).
    pub fn draw(&mut self) -> f64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    fn law(&mut self, temperature: f32) -> Law {
        let first = (self.draw() * WORDS.len() as f64) as usize;
        // Most contexts have low entropy and some have high entropy, as in real text.
        let decay =
            if self.draw() < 0.6 { 0.05 + 0.3 * self.draw() } else { 0.5 + 0.4 * self.draw() };
        let decay = decay.powf(1.0 / f64::from(temperature));
        let mass: f64 = (0..WORDS.len()).map(|r| decay.powi(r as i32)).sum();
        (0..WORDS.len())
            .map(|r| (((first + 7 * r) % WORDS.len()) as u32, decay.powi(r as i32) / mass))
            .collect()
    }

    /// Generates one step under these settings, whose drafter guesses the target's distribution
    /// with errors.
    pub fn step(&mut self, settings: &StepSettings) -> Arc<StepRecord> {
        let greedy = settings.temperature == 0.0;
        let warp = if greedy { 1.0 } else { settings.temperature };
        let warped = |law: &Law| -> Law {
            if greedy {
                law.iter()
                    .enumerate()
                    .map(|(r, &(t, _))| (t, if r == 0 { 1.0 } else { 0.0 }))
                    .collect()
            } else {
                law.clone()
            }
        };
        let root = (self.draw() * WORDS.len() as f64) as u32;
        let members: Vec<String> = match settings.drafter.name() {
            "mix" => ["suffix", "early-exit"].map(String::from).to_vec(),
            alone => vec![alone.to_owned()],
        };
        let mut tree = TreeRecord {
            tokens: vec![root],
            text: vec![WORDS[root as usize].into()],
            parents: vec![None],
            depth: vec![0],
            p: vec![1.0],
            accept: Vec::new(),
            p_plain: vec![1.0],
            q: vec![1.0],
            calibrated: vec![1.0],
            origin: vec![None],
            members: members.clone(),
            rank: vec![0],
            cut: Vec::new(),
        };
        let mut laws = vec![self.law(warp)];
        let drafted = if settings.drafter == DrafterKind::None { 0 } else { settings.budget - 1 };
        // Best-first over candidates (path probability under q, parent, rank, q), and all proposals
        // (node, rank, q).
        let mut proposed: Vec<(usize, usize, f64)> = Vec::new();
        let mut frontier: Vec<(f64, usize, usize, f64)> = Vec::new();
        let mut open =
            |script: &mut Script, node: usize, path: f64, law: &Law, frontier: &mut Vec<_>| {
                // In some contexts the drafter knows nothing and proposes tokens of low rank in the
                // target's distribution.
                let ignorant = script.draw() < 0.25;
                for rank in if ignorant { [1, 4, 9] } else { [0, 1, 2] } {
                    let p = law.get(rank).map_or(0.0, |l| l.1);
                    let near = if ignorant { 0.3 / (1.0 + rank as f64) } else { p };
                    let q = (near * (0.6 + 0.5 * script.draw())).min(0.99);
                    frontier.push((path * q, node, rank, q));
                    proposed.push((node, rank, q));
                }
            };
        let first = laws[0].clone();
        open(self, 0, 1.0, &first, &mut frontier);
        for _ in 0..drafted {
            let Some(best) =
                (0..frontier.len()).max_by(|&a, &b| frontier[a].0.total_cmp(&frontier[b].0))
            else {
                break;
            };
            let (path, parent, rank, q) = frontier.swap_remove(best);
            let (token, p_plain) = laws[parent][rank];
            let node = tree.tokens.len();
            tree.tokens.push(token);
            tree.text.push(WORDS[token as usize].into());
            tree.parents.push(Some(parent));
            tree.depth.push(tree.depth[parent] + 1);
            tree.p.push(warped(&laws[parent])[rank].1);
            tree.p_plain.push(p_plain);
            tree.q.push(q);
            // The fake drafter is underconfident.
            tree.calibrated.push((q / 0.85).min(0.99));
            tree.origin.push(Some(usize::from(!node.is_multiple_of(3)) % members.len()));
            tree.rank.push(rank);
            let law = self.law(warp);
            laws.push(law.clone());
            if settings.shape == Shape::Chain {
                frontier.clear();
            }
            open(self, node, path, &law, &mut frontier);
        }
        let mut pi = vec![1.0];
        for i in 1..tree.tokens.len() {
            pi.push(pi[tree.parents[i].unwrap_or(0)] * tree.p[i]);
        }
        let (mut at, mut path, mut emitted, mut entropy) = (0, Vec::new(), Vec::new(), Vec::new());
        loop {
            let law = warped(&laws[at]);
            let (mut u, mut drawn) = (self.draw(), law[0]);
            for &(token, p) in &law {
                drawn = (token, p);
                u -= p;
                if u < 0.0 {
                    break;
                }
            }
            emitted.push(drawn.0);
            let probabilities: Vec<f64> = law.iter().map(|l| l.1).collect();
            self.pool.add_probabilities(&probabilities);
            let kind = KINDS.iter().rposition(|&from| from <= moments(&law).entropy).unwrap_or(0);
            self.kinds[kind].add_probabilities(&probabilities);
            let p_plain = laws[at].iter().find(|l| l.0 == drawn.0).map(|l| l.1);
            entropy.push(PositionEntropy {
                sampled: moments(&law),
                plain: moments(&laws[at]),
                p: drawn.1,
                p_plain,
            });
            let child = (1..tree.tokens.len())
                .find(|&i| tree.parents[i] == Some(at) && tree.tokens[i] == drawn.0);
            match child {
                Some(i) => {
                    path.push(i);
                    at = i;
                }
                None => break,
            }
        }
        for e in &entropy {
            self.positions += 1.0;
            self.sums = (self.sums.0 + e.sampled.entropy, self.sums.1 + e.sampled.second);
        }
        let (mu, mu2) = (self.sums.0 / self.positions, self.sums.1 / self.positions);
        let batch = settings.budget;
        let expected = pi[1..].iter().sum::<f64>() + 0.0;
        let (result, curve, found) = self.search(&tree, &laws, settings, expected);
        (self.search_result, self.curve) = (Some(result), Some(Arc::new(curve)));
        self.tree = Some(Arc::new(found));
        let known = |node: usize| -> Vec<(f64, f64)> {
            let law = warped(&laws[node]);
            let here = || proposed.iter().filter(move |x| x.0 == node);
            let sum: f64 = if settings.samples_trees() { here().map(|x| x.2).sum() } else { 1.0 };
            let mut all: Vec<(f64, f64)> = here().map(|x| (law[x.1].1, x.2 / sum)).collect();
            all.sort_by(|a, b| b.1.total_cmp(&a.1));
            all
        };
        let walked =
            std::iter::once(0).chain(path.iter().copied()).filter(|_| !greedy && drafted > 0);
        let overlap: Vec<Overlap> =
            walked.filter_map(|node| Overlap::from_candidates(node, &known(node))).collect();
        let below: Vec<usize> =
            (1..tree.tokens.len()).filter(|&i| tree.parents[i] == Some(0)).collect();
        let rule_ceiling = (settings.samples_trees() && !below.is_empty()).then(|| {
            let ceiling = without_replacement_ceiling(&known(0), below.len()).unwrap_or(1.0);
            let accepted = below.iter().map(|&i| tree.p[i]).sum::<f64>().min(0.9 * ceiling);
            RuleCeiling { drafts: below.len(), ceiling, accepted }
        });
        let known = self.ceilings(mu, mu2, batch, expected, greedy);
        let ceilings = if settings.samples_trees() { Ceilings::batch_only(batch) } else { known };
        let last = (emitted[emitted.len() - 1], entropy[entropy.len() - 1].p);
        let miss = (drafted > 0).then(|| {
            let rank = laws[at].iter().position(|l| l.0 == last.0).unwrap_or(0);
            let mut here: Vec<(usize, f64)> =
                proposed.iter().filter(|x| x.0 == at).map(|x| (x.1, x.2)).collect();
            here.sort_by(|a, b| b.1.total_cmp(&a.1));
            let draft_rank = here.iter().position(|x| x.0 == rank);
            let pi = pi[at] * last.1;
            let unlucky = ceilings.fluid_floor.is_some_and(|floor| pi < floor);
            let cause = if unlucky {
                MissCause::Unlucky
            } else {
                MissCause::ignoring_luck(rank, draft_rank, true)
            };
            let text = WORDS[last.0 as usize].to_owned();
            let (class, q) = (TokenClass::from_text(&text), draft_rank.map(|r| here[r].1));
            let p_plain = entropy.last().and_then(|e| e.p_plain);
            let depth = path.len() + 1;
            // Some tokens are outside the vocabulary of the fake drafter.
            let outside = draft_rank.is_none() && last.0 % 4 == 3;
            let cause = if outside && cause == MissCause::Knowledge {
                MissCause::Vocabulary
            } else {
                cause
            };
            let ranked = |token: u32, probability: f64| RankedToken {
                token,
                text: WORDS[token as usize].into(),
                probability,
            };
            let target_best = laws[at].iter().take(5).map(|&(token, p)| ranked(token, p)).collect();
            let draft_best =
                here.iter().take(5).map(|&(rank, q)| ranked(laws[at][rank].0, q)).collect();
            let outside_vocabulary = Some(outside);
            Miss {
                depth,
                token: last.0,
                text,
                class,
                p: last.1,
                p_plain,
                pi,
                rank,
                q,
                draft_rank,
                asked: true,
                outside_vocabulary,
                target_best,
                draft_best,
                cause,
            }
        });
        let kept = tree.tokens.len() - 1;
        let choice = settings.auto.then(|| BudgetChoice {
            drafted: kept,
            kept,
            expected,
            tokens_per_second: (1.0 + expected) / cost().seconds(kept + 1),
            plain_tokens_per_second: 1.0 / cost().seconds(1),
            reason: BudgetReason::Whole,
        });
        let verify = cost().seconds(batch) + 0.002 * self.draw();
        let record = StepRecord {
            choice,
            prompt_id: "0".into(),
            step: self.steps,
            repeated: false,
            position: self.position,
            settings: settings.clone(),
            accepted: path.len(),
            bonus: emitted[emitted.len() - 1],
            bonus_text: emitted.last().map_or("", |&t| WORDS[t as usize]).into(),
            bonus_rank: laws[at].iter().position(|l| l.0 == last.0).unwrap_or(0),
            bonus_q: None,
            overlap,
            rule_ceiling,
            emitted_text: emitted.iter().map(|&t| WORDS[t as usize].into()).collect(),
            expected_accepted: expected,
            notice: None,
            miss,
            capacity: None,
            reached: self.reached.map(|reached| match settings.samples_trees() {
                true => ReachedIntervals { fluid: None, share: None, share_mean: None, ..reached },
                false => reached,
            }),
            time: StageTimes { draft: 0.0004 * drafted as f64, verify, other: 0.0011 },
            mu,
            mu2,
            ceilings,
            tree,
            path,
            entropy,
            emitted,
        };
        self.steps += 1;
        self.position += record.emitted.len();
        Arc::new(record)
    }

    /// Returns the ceilings; recomputes the fluid bound and the intervals every [`EVERY`] steps.
    fn ceilings(
        &mut self,
        mu: f64,
        mu2: f64,
        batch: usize,
        expected: f64,
        greedy: bool,
    ) -> Ceilings {
        self.expected.push(expected);
        if self.fluid.0 != batch || self.steps.is_multiple_of(EVERY) {
            // The floor is the slope of the curve: the value of one more node.
            let curve = self.pool.fluid_curve(batch);
            let at = |p: usize| curve.get(p).copied().unwrap_or(0.0);
            self.fluid = (batch, at(batch - 1), at(batch) - at(batch - 1));
            self.reached = (self.expected.len() >= EARLY && !greedy)
                .then(|| reached(&self.expected, self.fluid.1));
        }
        let fluid = Some(self.fluid.1).filter(|_| !greedy);
        Ceilings {
            fluid_floor: fluid.map(|_| self.fluid.2),
            ..Ceilings::for_budget(mu, mu2, batch, fluid)
        }
    }

    /// Runs an oracle search after a step, over the step's distributions and synthetic ones
    /// elsewhere.
    fn search(
        &mut self,
        tree: &TreeRecord,
        laws: &[Law],
        settings: &StepSettings,
        expected: f64,
    ) -> (OracleResult, OracleCurve, OracleTree) {
        let greedy = settings.temperature == 0.0;
        // A separate random stream, so that a step is the same with and without a search.
        let mut other = Script::new(self.state ^ 0x5eed);
        // (pi, the same node in the recorded tree if it is there, token, parent in the oracle tree,
        // p)
        let mut frontier: Vec<(f64, Option<usize>, u32, usize, f64)> =
            vec![(1.0, Some(0), tree.tokens[0], 0, 1.0)];
        let mut oracle = OracleTree::default();
        let (mut mass, mut floor, mut passes) = (0.0, 1.0f64, 0);
        let mut found = Vec::new();
        // Continues beyond the budget, since the speed of light considers other sizes.
        for step in 0..settings.budget.max(LARGEST) {
            let Some(best) =
                (0..frontier.len()).max_by(|&a, &b| frontier[a].0.total_cmp(&frontier[b].0))
            else {
                break;
            };
            let (pi, node, token, parent, p) = frontier.swap_remove(best);
            if step > 0 {
                found.push(pi);
            }
            let place = oracle.tokens.len();
            if step < settings.budget {
                oracle.tokens.push(token);
                oracle.text.push(WORDS[token as usize].into());
                oracle.parents.push(parent);
                oracle.p.push(p);
                mass += if step > 0 { pi } else { 0.0 };
                floor = floor.min(pi);
                passes += 1;
            }
            let law = match node {
                Some(node) => laws[node].clone(),
                None => other.law(if greedy { 1.0 } else { settings.temperature }),
            };
            for (rank, &(token, p)) in law.iter().enumerate() {
                let p = if greedy { f64::from(u8::from(rank == 0)) } else { p };
                let child = node.and_then(|n| {
                    (1..tree.tokens.len())
                        .find(|&i| tree.parents[i] == Some(n) && tree.tokens[i] == token)
                });
                if p > 0.0 {
                    frontier.push((pi * p, child, token, place, p));
                }
            }
        }
        // The drafter's best tree is slightly better than the drafted one.
        let most = mass.max(expected);
        let best = expected + 0.2 * (most - expected);
        let rest = frontier.iter().map(|f| f.0).fold(0.0, f64::max);
        let result = OracleResult {
            oracle_lower: most,
            oracle_upper: most,
            oracle_floor: floor,
            passes,
            drafter_best: Some(best),
            state: OracleSearchState::Converged,
        };
        (result, OracleCurve::from_path_probabilities(found, rest), oracle)
    }

    /// Returns the oracle search of the last step as the event that the monitor receives.
    pub fn search_event(&self, record: &StepRecord) -> Option<Event> {
        let result = self.search_result?;
        Some(Event::OracleSearched {
            prompt_id: record.prompt_id.clone(),
            step: record.step,
            result,
            curve: self.curve.clone(),
            tree: self.tree.clone(),
            systematic: true,
        })
    }

    /// Returns all events that a monitor receives during `count` steps of a run.
    pub fn events(&mut self, settings: &StepSettings, count: usize) -> Vec<Event> {
        let info = Arc::new(info());
        let prompt = info.prompts[0].clone();
        let mut events = vec![
            Event::Loading { what: "loading SmolLM2-135M-Instruct".into(), done: Some(0.4) },
            Event::Ready { info, settings: settings.clone() },
            Event::PlainTimed { plain_tokens_per_second: 50.2, seconds: 1.0 / 50.2 },
            Event::Cost(cost()),
            Event::PromptStarted {
                index: 0,
                id: "0".into(),
                prompt,
                tokens: 38,
                prefill_seconds: 0.21,
            },
        ];
        for _ in 0..count {
            let record = self.step(settings);
            let searched = self.search_event(&record).filter(|_| record.step.is_multiple_of(4));
            events.push(Event::Step(record));
            events.extend(searched);
        }
        if count > 0 {
            events.push(Event::Fluid(Arc::new(self.fluid_at_length(settings.budget))));
        }
        events
    }

    fn fluid_at_length(&self, budget: usize) -> FluidBound {
        let positions = self.pool.positions();
        let kind = |(pool, entropy_from): (&SurprisalPool, f64)| EntropyClassBound {
            entropy_from,
            share: pool.positions() as f64 / positions as f64,
            mu: pool.mu().unwrap_or(0.0),
            fluid: pool.fluid(budget - 1),
        };
        let kinds = self.kinds.iter().zip(KINDS).map(kind).collect();
        FluidBound { positions, curve: self.pool.fluid_curve(255), kinds }
    }
}

/// Returns the cost curve of the fake model's passes.
pub fn cost() -> CostCurve {
    let points = [1, 2, 4, 8, 16, 32, 64, 128].map(|b| (b, 0.018 + 0.0008 * b as f64)).to_vec();
    CostCurve::new(points).expect("a rising curve")
}

/// Returns the mean of E[X|T] and its fraction of a ceiling, with intervals.
///
/// The intervals come from the plain standard error, since these steps are independent.
fn reached(expected: &[f64], fluid: f64) -> ReachedIntervals {
    let n = expected.len() as f64;
    let mean = expected.iter().sum::<f64>() / n;
    let spread = (expected.iter().map(|e| (e - mean).powi(2)).sum::<f64>() / n).sqrt() / n.sqrt();
    let around =
        |value: f64, half: f64| Some(Interval { low: (value - half).max(0.0), high: value + half });
    let (half, share) = (1.96 * spread, mean / fluid);
    ReachedIntervals {
        steps: expected.len(),
        expected: around(mean, half),
        fluid: around(fluid, 0.04 * fluid),
        share: around(share, share * (half / mean + 0.04)).filter(|_| fluid > 0.0 && mean > 0.0),
        expected_mean: Some(mean),
        share_mean: Some(share).filter(|_| fluid > 0.0 && mean > 0.0),
    }
}

fn moments(law: &Law) -> Moments {
    let some = law.iter().filter(|x| x.1 > 0.0);
    let entropy = some.clone().map(|&(_, p)| -p * p.ln()).sum::<f64>();
    Moments { entropy: entropy.max(0.0), second: some.map(|&(_, p)| p * p.ln() * p.ln()).sum() }
}
