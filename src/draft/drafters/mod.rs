//! The drafters, one module each.

pub(super) mod eagle;
pub(super) mod early_exit;
pub(super) mod explore;
pub(crate) mod external;
pub(super) mod mix;
pub(super) mod model;
pub(super) mod ngram;
pub(super) mod none;
pub(super) mod oracle;
pub(super) mod suffix;
