//! Any bytes as a `vol_data.json`.

#![no_main]

use disk_usage_exporter::fuzzing::{VolData, vol_data};
use disk_usage_exporter::volume::{CsiVolume, MAX_LABEL_VALUE_BYTES, MAX_NAME_BYTES};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

fuzz_target!(|bytes: &[u8]| {
    whatever_the_values_they_are_read(&String::from_utf8_lossy(bytes));
    let read = vol_data(bytes);
    if let Some(data) = &read {
        assert_ne!(data.name.as_deref(), Some(""));
        assert!(!data.csi.driver.is_empty() && !data.csi.handle.is_empty());
    }
    // Of a key that is there twice, this reading takes one, and the other none at all.
    let Ok(value @ Value::Object(_)) = serde_json::from_slice(bytes) else {
        return;
    };
    let generic = generic(&value);
    assert!(read.is_none() || read == generic, "{read:?} is not {generic:?}");
    assert_eq!(vol_data(value.to_string().as_bytes()), generic, "each key once");
    let text = value.to_string();
    for end in text.char_indices().map(|(at, _)| at).take(64) {
        assert_eq!(vol_data(&text.as_bytes()[..end]), None, "half of a file says nothing");
    }
});

/// The input's lines as the fields' values.
fn whatever_the_values_they_are_read(text: &str) {
    let mut lines = text.split('\n');
    let mut next = || lines.next().map(str::to_owned);
    let (driver, handle, name, lifecycle) = (next(), next(), next(), next());
    let value = json!({"driverName": driver, "volumeHandle": handle, "specVolID": name,
        "volumeLifecycleMode": lifecycle});
    assert_eq!(vol_data(value.to_string().as_bytes()), generic(&value));
}

/// The same, read without a schema.
fn generic(value: &Value) -> Option<VolData> {
    let text = |key: &str| match value.get(key) {
        None | Some(Value::Null) => Some(None),
        Some(Value::String(text)) => Some(Some(text.clone())),
        // Not the kubelet's.
        Some(_) => None,
    };
    let name = text("specVolID")?;
    let lifecycle = text("volumeLifecycleMode")?;
    let csi = CsiVolume { driver: text("driverName")??, handle: text("volumeHandle")?? };
    let is_allowed = (1..=MAX_NAME_BYTES).contains(&csi.driver.len())
        && (1..=MAX_LABEL_VALUE_BYTES).contains(&csi.handle.len())
        && name.as_ref().is_none_or(|name| name.len() <= MAX_NAME_BYTES);
    is_allowed.then(|| VolData {
        name: name.filter(|name| !name.is_empty()),
        csi,
        ephemeral: lifecycle.as_deref() == Some("Ephemeral"),
    })
}
