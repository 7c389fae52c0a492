use super::*;
use crate::volume::samples::{self, mount};
use crate::volume::{
    BoundClaim, Claim, ClaimKey, ClaimRef, CsiVolume, Lookup, MAX_LABEL_SET_BYTES, PersistentVolume,
    PodMount, VolumeSource,
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
    written_by(volume, &Selections::default())
}

fn written_by(volume: &Volume, selections: &Selections) -> String {
    volume_labels(volume, selections, MAX_LABEL_SET_BYTES).encoded
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
    let set = LabelSet::default().with("a", "\\ \" \n \t \r \0 \u{7f} é").with("b", "").with("c", None);
    assert_eq!(set.as_bytes(), "{a=\"\\\\ \\\" \\n \t \r \0 \u{7f} é\",b=\"\"}".as_bytes());
    assert_eq!(LabelSet::default().as_bytes(), b"");
}

#[test]
fn each_prefix_has_a_filter_and_that_of_the_volume_is_the_objects_by_default() {
    let claim = Claim { labels: labels(&[("app", "web"), ("team", "shop")]), ..Claim::default() };
    let volume = volume(Some(bound(&[("tier", "gold")])), Some(claim));
    let object_labels = |pv: &str, pvc: &str, of_volume: Option<&str>| {
        let selections = Selections {
            pv_labels: pv.parse().unwrap(),
            pvc_labels: pvc.parse().unwrap(),
            volume_labels: of_volume.map(|list| list.parse().unwrap()),
        };
        let set = written_by(&volume, &selections);
        let names = set.split('"').step_by(2).map(|name| name.trim_matches(['{', ',', '=']));
        let is_fixed = |name: &&str| FIXED[..4].contains(name) || FIXED[5..].contains(name);
        let source = if set.contains("volume_label_source=\"pvc\"") { "pvc" } else { "pv" };
        let names = names.filter(|name| !is_fixed(name) && !name.is_empty() && *name != "}");
        names.map(|name| if name == FIXED[4] { source } else { name }).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(object_labels("*", "*", None), "pv_tier pvc_app pvc_team pvc volume_app volume_team");
    assert_eq!(object_labels("", "team", None), "pvc_team pvc volume_team");
    assert_eq!(object_labels("", "team", Some("")), "pvc_team pv");
    assert_eq!(object_labels("", "", Some("team")), "pvc volume_team");
    assert_eq!(object_labels("", "*,!app", Some("*,!team")), "pvc_team pvc volume_app");
    assert_eq!(object_labels("*", "", None), "pv_tier pv volume_tier");
}

#[test]
fn a_set_has_room_for_the_fixed_labels_first() {
    let long = |number: usize| (format!("l{number:02}"), "\\\"".repeat(500));
    let claim = Claim { labels: (0..15).map(long).collect(), ..Claim::default() };
    let volume = volume(Some(bound(&[])), Some(claim));
    let written = |max_bytes| {
        let set = volume_labels(&volume, &Selections::default(), max_bytes);
        (set.encoded.len(), set.dropped, set.encoded)
    };
    // Escaped, each has 2,000 bytes; twice there are 15.
    let (bytes, dropped, set) = written(MAX_LABEL_SET_BYTES);
    assert!(bytes <= MAX_LABEL_SET_BYTES && bytes > MAX_LABEL_SET_BYTES - 2100, "{bytes}");
    assert_eq!((dropped, set.matches("pvc_l").count(), set.contains("volume_l0")), (22, 8, false));
    let (_, dropped, set) = written(0);
    assert_eq!((dropped, set), (30, written(1).2));
    assert_eq!(
        written(0).2,
        r#"{pv_name="pv",pvc_name="data",pvc_namespace="shop",volume_name="data",volume_label_source="pvc","#
            .to_owned()
            + r#"volume_type="nfs",volume_instance="nas:/e"}"#
    );
    let exact = bytes_of_all(&volume);
    assert_eq!((written(exact).0, written(exact).1), (exact, 0));
    assert_eq!(written(exact - 1).1, 1);
}

fn bytes_of_all(volume: &Volume) -> usize {
    volume_labels(volume, &Selections::default(), usize::MAX).encoded.len()
}

#[test]
fn a_value_that_is_too_long_is_left_out_and_counted() {
    let long = "x".repeat(MAX_LABEL_VALUE_BYTES + 1);
    let set = LabelSet::default().with("a", &long[1..]).with("b", long.as_str());
    assert_eq!((set.encoded, set.dropped), (format!("{{a=\"{}\"}}", &long[1..]), 1));
}
