//! Error cases: one line, a nonzero exit status, and no files left behind.

use std::io::{BufRead, BufReader};

use super::program::{Program, RunOutput, lines, texts};

/// Runs with a JSON output file, which must not exist afterward; returns the error line.
fn fails(program: &Program, status: i32, args: &[&str]) -> String {
    fails_with(program, status, args, &[])
}

/// Like [`fails`], with environment variables set, or removed if their value is empty.
fn fails_with(program: &Program, status: i32, args: &[&str], env: &[(&str, &str)]) -> String {
    let file = program.path("out.jsonl");
    let mut all = vec!["--json", &file];
    all.extend(args);
    let mut command = program.command(&all);
    for (name, value) in env {
        if value.is_empty() {
            command.env_remove(name)
        } else {
            command.env(name, value)
        };
    }
    let out = RunOutput::run_to_end(&mut command);
    assert_eq!((out.status, out.out.as_str()), (status, ""), "{args:?}: {}", out.err);
    let names = program.names();
    assert!(!names.iter().any(|name| name.starts_with("out.jsonl")), "{args:?} left {names:?}");
    let line = out.err.strip_suffix('\n').unwrap();
    assert!(line.starts_with("speclight: ") && !line.contains('\n'), "{args:?}: {line}");
    // Each cause appears once.
    let parts: Vec<&str> = line.split(": ").collect();
    assert!((1..parts.len()).all(|i| !parts[..i].contains(&parts[i])), "{line}");
    line.to_owned()
}

#[test]
fn values_out_of_range_are_refused() {
    let program = Program::new();
    for (option, value, cure) in [
        ("--budget", "0", "1 to 256"),
        ("--budget", "1000000000", "1 to 256"),
        ("--temperature", "NaN", "0 (greedy) or a positive number"),
        ("--device", "gpu", "give auto, cpu"),
        ("--prompt", " ", "empty"),
    ] {
        let line = fails(&program, 2, &[option, value]);
        assert!(line.contains(option) && line.contains(cure), "{line}");
    }
    let line = fails(&program, 2, &["--drafter", "model", "--prompt", "Hi"]);
    assert!(line.contains("--draft-model"), "{line}");
    let line = fails(&program, 1, &["--prompt", "Hi", "--exit-layers", "30"]);
    assert!(line.contains("the target has 30, give 1 to 29"), "{line}");
}

#[test]
fn heads_that_do_not_fit_are_named() {
    let program = Program::new();
    let line = fails(&program, 1, &["--prompt", "Hi", "--head", "no/such.gguf"]);
    assert!(line.contains("no/such.gguf"), "{line}");
    let model = super::model::path();
    let line = fails(&program, 1, &["--prompt", "Hi", "--head", model.to_str().unwrap()]);
    assert!(
        line.contains("architecture")
            && line.contains("speclight-eagle")
            && line.contains("speclight train"),
        "{line}"
    );
    let head = concat!(env!("CARGO_MANIFEST_DIR"), "/heads/SmolLM2-135M-Instruct.gguf");
    let cut = program.path("cut.gguf");
    let whole = std::fs::read(head).unwrap();
    std::fs::write(&cut, &whole[..whole.len() / 2]).unwrap();
    let line = fails(&program, 1, &["--prompt", "Hi", "--head", &cut]);
    assert!(line.contains("cut.gguf") && line.contains("byte"), "{line}");
    // A byte-identical copy of the default model has its head; a modified one has none.
    let other = program.path("other.gguf");
    std::fs::write(&other, [std::fs::read(&model).unwrap(), vec![0]].concat()).unwrap();
    let line = fails(&program, 1, &["--prompt", "Hi", "--drafter", "eagle", "--model", &other]);
    assert!(line.contains("--head FILE"), "{line}");
    let out = program.run(&[
        "--prompt",
        "Hi",
        "--max-tokens",
        "3",
        "--drafter",
        "eagle",
        "--model",
        model.to_str().unwrap(),
    ]);
    assert_eq!(out.status, 0, "{}", out.err);
    let out = program.run(&[
        "--prompt",
        "Hi",
        "--max-tokens",
        "3",
        "--drafter",
        "eagle",
        "--head",
        head,
        "--model",
        model.to_str().unwrap(),
    ]);
    assert_eq!(out.status, 0, "{}", out.err);
}

#[test]
fn models_that_cannot_be_loaded_are_named() {
    let program = Program::new();
    let line = fails(&program, 1, &["--model", "no/such.gguf", "--prompt", "Hi"]);
    assert!(line.contains("no/such.gguf"), "{line}");
    let line = fails(&program, 1, &["--model", "NoSuchName", "--prompt", "Hi"]);
    assert!(line.contains("NoSuchName") && line.contains("SmolLM2-135M-Instruct"), "{line}");
    let cut = program.path("cut.gguf");
    let whole = std::fs::read(super::model::path()).unwrap();
    for bytes in [0, 3, 5000, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&cut, &whole[..bytes]).unwrap();
        let line = fails(&program, 1, &["--model", &cut, "--prompt", "Hi"]);
        assert!(line.contains("cut.gguf"), "{line}");
    }
    std::fs::write(&cut, "not a model at all, but long enough to be one").unwrap();
    let line = fails(&program, 1, &["--prompt", "Hi", "--drafter", "model", "--draft-model", &cut]);
    assert!(line.contains("cut.gguf"), "{line}");
}

/// Writes a copy of the model to `to`, with `change` applied to its bytes.
fn altered(to: &str, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(super::model::path()).unwrap();
    change(&mut bytes);
    std::fs::write(to, bytes).unwrap();
}

/// Returns the offset of GGUF string `text` (preceded by its length) after `from`.
fn find(bytes: &[u8], from: usize, text: &str) -> usize {
    let string = [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat();
    from + 8 + bytes[from..].windows(string.len()).position(|window| window == string).unwrap()
}

#[test]
fn models_that_are_something_else_are_named() {
    let program = Program::new();
    let other = program.path("other.gguf");
    altered(&other, |bytes| {
        let at = find(bytes, find(bytes, 0, "general.architecture"), "llama");
        bytes[at..at + 5].copy_from_slice(b"qwen2");
    });
    let line = fails(&program, 1, &["--model", &other, "--prompt", "Hi"]);
    assert!(
        line.contains("other.gguf") && line.contains("\"qwen2\"") && line.contains("Llama"),
        "{line}"
    );
    // Two tokens are swapped: the one with the lower id is the first difference.
    altered(&other, |bytes| {
        let tokens = find(bytes, 0, "tokenizer.ggml.tokens");
        let (day, man) = (find(bytes, tokens, "Ġday"), find(bytes, tokens, "Ġman"));
        bytes.copy_within(man..man + 5, day);
        bytes[man..man + 5].copy_from_slice("Ġday".as_bytes());
    });
    let line =
        fails(&program, 1, &["--drafter", "model", "--draft-model", &other, "--prompt", "Hi"]);
    assert!(
        line.contains("other.gguf") && line.contains("the vocabularies differ: token "),
        "{line}"
    );
    assert!(
        line.contains("Ġman\" for the target and \"Ġday\"")
            || line.contains("Ġday\" for the target and \"Ġman\""),
        "{line}"
    );
    // Weights that are not finite are found when they are read.
    altered(&other, |bytes| {
        let at = bytes.len() / 2;
        bytes[at..at + 4096].fill(0xff);
    });
    let line = fails(&program, 1, &["--model", &other, "--prompt", "Hi"]);
    assert!(line.contains("other.gguf: tensor blk.") && line.contains("not finite"), "{line}");
}

/// List with one model from a hub.
const LIST: &str = "[[model]]\nname = \"mine\"\narchitecture = \"llama\"\nfile = \"mine.gguf\"\n\
                    sources = [{ hub = { repository = \"o/r\", revision = \"main\", file = \"mine.gguf\" } }]\n";

#[test]
fn a_list_of_models_that_is_wrong_is_named_by_file_line_and_key() {
    let program = Program::new();
    for (wrong, place) in [
        (LIST.replace("file =", "fil ="), ":4: unknown field `fil`"),
        (LIST.replace("\"llama\"", "\"qwen2\""), ":3: `architecture`: \"qwen2\""),
        (LIST.replace("[[model]]", "[[model]"), ":1: "),
        (
            LIST.replace("file = \"mine.gguf\"\n", "file = \"mine.gguf\"\nbytes = \"many\"\n"),
            ":5: ",
        ),
    ] {
        let list = program.models_toml(&wrong);
        let line = fails(&program, 1, &["--prompt", "Hi"]);
        assert!(line.starts_with(&format!("speclight: {list}{place}")), "{line}");
    }
}

#[test]
fn a_model_that_cannot_be_had_is_said_and_nothing_is_left() {
    let program = Program::new();
    program.models_toml(LIST);
    // No process listens on a port that was just released.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let hub = format!("http://{closed}");
    let mut env = vec![("HF_ENDPOINT", hub.as_str())];
    env.extend(["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"].map(|name| (name, "")));
    let line = fails_with(&program, 1, &["--model", "mine", "--prompt", "Hi"], &env);
    assert!(
        line.contains("can't fetch mine: ")
            && line.contains(&hub)
            && line.contains("check the network"),
        "{line}"
    );
    let left: Vec<_> = std::fs::read_dir(program.cache().join("models/mine"))
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(left, [".lock"]);
    // A cache below a path that is not a folder.
    let cache = program.models_toml(LIST) + "/cache";
    env.push(("SPECLIGHT_CACHE", &cache));
    let line = fails_with(&program, 1, &["--model", "mine", "--prompt", "Hi"], &env);
    assert!(
        line.contains(&cache)
            && line.contains("can't be written")
            && line.contains("set SPECLIGHT_CACHE"),
        "{line}"
    );
}

#[test]
fn an_output_that_cannot_be_written_is_said_before_anything_runs() {
    let program = Program::new();
    let file = program.path("no/such/folder/out.jsonl");
    let out = program.run(&["--prompt", "Hi", "--json", &file]);
    assert_eq!((out.status, out.out.as_str(), out.err.lines().count()), (1, "", 1), "{}", out.err);
    assert!(out.err.contains(&file) && out.err.contains("give a file"), "{}", out.err);
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_is_said() {
    let out = Program::new().run(&["--prompt", "Hi", "--max-tokens", "4", "--json", "/dev/full"]);
    assert_eq!((out.status, out.err.lines().count()), (1, 1), "{}", out.err);
    assert!(out.err.contains("/dev/full"), "{}", out.err);
}

#[test]
fn an_overlong_prompt_alone_is_an_error_with_both_numbers() {
    let program = Program::new();
    let long = "light ".repeat(9000);
    let line = fails(&program, 1, &["--prompts", &program.prompts(&[&long])]);
    let digits: Vec<usize> =
        line.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok()).collect();
    assert!(line.contains("the prompt has") && digits.contains(&8192), "{line}");
    assert!(digits.iter().any(|&n| n > 9000), "{line}");
    // The same holds for an empty prompt: `--raw` adds nothing to it.
    let line = fails(&program, 2, &["--raw", "--prompt", ""]);
    assert!(line.contains("empty"), "{line}");
}

#[test]
fn in_a_file_the_rest_goes_on() {
    let program = Program::new();
    let long = "light ".repeat(9000);
    let file = program.prompts(&["Hi", &long, "Hello"]);
    let mut content = std::fs::read_to_string(&file).unwrap();
    content.insert_str(0, "{\"turns\": 3}\nnot JSON\n");
    std::fs::write(&file, content).unwrap();
    let out = program.run(&["--prompts", &file, "--max-tokens", "3", "--json", "-"]);
    assert_eq!(out.status, 1, "{}", out.err);
    let said: Vec<&str> = out.err.lines().collect();
    assert_eq!(said.len(), 3, "{said:?}");
    assert!(
        said[0].contains("prompts.jsonl:1:") && said[1].contains("prompts.jsonl:2:"),
        "{said:?}"
    );
    assert!(said[2].contains("prompt p1") && said[2].contains("8192"), "{said:?}");
    let lines = lines(&out.out);
    assert_eq!(lines.last().unwrap()["type"], "summary");
    assert!(
        ["p0", "p2"].iter().all(|id| !texts(&lines, id).is_empty())
            && texts(&lines, "p1").is_empty()
    );
    // If no prompt can run, there is no summary.
    let line = fails(&program, 1, &["--prompts", "no/such.jsonl"]);
    assert!(line.contains("no/such.jsonl"), "{line}");
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let program = Program::new();
    let mut child = program
        .command(&["--prompt", "Hi", "--max-tokens", "4000", "--json", "-"])
        .spawn()
        .unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
    assert!(first.starts_with("{\"type\":\"run\""), "{first}");
    let out = child.wait_with_output().unwrap();
    assert!(
        out.status.success() && out.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
}

#[test]
fn a_file_is_finished_though_nobody_reads_the_text() {
    let program = Program::new();
    let file = program.path("out.jsonl");
    let mut child =
        program.command(&["--prompt", "Hi", "--max-tokens", "4", "--json", &file]).spawn().unwrap();
    drop(child.stdout.take());
    let out = child.wait_with_output().unwrap();
    assert!(
        out.status.success() && out.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    assert_eq!(lines(&std::fs::read_to_string(&file).unwrap()).last().unwrap()["type"], "summary");
}
