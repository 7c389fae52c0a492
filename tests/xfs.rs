use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use nix::sys::statvfs::statvfs;

use crate::real_mounts::exporter;
use crate::support::namespace::{Needs, PODS, in_namespace, unmount};
use crate::support::tool::is_there;

fn run(program: &str, args: &[&str], path: &Path) {
    let output = Command::new(program).args(args).arg(path).output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Its `statvfs` goes on answering with good figures, while every read and write fails.
#[test]
fn shut_down_xfs_is_an_io_error_and_not_its_last_figures() {
    if !is_there("mkfs.xfs", &["-V"]) || !is_there("xfs_io", &["-V"]) {
        return;
    }
    in_namespace(Needs::Root, |node| {
        let image = node.path().join("xfs.img");
        fs::File::create(&image).unwrap().set_len(320 << 20).unwrap();
        run("mkfs.xfs", &["-q"], &image);
        let path = node.volume(PODS[0], "local-volume", "xfs");
        run("mount", &["-o", "loop", &image.to_string_lossy()], &path);
        let exporter = exporter();
        assert_eq!(exporter.scrape().volume("xfs")["pv_disk_usage_up"], 1.0);

        run("xfs_io", &["-x", "-c", "shutdown"], &path);
        assert!(statvfs(&path).unwrap().blocks_free() > 0, "the kernel does not tell by statvfs");
        let scrape = exporter.scrape();
        assert_eq!(scrape.volume("xfs"), BTreeMap::from([("pv_disk_usage_up", 0.0)]));
        assert_eq!(scrape.label("pv_disk_usage_error", "reason"), ["io"]);
        assert_eq!(scrape.value("disk_usage_exporter_volumes", &[("state", "failed")]), Some(1.0));
        unmount(&path);
    });
}
