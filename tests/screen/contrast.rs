//! Contrast of the built-in themes, and colors that stay apart for color-blind readers.
//!
//! Contrast is that of WCAG 2.1 (success criterion 1.4.3). Color blindness is simulated by the
//! matrices of Machado, Oliveira and Fernandes (IEEE TVCG 15, 2009) at full severity, in linear
//! RGB. Distances are CIE76 in Lab: a just noticeable one is about 2.

use ratatui::style::{Color, Modifier};

use crate::theme;
use speclight::tui::theme::{BUILT_IN, Role, Theme};

/// Roles of lines and grounds, which carry no information of their own.
const DECORATIVE: [Role; 5] =
    [Role::Frame, Role::Branch, Role::Gauge, Role::LightTrack, Role::PlotBand];

type Rgb = [f64; 3];

/// Returns linear RGB.
fn linear(color: Color) -> Rgb {
    let Color::Rgb(r, g, b) = color else { panic!("{color:?} is not from a palette of #rrggbb") };
    [r, g, b].map(|c| {
        let c = f64::from(c) / 255.0;
        if c <= 0.04045 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) }
    })
}

fn luminance([r, g, b]: Rgb) -> f64 {
    0.2126 * r + 0.7152 * g + 0.0722 * b
}

fn contrast(a: Rgb, b: Rgb) -> f64 {
    let (a, b) = (luminance(a) + 0.05, luminance(b) + 0.05);
    a.max(b) / a.min(b)
}

/// Normal sight, protanopia, deuteranopia, tritanopia.
const SIGHTS: [[Rgb; 3]; 4] = [
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
    [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
];

fn seen(color: Rgb, sight: &[Rgb; 3]) -> Rgb {
    sight.map(|row| (row[0] * color[0] + row[1] * color[1] + row[2] * color[2]).clamp(0.0, 1.0))
}

fn lab([r, g, b]: Rgb) -> Rgb {
    let root = |t: f64| if t > 0.008856 { t.cbrt() } else { 7.787 * t + 16.0 / 116.0 };
    let x = root((0.4124 * r + 0.3576 * g + 0.1805 * b) / 0.95047);
    let y = root(luminance([r, g, b]));
    let z = root((0.0193 * r + 0.1192 * g + 0.9505 * b) / 1.08883);
    [116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)]
}

/// Returns the least distance of two colors for any sight.
fn distance(a: Rgb, b: Rgb) -> f64 {
    let between = |sight| {
        let (a, b) = (lab(seen(a, sight)), lab(seen(b, sight)));
        a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt()
    };
    SIGHTS.iter().map(between).fold(f64::INFINITY, f64::min)
}

fn colored() -> impl Iterator<Item = Theme> {
    BUILT_IN.into_iter().map(|(name, _)| theme(name, false)).filter(|theme| theme.name != "mono")
}

#[test]
fn six_themes_are_built_in_and_mono_has_no_color() {
    assert_eq!(BUILT_IN.len(), 6);
    let mono = theme("mono", false);
    assert!(
        Role::ALL
            .iter()
            .all(|&role| mono.style(role).fg.is_none() && mono.style(role).bg.is_none())
    );
}

#[test]
fn text_stands_out_from_its_ground() {
    let mut low = Vec::new();
    for theme in colored() {
        let base = theme.style(Role::Base);
        let least = if theme.name == "contrast" { 7.0 } else { 4.5 };
        for &role in Role::ALL {
            let style = theme.style(role);
            let (Some(fg), Some(bg)) = (style.fg.or(base.fg), style.bg.or(base.bg)) else {
                panic!("{}", theme.name)
            };
            let found = contrast(linear(fg), linear(bg));
            let least = if DECORATIVE.contains(&role) { 1.5 } else { least };
            // Dimmed on purpose, as the symbols for what can't be printed.
            if found < least && !style.add_modifier.contains(Modifier::DIM) {
                low.push(format!("{} {}: {found:.2} of {least}", theme.name, role.name()));
            }
        }
    }
    assert!(low.is_empty(), "{low:#?}");
}

#[test]
fn the_safe_pair_keeps_colors_apart_for_every_sight() {
    let nodes = [Role::NodeAccepted, Role::NodeRefused, Role::NodeBonus, Role::NodeUnreached];
    let blocks = [Role::BlockAccepted, Role::BlockRejected, Role::BlockBonus, Role::BlockUnreached];
    // In the order of the bar; only neighbors touch.
    let bar = [
        Role::LightReached,
        Role::LightDrafting,
        Role::LightOverhead,
        Role::LightKnowledge,
        Role::LightShape,
        Role::LightBudget,
        Role::LightLuck,
    ];
    for name in ["safe-dark", "safe-light"] {
        let theme = theme(name, false);
        let fg = |role: Role| linear(theme.style(role).fg.unwrap());
        let mut pairs = bar.windows(2).map(|pair| (pair[0], pair[1])).collect::<Vec<_>>();
        for (i, a) in nodes.into_iter().enumerate() {
            pairs.extend(nodes[i + 1..].iter().map(|&b| (a, b)));
        }
        for (a, b) in pairs {
            let found = distance(fg(a), fg(b));
            assert!(found >= 20.0, "{name}: {} and {} differ by {found:.1}", a.name(), b.name());
        }
        for (i, a) in blocks.into_iter().enumerate() {
            for &b in &blocks[i + 1..] {
                let ground = |role: Role| linear(theme.style(role).bg.unwrap());
                let found = distance(ground(a), ground(b));
                assert!(found >= 5.0, "{name}: {} and {} differ by {found:.1}", a.name(), b.name());
            }
        }
    }
    // The test sees what it is for: red and green of the default theme come close.
    let dark = theme("dark", false);
    let of = |role: Role| linear(dark.style(role).fg.unwrap());
    let apart = distance(of(Role::NodeAccepted), of(Role::NodeRefused));
    assert!(apart < 20.0, "{apart}");
}
