//! Models from a hub, over HTTP.

use std::io::{BufRead, BufReader};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::place::{FILE, Outcome, UserFolders, content, keys, sha256};
use crate::server::{Request, Response, Server};

const LENGTH: usize = 300_000;

fn serving(model: &[u8], tag: &'static str) -> Server {
    let model = model.to_vec();
    Server::start(move |request, _| Response::file(request, &model, tag))
}

/// Starts a server that cuts off each response after `bytes` bytes.
fn breaking(model: &[u8], tag: &'static str, bytes: usize) -> Server {
    let model = model.to_vec();
    Server::start(move |request, _| match request.first() {
        0 => Response::file(request, &model, tag).cut(bytes),
        _ => Response::file(request, &model, tag).cut(0),
    })
}

fn parts(place: &UserFolders) -> Vec<String> {
    let names = place.names();
    assert!(
        names.iter().all(|name| name.starts_with(FILE) && name.ends_with(".part")),
        "{names:?}"
    );
    names
}

#[test]
fn a_whole_file() {
    let model = content(LENGTH, 1);
    let place = UserFolders::hub(&keys(&model));
    let server = serving(&model, "\"1\"");
    let outcome = place.fetch(&[("HF_ENDPOINT", &format!("{}/", server.address))]);
    assert!(outcome.good, "{outcome:?}");
    assert_eq!(outcome.out, format!("tiny is present: {} (300.0 kB)\n", place.model().display()));
    assert_eq!(std::fs::read(place.model()).unwrap(), model);
    assert_eq!(place.names(), [FILE]);
    let [request] = &server.requests()[..] else { panic!("{:?}", server.requests()) };
    assert_eq!(
        (request.path.as_str(), request.header("authorization")),
        ("/o/r/resolve/main/d/tiny.gguf", None)
    );
    // A valid file is not requested again; a damaged one is.
    assert!(place.fetch(&[("HF_ENDPOINT", &server.address)]).good);
    assert_eq!(server.requests().len(), 1);
    let mut damaged = model.clone();
    damaged[7] ^= 1;
    std::fs::write(place.model(), damaged).unwrap();
    assert!(place.fetch(&[("HF_ENDPOINT", &server.address)]).good);
    assert_eq!((server.requests().len(), std::fs::read(place.model()).unwrap()), (2, model));
}

#[test]
fn a_connection_that_breaks_is_taken_up_where_it_was() {
    let model = content(LENGTH, 1);
    let place = UserFolders::hub(&keys(&model));
    let of_server = model.clone();
    let server = Server::start(move |request, number| match number {
        0 => Response::file(request, &of_server, "\"1\"").cut(100_000),
        1 => Response::status(503),
        2 => Response::file(request, &of_server, "\"1\"").cut(50_000),
        _ => Response::file(request, &of_server, "\"1\""),
    });
    let outcome = place.fetch(&[("HF_ENDPOINT", &server.address)]);
    assert!(outcome.good, "{outcome:?}");
    assert!(
        outcome.err.contains("broken off after 100000 of 300000 bytes")
            && outcome.err.contains("HTTP 503"),
        "{outcome:?}"
    );
    let firsts: Vec<usize> = server.requests().iter().map(Request::first).collect();
    assert_eq!(firsts, [0, 100_000, 100_000, 150_000]);
    assert_eq!(std::fs::read(place.model()).unwrap(), model);
}

#[test]
fn the_next_start_goes_on_too() {
    let model = content(LENGTH, 1);
    let place = UserFolders::hub(&keys(&model));
    let broken = breaking(&model, "\"1\"", 100_000);
    place
        .fetch(&[("HF_ENDPOINT", &broken.address)])
        .says(&["broken off after 100000 of 300000", "check the network"]);
    assert_eq!(broken.requests().len(), 4, "one that brought something, and three that did not");
    assert_eq!(parts(&place).len(), 1);
    let server = serving(&model, "\"1\"");
    assert!(place.fetch(&[("HF_ENDPOINT", &server.address)]).good);
    assert_eq!(server.requests()[0].first(), 100_000);
    assert_eq!(
        (std::fs::read(place.model()).unwrap(), place.names()),
        (model, vec![FILE.to_owned()])
    );
}

#[test]
fn two_versions_are_never_joined() {
    // The list could not detect this: the sizes are equal, and there is no checksum.
    let (old, new) = (content(LENGTH, 1), content(LENGTH, 2));
    for (before, after) in [("\"1\"", "\"2\""), ("W/\"1\"", "W/\"1\"")] {
        let place = UserFolders::hub("");
        assert!(!place.fetch(&[("HF_ENDPOINT", &breaking(&old, before, 100_000).address)]).good);
        assert_eq!(
            parts(&place).len(),
            usize::from(before == "\"1\""),
            "a weak tag promises nothing"
        );
        let server = serving(&new, after);
        let outcome = place.fetch(&[("HF_ENDPOINT", &server.address)]);
        assert!(outcome.good, "{outcome:?}");
        assert!(std::fs::read(place.model()).unwrap() == new);
        assert_eq!(server.requests().last().unwrap().first(), 0);
        assert_eq!(place.names(), [FILE]);
    }
}

#[test]
fn a_file_that_became_shorter_is_begun_again() {
    let (old, new) = (content(LENGTH, 1), content(50_000, 2));
    let place = UserFolders::hub("");
    assert!(!place.fetch(&[("HF_ENDPOINT", &breaking(&old, "\"1\"", 100_000).address)]).good);
    let of_server = new.clone();
    let server = Server::start(move |request, _| match request.first() {
        0 => Response::file(request, &of_server, "\"2\""),
        _ => Response::status(416),
    });
    assert!(place.fetch(&[("HF_ENDPOINT", &server.address)]).good);
    assert_eq!(
        (std::fs::read(place.model()).unwrap(), place.names()),
        (new, vec![FILE.to_owned()])
    );
}

#[test]
fn a_server_that_knows_no_ranges() {
    let model = content(LENGTH, 1);
    let place = UserFolders::hub(&keys(&model));
    assert!(!place.fetch(&[("HF_ENDPOINT", &breaking(&model, "\"1\"", 100_000).address)]).good);
    let of_server = model.clone();
    let server = Server::start(move |_, _| Response {
        status: 200,
        body: of_server.clone(),
        ..Response::default()
    });
    assert!(place.fetch(&[("HF_ENDPOINT", &server.address)]).good);
    assert_eq!(
        (std::fs::read(place.model()).unwrap(), place.names()),
        (model, vec![FILE.to_owned()])
    );
}

#[test]
fn refusals_name_the_cure_and_are_not_repeated() {
    let token: &[(&str, &str)] = &[("HF_TOKEN", "abc")];
    let cases = [
        (404, &[][..], "correct repository, revision and file"),
        (401, &[], "accept the model's terms there and set HF_TOKEN"),
        (401, token, "HF_TOKEN does not open it"),
        (403, token, "HF_TOKEN does not open it"),
        (418, &[], "check HF_ENDPOINT"),
    ];
    for (status, env, cure) in cases {
        let place = UserFolders::hub("");
        let server = Server::start(move |_, _| Response::status(status));
        let outcome = place.fetch(&[env, &[("HF_ENDPOINT", server.address.as_str())]].concat());
        outcome.says(&["/o/r/resolve/main/d/tiny.gguf", &format!("HTTP {status}"), cure]);
        assert_eq!(server.requests().len(), 1);
        let token = server.requests()[0].header("authorization").map(str::to_owned);
        assert_eq!(token, env.first().map(|_| "Bearer abc".to_owned()));
        assert_eq!(place.names(), [""; 0]);
    }
}

#[test]
fn the_token_stays_with_its_host() {
    let model = content(1000, 1);
    let place = UserFolders::hub(&keys(&model));
    let stranger = serving(&model, "\"1\"");
    let elsewhere = format!("{}/blob?signature=1", stranger.address);
    let hub = Server::start(move |request, _| match request.path.as_str() {
        "/renamed" => Response::status(302).with("Location", &elsewhere),
        _ => Response::status(307).with("Location", "/renamed"),
    });
    let outcome = place.fetch(&[("HF_ENDPOINT", &hub.address), ("HF_TOKEN", "secret")]);
    assert!(outcome.good, "{outcome:?}");
    let tokens = |server: &Server| {
        server
            .requests()
            .iter()
            .map(|r| r.header("authorization").map(str::to_owned))
            .collect::<Vec<_>>()
    };
    assert!(outcome.err.contains("HF_TOKEN is sent over plain http"), "{outcome:?}");
    assert_eq!(tokens(&hub), [Some("Bearer secret".to_owned()), Some("Bearer secret".to_owned())]);
    assert_eq!(tokens(&stranger), [None]);
    assert_eq!(stranger.requests()[0].path, "/blob?signature=1");
}

#[test]
fn a_hub_that_sends_a_byte_a_connection_is_given_up() {
    let model = content(LENGTH, 1);
    let place = UserFolders::hub(&keys(&model));
    let server = breaking_again(&model, 1);
    place.fetch(&[("HF_ENDPOINT", &server.address)]).says(&["broken off after 8 of 300000 bytes"]);
    assert_eq!(server.requests().len(), 8);
    assert_eq!(parts(&place).len(), 1, "the next start goes on");
}

/// Starts a hub that breaks each connection after this number of bytes.
fn breaking_again(model: &[u8], bytes: usize) -> Server {
    let model = model.to_vec();
    Server::start(move |request, _| Response::file(request, &model, "\"1\"").cut(bytes))
}

#[test]
fn a_password_in_the_address_is_not_shown() {
    let server = Server::start(|_, _| Response::status(404));
    let place = UserFolders::hub("");
    let endpoint = server.address.replace("http://", "http://me:secret@");
    let outcome = place.fetch(&[("HF_ENDPOINT", &endpoint)]);
    outcome.says(&["/o/r/resolve/main/d/tiny.gguf"]);
    assert!(!outcome.err.contains("secret") && !outcome.err.contains("me:"), "{outcome:?}");
    // The same for a hub that can't be reached.
    let place = UserFolders::hub("");
    let outcome = place.fetch(&[("HF_ENDPOINT", "http://me:secret@127.0.0.1:1")]);
    assert!(!outcome.good && !outcome.err.contains("secret"), "{outcome:?}");
}

#[test]
fn redirects_in_a_circle_or_to_nowhere() {
    for (location, said) in [("/again", "in a circle"), ("ftp://x/y", "to no address")] {
        let place = UserFolders::hub("");
        let server = Server::start(move |_, _| Response::status(302).with("Location", location));
        place.fetch(&[("HF_ENDPOINT", &server.address)]).says(&[said, "check HF_ENDPOINT"]);
    }
}

#[test]
fn files_that_do_not_match_the_list_are_removed() {
    let model = content(LENGTH, 1);
    let other = sha256(b"other");
    let cases = [
        (format!("bytes = {}", LENGTH + 1), "it has 300000 bytes and must have 300001"),
        (format!("sha256 = \"{other}\""), other.as_str()),
    ];
    for (keys, said) in cases {
        let place = UserFolders::hub(&keys);
        let server = serving(&model, "\"1\"");
        place.fetch(&[("HF_ENDPOINT", &server.address)]).says(&[said, "models.toml"]);
        assert_eq!(place.names(), [""; 0]);
    }
}

#[test]
fn the_checksum_that_the_hub_tells_is_checked() {
    let model = content(1000, 1);
    for (told, good) in [(sha256(&model), true), (sha256(b"other"), false)] {
        let place = UserFolders::hub("");
        let stranger = serving(&model, "\"1\"");
        let blob = format!("{}/blob", stranger.address);
        let hub = Server::start(move |_, _| {
            Response::status(302)
                .with("Location", &blob)
                .with("X-Linked-Etag", format!("\"{told}\""))
        });
        let outcome = place.fetch(&[("HF_ENDPOINT", &hub.address)]);
        assert_eq!((outcome.good, place.model().exists()), (good, good), "{outcome:?}");
    }
}

#[test]
fn no_network_and_no_address() {
    let place = UserFolders::hub("");
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    place.fetch(&[("HF_ENDPOINT", &format!("http://{closed}"))]).says(&["check the network"]);
    place.fetch(&[("HF_ENDPOINT", "hub")]).says(&["no address: set HF_ENDPOINT"]);
    assert_eq!(place.names(), [""; 0]);
}

#[test]
fn concurrent_downloads_wait_for_the_lock() {
    let model = content(LENGTH, 1);
    let place = UserFolders::hub(&keys(&model));
    let (begun, begins) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    let server = Server::start(move |request, _| {
        begun.send(()).unwrap();
        released.lock().unwrap().recv().unwrap();
        Response::file(request, &model, "\"1\"")
    });
    let env = [("HF_ENDPOINT", server.address.as_str())];
    let first = place.command(&["models", "fetch"], &env).spawn().unwrap();
    begins.recv_timeout(Duration::from_secs(60)).unwrap();
    let mut second = place.command(&["models", "fetch"], &env).spawn().unwrap();
    let mut said = String::new();
    BufReader::new(second.stderr.as_mut().unwrap()).read_line(&mut said).unwrap();
    assert_eq!(said, "speclight: waiting for another speclight that is fetching it\n");
    release.send(()).unwrap();
    for child in [first, second] {
        let outcome = Outcome::from_output(&child.wait_with_output().unwrap());
        assert!(outcome.good, "{outcome:?}");
    }
    assert_eq!((server.requests().len(), place.names()), (1, vec![FILE.to_owned()]));
}

#[test]
fn a_killed_download_is_resumed_by_the_next_start() {
    let model = content(LENGTH, 1);
    let place = UserFolders::hub(&keys(&model));
    let (hold, held) = mpsc::channel::<()>();
    let held = Arc::new(Mutex::new(held));
    let of_server = model.clone();
    let server = Server::start(move |request, number| {
        if number == 1 {
            // The first response is cut off; the second never arrives.
            let _ = held.lock().unwrap().recv();
        }
        Response::file(request, &of_server, "\"1\"").cut(if number == 0 {
            100_000
        } else {
            LENGTH - request.first()
        })
    });
    let env = [("HF_ENDPOINT", server.address.as_str())];
    let mut child = place.command(&["models", "fetch"], &env).spawn().unwrap();
    while server.requests().len() < 2 {
        assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(parts(&place).len(), 1);
    drop(hold);
    assert!(place.fetch(&env).good);
    assert_eq!(server.requests()[2].first(), 100_000);
    assert_eq!(
        (std::fs::read(place.model()).unwrap(), place.names()),
        (model, vec![FILE.to_owned()])
    );
}

#[test]
fn a_body_that_never_ends_is_left_at_the_size_of_the_list() {
    let model = content(LENGTH, 1);
    let body = model.clone();
    let server = Server::start(move |_, _| Response {
        status: 200,
        body: body.clone(),
        endless: true,
        ..Response::default()
    });
    let place = UserFolders::hub(&keys(&model));
    place
        .fetch(&[("HF_ENDPOINT", &server.address)])
        .says(&["it has more than the 300000 bytes that it must have"]);
    assert_eq!(place.names(), [""; 0]);
}
