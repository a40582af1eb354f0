//! Theme files: valid contents, and one-line messages about invalid ones.

use std::fs;

use ratatui::style::{Color, Modifier};
use speclight::tui::theme::{ColorDepth, Role, TerminalAbilities, Theme};

fn load(files: &[(&str, &str)], name: &str, depth: ColorDepth) -> Result<Theme, String> {
    let folder = tempfile::tempdir().unwrap();
    for (file, text) in files {
        fs::write(folder.path().join(file), text).unwrap();
    }
    let terminal =
        TerminalAbilities { depth, ascii: false, folder: Some(folder.path().to_owned()) };
    let place = format!("{}/", folder.path().display());
    Theme::load(name, &terminal).map_err(|e| e.to_string().replace(&place, ""))
}

fn one(text: &str) -> Result<Theme, String> {
    load(&[("own.toml", text)], "own", ColorDepth::True)
}

#[test]
fn bad_themes_are_named_by_file_line_key_and_cure() {
    let cases = [
        ("name = 3", "theme own.toml:1: name: expected a string, found a number without quotes"),
        (
            "\nnme = \"x\"",
            "theme own.toml:2: unknown key `nme`; a theme has name, inherits, glyphs, [palette], and [roles]",
        ),
        (
            "glyphs = \"emoji\"",
            "theme own.toml:1: glyphs: unknown set `emoji`; write \"unicode\" or \"ascii\"",
        ),
        (
            "palette = 1",
            "theme own.toml:1: palette: expected a table [palette], found a number without quotes",
        ),
        (
            "[palette]\n\nred = \"#ff\"",
            "theme own.toml:3: palette.red: `#ff` is not a color; write #rrggbb, an ANSI name such as \"bright-blue\", or \"0\" to \"255\"",
        ),
        (
            "[roles]\n\"token.bonsu\" = \"red\"",
            "theme own.toml:2: roles.token.bonsu: unknown role; the nearest is \"token.bonus\"",
        ),
        (
            "[roles]\n\"base\" = \"chartreuse\"",
            "theme own.toml:2: roles.base: unknown color `chartreuse`; add it to [palette], or write #rrggbb, an ANSI name, or 0 to 255",
        ),
        (
            "[roles]\n\"base\" = { color = \"red\" }",
            "theme own.toml:2: roles.base.color: unknown key; a style has fg, bg, and add",
        ),
        (
            "[roles]\n\"base\" = { add = \"bold\" }",
            "theme own.toml:2: roles.base.add: expected a list such as [\"bold\"], found a string",
        ),
        (
            "[roles]\n\"base\" = { add = [\"blink\"] }",
            "theme own.toml:2: roles.base.add: unknown modifier `blink`; write bold, dim, italic, underline, or reverse",
        ),
        (
            "[roles]\n\"base\" = [1]",
            "theme own.toml:2: roles.base: expected a color or { fg, bg, add }, found a list",
        ),
        (
            "inherits = \"nobody\"",
            "theme own.toml:1: inherits: nobody not found; use one of dark, light, safe-dark, safe-light, contrast, mono, or put nobody.toml into ",
        ),
        ("inherits = \"./own.toml\"", "theme own.toml:1: inherits: ./own.toml can't be read: "),
    ];
    for (text, line) in cases {
        let error = one(text).unwrap_err();
        assert!(
            error.starts_with(line) && !error.contains('\n'),
            "{text:?} gave {error:?}, not {line:?}"
        );
    }
    let error = one("[roles\n").unwrap_err();
    assert!(error.starts_with("theme own.toml:1: not TOML: ") && !error.contains('\n'), "{error}");
    let error = load(&[], "nobody", ColorDepth::True).unwrap_err();
    assert!(
        error.starts_with(
            "theme nobody: not found; use one of dark, light, safe-dark, safe-light, contrast, mono, or put nobody.toml into "
        ),
        "{error}"
    );
    assert!(
        load(&[], "no/such.toml", ColorDepth::True)
            .unwrap_err()
            .starts_with("theme no/such.toml: can't be read: ")
    );
}

#[test]
fn circles_are_named() {
    let circle = load(
        &[("a.toml", "inherits = \"b\""), ("b.toml", "\ninherits = \"a\"")],
        "a",
        ColorDepth::True,
    )
    .unwrap_err();
    assert_eq!(
        circle,
        "theme b.toml:2: inherits: `a` inherits this theme in turn; remove one of the two"
    );
}

#[test]
fn an_heir_recolours_what_it_inherits() {
    let theme = one(
        "inherits = \"dark\"\n[palette]\ngreen = \"#010203\"\n[roles]\n\"token.bonus\" = { fg = \"4\", add = [\"underline\"] }",
    )
    .unwrap();
    assert_eq!(theme.style(Role::Accepted1).fg, Some(Color::Rgb(1, 2, 3)));
    let bonus = theme.style(Role::TokenBonus);
    assert_eq!((bonus.fg, bonus.add_modifier), (Some(Color::Indexed(4)), Modifier::UNDERLINED));
    assert_eq!(theme.name, "own");
    // A file with the name of a built-in theme extends it.
    let dark = load(
        &[("dark.toml", "inherits = \"dark\"\n[palette]\ngreen = \"#040506\"")],
        "dark",
        ColorDepth::True,
    )
    .unwrap();
    assert_eq!(dark.style(Role::Accepted1).fg, Some(Color::Rgb(4, 5, 6)));
}

#[test]
fn missing_roles_fall_back_by_their_dots() {
    let theme = one("[roles]\n\"token\" = \"red\"\n\"token.accepted\" = \"blue\"").unwrap();
    assert_eq!(theme.style(Role::Accepted3).fg, Some(Color::Indexed(4)));
    assert_eq!(theme.style(Role::TokenBonus).fg, Some(Color::Indexed(1)));
    assert_eq!(theme.style(Role::Gauge).fg, None);
}

#[test]
fn themes_fit_the_terminal() {
    for (name, _) in speclight::tui::theme::BUILT_IN {
        for depth in [ColorDepth::None, ColorDepth::Ansi16, ColorDepth::Indexed, ColorDepth::True] {
            let theme = load(&[], name, depth).unwrap();
            for &role in Role::ALL {
                let style = theme.style(role);
                for color in [style.fg, style.bg].into_iter().flatten() {
                    let fits = match (depth, color) {
                        (ColorDepth::None, _) => false,
                        (_, Color::Reset) => true,
                        (ColorDepth::Ansi16, c) => matches!(c, Color::Indexed(0..=15)),
                        (ColorDepth::Indexed, c) => matches!(c, Color::Indexed(_)),
                        (ColorDepth::True, _) => true,
                    };
                    assert!(fits, "{name} {depth:?} {}: {color:?}", role.name());
                }
            }
        }
    }
}

#[test]
fn without_color_mono_is_the_theme() {
    let terminal = |depth| TerminalAbilities { depth, ascii: false, folder: None };
    let names = |chosen, depth| {
        Theme::all(chosen, &terminal(depth))
            .unwrap()
            .into_iter()
            .map(|t| t.name)
            .collect::<Vec<_>>()
    };
    assert_eq!(names(None, ColorDepth::None), ["mono"]);
    assert_eq!(
        names(None, ColorDepth::True),
        ["dark", "light", "safe-dark", "safe-light", "contrast", "mono"]
    );
    assert_eq!(
        names(Some("light"), ColorDepth::Indexed),
        ["light", "dark", "safe-dark", "safe-light", "contrast", "mono"]
    );
    assert_eq!(
        names(Some("dark"), ColorDepth::None),
        ["dark"],
        "who names one gets it, without its colors"
    );
    let mono = Theme::load("mono", &terminal(ColorDepth::None)).unwrap();
    let looks = |role| mono.style(role).add_modifier;
    assert_ne!(looks(Role::Accepted1), looks(Role::TokenBonus));
    assert_ne!(looks(Role::TokenBonus), looks(Role::TokenPlain));
}

#[test]
fn the_locale_chooses_the_glyphs() {
    let ascii = |pairs: &'static [(&'static str, &'static str)], asked| {
        TerminalAbilities::from_env(asked, None, |name| {
            pairs.iter().find(|p| p.0 == name).map(|p| p.1.to_owned())
        })
        .ascii
    };
    assert!(!ascii(&[("LANG", "en_GB.UTF-8")], false));
    assert!(ascii(&[("LANG", "en_GB.UTF-8")], true));
    assert!(ascii(&[("LANG", "C")], false));
    assert!(ascii(&[("LC_ALL", "POSIX"), ("LANG", "en_GB.UTF-8")], false));
    assert!(!ascii(&[("LC_ALL", ""), ("LC_CTYPE", "C.utf8"), ("LANG", "C")], false));
    assert!(
        ascii(&[("LANG", "en_GB.UTF-8"), ("TERM", "linux")], false),
        "the console's fonts have few glyphs"
    );
    assert!(!ascii(&[], false), "a terminal that says nothing is taken for one of today");
}
