//! Presets: named settings that the palette applies at once.

/// Named settings of `presets.toml`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preset {
    /// Name, as the user gives it.
    pub name: String,
    /// Settings and their values as text, in the order of the file.
    pub settings: Vec<(String, String)>,
}
