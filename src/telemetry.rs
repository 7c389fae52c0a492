//! The program's own figures: counters, histograms and `process_*`, in a registry that every exposition ends with.

mod process;

use prometheus_client::registry::Registry;

use crate::{logging, panics};
use process::ProcessCollector;

/// A registry with what concerns the whole program. Each part registers its own metrics too.
pub fn registry() -> Registry {
    let mut registry = Registry::default();
    registry.register(
        "disk_usage_exporter_panics",
        "Faults of this program that cost one measurement, scrape or connection; the log names the place",
        panics::COUNT.clone(),
    );
    registry.register(
        "disk_usage_exporter_lost_log_lines",
        "Lines of the log that are lost because nobody read it",
        logging::LOST_LINES.clone(),
    );
    registry.register_collector(Box::new(ProcessCollector::default()));
    registry
}
