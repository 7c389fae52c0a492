//! What is read from and written to `/dev/fuse`: <https://docs.kernel.org/filesystems/fuse> and `linux/fuse.h`.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;

use nix::errno::Errno;
use nix::fcntl::OFlag;

/// Room for every request that the kernel may send, as `begin` tells it.
pub(super) const BUFFER_BYTES: usize = 1 << 16;

/// Of the protocol, the version that the answers below have the form of.
const VERSION: [u32; 2] = [7, 31];
const HEADER_BYTES: usize = 40;
const MOST_WRITE: u32 = 4096;
const NAME_BYTES: u32 = 255;
const DIRECTORY: u32 = 0o040_755;

pub(super) fn open() -> io::Result<File> {
    OpenOptions::new().read(true).write(true).custom_flags(OFlag::O_NONBLOCK.bits()).open("/dev/fuse")
}

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Opcode(u32);

impl Opcode {
    const FORGET: Self = Self(2);
    const GETATTR: Self = Self(3);
    pub(crate) const STATFS: Self = Self(17);
    pub(crate) const GETXATTR: Self = Self(22);
    pub(crate) const INIT: Self = Self(26);
    const INTERRUPT: Self = Self(36);
    const BATCH_FORGET: Self = Self(42);

    pub(super) fn wants_answer(self) -> bool {
        ![Self::FORGET, Self::INTERRUPT, Self::BATCH_FORGET].contains(&self)
    }
}

/// A request, without what it is about: there is nothing but a root directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Request {
    pub(super) opcode: Opcode,
    unique: u64,
}

/// What `statvfs` is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Figures {
    pub(crate) blocks: u64,
    pub(crate) free: u64,
    pub(crate) available: u64,
    pub(crate) inodes: u64,
    pub(crate) inodes_free: u64,
    pub(crate) block_bytes: u32,
    pub(crate) fragment_bytes: u32,
}

impl Default for Figures {
    fn default() -> Self {
        Self {
            blocks: 1000,
            free: 400,
            available: 300,
            inodes: 50,
            inodes_free: 20,
            block_bytes: 1 << 20,
            fragment_bytes: 4096,
        }
    }
}

pub(super) fn read(device: &File, buffer: &mut [u8]) -> Result<Request, Errno> {
    let length = nix::unistd::read(device, buffer)?;
    assert!(length >= HEADER_BYTES, "half a request");
    let opcode = Opcode(u32::from_ne_bytes(buffer[4..8].try_into().unwrap()));
    Ok(Request { opcode, unique: u64::from_ne_bytes(buffer[8..16].try_into().unwrap()) })
}

/// Answers the kernel's introduction.
pub(super) fn begin(device: &File, request: &Request) {
    let mut body = Body::default();
    body.u32s(&VERSION).u32s(&[0, 0, 0, MOST_WRITE]).zeros(40);
    write(device, request, 0, &body.0);
}

pub(super) fn answer(device: &File, request: &Request, figures: &Figures) {
    let mut body = Body::default();
    match request.opcode {
        Opcode::STATFS => {
            let Figures { blocks, free, available, inodes, inodes_free, block_bytes, fragment_bytes } =
                *figures;
            body.u64s(&[blocks, free, available, inodes, inodes_free]);
            body.u32s(&[block_bytes, NAME_BYTES, fragment_bytes]).zeros(28);
        }
        // Of the root directory, and true for no time.
        Opcode::GETATTR => drop(body.zeros(16).u64s(&[1]).zeros(52).u32s(&[DIRECTORY, 2]).zeros(20)),
        _ => return fail(device, request, Errno::ENOSYS),
    }
    write(device, request, 0, &body.0);
}

pub(super) fn fail(device: &File, request: &Request, errno: Errno) {
    write(device, request, -(errno as i32), &[]);
}

fn write(device: &File, request: &Request, error: i32, body: &[u8]) {
    let mut message = Body::default();
    message.u32s(&[u32::try_from(16 + body.len()).unwrap()]);
    message.0.extend(error.to_ne_bytes());
    message.u64s(&[request.unique]).0.extend(body);
    match nix::unistd::write(device, &message.0) {
        // Who asked, or the mount itself, has gone.
        Ok(_) | Err(Errno::ENOENT | Errno::ENODEV) => {}
        Err(error) => panic!("/dev/fuse does not take the answer to {request:?}: {error}"),
    }
}

#[derive(Default)]
struct Body(Vec<u8>);

impl Body {
    fn u32s(&mut self, values: &[u32]) -> &mut Self {
        self.0.extend(values.iter().flat_map(|value| value.to_ne_bytes()));
        self
    }

    fn u64s(&mut self, values: &[u64]) -> &mut Self {
        self.0.extend(values.iter().flat_map(|value| value.to_ne_bytes()));
        self
    }

    fn zeros(&mut self, count: usize) -> &mut Self {
        self.0.resize(self.0.len() + count, 0);
        self
    }
}
