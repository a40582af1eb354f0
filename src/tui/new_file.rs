//! New files in the current folder, written by a screen at the user's request.

use std::io::{self, Write};
use std::path::Path;

/// Maximum number in the name of a file.
const MAX_FILES: usize = 999;

/// Writes a new file into a folder and returns its name: `STEM.ENDING`, or `STEM-N.ENDING`.
///
/// The file is written as `STEM.ENDING.part` and gets its name when it is complete. An existing file is never replaced. The error is one
/// line.
pub fn write_new(folder: &Path, stem: &str, ending: &str, text: &str) -> Result<String, String> {
    let wrong = |error: &io::Error| {
        format!("can't write {stem}.{ending}: {error}; start in a writable folder with free space")
    };
    // A killed process leaves this file, which the next one replaces.
    let part = format!("{stem}.{ending}.part");
    let _ = std::fs::remove_file(folder.join(&part));
    let file = tempfile::Builder::new().prefix(&part).rand_bytes(0).tempfile_in(folder);
    let mut file = file.map_err(|error| wrong(&error))?;
    file.write_all(text.as_bytes()).map_err(|error| wrong(&error))?;
    let names = std::iter::once(format!("{stem}.{ending}"))
        .chain((2..=MAX_FILES).map(|number| format!("{stem}-{number}.{ending}")));
    for name in names {
        match file.persist_noclobber(folder.join(&name)) {
            Ok(_) => return Ok(name),
            Err(taken) if taken.error.kind() == io::ErrorKind::AlreadyExists => file = taken.file,
            Err(failed) => return Err(wrong(&failed.error)),
        }
    }
    Err(format!("can't write {stem}.{ending}: {MAX_FILES} such files exist; move them away"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn existing_files_stay_and_names_count_up() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("a.csv"), "mine").unwrap();
        std::fs::write(at("a.csv.part"), "left by a kill").unwrap();
        let write = |text| write_new(folder.path(), "a", "csv", text);
        assert_eq!((write("one"), write("two")), (Ok("a-2.csv".into()), Ok("a-3.csv".into())));
        let texts =
            ["a.csv", "a-2.csv", "a-3.csv"].map(|name| std::fs::read_to_string(at(name)).unwrap());
        assert_eq!(texts, ["mine", "one", "two"]);
        assert_eq!(folder.path().read_dir().unwrap().count(), 3, "no temporary file is left");
    }

    #[test]
    fn a_missing_folder_is_one_line() {
        let said = write_new(Path::new("/nowhere/at/all"), "a", "csv", "").unwrap_err();
        assert!(said.starts_with("can't write a.csv: ") && !said.contains('\n'), "{said}");
    }
}
