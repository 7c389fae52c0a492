//! What is read from and written to `/dev/fuse`: <https://docs.kernel.org/filesystems/fuse> and `linux/fuse.h`.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;

use nix::errno::Errno;
use nix::fcntl::OFlag;

/// Room for every request that the kernel may send, as `begin` tells it.
pub(super) const BUFFER_BYTES: usize = 1 << 16;

/// Version 7.31, flags that are all off, and writes of 4 KiB at most: `struct fuse_init_out`.
const INIT_OUT: [u32; 16] = [7, 31, 0, 0, 0, 4096, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const HEADER_BYTES: usize = 40;
const MAX_NAME_BYTES: u32 = 255;

pub(super) fn open() -> io::Result<File> {
    OpenOptions::new().read(true).write(true).custom_flags(OFlag::O_NONBLOCK.bits()).open("/dev/fuse")
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Opcode(u32);

impl Opcode {
    const FORGET: Self = Self(2);
    pub(crate) const STATFS: Self = Self(17);
    pub(crate) const INIT: Self = Self(26);
    const INTERRUPT: Self = Self(36);
    const BATCH_FORGET: Self = Self(42);

    pub(super) fn wants_answer(self) -> bool {
        ![Self::FORGET, Self::INTERRUPT, Self::BATCH_FORGET].contains(&self)
    }
}

/// A request, without its node: there is nothing but a root directory.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) opcode: Opcode,
    unique: u64,
}

/// What `statvfs` gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Figures {
    /// All, free and available ones.
    pub(crate) blocks: [u64; 3],
    /// All and free ones.
    pub(crate) inodes: [u64; 2],
    /// Of a block, and of a fragment.
    pub(crate) bytes: [u32; 2],
}

impl Figures {
    pub(crate) const HEALTHY: Self =
        Self { blocks: [1000, 400, 300], inodes: [50, 20], bytes: [1 << 20, 4096] };
}

pub(super) fn read(device: &File, buffer: &mut [u8]) -> Result<Request, Errno> {
    let length = nix::unistd::read(device, buffer)?;
    assert!(length >= HEADER_BYTES, "half a request");
    let opcode = Opcode(u32::from_ne_bytes(buffer[4..8].try_into().unwrap()));
    Ok(Request { opcode, unique: u64::from_ne_bytes(buffer[8..16].try_into().unwrap()) })
}

/// Answers the kernel's introduction.
pub(super) fn begin(device: &File, request: &Request) {
    write(device, request, 0, &u32s(&INIT_OUT));
}

pub(super) fn answer(device: &File, request: &Request, figures: &Figures) {
    if request.opcode != Opcode::STATFS {
        return fail(device, request, Errno::ENOSYS);
    }
    let Figures { blocks, inodes, bytes: [block_bytes, fragment_bytes] } = figures;
    let counts = [&blocks[..], inodes].concat().into_iter().flat_map(u64::to_ne_bytes).collect();
    let sizes = u32s(&[*block_bytes, MAX_NAME_BYTES, *fragment_bytes, 0, 0, 0, 0, 0, 0, 0]);
    write(device, request, 0, &[counts, sizes].concat());
}

pub(super) fn fail(device: &File, request: &Request, errno: Errno) {
    write(device, request, -(errno as i32), &[]);
}

fn write(device: &File, request: &Request, error: i32, body: &[u8]) {
    let length = u32::try_from(16 + body.len()).unwrap().to_ne_bytes();
    let message = [&length[..], &error.to_ne_bytes(), &request.unique.to_ne_bytes(), body].concat();
    match nix::unistd::write(device, &message) {
        // The process that asked, or the mount itself, is gone.
        Ok(_) | Err(Errno::ENOENT | Errno::ENODEV) => {}
        Err(error) => panic!("/dev/fuse does not take the answer to {request:?}: {error}"),
    }
}

fn u32s(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_ne_bytes()).collect()
}
