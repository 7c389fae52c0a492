//! Whether the program does its work yet.

use std::sync::atomic::{AtomicBool, Ordering};

/// Ready once a source of figures has answered a collection and none of its volumes is held back any more; ready ever after.
#[derive(Debug, Default)]
pub struct Health {
    collected: AtomicBool,
    settled: AtomicBool,
}

impl Health {
    /// A collection has ended, and a source of figures has answered it.
    pub fn set_collected(&self) {
        self.collected.store(true, Ordering::Release);
    }

    /// Whether a collection has ended with an answer.
    pub fn has_collected(&self) -> bool {
        self.collected.load(Ordering::Acquire)
    }

    /// A collection has ended in which nothing is pending, at least of what the first one found.
    pub fn set_settled(&self) {
        self.settled.store(true, Ordering::Release);
    }

    /// Whether such a collection has ended.
    pub fn has_settled(&self) -> bool {
        self.settled.load(Ordering::Acquire)
    }

    /// Whether the program is ready.
    pub fn ready(&self) -> Result<(), &'static str> {
        if !self.has_collected() {
            Err("no source of figures has answered yet; the log tells why")
        } else if !self.has_settled() {
            Err("the Kubernetes API has not answered yet")
        } else {
            Ok(())
        }
    }
}
