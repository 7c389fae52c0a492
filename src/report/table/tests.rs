use std::sync::Arc;

use super::*;
use crate::snapshot::{ClaimStats, MeasuredVolume, MountTableStatus, SourceStatus};
use crate::volume::samples::{mount, volume};
use crate::volume::{BoundClaim, ClaimKey, Inodes, Measurement, Pod, ProbeResult, Reason, Usage};

fn key(namespace: &str, name: &str) -> ClaimKey {
    ClaimKey { namespace: namespace.into(), name: name.into() }
}

/// A volume of a claim of its name, with this answer.
fn status(namespace: &str, name: &str, answer: ProbeResult) -> MeasuredVolume {
    let mut volume = volume(vec![Arc::new(mount(&format!("pv-{name}"), "nfs", "uid"))]);
    let pod = Pod { namespace: namespace.into(), name: format!("{name}-0"), ..Pod::default() };
    volume.mounts[0].pod = Some(Arc::new(pod));
    volume.pv = Some(Arc::default());
    volume.claim = BoundClaim { key: Some(Arc::new(key(namespace, name))), object: None };
    MeasuredVolume::new(Arc::new(volume), [answer])
}

fn used(percent: u8) -> Measurement {
    let (used, available) = (Some(u128::from(percent) << 20), Some(u128::from(100 - percent) << 20));
    let inodes = Some(Inodes { total: 100, free: percent.into() });
    Measurement::Filesystem(Usage { total: 100 << 20, used, available, inodes, read_only: false })
}

fn snapshot() -> Snapshot {
    let volumes = vec![
        status("shop", "half", Ok(used(50))),
        status("shop", "block", Ok(Measurement::Block { size: 1 << 30 })),
        status("mail", "full", Ok(used(100))),
        status("mail", "hung", Err(Reason::Timeout.into())),
        status("mail", "high", Ok(used(80))),
        status("shop", "bucket", Err(Reason::NoFigures.into())),
    ];
    Snapshot { volumes, table: Some(answered()), ..Snapshot::default() }
}

fn answered() -> MountTableStatus {
    MountTableStatus { readable: true, ..MountTableStatus::default() }
}

fn columns(text: &str) -> Output {
    text.parse().unwrap()
}

fn text(settings: &TableOptions) -> String {
    let snapshot = snapshot();
    Table::new(&snapshot, settings).text(false)
}

#[test]
fn what_failed_is_first_and_then_the_fullest() {
    assert_eq!(
        text(&TableOptions::default()),
        "\
NAMESPACE  CLAIM        USED%   USED   SIZE  AVAILABLE  PODS      VOLUME
mail       hung       timeout      -      -          -  hung-0    pv-hung
mail       full        100.0%  100Mi  100Mi          0  full-0    pv-full
mail       high         80.0%   80Mi  100Mi       20Mi  high-0    pv-high
shop       half         50.0%   50Mi  100Mi       50Mi  half-0    pv-half
shop       block            -      -  1.0Gi          -  block-0   pv-block
shop       bucket  no_figures      -      -          -  bucket-0  pv-bucket
"
    );
}

#[test]
fn inodes_have_an_order_of_their_own() {
    let settings =
        TableOptions { inodes: true, output: columns("claim,used%,used"), ..TableOptions::default() };
    assert_eq!(
        text(&settings),
        "\
CLAIM   INODES-USED%  INODES-USED
hung         timeout            -
half           50.0%           50
high           20.0%           20
full            0.0%            0
block              -            -
bucket    no_figures            -
"
    );
}

#[test]
fn a_namespace_and_a_threshold_choose() {
    let shown = |namespace: Option<&str>, over, inodes| {
        let output = columns("claim");
        let settings = TableOptions {
            namespace: namespace.map(Into::into),
            over,
            inodes,
            output,
            ..TableOptions::default()
        };
        let snapshot = snapshot();
        let report = Table::new(&snapshot, &settings);
        let text = report.text(false);
        let names = text.lines().skip(1).collect::<Vec<_>>().join(" ");
        (names, report.is_over(), report.notices.join("; "))
    };
    let blind = "1 volume could not be measured and may be over the threshold";
    let of = |names: &str, is_over, notes: &str| (names.to_owned(), is_over, notes.to_owned());
    assert_eq!(shown(Some("shop"), None, false), of("half block bucket", false, ""));
    assert_eq!(shown(None, Some(80.0), false), of("full high", true, blind));
    assert_eq!(shown(None, Some(80.1), false), of("full", true, blind));
    assert_eq!(shown(None, Some(50.0), true), of("half", true, blind));
    assert_eq!(shown(Some("shop"), Some(80.0), false), of("", false, "no volumes to show"));
    assert_eq!(shown(Some("sho"), None, false), of("", false, "no volumes to show"));
    assert_eq!(shown(None, Some(0.0), false).0, "full high half", "what has no such figure is not compared");
}

#[test]
fn json_has_everything_that_is_known_and_nothing_else() {
    let settings = TableOptions { output: Output::Json, over: Some(100.0), ..TableOptions::default() };
    assert_eq!(
        text(&settings),
        r#"[
  {
    "namespace": "mail",
    "claim": "full",
    "volume": "pv-full",
    "pods": [
      "full-0"
    ],
    "used_percent": 100.0,
    "used_bytes": 104857600,
    "size_bytes": 104857600,
    "available_bytes": 0,
    "inodes_used_percent": 0.0,
    "inodes_used": 0,
    "inodes": 100,
    "inodes_available": 100,
    "mode": "Filesystem",
    "read_only": false,
    "device": "server:/export",
    "fstype": "nfs4",
    "mountpoint": "/var/lib/kubelet/pods/uid/volumes/nfs/pv-full"
  }
]
"#
    );
    let settings =
        TableOptions { output: Output::Json, namespace: Some("none".into()), ..TableOptions::default() };
    assert_eq!(text(&settings), "[]\n");
}

#[test]
fn claims_that_only_the_kubelet_knows_are_volumes_too() {
    let claim = |name: &str, pod: &str, stats| ClaimStats {
        claim: Arc::new(key("shop", name)),
        pod: Some(pod.into()),
        stats: Some(stats),
        abnormal: None,
    };
    let usage = Usage { total: 100, used: Some(75), available: Some(25), inodes: None, read_only: false };
    let (stats, size) = (Measurement::Filesystem(usage), Measurement::Block { size: 9 });
    let mut snapshot = snapshot();
    // Half is mounted: what the kubelet says of it is said already.
    snapshot.claims = vec![
        claim("block", "web-0", size),
        claim("data", "web-0", stats),
        claim("data", "web-1", stats),
        claim("half", "web-0", stats),
    ];
    snapshot.volumes.retain(|status| status.volume.pv_name == "pv-half");
    let settings = TableOptions {
        output: columns("claim,used%,used,size,available,inodes,pods,volume"),
        ..TableOptions::default()
    };
    assert_eq!(
        Table::new(&snapshot, &settings).text(false),
        "\
CLAIM  USED%  USED   SIZE  AVAILABLE  INODES  PODS         VOLUME
data   75.0%    75    100         25       -  web-0,web-1  -
half   50.0%  50Mi  100Mi       50Mi     100  half-0       pv-half
block      -     -      9          -       -  web-0        -
"
    );
}

#[test]
fn what_is_missing_is_said() {
    let snapshot = Snapshot {
        table: Some(answered()),
        pending: 2,
        ambiguous: 1,
        sources: vec![
            SourceStatus { name: "mounts", success: true },
            SourceStatus { name: "pods", success: false },
        ],
        ..Snapshot::default()
    };
    let settings = TableOptions::default();
    let report = Table::new(&snapshot, &settings);
    assert_eq!(
        report.notices,
        [
            "no volumes to show",
            "source pods could not be read: see the log",
            "2 volumes hidden: waiting for Kubernetes metadata",
            "1 PV name hidden: not unique on this node",
        ]
    );
    assert_eq!(report.text(false), "");
}
