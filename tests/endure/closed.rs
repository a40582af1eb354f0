//! Outputs that are closed, end early, or are full.

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

use super::work::{Home, Outcome, model};

const RUN: [&str; 8] =
    ["run", "--prompt", "hello", "--max-tokens", "200", "--threads", "1", "--model"];

#[test]
fn a_reader_that_ends_early_is_no_error() {
    let (home, model) = (Home::new(), model());
    let run = [&RUN[..], &[&model]].concat();
    let json = [&run[..], &["--json", "-"]].concat();
    for args in
        [&run[..], &json, &["--help"], &["models"], &["doctor"], &["completions", "bash"], &["man"]]
    {
        for lines in [0, 1] {
            let mut child = home.command(args).stdout(Stdio::piped()).spawn().unwrap();
            let mut out = BufReader::with_capacity(16, child.stdout.take().unwrap());
            for _ in 0..lines {
                let _ = (&mut out).take(1 << 20).read_until(b'\n', &mut Vec::new()).unwrap();
            }
            drop(out);
            let outcome = Outcome::of(child);
            // `doctor` may find something to say of this machine, in its exit status.
            assert!(
                outcome.status.success() || args == ["doctor"],
                "{args:?} after {lines} lines: {outcome:?}"
            );
            assert!(outcome.err.is_empty(), "{args:?} after {lines} lines: {outcome:?}");
        }
    }
}

#[test]
fn closed_outputs_do_no_harm() {
    let (home, model) = (Home::new(), model());
    let run = [&RUN[..], &[&model]].concat();
    for then in [">&-", "2>&-", "<&-", "<&- >&- 2>&-"] {
        let outcome = Home::run(&mut home.shell("true", &run, then));
        assert!(outcome.status.success(), "{then}: {outcome:?}");
        outcome.is_no_bug(then);
    }
    // An error that can't be told still gives its status.
    for then in ["2>&-", "2>/dev/full", ">&- 2>&-"] {
        let outcome = Home::run(&mut home.shell(
            "true",
            &["run", "--model", "no/such.gguf", "--prompt", "hi"],
            then,
        ));
        assert_eq!(outcome.status.code(), Some(1), "{then}: {outcome:?}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_output_is_one_line() {
    let (home, model) = (Home::new(), model());
    let run = [&RUN[..], &[&model]].concat();
    let with = |more: &[&'static str]| -> Vec<String> {
        run.iter().chain(more).map(|&arg| arg.to_owned()).collect()
    };
    let cases = [
        (with(&[]), ">/dev/full"),
        (with(&["--json", "-"]), ">/dev/full"),
        (with(&["--json", "/dev/full"]), ""),
        (vec!["models".to_owned()], ">/dev/full"),
        (vec!["completions".to_owned(), "bash".to_owned()], ">/dev/full"),
        (vec!["man".to_owned()], ">/dev/full"),
    ];
    for (args, then) in cases {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let outcome = Home::run(&mut home.shell("true", &args, then));
        outcome.fails_with_a_line(&format!("{args:?} {then}"));
        assert!(outcome.err.contains("space"), "{args:?}: {outcome:?}");
    }
}
