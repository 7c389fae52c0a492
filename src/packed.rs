//! Bodies of answers, packed by gzip or not.

use std::io::{self, BufWriter, Write};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;

/// Compression costs far more than everything else; level 1 costs a sixth of level 6 and packs these texts nearly as well.
const LEVEL: Compression = Compression::new(1);
/// What is written reaches the encoder in pieces of this size.
pub(crate) const PIECE_BYTES: usize = 16 << 10;

/// Where a body is written.
pub(crate) type Pieces = BufWriter<Packer>;

/// Takes the pieces.
pub(crate) enum Packer {
    /// As they are.
    Plain(Vec<u8>),
    /// By gzip.
    Gzip(Box<GzEncoder<Vec<u8>>>),
}

impl Write for Packer {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(bytes) => bytes.write(piece),
            Self::Gzip(encoder) => encoder.write(piece),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The bytes of what is written.
pub(crate) fn body(gzip: bool, write: impl FnOnce(&mut Pieces) -> io::Result<()>) -> Bytes {
    let written = pack(gzip, write);
    // Writing to memory does not fail.
    debug_assert!(written.is_ok(), "{written:?}");
    let mut bytes = written.unwrap_or_default();
    // It stays until the slowest client has it.
    bytes.shrink_to_fit();
    bytes.into()
}

fn pack(gzip: bool, write: impl FnOnce(&mut Pieces) -> io::Result<()>) -> io::Result<Vec<u8>> {
    let packer = if gzip {
        Packer::Gzip(Box::new(GzEncoder::new(Vec::new(), LEVEL)))
    } else {
        Packer::Plain(Vec::new())
    };
    let mut pieces = BufWriter::with_capacity(PIECE_BYTES, packer);
    write(&mut pieces)?;
    match pieces.into_inner().map_err(io::IntoInnerError::into_error)? {
        Packer::Plain(bytes) => Ok(bytes),
        Packer::Gzip(encoder) => encoder.finish(),
    }
}
