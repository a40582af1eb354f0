//! Pictures of the screen, taken with a key.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::State;
use crate::tui::export::{Painter, svg};
use crate::tui::theme::Theme;
use crate::tui::views::draw;

/// Format of a picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Picture {
    /// Vector graphics of character cells (SVG).
    #[default]
    Svg,
    /// Pixels, two for each of the smallest readable font.
    Png,
}

impl Picture {
    /// Returns the ending of file names.
    pub fn ending(self) -> &'static str {
        match self {
            Picture::Svg => "svg",
            Picture::Png => "png",
        }
    }

    /// Encodes a screen.
    ///
    /// # Errors
    /// If the encoder fails.
    pub fn encode(self, buffer: &Buffer, theme: &Theme) -> anyhow::Result<Vec<u8>> {
        match self {
            Picture::Svg => Ok(svg(buffer, theme).into_bytes()),
            Picture::Png => {
                Painter::new(2).context("the bundled font is invalid")?.paint(buffer, theme).png()
            }
        }
    }
}

/// Maximum number of pictures in one folder.
const MAX_PICTURES: u32 = 9999;

/// Draws a state of the monitor and saves it as `speclight-NNNN` in `folder`.
///
/// Takes the first number that is free. Returns a line that says what happened.
pub fn save_picture(
    state: &State,
    theme: &Theme,
    area: Rect,
    picture: Picture,
    folder: &Path,
) -> String {
    let area = Rect::new(0, 0, area.width, area.height);
    let mut buffer = Buffer::empty(area);
    draw(state, theme, area, &mut buffer);
    let saved = picture.encode(&buffer, theme).and_then(|bytes| save(&bytes, picture, folder));
    match saved {
        Ok(path) => format!("picture saved: {}", path.display()),
        Err(error) => format!("the picture can't be saved: {error:#}"),
    }
}

fn save(bytes: &[u8], picture: Picture, folder: &Path) -> anyhow::Result<PathBuf> {
    for number in 1..=MAX_PICTURES {
        let path = folder.join(format!("speclight-{number:04}.{}", picture.ending()));
        match OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(mut file) => {
                let written = file.write_all(bytes).and_then(|()| file.sync_all());
                if written.is_err() {
                    let _ = std::fs::remove_file(&path);
                }
                written.with_context(|| path.display().to_string())?;
                return Ok(path);
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        }
    }
    anyhow::bail!("{MAX_PICTURES} pictures are there already: move some")
}
