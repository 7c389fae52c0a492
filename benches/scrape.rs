//! What a scrape costs, part by part, on a node that is a file: no system call of a volume is in these figures.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use disk_usage_exporter::cluster::{MetadataHandle, ObjectsFile, Selections};
use disk_usage_exporter::collect::{Collector, CollectorInputs};
use disk_usage_exporter::exposition::{Encoder, Encoding, Format};
use disk_usage_exporter::node::{Node, NodeSettings, VolumeMatcher};
use disk_usage_exporter::report::Page;
use disk_usage_exporter::runtime::{BlockingWorker, Deadline};
use disk_usage_exporter::volume::{Exclusions, Inodes, Measurement, Probe, ProbeResult, Usage, VolumeMount};
use serde_json::json;

/// Volumes and mounts of a node.
const SIZES: [(usize, usize); 2] = [(100, 600), (1_000, 3_000)];
/// Lines of a mount table, of which a sixth are volumes.
const LINES: [usize; 3] = [100, 1_000, 10_000];
/// Labels of a claim; the `PersistentVolume` has as many.
const LABELS: usize = 5;

struct Answers;

impl Probe for Answers {
    fn probe(&self, _: &VolumeMount) -> ProbeResult {
        Ok(Measurement::Filesystem(Usage {
            total: 270_553_174_016,
            used: Some(20_328_435_712),
            available: Some(77_244_313_600),
            inodes: Some(Inodes { total: 16_777_216, free: 16_245_799 }),
            read_only: false,
        }))
    }
}

fn uid(number: usize) -> String {
    format!("6ad83273-bbc5-4a23-9e8c-{number:012}")
}

fn table((volumes, mounts): (usize, usize)) -> String {
    let rows = (0..mounts).map(|id| {
        let (plugin, name) = if id < volumes { ("nfs", "pvc") } else { ("projected", "token") };
        let pod = uid(id);
        format!(
            "{id} 1 8:{id} / /var/lib/kubelet/pods/{pod}/volumes/kubernetes.io~{plugin}/{name}-{id} \
             rw,relatime shared:{id} - ext4 /dev/sd{id} rw,discard\n"
        )
    });
    rows.collect::<Vec<_>>().concat()
}

fn objects((volumes, _): (usize, usize)) -> String {
    let labels = |kind: &str| -> serde_json::Map<_, _> {
        (0..LABELS).map(|i| (format!("example.com/{kind}-{i}"), format!("value-{i}").into())).collect()
    };
    let items = (0..volumes).flat_map(|id| {
        let claim = json!({"namespace": "shop", "name": format!("claim-{id}")});
        [
            json!({"kind": "PersistentVolume", "metadata": {"name": format!("pvc-{id}"), "labels": labels("pv")},
                "spec": {"claimRef": claim, "nfs": {"server": "nas", "path": format!("/export/{id}")}}}),
            json!({"kind": "PersistentVolumeClaim",
                "metadata": {"name": format!("claim-{id}"), "namespace": "shop", "labels": labels("pvc")},
                "spec": {"resources": {"requests": {"storage": "64Mi"}}}}),
            json!({"kind": "Pod", "metadata": {"name": format!("pod-{id}"), "namespace": "shop", "uid": uid(id)},
                "spec": {}}),
        ]
    });
    json!({"items": items.collect::<Vec<_>>()}).to_string()
}

fn node(directory: &Path, size: (usize, usize)) -> Node {
    let mount_table = directory.join("mountinfo");
    std::fs::write(&mount_table, table(size)).unwrap();
    let worker = BlockingWorker::start("host-files").unwrap();
    let (rootfs, matcher) = (directory.to_owned(), VolumeMatcher::default());
    let settings = NodeSettings { rootfs, mount_table: Some(mount_table), matcher, is_recorded: true };
    Node::open(settings, Arc::new(Answers), &worker).unwrap()
}

fn collector(directory: &Path, size: (usize, usize)) -> Collector {
    let file = directory.join("objects.json");
    std::fs::write(&file, objects(size)).unwrap();
    let selections = Selections::default();
    let worker = BlockingWorker::start("host-files").unwrap();
    let objects = MetadataHandle::objects(ObjectsFile::open(&file, selections, &worker).unwrap());
    Collector::new(CollectorInputs {
        mounts: Some((node(directory, size), objects)),
        kubelet: None,
        host_files: worker,
        names: None,
        exclusions: Exclusions::default(),
    })
}

/// Reading a table, recognising its volumes, and finding that they are those of the last reading.
fn scan(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("scan");
    for lines in LINES {
        let directory = tempfile::tempdir().unwrap();
        let mut node = node(directory.path(), (lines / 6, lines));
        let mut scan = || node.scan(Instant::now(), &Deadline::after(Duration::ZERO));
        assert_eq!(scan().len(), lines / 6);
        group.throughput(Throughput::Elements(lines as u64));
        group.bench_function(BenchmarkId::from_parameter(lines), |b| b.iter(&mut scan));
    }
    group.finish();
}

fn scrape(criterion: &mut Criterion) {
    for size in SIZES {
        let directory = tempfile::tempdir().unwrap();
        let mut collector = collector(directory.path(), size);
        let mut collect = || collector.collect(&Deadline::after(Duration::from_mins(1)));
        let (snapshot, shown) = (collect(), collect());
        assert_eq!(
            snapshot.volumes.iter().filter(|status| status.volume.claim.object().is_some()).count(),
            size.0
        );
        let mut exposition = Encoder::default();
        let prepared = exposition.prepare(snapshot);

        let volumes = size.0;
        let mut group = criterion.benchmark_group("scrape");
        // A plain file is read on every scrape; the kernel's own table only when it changed.
        group.bench_function(BenchmarkId::new("collect_and_parse", volumes), |b| b.iter(&mut collect));
        group.bench_function(BenchmarkId::new("prepare_first", volumes), |b| {
            b.iter_batched(
                &mut collect,
                |snapshot| Encoder::default().prepare(snapshot),
                BatchSize::LargeInput,
            );
        });
        group.bench_function(BenchmarkId::new("prepare_again", volumes), |b| {
            b.iter_batched(&mut collect, |snapshot| exposition.prepare(snapshot), BatchSize::LargeInput);
        });
        for (name, gzip) in [("write_text", false), ("write_gzip", true)] {
            let encoding = Encoding { format: Format::Text, gzip };
            group.bench_function(BenchmarkId::new(name, volumes), |b| b.iter(|| prepared.encode(encoding)));
        }
        let page = Page::default();
        group.bench_function(BenchmarkId::new("page_gzip", volumes), |b| b.iter(|| page.write(&shown, true)));
        group.finish();
    }
}

criterion_group!(benches, scan, scrape);
criterion_main!(benches);
