//! Animated GIF of a replay.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::Write;
use std::time::Duration;

use anyhow::Context;

use super::raster::Image;

/// Maximum number of colors of a frame.
const COLORS: usize = 256;
/// Time for which the last frame is shown.
const LAST: Duration = Duration::from_secs(4);
/// Shortest time of a frame that viewers respect.
const SHORTEST: u16 = 2;

/// Writer of an animated GIF that repeats forever.
///
/// Each frame holds only the rectangle that changed.
pub struct Gif<W: Write> {
    encoder: gif::Encoder<W>,
    /// Last frame, with the time at which it starts.
    shown: Option<(Image, Duration)>,
    /// Frame to write, which waits for its duration.
    waiting: Option<gif::Frame<'static>>,
    width: usize,
    height: usize,
}

impl<W: Write> Gif<W> {
    /// Writes the head of the file.
    ///
    /// # Errors
    /// If the picture is larger than the format allows, or the output can't be written.
    pub fn new(out: W, width: usize, height: usize) -> anyhow::Result<Gif<W>> {
        let side = |pixels: usize| {
            u16::try_from(pixels)
                .context("the picture is too large for a GIF: make the screen smaller")
        };
        let mut encoder = gif::Encoder::new(out, side(width)?, side(height)?, &[])?;
        encoder.set_repeat(gif::Repeat::Infinite)?;
        Ok(Gif { encoder, shown: None, waiting: None, width, height })
    }

    /// Adds a frame that starts at this time. A frame equal to the last one adds nothing.
    ///
    /// # Errors
    /// If the output can't be written.
    pub fn frame(&mut self, at: Duration, image: Image) -> anyhow::Result<()> {
        let area = match &self.shown {
            None => Some([0, 0, self.width, self.height]),
            Some((before, _)) => changed(before, &image),
        };
        let Some([left, top, width, height]) = area else { return Ok(()) };
        self.flush(at)?;
        let mut cut = Vec::with_capacity(3 * width * height);
        for row in top..top + height {
            cut.extend_from_slice(&image.pixels[3 * (row * image.width + left)..][..3 * width]);
        }
        let (buffer, palette) = indexed(&cut);
        self.waiting = Some(gif::Frame {
            left: left as u16,
            top: top as u16,
            width: width as u16,
            height: height as u16,
            palette: Some(palette),
            buffer: Cow::Owned(buffer),
            dispose: gif::DisposalMethod::Keep,
            ..gif::Frame::default()
        });
        self.shown = Some((image, at));
        Ok(())
    }

    /// Writes the waiting frame, which ends at this time.
    fn flush(&mut self, until: Duration) -> anyhow::Result<()> {
        if let (Some(mut frame), Some((_, since))) = (self.waiting.take(), &self.shown) {
            let hundredths = until.saturating_sub(*since).as_millis() / 10;
            frame.delay = u16::try_from(hundredths).unwrap_or(u16::MAX).max(SHORTEST);
            self.encoder.write_frame(&frame)?;
        }
        Ok(())
    }

    /// Writes the last frame and the end of the file.
    ///
    /// # Errors
    /// If the output can't be written.
    pub fn finish(mut self) -> anyhow::Result<()> {
        let end = self.shown.as_ref().map_or(Duration::ZERO, |(_, since)| *since + LAST);
        self.flush(end)?;
        self.encoder.into_inner()?.flush()?;
        Ok(())
    }
}

/// Returns the rectangle in which two pictures of one size differ: left, top, width, height.
fn changed(before: &Image, after: &Image) -> Option<[usize; 4]> {
    let row = 3 * after.width;
    let differs =
        |y: &usize| before.pixels[y * row..(y + 1) * row] != after.pixels[y * row..(y + 1) * row];
    let top = (0..after.height).find(differs)?;
    let bottom = (top..after.height).rev().find(differs)?;
    let (mut left, mut right) = (after.width, 0);
    for y in top..=bottom {
        let pixel = |x: usize| 3 * (y * after.width + x);
        let differs = |x: &usize| {
            before.pixels[pixel(*x)..pixel(x + 1)] != after.pixels[pixel(*x)..pixel(x + 1)]
        };
        if let Some(first) = (0..after.width).find(differs) {
            left = left.min(first);
            right = right.max((first..after.width).rev().find(differs).unwrap_or(first));
        }
    }
    Some([left, top, right + 1 - left, bottom + 1 - top])
}

/// Returns the pixels as indexes into a palette, and the palette.
///
/// Pictures of more than 256 colors lose low bits, of blue first, until they have few enough.
fn indexed(pixels: &[u8]) -> (Vec<u8>, Vec<u8>) {
    for lost in 0..24u32 {
        let mask = |later| 0xffu8.checked_shl((lost + later) / 3).unwrap_or(0);
        let (red, green, blue) = (mask(1), mask(0), mask(2));
        let mut known: HashMap<[u8; 3], u8> = HashMap::new();
        let (mut palette, mut indexes) = (Vec::new(), Vec::with_capacity(pixels.len() / 3));
        let all = pixels.chunks_exact(3).all(|p| {
            let color = [p[0] & red, p[1] & green, p[2] & blue];
            let count = known.len();
            if !known.contains_key(&color) && count == COLORS {
                return false;
            }
            let index = *known.entry(color).or_insert_with(|| {
                // The first color of the group stands for all.
                palette.extend_from_slice(p);
                count as u8
            });
            indexes.push(index);
            true
        });
        if all {
            return (indexes, palette);
        }
    }
    (vec![0; pixels.len() / 3], vec![0; 3])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn image(width: usize, height: usize, color: impl Fn(usize, usize) -> [u8; 3]) -> Image {
        let pixels = (0..height)
            .flat_map(|y| (0..width).map(move |x| (x, y)))
            .flat_map(|(x, y)| color(x, y))
            .collect();
        Image { width, height, pixels }
    }

    #[test]
    fn frames_decode_to_the_pictures_that_went_in() {
        let first = image(20, 10, |x, y| [x as u8, y as u8, 7]);
        let second = image(20, 10, |x, y| {
            if (x, y) == (3, 4) || (x, y) == (5, 6) { [200, 0, 0] } else { [x as u8, y as u8, 7] }
        });
        let mut out = Vec::new();
        let mut gif = Gif::new(&mut out, 20, 10).unwrap();
        gif.frame(Duration::ZERO, first.clone()).unwrap();
        gif.frame(Duration::from_millis(100), first.clone()).unwrap();
        gif.frame(Duration::from_millis(500), second.clone()).unwrap();
        gif.finish().unwrap();
        let mut options = gif::DecodeOptions::new();
        options.set_color_output(gif::ColorOutput::RGBA);
        let mut decoder = options.read_info(&out[..]).unwrap();
        let mut canvas = vec![0; 4 * 20 * 10];
        let mut frames = Vec::new();
        while let Some(frame) = decoder.read_next_frame().unwrap() {
            let (left, top, width) =
                (usize::from(frame.left), usize::from(frame.top), usize::from(frame.width));
            for (i, pixel) in frame.buffer.chunks_exact(4).enumerate() {
                let at = 4 * ((top + i / width) * 20 + left + i % width);
                canvas[at..at + 4].copy_from_slice(pixel);
            }
            let rgb: Vec<u8> = canvas.chunks_exact(4).flat_map(|p| p[..3].to_vec()).collect();
            frames.push((frame.delay, [left, top, width, usize::from(frame.height)], rgb));
        }
        assert_eq!(frames[0], (50, [0, 0, 20, 10], first.pixels));
        assert_eq!(frames[1], (400, [3, 4, 3, 3], second.pixels));
        assert_eq!(frames.len(), 2);
    }

    #[test]
    fn pictures_of_many_colors_get_at_most_256() {
        let many = image(64, 64, |x, y| [4 * x as u8, 4 * y as u8, (x * y) as u8]);
        let (indexes, palette) = indexed(&many.pixels);
        assert_eq!(indexes.len(), 64 * 64);
        assert!(palette.len() <= 3 * COLORS && palette.len() > 3 * 64);
        for (i, &index) in indexes.iter().enumerate() {
            let (shown, real) =
                (&palette[3 * usize::from(index)..][..3], &many.pixels[3 * i..][..3]);
            assert!(shown.iter().zip(real).all(|(a, b)| a.abs_diff(*b) < 64), "{shown:?} {real:?}");
        }
    }
}
