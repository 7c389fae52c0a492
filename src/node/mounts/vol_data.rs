//! `vol_data.json`: what the kubelet notes beside a CSI volume.

use std::path::Path;

use serde::Deserialize;

use crate::volume::CsiVolume;

/// A file larger than this is not the kubelet's.
const MOST_BYTES: u64 = 1 << 20;

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct VolData {
    /// The volume's name, not escaped as its directory's is.
    pub(crate) name: Option<String>,
    pub(crate) csi: CsiVolume,
    /// A pod's own volume: no `PersistentVolume`.
    pub(crate) ephemeral: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    #[serde(rename = "specVolID")]
    spec_vol_id: Option<String>,
    driver_name: String,
    volume_handle: String,
    volume_lifecycle_mode: Option<String>,
}

/// Reads the file; `None` where it is missing or half-written.
pub(crate) fn read(path: &Path) -> Option<VolData> {
    let metadata = std::fs::symlink_metadata(path).ok()?;
    if !metadata.is_file() || metadata.len() > MOST_BYTES {
        return None;
    }
    parse(&std::fs::read(path).ok()?)
}

pub(crate) fn parse(bytes: &[u8]) -> Option<VolData> {
    let file: File = serde_json::from_slice(bytes).ok()?;
    let named = !file.driver_name.is_empty() && !file.volume_handle.is_empty();
    named.then(|| VolData {
        name: file.spec_vol_id.filter(|name| !name.is_empty()),
        ephemeral: file.volume_lifecycle_mode.as_deref() == Some("Ephemeral"),
        csi: CsiVolume { driver: file.driver_name, handle: file.volume_handle },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = r#"{"attachmentID":"csi-a4","driverName":"hostpath.csi.k8s.io","nodeName":"node-1",
        "specVolID":"pvc-csi-fs","volumeHandle":"8ba54f15","volumeLifecycleMode":"Persistent"}"#;

    #[test]
    fn reads_what_the_kubelet_writes() {
        let data = parse(WHOLE.as_bytes()).unwrap();
        assert_eq!(data.name.as_deref(), Some("pvc-csi-fs"));
        assert_eq!(data.csi.driver, "hostpath.csi.k8s.io");
        assert_eq!(data.csi.handle, "8ba54f15");
        assert!(!data.ephemeral);
        let inline = WHOLE.replace("Persistent", "Ephemeral");
        assert!(parse(inline.as_bytes()).unwrap().ephemeral);
        let unknown = WHOLE.replace("Persistent", "Eternal");
        assert!(!parse(unknown.as_bytes()).unwrap().ephemeral);
    }

    #[test]
    fn half_a_file_is_none() {
        for length in 0..WHOLE.len() {
            assert_eq!(parse(&WHOLE.as_bytes()[..length]), None, "{length} bytes");
        }
        assert_eq!(parse(br#"{"driverName":"","volumeHandle":"h"}"#), None);
    }

    #[test]
    fn what_is_no_file_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path()), None);
        assert_eq!(read(&dir.path().join("missing")), None);
        std::os::unix::fs::symlink("/dev/zero", dir.path().join("endless")).unwrap();
        assert_eq!(read(&dir.path().join("endless")), None);
    }
}
