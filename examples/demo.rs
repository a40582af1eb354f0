//! Makes the recording that ships with the program.
//!
//! Takes a recording of a real run, keeps its first steps, rounds its numbers to six digits, adds
//! the captions below, and compresses it as far as zstd can:
//!
//! ```text
//! speclight run --limit 5 --max-tokens 200 --temperature 0.7 --look-every 4 --record raw.rec
//! cargo run --release --example demo -- raw.rec src/cli/demo.rec
//! ```

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Parser;
use serde_json::Value;
use speclight::telemetry::recording::{Entry, Reader, SMALLEST_LEVEL, TimedEntry, Writer};

/// Captions, each with the number of steps after which it is shown; at most 78 columns.
const CAPTIONS: &[(usize, &str)] = &[
    (0, "A 135M Llama on a CPU. Each step drafts a tree and verifies it in one pass."),
    (14, "Green to blue: drafted and accepted, by depth. Yellow: bonus token of a step."),
    (32, "The bar runs from 0 to the speed of light: a free, perfect drafter."),
    (50, "Its gap by cause: drafting time, the drafter's knowledge, tree shape, budget."),
    (68, "In the tree, width is probability: the filled area is accepted on average."),
    (86, "Space pauses; Left and Right go step by step; [ and ] jump between misses."),
    (104, "Keys 1 to 7 change the view: tree, losses, speed, misses, race, runs."),
    (122, "The oracle's tree of each 4th step tells bad luck from bad drafting (key O)."),
    (140, "All numbers come from the records that `speclight run --json` writes."),
    (158, "? explains keys, m every mark. Run `speclight` for your own machine and text."),
];

/// Command line of the example.
#[derive(Parser)]
struct Options {
    /// Recording of a real run.
    input: PathBuf,
    /// File to write.
    output: PathBuf,
    /// Maximum number of steps to keep.
    #[arg(long, default_value_t = 240)]
    steps: usize,
}

/// Rounds all floating point numbers of a value to six significant digits.
///
/// Probabilities that are exact, such as 0 and 1, stay so.
fn round(value: &mut Value) {
    match value {
        Value::Number(number) if number.is_f64() => {
            let rounded = number.as_f64().and_then(|x| format!("{x:.5e}").parse::<f64>().ok());
            if let Some(rounded) = rounded.and_then(serde_json::Number::from_f64) {
                *number = rounded;
            }
        }
        Value::Array(list) => list.iter_mut().for_each(round),
        Value::Object(map) => map.values_mut().for_each(round),
        _ => {}
    }
}

fn main() -> Result<()> {
    let options = Options::parse();
    let mut writer = Writer::create(&options.output, SMALLEST_LEVEL)?;
    let mut captions = CAPTIONS.iter();
    let mut caption = captions.next();
    let mut steps = 0;
    let mut last = Duration::ZERO;
    for TimedEntry { at, entry } in
        Reader::open(&options.input).context("the recording can't be read")?
    {
        if matches!(entry, Entry::Step(_)) {
            if steps == options.steps {
                break;
            }
            if let Some((_, text)) = caption.filter(|(from, _)| *from <= steps) {
                writer.write(at, &Entry::Caption { text: (*text).to_owned() })?;
                caption = captions.next();
            }
            steps += 1;
        }
        let mut value = serde_json::to_value(&entry)?;
        round(&mut value);
        writer.write(at, &serde_json::from_value(value)?)?;
        last = at;
    }
    if caption.is_some() {
        bail!("the recording has only {steps} steps: record more for all captions");
    }
    writer.write(last, &Entry::Finished)?;
    let path = writer.finish()?;
    let size = path.metadata()?.len();
    println!("{}: {steps} steps, {size} bytes", path.display());
    Ok(())
}
