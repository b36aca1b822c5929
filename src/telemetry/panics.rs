//! Panics: a line of the log for each, like any other line, and none for those that somebody expects.
//!
//! Owns: the process's panic hook. Refuses to end or to go on: whoever runs the code does. Neighbours: `worker` and `app` say which
//! service a panic ends; `kafka` expects those of its binding.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};

thread_local! {
    static EXPECTED: Cell<bool> = const { Cell::new(false) };
}

/// Lets panics be said in the log from now on.
pub(super) fn start() {
    std::panic::set_hook(Box::new(|panic| {
        if !EXPECTED.get() {
            say(panic);
        }
    }));
}

fn say(panic: &PanicHookInfo<'_>) {
    let place = panic.location().map(ToString::to_string);
    let thread = std::thread::current();
    // Only if the environment asks for it.
    let trace = Backtrace::capture();
    let trace = (trace.status() == BacktraceStatus::Captured).then(|| trace.to_string());
    let why = panic.payload_as_str().unwrap_or("no text");
    tracing::error!(thread = thread.name(), place, trace, "a thread panicked, which is a bug: {why}");
}

/// What `doubtful` gives; nothing if it panics, of which nothing is said. For a library that panics at bytes which anybody can
/// write: a line for each would be a flood.
pub fn expected<T>(doubtful: impl FnOnce() -> T) -> Option<T> {
    let before = EXPECTED.replace(true);
    let outcome = catch_unwind(AssertUnwindSafe(doubtful));
    EXPECTED.set(before);
    outcome.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_that_is_expected_is_none_and_later_ones_are_said_again() {
        assert_eq!(expected(|| String::from_utf8(vec![0xff]).unwrap()), None);
        assert!(!EXPECTED.get());
        assert_eq!(expected(|| expected(|| EXPECTED.get())), Some(Some(true)));
        assert_eq!(expected(|| 1), Some(1));
        assert!(!EXPECTED.get());
    }
}
