use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use disk_usage_exporter::cluster::{MetadataHandle, ObjectsFile, Selections};
use disk_usage_exporter::collect::{Collector, CollectorInputs};
use disk_usage_exporter::exposition::{Encoder, Encoding, Format};
use disk_usage_exporter::node::{Node, NodeSettings, VolumeMatcher};
use disk_usage_exporter::runtime::{BlockingWorker, Deadline};
use disk_usage_exporter::volume::{
    Exclusions, Inodes, KubeletSeriesOptions, Measurement, Probe, ProbeResult, Reason, Usage, VolumeMount,
};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::support::exposition::Exposition;

/// Names of which some collide, some escape, and some are what no cluster has.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => prop::sample::select(vec!["name", "name_conflict1", "name_conflict2", "type", "instance", "namespace",
            "label_source", "app.kubernetes.io/name", "app-kubernetes-io/name", "App", "é", "", "pv", "a", "b"])
            .prop_map(str::to_owned),
        1 => "[ -~\\n\\t\\\\\"é\u{1F600}]{0,12}",
        1 => any::<String>(),
    ]
}

fn uid(pod: u8) -> String {
    format!("6ad83273-bbc5-4a23-9e8c-d796d288e15{pod}")
}

/// Figures of a mount; without them it fails.
type Figures = Option<(u64, u64, u64)>;

/// A mount's name, its row from the root on as the kernel would write it, and its figures.
fn row() -> impl Strategy<Value = (Vec<u8>, Vec<u8>, Figures)> {
    let name = prop_oneof![
        3 => prop::sample::select(vec!["pv", "a", "b"]).prop_map(|name| name.as_bytes().to_vec()),
        1 => vec(any::<u8>().prop_filter("no path", |byte| *byte != b'/'), 1..12),
    ];
    let plugins = vec!["kubernetes.io~nfs", "kubernetes.io~csi", "v~d", "kubernetes.io~secret"];
    (0..3_u8, prop::sample::select(plugins), name, 0..2_u8, any::<Figures>()).prop_map(
        |(pod, plugin, name, device, figures)| {
            let directory = format!("/var/lib/kubelet/pods/{}/volumes/{plugin}/", uid(pod));
            let mut row = format!("1 0:{device} / {directory}").into_bytes();
            for byte in &name {
                match byte {
                    b' ' | b'\t' | b'\n' | b'\\' | b'#' => row.extend(format!("\\{byte:03o}").bytes()),
                    _ => row.push(*byte),
                }
            }
            let tail = if plugin == "kubernetes.io~csi" { "/mount" } else { "" };
            row.extend(format!("{tail} rw - nfs4 server:/{device} rw\n").bytes());
            (name, row, figures)
        },
    )
}

/// A pod, and a volume that may have a claim.
fn objects() -> impl Strategy<Value = Vec<Value>> {
    let source = prop_oneof![
        text().prop_map(|t| json!({"nfs": {"server": t, "path": "/e"}})),
        text().prop_map(|t| json!({"csi": {"driver": t, "volumeHandle": "h"}})),
        Just(json!({"accessModes": ["ReadWriteOnce", "ReadOnlyMany"]})),
    ];
    let labels = btree_map(text(), text(), 0..8);
    (text(), labels, any::<bool>(), (text(), text()), 0..3_u8, source).prop_map(
        |(name, labels, is_bound, (namespace, claim), pod, mut spec)| {
            if is_bound {
                spec["claimRef"] = json!({"namespace": namespace, "name": claim});
            }
            let claim = json!({"kind": "PersistentVolumeClaim",
                "metadata": {"name": claim, "namespace": namespace, "labels": labels},
                "spec": {"resources": {"requests": {"storage": "1.5Gi"}}}});
            let pod = json!({"kind": "Pod", "metadata": {"name": name, "namespace": "n", "uid": uid(pod)},
                "spec": {"volumes": [{"name": name, "nfs": {}}]}});
            let metadata = json!({"name": name, "labels": labels});
            let volume = json!({"kind": "PersistentVolume", "metadata": metadata, "spec": spec});
            [pod].into_iter().chain(is_bound.then_some(claim)).chain([volume]).collect()
        },
    )
}

/// Answers by the rows' ids.
struct Answers(Vec<Figures>);

impl Probe for Answers {
    fn probe(&self, mount: &VolumeMount) -> ProbeResult {
        let id = usize::try_from(mount.id.unwrap()).unwrap();
        let (total, used, free) = self.0[id].ok_or(Reason::Stale)?;
        Ok(Measurement::Filesystem(Usage {
            total: total.into(),
            used: Some(u128::from(used) << 60),
            available: Some(free.into()),
            inodes: Some(Inodes { total, free: free.min(total) }).filter(|_| used > 5),
            read_only: false,
        }))
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_objects_and_mounts_the_exposition_is_valid(
        mut rows in vec(row(), 0..12), cluster in vec(objects(), 0..6), per_pod in any::<bool>()
    ) {
        // Of names that differ in bytes that are no UTF-8 only, and so are written alike, one is left out.
        let names: BTreeSet<Vec<u8>> = rows.iter().map(|(name, ..)| name.clone()).collect();
        let written: BTreeMap<_, _> = names.iter().map(|name| (String::from_utf8_lossy(name), name)).collect();
        rows.retain(|(name, ..)| written[&String::from_utf8_lossy(name)] == name);
        let directory = tempfile::tempdir().unwrap();
        let table = directory.path().join("mountinfo");
        let lines = rows.iter().enumerate().map(|(id, (_, row, _))| [format!("{id} ").as_bytes(), row].concat());
        std::fs::write(&table, lines.collect::<Vec<_>>().concat()).unwrap();
        let objects_file = directory.path().join("objects.json");
        std::fs::write(&objects_file, json!({"kind": "List", "items": cluster.concat()}).to_string()).unwrap();

        let selections = Selections::default();
        let worker = BlockingWorker::start("host-files").unwrap();
        let objects = ObjectsFile::open(&objects_file, selections, &worker).unwrap();
        let answers = Answers(rows.iter().map(|(.., figures)| *figures).collect());
        let (rootfs, matcher) = (directory.path().to_owned(), VolumeMatcher::default());
        let settings = NodeSettings { rootfs, mount_table: Some(table), matcher, is_recorded: true };
        let node = Node::open(settings, Arc::new(answers), &worker).unwrap();
        let mut collector = Collector::new(CollectorInputs {
            mounts: Some((node, MetadataHandle::objects(objects))),
            kubelet: None,
            host_files: worker,
            names: Some(KubeletSeriesOptions { only_missing_after: None, per_pod }),
            exclusions: Exclusions::default(),
        });
        let snapshot = collector.collect(&Deadline::after(Duration::from_mins(1)));
        let volumes = snapshot.volumes.len();
        let prepared = Encoder::default().prepare(snapshot);
        let write = |format| String::from_utf8(prepared.encode(Encoding { format, gzip: false }).concat()).unwrap();

        let (text, openmetrics) = (write(Format::Text), write(Format::OpenMetrics));
        let parsed = Exposition::parse(&text);
        prop_assert_eq!(parsed.value("disk_usage_exporter_dropped_series_total", &[]), Some(0.0), "no series was lost");
        prop_assert_eq!(parsed.all("pv_disk_usage_up", &[]).len(), volumes);
        let samples = |text: &str| text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect::<Vec<_>>();
        prop_assert_eq!(samples(&text), samples(&openmetrics));
    }
}
