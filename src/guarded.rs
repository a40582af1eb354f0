//! Panic isolation for third-party code that may panic on malformed files.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Returns true if this thread is inside [`guarded`]; panic hooks print nothing then.
pub(crate) fn is_catching_panic() -> bool {
    GUARDED.get()
}

/// Calls `work` and turns a panic into an error with the panic's message.
///
/// Use only for calls that leave no partial state behind, or whose state is discarded on error.
pub(crate) fn catch_panic<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    let before = GUARDED.replace(true);
    let outcome = catch_unwind(AssertUnwindSafe(work));
    GUARDED.set(before);
    outcome.map_err(|panic| panic_message(&*panic))
}

/// Returns the message of a panic payload.
fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("no message").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_error_and_the_guard_ends() {
        let twice = |n: Option<usize>| catch_panic(|| 2 * n.expect("a number"));
        assert_eq!(twice(Some(2)), Ok(4));
        assert_eq!(twice(None), Err("a number".into()));
        assert!(!is_catching_panic());
    }
}
