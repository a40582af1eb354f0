//! Options of `speclight replay` and `speclight demo`.

use std::path::PathBuf;

use clap::Args;

/// Display options of replays.
#[derive(Args, Clone, Debug)]
pub struct ReplayDisplay {
    /// Speed in steps per second, or full [default: that of config.toml, else as recorded; 4 for the
    /// demo]
    #[arg(long, value_name = "N|full", value_parser = pace, allow_negative_numbers = true)]
    pub pace: Option<PaceOption>,
    /// Number of steps to skip: those before are played at once
    #[arg(long, value_name = "STEP", default_value = "0")]
    pub at: usize,
    /// Color theme: dark, light, safe-dark, safe-light (both for color-blind readers), contrast, mono
    /// or a file [default: dark; mono under NO_COLOR]
    #[arg(long, value_name = "NAME|PATH")]
    pub theme: Option<String>,
    /// Draw with ASCII characters only
    #[arg(long)]
    pub ascii: bool,
    /// Leave the mouse to the terminal
    #[arg(long)]
    pub no_mouse: bool,
    /// Protocol for the tree in pixels while paused: auto, off, kitty, iterm2 or sixel [default: auto]
    #[cfg(feature = "tui")]
    #[arg(long, value_name = "PROTOCOL", value_enum, hide_possible_values = true)]
    pub pixels: Option<crate::tui::PixelChoice>,
    /// Format of pictures taken with the key S: svg or png [default: svg]
    #[cfg(feature = "tui")]
    #[arg(long, value_name = "FORMAT", value_enum, hide_possible_values = true)]
    pub picture: Option<crate::tui::Picture>,
}

/// Options of `speclight replay`.
#[derive(Args, Clone, Debug)]
pub struct ReplayOptions {
    /// Recording made with --record or the R key
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Pace, first step, theme, glyphs, mouse, and pictures.
    #[command(flatten)]
    pub display: ReplayDisplay,
}

/// Options of `speclight demo`.
#[derive(Args, Clone, Debug)]
pub struct DemoOptions {
    /// Pace, first step, theme, glyphs, mouse, and pictures.
    #[command(flatten)]
    pub display: ReplayDisplay,
}

/// Speed given on the command line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PaceOption {
    /// Number of steps per second.
    Steps(f64),
    /// As fast as the screen takes it.
    Full,
}

impl PaceOption {
    /// Returns the pace of the player.
    #[cfg(feature = "tui")]
    pub fn pace(self) -> crate::tui::PlayPace {
        match self {
            PaceOption::Steps(rate) => crate::tui::PlayPace::Steps(rate),
            PaceOption::Full => crate::tui::PlayPace::Full,
        }
    }
}

/// Parses a pace in steps per second, or full.
pub fn pace(text: &str) -> Result<PaceOption, String> {
    if text == "full" {
        return Ok(PaceOption::Full);
    }
    let rate = text.parse::<f64>().ok().filter(|rate| (0.01..=10_000.0).contains(rate));
    rate.map(PaceOption::Steps)
        .ok_or_else(|| "give steps per second from 0.01 to 10000, or full".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paces_are_numbers_or_full() {
        assert_eq!((pace("full"), pace("2.5")), (Ok(PaceOption::Full), Ok(PaceOption::Steps(2.5))));
        for bad in ["", "0", "-1", "NaN", "inf", "fast", "1e9"] {
            assert!(pace(bad).is_err(), "{bad}");
        }
    }
}
