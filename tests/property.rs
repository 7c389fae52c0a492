use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use disk_usage_exporter::cluster::{MetadataHandle, ObjectsFile, Selections};
use disk_usage_exporter::collect::{Collector, CollectorInputs};
use disk_usage_exporter::exposition::{Encoder, Encoding, Format};
use disk_usage_exporter::node::{Node, NodeSettings, VolumeMatcher};
use disk_usage_exporter::runtime::{BlockingWorker, Deadline};
use disk_usage_exporter::volume::{
    Inodes, KubeletSeriesOptions, Measurement, Probe, ProbeResult, Reason, Usage, VolumeMount,
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

fn labels() -> impl Strategy<Value = BTreeMap<String, String>> {
    btree_map(text(), text(), 0..8)
}

#[derive(Debug, Clone)]
struct Row {
    pod: u8,
    plugin: &'static str,
    name: Vec<u8>,
    device: u8,
    answer: Option<(u64, u64, u64)>,
}

fn row() -> impl Strategy<Value = Row> {
    let name = prop_oneof![
        3 => prop::sample::select(vec!["pv", "a", "b"]).prop_map(|name| name.as_bytes().to_vec()),
        1 => vec(any::<u8>().prop_filter("no path", |byte| *byte != b'/'), 1..12),
    ];
    let plugin =
        prop::sample::select(vec!["kubernetes.io~nfs", "kubernetes.io~csi", "v~d", "kubernetes.io~secret"]);
    (0..3_u8, plugin, name, 0..2_u8, any::<Option<(u64, u64, u64)>>())
        .prop_map(|(pod, plugin, name, device, answer)| Row { pod, plugin, name, device, answer })
}

fn uid(pod: u8) -> String {
    format!("6ad83273-bbc5-4a23-9e8c-d796d288e15{pod}")
}

/// The row as the kernel would write it.
fn line(at: usize, row: &Row) -> Vec<u8> {
    let tail = if row.plugin == "kubernetes.io~csi" { "/mount" } else { "" };
    let mut line =
        format!("{at} 1 0:{} / /var/lib/kubelet/pods/{}/volumes/{}/", row.device, uid(row.pod), row.plugin)
            .into_bytes();
    for byte in &row.name {
        match byte {
            b' ' | b'\t' | b'\n' | b'\\' | b'#' => line.extend(format!("\\{byte:03o}").bytes()),
            _ => line.push(*byte),
        }
    }
    line.extend(format!("{tail} rw - nfs4 server:/{} rw\n", row.device).bytes());
    line
}

#[derive(Debug, Clone)]
struct Object {
    name: String,
    labels: BTreeMap<String, String>,
    claim: Option<(String, String)>,
    pod: u8,
    source: Value,
}

fn object() -> impl Strategy<Value = Object> {
    let source = prop_oneof![
        text().prop_map(|t| json!({"nfs": {"server": t, "path": "/e"}})),
        text().prop_map(|t| json!({"csi": {"driver": t, "volumeHandle": "h"}})),
        Just(json!({"accessModes": ["ReadWriteOnce", "ReadOnlyMany"]})),
    ];
    (text(), labels(), any::<Option<()>>(), (text(), text()), 0..3_u8, source).prop_map(
        |(name, labels, bound, claim, pod, source)| Object {
            name,
            labels,
            claim: bound.map(|()| claim),
            pod,
            source,
        },
    )
}

fn objects(objects: &[Object]) -> Value {
    let items = objects.iter().flat_map(|object| {
        let mut spec = object.source.clone();
        let mut items = vec![
            json!({"kind": "Pod", "metadata": {"name": object.name, "namespace": "n", "uid": uid(object.pod)},
            "spec": {"volumes": [{"name": object.name, "nfs": {}}]}}),
        ];
        if let Some((namespace, name)) = &object.claim {
            spec["claimRef"] = json!({"namespace": namespace, "name": name});
            items.push(json!({"kind": "PersistentVolumeClaim",
                "metadata": {"name": name, "namespace": namespace, "labels": object.labels},
                "spec": {"resources": {"requests": {"storage": "1.5Gi"}}}}));
        }
        items.push(json!({"kind": "PersistentVolume",
            "metadata": {"name": object.name, "labels": object.labels}, "spec": spec}));
        items
    });
    json!({"kind": "List", "items": items.collect::<Vec<_>>()})
}

/// Answers by the rows; what has no figures fails.
struct Answers(BTreeMap<u64, Option<(u64, u64, u64)>>);

impl Probe for Answers {
    fn probe(&self, mount: &VolumeMount) -> ProbeResult {
        let (total, used, free) = self.0[&mount.id.unwrap()].ok_or(Reason::Stale)?;
        Ok(Measurement::Filesystem(Usage {
            total: total.into(),
            used: u128::from(used) << 60,
            available: free.into(),
            inodes: Some(Inodes { total, free: free.min(total) }).filter(|_| used > 5),
            read_only: false,
        }))
    }
}

/// Without names that differ in bytes that are no UTF-8 only: written, they are the same, and one of them is left out.
fn told_apart(rows: Vec<Row>) -> Vec<Row> {
    let mut names = BTreeMap::new();
    let mut is_told_apart = |row: &Row| {
        let written = String::from_utf8_lossy(&row.name).into_owned();
        *names.entry(written).or_insert_with(|| row.name.clone()) == row.name
    };
    rows.into_iter().filter(|row| is_told_apart(row)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_objects_and_mounts_the_exposition_is_valid(
        rows in vec(row(), 0..12), cluster in vec(object(), 0..6), per_pod in any::<bool>()
    ) {
        let rows = told_apart(rows);
        let directory = tempfile::tempdir().unwrap();
        let table = directory.path().join("mountinfo");
        let lines: Vec<Vec<u8>> = rows.iter().enumerate().map(|(at, row)| line(at, row)).collect();
        std::fs::write(&table, lines.concat()).unwrap();
        let objects_file = directory.path().join("objects.json");
        std::fs::write(&objects_file, objects(&cluster).to_string()).unwrap();

        let selections = Selections { pv_labels: "*".parse().unwrap(), pvc_labels: "*".parse().unwrap() };
        let worker = BlockingWorker::start("host-files").unwrap();
        let objects = ObjectsFile::open(&objects_file, selections, &worker).unwrap();
        let answers = rows.iter().enumerate().map(|(at, row)| (at as u64, row.answer)).collect();
        let (rootfs, matcher) = (directory.path().to_owned(), VolumeMatcher::default());
        let settings = NodeSettings { rootfs, mount_table: Some(table), matcher, is_recorded: true };
        let node = Node::open(settings, Arc::new(Answers(answers)), &worker).unwrap();
        let mut collector = Collector::new(CollectorInputs {
            mounts: Some((node, MetadataHandle::objects(objects))),
            kubelet: None,
            host_files: worker,
            names: Some(KubeletSeriesOptions { only_missing: false, per_pod }),
        });
        let snapshot = collector.collect(&Deadline::after(Duration::from_mins(1)));
        let volumes = snapshot.volumes.len();
        let prepared = Encoder::default().prepare(snapshot);
        let write = |format| prepared.encode(Encoding { format, gzip: false });

        let text = String::from_utf8(write(Format::Text).concat()).unwrap();
        let parsed = Exposition::parse(&text);
        prop_assert_eq!(parsed.value("disk_usage_exporter_dropped_series_total", &[]), Some(0.0), "no series was lost");
        prop_assert_eq!(parsed.all("pv_disk_usage_up", &[]).len(), volumes);
        let openmetrics = String::from_utf8(write(Format::OpenMetrics).concat()).unwrap();
        let samples = |text: &str| text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect::<Vec<_>>();
        prop_assert_eq!(samples(&text), samples(&openmetrics));
    }
}
