use super::*;

const UID: &str = "6ad83273-bbc5-4a23-9e8c-d796d288e15a";
const HASH: &str = "0123456789abcdef0123456789abcdef";

fn found(path: &str) -> Option<(String, String, bool)> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let found = classify(path.as_bytes(), b"/var/lib/kubelet")?;
    let name = found.name.map(text).unwrap_or_default();
    Some((text(found.plugin), name, found.mode == VolumeMode::Block))
}

#[test]
fn every_plugin_that_can_hold_a_pv_is_a_volume() {
    for plugin in PLUGINS {
        let plugin = std::str::from_utf8(plugin).unwrap();
        let tail = if plugin == "csi" { "/mount" } else { "" };
        let path = format!("/var/lib/kubelet/pods/{UID}/volumes/kubernetes.io~{plugin}/pv{tail}");
        assert_eq!(found(&path), Some((plugin.into(), "pv".into(), false)), "{path}");
    }
    // FlexVolume: of a vendor, of one that calls itself so, of none.
    for driver in ["example.com~lvm", "kubernetes.io~lvm", "lvm"] {
        let flex = format!("/var/lib/kubelet/pods/{UID}/volumes/{driver}/pv");
        assert_eq!(found(&flex), Some((driver.into(), "pv".into(), false)));
    }
}

#[test]
fn block_devices_are_volumes_once() {
    let base = "/var/lib/kubelet/plugins/kubernetes.io";
    let block = |plugin: &str, name: &str| Some((plugin.into(), name.into(), true));
    assert_eq!(found(&format!("{base}/csi/volumeDevices/pv/dev/{UID}")), block("csi", "pv"));
    assert_eq!(found(&format!("{base}~local-volume/volumeDevices/pv/{UID}")), block("local-volume", "pv"));
    assert_eq!(
        found(&format!("{base}/iscsi/volumeDevices/iface-default/10.0.0.1:3260-iqn-lun-0/{UID}")),
        block("iscsi", "")
    );
    assert_eq!(
        found(&format!("{base}/fc/volumeDevices/target-50060e801049cfd1-lun-0/{UID}")),
        block("fc", "")
    );
    assert_eq!(found(&format!("{base}/csi/volumeDevices/publish/pv/{UID}")), None);
    assert_eq!(found(&format!("{base}/csi/volumeDevices/publish/dev/{UID}")), None, "a volume named dev");
    assert_eq!(found(&format!("{base}/csi/volumeDevices/staging/pv")), None);
}

#[test]
fn what_never_holds_a_pv_is_no_volume() {
    let pod = format!("/var/lib/kubelet/pods/{UID}");
    for kind in OTHER_PLUGINS {
        let kind = str::from_utf8(kind).unwrap();
        assert_eq!(found(&format!("{pod}/volumes/kubernetes.io~{kind}/x")), None, "{kind}");
        assert_eq!(found(&format!("{pod}/volumes/{kind}/x")), None, "{kind}");
    }
    assert_eq!(found(&format!("{pod}/volumes/csi/pv")), None, "a driver that would be taken for the plugin");
    for path in [
        format!("{pod}/volume-subpaths/pv/c/0"),
        format!("{pod}/volumes/kubernetes.io~csi/pv"),
        format!("{pod}/volumes/kubernetes.io~csi/pv/globalmount"),
        format!("{pod}/volumes/kubernetes.io~nfs/pv/below"),
        "/var/lib/kubelet/plugins/kubernetes.io/gce-pd/mounts/disk".into(),
        "/var/lib/kubelet/plugins/kubernetes.io/csi/d/0123/globalmount".into(),
        format!("/var/lib/kubelet2/pods/{UID}/volumes/kubernetes.io~nfs/pv"),
        "/".into(),
    ] {
        assert_eq!(found(&path), None, "{path}");
    }
}

fn roots(mountpoints: &[&str]) -> Vec<String> {
    let found = kubelet_roots(mountpoints.iter().map(|path| path.as_bytes()));
    found.into_iter().map(|root| String::from_utf8(root).unwrap()).collect()
}

#[test]
fn kubelet_roots_are_found_in_the_table() {
    let k0s = format!("/var/lib/k0s/kubelet/pods/{UID}/volumes/kubernetes.io~nfs/a");
    let snap =
        format!("/var/snap/microk8s/common/var/lib/kubelet/pods/{HASH}/volumes/kubernetes.io~projected/b");
    assert_eq!(
        roots(&["/", "/var", &k0s, &snap, &k0s]),
        ["/var/lib/k0s/kubelet", "/var/snap/microk8s/common/var/lib/kubelet"]
    );
    let odd = format!("/pods/{UID}/volumes/kubernetes.io~nfs/a");
    assert_eq!(roots(&[&odd, "/srv/pods/web/volumes/kubernetes.io~nfs/a"]), [""; 0]);
}

#[test]
fn a_kubelet_inside_a_volume_or_container_is_none() {
    let nested = |inside: &str| format!("{inside}/pods/{UID}/volumes/kubernetes.io~nfs/a");
    let pod = format!("/var/lib/kubelet/pods/{UID}");
    let mountpoints = [
        nested(&format!("{pod}/volumes/kubernetes.io~nfs/pv/kubelet")),
        nested(&format!("{pod}/volume-subpaths/pv/c/0/k")),
        nested("/var/lib/kubelet/plugins/kubernetes.io/csi/d/0/globalmount/kubelet"),
        "/run/containerd/task/1/rootfs".into(),
        nested("/run/containerd/task/1/rootfs/var/lib/kubelet"),
        "/var/lib/docker/overlay2/0/merged".into(),
        nested("/var/lib/docker/overlay2/0/merged/var/lib/kubelet"),
        nested("/home/kubernetes/containerized_mounter/rootfs/var/lib/kubelet"),
    ];
    let mountpoints: Vec<&str> = mountpoints.iter().map(String::as_str).collect();
    assert_eq!(roots(&mountpoints), ["/var/lib/kubelet"]);
}

#[test]
fn a_regex_names_its_groups() {
    let regex = Regex::new(r"^/k/pods/(?P<pod_uid>[^/]+)/(?P<plugin>[^/]+)/(?P<name>[^/]*)$").unwrap();
    let classify = |path| classify_by_regex(path, &regex);
    let expected =
        PathIdentity { plugin: b"nfs", name: Some(b"pv"), pod_uid: Some(b"u"), mode: VolumeMode::Filesystem };
    assert_eq!(classify(b"/k/pods/u/kubernetes.io~nfs/pv"), Some(expected));
    let plugin = |path| classify(path).map(|identity| identity.plugin);
    assert_eq!(plugin(b"/k/pods/u/nfs/pv"), Some(&b"nfs"[..]));
    assert_eq!(plugin(b"/k/pods/u/v~d/pv"), Some(&b"v~d"[..]));
    assert_eq!(plugin(b"/k/pods/u/kubernetes.io~d/pv"), Some(&b"kubernetes.io~d"[..]));
    assert_eq!(plugin(b"/k/pods/u/whatever/pv"), Some(&b""[..]), "no plugin that could be compared");
    assert_eq!(classify(b"/k/pods/u/p/"), None, "an empty name is none");
    assert_eq!(classify(b"/elsewhere"), None);
}
