//! The memory of responses that are not sent yet. A byte counts once, however many responses share it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

/// Counts bytes from when a body is made until its last response is sent.
#[derive(Debug, Clone, Default)]
pub struct ResponseMemory(Arc<AtomicUsize>);

impl ResponseMemory {
    /// Counts these chunks, each until nothing refers to it any more.
    pub fn share(&self, chunks: Vec<Bytes>) -> SharedBody {
        let count = |chunk: Bytes| {
            self.0.fetch_add(chunk.len(), Ordering::Relaxed);
            Bytes::from_owner(CountedChunk { chunk, memory: self.clone() })
        };
        SharedBody { chunks: chunks.into_iter().map(count).collect(), memory: self.clone() }
    }

    fn unsent_bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

struct CountedChunk {
    chunk: Bytes,
    memory: ResponseMemory,
}

impl AsRef<[u8]> for CountedChunk {
    fn as_ref(&self) -> &[u8] {
        &self.chunk
    }
}

impl Drop for CountedChunk {
    fn drop(&mut self) {
        self.memory.0.fetch_sub(self.chunk.len(), Ordering::Relaxed);
    }
}

/// The body of any number of responses.
#[derive(Debug, Clone)]
pub struct SharedBody {
    chunks: Arc<[Bytes]>,
    memory: ResponseMemory,
}

impl SharedBody {
    /// A short body that is not counted.
    pub(super) fn uncounted(bytes: Bytes) -> Self {
        Self { chunks: [bytes].into(), memory: ResponseMemory::default() }
    }

    pub(super) fn chunks(&self) -> &[Bytes] {
        &self.chunks
    }

    /// Whether both refer to the same memory.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.chunks, &other.chunks)
    }

    /// The bytes of this body and all others that are counted with it.
    pub(super) fn unsent_bytes(&self) -> usize {
        self.memory.unsent_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_counts_once_and_until_its_last_part_is_gone() {
        let memory = ResponseMemory::default();
        let share = |text: &'static str| memory.share(vec![Bytes::from(text)]);
        let (first, second) = (share("12345"), share("123"));
        let (copy, part) = (first.clone(), first.chunks()[0].slice(..2));
        assert_eq!(memory.unsent_bytes(), 8);
        assert!(first.is_same(&copy) && !first.is_same(&second));
        drop((first, second, copy));
        assert_eq!((memory.unsent_bytes(), &part[..]), (5, &b"12"[..]));
        drop(part);
        assert_eq!(memory.unsent_bytes(), 0);
    }
}
