//! Whether the program does its work yet.

use std::sync::atomic::{AtomicBool, Ordering};

/// Ready once the collection made at start has ended; ready ever after.
#[derive(Debug, Default)]
pub struct Health {
    collected: AtomicBool,
}

impl Health {
    /// The collection made at start has ended.
    pub fn set_collected(&self) {
        self.collected.store(true, Ordering::Release);
    }

    /// Whether the program is ready.
    ///
    /// # Errors
    ///
    /// Why it is not.
    pub fn ready(&self) -> Result<(), &'static str> {
        if self.collected.load(Ordering::Acquire) {
            Ok(())
        } else {
            Err("the first collection has not ended yet")
        }
    }
}
