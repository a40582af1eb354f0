//! Icicle in pixels: exact widths, and labels where they fit.

use super::nodes::{NodeOutcome, Picture};
use super::token::token;
use crate::tui::export::{Image, Painter};
use crate::tui::views::number::probability;
use crate::tui::views::pen::Pen;

/// Longest text of a token in a label, in columns.
const LONGEST_TOKEN: usize = 32;

type Rgb = (u8, u8, u8);

/// Horizontal extent of a node, as fractions of the full width.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Extent {
    pub(super) from: f64,
    pub(super) to: f64,
}

impl Extent {
    /// Returns the first column and the one after the last, of `width` columns.
    pub(super) fn columns(self, width: usize) -> (usize, usize) {
        let column = |x: f64| ((x * width as f64).round() as usize).min(width);
        (column(self.from), column(self.to))
    }
}

/// Returns the horizontal extent of every node.
///
/// Children are side by side below their parent, from its left end.
pub(super) fn extents(picture: &Picture) -> Vec<Extent> {
    let mut extents = vec![Extent::default(); picture.nodes.len()];
    extents[0].to = 1.0;
    let mut stack = vec![0];
    while let Some(node) = stack.pop() {
        let (mut from, end) = (extents[node].from, extents[node].to);
        for &child in &picture.children[node] {
            let to = (from + picture.nodes[child].pi).min(end);
            extents[child] = Extent { from, to };
            from = to;
            stack.push(child);
        }
    }
    extents
}

/// Block of a node, with its colors.
pub(super) struct PixelBlock {
    extent: Extent,
    /// Level below the root, from 0.
    level: usize,
    fill: Rgb,
    text: Rgb,
    /// Color of a label that stands beside its block.
    beside: Rgb,
    /// Draws the outline alone.
    outline: bool,
    emitted: bool,
    /// Labels of the first row, longest first.
    labels: Vec<String>,
    /// Label of the second row.
    second: String,
}

/// Returns the blocks of the nodes in `order`, down to a depth of `levels`.
pub(super) fn pixel_blocks(
    picture: &Picture,
    extents: &[Extent],
    order: &[usize],
    levels: usize,
    unproposed: &str,
    pen: &Pen,
) -> Vec<PixelBlock> {
    let nodes = order.iter().filter(|&&i| picture.nodes[i].depth <= levels);
    nodes
        .map(|&i| {
            let node = &picture.nodes[i];
            let (mark, role) = node.outcome.style(pen.glyphs());
            let block = pen.pixel_style(node.outcome.block());
            let outline = node.outcome == NodeOutcome::Oracle;
            let beside = pen.pixel_style(role).fg;
            let text = token(node.text, pen, LONGEST_TOKEN);
            let p = node.p.map_or_else(String::new, |p| probability(p).trim().to_owned());
            let mut labels = vec![format!("{mark} {text} {p}"), format!("{mark} {text}")];
            labels.push(if node.outcome.emitted() { mark.to_owned() } else { text });
            let q = node.q.map(|q| format!("q {}", probability(q).trim()));
            PixelBlock {
                extent: extents[i],
                level: node.depth - 1,
                // A block without a color of its own has that of its mark.
                fill: if block.bg == pen.background() { beside } else { block.bg },
                text: if outline { beside } else { block.fg },
                beside,
                outline,
                emitted: node.outcome.emitted(),
                labels,
                second: q.unwrap_or_else(|| unproposed.to_owned()),
            }
        })
        .collect()
}

/// Paints blocks; each level takes `rows` rows of cells.
///
/// `size` and `cell` are the width and height of the picture and of a cell, in pixels.
pub(super) fn paint(
    blocks: &[PixelBlock],
    rows: usize,
    background: Rgb,
    painter: &mut Painter,
    [width, height]: [usize; 2],
    cell: [usize; 2],
) -> Image {
    let mut image = Image::new(width, height, background);
    let (level_height, gap) = (rows * cell[1], (cell[1] / 16).max(1));
    let sides = |block: &PixelBlock| {
        let at = |x: f64| ((x * width as f64).round() as usize).min(width);
        let (from, to) = (at(block.extent.from), at(block.extent.to));
        match block.emitted {
            // However improbable, an emitted token is seen.
            true => (from.min(width - 1), to.max(from.min(width - 1) + 3 * gap).min(width)),
            false => (from, to),
        }
    };
    for block in blocks {
        let (from, to) = sides(block);
        let wide = to.saturating_sub(from + gap);
        if wide == 0 {
            continue;
        }
        let (top, tall) = (block.level * level_height, level_height - gap);
        if block.outline {
            for side in [
                [from, top, wide, gap],
                [from, top + tall - gap, wide, gap],
                [from, top, gap, tall],
                [from + wide - gap.min(wide), top, gap.min(wide), tall],
            ] {
                image.fill(side, block.fill, 1.0);
            }
        } else {
            image.fill([from, top, wide, tall], block.fill, 1.0);
        }
    }
    // Labels last: one may stand beside its block.
    for block in blocks {
        let (from, to) = sides(block);
        let level = blocks.iter().filter(|other| other.level == block.level);
        let next = level.map(|other| sides(other).0).filter(|&other| other >= to).min();
        let top = block.level * level_height;
        let fits = |label: &str, room: usize| painter.width(label) + 4 * gap <= room;
        let inside = block.labels.iter().find(|label| fits(label, to - from.min(to)));
        let beside = block
            .labels
            .iter()
            .find(|label| block.emitted && fits(label, next.unwrap_or(width).saturating_sub(to)));
        let (x, label, color) = match (inside, beside) {
            (Some(label), _) => (from + 2 * gap, label.clone(), block.text),
            (None, Some(label)) => (to + 2 * gap, label.clone(), block.beside),
            (None, None) => continue,
        };
        let second = (rows > 1 && inside.is_some() && fits(&block.second, to - from))
            .then(|| block.second.clone());
        painter.write(&mut image, (x, top), cell, &label, color);
        if let Some(second) = second {
            painter.write(&mut image, (x, top + cell[1]), cell, &second, color);
        }
    }
    image
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn block(from: f64, to: f64, level: usize, fill: Rgb) -> PixelBlock {
        PixelBlock {
            extent: Extent { from, to },
            level,
            fill,
            text: (0, 0, 0),
            beside: (9, 9, 9),
            outline: false,
            emitted: false,
            labels: vec!["too long".repeat(50)],
            second: String::new(),
        }
    }

    #[test]
    fn areas_are_path_probabilities() {
        let (red, blue, black) = ((255, 0, 0), (0, 0, 255), (1, 2, 3));
        let mut painter = Painter::new(1).unwrap();
        let blocks = [block(0.0, 0.7, 0, red), block(0.0, 0.35, 1, blue)];
        let image = paint(&blocks, 1, black, &mut painter, [1000, 36], [10, 18]);
        assert_eq!((image.width, image.height), (1000, 36));
        let count = |color: Rgb, rows: std::ops::Range<usize>| {
            let pixels = image.pixels[3 * 1000 * rows.start..3 * 1000 * rows.end].chunks(3);
            pixels.filter(|pixel| *pixel == [color.0, color.1, color.2]).count()
        };
        // One pixel at the right and at the bottom separates blocks.
        assert_eq!((count(red, 0..18), count(blue, 18..36)), (699 * 17, 349 * 17));
        assert_eq!(count(black, 0..36), 36_000 - 699 * 17 - 349 * 17);
    }
}
