use std::fs;

use nix::mount::{MsFlags, mount};

use crate::real_mounts::exporter;
use crate::support::namespace::{Needs, PODS, bind, in_namespace, tmpfs};

#[test]
fn a_file_that_is_mounted_at_a_volumes_path_has_no_figures() {
    in_namespace(Needs::Mounts, |node| {
        let (path, file) = (node.volume(PODS[0], "nfs", "file"), node.path().join("file"));
        fs::remove_dir(&path).unwrap();
        for file in [&path, &file] {
            fs::write(file, "").unwrap();
        }
        bind(&file, &path);
        let scrape = exporter().scrape();
        let figures = scrape.volume("file");
        assert_eq!((figures["pv_disk_usage_up"], figures.get("pv_disk_usage_bytes_total")), (0.0, None));
        assert_eq!(scrape.label("pv_disk_usage_error", "reason"), ["not_mounted"]);
    });
}

#[test]
fn what_is_told_of_a_stack_of_mounts_is_told_of_the_topmost() {
    in_namespace(Needs::Mounts, |node| {
        // Made first, so first in the table.
        let elsewhere = node.path().join("elsewhere");
        fs::create_dir(&elsewhere).unwrap();
        tmpfs(&elsewhere, "size=1m,ro");
        let path = node.tmpfs_volume("stack", "size=2m");
        tmpfs(&path, "size=3m");
        mount(Some(&elsewhere), &path, None::<&str>, MsFlags::MS_MOVE, None::<&str>).unwrap();
        let scrape = exporter().scrape();
        assert_eq!(scrape.volume("stack")["pv_disk_usage_bytes_total"], f64::from(1 << 20));
        assert_eq!(scrape.label("pv_disk_usage_mount_info", "access"), ["ro"]);
    });
}
