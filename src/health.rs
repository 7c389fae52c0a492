//! Whether the program does its work yet.

use std::sync::atomic::{AtomicBool, Ordering};

/// Ready once the collection made at start has ended and no volume is held back any more; ready ever after.
#[derive(Debug, Default)]
pub struct Health {
    collected: AtomicBool,
    settled: AtomicBool,
}

impl Health {
    /// The collection made at start has ended.
    pub fn set_collected(&self) {
        self.collected.store(true, Ordering::Release);
    }

    /// What the cluster says about the volumes at start is known, or was waited for long enough.
    pub fn set_settled(&self) {
        self.settled.store(true, Ordering::Release);
    }

    /// Whether the program is ready.
    ///
    /// # Errors
    ///
    /// Why it is not.
    pub fn ready(&self) -> Result<(), &'static str> {
        if !self.collected.load(Ordering::Acquire) {
            Err("the first collection has not ended yet")
        } else if !self.settled.load(Ordering::Acquire) {
            Err("the Kubernetes API has not answered yet")
        } else {
            Ok(())
        }
    }
}
