use std::fs;

use crate::real_mounts::exporter;
use crate::support::namespace::{Needs, PODS, bind, in_namespace};

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
