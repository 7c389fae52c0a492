//! Paths as the host sees them, and where this process reaches them.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The directory under which the node's root file system is mounted.
#[derive(Debug, Clone)]
pub(crate) struct Rootfs {
    /// Where it is mounted.
    pub(crate) path: PathBuf,
    /// Without links and dots, which the mount table never has.
    canonical: PathBuf,
}

/// Where containers usually have the node's root: tables captured in one carry this prefix.
const USUAL_PREFIX: &[u8] = b"/rootfs";

impl Rootfs {
    pub(crate) fn new(path: PathBuf) -> Self {
        let canonical = std::fs::canonicalize(&path).unwrap_or_else(|_| path.clone());
        Self { path, canonical }
    }

    /// Whether host paths are this process's own.
    pub(crate) fn is_host_root(&self) -> bool {
        self.path == Path::new("/")
    }

    /// Where this process reaches a path of the host.
    pub(crate) fn join(&self, host_path: &Path) -> PathBuf {
        self.path.join(host_path.strip_prefix("/").unwrap_or(host_path))
    }

    /// The prefixes that a table seen from inside a container may carry. The kernel's live table of a
    /// process that sees the host's own root carries none.
    pub(crate) fn prefixes(&self, live: bool) -> Vec<&[u8]> {
        let usual = (!live).then_some(USUAL_PREFIX);
        let prefixes = [&self.path, &self.canonical].map(|path| path.as_os_str().as_bytes()).into_iter();
        let prefixes = prefixes.chain(usual).map(|prefix| prefix.strip_suffix(b"/").unwrap_or(prefix));
        prefixes.filter(|prefix| !prefix.is_empty()).collect()
    }
}

/// The path below `prefix`, still absolute; `None` where it is not below.
pub(crate) fn strip<'a>(path: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    match path.strip_prefix(prefix.strip_suffix(b"/").unwrap_or(prefix))? {
        [] => Some(b"/"),
        rest if rest.starts_with(b"/") => Some(rest),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joins_and_strips_at_whole_names() {
        let rootfs = Rootfs::new("/rootfs".into());
        assert_eq!(rootfs.join(Path::new("/var/a")), Path::new("/rootfs/var/a"));
        assert_eq!(strip(b"/rootfs/var/a", b"/rootfs"), Some(&b"/var/a"[..]));
        assert_eq!(strip(b"/rootfs", b"/rootfs"), Some(&b"/"[..]));
        assert_eq!(strip(b"/rootfs2/var", b"/rootfs"), None);
        assert_eq!(strip(b"/var/a", b"/"), Some(&b"/var/a"[..]));
        assert_eq!(Rootfs::new("/".into()).join(Path::new("/a")), Path::new("/a"));
    }
}
