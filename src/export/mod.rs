//! Pictures of what was shown.

mod svg;

pub use svg::svg;
