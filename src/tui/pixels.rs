//! Pictures in pixels over the cells of a pane, for terminals that show them.
//!
//! A view draws its text as ever, and asks for a picture over it. After the frame, [`Pixels::finish`]
//! gives what the terminal needs to show that picture, or to remove the one before. No terminal is
//! asked what it can do, since its answer would arrive among the keys: protocols come from the names
//! that terminals set, or from the user.

use std::collections::HashMap;
use std::fmt::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ratatui::layout::Rect;

use super::export::{Image, Painter};

/// Number of the first picture in kitty's protocol; a picture replaces the one of the same number.
const KITTY_IMAGE: usize = 7_741;
/// Height of a cell in pixels for which the font has its own size.
const FONT_HEIGHT: usize = 18;
/// Longest piece of data in one command of kitty's protocol, in bytes.
const KITTY_PIECE: usize = 4096;

/// Protocol by which a terminal takes pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PixelProtocol {
    /// Graphics protocol of kitty, also of Ghostty.
    Kitty,
    /// Inline images of iTerm2, also of WezTerm.
    Iterm2,
    /// Sixel graphics of DEC terminals, as in foot, mlterm, and xterm.
    Sixel,
}

/// Choice of the user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PixelChoice {
    /// Protocol by the name of the terminal.
    #[default]
    Auto,
    /// Characters, and no pictures.
    Off,
    /// Graphics protocol of kitty.
    Kitty,
    /// Inline images of iTerm2.
    Iterm2,
    /// Sixel graphics of DEC.
    Sixel,
}

impl PixelChoice {
    /// Returns the protocol to use; `None` for characters only.
    ///
    /// `var` returns environment variables. Inside tmux and screen, which pass no pictures on, only
    /// the user's own choice gives one.
    pub fn protocol(self, var: impl Fn(&str) -> Option<String>) -> Option<PixelProtocol> {
        let is = |name: &str, starts: &[&str]| {
            var(name).is_some_and(|value| starts.iter().any(|start| value.starts_with(start)))
        };
        match self {
            PixelChoice::Off => None,
            PixelChoice::Kitty => Some(PixelProtocol::Kitty),
            PixelChoice::Iterm2 => Some(PixelProtocol::Iterm2),
            PixelChoice::Sixel => Some(PixelProtocol::Sixel),
            PixelChoice::Auto => match () {
                () if is("TMUX", &["/"]) || is("TERM", &["tmux", "screen", "dumb"]) => None,
                () if is("TERM", &["xterm-kitty", "xterm-ghostty"])
                    || is("TERM_PROGRAM", &["ghostty"]) =>
                {
                    Some(PixelProtocol::Kitty)
                }
                () if is("TERM_PROGRAM", &["iTerm", "WezTerm"]) => Some(PixelProtocol::Iterm2),
                () if is("TERM", &["foot", "mlterm"]) => Some(PixelProtocol::Sixel),
                () => None,
            },
        }
    }
}

/// Picture over an area of cells.
#[derive(Clone, Debug, PartialEq)]
struct Placed {
    area: Rect,
    image: Image,
}

/// What changes from frame to frame.
#[derive(Default)]
struct Frame {
    /// Width and height of a cell in pixels; `None` if the terminal doesn't say.
    cell: Option<(u16, u16)>,
    /// Pictures that the present frame asks for.
    wanted: Vec<Placed>,
    /// Pictures on the terminal.
    shown: Vec<Placed>,
    /// Set if all cells were drawn again since then.
    stale: bool,
    /// Painter, and the number of pixels per pixel of its font.
    painter: Option<(usize, Painter)>,
}

/// Pictures of one terminal.
pub struct Pixels {
    protocol: PixelProtocol,
    frame: Mutex<Frame>,
}

/// What to do after a frame.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PixelUpdate {
    /// Text to write, each with the column and row of the cursor.
    pub writes: Vec<((u16, u16), String)>,
    /// Draw all cells again: a picture covers them that is not wanted anymore.
    pub redraw: bool,
}

impl fmt::Debug for Pixels {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_struct("Pixels").field("protocol", &self.protocol).finish_non_exhaustive()
    }
}

impl Pixels {
    /// Creates the pictures of a terminal that shows none yet.
    pub fn new(protocol: PixelProtocol) -> Arc<Pixels> {
        Arc::new(Pixels { protocol, frame: Mutex::default() })
    }

    fn frame(&self) -> MutexGuard<'_, Frame> {
        self.frame.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a frame on a terminal whose cells have this width and height in pixels.
    pub fn begin(&self, cell: Option<(u16, u16)>) {
        let mut frame = self.frame();
        frame.cell = cell.filter(|(width, height)| *width >= 4 && *height >= 8);
        frame.wanted.clear();
    }

    /// Asks for a picture over `area`, which `paint` draws.
    ///
    /// `paint` gets the picture's width and height and those of a cell, in pixels. Without the size
    /// of cells there is no picture.
    pub fn show(
        &self,
        area: Rect,
        paint: impl FnOnce(&mut Painter, [usize; 2], [usize; 2]) -> Image,
    ) {
        let mut frame = self.frame();
        let Some((width, height)) = frame.cell else { return };
        let cell = [usize::from(width), usize::from(height)];
        let size = [usize::from(area.width) * cell[0], usize::from(area.height) * cell[1]];
        if area.is_empty() {
            return;
        }
        let scale = (cell[1] + FONT_HEIGHT / 2) / FONT_HEIGHT;
        if frame.painter.as_ref().is_none_or(|(own, _)| *own != scale) {
            frame.painter = Painter::new(scale).map(|painter| (scale, painter));
        }
        let Some((_, painter)) = &mut frame.painter else { return };
        let image = paint(painter, size, cell);
        frame.wanted.push(Placed { area, image });
    }

    /// Ends a frame that was drawn, and returns what the terminal needs.
    pub fn finish(&self) -> PixelUpdate {
        let mut frame = self.frame();
        let stale = std::mem::take(&mut frame.stale);
        let before = std::mem::take(&mut frame.shown);
        let is_kitty = self.protocol == PixelProtocol::Kitty;
        let moved = before
            .iter()
            .enumerate()
            .any(|(slot, old)| frame.wanted.get(slot).is_none_or(|new| new.area != old.area));
        if moved && !is_kitty && !stale {
            // Only cells that are drawn again erase a picture.
            return PixelUpdate { redraw: true, ..PixelUpdate::default() };
        }
        let mut update = PixelUpdate::default();
        for (slot, new) in frame.wanted.iter().enumerate() {
            let same = before.get(slot) == Some(new) && !stale;
            let text = (!same).then(|| escape(self.protocol, slot, new)).flatten();
            update.writes.extend(text.map(|text| ((new.area.x, new.area.y), text)));
        }
        if is_kitty {
            let gone = frame.wanted.len()..before.len();
            update.writes.extend(gone.map(|slot| {
                let id = KITTY_IMAGE + slot;
                ((0, 0), format!("\x1b_Ga=d,d=I,i={id},q=2\x1b\\"))
            }));
        }
        frame.shown = std::mem::take(&mut frame.wanted);
        update
    }

    /// Notes that all cells are drawn again, which may erase the picture.
    pub fn forget(&self) {
        self.frame().stale = true;
    }
}

/// Returns the escape sequence that shows a picture from the cursor on, without moving the text.
fn escape(protocol: PixelProtocol, slot: usize, Placed { image, area }: &Placed) -> Option<String> {
    match protocol {
        PixelProtocol::Kitty => {
            image.png().ok().map(|png| kitty(&STANDARD.encode(png), slot, *area))
        }
        PixelProtocol::Iterm2 => image.png().ok().map(|png| {
            format!(
                "\x1b]1337;File=inline=1;size={};width={};height={};preserveAspectRatio=0:{}\x07",
                png.len(),
                area.width,
                area.height,
                STANDARD.encode(&png)
            )
        }),
        PixelProtocol::Sixel => Some(sixel(image)),
    }
}

/// Writes a PNG file, encoded in base64, in kitty's protocol.
///
/// Transmits and places it over `area` (`a=T`), without moving the cursor (`C=1`) and without an
/// answer (`q=2`). See <https://sw.kovidgoyal.net/kitty/graphics-protocol>.
fn kitty(data: &str, slot: usize, area: Rect) -> String {
    let mut out = String::with_capacity(data.len() + data.len() / 64);
    let pieces = data.len().div_ceil(KITTY_PIECE).max(1);
    for piece in 0..pieces {
        let part = &data[piece * KITTY_PIECE..data.len().min((piece + 1) * KITTY_PIECE)];
        let more = u8::from(piece + 1 < pieces);
        out.push_str("\x1b_G");
        if piece == 0 {
            let Rect { width, height, .. } = area;
            let _ = write!(
                out,
                "a=T,f=100,i={},p=1,c={width},r={height},C=1,q=2,m={more}",
                KITTY_IMAGE + slot
            );
        } else {
            let _ = write!(out, "m={more},q=2");
        }
        let _ = write!(out, ";{part}\x1b\\");
    }
    out
}

/// Writes a picture as sixels, in the 216 colors of a cube of 6 levels.
///
/// Each character holds six rows of one column in one color; `!n` repeats it n times, `$` returns to
/// the first column, `-` begins the next six rows (DEC, VT330/VT340 Programmer Reference Manual,
/// chapter 14).
fn sixel(image: &Image) -> String {
    let level = |value: u8| (usize::from(value) * 5 + 127) / 255;
    let color = |x: usize, y: usize| {
        let at = 3 * (y * image.width + x);
        let [r, g, b] = [0, 1, 2].map(|i| level(image.pixels[at + i]));
        36 * r + 6 * g + b
    };
    let mut out = format!("\x1bP0;1;0q\"1;1;{};{}", image.width, image.height);
    let mut used = [false; 216];
    (0..image.height).for_each(|y| (0..image.width).for_each(|x| used[color(x, y)] = true));
    for (index, _) in used.iter().enumerate().filter(|(_, used)| **used) {
        let percent = |level: usize| 20 * level;
        let (r, g, b) = (percent(index / 36), percent(index / 6 % 6), percent(index % 6));
        let _ = write!(out, "#{index};2;{r};{g};{b}");
    }
    for top in (0..image.height).step_by(6) {
        let rows = top..(top + 6).min(image.height);
        // Six bits per column of each color in this band.
        let mut columns: HashMap<usize, Vec<u8>> = HashMap::new();
        for (bit, y) in rows.enumerate() {
            for x in 0..image.width {
                columns.entry(color(x, y)).or_insert_with(|| vec![0; image.width])[x] |= 1 << bit;
            }
        }
        let mut colors: Vec<usize> = columns.keys().copied().collect();
        colors.sort_unstable();
        for (i, index) in colors.iter().enumerate() {
            let _ = write!(out, "{}#{index}", if i > 0 { "$" } else { "" });
            for run in columns[index].chunk_by(|a, b| a == b) {
                let sign = char::from(63 + run[0]);
                match run.len() {
                    1..=3 => out.extend(run.iter().map(|_| sign)),
                    n => drop(write!(out, "!{n}{sign}")),
                }
            }
        }
        out.push('-');
    }
    out.push_str("\x1b\\");
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn image(width: usize, height: usize) -> Image {
        // Noise, which doesn't compress (xorshift).
        let mut state = 7u32;
        let shade = |_| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            (state >> 11) as u8
        };
        let pixels = (0..3 * width * height).map(shade).collect();
        Image { width, height, pixels }
    }

    #[test]
    fn protocols_come_from_names_and_from_the_user() {
        let found = |choice: PixelChoice, vars: &[(&str, &str)]| {
            choice.protocol(|name| {
                let var = vars.iter().find(|(own, _)| *own == name);
                var.map(|(_, value)| (*value).to_owned())
            })
        };
        use PixelChoice::{Auto, Kitty, Off, Sixel};
        let kitty = ("TERM", "xterm-kitty");
        for (choice, vars, protocol) in [
            (Auto, &[kitty][..], Some(PixelProtocol::Kitty)),
            (Auto, &[kitty, ("TMUX", "/tmp/tmux")], None),
            (Kitty, &[("TMUX", "/tmp/tmux")], Some(PixelProtocol::Kitty)),
            (Auto, &[("TERM", "foot-extra")], Some(PixelProtocol::Sixel)),
            (Auto, &[("TERM_PROGRAM", "WezTerm")], Some(PixelProtocol::Iterm2)),
            (Auto, &[("TERM", "xterm-256color")], None),
            (Auto, &[], None),
            (Sixel, &[], Some(PixelProtocol::Sixel)),
            (Off, &[kitty], None),
        ] {
            assert_eq!(found(choice, vars), protocol, "{choice:?} {vars:?}");
        }
    }

    #[test]
    fn a_picture_is_sent_once_and_removed_when_it_is_not_wanted() {
        let area = Rect::new(2, 3, 5, 2);
        let frame = |pixels: &Pixels, shown: bool, shade: u8| {
            pixels.begin(Some((8, 16)));
            if shown {
                pixels.show(area, |_, [width, height], cell| {
                    assert_eq!(([width, height], cell), ([40, 32], [8, 16]));
                    Image { width, height, pixels: vec![shade; 3 * width * height] }
                });
            }
            pixels.finish()
        };
        let none = PixelUpdate::default();
        for protocol in [PixelProtocol::Kitty, PixelProtocol::Iterm2, PixelProtocol::Sixel] {
            let pixels = Pixels::new(protocol);
            assert_eq!(frame(&pixels, false, 0), none);
            let first = frame(&pixels, true, 0);
            assert!(!first.redraw && first.writes.len() == 1 && first.writes[0].0 == (2, 3));
            assert!(first.writes[0].1.starts_with('\x1b'));
            assert_eq!(frame(&pixels, true, 0), none);
            assert_ne!(frame(&pixels, true, 99).writes, first.writes);
            let removed = frame(&pixels, false, 0);
            match protocol {
                PixelProtocol::Kitty => assert!(removed.writes[0].1.contains("a=d,d=I")),
                _ => assert!(removed.redraw && removed.writes.is_empty()),
            }
            assert_eq!(frame(&pixels, false, 0), none);
            // After all cells were drawn again, the picture is sent again.
            assert_eq!(frame(&pixels, true, 0), first);
            pixels.forget();
            assert_eq!(frame(&pixels, true, 0), first);
            assert_eq!(frame(&pixels, true, 0), none);
            // Cells of unknown size.
            pixels.begin(None);
            pixels.show(area, |_, _, _| unreachable!());
        }
    }

    #[test]
    fn kitty_gets_the_file_in_pieces() {
        let png = image(90, 80).png().unwrap();
        let text = kitty(&STANDARD.encode(&png), 0, Rect::new(0, 0, 9, 4));
        let commands: Vec<&str> = text.split("\x1b\\").filter(|part| !part.is_empty()).collect();
        assert!(commands.len() > 1 && commands[0].contains("c=9,r=4,C=1"));
        let data: String = commands
            .iter()
            .map(|command| command.strip_prefix("\x1b_G").unwrap().split_once(';').unwrap().1)
            .collect();
        assert_eq!(STANDARD.decode(data).unwrap(), png);
        let more = |command: &str| command.contains("m=1");
        assert!(commands[..commands.len() - 1].iter().all(|command| more(command)));
        assert!(!more(commands[commands.len() - 1]));
    }

    /// Decodes sixels and compares every pixel, rounded to the cube of colors.
    #[test]
    fn sixels_hold_every_pixel() {
        let image = image(37, 20);
        let text = sixel(&image);
        let body =
            text.strip_prefix("\x1bP0;1;0q\"1;1;37;20").unwrap().strip_suffix("\x1b\\").unwrap();
        let mut pixels = vec![None; 37 * 20];
        let (mut x, mut band, mut color, mut at) = (0, 0, 0, 0);
        let number = |at: &mut usize| {
            let end = body[*at..].find(|c: char| !c.is_ascii_digit()).unwrap();
            let number: usize = body[*at..*at + end].parse().unwrap();
            *at += end;
            number
        };
        while at < body.len() {
            let c = body[at..].chars().next().unwrap();
            at += 1;
            match c {
                '#' => {
                    color = number(&mut at);
                    // A definition also has r, g, and b in percent.
                    at += body[at..].find(|c: char| c != ';' && !c.is_ascii_digit()).unwrap();
                }
                '$' => x = 0,
                '-' => (x, band) = (0, band + 1),
                c => {
                    let (count, sign) = match c {
                        '!' => {
                            let count = number(&mut at);
                            at += 1;
                            (count, body.as_bytes()[at - 1])
                        }
                        c => (1, c as u8),
                    };
                    for _ in 0..count {
                        for bit in (0..6).filter(|bit| (sign - 63) >> bit & 1 == 1) {
                            pixels[(6 * band + bit) * 37 + x] = Some(color);
                        }
                        x += 1;
                    }
                }
            }
        }
        for (i, found) in pixels.iter().enumerate() {
            let level = |value: u8| (f64::from(value) / 51.0).round() as usize;
            let [r, g, b] = [0, 1, 2].map(|c| level(image.pixels[3 * i + c]));
            assert_eq!(*found, Some(36 * r + 6 * g + b), "pixel {i}");
        }
    }
}
