//! Servers that answer slowly, cut, lie, flood, redirect, restart, or want a key: one line each.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use super::stub::{Request, Server, event, reply, stream_head};
use super::{command, ended, lines, run};

const METRICS: &[u8] = include_bytes!("../fixtures/attach/llama-metrics.txt");

/// Attaches and expects one line on standard error, no output, and failure.
fn refused(args: &[&str]) -> String {
    let out = run(&[&["attach"], args].concat());
    let said = out.err.trim_end_matches('\n').to_owned();
    assert!(
        out.status == 1 && !said.is_empty() && !said.contains('\n'),
        "{args:?}: {}: {said}",
        out.status
    );
    assert!(said.starts_with("speclight: ") && said.contains("; "), "{said}");
    assert!(!said.chars().any(char::is_control), "{said:?}");
    said
}

fn always(
    answer: impl Fn(&mut TcpStream) -> std::io::Result<()> + Send + Sync + 'static,
) -> Server {
    Server::start(move |_, _, to| answer(to))
}

#[test]
fn no_server_and_no_address_are_told() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let said = refused(&[&format!("http://127.0.0.1:{port}")]);
    assert!(said.contains("no answer"), "{said}");
    assert!(refused(&["127.0.0.1:8080"]).contains("not a server's address"));
    assert!(!refused(&["http://me:secret@127.0.0.1:1"]).contains("secret"));
    assert!(refused(&["http://no-such-host.invalid"]).contains("no answer"));
}

#[test]
fn slow_and_silent_servers_are_given_up() {
    let silent = always(|_| {
        std::thread::sleep(Duration::from_secs(60));
        Ok(())
    });
    assert!(refused(&[&silent.address, "--timeout", "0.5"]).contains("no answer"));
    // A byte now and then would keep a reader busy forever.
    let drip = always(|to| {
        write!(to, "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")?;
        loop {
            to.write_all(b"x")?;
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    refused(&[&drip.address, "--timeout", "0.5"]);
}

#[test]
fn cut_and_lying_lengths_are_told() {
    let cut =
        always(|to| write!(to, "HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\nllamacpp:x 1\n"));
    refused(&[&cut.address]);
    let huge = always(|to| {
        write!(to, "HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\nllamacpp:x 1\n")
    });
    assert!(refused(&[&huge.address]).contains("larger than"));
    let negative =
        always(|to| write!(to, "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nllamacpp:x 1\n"));
    refused(&[&negative.address]);
    let garbage = always(|to| to.write_all(&[0xff; 5000]));
    refused(&[&garbage.address]);
}

#[test]
fn a_flood_is_not_read_to_its_end() {
    let flood = always(|to| {
        to.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        let chunk = [b"10000\r\n".to_vec(), vec![b'x'; 1 << 16], b"\r\n".to_vec()].concat();
        // Ten gigabytes.
        for _ in 0..160_000 {
            to.write_all(&chunk)?;
        }
        Ok(())
    });
    assert!(refused(&[&flood.address]).contains("larger than"));
}

#[test]
fn redirects_are_not_followed_and_take_no_key_along() {
    let other = always(|to| reply(to, 200, "", METRICS));
    let goal = other.address.clone();
    let server = Server::start(move |_, _, to| {
        reply(to, 307, &format!("Location: {goal}/metrics\r\n"), b"")
    });
    let mut attach = command(&["attach", &server.address]);
    let out = ended(attach.env("OPENAI_API_KEY", "sk-secret"));
    assert!(
        out.status == 1 && out.err.contains("redirected to") && !out.err.contains("sk-secret"),
        "{}",
        out.err
    );
    assert!(other.requests().is_empty(), "nothing is sent to another host");
    assert_eq!(server.requests()[0].headers["authorization"], "Bearer sk-secret");
    let state = Server::start(|_, _, to| reply(to, 302, "Location: /flush_cache\r\n", b""));
    refused(&[&state.address]);
    assert!(state.lines().iter().all(|line| line != "GET /flush_cache"));
}

#[test]
fn foreign_text_is_shown_and_never_obeyed() {
    let models = "{\"data\":[{\"id\":\"\u{1b}[31mm\u{202e}x\",\"owned_by\":\"vllm\"}]}"
        .replace('\u{1b}', "\\u001b");
    let server = Server::start(move |request, _, to| match request.path.as_str() {
        "/v1/models" => reply(to, 200, "", models.as_bytes()),
        "/version" => reply(to, 200, "", b"{\"version\":\"\\u001b]0;t\\u0007\"}"),
        "/metrics" => reply(to, 200, "", b"vllm:generation_tokens_total{a=\"\x1b[2J\"} 1\n"),
        _ => reply(to, 404, "", b""),
    });
    let out = run(&["attach", &server.address, "--every", "0.1", "--seconds", "0.2", "--plain"]);
    assert_eq!(out.status, 0, "{}", out.err);
    assert!(
        out.out.contains("\\u{1b}[31mm")
            && !(out.out + &out.err).contains(['\u{1b}', '\u{202e}', '\u{7}'])
    );
    let error = always(|to| {
        reply(to, 500, "", b"{\"error\":{\"message\":\"\\u001b[31m\\u001b]0;x\\u0007\"}}")
    });
    refused(&[&error.address, "--engine", "vllm"]);
    let latin = always(|to| {
        reply(
            to,
            200,
            "Content-Type: text/plain; charset=utf-16\r\n",
            b"\xff\xfev\x00l\x00l\x00m\x00",
        )
    });
    refused(&[&latin.address]);
}

#[test]
fn keys_that_are_wanted_or_wrong_are_told_apart() {
    let guarded = || {
        Server::start(|request: &Request, _, to| {
            match request.headers.get("authorization").map(String::as_str) {
                Some("Bearer right") => reply(to, 200, "", METRICS),
                _ => reply(to, 401, "", b"{\"error\":{\"message\":\"Invalid API Key\"}}"),
            }
        })
    };
    assert!(refused(&[&guarded().address]).contains("wants a key"));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    let path = file.to_str().unwrap();
    std::fs::write(&file, "wrong\n").unwrap();
    let said = refused(&[&guarded().address, "--key-file", path]);
    assert!(said.contains("not accepted") && !said.contains("wrong"), "{said}");
    std::fs::write(&file, "not a\u{7} key").unwrap();
    assert!(refused(&[&guarded().address, "--key-file", path]).contains("not a key"));
    assert!(
        refused(&[&guarded().address, "--key-file", "/no/such/file"]).contains("can't be read")
    );
    // A key that would be readable on the way is not sent; nothing is.
    std::fs::write(&file, "right").unwrap();
    let said = refused(&["http://192.0.2.1:8000", "--key-file", path]);
    assert!(said.contains("--insecure") && !said.contains("right"), "{said}");
    let server = guarded();
    let out = run(&[
        "attach",
        &server.address,
        "--key-file",
        path,
        "--every",
        "0.1",
        "--seconds",
        "0.2",
        "--plain",
    ]);
    assert_eq!(out.status, 0, "{}", out.err);
    // llama-server guards its metrics: its own variable is tried, at loopback.
    let server = guarded();
    let mut attach =
        command(&["attach", &server.address, "--every", "0.1", "--seconds", "0.2", "--plain"]);
    let out = ended(attach.env("LLAMA_API_KEY", "right"));
    assert_eq!(out.status, 0, "{}", out.err);
    assert!(!(out.out + &out.err).contains("right"));
}

#[test]
fn engines_without_figures_are_named_with_the_reason() {
    for (body, engine) in [
        (&br#"{"data":[{"id":"m","owned_by":"library"}]}"#[..], "ollama"),
        (br#"{"data":[{"id":"m","owned_by":"organization_owner"}]}"#, "lm-studio"),
        (br#"{"object":"list","data":[{"id":"m","object":"model","created":1}]}"#, "mlx-lm"),
    ] {
        let server = Server::start(move |request, _, to| match request.path.as_str() {
            "/v1/models" => reply(to, 200, "", body),
            _ => reply(to, 404, "", b""),
        });
        let said = refused(&[&server.address]);
        assert!(said.contains(engine), "{said}");
    }
    let other = always(|to| reply(to, 200, "", b"<html>hello</html>"));
    assert!(refused(&[&other.address]).contains("no known engine"));
}

#[test]
fn a_restart_and_counters_that_fall_start_anew() {
    let server = Server::start(|request, _, to| {
        use std::sync::atomic::{AtomicUsize, Ordering};
        static READINGS: AtomicUsize = AtomicUsize::new(0);
        if request.path != "/metrics" {
            return reply(to, 404, "", b"{}");
        }
        let count = match READINGS.fetch_add(1, Ordering::SeqCst) {
            n @ 0..4 => 1000 + 100 * n,
            // Gone for a moment, then back with small counters.
            4 => return Ok(()),
            n => 10 * n,
        };
        let text = format!(
            "mistralrs_speculative_drafts_total {count}\nmistralrs_speculative_draft_tokens_accepted_total {}\n",
            2 * count
        );
        reply(to, 200, "", text.as_bytes())
    });
    let out =
        run(&["attach", &server.address, "--every", "0.1", "--seconds", "1.2", "--json", "-"]);
    assert_eq!(out.status, 0, "{}", out.err);
    assert!(out.err.contains("restarted") && out.err.contains("trying again"), "{}", out.err);
    let lines = lines(&out.out);
    let windows: Vec<f64> = lines
        .iter()
        .filter(|line| line["type"] == "window")
        .map(|line| line["drafted_steps"].as_f64().unwrap())
        .collect();
    assert!(
        windows.contains(&100.0) && windows.contains(&10.0) && windows.iter().all(|n| *n >= 0.0),
        "{windows:?}"
    );
    assert_eq!(lines.last().unwrap()["accepted_mean"], 2.0);
}

/// A llama-server whose streams go wrong in a way of their own.
fn broken_stream(
    write: impl Fn(&mut TcpStream) -> std::io::Result<()> + Send + Sync + 'static,
) -> Server {
    Server::start(move |request, _, to| match request.line().as_str() {
        "GET /metrics" => reply(to, 200, "", METRICS),
        "POST /tokenize" => reply(to, 200, "", br#"{"tokens":[1,2]}"#),
        "POST /apply-template" => reply(to, 200, "", br#"{"prompt":"x"}"#),
        "POST /completion" => {
            stream_head(to)?;
            write(to)
        }
        _ => reply(to, 404, "", b"{}"),
    })
}

#[test]
fn streams_that_go_wrong_end_in_one_line() {
    let chunk = |n: usize, ms: f64| {
        format!(
            r#"{{"content":"x","tokens":[1],"stop":false,"timings":{{"predicted_n":{n},"predicted_ms":{ms}}}}}"#
        )
    };
    let all: Vec<(&str, Server)> = vec![
        ("broke off", broken_stream(move |to| event(to, &chunk(1, 0.1)))),
        ("can't be read", broken_stream(|to| event(to, "{\"a\":"))),
        (
            "the server says",
            broken_stream(|to| event(to, r#"{"error":{"message":"out of \u001b[31mmemory"}}"#)),
        ),
        ("can't be read", broken_stream(|to| event(to, r#"{"content":"x"}"#))),
        (
            "more than",
            broken_stream(move |to| (1..100_000).try_for_each(|n| event(to, &chunk(n, n as f64)))),
        ),
        (
            "can't be read",
            broken_stream(move |to| {
                [9, 3].iter().try_for_each(|&n| event(to, &chunk(n, n as f64)))
            }),
        ),
        (
            "larger than",
            broken_stream(|to| (0..4000).try_for_each(|_| to.write_all(&[b'x'; 1 << 16]))),
        ),
    ];
    for (want, server) in all {
        let out = run(&["attach", &server.address, "--probe", "--tokens", "64", "--plain"]);
        let said = out.err.trim_end_matches('\n');
        assert!(
            out.status == 1 && !said.contains('\n') && said.contains(want),
            "{want}: {}: {said}",
            out.status
        );
        let posts = server.lines().iter().filter(|line| *line == "POST /completion").count();
        assert_eq!(posts, 1, "{want}: a request that failed is not repeated");
    }
}

#[test]
#[cfg(unix)]
fn ctrl_c_stops_a_probe_with_what_is_known() {
    // A stream that never ends by itself.
    let server = broken_stream(|to| {
        for n in 1.. {
            let stop = n % 8 == 0;
            let text = format!(
                r#"{{"content":"x","tokens":[{n}],"stop":{stop},"timings":{{"predicted_n":{n},"predicted_ms":{n}.5,"draft_n":{n}}}}}"#
            );
            event(to, &text)?;
            if stop {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    });
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("out.jsonl");
    let args = [
        "attach",
        &server.address,
        "--probe",
        "--tokens",
        "20000",
        "--score",
        "0",
        "--json",
        file.to_str().unwrap(),
    ];
    let mut child = command(&args).spawn().unwrap();
    while server.lines().iter().filter(|line| *line == "POST /completion").count() < 2 {
        std::thread::sleep(Duration::from_millis(20));
    }
    let interrupted = std::process::Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(interrupted.success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let lines = lines(&std::fs::read_to_string(&file).unwrap());
    assert!(lines.len() > 3 && lines.last().unwrap()["steps"].as_f64().unwrap() > 0.0);
    let sent = server.requests().len();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(server.requests().len(), sent, "nothing is sent after it");
}
