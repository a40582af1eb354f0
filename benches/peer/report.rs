//! What was measured, beside what is aimed at and what the machine allows.

use std::collections::BTreeMap;

use speclight::cli::{columns, cpu_features, cpu_name};
use speclight::model::{Config, Model};

use crate::sides::CONTEXT;
use crate::{BATCHES, PROMPT};

/// Samples by name, in the order of rounds.
#[derive(Default)]
pub struct Samples(BTreeMap<String, Vec<f64>>);

impl Samples {
    /// One more.
    pub fn add(&mut self, name: String, value: f64) {
        self.0.entry(name).or_default().push(value);
    }

    fn of(&self, name: &str) -> &[f64] {
        self.0.get(name).map_or(&[], |samples| samples)
    }

    fn median(&self, name: &str) -> f64 {
        quantile(self.of(name), 0.5)
    }

    /// How many times as long `slow` took as `fast`: the median of the ratios round by round, and their quartiles.
    fn ratio(&self, slow: &str, fast: &str) -> [f64; 3] {
        let ratios: Vec<f64> = self.of(slow).iter().zip(self.of(fast)).map(|(slow, fast)| slow / fast).collect();
        [0.25, 0.5, 0.75].map(|share| quantile(&ratios, share))
    }
}

/// The value below which so many of all lie; NaN of nothing.
fn quantile(samples: &[f64], share: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let place = share * last as f64;
    let (low, high) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    low + (high - low) * place.fract()
}

/// What the machine and the model allow.
struct Roof {
    /// Seconds in which the memory brings the weights.
    bytes: f64,
    /// Seconds of a token's multiply-adds with the weights, without the head's.
    body: f64,
    /// Those with the head.
    head: f64,
    /// Seconds of attention for each position that a token sees.
    seen: f64,
}

impl Roof {
    /// What `c`, with weights of `bytes` bytes in a format with or without minima, allows a machine with this bandwidth and these peaks
    /// (multiply-adds a second of bytes and of floats).
    ///
    /// A block of 32 weights and as many rounded activations cost, besides 32 multiply-adds of bytes, floats: the product of both scales, the sum
    /// times that, and the minimum times the activations' sum. The same units of CPUs do both, one after the other; but a tile unit is
    /// one by itself.
    fn of(c: &Config, bytes: u64, minima: bool, unit: bool, bandwidth: f64, peak: f64, floats: f64) -> Roof {
        let (body, head) = multiply_adds(c);
        let floats = if unit { f64::INFINITY } else { floats };
        let seconds = |n: f64, scales: f64| n / peak + n * scales / 32.0 / floats;
        // The head has no minima where it has bytes; where it has some it takes longer than this.
        let (body, head) = (seconds(body, if minima { 3.0 } else { 2.0 }), seconds(head, 2.0));
        Roof { bytes: bytes as f64 / bandwidth, body, head, seen: (2 * c.layers * c.heads * c.head_dim) as f64 / floats }
    }

    /// The shortest time of a pass over `n` tokens with all logits, after [`CONTEXT`] positions.
    fn pass(&self, n: usize) -> f64 {
        self.bytes.max(n as f64 * (self.body + self.head) + self.seen * seen(CONTEXT, n))
    }

    /// That of a pass over the first `n` tokens with the logits of one.
    fn prefill(&self, n: usize) -> f64 {
        self.bytes.max(n as f64 * self.body + self.head + self.seen * seen(0, n))
    }
}

/// Multiply-adds of a token with the weights, and of them those with the head.
fn multiply_adds(c: &Config) -> (f64, f64) {
    let (q, kv) = (c.heads * c.head_dim, c.kv_heads * c.head_dim);
    ((c.layers * (c.dim * (2 * q + 2 * kv) + 3 * c.dim * c.ffn)) as f64, (c.dim * c.vocab) as f64)
}

/// Positions that `n` tokens see after `before` others, one after the other.
fn seen(before: usize, n: usize) -> f64 {
    (n * before + n * (n + 1) / 2) as f64
}

/// A line of the table of aims.
struct Aim {
    what: String,
    /// At least, or at most.
    least: bool,
    asked: f64,
    reached: [f64; 3],
    /// The best that the roof allows.
    best: f64,
}

/// The whole report.
pub fn text(model: &Model, rounds: usize, samples: &Samples, instruction: &str, info: [&str; 2]) -> String {
    let (bandwidth, peak, floats) = (samples.median("bandwidth"), samples.median("peak"), samples.median("floats"));
    let minima = ["Q4_1", "Q4_K", "Q5_K"].iter().any(|format| model.quantisation().starts_with(format));
    let unit = model.kernel() == "amx-int8";
    let roof = Roof::of(model.config(), model.weight_bytes(), minima, unit, bandwidth, peak, floats);

    // The sizes of llama.cpp's weights stand second in what it tells.
    let theirs = info.map(|info| info.split(' ').nth(1).and_then(|n| n.parse::<f64>().ok()).unwrap_or(f64::NAN) / 1e6);
    let mut text = format!(
        "{} ({}) on {}; {rounds} rounds\n{}: {}\nllama.cpp is built for:{}\nits file has {:.1} MB of weights, its own Q4_0 {:.1} MB\n\n",
        model.path().file_name().unwrap_or_default().to_string_lossy(),
        model.quantisation(),
        model.device_name(),
        cpu_name().unwrap_or_else(|| "unknown CPU".into()),
        cpu_features().iter().filter(|f| f.1).map(|f| f.0).collect::<Vec<_>>().join(" "),
        info[0].split_once("CPU :").map_or("", |(_, built)| built).trim_end_matches(" | "),
        theirs[0],
        theirs[1],
    );
    text.push_str(&medians(samples, &roof));
    let (body, head) = multiply_adds(model.config());
    text.push_str(&format!(
        "\nroofline: {:.1} MB a pass at {:.1} GB/s beyond the caches: {:.2} ms; {:.1} million multiply-adds a token ({body:.1} without the \
         head) at {:.0} thousand million a second ({instruction}), their scales and attention at {:.0} of floats: {:.3} ms, and {:.3} us \
         for each position seen\n\n",
        model.weight_bytes() as f64 / 1e6,
        bandwidth / 1e9,
        roof.bytes * 1e3,
        (body + head) / 1e6,
        peak / 1e9,
        floats / 1e9,
        (roof.body + roof.head) * 1e3,
        roof.seen * 1e6,
        body = body / 1e6,
    ));
    text.push_str(&aims(samples, &roof, model.weight_bytes() as f64));
    text
}

fn medians(samples: &Samples, roof: &Roof) -> String {
    let sides = ["ours", "llama.cpp", "llama.cpp, Q4_0", "candle"];
    let mut rows = vec![["ms, medians", "ours", "llama.cpp", "its Q4_0", "candle", "roof", "reached"].map(str::to_owned)];
    let mut row = |what: String, name: String, roof: f64| {
        let times = sides.map(|side| samples.median(&format!("{name} {side}")));
        let cell = |t: f64| if t.is_nan() { "-".to_owned() } else { format!("{:.2}", t * 1e3) };
        let [a, b, c, d] = times.map(cell);
        rows.push([what, a, b, c, d, cell(roof), format!("{:.0}%", 100.0 * roof / times[0])]);
    };
    row("a token, decoding".into(), "decode".into(), roof.pass(1));
    row(format!("reading {PROMPT}"), format!("prefill.{PROMPT}"), roof.prefill(PROMPT));
    for n in BATCHES {
        row(format!("t({n}) after {CONTEXT}"), format!("pass.{n}"), roof.pass(n));
    }
    columns(&rows)
}

fn aims(samples: &Samples, roof: &Roof, bytes: f64) -> String {
    let mut aims = Vec::new();
    let mut faster = |what: &str, name: &str, side: &str, asked: f64, roof: f64| {
        let (theirs, ours) = (format!("{name} {side}"), format!("{name} ours"));
        let best = samples.median(&theirs) / roof;
        aims.push(Aim { what: what.into(), least: true, asked, reached: samples.ratio(&theirs, &ours), best });
    };
    let (same, best, candle) = ("llama.cpp", "llama.cpp, Q4_0", "candle");
    let prefill = format!("prefill.{PROMPT}");
    faster("decoding, against llama.cpp", "decode", same, 1.9, roof.pass(1));
    faster("decoding, against its best format", "decode", best, 1.3, roof.pass(1));
    faster("reading 256, against llama.cpp", &prefill, same, 7.0, roof.prefill(PROMPT));
    faster("reading 256, against its best format", &prefill, best, 2.8, roof.prefill(PROMPT));
    for n in [16, 32, 64] {
        faster(&format!("verifying {n}, against llama.cpp"), &format!("pass.{n}"), same, 5.0, roof.pass(n));
    }
    faster("decoding, against candle", "decode", candle, 3.5, roof.pass(1));
    faster("a pass over 16, against candle (one logit)", "pass.16", candle, 11.0, roof.pass(16));
    let shares: Vec<f64> = (samples.of("decode ours").iter().zip(samples.of("bandwidth")))
        .map(|(token, bandwidth)| bytes / token / bandwidth)
        .collect();
    let reached = [0.25, 0.5, 0.75].map(|share| quantile(&shares, share));
    aims.insert(2, Aim { what: "share of the memory's speed, decoding".into(), least: true, asked: 0.85, reached, best: 1.0 });
    for (n, asked) in [(2, 1.15), (4, 1.4), (8, 2.0), (16, 3.0), (32, 5.0), (64, 9.0)] {
        let reached = samples.ratio(&format!("pass.{n} ours"), "pass.1 ours");
        let best = roof.pass(n) / samples.median("pass.1 ours").max(roof.bytes);
        aims.push(Aim { what: format!("t({n}) over t(1)"), least: false, asked, reached, best });
    }
    let mut rows = vec![["what", "asked", "reached", "half of the rounds", "roof", ""].map(str::to_owned)];
    for Aim { what, least, asked, reached: [low, middle, high], best } in aims {
        let met = if least { middle >= asked } else { middle <= asked };
        let possible = if least { best >= asked } else { best <= asked };
        rows.push([
            what,
            format!("{} {asked}", if least { ">=" } else { "<=" }),
            format!("{middle:.2}"),
            format!("{low:.2} to {high:.2}"),
            format!("{best:.2}"),
            match (met, possible) {
                (true, _) => "met",
                (false, true) => "not met",
                (false, false) => "beyond the roof",
            }
            .into(),
        ]);
    }
    columns(&rows)
}
