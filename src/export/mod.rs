//! Export of screens as pictures.

mod svg;

pub use svg::svg;
