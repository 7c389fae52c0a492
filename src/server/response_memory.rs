//! The memory of responses that are not sent yet. A body counts once, however many responses share it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use bytes::{Buf, Bytes};

/// Counts bytes from when a body is made until its last response is sent.
#[derive(Debug, Clone, Default)]
pub struct ResponseMemory(Arc<AtomicUsize>);

impl ResponseMemory {
    /// Counts these chunks until nothing refers to the body any more.
    pub fn share(&self, chunks: Vec<Bytes>) -> SharedBody {
        let size = chunks.iter().map(Bytes::len).sum();
        self.0.fetch_add(size, Ordering::Relaxed);
        SharedBody(Arc::new(CountedBody { chunks, size, memory: self.clone() }))
    }
}

/// The body of any number of responses.
#[derive(Debug, Clone)]
pub struct SharedBody(Arc<CountedBody>);

#[derive(Debug)]
pub(super) struct CountedBody {
    chunks: Vec<Bytes>,
    size: usize,
    memory: ResponseMemory,
}

impl Drop for CountedBody {
    fn drop(&mut self) {
        self.memory.0.fetch_sub(self.size, Ordering::Relaxed);
    }
}

impl SharedBody {
    /// A short body that is not counted with others.
    pub(super) fn uncounted(bytes: impl Into<Bytes>) -> Self {
        ResponseMemory::default().share(vec![bytes.into()])
    }

    /// Tells this body from others, and does not keep it.
    pub(super) fn identity(&self) -> Weak<CountedBody> {
        Arc::downgrade(&self.0)
    }

    /// The bytes of this body and all others that are counted with it.
    pub(super) fn unsent_bytes(&self) -> usize {
        self.0.memory.0.load(Ordering::Relaxed)
    }
}

/// What the kernel has not yet accepted of a body.
pub(super) struct UnsentBody {
    body: SharedBody,
    chunk: usize,
    offset: usize,
}

impl UnsentBody {
    pub(super) fn new(body: SharedBody) -> Self {
        Self { body, chunk: 0, offset: 0 }
    }
}

impl Buf for UnsentBody {
    fn remaining(&self) -> usize {
        let chunks = self.body.0.chunks.iter().skip(self.chunk);
        chunks.map(Bytes::len).sum::<usize>() - self.offset
    }

    fn chunk(&self) -> &[u8] {
        self.body.0.chunks.get(self.chunk).map_or(&[], |chunk| &chunk[self.offset..])
    }

    fn advance(&mut self, count: usize) {
        self.offset += count;
        while let Some(chunk) = self.body.0.chunks.get(self.chunk)
            && self.offset >= chunk.len()
        {
            self.offset -= chunk.len();
            self.chunk += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn body_counts_once_until_its_last_response_is_sent() {
        let memory = ResponseMemory::default();
        let unsent_bytes = || memory.0.load(Ordering::Relaxed);
        let share = |text: &'static str| memory.share(vec![Bytes::from(text)]);
        let (first, second) = (share("12345"), share("123"));
        let (copy, response) = (first.clone(), UnsentBody::new(first.clone()));
        assert_eq!((unsent_bytes(), second.unsent_bytes()), (8, 8));
        assert!(Weak::ptr_eq(&first.identity(), &copy.identity()));
        assert!(!Weak::ptr_eq(&first.identity(), &second.identity()));
        drop((first, second, copy));
        assert_eq!(unsent_bytes(), 5);
        drop(response);
        assert_eq!(unsent_bytes(), 0);
    }

    #[test]
    fn chunks_are_sent_in_parts_of_any_size() {
        let chunks = ["ab", "", "cde", "f"].map(Bytes::from);
        for step in 1..=6 {
            let mut body = UnsentBody::new(ResponseMemory::default().share(chunks.to_vec()));
            let mut sent = Vec::new();
            while body.has_remaining() {
                let part = step.min(body.chunk().len());
                sent.extend_from_slice(&body.chunk()[..part]);
                body.advance(part);
            }
            assert_eq!((&*sent, body.chunk()), (&b"abcdef"[..], &b""[..]));
            let mut body = UnsentBody::new(ResponseMemory::default().share(chunks.to_vec()));
            body.advance(step);
            assert_eq!(body.copy_to_bytes(body.remaining()), b"abcdef"[step..]);
        }
    }
}
