//! Calls into code of others that may panic on hostile files: the panic becomes an error.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is within [`guarded`]: hooks print nothing then.
pub(crate) fn is_guarded() -> bool {
    GUARDED.get()
}

/// Calls `work`; what it says when it panics is the error.
///
/// For calls that leave nothing half done behind, or whose remains are not used after an error.
pub(crate) fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    let before = GUARDED.replace(true);
    let outcome = catch_unwind(AssertUnwindSafe(work));
    GUARDED.set(before);
    outcome.map_err(|panic| message(&*panic))
}

/// The message of a panic.
pub(crate) fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("no message").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_error_and_the_guard_ends() {
        let twice = |n: Option<usize>| guarded(|| 2 * n.expect("a number"));
        assert_eq!(twice(Some(2)), Ok(4));
        assert_eq!(twice(None), Err("a number".into()));
        assert!(!is_guarded());
    }
}
