use super::*;
use crate::volume::samples::{self, mount};
use crate::volume::{
    BoundClaim, Claim, ClaimKey, ClaimRef, CsiVolume, Lookup, PersistentVolume, PodMount, VolumeSource,
};
use std::sync::Arc;

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect()
}

fn volume(pv: Option<PersistentVolume>, claim: Option<Claim>) -> Volume {
    let unknown = samples::volume(vec![Arc::new(mount("pv", "csi", "uid"))]);
    let key = pv.as_ref().and_then(|pv| pv.claim.as_ref()).map(|claim| Arc::new(claim.key.clone()));
    let claim = BoundClaim { key, object: claim.map(|claim| Lookup::Found(Arc::new(claim))) };
    Volume { pv: pv.map(Arc::new), claim, ..unknown }
}

fn bound(pv_labels: &[(&str, &str)]) -> PersistentVolume {
    PersistentVolume {
        labels: labels(pv_labels),
        claim: Some(ClaimRef { key: ClaimKey { namespace: "shop".into(), name: "data".into() }, uid: None }),
        source: Some(VolumeSource {
            plugin: "nfs".into(),
            kind: "nfs".into(),
            instance: Some("nas:/e".into()),
        }),
        ..PersistentVolume::default()
    }
}

fn written(volume: &Volume) -> String {
    String::from_utf8(volume_labels(volume).0).unwrap()
}

#[test]
fn labels_come_in_their_order() {
    let claim = Claim { labels: labels(&[("app", "web")]), ..Claim::default() };
    assert_eq!(
        written(&volume(Some(bound(&[("tier", "gold"), ("disk", "d1")])), Some(claim))),
        r#"{pv_name="pv",pv_disk="d1",pv_tier="gold",pvc_name="data",pvc_namespace="shop",pvc_app="web","#
            .to_owned()
            + r#"volume_name="data",volume_label_source="pvc",volume_type="nfs",volume_instance="nas:/e",volume_app="web"}"#
    );
}

#[test]
fn a_claim_without_labels_leaves_the_pvs() {
    assert_eq!(
        written(&volume(Some(bound(&[("tier", "gold")])), Some(Claim::default()))),
        r#"{pv_name="pv",pv_tier="gold",pvc_name="data",pvc_namespace="shop",volume_name="data","#.to_owned()
            + r#"volume_label_source="pv",volume_type="nfs",volume_instance="nas:/e",volume_tier="gold"}"#
    );
}

#[test]
fn a_claim_that_is_not_there_leaves_its_name() {
    // Deleted while it is mounted, or forbidden to read: the PV still tells which one it is.
    assert_eq!(
        written(&volume(Some(bound(&[])), None)),
        r#"{pv_name="pv",pvc_name="data",pvc_namespace="shop",volume_name="data",volume_label_source="pv","#
            .to_owned()
            + r#"volume_type="nfs",volume_instance="nas:/e"}"#
    );
}

#[test]
fn without_metadata_there_are_the_name_and_what_vol_data_tells() {
    assert_eq!(written(&volume(None, None)), r#"{pv_name="pv",volume_name="pv"}"#);
    let mut known = volume(None, None);
    let mut csi = mount("pv", "csi", "uid");
    csi.csi = Some(CsiVolume { driver: "d".into(), handle: "h".into() });
    known.mounts.push(PodMount { mount: Arc::new(csi), pod: None });
    assert_eq!(written(&known), r#"{pv_name="pv",volume_name="pv",volume_type="d",volume_instance="h"}"#);
}

#[test]
fn labels_that_collide_are_numbered_and_fixed_names_win() {
    let pv = bound(&[
        ("app-kubernetes-io/name", "1"),
        ("app.kubernetes.io/name", "2"),
        ("name", "3"),
        ("name_conflict1", "4"),
        ("Name", "5"),
    ]);
    let claim = Claim {
        labels: labels(&[("instance", "6"), ("label_source", "7"), ("namespace", "8"), ("type", "9")]),
        ..Claim::default()
    };
    assert_eq!(
        written(&volume(Some(pv), Some(claim))),
        concat!(
            r#"{pv_name="pv",pv_Name="5",pv_app_kubernetes_io_name_conflict1="1",pv_app_kubernetes_io_name_conflict2="2","#,
            r#"pv_name_conflict2="3",pv_name_conflict1="4",pvc_name="data",pvc_namespace="shop",pvc_instance="6","#,
            r#"pvc_label_source="7",pvc_namespace_conflict1="8",pvc_type="9",volume_name="data",volume_label_source="pvc","#,
            r#"volume_type="nfs",volume_instance="nas:/e",volume_instance_conflict1="6",volume_label_source_conflict1="7","#,
            r#"volume_namespace="8",volume_type_conflict1="9"}"#
        )
    );
}

#[test]
fn values_are_escaped_as_the_format_says_and_no_further() {
    let set = LabelSet::new([("a", Cow::Borrowed("\\ \" \n \t \r \0 \u{7f} é")), ("b", Cow::Borrowed(""))]);
    assert_eq!(set.as_bytes(), "{a=\"\\\\ \\\" \\n \t \r \0 \u{7f} é\",b=\"\"}".as_bytes());
    assert_eq!(LabelSet::new([]).as_bytes(), b"");
    assert_eq!(lossy(OsStr::from_bytes(b"/a\xff\xfeb")), "/a\u{fffd}\u{fffd}b");
}
