//! Opens files of the node. Paths are the host's: below the directory where its root file system is mounted, symbolic
//! links and `..` lead where they lead on the host, and never out of it. Users of the node may have made what is there,
//! so what is read is checked by the descriptor that it is read from.

use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat, openat2, readlinkat};
use nix::sys::stat::Mode;
use rustix::fs::{AtFlags, StatxFlags, statx};

use crate::input_limits::read_limited;

/// A larger file is none of the kubelet's, and holds no token.
const MAX_FILE_BYTES: u64 = 64 << 10;

/// The permission to write of the group, which with an ACL bounds that of all it names, and of others.
const WRITABLE_BY_OTHERS: u16 = 0o022;

/// A path of the host.
#[derive(Debug, Clone)]
pub struct HostPath {
    /// Where its root file system is mounted.
    pub rootfs: PathBuf,
    /// The path as the host sees it.
    pub path: PathBuf,
}

/// Reads a small regular file.
pub(crate) fn read(rootfs: &Path, path: &Path) -> io::Result<Vec<u8>> {
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    read_limited(regular(open_in(rootfs, path, flags)?.into())?, MAX_FILE_BYTES)
}

/// Opens a regular file that the user named, as this process sees it.
pub(crate) fn open_named(path: &Path) -> io::Result<File> {
    regular(OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)?)
}

/// Reads a regular file that the user named and that is not larger than a limit.
pub(crate) fn read_named(path: &Path, max_bytes: u64) -> io::Result<Vec<u8>> {
    read_limited(open_named(path)?, max_bytes)
}

/// Reads the file of a bearer token.
pub(crate) fn read_token(path: &Path) -> io::Result<String> {
    String::from_utf8(read_named(path, MAX_FILE_BYTES)?).map_err(io::Error::other)
}

/// Opening a pipe waits for its writer, unless it is opened with `O_NONBLOCK`, as this one was.
fn regular(file: File) -> io::Result<File> {
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("not a file")) }
}

/// The names in a directory, sorted.
pub(crate) fn names(rootfs: &Path, path: &Path) -> io::Result<Vec<OsString>> {
    let directory = open_in(rootfs, path, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NONBLOCK)?;
    let entries = Dir::from_fd(directory)?.into_iter().collect::<Result<Vec<_>, _>>()?;
    let names = entries.iter().map(|entry| OsStr::from_bytes(entry.file_name().to_bytes()).to_owned());
    let mut names: Vec<_> = names.filter(|name| name != "." && name != "..").collect();
    names.sort();
    Ok(names)
}

/// The number of the block device at a path; the device is not opened.
pub(crate) fn device_number(rootfs: &Path, path: &Path) -> Option<u64> {
    let metadata = File::from(open_in(rootfs, path, OFlag::O_PATH).ok()?).metadata().ok()?;
    metadata.file_type().is_block_device().then(|| metadata.rdev())
}

/// What the symbolic link of this name in a directory says, whether or not that is there.
pub(crate) fn link_target(rootfs: &Path, directory: &Path, name: &OsStr) -> io::Result<PathBuf> {
    let directory = open_in(rootfs, directory, OFlag::O_PATH | OFlag::O_DIRECTORY)?;
    Ok(readlinkat(directory, name)?.into())
}

/// The path of a directory without symbolic links; the path itself where /proc, which tells it, is not mounted.
pub(crate) fn resolve(rootfs: &Path, path: &Path) -> io::Result<PathBuf> {
    let open = |path| open_in(rootfs, path, OFlag::O_PATH | OFlag::O_DIRECTORY);
    let (root, directory) = (open(Path::new("/"))?, open(path)?);
    let as_seen_here =
        |descriptor: OwnedFd| std::fs::read_link(format!("/proc/self/fd/{}", descriptor.as_raw_fd()));
    let (Ok(root), Ok(directory)) = (as_seen_here(root), as_seen_here(directory)) else {
        return Ok(path.to_owned());
    };
    Ok(directory.strip_prefix(root).map_or(path.to_owned(), |path| Path::new("/").join(path)))
}

/// Whether every directory of a path belongs to root and nobody else may write there, so that root alone can have made
/// it; what is missing is root's to make. Nothing below a directory that is not root's is touched: its owner can make it hang.
pub(crate) fn check_owned_by_root(rootfs: &Path, path: &Path) -> io::Result<()> {
    let root = open(rootfs, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    let check = |directory: &OwnedFd, path: &Path| {
        let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
        let found = statx(directory, c"", flags, StatxFlags::UID | StatxFlags::MODE)?;
        let path = path.display();
        if found.stx_uid != 0 {
            return Err(io::Error::other(format!("{path} belongs to the user {}", found.stx_uid)));
        }
        if found.stx_mode & WRITABLE_BY_OTHERS != 0 {
            let mode = found.stx_mode & 0o7777;
            return Err(io::Error::other(format!(
                "others than root may write to {path}, whose mode is {mode:04o}"
            )));
        }
        Ok(())
    };
    match open_by_component(root, path, OFlag::O_PATH | OFlag::O_DIRECTORY, check) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        opened => opened.map(drop),
    }
}

fn open_in(rootfs: &Path, path: &Path, flags: OFlag) -> io::Result<OwnedFd> {
    let root = open(rootfs, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    let resolve = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(resolve);
    match openat2(&root, path, how) {
        // Linux before 5.6, or a seccomp profile that does not know the call.
        Err(Errno::ENOSYS | Errno::EPERM) => open_by_component(root, path, flags, |_, _| Ok(())),
        opened => Ok(opened?),
    }
}

/// Opens a path without symbolic links and `..`; `check` is told each directory on the way, and its path.
fn open_by_component(
    root: OwnedFd,
    path: &Path,
    flags: OFlag,
    check: impl Fn(&OwnedFd, &Path) -> io::Result<()>,
) -> io::Result<OwnedFd> {
    let mut opened = root;
    let mut passed = PathBuf::from("/");
    let mut components = path.components().filter(|component| *component != Component::RootDir).peekable();
    while let Some(component) = components.next() {
        let Component::Normal(name) = component else {
            return Err(Errno::ELOOP.into());
        };
        passed.push(name);
        let is_last = components.peek().is_none();
        let flags = if is_last { flags } else { OFlag::O_PATH | OFlag::O_DIRECTORY };
        opened = openat(&opened, name, flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())?;
        check(&opened, &passed)?;
    }
    Ok(opened)
}

#[cfg(test)]
mod tests;
