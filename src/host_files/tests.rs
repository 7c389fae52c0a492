use super::*;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use tempfile::TempDir;

/// A rootfs with a file, `/dir/file`.
fn rootfs() -> TempDir {
    let rootfs = tempfile::tempdir().unwrap();
    fs::create_dir(rootfs.path().join("dir")).unwrap();
    fs::write(rootfs.path().join("dir/file"), "text").unwrap();
    rootfs
}

fn link(rootfs: &TempDir, target: &str, at: &str) {
    symlink(target, rootfs.path().join(at)).unwrap();
}

fn text(rootfs: &TempDir, path: &str) -> Result<String, String> {
    let read = read(rootfs.path(), Path::new(path));
    read.map(|bytes| String::from_utf8(bytes).unwrap()).map_err(|error| error.to_string())
}

#[test]
fn links_lead_where_the_host_sees_them_lead() {
    let rootfs = rootfs();
    link(&rootfs, "/dir", "absolute");
    link(&rootfs, "../../../../dir/file", "escape");
    link(&rootfs, "loop", "loop");
    for path in ["/dir/file", "/absolute/file", "/escape", "/dir/../../dir/file"] {
        assert_eq!(text(&rootfs, path).as_deref(), Ok("text"), "{path}");
    }
    assert!(text(&rootfs, "/loop").is_err());
    let resolve = |path: &str| resolve(rootfs.path(), Path::new(path)).ok();
    assert_eq!(resolve("/absolute"), Some("/dir".into()));
    assert_eq!(resolve("/dir"), Some("/dir".into()));
    assert_eq!(resolve("/"), Some("/".into()));
    assert_eq!(resolve("/escape"), None, "no directory");
    assert_eq!(resolve("/nowhere"), None);
}

// The kernel follows such a link for whoever may, whatever the text of the link says.
#[test]
fn links_of_proc_are_not_followed() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let own = format!("/proc/self/fd/{}", file.as_file().as_raw_fd());
    assert!(fs::read(&own).is_ok());
    assert!(read(Path::new("/"), Path::new(&own)).is_err());
}

#[test]
fn what_is_no_small_regular_file_is_not_read() {
    let rootfs = rootfs();
    let file = rootfs.path().join("dir/file");
    fs::write(&file, vec![b'.'; 64 << 10]).unwrap();
    assert_eq!(text(&rootfs, "/dir/file").unwrap().len(), 64 << 10);
    fs::write(&file, vec![b'.'; (64 << 10) + 1]).unwrap();
    assert!(text(&rootfs, "/dir/file").unwrap_err().contains("large"));
    // Were it waited for a writer, this test would not end.
    mkfifo(&rootfs.path().join("pipe"), Mode::S_IRWXU).unwrap();
    for path in ["/pipe", "/dir"] {
        assert_eq!(text(&rootfs, path), Err("not a file".into()), "{path}");
        assert!(open_named(&rootfs.path().join(path.trim_start_matches('/'))).is_err());
    }
    assert_eq!(read(Path::new("/"), Path::new("/dev/zero")).unwrap_err().to_string(), "not a file");
}

#[test]
fn where_the_kernel_cannot_bound_links_none_is_followed() {
    let rootfs = rootfs();
    link(&rootfs, "dir", "link");
    link(&rootfs, "dir/file", "last");
    let open = |path: &str| {
        let root = File::open(rootfs.path()).unwrap().into();
        open_by_component(root, Path::new(path), OFlag::O_RDONLY, |_, _| Ok(()))
    };
    assert!(open("/dir/file").is_ok());
    for path in ["/link/file", "/last", "/dir/../dir/file", "/nowhere"] {
        assert!(open(path).is_err(), "{path}");
    }
}

#[test]
fn names_and_targets_of_links_are_those_of_the_directory() {
    let rootfs = rootfs();
    link(&rootfs, "/dev/sdb", "dir/b");
    link(&rootfs, "/dev/sda", "dir/a");
    assert_eq!(names(rootfs.path(), Path::new("/dir")).unwrap(), ["a", "b", "file"]);
    let target = |name: &str| link_target(rootfs.path(), Path::new("/dir"), OsStr::new(name));
    assert_eq!(target("b").unwrap(), Path::new("/dev/sdb"));
    assert!(target("file").is_err());
}

#[test]
fn a_directory_is_roots_if_nobody_else_can_make_anything_on_the_way() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("left out: only root can give files away");
        return;
    }
    let rootfs = rootfs();
    let deep = rootfs.path().join("opt/k/pods");
    fs::create_dir_all(&deep).unwrap();
    let check =
        |path: &str| check_owned_by_root(rootfs.path(), Path::new(path)).map_err(|error| error.to_string());
    assert_eq!(check("/opt/k"), Ok(()));
    assert_eq!(check("/opt/k/missing/too"), Ok(()), "root's to make");
    let above = rootfs.path().join("opt");
    for mode in [0o775, 0o757, 0o1777] {
        fs::set_permissions(&above, fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(
            check("/opt/k"),
            Err(format!("others than root may write to /opt, whose mode is {mode:04o}"))
        );
    }
    fs::set_permissions(&above, fs::Permissions::from_mode(0o755)).unwrap();
    chown(rootfs.path().join("opt/k"), Some(65534), None).unwrap();
    assert_eq!(check("/opt/k"), Err("/opt/k belongs to the user 65534".into()));
    assert_eq!(check("/opt/k/pods/missing"), Err("/opt/k belongs to the user 65534".into()));
    link(&rootfs, "dir", "link");
    assert!(check("/link").is_err(), "no mountpoint has a link in its path");
    // The rootfs itself may be anybody's.
    chown(rootfs.path(), Some(65534), None).unwrap();
    assert_eq!(check("/dir"), Ok(()));
}

#[test]
fn a_file_that_the_user_named_is_read_up_to_a_limit() {
    let rootfs = rootfs();
    let file = rootfs.path().join("dir/file");
    assert_eq!(read_named(&file, 4).unwrap(), b"text");
    assert_eq!(read_named(&file, 3).unwrap_err().to_string(), "larger than 3 bytes");
    assert_eq!(read_named(Path::new("/dev/zero"), 4).unwrap_err().to_string(), "not a file");
    assert_eq!(read_named(Path::new("/nonexistent"), 4).unwrap_err().kind(), io::ErrorKind::NotFound);
}
