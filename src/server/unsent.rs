//! What answers hold in memory until they are sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use bytes::Bytes;

/// Counts the bytes of bodies, once each however many answers share one, until the last of them is sent.
#[derive(Debug, Clone, Default)]
pub struct Unsent(Arc<Totals>);

#[derive(Debug, Default)]
struct Totals {
    bytes: AtomicUsize,
    made: AtomicU64,
}

impl Unsent {
    /// The same bytes, counted.
    #[must_use]
    pub fn count(&self, body: Bytes) -> Bytes {
        self.0.bytes.fetch_add(body.len(), Ordering::Relaxed);
        self.0.made.fetch_add(1, Ordering::Relaxed);
        Bytes::from_owner(Counted { body, totals: Arc::clone(&self.0) })
    }

    pub(super) fn bytes(&self) -> usize {
        self.0.bytes.load(Ordering::Relaxed)
    }

    /// How many bodies were made so far: the number of the last one.
    pub(super) fn made(&self) -> u64 {
        self.0.made.load(Ordering::Relaxed)
    }
}

struct Counted {
    body: Bytes,
    totals: Arc<Totals>,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.body
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.totals.bytes.fetch_sub(self.body.len(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_counts_once_and_until_its_last_part_is_gone() {
        let unsent = Unsent::default();
        let first = unsent.count(Bytes::from_static(b"12345"));
        let second = unsent.count(Bytes::from_static(b"123"));
        let (copy, part) = (first.clone(), first.slice(..2));
        assert_eq!((unsent.bytes(), unsent.made()), (8, 2));
        drop((first, second, copy));
        assert_eq!((unsent.bytes(), &part[..]), (5, &b"12"[..]));
        drop(part);
        assert_eq!(unsent.bytes(), 0);
    }
}
