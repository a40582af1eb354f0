//! Findings of `speclight doctor`.

/// Severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Grade {
    Ok,
    /// Slow part, or missing feature that only some users need.
    Warn,
    /// Problem that keeps the program from running.
    Fail,
}

/// One line of the report: a subject, its grade, and the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub grade: Grade,
    pub what: &'static str,
    pub said: String,
}

impl Finding {
    pub fn ok(what: &'static str, said: impl Into<String>) -> Self {
        Self { grade: Grade::Ok, what, said: said.into() }
    }

    /// Returns a warning; `said` ends with the fix.
    pub fn warn(what: &'static str, said: impl Into<String>) -> Self {
        Self { grade: Grade::Warn, what, said: said.into() }
    }

    pub fn fail(what: &'static str, said: impl Into<String>) -> Self {
        Self { grade: Grade::Fail, what, said: said.into() }
    }
}
