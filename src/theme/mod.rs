//! Themes: roles, their styles from TOML files, the glyph set, and what a terminal makes of them.

mod colour;
mod glyphs;
mod parse;
mod role;

pub use colour::{Depth, rgb};
pub use glyphs::{ASCII, Glyphs, UNICODE};
pub use parse::ThemeError;
pub use role::Role;

use std::path::{Path, PathBuf};

use ratatui::style::{Color, Style};

/// Styles for all roles, fitted to a terminal.
#[derive(Clone, Debug, PartialEq)]
pub struct Theme {
    /// Its name.
    pub name: String,
    /// What it draws with.
    pub glyphs: Glyphs,
    styles: Vec<Style>,
}

/// What the terminal can do, and what the person asked for.
#[derive(Clone, Debug)]
pub struct Terminal {
    /// How many colours it shows.
    pub depth: Depth,
    /// Draw in ASCII alone.
    pub ascii: bool,
    /// A folder whose `NAME.toml` files come before the themes built in.
    pub folder: Option<PathBuf>,
}

impl Terminal {
    /// What the environment says: colours by `NO_COLOR`, `COLORTERM` and `TERM`; ASCII where asked for, where the
    /// locale (`LC_ALL`, `LC_CTYPE`, `LANG`, the first that is set) names no UTF-8, and on the console of Linux, whose fonts
    /// have few glyphs.
    pub fn from_env(ascii: bool, folder: Option<PathBuf>, var: impl Fn(&str) -> Option<String>) -> Terminal {
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].iter().find_map(|name| var(name).filter(|v| !v.is_empty()));
        let utf8 = locale.is_none_or(|l| l.to_ascii_lowercase().replace('-', "").contains("utf8"));
        let console = var("TERM").is_some_and(|term| term == "linux");
        Terminal { depth: Depth::from_env(var), ascii: ascii || console || (cfg!(unix) && !utf8), folder }
    }
}

/// The themes built in, by name.
pub const BUILT_IN: [(&str, &str); 3] = [
    ("dark", include_str!("../../themes/dark.toml")),
    ("light", include_str!("../../themes/light.toml")),
    ("mono", include_str!("../../themes/mono.toml")),
];

impl Theme {
    /// The theme of that name (`dark`, `light`, `mono`, a file `NAME.toml` of the person's folder) or at that path
    /// (anything with a separator in it or ending in `.toml`).
    ///
    /// # Errors
    /// If there is none, or its file is bad: one line with file, line, key and cure.
    pub fn load(name: &str, terminal: &Terminal) -> Result<Theme, ThemeError> {
        parse::load(name, terminal.folder.as_deref()).map(|sheet| Theme::fitted(&sheet, terminal))
    }

    /// What the key for themes walks through: the chosen one first, then those built in. A terminal without colour
    /// gets `mono` alone, unless another one is named.
    ///
    /// # Errors
    /// As [`Theme::load`].
    pub fn all(chosen: Option<&str>, terminal: &Terminal) -> Result<Vec<Theme>, ThemeError> {
        let first = chosen.unwrap_or(if terminal.depth == Depth::None { "mono" } else { "dark" });
        let mut themes = vec![Theme::load(first, terminal)?];
        if terminal.depth != Depth::None {
            for (name, _) in BUILT_IN {
                if themes.iter().all(|t| t.name != name) {
                    themes.push(Theme::load(name, terminal)?);
                }
            }
        }
        Ok(themes)
    }

    fn fitted(sheet: &parse::Sheet, terminal: &Terminal) -> Theme {
        let fit = |c: Option<Color>| c.map(|c| colour::fit(c, terminal.depth)).filter(|_| terminal.depth != Depth::None);
        let style = |role: &Role| {
            let style = sheet.style(role.name());
            Style { fg: fit(style.fg), bg: fit(style.bg), ..style }
        };
        Theme {
            name: sheet.name.clone(),
            glyphs: if terminal.ascii { ASCII } else { sheet.glyphs },
            styles: Role::ALL.iter().map(style).collect(),
        }
    }

    /// The style of a role.
    pub fn style(&self, role: Role) -> Style {
        self.styles[role as usize]
    }
}

/// Where a person's own themes lie: `themes` in the folder of settings.
pub fn folder_in(config: &Path) -> PathBuf {
    config.join("themes")
}
