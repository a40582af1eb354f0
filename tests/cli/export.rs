//! `speclight export`, on the recording that ships with the program.

use std::io::Write;
use std::path::Path;

use serde_json::Value;

use crate::run;

const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/cli/demo.rec");

/// Exports the demo into a new folder with these options, and returns the file.
fn exported(name: &str, more: &[&str]) -> Vec<u8> {
    let home = tempfile::tempdir().unwrap();
    let out = home.path().join(name);
    let args = [&["export", DEMO, out.to_str().unwrap()], more].concat();
    assert_eq!(run(&home, &args), (0, String::new(), String::new()), "{name}");
    let names: Vec<_> = std::fs::read_dir(home.path()).unwrap().collect();
    assert_eq!(names.len(), 1, "{name}: {names:?}");
    std::fs::read(out).unwrap()
}

/// Lines of the demo, as zstd decompresses them.
fn lines() -> Vec<Value> {
    let text = zstd::decode_all(std::fs::File::open(DEMO).unwrap()).unwrap();
    let lines = String::from_utf8(text).unwrap();
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn steps() -> Vec<Value> {
    lines().into_iter().filter(|line| line["type"] == "step").collect()
}

/// Rows of a table, whose quoted cells may hold line breaks.
fn csv_rows(text: &str) -> Vec<String> {
    let mut rows = vec![String::new()];
    let mut quoted = false;
    for c in text.chars() {
        quoted ^= c == '"';
        match c {
            '\n' if !quoted => rows.push(String::new()),
            c => rows.last_mut().unwrap().push(c),
        }
    }
    assert_eq!(rows.pop(), Some(String::new()), "the last row ends with a line break");
    rows
}

#[test]
fn the_demo_is_small_and_whole() {
    assert!(std::fs::metadata(DEMO).unwrap().len() < 300_000);
    let lines = lines();
    assert_eq!(lines.last().unwrap()["type"], "end");
    assert!(lines.iter().filter(|line| line["type"] == "caption").count() > 5);
    assert!(steps().len() > 150);
}

#[test]
fn tables_have_a_row_for_each_step_or_node() {
    let text = String::from_utf8(exported("out.csv", &[])).unwrap();
    let rows = csv_rows(&text);
    let header: Vec<&str> = rows[0].split(',').collect();
    let column = |name: &str| header.iter().position(|known| *known == name).unwrap();
    let (accepted, budget) = (column("accepted"), column("budget"));
    let steps = steps();
    assert_eq!(rows.len(), steps.len() + 1);
    for (row, step) in rows[1..].iter().zip(&steps).filter(|(row, _)| !row.contains('"')) {
        let cells: Vec<&str> = row.split(',').collect();
        assert_eq!(cells[accepted], step["accepted"].to_string(), "{row}");
        assert_eq!(cells[budget], step["settings"]["budget"].to_string(), "{row}");
    }
    let nodes = String::from_utf8(exported("nodes.csv", &["--rows", "nodes"])).unwrap();
    let count: usize =
        steps.iter().map(|step| step["tree"]["tokens"].as_array().unwrap().len()).sum();
    assert_eq!(csv_rows(&nodes).len(), count + 1);
}

#[test]
fn parquet_holds_the_same_rows() {
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::record::RowAccessor;

    let steps = steps();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&exported("out.parquet", &[])).unwrap();
    let file = SerializedFileReader::new(file).unwrap();
    assert_eq!(file.metadata().file_metadata().num_rows(), steps.len() as i64);
    let schema = file.metadata().file_metadata().schema_descr();
    let accepted = schema.columns().iter().position(|column| column.name() == "accepted").unwrap();
    for (row, step) in file.get_row_iter(None).unwrap().zip(&steps) {
        let row = row.unwrap();
        let value = row.get_long(accepted).map(|n| n as u64);
        let value = value.or_else(|_| row.get_int(accepted).map(|n| n as u64)).unwrap();
        assert_eq!(Some(value), step["accepted"].as_u64());
    }
}

#[test]
fn pictures_and_animations_are_of_their_formats() {
    let svg = String::from_utf8(exported("out.svg", &["--size", "80x24"])).unwrap();
    assert!(svg.starts_with("<svg") && svg.contains("SmolLM2-135M"));
    let png = exported("out.png", &["--size", "80x24", "--scale", "1"]);
    let mut reader = png::Decoder::new(std::io::Cursor::new(png)).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let frame = reader.next_frame(&mut pixels).unwrap();
    assert_eq!((frame.width % 80, frame.height % 24), (0, 0), "cells of one size");
    assert!(pixels.iter().any(|value| *value != pixels[0]), "an empty picture");
    let cast = exported("out.cast", &["--size", "80x24", "--pace", "16", "--at", "200"]);
    let cast = String::from_utf8(cast).unwrap();
    let frames: Vec<Value> = cast.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!((frames[0]["version"] == 2) && frames.len() > 20);
    let times: Vec<f64> = frames[1..].iter().map(|frame| frame[0].as_f64().unwrap()).collect();
    assert!(times.is_sorted());
    let gif = exported("out.gif", &["--size", "60x20", "--pace", "16", "--at", "220"]);
    assert!(gif.starts_with(b"GIF89a"));
}

#[test]
fn the_page_refers_to_nothing_outside_of_itself() {
    let page = String::from_utf8(exported("out.html", &[])).unwrap();
    let lower = page.to_lowercase();
    assert!(lower.starts_with("<!doctype html>") && lower.contains("</html>"));
    for outside in ["src=", "href=\"http", "url(http", "@import", "<script src", "<link"] {
        assert!(!lower.contains(outside), "{outside} is in the page");
    }
}

#[test]
fn what_cannot_be_exported_is_said_in_one_line() {
    let home = tempfile::tempdir().unwrap();
    let path = |name: &str| home.path().join(name).to_str().unwrap().to_owned();
    let whole = std::fs::read(DEMO).unwrap();
    std::fs::write(path("cut.rec"), &whole[..whole.len() / 2]).unwrap();
    std::fs::write(path("no.rec"), "not a recording").unwrap();
    std::fs::write(path("empty.rec"), "").unwrap();
    let refused = [
        ("no.rec", "a.svg", "it is not a recording of speclight"),
        ("empty.rec", "a.svg", "it is not a recording of speclight"),
        ("none.rec", "a.svg", "none.rec"),
        ("cut.rec", "a.txt", "can't tell the format"),
        ("cut.rec", "none/a.svg", "none"),
    ];
    for (input, output, words) in refused {
        let (status, out, said) = run(&home, &["export", &path(input), &path(output)]);
        assert!(status != 0 && out.is_empty(), "{input}");
        assert!(said.lines().count() == 1 && said.contains(words), "{said}");
        assert!(!Path::new(&path(output)).exists(), "{output} was left");
    }
    // A recording that was cut by a kill is exported up to there.
    let (status, _, said) = run(&home, &["export", &path("cut.rec"), &path("cut.csv")]);
    assert!(status == 1 && said.contains("the recording is cut"), "{said}");
    let rows = csv_rows(&std::fs::read_to_string(path("cut.csv")).unwrap()).len();
    assert!(rows > 20 && rows < steps().len(), "{rows}");
}
