//! Export of screens as pictures, animations, and pages.

mod animation;
mod cast;
mod html;
mod raster;

pub use super::svg::svg;
pub use animation::Gif;
pub use cast::Cast;
pub use html::{MissRow, Page, html};
pub use raster::{Image, Painter};
