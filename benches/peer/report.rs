//! Report of the measurements, with targets and the limits of the machine.

use std::collections::BTreeMap;

use speclight::cli::columns;
use speclight::model::cpu::{cpu_features, cpu_name};
use speclight::model::{Config, Model};

use crate::sides::CONTEXT;
use crate::{BATCHES, PROMPT};

/// Samples by name, in the order of rounds.
#[derive(Default)]
pub struct Samples(BTreeMap<String, Vec<f64>>);

impl Samples {
    /// Adds a sample to those of `name`.
    pub fn add(&mut self, name: String, value: f64) {
        self.0.entry(name).or_default().push(value);
    }

    fn of(&self, name: &str) -> &[f64] {
        self.0.get(name).map_or(&[], |samples| samples)
    }

    fn median(&self, name: &str) -> f64 {
        quantile(self.of(name), 0.5)
    }

    /// Returns quartiles of the ratio of `slow` to `fast`, round by round.
    fn ratio(&self, slow: &str, fast: &str) -> [f64; 3] {
        let ratios: Vec<f64> =
            self.of(slow).iter().zip(self.of(fast)).map(|(slow, fast)| slow / fast).collect();
        [0.25, 0.5, 0.75].map(|share| quantile(&ratios, share))
    }
}

/// Returns the quantile `share` of `samples`; NaN if there are none.
fn quantile(samples: &[f64], share: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let place = share * last as f64;
    let (low, high) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    low + (high - low) * place.fract()
}

/// Lower bounds on times, set by the machine and the model (roofline).
struct Roofline {
    /// Seconds to read the weights from memory.
    bytes: f64,
    /// Seconds for the multiply-adds of one token with the weights, without the output head.
    body: f64,
    /// Seconds for the multiply-adds of one token with the output head.
    head: f64,
    /// Seconds of attention per visible position.
    seen: f64,
}

impl Roofline {
    /// Computes the roofline of model `c` with `bytes` bytes of weights.
    ///
    /// `bandwidth` is in bytes per second, `peak` and `floats` in multiply-adds per second of bytes
    /// and of floats. `minima` says that the weight format has minima.
    ///
    /// In addition to 32 byte multiply-adds, a block of 32 weights and as many quantized
    /// activations needs float operations: the product of both scales, the sum times that product,
    /// and the minimum times the sum of the activations. The same CPU units do both, one after the
    /// other; a matrix unit (`unit`) works separately.
    fn of(
        c: &Config,
        bytes: u64,
        minima: bool,
        unit: bool,
        bandwidth: f64,
        peak: f64,
        floats: f64,
    ) -> Roofline {
        let (body, head) = multiply_adds(c);
        let floats = if unit { f64::INFINITY } else { floats };
        let seconds = |n: f64, scales: f64| n / peak + n * scales / 32.0 / floats;
        // A head of bytes has no minima; a head with minima takes longer than this.
        let (body, head) = (seconds(body, if minima { 3.0 } else { 2.0 }), seconds(head, 2.0));
        Roofline {
            bytes: bytes as f64 / bandwidth,
            body,
            head,
            seen: (2 * c.layers * c.heads * c.head_dim) as f64 / floats,
        }
    }

    /// Minimum time of a pass over `n` tokens with all logits, after [`CONTEXT`] positions.
    fn pass(&self, n: usize) -> f64 {
        self.bytes.max(n as f64 * (self.body + self.head) + self.seen * seen(CONTEXT, n))
    }

    /// Minimum time of a pass over the first `n` tokens with the logits of one.
    fn prefill(&self, n: usize) -> f64 {
        self.bytes.max(n as f64 * self.body + self.head + self.seen * seen(0, n))
    }
}

/// Multiply-adds per token: with the weights of the layers, and with the head.
fn multiply_adds(c: &Config) -> (f64, f64) {
    let (q, kv) = (c.heads * c.head_dim, c.kv_heads * c.head_dim);
    ((c.layers * (c.dim * (2 * q + 2 * kv) + 3 * c.dim * c.ffn)) as f64, (c.dim * c.vocab) as f64)
}

/// Total number of visible positions of `n` consecutive tokens after `before` others.
fn seen(before: usize, n: usize) -> f64 {
    (n * before + n * (n + 1) / 2) as f64
}

/// One row of the table of targets.
struct Target {
    what: String,
    /// The target is a lower bound if `true`, an upper bound otherwise.
    least: bool,
    asked: f64,
    reached: [f64; 3],
    /// Best value that the roofline allows.
    best: f64,
}

/// Formats the whole report.
pub fn text(
    model: &Model,
    rounds: usize,
    samples: &Samples,
    instruction: &str,
    info: [&str; 2],
) -> String {
    let (bandwidth, peak, floats) =
        (samples.median("bandwidth"), samples.median("peak"), samples.median("floats"));
    let minima =
        ["Q4_1", "Q4_K", "Q5_K"].iter().any(|format| model.quantization().starts_with(format));
    let unit = model.kernel() == "amx-int8";
    let roof =
        Roofline::of(model.config(), model.weight_bytes(), minima, unit, bandwidth, peak, floats);

    // The second word of llama.cpp's answer is the size of its weights.
    let theirs = info.map(|info| {
        info.split(' ').nth(1).and_then(|n| n.parse::<f64>().ok()).unwrap_or(f64::NAN) / 1e6
    });
    let mut text = format!(
        "{} ({}) on {}; {rounds} rounds\n{}: {}\nllama.cpp is built for:{}\nits file has {:.1} MB of weights, its own Q4_0 {:.1} MB\n\n",
        model.path().file_name().unwrap_or_default().to_string_lossy(),
        model.quantization(),
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

fn medians(samples: &Samples, roof: &Roofline) -> String {
    let sides = ["ours", "llama.cpp", "llama.cpp, Q4_0", "candle"];
    let mut rows = vec![
        ["ms, medians", "ours", "llama.cpp", "its Q4_0", "candle", "roof", "reached"]
            .map(str::to_owned),
    ];
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

fn aims(samples: &Samples, roof: &Roofline, bytes: f64) -> String {
    let mut aims = Vec::new();
    let mut faster = |what: &str, name: &str, side: &str, asked: f64, roof: f64| {
        let (theirs, ours) = (format!("{name} {side}"), format!("{name} ours"));
        let best = samples.median(&theirs) / roof;
        aims.push(Target {
            what: what.into(),
            least: true,
            asked,
            reached: samples.ratio(&theirs, &ours),
            best,
        });
    };
    let (same, best, candle) = ("llama.cpp", "llama.cpp, Q4_0", "candle");
    let prefill = format!("prefill.{PROMPT}");
    faster("decoding, against llama.cpp", "decode", same, 1.9, roof.pass(1));
    faster("decoding, against its best format", "decode", best, 1.3, roof.pass(1));
    faster("reading 256, against llama.cpp", &prefill, same, 7.0, roof.prefill(PROMPT));
    faster("reading 256, against its best format", &prefill, best, 2.8, roof.prefill(PROMPT));
    for n in [16, 32, 64] {
        faster(
            &format!("verifying {n}, against llama.cpp"),
            &format!("pass.{n}"),
            same,
            5.0,
            roof.pass(n),
        );
    }
    faster("decoding, against candle", "decode", candle, 3.5, roof.pass(1));
    faster("a pass over 16, against candle (one logit)", "pass.16", candle, 11.0, roof.pass(16));
    let shares: Vec<f64> = (samples.of("decode ours").iter().zip(samples.of("bandwidth")))
        .map(|(token, bandwidth)| bytes / token / bandwidth)
        .collect();
    let reached = [0.25, 0.5, 0.75].map(|share| quantile(&shares, share));
    aims.insert(
        2,
        Target {
            what: "share of the memory's speed, decoding".into(),
            least: true,
            asked: 0.85,
            reached,
            best: 1.0,
        },
    );
    for (n, asked) in [(2, 1.15), (4, 1.4), (8, 2.0), (16, 3.0), (32, 5.0), (64, 9.0)] {
        let reached = samples.ratio(&format!("pass.{n} ours"), "pass.1 ours");
        let best = roof.pass(n) / samples.median("pass.1 ours").max(roof.bytes);
        aims.push(Target { what: format!("t({n}) over t(1)"), least: false, asked, reached, best });
    }
    let mut rows =
        vec![["what", "asked", "reached", "half of the rounds", "roof", ""].map(str::to_owned)];
    for Target { what, least, asked, reached: [low, middle, high], best } in aims {
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
