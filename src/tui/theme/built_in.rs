//! Themes that are built into the program.

/// Built-in themes: name and TOML source.
pub const BUILT_IN: [(&str, &str); 6] = [
    ("dark", include_str!("../../../themes/dark.toml")),
    ("light", include_str!("../../../themes/light.toml")),
    ("safe-dark", include_str!("../../../themes/safe-dark.toml")),
    ("safe-light", include_str!("../../../themes/safe-light.toml")),
    ("contrast", include_str!("../../../themes/contrast.toml")),
    ("mono", include_str!("../../../themes/mono.toml")),
];
