//! One function per fuzz target: parses an input, uses what was accepted, checks what was promised.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use half::f16;
use sha2::{Digest, Sha256};

use super::hub::{MemoryHub, NoNames, TOKEN};
use crate::attach::earlier::{self, Earlier};
use crate::attach::import::Imported;
use crate::attach::lines::AttachSummaryLine;
use crate::attach::{self, Address, Counters, Identity};
use crate::cli::bench::{read_report, text as bench_text};
use crate::cli::plot::draw;
use crate::cli::prompts;
use crate::draft::Limits;
use crate::draft::drafters::external::answer;
use crate::hex::hex;
use crate::model::chat::ChatTemplate;
use crate::model::device::DeviceChoice;
use crate::model::format::gguf as gguf_file;
use crate::model::format::quant::TensorFormat;
use crate::model::format::weights::Weights;
use crate::model::{Config, HeadForm, Logits, Model, Tokenizer};
use crate::registry;
use crate::sanitize::{
    self, LONGEST_NAME, Signs, for_each_piece, is_hidden, is_spreadsheet_formula, sanitize_json,
    sanitize_line, sanitize_lines, sanitize_name,
};
use crate::study::table::rows::{SetRows, Table};
use crate::study::table::state::{Settings, TableState};
use crate::theory::cost::CostCurve;
use crate::train::{
    CORPUS_FORM, Corpus, CorpusSettings, CorpusText, TOP, TrainSettings, TrainStart, train,
};

/// Texts that every accepted tokenizer must encode.
const TEXTS: [&str; 4] = [
    "Hello <s> world",
    "",
    " \u{1b}[31m\n\t\u{202e}e\u{301}日本\u{0}",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
];
/// Longest message of an error before it is shortened for display, in bytes.
const LONGEST_ERROR: usize = 1 << 20;

/// Checks that a message is one line that a terminal can show.
fn check_line(message: &str) {
    let line = sanitize_line(message);
    assert!(!line.trim().is_empty(), "an error without words");
    assert!(!line.chars().any(is_hidden), "{line:?} has hidden characters");
    assert!(
        message.len() <= LONGEST_ERROR,
        "an error of {} bytes: {}",
        message.len(),
        sanitize_name(message)
    );
}

fn accept<T>(outcome: Result<T, impl Display>) -> Option<T> {
    outcome.map_err(|error| check_line(&error.to_string())).ok()
}

fn accept_any<T>(outcome: anyhow::Result<T>) -> Option<T> {
    outcome.map_err(|error| check_line(&sanitize::format_error_chain(&error))).ok()
}

/// Writes a file of the scratch folder.
fn file(folder: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.join(name);
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).expect("a folder in the scratch folder");
    }
    std::fs::write(&path, bytes).expect("a file in the scratch folder");
    path
}

/// Returns a corpus file, for targets that need other files beside their input.
macro_rules! corpus {
    ($path:literal) => {
        include_bytes!(concat!("../../fuzz/corpus/", $path))
    };
}

/// Opens a model, and runs a few tokens through it.
fn load(path: &Path) -> bool {
    let Some(weights) = accept(Weights::open(path)) else { return false };
    read_tensors(&weights);
    let Some(model) = accept(Model::open(path, DeviceChoice::Cpu, Some(1))) else { return false };
    for text in TEXTS {
        let Some(mut tokens) = accept(model.prompt_tokens(text, true)) else { continue };
        let vocabulary = model.config().vocab as u32;
        assert!(
            tokens.iter().all(|&token| token < vocabulary),
            "a token outside of the vocabulary"
        );
        tokens.truncate(3.min(model.config().context));
        let Some(mut decoder) = accept(model.decoder(tokens.len())) else { continue };
        accept(decoder.prefill(&tokens, 2, Logits::Last));
    }
    true
}

fn read_tensors(weights: &Weights) {
    for tensor in weights.tensors().cloned().collect::<Vec<_>>() {
        if let Some(values) = accept(weights.read_values(&tensor.name, 0..tensor.rows)) {
            assert_eq!(values.len(), tensor.rows * tensor.cols, "{}", tensor.name);
        }
    }
}

/// Loads a model from a single file.
pub fn gguf(bytes: &[u8], folder: &Path) -> bool {
    accept(gguf_file::read_header(bytes, bytes.len() as u64, Path::new("model.gguf"))).is_some()
        && load(&file(folder, "model.gguf", bytes))
}

/// Reads a drafting head as each of both forms.
pub fn head(bytes: &[u8], _: &Path) -> bool {
    let forms = [HeadForm::Eagle, HeadForm::Adapter];
    let accepted =
        forms.map(|form| match accept(Weights::head_from_bytes(bytes, "head.gguf", form)) {
            Some(weights) => {
                read_tensors(&weights);
                true
            }
            None => false,
        });
    accepted.contains(&true)
}

/// Loads a model folder with this weights file.
pub fn safetensors(bytes: &[u8], folder: &Path) -> bool {
    file(folder, "config.json", corpus!("config_json/ok-tiny.json"));
    file(folder, "tokenizer.json", corpus!("tokenizer_json/ok-bytes.json"));
    file(folder, "model.safetensors", bytes);
    load(folder)
}

/// Loads a model folder with this config.json.
pub fn config_json(bytes: &[u8], folder: &Path) -> bool {
    file(folder, "config.json", bytes);
    file(folder, "tokenizer.json", corpus!("tokenizer_json/ok-bytes.json"));
    file(folder, "model.safetensors", corpus!("safetensors/ok-tiny"));
    load(folder)
}

/// Loads the tokenizer of a model folder with this tokenizer.json.
pub fn tokenizer_json(bytes: &[u8], folder: &Path) -> bool {
    file(folder, "config.json", corpus!("config_json/ok-tiny.json"));
    file(folder, "tokenizer.json", bytes);
    file(folder, "model.safetensors", corpus!("safetensors/ok-tiny"));
    let Some(weights) = accept(Weights::open(folder)) else { return false };
    let Some(tokenizer) = accept(Tokenizer::open(&weights)) else { return false };
    let spellings = tokenizer.token_bytes();
    assert_eq!(spellings.len(), tokenizer.len());
    assert!(tokenizer.stop_tokens().is_sorted(), "stop tokens are sorted");
    for text in TEXTS {
        for special in [false, true] {
            let tokens = accept(tokenizer.encode(text, special)).unwrap_or_default();
            assert!(
                tokens.iter().all(|&token| (token as usize) < spellings.len()),
                "a token outside of the vocabulary"
            );
        }
    }
    true
}

/// Renders a message with this chat template.
pub fn chat_template(bytes: &[u8], _: &Path) -> bool {
    let source = String::from_utf8_lossy(bytes);
    let template = ChatTemplate::new(PathBuf::from("model.gguf"), &source);
    accept(template.render("Hello", ["<s>", "</s>"])).is_some()
}

/// Merges this user's list of models with the built-in one.
pub fn models_toml(bytes: &[u8], folder: &Path) -> bool {
    file(folder, "models.toml", bytes);
    let Some(registry) = accept(registry::Registry::in_folders(folder, folder.join("cache")))
    else {
        return false;
    };
    for found in registry.all() {
        let path = registry.find(Some(found.name()));
        assert!(path.is_ok(), "a listed model is found");
        check_line(&found.source());
        assert!(found.sha256().is_none_or(|sum| sum.len() == 64));
        // A file of the list is in the cache, or where a path of the list says.
        let _ = found.path();
    }
    assert!(registry.find(None).is_ok(), "the default model is listed");
    true
}

/// Reads this user's list of machines.
pub fn hardware_toml(bytes: &[u8], folder: &Path) -> bool {
    file(folder, "hardware.toml", bytes);
    let Some(machines) = accept(registry::hardware_in(folder)) else { return false };
    for machine in &machines {
        assert!(machine.bandwidth > 0.0 && machine.bandwidth.is_finite(), "{machine:?}");
        assert!(machine.flops > 0.0 && machine.flops.is_finite(), "{machine:?}");
    }
    true
}

/// Theme file in the user's folder, by name and by path.
#[cfg(feature = "tui")]
pub fn theme(bytes: &[u8], folder: &Path) -> bool {
    use crate::tui::theme::{ColorDepth, Role, TerminalAbilities, Theme};
    let path = file(folder, "own.toml", bytes);
    let mut accepted = false;
    for (depth, ascii) in [(ColorDepth::None, true), (ColorDepth::Indexed, false)] {
        let abilities = TerminalAbilities { depth, ascii, folder: Some(folder.to_owned()) };
        for name in ["own", &path.to_string_lossy()] {
            let Some(theme) = accept(Theme::load(name, &abilities)) else { continue };
            accepted = true;
            for role in Role::ALL {
                let style = theme.style(*role);
                assert!(
                    depth != ColorDepth::None || (style.fg.is_none() && style.bg.is_none()),
                    "{style:?} without color"
                );
            }
        }
    }
    accepted
}

/// Files of prompts, for decoding and for training.
pub fn prompts(bytes: &[u8], folder: &Path) -> bool {
    let path = file(folder, "prompts.jsonl", bytes);
    let mut warn = |line: String| check_line(&line);
    accept(prompts::read_asks(&path, &mut warn));
    accept(prompts::read_text(&path));
    let Some(read) = accept(prompts::read_files(&[path.clone(), path], Some(50), &mut warn)) else {
        return false;
    };
    let mut ids: Vec<&str> = read.iter().map(|prompt| prompt.id.as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert!(ids.len() == read.len() && !read.is_empty() && read.len() <= 50, "ids are unique");
    assert!(read.iter().all(|prompt| !prompt.text.trim().is_empty()), "prompts have text");
    true
}

/// Answer of an external drafter.
pub fn external_answer(bytes: &[u8], _: &Path) -> bool {
    let limits = Limits { budget: 9, depth: 4 };
    let Some((_, tree)) =
        accept(answer::parse_answer(&String::from_utf8_lossy(bytes), 3, limits, 100, &[2]))
    else {
        return false;
    };
    let Some(tree) = accept(tree) else { return false };
    assert!(tree.drafted() < limits.budget, "{tree:?}");
    for node in 1..=tree.drafted() {
        let token = tree.tokens()[node];
        assert!(token < 100 && token != 2 && tree.depth(node) <= limits.depth, "{tree:?}");
        assert!(
            tree.parent(node).is_some_and(|parent| parent < node)
                && tree.q(node) > 0.0
                && tree.q(node) <= 1.0,
            "{tree:?}"
        );
    }
    true
}

/// State file of an interrupted table.
pub fn table_state(bytes: &[u8], folder: &Path) -> bool {
    let header: serde_json::Value =
        serde_json::from_slice(corpus!("table_state/ok-settings.jsonl"))
            .expect("a line of settings in the corpus");
    let settings: Settings =
        serde_json::from_value(header["settings"].clone()).expect("settings in the corpus");
    let path = file(folder, "state", bytes);
    let Some(state) = accept_any(TableState::open(&path, &settings)) else { return false };
    let (pieces, cost) = (state.pieces.len(), state.cost.is_some());
    drop(state);
    // What was opened once is opened again, with the same content.
    let again = TableState::open(&path, &settings)
        .unwrap_or_else(|error| panic!("not opened again: {error:#}"));
    assert_eq!((again.pieces.len(), again.cost.is_some()), (pieces, cost));
    true
}

/// Cached or recorded costs of passes.
pub fn pass_costs(bytes: &[u8], _: &Path) -> bool {
    let Some(costs) = accept(serde_json::from_slice::<CostCurve>(bytes)) else { return false };
    let largest = costs.largest();
    for batch in [1, 2, 3, largest / 2 + 1, largest, largest.saturating_add(1), 1 << 20] {
        let seconds = costs.seconds(batch);
        assert!(seconds > 0.0 && !seconds.is_nan(), "t({batch}) = {seconds}: {costs:?}");
    }
    let (kept, rate) = costs.best_prefix(&[0.9, 0.5, 0.1], 1e-4, 1e-6);
    assert!(kept <= 3 && rate >= 0.0, "{kept} {rate}");
    let _ = costs.is_plausible();
    true
}

/// Reads the figures of the last probe of a server, kept in the cache folder.
pub fn kept_probe(bytes: &[u8], folder: &Path) -> bool {
    let address = Address::parse("http://127.0.0.1:8080").expect("an address");
    let path = earlier::file(folder, &address);
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    std::fs::write(&path, bytes).expect("a file in the scratch folder");
    match earlier::read(folder, &address, attach::ServerKind::LlamaServer, &Identity::default()) {
        Earlier::None => panic!("a file that is there was not found"),
        Earlier::Stale(line) => {
            check_line(&line);
            false
        }
        Earlier::Found(probe) => {
            check_line(&probe.local_date());
            check_line(&probe.utc_date());
            for estimate in probe.estimates.of_distributions().into_iter().flatten() {
                assert!(estimate.value >= 0.0, "{estimate:?}");
            }
            true
        }
    }
}

/// Reads a corpus of texts that a head is trained on.
pub fn training_corpus(bytes: &[u8], folder: &Path) -> bool {
    let about = corpus!("training_corpus/ok-two-texts");
    let length = u64::from_le_bytes(about[..8].try_into().expect("eight bytes")) as usize;
    let about: CorpusSettings =
        serde_json::from_slice(&about[8..8 + length]).expect("settings in the corpus");
    let path = file(folder, "corpus", bytes);
    let Some(mut corpus) = accept(Corpus::open(&path, &about)) else { return false };
    for i in 0..corpus.len() {
        let Some(text) = accept(corpus.read(i)) else { continue };
        assert_eq!(text.hidden.len(), text.positions() * about.after.len() * about.dim);
    }
    true
}

/// Target of the heads whose checkpoints are read; `fuzz/make.py` has the same shape.
static TARGET: LazyLock<Weights> = LazyLock::new(|| {
    let config = Config {
        dim: 16,
        ffn: 16,
        layers: 2,
        heads: 2,
        kv_heads: 2,
        head_dim: 8,
        vocab: 32,
        context: 64,
        eps: 1e-5,
        rope_base: 1e4,
        rope_scaling: None,
    };
    Weights::random(config, TensorFormat::F32, true, 1).expect("a small target")
});

/// Checkpoint of an interrupted training, which goes on for one step.
pub fn training_checkpoint(bytes: &[u8], folder: &Path) -> bool {
    let about = CorpusSettings {
        form: CORPUS_FORM,
        model: "m".into(),
        dim: 16,
        after: vec![1, 2],
        prompts: "p".into(),
        seed: 1,
        max_tokens: 9,
    };
    let mut corpus = Corpus::open(&folder.join("corpus"), &about).expect("a corpus");
    while corpus.len() < 3 {
        let text = CorpusText {
            prompt: 0,
            prompt_tokens: 2,
            tokens: vec![1, 2, 3, 4, 5],
            hidden: (0..4 * 2 * 16).map(|i| f16::from_f32(0.1 * (i % 7) as f32)).collect(),
            distributions: vec![(3, f16::from_f32(0.02)); 4 * TOP],
        };
        corpus.push(&text).expect("a text of the corpus");
    }
    let accepted = [HeadForm::Eagle, HeadForm::Adapter].map(|form| {
        let settings = TrainSettings {
            form,
            steps: 9,
            rate: 1e-3,
            warm_up: 2,
            depths: 2,
            vocab: 16,
            window: 8,
            batch: 1,
            prompt_weight: 0.1,
            regression: 0.1,
            clip: 1.0,
            held_out: 2,
            every: 4,
            seed: 1,
            threads: 1,
        };
        let start = TrainStart { target: &TARGET, head: None, after: &about.after, teacher: None };
        for name in ["checkpoint.safetensors", "adapter-checkpoint.safetensors"] {
            file(folder, name, bytes);
        }
        let out = folder.join("head.gguf");
        let outcome = train(&mut corpus, start, settings, folder, &out, &mut |_| false);
        accept(outcome).is_some_and(|()| {
            Weights::open_head(&out, form)
                .unwrap_or_else(|error| panic!("a head that can't be read: {error}"));
            true
        })
    });
    accepted.contains(&true)
}

/// Downloads one file from a hub that gives these answers.
///
/// With and without a listed checksum.
///
/// [`SEPARATOR`](super::hub::SEPARATOR) stands between answers.
pub fn hub_answer(bytes: &[u8], folder: &Path) -> bool {
    const FILE: &[u8] = b"the file of the hub\n";
    const MOST_CONNECTIONS: usize = 300;
    let listed = (FILE.len() as u64, hex(&Sha256::digest(FILE)));
    let accepted = [None, Some(listed)].map(|expected| {
        let hub = MemoryHub::new(bytes);
        let cache = tempfile::tempdir_in(folder).expect("a folder in the scratch folder");
        let is_listed = expected.is_some();
        let outcome = registry::fetch_over(
            hub.clone(),
            NoNames,
            ["https://hub", TOKEN],
            cache.path(),
            "m.gguf",
            expected,
        );
        assert!(!hub.has_leaked(), "the token was sent to another host");
        assert!(hub.connections() <= MOST_CONNECTIONS, "{} connections", hub.connections());
        let found = std::fs::read(cache.path().join("m.gguf"));
        let Some(()) = accept(outcome) else {
            assert!(found.is_err(), "a file under its final name after an error");
            return false;
        };
        let found = found.expect("a file under its final name");
        assert!(!is_listed || found == FILE, "a file other than the listed one");
        let left = std::fs::read_dir(cache.path()).expect("the cache").count();
        assert_eq!(left, 1, "files left beside the fetched one");
        true
    });
    accepted.contains(&true)
}

/// Result of `table --json` that is drawn.
pub fn plot_table(bytes: &[u8], _: &Path) -> bool {
    let Some(table) = accept(serde_json::from_slice::<Table>(bytes)) else { return false };
    let sets: Vec<&SetRows> = table.sets.iter().take(4).collect();
    if sets.is_empty() {
        return false;
    }
    let Some(svg) = accept_any(draw::svg(&sets)) else { return false };
    let hidden = |c: char| is_hidden(c) && c != '\n';
    assert!(
        svg.starts_with("<svg") && !svg.chars().any(hidden),
        "a picture with hidden characters"
    );
    true
}

/// Earlier result of `bench` that a new one is compared with.
pub fn bench_report(bytes: &[u8], folder: &Path) -> bool {
    let path = file(folder, "bench.json", bytes);
    let Some(report) = accept_any(read_report(&path)) else { return false };
    for text in [bench_text::report(&report), bench_text::comparison(&report, &report)] {
        sanitize_lines(&text);
    }
    true
}

/// Foreign text on its way to a terminal or a file.
pub fn sanitize(bytes: &[u8], _: &Path) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let visible = |text: &str, also: &str| text.chars().all(|c| !is_hidden(c) || also.contains(c));
    let line = sanitize_line(&text);
    // Two halves that a cut joins can be a longer word than any before.
    assert!(visible(&line, "") && (line.contains('…') || sanitize_line(&line) == line), "{line:?}");
    let name = sanitize_name(&text);
    assert!(visible(&name, "") && name.chars().count() <= LONGEST_NAME, "{name:?}");
    assert!(visible(&sanitize_lines(&text), "\n"));
    let json = serde_json::to_string(&text).expect("text as JSON");
    let safe = sanitize_json(&json);
    assert!(
        visible(&safe, "") && serde_json::from_str::<String>(&safe).is_ok_and(|same| same == text),
        "{safe:?}"
    );
    let _ = is_spreadsheet_formula(&text);
    for (ascii, newline, tab) in [(false, "↵", "⇥"), (true, "$", ">")] {
        for_each_piece(&text, &Signs { ascii, newline, tab }, |symbol, width, _| {
            assert!(
                visible(symbol, "") && (1..=2).contains(&width) && (!ascii || symbol.is_ascii()),
                "{symbol:?} of {width}"
            );
        });
    }
    true
}

/// Files that other engines write about their speculation.
pub fn import(bytes: &[u8], _: &Path) -> bool {
    let mut imported = Imported::default();
    if accept(imported.read("file", bytes)).is_none() {
        return false;
    }
    for step in imported.steps() {
        if let (Some(accepted), Some(drafted)) = (step.accepted, step.drafted) {
            assert!(accepted <= drafted, "{step:?}");
        }
    }
    let summary = serde_json::to_string(&AttachSummaryLine::from(&imported.summary()));
    assert!(!summary.expect("a summary that JSON can hold").is_empty());
    true
}

/// Metrics of running servers, in the text format of Prometheus.
pub fn server_metrics(bytes: &[u8], _: &Path) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let parsers: [fn(&str) -> Counters; 6] = [
        attach::llama::counters,
        attach::vllm::counters,
        attach::sglang::counters,
        attach::tgi::counters,
        attach::mistral::counters,
        attach::tensorrt::counters,
    ];
    let none = Counters::default();
    let mut found = false;
    for parse in parsers {
        let counters = parse(&text);
        found |= counters != none;
        let _ = (counters.fell_below(&none), counters.since(&none, 1.0));
        let _ = counters.since(&counters, 0.0);
    }
    found
}

/// Reads a recording, given by its lines before compression.
///
/// Mutants of compressed bytes would fail at the checksum.
#[cfg(feature = "tui")]
pub fn recording(bytes: &[u8], _: &Path) -> bool {
    use crate::engine::EventReader;
    use crate::telemetry::recording::RecordingEnd;
    use crate::tui::testing::draw_all_views;
    use crate::tui::{State, apply};

    let packed = zstd::encode_all(bytes, 1).expect("compression in memory");
    let Some(mut events) = accept(EventReader::new(&packed[..])) else { return false };
    let mut state = State::new(1);
    for (at, recorded) in events.by_ref() {
        apply(&mut state, at, recorded);
    }
    if let Some(RecordingEnd::Damaged(_, problem)) = events.end() {
        check_line(problem);
    }
    draw_all_views(&mut state);
    matches!(events.end(), Some(RecordingEnd::Whole))
}
