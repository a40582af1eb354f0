//! A seeded engine of make-believe: records that could have come from a real one and agree with themselves (laws,
//! entropies, E[X|T], paths, means), for the tests, benches and pictures of the screen.

use std::sync::Arc;

use speclight::dist::Moments;
use speclight::engine::{Event, RunInfo};
use speclight::telemetry::{Ceilings, PositionEntropy, StageTimes, StepRecord, StepSettings, TreeRecord};

/// What the make-believe model says, over and over; some of it has no picture.
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
    StepSettings {
        drafter: drafter.into(),
        shape: "best-first".into(),
        budget,
        auto: false,
        temperature,
        top_p: 1.0,
        top_k: None,
        seed: 1,
    }
}

/// What the header shows.
pub fn info() -> RunInfo {
    RunInfo {
        version: "0.1.0".into(),
        model: "SmolLM2-135M-Instruct".into(),
        quantisation: "Q4_1".into(),
        device: "cpu (avx2, 2 threads)".into(),
        context: 8192,
        vocabulary: 49152,
        drafters: ["none", "ngram", "early-exit"].map(String::from).to_vec(),
        drafter_costs: ["nothing", "a look into the text so far", "10 of 30 layers a depth"].map(String::from).to_vec(),
        shapes: ["chain", "best-first"].map(String::from).to_vec(),
        prompts: ["Why is the sky dark at night?", "Write a haiku.", "Sum it up."].map(String::from).to_vec(),
        ..RunInfo::default()
    }
}

/// The engine of make-believe.
pub struct Script {
    state: u64,
    steps: usize,
    position: usize,
    positions: f64,
    sums: (f64, f64),
}

/// A law over [`WORDS`]: token and probability, the most probable first.
type Law = Vec<(u32, f64)>;

impl Script {
    pub fn new(seed: u64) -> Script {
        Script { state: seed, steps: 0, position: 40, positions: 0.0, sums: (0.0, 0.0) }
    }

    /// The next draw, uniform in [0, 1) (SplitMix64).
    pub fn draw(&mut self) -> f64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    fn law(&mut self, temperature: f32) -> Law {
        let first = (self.draw() * WORDS.len() as f64) as usize;
        // Most contexts are nearly certain, some are wide open, as in real text.
        let decay = if self.draw() < 0.6 { 0.05 + 0.3 * self.draw() } else { 0.5 + 0.4 * self.draw() };
        let decay = decay.powf(1.0 / f64::from(temperature));
        let mass: f64 = (0..WORDS.len()).map(|r| decay.powi(r as i32)).sum();
        (0..WORDS.len()).map(|r| (((first + 7 * r) % WORDS.len()) as u32, decay.powi(r as i32) / mass)).collect()
    }

    /// One step under these settings. Its drafter guesses the target's law with an error.
    pub fn step(&mut self, settings: &StepSettings) -> Arc<StepRecord> {
        let greedy = settings.temperature == 0.0;
        let warp = if greedy { 1.0 } else { settings.temperature };
        let warped = |law: &Law| -> Law {
            if greedy {
                law.iter().enumerate().map(|(r, &(t, _))| (t, if r == 0 { 1.0 } else { 0.0 })).collect()
            } else {
                law.clone()
            }
        };
        let root = (self.draw() * WORDS.len() as f64) as u32;
        let mut tree = TreeRecord {
            tokens: vec![root],
            text: vec![WORDS[root as usize].into()],
            parents: vec![None],
            depth: vec![0],
            p: vec![1.0],
            p_plain: vec![1.0],
            q: vec![1.0],
            rank: vec![0],
        };
        let mut laws = vec![self.law(warp)];
        let drafted = if settings.drafter == "none" { 0 } else { settings.budget - 1 };
        // Best-first over candidates (path probability under q, parent, rank, q).
        let mut frontier: Vec<(f64, usize, usize, f64)> = Vec::new();
        let open = |script: &mut Script, node: usize, path: f64, law: &Law, frontier: &mut Vec<_>| {
            for (rank, &(_, p)) in law.iter().take(3).enumerate() {
                let q = (p * (0.6 + 0.5 * script.draw())).min(0.99);
                frontier.push((path * q, node, rank, q));
            }
        };
        let first = laws[0].clone();
        open(self, 0, 1.0, &first, &mut frontier);
        for _ in 0..drafted {
            let Some(best) = (0..frontier.len()).max_by(|&a, &b| frontier[a].0.total_cmp(&frontier[b].0)) else { break };
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
            tree.rank.push(rank);
            let law = self.law(warp);
            laws.push(law.clone());
            if settings.shape == "chain" {
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
            entropy.push(PositionEntropy { law: moments(&law), plain: moments(&laws[at]), p: drawn.1 });
            let child = (1..tree.tokens.len()).find(|&i| tree.parents[i] == Some(at) && tree.tokens[i] == drawn.0);
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
            self.sums = (self.sums.0 + e.law.entropy, self.sums.1 + e.law.second);
        }
        let (mu, mu2) = (self.sums.0 / self.positions, self.sums.1 / self.positions);
        let batch = settings.budget;
        let verify = 0.018 + 0.0008 * batch as f64 + 0.002 * self.draw();
        let record = StepRecord {
            choice: None,
            prompt_id: "0".into(),
            step: self.steps,
            position: self.position,
            settings: settings.clone(),
            accepted: path.len(),
            bonus: emitted[emitted.len() - 1],
            bonus_text: emitted.last().map_or("", |&t| WORDS[t as usize]).into(),
            bonus_rank: 0,
            bonus_q: None,
            emitted_text: emitted.iter().map(|&t| WORDS[t as usize].into()).collect(),
            expected_accepted: pi[1..].iter().sum::<f64>() + 0.0,
            miss: None,
            reached: None,
            time: StageTimes { draft: 0.0004 * drafted as f64, verify, other: 0.0011 },
            mu,
            mu2,
            ceilings: Ceilings::at(mu, mu2, batch, None),
            tree,
            path,
            entropy,
            emitted,
        };
        self.steps += 1;
        self.position += record.emitted.len();
        Arc::new(record)
    }

    /// All that a monitor hears of `count` steps of a run under these settings.
    pub fn events(&mut self, settings: &StepSettings, count: usize) -> Vec<Event> {
        let info = Arc::new(info());
        let prompt = info.prompts[0].clone();
        let mut events = vec![
            Event::Loading { what: "loading SmolLM2-135M-Instruct".into(), done: Some(0.4) },
            Event::Ready { info, settings: settings.clone() },
            Event::Calibrated { plain_tokens_per_second: 38.4 },
            Event::PromptStarted { index: 0, id: "0".into(), prompt, tokens: 38, prefill_seconds: 0.21 },
        ];
        events.extend((0..count).map(|_| Event::Step(self.step(settings))));
        events
    }
}

fn moments(law: &Law) -> Moments {
    let some = law.iter().filter(|x| x.1 > 0.0);
    let entropy = some.clone().map(|&(_, p)| -p * p.ln()).sum::<f64>();
    Moments { entropy: entropy.max(0.0), second: some.map(|&(_, p)| p * p.ln() * p.ln()).sum() }
}
