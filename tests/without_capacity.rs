use std::collections::BTreeMap;

use serde_json::json;

use crate::real_mounts::exporter;
use crate::support::exporter::{Exporter, run};
use crate::support::fixture::{Fixture, answering};
use crate::support::fuse::{Behaviour, Figures, Fuse};
use crate::support::namespace::{Needs, PODS, in_namespace};
use crate::support::subject::healthy;

/// As Mountpoint for Amazon S3 answers.
const OBJECT_STORE: Figures = Figures { blocks: [0; 3], inodes: [0; 2], bytes: [512; 2] };

#[test]
fn an_object_store_is_unsupported_and_a_mount_that_root_may_not_see_is_a_failure() {
    in_namespace(Needs::Root, |node| {
        let fuse = Fuse::start();
        let [bucket, private] = ["bucket", "private"].map(|name| node.volume(PODS[0], "nfs", name));
        fuse.mount("bucket", &bucket, Behaviour::Answers(OBJECT_STORE));
        // To root its statvfs is all zeros, as the store's is, whatever the server says.
        fuse.mount_for_nobody("private", &private, healthy());
        let zeros = nix::sys::statvfs::statvfs(&private).unwrap();
        assert_eq!((zeros.blocks(), zeros.fragment_size()), (0, 0));
        let exporter = exporter();
        let scrape = exporter.scrape();
        for name in ["bucket", "private"] {
            assert_eq!(scrape.volume(name), BTreeMap::from([("pv_disk_usage_up", 0.0)]), "{name}");
        }
        let reason = |pv_name, reason| {
            scrape.value("pv_disk_usage_error", &[("pv_name", pv_name), ("reason", reason)])
        };
        assert_eq!(reason("bucket", "no_figures"), Some(1.0));
        assert_eq!(reason("private", "permission"), Some(1.0));
        let state = |state| scrape.value("disk_usage_exporter_volumes", &[("state", state)]);
        assert_eq!((state("unsupported"), state("failed")), (Some(1.0), Some(1.0)));
        let failed = exporter.wait_for_log("volume_failed");
        assert_eq!((&failed["pv_name"], &failed["reason"]), (&"private".into(), &"permission".into()));
        assert_eq!(exporter.logged("volume_failed").len(), 1, "a store does not fail");
    });
}

#[test]
fn people_find_object_stores_below_everything_that_has_a_size() {
    let store = |blocks: u64| json!({"statvfs": {"frsize": 512, "blocks": blocks, "bfree": 0, "bavail": 0, "files": 0, "ffree": 0}});
    let mut fixture = Fixture::new();
    fixture.mount("a-bucket", store(0));
    fixture.mount("b-bucket", store(u64::MAX));
    fixture.mount("broken", json!({"error": "EIO"}));
    fixture.mount("data", answering());
    fixture.mount("raw", json!({"block_bytes": 4096}));
    let df = |args: &[&str]| {
        let output = run(&[&[&fixture.flag(), "df", "-o=volume,used%"], args].concat());
        (
            output.status.code(),
            String::from_utf8(output.stdout).unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    assert_eq!(
        df(&[]).1,
        "\
VOLUME         USED%
broken            io
data           66.6%
raw                -
a-bucket  no_figures
b-bucket  no_figures
"
    );
    let (code, _, notices) = df(&["--over=90"]);
    assert_eq!(code, Some(0));
    assert!(notices.contains("1 volume could not be measured"), "{notices}");

    let exporter = Exporter::start(&[&fixture.flag()]);
    let page = exporter.get("/").text();
    let places = ["broken", "data", "raw", "a-bucket", "b-bucket"]
        .map(|name| page.find(&format!("<bdi>{name}</bdi>")));
    assert!(places.is_sorted() && places[0].is_some(), "{places:?}: {page}");
    assert!(page.contains("<li class=\"bad\"><b>1</b> failed</li>"), "{page}");
    assert_eq!(page.matches("<tr class=\"failed\">").count(), 1, "{page}");
    assert_eq!(page.matches("<b>no capacity</b>").count(), 2, "{page}");
}
