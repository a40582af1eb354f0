//! Theme files: `name`, `inherits`, `glyphs`, `[palette]`, `[roles]`. A bad one is refused in one line.

use std::collections::BTreeMap;
use std::path::Path;

use ratatui::style::{Color, Modifier, Style};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{BUILT_IN, Glyphs, Role, UNICODE, colour};

/// Why a theme can't be used, in one line: where, what, and the cure.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("theme {place}: {what}")]
pub struct ThemeError {
    /// File and line, or the name that was asked for.
    pub place: String,
    /// What is wrong, and the cure.
    pub what: String,
}

/// A theme as written, with what it inherits put in.
#[derive(Clone, Debug)]
pub(super) struct Sheet {
    pub name: String,
    pub glyphs: Glyphs,
    roles: BTreeMap<String, Style>,
}

impl Sheet {
    /// The style of a dotted name, or of the longest part of it before a dot that has one.
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

/// Names and values before colours are looked up, so that an heir's palette recolours the roles it inherits.
#[derive(Default)]
struct Layers {
    name: String,
    glyphs: Option<Glyphs>,
    palette: BTreeMap<String, Color>,
    roles: BTreeMap<String, (Written, Site)>,
}

/// A style as written: names of colours and modifiers.
#[derive(Clone, Default)]
struct Written {
    fg: Option<String>,
    bg: Option<String>,
    add: Modifier,
}

/// Where something was written.
#[derive(Clone)]
struct Site {
    file: String,
    line: usize,
}

impl Site {
    fn error(&self, what: impl Into<String>) -> ThemeError {
        ThemeError { place: format!("{}:{}", self.file, self.line), what: what.into() }
    }
}

/// Reads a theme by name or path, with all that it inherits.
pub(super) fn load(name: &str, folder: Option<&Path>) -> Result<Sheet, ThemeError> {
    let mut layers = Layers::default();
    read(name, folder, &mut Vec::new(), &mut layers)?;
    let mut roles = BTreeMap::new();
    for (role, (written, site)) in &layers.roles {
        let find = |colour: &Option<String>| match colour {
            None => Ok(None),
            Some(text) => layers.palette.get(text).copied().or_else(|| colour::parse(text)).map(Some).ok_or_else(|| {
                site.error(format!(
                    "roles.{role}: no colour `{text}`: add it to [palette], or write #rrggbb, an ANSI name or 0 to 255"
                ))
            }),
        };
        let style = Style { fg: find(&written.fg)?, bg: find(&written.bg)?, add_modifier: written.add, ..Style::new() };
        roles.insert(role.clone(), style);
    }
    Ok(Sheet { name: layers.name, glyphs: layers.glyphs.unwrap_or(UNICODE), roles })
}

/// The file's name for messages, and its text.
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
            let own = folder.map(|f| format!(", or put {name}.toml into {}", f.display())).unwrap_or_default();
            Err(ThemeError { place: name.to_owned(), what: format!("not known: take one of {known}{own}") })
        }
    }
}

fn read(name: &str, folder: Option<&Path>, chain: &mut Vec<String>, into: &mut Layers) -> Result<(), ThemeError> {
    let (file, text) = source(name, folder)?;
    let line_of = |at: usize| text.bytes().take(at).filter(|&b| b == b'\n').count() + 1;
    let site = |at: usize| Site { file: file.clone(), line: line_of(at) };
    let table = DeTable::parse(&text).map_err(|e| {
        let what = e.message().lines().collect::<Vec<_>>().join(" ");
        site(e.span().map_or(0, |s| s.start)).error(format!("not TOML: {what}"))
    })?;
    let table = table.into_inner();
    for key in table.keys() {
        if !["name", "inherits", "glyphs", "palette", "roles"].contains(&key.get_ref().as_ref()) {
            return Err(site(key.span().start)
                .error(format!("unknown key `{}`: a theme has name, inherits, glyphs, [palette] and [roles]", key.get_ref())));
        }
    }
    chain.push(file.clone());
    if let Some(parent) = table.get("inherits") {
        let at = site(parent.span().start);
        let parent = string(parent, "inherits", &at)?;
        // The built-in theme of the same name may be extended by a file of that name.
        let (next, folder) = if parent == name { (parent, None) } else { (parent, folder) };
        let (next_file, _) = source(next, folder).map_err(|e| at.error(format!("inherits: {} {}", e.place, e.what)))?;
        if chain.contains(&next_file) {
            return Err(at.error(format!("inherits: `{next}` inherits this theme in turn: break the circle")));
        }
        read(next, folder, chain, into)?;
    }
    into.name = match table.get("name") {
        Some(value) => string(value, "name", &site(value.span().start))?.to_owned(),
        None => Path::new(name).file_stem().map_or_else(|| name.to_owned(), |s| s.to_string_lossy().into_owned()),
    };
    if let Some(value) = table.get("glyphs") {
        let at = site(value.span().start);
        let set = string(value, "glyphs", &at)?;
        into.glyphs = Some(
            Glyphs::by_name(set).ok_or_else(|| at.error(format!("glyphs: no set `{set}`: write \"unicode\" or \"ascii\"")))?,
        );
    }
    for (key, value) in entries(&table, "palette", &site)? {
        let at = site(value.span().start);
        let text = string(value, &format!("palette.{key}"), &at)?;
        let colour = colour::parse(text).ok_or_else(|| {
            at.error(format!(
                "palette.{key}: `{text}` is no colour: write #rrggbb, an ANSI name such as \"bright-blue\", or \"0\" to \"255\""
            ))
        })?;
        into.palette.insert(key.to_owned(), colour);
    }
    for (key, value) in entries(&table, "roles", &site)? {
        let at = site(value.span().start);
        if !Role::known(key) {
            let near = nearest(key);
            return Err(at.error(format!("roles.{key}: no such role: the nearest is \"{near}\"")));
        }
        let written = style(value, key, &at)?;
        into.roles.insert(key.to_owned(), (written, at));
    }
    Ok(())
}

type Item<'i> = Spanned<DeValue<'i>>;

fn string<'v>(value: &'v Item<'_>, key: &str, at: &Site) -> Result<&'v str, ThemeError> {
    match value.get_ref() {
        DeValue::String(s) => Ok(s),
        other => Err(at.error(format!("{key}: a string is asked for, here is {}", kind(other)))),
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
    site: &impl Fn(usize) -> Site,
) -> Result<Vec<(&'t str, &'t Item<'i>)>, ThemeError> {
    match table.get(name) {
        None => Ok(Vec::new()),
        Some(value) => match value.get_ref() {
            DeValue::Table(t) => Ok(t.iter().map(|(k, v)| (k.get_ref().as_ref(), v)).collect()),
            other => {
                Err(site(value.span().start).error(format!("{name}: a table [{name}] is asked for, here is {}", kind(other))))
            }
        },
    }
}

fn style(value: &Item<'_>, role: &str, at: &Site) -> Result<Written, ThemeError> {
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
                    _ => return Err(at.error(format!("{name}: unknown key: a style has fg, bg and add"))),
                }
            }
            Ok(written)
        }
        other => Err(at.error(format!("roles.{role}: a colour or {{ fg, bg, add }} is asked for, here is {}", kind(other)))),
    }
}

fn modifiers(value: &Item<'_>, key: &str, at: &Site) -> Result<Modifier, ThemeError> {
    let DeValue::Array(list) = value.get_ref() else {
        return Err(at.error(format!("{key}: a list such as [\"bold\"] is asked for, here is {}", kind(value.get_ref()))));
    };
    list.iter().try_fold(Modifier::empty(), |all, item| {
        let name = string(item, key, at)?;
        let one = match name {
            "bold" => Modifier::BOLD,
            "dim" => Modifier::DIM,
            "italic" => Modifier::ITALIC,
            "underline" => Modifier::UNDERLINED,
            "reverse" => Modifier::REVERSED,
            _ => return Err(at.error(format!("{key}: no `{name}`: write bold, dim, italic, underline or reverse"))),
        };
        Ok(all | one)
    })
}

/// The role whose name is least far from `key`, in letters to change.
fn nearest(key: &str) -> &'static str {
    Role::ALL.iter().map(|r| r.name()).min_by_key(|name| distance(key, name)).unwrap_or("base")
}

/// Levenshtein distance.
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
