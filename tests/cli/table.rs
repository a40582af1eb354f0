//! `speclight table` and `speclight plot` with the real model.

use serde_json::Value;

use super::{model, run};

/// Returns a table without measured times.
fn timeless(mut table: Value) -> Value {
    table["cost"] = Value::Null;
    for set in table["sets"].as_array_mut().unwrap() {
        set["plain_tokens_per_second"] = Value::Null;
        // The ceilings of this machine depend on measured pass times.
        set["machines"].as_array_mut().unwrap().remove(0);
        for row in set["drafters"].as_array_mut().unwrap() {
            row["timed"] = Value::Null;
        }
    }
    table
}

#[test]
fn a_table_is_the_same_after_a_break_and_can_be_drawn() {
    let home = tempfile::tempdir().unwrap();
    let at = |name: &str| home.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(
        at("two.jsonl"),
        "{\"prompt\": \"Count to five.\"}\n{\"prompt\": \"Name a color.\"}\n",
    )
    .unwrap();
    let (path, prompts, state, json) =
        (model::path(), at("two.jsonl"), at("state"), at("table.json"));
    let table = |seed: &str| {
        let fixed =
            "--threads 1 --max-tokens 6 --temperatures 0,1 --drafters ngram --budgets 1,2,4";
        let mut args =
            vec!["table", "--model", path.to_str().unwrap(), "--prompts", &prompts, "--seed", seed];
        args.extend(fixed.split(' ').chain(["--state", &state, "--json", &json]));
        run(&home, &args)
    };
    let schema: Value =
        serde_json::from_str(include_str!("../../schema/table.schema.json")).unwrap();
    let schema = jsonschema::validator_for(&schema).unwrap();
    let read = || {
        let table: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
        assert!(schema.is_valid(&table), "{}", schema.validate(&table).unwrap_err());
        timeless(table)
    };
    let (status, out, said) = table("0");
    assert_eq!((status, out.as_str()), (0, ""), "{said}");
    let (whole, kept) = (read(), std::fs::read(&state).unwrap());
    let sets = whole["sets"].as_array().unwrap();
    assert_eq!(
        sets.iter().map(|set| set["temperature"].as_f64().unwrap()).collect::<Vec<_>>(),
        [0.0, 1.0]
    );
    for set in sets {
        assert_eq!((set["name"].as_str(), set["texts"].as_u64()), (Some("two"), Some(2)));
        let from = |i: usize| set["drafters"][i]["from"].as_str().unwrap();
        assert_eq!(
            (from(0), from(1), set["drafters"].as_array().unwrap().len()),
            ("largest", "run", 2)
        );
        assert_eq!(set["drafters"][1]["differing_texts"].as_u64(), Some(0));
    }
    // At temperature 0 every drafter could always be right; at temperature 1 none could.
    let fluid = |set: &Value| set["ceilings"][2]["fluid"]["value"].as_f64().unwrap();
    assert!(fluid(&sets[0]) == 3.0 && fluid(&sets[1]) < 3.0, "{whole}");

    // Interrupted in the middle of a line, twice.
    for part in [3, 2] {
        std::fs::write(&state, &kept[..kept.len() / part]).unwrap();
        assert_eq!(table("0").0, 0);
        assert_eq!(read(), whole);
    }
    let (status, _, said) = table("1");
    assert!(
        status == 1 && said.contains("other settings (seed)") && said.lines().count() == 1,
        "{said}"
    );
    assert_eq!(read(), whole);

    for (picture, begin) in [("t.png", &b"\x89PNG"[..]), ("t.svg", &b"<svg"[..])] {
        let (status, _, said) = run(&home, &["plot", &json, "-o", &at(picture)]);
        assert_eq!((status, said.as_str()), (0, ""));
        assert!(std::fs::read(at(picture)).unwrap().starts_with(begin), "{picture}");
    }
    for (args, what) in [
        (["plot", json.as_str(), "-o", "t.gif"], ".svg or .png"),
        (["plot", prompts.as_str(), "-o", "t.png"], "speclight table --json"),
        (["plot", json.as_str(), "-o", "no/such/t.png"], "no/such/t.png"),
    ] {
        let (status, _, said) = run(&home, &args);
        assert!(status == 1 && said.contains(what) && said.lines().count() == 1, "{said}");
    }
    let (status, _, said) = run(&home, &["plot", &json, "-o", &at("t.png"), "--set", "three"]);
    assert!(status == 1 && said.contains("two at 0, two at 1"), "{said}");
}

#[test]
fn machines_that_are_wrong_are_one_line_before_anything_is_measured() {
    let home = super::home("");
    let own = home.path().join("config/hardware.toml");
    std::fs::write(&own, "[hardware.mine]\nbandwidth = 1e9\nflops = \"many\"\n").unwrap();
    let (status, _, said) = run(&home, &["table"]);
    assert!(status == 1 && said.lines().count() == 1, "{said}");
    assert!(
        said.starts_with(&format!("speclight: {}:3: `flops`: invalid type", own.display())),
        "{said}"
    );
}
