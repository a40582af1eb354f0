//! Themes: styles by role from TOML files, glyph sets, and adaptation to the terminal's abilities.

mod built_in;
mod color;
mod glyphs;
mod parse;
mod role;

pub use built_in::BUILT_IN;
pub use color::{ColorDepth, rgb};
pub use glyphs::{ASCII, Glyphs, UNICODE};
pub use parse::ThemeError;
pub use role::Role;

use std::path::{Path, PathBuf};

use ratatui::style::{Color, Style};

/// Styles of all roles, adapted to a terminal.
#[derive(Clone, Debug, PartialEq)]
pub struct Theme {
    /// Name, as its file or the built-in list gives it.
    pub name: String,
    /// Characters that it draws with.
    pub glyphs: Glyphs,
    styles: Vec<Style>,
}

/// Abilities of the terminal, and the user's choices.
#[derive(Clone, Debug)]
pub struct TerminalAbilities {
    /// Number of colors that it shows.
    pub depth: ColorDepth,
    /// Draws in ASCII only.
    pub ascii: bool,
    /// Folder of user themes; its `NAME.toml` files take precedence over built-in themes.
    pub folder: Option<PathBuf>,
}

impl TerminalAbilities {
    /// Detects the terminal's abilities from environment variables.
    ///
    /// Color depth comes from `NO_COLOR`, `COLORTERM`, and `TERM`. ASCII is used if `ascii` is set,
    /// if the locale (the first of `LC_ALL`, `LC_CTYPE`, `LANG` that is not empty) does not name
    /// UTF-8, or on the Linux console, whose fonts have few glyphs.
    pub fn from_env(
        ascii: bool,
        folder: Option<PathBuf>,
        var: impl Fn(&str) -> Option<String>,
    ) -> TerminalAbilities {
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
            .iter()
            .find_map(|name| var(name).filter(|v| !v.is_empty()));
        let utf8 = locale.is_none_or(|l| l.to_ascii_lowercase().replace('-', "").contains("utf8"));
        let console = var("TERM").is_some_and(|term| term == "linux");
        TerminalAbilities {
            depth: ColorDepth::from_env(var),
            ascii: ascii || console || (cfg!(unix) && !utf8),
            folder,
        }
    }
}

impl Theme {
    /// Loads a theme by name or by path.
    ///
    /// A name is one of [`BUILT_IN`], or that of a file `NAME.toml` in the user's folder.
    /// Anything that contains a path separator or ends in `.toml` is a path.
    ///
    /// # Errors
    /// If there is no such theme or its file is invalid: a message of one line with file, line,
    /// key, and fix.
    pub fn load(name: &str, terminal: &TerminalAbilities) -> Result<Theme, ThemeError> {
        parse::load(name, terminal.folder.as_deref()).map(|sheet| Theme::fitted(&sheet, terminal))
    }

    /// Loads the themes of the theme key: the chosen one, then the built-in ones.
    ///
    /// A terminal without color gets only `mono`, or only the theme that was chosen.
    ///
    /// # Errors
    /// Those of [`Theme::load`].
    pub fn all(
        chosen: Option<&str>,
        terminal: &TerminalAbilities,
    ) -> Result<Vec<Theme>, ThemeError> {
        let first =
            chosen.unwrap_or(if terminal.depth == ColorDepth::None { "mono" } else { "dark" });
        let mut themes = vec![Theme::load(first, terminal)?];
        if terminal.depth != ColorDepth::None {
            for (name, _) in BUILT_IN {
                if themes.iter().all(|t| t.name != name) {
                    themes.push(Theme::load(name, terminal)?);
                }
            }
        }
        Ok(themes)
    }

    fn fitted(sheet: &parse::Sheet, terminal: &TerminalAbilities) -> Theme {
        let fit = |c: Option<Color>| {
            c.map(|c| color::fit(c, terminal.depth)).filter(|_| terminal.depth != ColorDepth::None)
        };
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

    /// Returns the style of a role.
    pub fn style(&self, role: Role) -> Style {
        self.styles[role as usize]
    }
}

/// Returns the folder of user themes: `themes` in the configuration folder.
pub fn themes_folder(config: &Path) -> PathBuf {
    config.join("themes")
}
