//! Options and outputs.

use super::Case;
use super::tiny_gguf::Gguf;

fn option(args: &str) -> Case {
    Case::new(&format!("option {args}"), args, 2)
}

fn model() -> Vec<u8> {
    Gguf::sentence_piece(&["a", "b", "h", "i", " ", "hi"], false).bytes()
}

/// Case of a run of a working model, refused with status 1.
fn run(args: &str) -> Case {
    let all = format!("run --model DIR/m.gguf --raw --prompt hi --max-tokens 2 --threads 1 {args}");
    Case::new(&format!("run {args}"), &all, 1).file("m.gguf", model())
}

pub fn cases() -> Vec<Case> {
    vec![
        option("run --bugdet 3"),
        option("run --budget 0"),
        option("run --budget 257"),
        option("run --budget -1"),
        option("run --budget 99999999999999999999"),
        option("run --temperature -0.5"),
        option("run --temperature inf"),
        option("run --top-p 0"),
        option("run --top-p 1.5"),
        option("run --top-k 0"),
        option("run --threads 0"),
        option("run --max-tokens 0"),
        option("run --limit 0"),
        option("run --seed -1"),
        option("run --device gpu"),
        option("run --drafter magic"),
        option("run --drafter model"),
        option("run --drafter external"),
        option("run --mix ngram"),
        option("run --mix ngram,magic"),
        option("run --fixed 4,0"),
        option("run --verify magic"),
        option("run --external-timeout 0"),
        option("run --exit-layers 0"),
        option("run --look-every -1"),
        option("run --prompt hi --prompts x.jsonl"),
        Case::new("compare with one setting", "compare --setting drafter=none", 1),
        Case::new(
            "compare with an unknown drafter",
            "compare --setting drafter=magic --setting drafter=none",
            1,
        ),
        option("train --folder w --out h.gguf"),
        option("train --text t --folder w --out h.gguf --depths 17"),
        option("train --text t --folder w --out h.gguf --learning-rate nan"),
        option("plot t.json"),
        option("completions tcsh"),
        Case::new("option --prompt of spaces", "run --prompt", 2).arg("  "),
        Case::new(
            "option --external with an open quote",
            "run --model DIR/m.gguf --raw --prompt hi --threads 1 --drafter external --external",
            1,
        )
        .arg("a 'b")
        .file("m.gguf", model()),
        run("--drafter early-exit --exit-layers 1"),
        run("--draft-model DIR/none.gguf --drafter model"),
        run("--json DIR/no/such/out.jsonl"),
        run("--json DIR"),
    ]
}
