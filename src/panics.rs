//! Faults of this program: logged and counted, wherever they are caught.

use std::sync::atomic::{AtomicU64, Ordering};

static COUNT: AtomicU64 = AtomicU64::new(0);

/// Logs and counts every panic from now on, in place of a message on standard error.
pub fn watch() {
    std::panic::set_hook(Box::new(|panic| {
        COUNT.fetch_add(1, Ordering::Relaxed);
        let thread = std::thread::current();
        let thread = thread.name().unwrap_or_default();
        let location = panic.location().map(ToString::to_string);
        let cause = panic.payload_as_str();
        tracing::error!(thread, location, cause, "a fault of this program; please report it");
    }));
}

/// Panics so far.
#[must_use]
pub fn count() -> u64 {
    COUNT.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_panic_is_counted() {
        let hook = std::panic::take_hook();
        super::watch();
        let before = super::count();
        let caught = std::panic::catch_unwind(|| panic!("a fault"));
        std::panic::set_hook(hook);
        assert!(caught.is_err() && super::count() > before);
    }
}
