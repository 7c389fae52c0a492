//! Faults of this program: logged and counted, wherever they are caught.

use std::sync::LazyLock;

use prometheus_client::metrics::counter::Counter;

/// The number of panics.
pub static COUNT: LazyLock<Counter> = LazyLock::new(Counter::default);

/// Logs and counts every panic from now on, in place of a message on standard error.
pub fn watch() {
    std::panic::set_hook(Box::new(|panic| {
        COUNT.inc();
        let thread = std::thread::current();
        let thread = thread.name().unwrap_or_default();
        let location = panic.location().map(ToString::to_string);
        let cause = panic.payload_as_str();
        tracing::error!(
            event = "panic",
            thread,
            location,
            cause,
            "the exporter recovered from a panic: please report it"
        );
    }));
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_panic_is_counted() {
        let hook = std::panic::take_hook();
        super::watch();
        let before = super::COUNT.get();
        let caught = std::panic::catch_unwind(|| panic!("a fault"));
        std::panic::set_hook(hook);
        assert!(caught.is_err() && super::COUNT.get() > before);
    }
}
