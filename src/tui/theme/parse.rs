//! Parser of theme files: `name`, `inherits`, `glyphs`, `[palette]`, `[roles]`.
//!
//! An invalid file is rejected with a message of one line.

use std::collections::BTreeMap;
use std::path::Path;

use ratatui::style::{Color, Modifier, Style};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::built_in::BUILT_IN;
use super::{Glyphs, Role, UNICODE, color};

/// Reason why a theme can't be used, in one line: place, problem, fix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("theme {place}: {what}")]
pub struct ThemeError {
    /// File and line, or the requested name.
    pub place: String,
    /// Description of the problem and its fix.
    pub what: String,
}

/// Theme as written, with inherited entries merged in.
#[derive(Clone, Debug)]
pub(super) struct Sheet {
    pub name: String,
    pub glyphs: Glyphs,
    roles: BTreeMap<String, Style>,
}

impl Sheet {
    /// Returns the style of a dotted name, or of its longest styled prefix.
    pub fn style(&self, name: &str) -> Style {
        let mut name = name;
        loop {
            if let Some(&style) = self.roles.get(name) {
                return style;
            }
            match name.rsplit_once('.') {
                Some((shorter, _)) => name = shorter,
                None => return Style::new(),
            }
        }
    }
}

/// Entries before colors are resolved, so that a derived palette recolors inherited roles.
#[derive(Default)]
struct Layers {
    name: String,
    glyphs: Option<Glyphs>,
    palette: BTreeMap<String, Color>,
    roles: BTreeMap<String, (Written, SourcePosition)>,
}

/// Style as written: names of colors, and modifiers.
#[derive(Clone, Default)]
struct Written {
    fg: Option<String>,
    bg: Option<String>,
    add: Modifier,
}

/// Position of an entry, for messages.
#[derive(Clone)]
struct SourcePosition {
    file: String,
    line: usize,
}

impl SourcePosition {
    fn error(&self, what: impl Into<String>) -> ThemeError {
        ThemeError { place: format!("{}:{}", self.file, self.line), what: what.into() }
    }
}

/// Loads a theme by name or path, with everything that it inherits.
pub(super) fn load(name: &str, folder: Option<&Path>) -> Result<Sheet, ThemeError> {
    let mut layers = Layers::default();
    read(name, folder, &mut Vec::new(), &mut layers)?;
    let mut roles = BTreeMap::new();
    for (role, (written, site)) in &layers.roles {
        let find = |color: &Option<String>| {
            match color {
            None => Ok(None),
            Some(text) => layers.palette.get(text).copied().or_else(|| color::parse(text)).map(Some).ok_or_else(|| {
                site.error(format!(
                    "roles.{role}: unknown color `{text}`; add it to [palette], or write #rrggbb, an ANSI name, or 0 to 255"
                ))
            }),
        }
        };
        let style = Style {
            fg: find(&written.fg)?,
            bg: find(&written.bg)?,
            add_modifier: written.add,
            ..Style::new()
        };
        roles.insert(role.clone(), style);
    }
    Ok(Sheet { name: layers.name, glyphs: layers.glyphs.unwrap_or(UNICODE), roles })
}

/// Returns a theme's file name for messages, and its text.
fn source(name: &str, folder: Option<&Path>) -> Result<(String, String), ThemeError> {
    let path = if name.contains(['/', '\\']) || name.ends_with(".toml") {
        Some(Path::new(name).to_owned())
    } else {
        folder.map(|f| f.join(format!("{name}.toml"))).filter(|p| p.exists())
    };
    if let Some(path) = path {
        let shown = path.display().to_string();
        return match std::fs::read_to_string(&path) {
            Ok(text) => Ok((shown, text)),
            Err(e) => Err(ThemeError { place: shown, what: format!("can't be read: {e}") }),
        };
    }
    match BUILT_IN.iter().find(|b| b.0 == name) {
        Some((_, text)) => Ok((format!("{name} (built in)"), (*text).to_owned())),
        None => {
            let known = BUILT_IN.map(|b| b.0).join(", ");
            let own = folder
                .map(|f| format!(", or put {name}.toml into {}", f.display()))
                .unwrap_or_default();
            Err(ThemeError {
                place: name.to_owned(),
                what: format!("not found; use one of {known}{own}"),
            })
        }
    }
}

fn read(
    name: &str,
    folder: Option<&Path>,
    chain: &mut Vec<String>,
    into: &mut Layers,
) -> Result<(), ThemeError> {
    let (file, text) = source(name, folder)?;
    let line_of = |at: usize| text.bytes().take(at).filter(|&b| b == b'\n').count() + 1;
    let site = |at: usize| SourcePosition { file: file.clone(), line: line_of(at) };
    let table = DeTable::parse(&text).map_err(|e| {
        let what = e.message().lines().collect::<Vec<_>>().join(" ");
        site(e.span().map_or(0, |s| s.start)).error(format!("not TOML: {what}"))
    })?;
    let table = table.into_inner();
    for key in table.keys() {
        if !["name", "inherits", "glyphs", "palette", "roles"].contains(&key.get_ref().as_ref()) {
            return Err(site(key.span().start).error(format!(
                "unknown key `{}`; a theme has name, inherits, glyphs, [palette], and [roles]",
                key.get_ref()
            )));
        }
    }
    chain.push(file.clone());
    if let Some(parent) = table.get("inherits") {
        let at = site(parent.span().start);
        let parent = string(parent, "inherits", &at)?;
        // A file with a built-in theme's name may extend that theme.
        let (next, folder) = if parent == name { (parent, None) } else { (parent, folder) };
        let (next_file, _) = source(next, folder)
            .map_err(|e| at.error(format!("inherits: {} {}", e.place, e.what)))?;
        if chain.contains(&next_file) {
            return Err(at.error(format!(
                "inherits: `{next}` inherits this theme in turn; remove one of the two"
            )));
        }
        read(next, folder, chain, into)?;
    }
    into.name = match table.get("name") {
        Some(value) => string(value, "name", &site(value.span().start))?.to_owned(),
        None => Path::new(name)
            .file_stem()
            .map_or_else(|| name.to_owned(), |s| s.to_string_lossy().into_owned()),
    };
    if let Some(value) = table.get("glyphs") {
        let at = site(value.span().start);
        let set = string(value, "glyphs", &at)?;
        into.glyphs = Some(Glyphs::by_name(set).ok_or_else(|| {
            at.error(format!("glyphs: unknown set `{set}`; write \"unicode\" or \"ascii\""))
        })?);
    }
    for (key, value) in entries(&table, "palette", &site)? {
        let at = site(value.span().start);
        let text = string(value, &format!("palette.{key}"), &at)?;
        let color = color::parse(text).ok_or_else(|| {
            at.error(format!(
                "palette.{key}: `{text}` is not a color; write #rrggbb, an ANSI name such as \"bright-blue\", or \"0\" to \"255\""
            ))
        })?;
        into.palette.insert(key.to_owned(), color);
    }
    for (key, value) in entries(&table, "roles", &site)? {
        let at = site(value.span().start);
        if !Role::known(key) {
            let near = nearest(key);
            return Err(at.error(format!("roles.{key}: unknown role; the nearest is \"{near}\"")));
        }
        let written = style(value, key, &at)?;
        into.roles.insert(key.to_owned(), (written, at));
    }
    Ok(())
}

type Item<'i> = Spanned<DeValue<'i>>;

fn string<'v>(value: &'v Item<'_>, key: &str, at: &SourcePosition) -> Result<&'v str, ThemeError> {
    match value.get_ref() {
        DeValue::String(s) => Ok(s),
        other => Err(at.error(format!("{key}: expected a string, found {}", kind(other)))),
    }
}

fn kind(value: &DeValue) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a number without quotes",
        DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

fn entries<'t, 'i>(
    table: &'t DeTable<'i>,
    name: &str,
    site: &impl Fn(usize) -> SourcePosition,
) -> Result<Vec<(&'t str, &'t Item<'i>)>, ThemeError> {
    match table.get(name) {
        None => Ok(Vec::new()),
        Some(value) => match value.get_ref() {
            DeValue::Table(t) => Ok(t.iter().map(|(k, v)| (k.get_ref().as_ref(), v)).collect()),
            other => Err(site(value.span().start)
                .error(format!("{name}: expected a table [{name}], found {}", kind(other)))),
        },
    }
}

fn style(value: &Item<'_>, role: &str, at: &SourcePosition) -> Result<Written, ThemeError> {
    match value.get_ref() {
        DeValue::String(fg) => Ok(Written { fg: Some(fg.to_string()), ..Written::default() }),
        DeValue::Table(table) => {
            let mut written = Written::default();
            for (key, value) in table.iter() {
                let name = format!("roles.{role}.{}", key.get_ref());
                match key.get_ref().as_ref() {
                    "fg" => written.fg = Some(string(value, &name, at)?.to_owned()),
                    "bg" => written.bg = Some(string(value, &name, at)?.to_owned()),
                    "add" => written.add = modifiers(value, &name, at)?,
                    _ => {
                        return Err(
                            at.error(format!("{name}: unknown key; a style has fg, bg, and add"))
                        );
                    }
                }
            }
            Ok(written)
        }
        other => Err(at.error(format!(
            "roles.{role}: expected a color or {{ fg, bg, add }}, found {}",
            kind(other)
        ))),
    }
}

fn modifiers(value: &Item<'_>, key: &str, at: &SourcePosition) -> Result<Modifier, ThemeError> {
    let DeValue::Array(list) = value.get_ref() else {
        return Err(at.error(format!(
            "{key}: expected a list such as [\"bold\"], found {}",
            kind(value.get_ref())
        )));
    };
    list.iter().try_fold(Modifier::empty(), |all, item| {
        let name = string(item, key, at)?;
        let one = match name {
            "bold" => Modifier::BOLD,
            "dim" => Modifier::DIM,
            "italic" => Modifier::ITALIC,
            "underline" => Modifier::UNDERLINED,
            "reverse" => Modifier::REVERSED,
            _ => {
                return Err(at.error(format!("{key}: unknown modifier `{name}`; write bold, dim, italic, underline, or reverse")));
            }
        };
        Ok(all | one)
    })
}

/// Returns the role whose name has the smallest edit distance to `key`.
fn nearest(key: &str) -> &'static str {
    Role::ALL.iter().map(|r| r.name()).min_by_key(|name| distance(key, name)).unwrap_or("base")
}

/// Levenshtein distance, in characters.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut above = row[0];
        row[0] = i + 1;
        for (j, &y) in b.iter().enumerate() {
            let cost = (above + usize::from(x != y)).min(row[j] + 1).min(row[j + 1] + 1);
            above = row[j + 1];
            row[j + 1] = cost;
        }
    }
    row[b.len()]
}
