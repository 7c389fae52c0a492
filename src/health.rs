//! Whether the program does its work yet.

use std::sync::atomic::{AtomicBool, Ordering};

/// Ready once a source of figures has answered a collection and none of its volumes is held back any more; ready ever after.
#[derive(Debug, Default)]
pub struct Health {
    /// A collection has ended, and a source of figures has answered it.
    pub has_collected: AtomicBool,
    /// A collection has ended in which nothing is pending, at least of what the first one found.
    pub has_settled: AtomicBool,
}

impl Health {
    /// Whether the program is ready, or why it is not.
    pub fn ready(&self) -> Result<(), &'static str> {
        if !self.has_collected.load(Ordering::Acquire) {
            Err("no source of figures has answered yet; the log tells why")
        } else if !self.has_settled.load(Ordering::Acquire) {
            Err("the Kubernetes API has not answered yet")
        } else {
            Ok(())
        }
    }
}
