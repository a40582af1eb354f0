//! `speclight attach` in a pseudo-terminal, on a stub of mistral.rs.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::start_program;
use super::stub::{Server, reply};

#[test]
fn a_server_is_watched_until_the_person_leaves() {
    let readings = AtomicUsize::new(0);
    let server = Server::start(move |request, _, to| {
        if request.path != "/metrics" {
            return reply(to, 404, "", b"{}");
        }
        let drafts = 1000 + 100 * readings.fetch_add(1, Ordering::SeqCst);
        let text = format!(
            "mistralrs_speculative_drafts_total {drafts}\n\
             mistralrs_speculative_draft_tokens_accepted_total {}\n",
            2 * drafts
        );
        reply(to, 200, "", text.as_bytes())
    });
    let home = tempfile::tempdir().unwrap();
    let args = ["attach", &server.address, "--every", "0.1"];
    let mut t = start_program(&args, &home, 100, 30);
    t.wait("the server", |s| s.contains("mistral.rs") && s.contains("watching"));
    assert!(t.alternate() && t.cursor_hidden(), "the terminal is taken over");
    t.wait("the mean", |s| s.contains("2.00"));
    t.resize(40, 12);
    t.wait("the small size", |s| s.contains("mistral.rs"));
    t.send("c");
    t.resize(120, 40);
    t.wait("the large size", |s| s.contains("watching"));
    t.send("q");
    assert_eq!(t.status(), 0);
    t.settle();
    assert!(t.restored(), "{}", t.left_behind());
    assert!(server.lines().iter().all(|line| line.starts_with("GET ")), "{:?}", server.lines());
}
