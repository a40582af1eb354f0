//! Lists of models and machines, prompts, heads, state files, and results of other commands.

use super::Case;
use super::tiny_gguf::{Gguf, Value};

const MODEL: &str = "run --model DIR/m.gguf --raw --max-tokens 2 --threads 1 --drafter none";
const TABLE: &str = "table --model DIR/m.gguf --raw --max-tokens 2 --threads 1 --drafters ngram --budgets 2 --prompts DIR/p.jsonl";
const PROMPT: &str = "{\"prompt\": \"hi\"}\n";

fn model() -> Vec<u8> {
    Gguf::sentence_piece(&["a", "b", "h", "i", " ", "hi"], false).bytes()
}

fn list(name: &str, content: &str) -> Case {
    Case::new(&format!("models.toml {name}"), "models", 1).file("config/models.toml", content)
}

fn hardware(name: &str, content: &str) -> Case {
    Case::new(&format!("hardware.toml {name}"), TABLE, 1)
        .file("m.gguf", model())
        .file("p.jsonl", PROMPT)
        .file("config/hardware.toml", content)
}

fn prompts(name: &str, content: impl AsRef<[u8]>) -> Case {
    Case::new(&format!("prompts {name}"), &format!("{MODEL} --prompts DIR/p.jsonl"), 1)
        .file("m.gguf", model())
        .file("p.jsonl", content)
}

fn head(name: &str, option: &str, content: impl AsRef<[u8]>) -> Case {
    let drafter = if option == "--head" { "eagle" } else { "early-exit" };
    let args = format!(
        "run --model DIR/m.gguf --raw --prompt hi --threads 1 --drafter {drafter} {option} DIR/h.gguf"
    );
    Case::new(&format!("head {name}"), &args, 1).file("m.gguf", model()).file("h.gguf", content)
}

fn state(name: &str, content: impl AsRef<[u8]>) -> Case {
    Case::new(&format!("state {name}"), &format!("{TABLE} --state DIR/s.state"), 1)
        .file("m.gguf", model())
        .file("p.jsonl", PROMPT)
        .file("s.state", content)
}

fn plot(name: &str, content: impl AsRef<[u8]>) -> Case {
    Case::new(&format!("plot of {name}"), "plot DIR/t.json -o DIR/o.svg", 1).file("t.json", content)
}

pub fn cases() -> Vec<Case> {
    let entry = "[[model]]\nname = \"mine\"\narchitecture = \"llama\"\nfile = \"mine.gguf\"\nsources = [{ path = \"mine.gguf\" }]\n";
    let machine = "[hardware.mine]\nbandwidth = 4e10\nflops = 1e12\n";
    let eagle = |change: &dyn Fn(&mut Gguf)| {
        let mut file = Gguf::sentence_piece(&["a"], false);
        file.keys = std::mem::take(&mut file.keys)
            .into_iter()
            .map(|(key, value)| (key.replace("llama.", "speclight-eagle."), value))
            .collect();
        file.set("general.architecture", Value::String("speclight-eagle".into()));
        change(&mut file);
        file.bytes()
    };
    vec![
        list("that is no TOML", "[[model\n"),
        list("with an unknown key", &format!("{entry}color = 1\n")),
        list(
            "with a file outside its folder",
            &entry.replace("file = \"mine.gguf\"", "file = \"../mine.gguf\""),
        ),
        list("with a checksum of 3 digits", &format!("{entry}sha256 = \"abc\"\n")),
        list("without a source", &entry.replace("{ path = \"mine.gguf\" }", "")),
        list("with a default that is not there", &format!("default = \"none\"\n{entry}")),
        list("with a name twice", &format!("{entry}{entry}")),
        list(
            "with control characters",
            &entry.replace("\"llama\"", "\"\\u001b]52;c;cHduZWQ=\\u0007\""),
        ),
        hardware("that is no TOML", "[hardware.mine\n"),
        hardware("with a bandwidth of 0", &machine.replace("4e10", "0")),
        hardware("with flops that are NaN", &machine.replace("1e12", "nan")),
        hardware("with an unknown key", &format!("{machine}color = 1\n")),
        hardware("without flops", "[hardware.mine]\nbandwidth = 1\n"),
        prompts("without a line", ""),
        prompts("longer than the context", format!("{{\"prompt\": \"{}\"}}", "a b ".repeat(2000))),
        Case::new("prompts that are a folder", "run --prompts DIR/p", 1).file("p/", ""),
        Case::new("prompts that are not there", "run --prompts DIR/none.jsonl", 1),
        Case::new(
            "a text that is no text",
            "train --text DIR/t.txt --folder DIR/w --out DIR/h.gguf --threads 1",
            1,
        )
        .file("t.txt", [0xff, 0xfe]),
        Case::new(
            "a text without text",
            "train --text DIR/t.txt --folder DIR/w --out DIR/h.gguf --threads 1",
            1,
        )
        .file("t.txt", "\n\n"),
        head("without a byte", "--head", ""),
        head("that is a model", "--head", model()),
        head("that is no adapter", "--adapter", model()),
        head("without its tokens", "--head", eagle(&|_| ())),
        head("cut in half", "--head", {
            let whole = eagle(&|_| ());
            whole[..whole.len() / 2].to_vec()
        }),
        state("that is a text", "once upon a time\n"),
        state("of bytes that are no text", [0xff, 0, 0x1b, 0x0a]),
        state(
            "of another table",
            "{\"settings\":{\"version\":\"0\",\"model\":\"x\",\"quantisation\":\"F32\",\"sha256\":null,\"device\":\"d\",\"draft_model\":null,\"exit_layers\":null,\"sets\":[],\"budgets\":[],\"drafters\":[],\"temperatures\":[],\"shape\":\"chain\",\"seed\":0,\"max_tokens\":1,\"raw\":true,\"timed\":0}}\n",
        ),
        plot("nothing", ""),
        plot("a list", "[]"),
        plot("another command's result", "{\"type\": \"run\"}"),
        plot("a table without figures", "{\"type\": \"table\"}"),
        Case::new("plot to a format that is not drawn", "plot DIR/t.json -o DIR/o.gif", 1)
            .file("t.json", "{}"),
        Case::new("plot of a file that is not there", "plot DIR/t.json -o DIR/o.svg", 1),
        Case::new(
            "bench against another result",
            "bench --model DIR/m.gguf --threads 1 --against DIR/b.json",
            1,
        )
        .file("m.gguf", model())
        .file("b.json", "{\"type\": \"run\"}"),
        Case::new(
            "bench against no JSON",
            "bench --model DIR/m.gguf --threads 1 --against DIR/b.json",
            1,
        )
        .file("m.gguf", model())
        .file("b.json", "no"),
        Case::new("models verify of a folder", "models verify DIR/m", 1).file("m/", ""),
        Case::new("models fetch of a name that is not listed", "models fetch none-such", 1),
    ]
}
