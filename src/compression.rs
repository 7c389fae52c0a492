//! Encoded documents in chunks, compressed with gzip or not.

use std::io::{self, BufWriter, Write};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;

/// Compression costs far more CPU than everything else. Level 1 costs a sixth of level 6, and these texts are hardly larger.
const LEVEL: Compression = Compression::new(1);
/// Writes are passed on in pieces of this size.
pub(crate) const BUFFER_BYTES: usize = 16 << 10;
/// A large document is never one allocation, and is never moved.
const MAX_CHUNK_BYTES: usize = 64 << 10;

/// Encodes what `write` writes.
pub(crate) fn encode(
    gzip: bool,
    write: impl FnOnce(&mut BufWriter<&mut dyn Write>) -> io::Result<()>,
) -> Vec<Bytes> {
    let mut chunks = ChunkWriter::default();
    let encoded = if gzip {
        let mut encoder = GzEncoder::new(&mut chunks, LEVEL);
        write_buffered(&mut encoder, write).and_then(|()| encoder.finish().map(drop))
    } else {
        write_buffered(&mut chunks, write)
    };
    // Writing to memory does not fail.
    debug_assert!(encoded.is_ok(), "{encoded:?}");
    if !chunks.last.is_empty() {
        chunks.end_chunk();
    }
    encoded.map(|()| chunks.chunks).unwrap_or_default()
}

fn write_buffered(
    encoder: &mut dyn Write,
    write: impl FnOnce(&mut BufWriter<&mut dyn Write>) -> io::Result<()>,
) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(BUFFER_BYTES, encoder);
    write(&mut out)?;
    // Not `flush`, which would end a block of gzip.
    out.into_inner().map(drop).map_err(io::IntoInnerError::into_error)
}

/// Collects bytes in full chunks and a last, shorter one.
#[derive(Default)]
struct ChunkWriter {
    chunks: Vec<Bytes>,
    last: Vec<u8>,
}

impl ChunkWriter {
    /// Ends a chunk, without spare room: it is kept until the slowest client has read it.
    fn end_chunk(&mut self) {
        self.chunks.push(std::mem::take(&mut self.last).into_boxed_slice().into());
    }
}

impl Write for ChunkWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = bytes.len().min(MAX_CHUNK_BYTES - self.last.len());
        self.last.extend_from_slice(&bytes[..written]);
        if self.last.len() == MAX_CHUNK_BYTES {
            self.end_chunk();
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::read::GzDecoder;
    use std::io::Read;

    /// Hardly compressible, so that the gzip form has many chunks as well.
    fn noise(length: usize) -> Vec<u8> {
        let mut state = 1_u64;
        let next = |_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state.to_be_bytes()[0]
        };
        (0..length).map(next).collect()
    }

    #[test]
    fn chunks_are_full_but_for_the_last_and_hold_no_more_than_their_bytes() {
        for length in [0, 1, MAX_CHUNK_BYTES - 1, MAX_CHUNK_BYTES, 3 * MAX_CHUNK_BYTES + 7] {
            let document = noise(length);
            let write = |out: &mut BufWriter<&mut dyn Write>| {
                document.chunks(1000).try_for_each(|part| out.write_all(part))
            };
            let (plain, gzip) = (encode(false, write), encode(true, write));
            assert_eq!(plain.concat(), document);
            let mut decoded = Vec::new();
            GzDecoder::new(&*gzip.concat()).read_to_end(&mut decoded).unwrap();
            assert_eq!(decoded, document);
            for chunks in [plain, gzip] {
                let Some((last, full)) = chunks.split_last() else { continue };
                assert!(full.iter().all(|chunk| chunk.len() == MAX_CHUNK_BYTES));
                assert!((1..=MAX_CHUNK_BYTES).contains(&last.len()));
                for chunk in chunks {
                    let length = chunk.len();
                    assert_eq!(Vec::from(chunk).capacity(), length);
                }
            }
        }
    }
}
