use super::*;
use crate::compression::BUFFER_BYTES;
use crate::snapshot::{MeasuredVolume, MountTableStatus};
use crate::volume::samples::{mount, volume};
use crate::volume::{
    BoundClaim, Claim, Lookup, Measurement, ProbeResult, Reason, Usage, Volume, VolumeMount,
};
use flate2::read::GzDecoder;
use std::io::Read;
use std::sync::Arc;

fn status(pv_name: &str, answers: &[ProbeResult]) -> MeasuredVolume {
    let mounts = answers.iter().map(|_| Arc::new(mount(pv_name, "nfs", "uid"))).collect();
    MeasuredVolume::new(Arc::new(volume(mounts)), answers)
}

fn written(volumes: Vec<MeasuredVolume>, exposition: &mut Encoder, format: Format) -> String {
    exposed(Snapshot { volumes, ..Snapshot::default() }, exposition, format)
}

fn exposed(snapshot: Snapshot, exposition: &mut Encoder, format: Format) -> String {
    let prepared = exposition.prepare(snapshot);
    String::from_utf8(prepared.encode(Encoding { format, gzip: false }).concat()).unwrap()
}

fn lines<'a>(text: &'a str, family: &str) -> Vec<&'a str> {
    text.lines().filter(|line| line.split(['{', ' ']).any(|word| word == family)).collect()
}

const BLOCK: ProbeResult = Ok(Measurement::Block { size: 64 << 20 });

#[test]
fn the_two_formats_differ_in_counters_units_and_end() {
    let text = written(vec![], &mut Encoder::default(), Format::Text);
    let openmetrics = written(vec![], &mut Encoder::default(), Format::OpenMetrics);
    let help = "Series left out because one with the same labels was already written.";
    assert_eq!(
        lines(&text, "disk_usage_exporter_dropped_series_total"),
        [
            format!("# HELP disk_usage_exporter_dropped_series_total {help}").as_str(),
            "# TYPE disk_usage_exporter_dropped_series_total counter",
            "disk_usage_exporter_dropped_series_total 0",
        ]
    );
    assert_eq!(
        lines(&openmetrics, "disk_usage_exporter_dropped_series"),
        [
            format!("# HELP disk_usage_exporter_dropped_series {help}").as_str(),
            "# TYPE disk_usage_exporter_dropped_series counter",
        ]
    );
    assert!(openmetrics.contains("\ndisk_usage_exporter_dropped_series_total 0\n"));
    let unit = "# UNIT pv_disk_usage_timing_collect_seconds seconds";
    assert!(openmetrics.lines().any(|line| line == unit) && !text.contains("# UNIT"));
    assert!(openmetrics.ends_with("\n# EOF\n") && !text.contains("# EOF"));
}

#[test]
fn a_block_device_has_a_size_and_nothing_else() {
    let text = written(vec![status("pv", &[BLOCK])], &mut Encoder::default(), Format::Text);
    let labels = r#"{pv_name="pv",volume_name="pv"}"#;
    let samples: Vec<&str> = text.lines().filter(|line| line.contains(labels)).collect();
    assert_eq!(
        samples,
        [
            format!("pv_disk_usage_bytes_total{labels} 67108864").as_str(),
            format!("pv_disk_usage_up{labels} 1").as_str(),
        ]
    );
}

#[test]
fn the_first_mount_that_answers_gives_the_figures_and_every_failure_its_reason() {
    let usage = |total| {
        Ok(Measurement::Filesystem(Usage {
            total,
            used: Some(1),
            available: Some(1),
            inodes: None,
            read_only: true,
        }))
    };
    let io: ProbeResult = Err(Reason::Io.into());
    let stale: ProbeResult = Err(Reason::Stale.into());
    let answers = [stale, usage(u128::MAX), io, usage(7), io];
    let text = written(vec![status("pv", &answers)], &mut Encoder::default(), Format::Text);
    let samples: Vec<&str> = text.lines().filter(|line| line.starts_with("pv_disk_usage_")).collect();
    let labels = r#"{pv_name="pv",volume_name="pv"}"#;
    assert!(samples.contains(&format!("pv_disk_usage_bytes_total{labels} {}", u128::MAX).as_str()));
    assert!(!samples.iter().any(|line| line.starts_with("pv_disk_usage_readonly")), "others may be writable");
    let errors: Vec<&&str> = samples.iter().filter(|line| line.starts_with("pv_disk_usage_error")).collect();
    assert_eq!(
        errors,
        [
            &r#"pv_disk_usage_error{pv_name="pv",reason="stale"} 1"#,
            &r#"pv_disk_usage_error{pv_name="pv",reason="io"} 1"#,
        ]
    );
}

#[test]
fn a_label_set_that_is_already_there_is_dropped_and_counted() {
    let mut exposition = Encoder::default();
    let dropped = |text: &str| lines(text, "disk_usage_exporter_dropped_series_total")[2].to_owned();
    let twice = || vec![status("pv", &[BLOCK]), status("pv", &[BLOCK])];
    let text = written(twice(), &mut exposition, Format::Text);
    assert_eq!(text.lines().filter(|line| line.starts_with("pv_disk_usage_up{")).count(), 1);
    assert_eq!(dropped(&text), "disk_usage_exporter_dropped_series_total 1");
    let text = written(twice(), &mut exposition, Format::Text);
    assert_eq!(dropped(&text), "disk_usage_exporter_dropped_series_total 2", "it counts on");
    let same_mount = vec![status("pv", &[BLOCK, BLOCK])];
    let text = written(same_mount, &mut exposition, Format::Text);
    assert_eq!(text.lines().filter(|line| line.starts_with("pv_disk_usage_mount_info{")).count(), 1);
    assert_eq!(dropped(&text), "disk_usage_exporter_dropped_series_total 3");
}

#[test]
fn gzip_and_identity_decode_to_the_same() {
    let volumes = (0..500).map(|i| status(&format!("pv-{i:03}"), &[BLOCK])).collect();
    let prepared = Encoder::default().prepare(Snapshot { volumes, ..Snapshot::default() });
    let plain = prepared.encode(Encoding { format: Format::Text, gzip: false });
    let compressed = prepared.encode(Encoding { format: Format::Text, gzip: true });
    let mut decoded = Vec::new();
    GzDecoder::new(&*compressed.concat()).read_to_end(&mut decoded).unwrap();
    assert!(plain.concat().len() > BUFFER_BYTES, "more than one write");
    assert_eq!(decoded, plain.concat());
}

#[test]
fn families_come_in_the_catalogues_order() {
    let text = written(vec![status("pv", &[BLOCK])], &mut Encoder::default(), Format::Text);
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    let written: Vec<&str> = types.collect();
    let catalogue = FAMILIES.iter().map(|family| family.name);
    // What is registered follows.
    let catalogue = catalogue.chain(["disk_usage_exporter_dropped_series_total"]);
    assert_eq!(written, catalogue.filter(|name| written.contains(name)).collect::<Vec<_>>());
    assert!(written.len() > 5);
}

#[test]
fn volumes_that_are_pending_or_excluded_are_counted_where_there_is_a_table() {
    let states = |readable| {
        let table = MountTableStatus { readable, ..MountTableStatus::default() };
        let snapshot = Snapshot {
            volumes: vec![status("pv", &[BLOCK]), status("store", &[Err(Reason::NoFigures.into())])],
            pending: 3,
            excluded: 2,
            table: Some(table),
            ..Snapshot::default()
        };
        let text = exposed(snapshot, &mut Encoder::default(), Format::Text);
        let samples = text.lines().filter(|line| line.starts_with("disk_usage_exporter_volumes{"));
        samples.map(|line| line.rsplit_once('{').unwrap().1.to_owned()).collect::<Vec<_>>()
    };
    let expected =
        ["measured 1", "failed 0", "hung 0", "skipped 0", "unsupported 1", "pending 3", "excluded 2"];
    let expected = expected.map(|state| format!("state=\"{}", state.replace(' ', "\"} ")));
    assert_eq!(states(true), expected);
    assert_eq!(states(false), expected[6..], "claims of the kubelet");
}

#[test]
fn volumes_on_a_file_system_are_told_with_its_server_or_its_device() {
    let volume_of = |name: &str, number, on_filesystem, fstype: &str| {
        let mount = VolumeMount {
            device_number: Some((0, number)),
            fstype: fstype.into(),
            ..mount(name, "nfs", "uid")
        };
        let usage = Usage { total: 9, used: Some(0), available: Some(9), inodes: None, read_only: false };
        let usage = [Ok(Measurement::Filesystem(usage))];
        let mut measured = MeasuredVolume::new(Arc::new(volume(vec![Arc::new(mount)])), usage);
        measured.filesystem_volumes = Some(on_filesystem);
        measured
    };
    let mut failed = status("z-failed", &[Err(Reason::Io.into())]);
    failed.filesystem_volumes = Some(3);
    let volumes = vec![
        volume_of("a", 50, 3, "nfs4"),
        volume_of("quota", 50, 1, "nfs4"),
        volume_of("z-local", 51, 1, "xfs"),
        status("z-none", &[BLOCK]),
        failed,
    ];
    let text = written(volumes, &mut Encoder::default(), Format::Text);
    assert_eq!(
        lines(&text, "pv_disk_usage_filesystem_volumes")[2..],
        [
            r#"pv_disk_usage_filesystem_volumes{pv_name="a",filesystem="server"} 3"#,
            r#"pv_disk_usage_filesystem_volumes{pv_name="quota",filesystem="server"} 1"#,
            r#"pv_disk_usage_filesystem_volumes{pv_name="z-local",filesystem="0:51"} 1"#,
        ]
    );
}

#[test]
fn dropped_labels_are_counted_where_there_is_a_table() {
    let volumes = || {
        let claim = Claim { dropped_labels: 3, ..Claim::default() };
        let claim = BoundClaim { key: None, object: Some(Lookup::Found(Arc::new(claim))) };
        let mounts =
            vec![Arc::new(VolumeMount { device: "x".repeat(1025).into(), ..mount("pv", "nfs", "uid") })];
        vec![MeasuredVolume::new(Arc::new(Volume { claim, ..volume(mounts) }), [BLOCK])]
    };
    let table = Some(MountTableStatus { readable: true, ..MountTableStatus::default() });
    let text = exposed(
        Snapshot { volumes: volumes(), table, ..Snapshot::default() },
        &mut Encoder::default(),
        Format::Text,
    );
    assert_eq!(
        lines(&text, "disk_usage_exporter_dropped_labels")[2],
        "disk_usage_exporter_dropped_labels 4",
        "the device's is too long"
    );
    assert!(!text.contains("device=") && text.contains("fstype="), "{text}");
    let text = written(volumes(), &mut Encoder::default(), Format::Text);
    assert!(lines(&text, "disk_usage_exporter_dropped_labels").is_empty());
}
