//! Training on a GPU against training on the CPU.
//!
//! Runs on the CPU, since candle's operations run there as well.

use candle_core::Device;
use speclight::model::device::DeviceChoice;
use speclight::model::format::weights::Weights;
use speclight::model::{HeadForm, Model};
use speclight::train::{
    self, Corpus, CorpusSettings, CorpusText, GenerationOptions, PromptTask, Teacher, TrainReport,
    TrainSettings, TrainStart,
};

use super::common::path;

const AFTER: [usize; 3] = [3, 15, 27];

fn about(after: &[usize]) -> CorpusSettings {
    CorpusSettings {
        form: speclight::train::CORPUS_FORM,
        model: "m".into(),
        dim: 576,
        after: after.to_vec(),
        prompts: "p".into(),
        seed: 3,
        max_tokens: 10,
    }
}

#[test]
fn a_gpu_writes_and_learns_what_the_cpu_does() {
    let folder = tempfile::tempdir().unwrap();
    let weights = Weights::open(&path()).unwrap();
    let teacher = Teacher::new(&weights, &Device::Cpu, &AFTER).unwrap();
    let ask = |text: &str, then: Option<&str>| PromptTask {
        text: text.into(),
        answer_start: None,
        follow_up: then.map(str::to_owned),
        is_given_text: false,
    };
    let mut asks: Vec<PromptTask> =
        (2..9).map(|i| ask(&format!("What is {i} + {i}?"), None)).collect();
    asks.push(ask(
        "Name a color of the rainbow, and say in which fruits, flowers and birds it can be seen.",
        Some("Why {}?"),
    ));
    // A given text, and one too short to train on.
    let given = "A text that stands already is read as it is, from its first word to its last, and nothing is written behind it.";
    asks.extend(
        [given, "Too short."].map(|text| PromptTask { is_given_text: true, ..ask(text, None) }),
    );
    let writing = GenerationOptions { seed: 3, max_tokens: 10, tokens: usize::MAX };

    // The texts of both, in the order of their prompts.
    let models = [Model::open(&path(), DeviceChoice::Cpu, Some(2)).unwrap()];
    let mut own = Corpus::open(&folder.path().join("own"), &about(&AFTER)).unwrap();
    train::gather(&models, &asks, &mut own, &AFTER, writing, &mut |_| true).unwrap();
    let mut there = Corpus::open(&folder.path().join("there"), &about(&[])).unwrap();
    train::gather_on_gpu(teacher.llama(), &models[0], &asks, &mut there, writing, &mut |_| true)
        .unwrap();
    let texts = |corpus: &mut Corpus| -> Vec<CorpusText> {
        let mut all: Vec<CorpusText> = (0..corpus.len()).map(|i| corpus.read(i).unwrap()).collect();
        all.sort_by_key(|text| text.prompt);
        all
    };
    let (ours, theirs) = (texts(&mut own), texts(&mut there));
    assert_eq!(
        (ours.len(), theirs.len()),
        (10, 10),
        "each prompt, the one that follows, and a text"
    );
    let prompts = |texts: &[CorpusText]| {
        texts
            .iter()
            .take(8)
            .map(|t| t.tokens[..t.prompt_tokens as usize].to_vec())
            .collect::<Vec<_>>()
    };
    assert_eq!(prompts(&ours), prompts(&theirs));
    for (one, two) in ours.iter().zip(&theirs) {
        assert_eq!(one.prompt, two.prompt);
        if one.prompt == 8 {
            assert_eq!((&one.tokens, one.prompt_tokens), (&two.tokens, two.prompt_tokens));
            assert_eq!(one.tokens, models[0].tokenizer().encode(given, false).unwrap());
            continue;
        }
        assert!(two.hidden.is_empty() && two.distributions.is_empty());
        let (answer, stop) =
            (&two.tokens[two.prompt_tokens as usize..], models[0].tokenizer().stop_tokens());
        assert!(!answer.is_empty() && answer.len() <= 10);
        assert!(
            answer.len() == 10 || stop.contains(answer.last().unwrap()),
            "it ended early: {answer:?}"
        );
    }
    // Greedy answers to sums are far from ties; sampled texts differ, since the tokens are sampled
    // in another order.
    assert!(ours.iter().zip(&theirs).filter(|(one, two)| one.tokens == two.tokens).count() >= 2);
    // Texts that exist are not generated again.
    train::gather_on_gpu(teacher.llama(), &models[0], &asks, &mut there, writing, &mut |_| true)
        .unwrap();
    assert_eq!(there.len(), 10);

    // The same texts, once with states and distributions from the CPU path, and once computed by
    // the teacher.
    let mut same = Corpus::open(&folder.path().join("same"), &about(&[])).unwrap();
    for i in 0..own.len() {
        same.push(&CorpusText {
            hidden: Vec::new(),
            distributions: Vec::new(),
            ..own.read(i).unwrap()
        })
        .unwrap();
    }
    for form in [HeadForm::Eagle, HeadForm::Adapter] {
        let run = |corpus: &mut Corpus,
                   teacher: Option<&Teacher>,
                   name: &str|
         -> Vec<TrainReport> {
            let options = TrainSettings {
                form,
                steps: 2,
                rate: 2e-4,
                warm_up: 1,
                depths: 2,
                vocab: 49152,
                // Shorter than the texts, so that training windows start within them.
                window: 44,
                batch: 2,
                prompt_weight: 0.25,
                regression: 0.1,
                clip: 1.0,
                held_out: 4,
                every: 2,
                seed: 1,
                threads: 2,
            };
            let place = folder.path().join(name);
            std::fs::create_dir_all(&place).unwrap();
            let start = TrainStart { target: &weights, head: None, after: &AFTER, teacher };
            let mut told = Vec::new();
            train::train(corpus, start, options, &place, &place.join("head.gguf"), &mut |report| {
                told.push(report.clone());
                true
            })
            .unwrap();
            told
        };
        let (cpu, gpu) = (
            run(&mut own, None, &format!("cpu-{form:?}")),
            run(&mut same, Some(&teacher), &format!("gpu-{form:?}")),
        );
        assert_eq!((cpu.len(), gpu.len()), (2, 2));
        // The corpus does not store the tail of a distribution, a tenth of its mass and more;
        // products on a matrix unit have half the bits.
        let near = |a: f64, b: f64, share: f64| (a - b).abs() < share * a.abs().max(b.abs());
        for (a, b) in cpu.iter().zip(&gpu) {
            assert_eq!((a.step, a.tokens), (b.step, b.tokens));
            assert!(
                near(a.loss, b.loss, 0.25),
                "{form:?}, step {}: {} and {}",
                a.step,
                a.loss,
                b.loss
            );
        }
        // Later steps differ more: a CPU without a matrix unit does not round the weights.
        assert!(
            near(cpu[0].norm, gpu[0].norm, 0.3),
            "{form:?}: norms {} and {}",
            cpu[0].norm,
            gpu[0].norm
        );
        let (a, b) = (cpu[1].held_out.clone().unwrap(), gpu[1].held_out.clone().unwrap());
        assert_eq!(a.loss.len(), b.loss.len());
        for (a, b) in a.loss.iter().zip(&b.loss) {
            assert!(near(*a, *b, 0.25), "{form:?}: held out {a} and {b}");
        }
        assert!(folder.path().join(format!("gpu-{form:?}/head.gguf")).is_file());
    }
}
