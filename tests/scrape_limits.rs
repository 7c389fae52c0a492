use std::collections::HashSet;
use std::sync::Arc;

use disk_usage_exporter::cluster::Selections;
use disk_usage_exporter::exposition::{Encoder, Encoding, Format};
use disk_usage_exporter::snapshot::{ClaimStats, MeasuredVolume, MountTableStatus, Snapshot};
use disk_usage_exporter::telemetry;
use disk_usage_exporter::volume::{
    BoundClaim, Claim, ClaimKey, ClaimRef, Inodes, Labels, Lookup, MAX_LABEL_VALUE_BYTES, MAX_NAME_BYTES,
    MAX_OBJECT_LABELS, Measurement, PersistentVolume, Pod, PodMount, Reason, Usage, Volume, VolumeMode,
    VolumeMount, VolumeSource,
};
use serde_json::{Value, json};

use crate::support::document::{files, read, root};
use crate::support::helm::released;
use crate::support::manifest::{Manifest, list};

/// What the shipped limits are made for: volumes of a node, and pods that mount them.
const VOLUMES: usize = 1_000;
const PODS_OF_A_VOLUME: usize = 3;
/// Labels of the target itself, and those that relabelling adds.
const TARGET_LABELS: usize = 20;
/// Of the exporter itself, most of them requests to the API server by each status that there can be.
const OWN_SAMPLES: usize = 3 * 1_000 + 1_000;

/// The longest text that is a name, and the longest of others: each character is escaped, and so takes two bytes.
fn name(kind: &str, number: usize) -> String {
    format!("{kind}{number:0width$}", width = MAX_NAME_BYTES - kind.len())
}

fn text() -> String {
    "\"".repeat(MAX_LABEL_VALUE_BYTES)
}

fn labels(count: usize, bytes: usize) -> Labels {
    (0..count).map(|number| (format!("l{number}"), "\\".repeat(bytes))).collect()
}

fn mount(number: usize, pod: usize) -> PodMount {
    let path = format!("{number}-{pod}");
    let path = format!("{path}{}", &text()[path.len()..]);
    let mount = VolumeMount {
        name: name("v", number),
        plugin: "nfs".into(),
        pod_uid: Some(name("u", pod)),
        csi: None,
        mode: VolumeMode::Filesystem,
        mountpoint: path.into(),
        id: Some(u64::MAX),
        device_number: Some((u32::MAX, u32::MAX)),
        device: text().into(),
        root: Some(text().into()),
        fstype: text().into(),
        read_only: Some(false),
        is_read_only_here: false,
        superblock_read_only: Some(false),
    };
    let pod = Pod { namespace: name("n", pod), name: name("p", pod), ..Pod::default() };
    PodMount { mount: Arc::new(mount), pod: Some(Arc::new(pod)) }
}

/// A volume of which everything is as long as it can be.
fn volume(number: usize, labels: Labels) -> Volume {
    let key = ClaimKey { namespace: name("n", number), name: name("c", number) };
    let claim = Claim {
        labels: labels.clone(),
        excluded_from_alerts: Some("\"".repeat(MAX_NAME_BYTES)),
        requested_bytes: Some(u128::MAX),
        ..Claim::default()
    };
    let pv = PersistentVolume {
        labels,
        claim: Some(ClaimRef { key: key.clone(), uid: None }),
        storage_class: Some("\"".repeat(MAX_NAME_BYTES)),
        source: Some(VolumeSource {
            plugin: "nfs".into(),
            kind: "\"".repeat(MAX_NAME_BYTES),
            instance: Some(text()),
        }),
        mode: Some("\"".repeat(MAX_NAME_BYTES)),
        access_modes: vec!["\"".repeat(MAX_NAME_BYTES); 4],
        ..PersistentVolume::default()
    };
    Volume {
        pv_name: name("v", number),
        mounts: (0..PODS_OF_A_VOLUME).map(|pod| mount(number, pod)).collect(),
        pv: Some(Arc::new(pv)),
        claim: BoundClaim { key: Some(Arc::new(key)), object: Some(Lookup::Found(Arc::new(claim))) },
    }
}

/// Everything that a node with so many volumes can have, with these labels.
fn largest(volumes: usize, labels: &Labels) -> Snapshot {
    let inodes = Some(Inodes { total: u64::MAX, free: 1 });
    let most = u128::from(u64::MAX) * u128::from(u32::MAX);
    let usage = Usage { total: most, used: Some(most - 7), available: Some(5), inodes, read_only: false };
    // Of several mounts, one is measured and the others fail, for different reasons.
    let results =
        [Ok(Measurement::Filesystem(usage)), Err(Reason::NotMounted.into()), Err(Reason::Timeout.into())];
    let measured = |number| MeasuredVolume::new(Arc::new(volume(number, labels.clone())), results);
    let volumes: Vec<_> = (0..volumes).map(measured).collect();
    let stats = Some(Measurement::Filesystem(usage));
    let claims = volumes.iter().flat_map(|volume| {
        (0..PODS_OF_A_VOLUME).map(|pod| ClaimStats {
            claim: Arc::clone(volume.volume.claim.key.as_ref().unwrap()),
            pod: Some(name("p", pod).into()),
            stats,
            abnormal: Some(true),
        })
    });
    Snapshot {
        claims: claims.collect(),
        volumes,
        table: Some(MountTableStatus { readable: true, ..MountTableStatus::default() }),
        ..Snapshot::default()
    }
}

/// The bytes of an exposition, its samples, and the most labels of one.
#[derive(Debug)]
struct Size {
    bytes: usize,
    samples: usize,
    labels: usize,
}

fn size(snapshot: Snapshot, format: Format) -> Size {
    let mut encoder = Encoder::new(Selections::default(), telemetry::registry());
    let chunks = encoder.prepare(snapshot).encode(Encoding { format, gzip: false });
    let text = String::from_utf8(chunks.concat()).unwrap();
    let samples = || text.lines().filter(|line| !line.starts_with('#'));
    let label_count = |line: &str| line.matches("=\"").count();
    Size { bytes: text.len(), samples: samples().count(), labels: samples().map(label_count).max().unwrap() }
}

/// What a job or a monitor allows: samples, labels and bytes.
fn allowed(config: &Value, fields: [&str; 3], place: &str) -> (String, [usize; 3]) {
    let [samples, labels] = [fields[0], fields[1]].map(|field| config[field].as_u64().unwrap_or_default());
    // Prometheus and its operator both mean powers of two.
    let bytes = config[fields[2]].as_str().and_then(|text| text.strip_suffix("MB")?.parse::<usize>().ok());
    let number = |value: u64| usize::try_from(value).unwrap();
    (place.to_owned(), [number(samples), number(labels), bytes.unwrap_or_default() << 20])
}

/// The YAML files below a directory, but not those that are templates.
fn manifests(directory: &str) -> Vec<String> {
    let entries = std::fs::read_dir(root().join(directory)).unwrap().map(|entry| entry.unwrap().path());
    let below = entries.filter(|path| path.is_dir() && !path.is_symlink() && !path.ends_with("templates"));
    let below = below.flat_map(|path| manifests(path.strip_prefix(root()).unwrap().to_str().unwrap()));
    files(directory, "yaml").into_iter().chain(below).collect()
}

/// What all shipped jobs and monitors allow.
fn shipped_limits() -> Vec<(String, [usize; 3])> {
    let of_monitor = |object: &Value, place: &str| {
        allowed(&object["spec"], ["sampleLimit", "labelLimit", "bodySizeLimit"], place)
    };
    let kinds = ["PodMonitor", "ServiceMonitor"];
    let mut all = Vec::new();
    for path in manifests("manifests") {
        for object in Manifest::parse(&read(&path)).0 {
            let jobs = list(&object["scrape_configs"]).iter();
            all.extend(
                jobs.map(|job| allowed(job, ["sample_limit", "label_limit", "body_size_limit"], &path)),
            );
            if kinds.contains(&object["kind"].as_str().unwrap_or_default()) {
                all.push(of_monitor(&object, &path));
            }
        }
    }
    assert_eq!(all.len(), 4, "{all:?}");
    let releases = released(&kinds.map(|kind| json!({"monitor": {"kind": kind}}))).into_iter().flatten();
    let monitors = kinds.iter().zip(releases);
    all.extend(
        monitors
            .map(|(kind, release)| of_monitor(release.manifest.the(kind), &format!("the chart's {kind}"))),
    );
    all
}

#[test]
fn no_tenant_can_make_a_whole_scrape_exceed_the_shipped_limits() {
    // Labels of objects cost nothing more: a node of so many volumes has no room for them, besides names that are as long
    // as can be.
    let of_objects = labels(MAX_OBJECT_LABELS, 10);
    let sizes = [(Format::Text, &Labels::new()), (Format::OpenMetrics, &of_objects)]
        .map(|(format, labels)| size(largest(VOLUMES, labels), format));
    assert!(sizes[0].bytes.abs_diff(sizes[1].bytes) < 100_000, "{sizes:?}");
    let most = Size {
        bytes: sizes.iter().map(|size| size.bytes).max().unwrap(),
        samples: sizes.iter().map(|size| size.samples).max().unwrap(),
        labels: size(largest(1, &of_objects), Format::Text).labels,
    };
    // Three resources, and as many statuses as HTTP has; the rest is there from the start.
    assert!(size(Snapshot::default(), Format::Text).samples + 3 * 900 < OWN_SAMPLES);
    assert_eq!(most.labels, 3 * MAX_OBJECT_LABELS + 7);
    println!("{VOLUMES} volumes, {} mounts: {most:?}", VOLUMES * PODS_OF_A_VOLUME);
    let needed = [most.samples + OWN_SAMPLES, most.labels + TARGET_LABELS, most.bytes + OWN_SAMPLES * 200];
    let limits = shipped_limits();
    for (place, allowed) in &limits {
        assert!(
            allowed.iter().zip(&needed).all(|(allowed, needed)| allowed > needed),
            "{place}: {allowed:?}, {needed:?}"
        );
    }
    let distinct: HashSet<_> = limits.iter().map(|(_, limits)| limits).collect();
    assert_eq!(distinct.len(), 1, "they are the same everywhere: {limits:?}");
}
