use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::exporter::{Exporter, run};
use crate::support::exposition::Exposition;
use crate::support::fixture::Fixture;
use crate::support::fuse::{Behaviour, Figures};
use crate::support::kubelet::{Kubelet, summary as measured_now};
use crate::support::namespace::{Needs, in_namespace};
use crate::support::objects::objects_flag;
use crate::support::subject::Subject;

/// A field that is not known.
const UNKNOWN: u64 = u64::MAX;

fn negative(figure: u64) -> u64 {
    figure.wrapping_neg()
}

/// Blocks, free and available; inodes and free.
fn statvfs(blocks: [u64; 3], inodes: [u64; 2]) -> Value {
    let ([blocks, bfree, bavail], [files, ffree]) = (blocks, inodes);
    json!({"statvfs": {
        "bsize": 4096, "frsize": 0, "blocks": blocks, "bfree": bfree, "bavail": bavail, "files": files, "ffree": ffree,
    }})
}

fn node() -> Fixture {
    let mut fixture = Fixture::new();
    fixture.mount("ceph", statvfs([5120, 4995, 4995], [33_289, UNKNOWN]));
    fixture.mount("reserve", statvfs([214_724_159, 5_000_000, negative(5_736_207)], [1000, 900]));
    fixture.mount("quota", statvfs([1024, negative(512), negative(512)], [0, 0]));
    fixture.mount("free-unknown", statvfs([1024, UNKNOWN, 512], [UNKNOWN, 5]));
    fixture
}

#[test]
fn people_see_what_is_full_and_nothing_where_a_figure_is_not_known() {
    let fixture = node();
    let output = run(&[&fixture.flag(), "df", "-o=volume,used%,used,size,available,inodes-used%,inodes"]);
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        "\
VOLUME         USED%   USED   SIZE  AVAILABLE  INODES-USED%  INODES
quota         100.0%  6.0Mi  4.0Mi          0             -       -
reserve       100.0%  800Gi  819Gi          0         10.0%    1000
ceph            2.4%  500Ki   20Mi       20Mi             -       -
free-unknown       -      -  4.0Mi      2.0Mi             -       -
"
    );
    let output = run(&[&fixture.flag(), "df", "-o=json"]);
    let rows: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let row = rows.iter().find(|row| row["volume"] == "free-unknown").unwrap();
    assert_eq!(row["available_bytes"], 512 * 4096);
    for unknown in ["used_bytes", "used_percent", "inodes", "inodes_used", "inodes_available"] {
        assert_eq!(row[unknown], Value::Null, "{unknown}");
    }
    let page = Exporter::start(&[&fixture.flag()]).get("/").text();
    assert_eq!(page.matches("<b>100.0%</b>").count(), 2, "{page}");
    assert!(!page.contains("inodes</small>"), "{page}");
}

/// The six series of a claim.
fn kubelet_series(scrape: &Exposition, claim: &str) -> BTreeMap<String, f64> {
    let labels = ("persistentvolumeclaim".to_owned(), claim.to_owned());
    let of_claim = scrape.samples.iter().filter(|(_, other, _)| other.contains(&labels));
    let figure = |name: &str| name.strip_prefix("kubelet_volume_stats_").map(str::to_owned);
    of_claim.filter_map(|(name, _, value)| Some((figure(name)?, *value))).collect()
}

fn series<const N: usize>(figures: [(&str, f64); N]) -> BTreeMap<String, f64> {
    figures.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// The same figures as `node` has.
fn volumes() -> Vec<(String, Behaviour)> {
    let figures = |blocks, inodes| Figures { blocks, inodes, bytes: [4096; 2] };
    let volumes = [
        ("bucket", figures([0; 3], [0; 2])),
        ("ceph", figures([5120, 4995, 4995], [33_289, UNKNOWN])),
        ("free-unknown", figures([1024, UNKNOWN, 512], [UNKNOWN, 5])),
        ("quota", figures([1024, negative(512), negative(512)], [0, 0])),
        ("reserve", figures([214_724_159, 5_000_000, negative(5_736_207)], [1000, 900])),
        ("whole", figures([1000, 400, 300], [50, 20])),
    ];
    volumes.map(|(name, figures)| (name.to_owned(), Behaviour::Answers(figures))).into()
}

#[test]
fn the_kubelets_names_have_what_either_source_knows() {
    in_namespace(Needs::Fuse, |node| {
        let volumes = volumes();
        let claims: Vec<_> = volumes.iter().map(|(name, _)| (name.clone(), format!("of-{name}"))).collect();
        let objects = objects_flag(node, &claims);
        let kubelet = Kubelet::start();
        kubelet.set_summary(&summary());
        let endpoint = kubelet.endpoint();
        let it = Subject::start(node, &volumes, &["--sources=mounts,kubelet", &objects, &endpoint]);
        assert_what_either_knows(&it.exporter.scrape());
    });
}

fn summary() -> Value {
    let figures = |available: u64, used: u64, inodes: [u64; 3]| {
        json!({
            "capacityBytes": 1000, "availableBytes": available, "usedBytes": used,
            "inodes": inodes[0], "inodesFree": inodes[1], "inodesUsed": inodes[2],
        })
    };
    let counted = [50, 20, 30];
    let volumes = [
        // Mounted here.
        ("of-ceph", figures(900, 100, [33_289, UNKNOWN, 33_290])),
        ("of-quota", figures(0, 1, counted)),
        ("of-free-unknown", figures(900, 100, counted)),
        ("of-bucket", figures(900, 100, counted)),
        ("of-whole", figures(1, 1, [9, 9, 0])),
        // Only the kubelet's.
        ("its-ceph", figures(900, 100, [33_289, UNKNOWN, 33_290])),
        ("its-quota", figures(negative(500), 1500, [0; 3])),
    ];
    let volumes = volumes.map(|(claim, mut figures)| {
        figures["pvcRef"] = json!({"namespace": "shop", "name": claim});
        figures
    });
    let pod = json!({"name": "web-0", "namespace": "shop", "uid": "web"});
    measured_now(&json!({"pods": [{"podRef": pod, "volume": volumes}]}).to_string())
}

fn assert_what_either_knows(scrape: &Exposition) {
    let bytes = |blocks: u32| f64::from(blocks) * 4096.0;
    let all = |capacity, available, used, [inodes, free, inodes_used]: [f64; 3]| {
        series([
            ("available_bytes", available),
            ("capacity_bytes", capacity),
            ("inodes", inodes),
            ("inodes_free", free),
            ("inodes_used", inodes_used),
            ("used_bytes", used),
        ])
    };
    let (none, counted) = ([0.0; 3], [50.0, 20.0, 30.0]);
    let of = |name: &str| kubelet_series(scrape, name);
    assert_eq!(of("of-ceph"), all(bytes(5120), bytes(4995), bytes(125), none));
    assert_eq!(of("of-reserve"), all(bytes(214_724_159), 0.0, bytes(209_724_159), [1000.0, 900.0, 100.0]));
    assert_eq!(of("of-quota"), all(bytes(1024), 0.0, bytes(1536), counted), "the driver counts inodes");
    let mut without_used = all(bytes(1024), bytes(512), 0.0, counted);
    without_used.remove("used_bytes");
    assert_eq!(of("of-free-unknown"), without_used);
    assert_eq!(of("of-bucket"), all(1000.0, 900.0, 100.0, counted), "the driver knows a capacity");
    assert_eq!(of("of-whole"), all(bytes(1000), bytes(300), bytes(600), counted), "what is measured wins");
    assert_eq!(of("its-ceph"), all(1000.0, 900.0, 100.0, none));
    assert_eq!(of("its-quota"), all(1000.0, 0.0, 1500.0, none));
    assert_eq!(scrape.volume("reserve")["pv_disk_usage_percent_used"], 100.0);
}
