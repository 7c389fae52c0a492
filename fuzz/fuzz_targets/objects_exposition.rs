//! Objects with a few mounts to expositions: any bytes as an objects file, and behind a zero byte, which begins no
//! JSON, valid objects with hostile names and labels.

#![no_main]

#[path = "../../tests/support/exposition.rs"]
#[allow(dead_code, reason = "the tests use all of it")]
mod exposition;
mod objects;

use std::io::Read;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use arbitrary::{Arbitrary, Unstructured};
use disk_usage_exporter::cluster::{Selections, parse_objects};
use disk_usage_exporter::exposition::{Encoder, Encoding, Format, Series};
use disk_usage_exporter::fuzzing::{discover, snapshot};
use disk_usage_exporter::node::VolumeMatcher;
use disk_usage_exporter::snapshot::{MeasuredVolume, Snapshot};
use disk_usage_exporter::volume::{
    CsiVolume, Inodes, Measurement, ProbeResult, Reason, Usage, VolumeMode, VolumeMount,
};
use exposition::{Exposition, Labels};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    match input.split_first() {
        Some((0, rest)) => {
            let Ok(cluster) = objects::Cluster::arbitrary_take_rest(Unstructured::new(rest)) else {
                return;
            };
            let cluster = cluster.to_json();
            assert!(check(cluster.as_bytes()), "objects that are none: {cluster}");
        }
        _ => {
            check(input);
        }
    }
});

/// Whether these were objects.
fn check(objects: &[u8]) -> bool {
    let selections = Selections::default();
    let Ok(metadata) = parse_objects(objects, Path::new("objects.json"), &selections) else {
        return false;
    };
    let metadata = Arc::new(metadata);
    let snapshot = || snapshot(mounts().to_vec(), Arc::clone(&metadata), answer);
    let prepared = Encoder::default().prepare(snapshot());
    let text = written(&prepared, Format::Text);
    let openmetrics = written(&prepared, Format::OpenMetrics);
    assert!(openmetrics.ends_with("\n# EOF\n"));
    let samples = |text: &str| -> Vec<String> {
        text.split('\n').filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
    };
    assert_eq!(samples(&text), samples(&openmetrics));
    holds_all(&Exposition::parse(&text), &snapshot());
    true
}

/// An exposition; some, for packing takes most of the time, out of their packing the same.
fn written(series: &Series, format: Format) -> String {
    let plain = series.encode(Encoding { format, gzip: false });
    if plain.concat().len().is_multiple_of(8) {
        let packed = series.encode(Encoding { format, gzip: true });
        let mut inflated = Vec::new();
        flate2::read::GzDecoder::new(&*packed.concat()).read_to_end(&mut inflated).unwrap();
        assert_eq!(inflated, plain.concat());
    }
    String::from_utf8(plain.concat()).unwrap()
}

/// Every volume is there with every label.
fn holds_all(exposition: &Exposition, snapshot: &Snapshot) {
    assert_eq!(exposition.value("disk_usage_exporter_dropped_series_total", &[]), Some(0.0));
    assert_eq!(exposition.all("pv_disk_usage_up", &[]).len(), snapshot.volumes.len());
    for status in &snapshot.volumes {
        let pv_name = [("pv_name", status.volume.pv_name.as_str())];
        let [(up, _)] = exposition.all("pv_disk_usage_up", &pv_name)[..] else {
            panic!("not one series: {pv_name:?}");
        };
        has_labels_of_objects(up, status);
        let [(info, _)] = exposition.all("pv_disk_usage_volume_info", &pv_name)[..] else {
            panic!("not one volume_info: {pv_name:?}");
        };
        let storage_class = status.volume.pv.as_ref().and_then(|pv| pv.storage_class.clone());
        assert_eq!(label(info, "storage_class"), storage_class.as_deref());
    }
}

/// The values of the objects' labels are written as they are, each once with the prefix of its object.
fn has_labels_of_objects(labels: &Labels, status: &MeasuredVolume) {
    let fixed = ["pv_name", "pvc_name", "pvc_namespace"];
    let written = |prefix: &str| -> Vec<&str> {
        let own =
            labels.iter().filter(|(name, _)| name.starts_with(prefix) && !fixed.contains(&name.as_str()));
        own.map(|(_, value)| value.as_str()).collect()
    };
    let of_pv = status.volume.pv.iter().flat_map(|pv| pv.labels.values());
    assert_eq!(written("pv_"), of_pv.collect::<Vec<_>>());
    let of_claim = status.volume.claim.object().into_iter().flat_map(|claim| claim.labels.values());
    assert_eq!(written("pvc_"), of_claim.collect::<Vec<_>>());
    let key = status.volume.claim.key.as_deref();
    assert_eq!(label(labels, "pvc_name"), key.map(|key| key.name.as_str()));
    assert_eq!(label(labels, "pvc_namespace"), key.map(|key| key.namespace.as_str()));
}

fn label<'a>(labels: &'a Labels, name: &str) -> Option<&'a str> {
    labels.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

/// Mounts of every kind; some share a volume, some only a name.
fn mounts() -> &'static [Arc<VolumeMount>] {
    static MOUNTS: OnceLock<Vec<Arc<VolumeMount>>> = OnceLock::new();
    MOUNTS.get_or_init(|| {
        let found =
            discover(include_bytes!("objects/mountinfo"), "/".as_ref(), &VolumeMatcher::default(), true);
        assert_eq!((found.mounts.len(), found.malformed), (12, 0));
        let described = |mut mount: VolumeMount| {
            let is_known = mount.plugin == "csi" && mount.name.starts_with("csi");
            mount.csi = is_known.then(|| CsiVolume { driver: "a\\b\"".into(), handle: "h\n".into() });
            Arc::new(mount)
        };
        found.mounts.into_iter().map(described).collect()
    })
}

/// By its place in the table, figures or a failure.
fn answer(mount: &VolumeMount) -> ProbeResult {
    let id = mount.id.unwrap();
    match (mount.mode, id % 4) {
        (VolumeMode::Block, _) => Ok(Measurement::Block { size: u128::MAX }),
        (_, 0) => Err(Reason::Stale.into()),
        (_, 1) => Err(Reason::Skipped.into()),
        (_, rest) => Ok(Measurement::Filesystem(Usage {
            total: u128::from(u64::MAX) * 4096,
            used: (id % 8 != 2).then_some(id.into()),
            available: Some(0),
            inodes: (rest == 2).then_some(Inodes { total: u64::MAX, free: id }),
            read_only: false,
        })),
    }
}
