//! Signals at random moments of work that writes files.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::thread;

use super::kills::{Moments, undisturbed};
use super::work::{Home, Outcome, WORK};

#[test]
fn a_signal_ends_the_work_with_whole_files_and_at_most_a_line() {
    let rounds = std::env::var("SPECLIGHT_SIGNALS").map_or(1, |rounds| rounds.parse().unwrap());
    let mut moments = Moments::new();
    for work in WORK {
        let (time, _) = undisturbed(&work);
        for (name, number) in [("INT", 2), ("TERM", 15), ("HUP", 1), ("QUIT", 3)].repeat(rounds) {
            let home = Home::new();
            let child = work.command(&home).spawn().unwrap();
            thread::sleep(time.mul_f64(moments.next()));
            // It may have ended before.
            let _ =
                Command::new("kill").args(["-s", name, &child.id().to_string()]).output().unwrap();
            let outcome = Outcome::of(child);
            let what = format!("{} and {name}", work.name);
            let by_signal = outcome.status.signal() == Some(number)
                || outcome.status.code() == Some(128 + number);
            assert!(by_signal || outcome.status.success(), "{what}: {outcome:?}");
            assert!(outcome.lines().len() <= 1, "{what}: {outcome:?}");
            outcome.is_no_bug(&what);
            (work.check)(&home);
            // Whatever is left is taken up or removed by the next run.
            work.finish(&home);
        }
    }
}

#[test]
fn stopped_work_continues_with_the_same_result() {
    for work in WORK {
        let (time, expected) = undisturbed(&work);
        let home = Home::new();
        let child = work.command(&home).spawn().unwrap();
        let id = child.id().to_string();
        for signal in ["TSTP", "CONT", "STOP", "CONT"] {
            thread::sleep(time / 6);
            let _ = Command::new("kill").args(["-s", signal, &id]).output().unwrap();
        }
        let outcome = Outcome::of(child);
        assert!(outcome.status.success(), "{}: {outcome:?}", work.name);
        assert!((work.check)(&home), "{}: it is not finished", work.name);
        assert_eq!((work.result)(&home), expected, "{}", work.name);
    }
}
