//! Clusters that parse, but whose names and labels nobody would choose.

use std::collections::BTreeMap;

use arbitrary::{Arbitrary, Result, Unstructured};
use serde_json::{Value, json};

/// Names of volumes, pods and plugins as in `mountinfo`, label keys that collide with each other or with fixed names,
/// and what needs escapes.
#[rustfmt::skip]
const KNOWN: [&str; 48] = [
    "nfs", "csi", "csi-block", "csi-inline", "flex", "shared", "\u{fffd}", "a b", "twice",
    "6ad83273-bbc5-4a23-9e8c-d796d288e150", "6ad83273-bbc5-4a23-9e8c-d796d288e151", "vendor/driver",
    "a\\b\"", "h\n", "name", "name_conflict1", "name_conflict2", "name_conflict10", "Name", "na-me", "na.me", "na_me",
    "na_me_conflict1", "type", "instance", "namespace", "label_source", "namespace_conflict1", "c_name", "_", "__", "",
    " ", "\"", "\\", "\n", "\r", "\t", "\0", "\\n", "\"}", "{", "#", ",", "é", "\u{1f600}", "\u{2028}", "app/a=b",
];

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Text(String);

impl<'a> Arbitrary<'a> for Text {
    fn arbitrary(input: &mut Unstructured<'a>) -> Result<Self> {
        Ok(Self(match input.arbitrary::<u8>()? {
            known if usize::from(known) < KNOWN.len() => KNOWN[usize::from(known)].to_owned(),
            two if two < 128 => input.choose(&KNOWN)?.repeat(2),
            _ => input.arbitrary()?,
        }))
    }
}

type Labels = BTreeMap<Text, Text>;

#[derive(Debug, Arbitrary)]
pub(crate) struct Cluster {
    objects: Vec<Object>,
}

#[derive(Debug, Arbitrary)]
enum Object {
    PersistentVolume {
        name: Text,
        labels: Option<Labels>,
        claim: Option<(Option<Text>, Option<Text>, Option<Text>)>,
        storage_class: Option<Text>,
        mode: Option<Text>,
        access_modes: Vec<Text>,
        source: Source,
    },
    Claim {
        name: Text,
        namespace: Option<Text>,
        uid: Option<Text>,
        labels: Option<Labels>,
        request: Text,
    },
    Pod {
        name: Text,
        namespace: Option<Text>,
        uid: Text,
        hash: Option<Text>,
        volumes: Vec<(Text, Source)>,
    },
    /// A volume and its claim, which fit each other.
    Bound {
        name: Text,
        claim: Text,
        labels: Labels,
        claim_labels: Labels,
        gibibytes: u32,
    },
}

#[derive(Debug, Arbitrary)]
enum Source {
    None,
    Nfs { server: Option<Text>, path: Text },
    Csi { driver: Text, handle: Option<Text> },
    Flex { driver: Option<Text> },
    Iscsi { portal: Text, lun: f64 },
    Rbd { monitors: Vec<Text>, image: bool },
}

impl Source {
    fn key_and_fields(&self) -> Option<(&'static str, Value)> {
        Some(match self {
            Self::None => return None,
            Self::Nfs { server, path } => ("nfs", json!({"server": text(server.as_ref()), "path": path.0})),
            Self::Csi { driver, handle } => {
                ("csi", json!({"driver": driver.0, "volumeHandle": text(handle.as_ref())}))
            }
            Self::Flex { driver } => ("flexVolume", json!({"driver": text(driver.as_ref())})),
            Self::Iscsi { portal, lun } => {
                ("iscsi", json!({"targetPortal": portal.0, "iqn": {}, "lun": lun}))
            }
            Self::Rbd { monitors, image } => ("rbd", json!({"monitors": texts(monitors), "image": image})),
        })
    }
}

impl Cluster {
    /// As `kubectl get -o json` prints it. A list of nothing is one, too.
    pub(crate) fn to_json(&self) -> String {
        let items: Vec<Value> = self.objects.iter().flat_map(Object::to_json).collect();
        json!({"kind": "List", "items": items}).to_string()
    }
}

impl Object {
    fn to_json(&self) -> Vec<Value> {
        match self {
            Self::PersistentVolume {
                name,
                labels: own,
                claim,
                storage_class,
                mode,
                access_modes,
                source,
            } => {
                let claim = claim.as_ref().map(|(namespace, name, uid)| {
                    json!({"namespace": text(namespace.as_ref()), "name": text(name.as_ref()), "uid": text(uid.as_ref())})
                });
                let mut spec = json!({"claimRef": claim, "storageClassName": text(storage_class.as_ref()),
                    "volumeMode": text(mode.as_ref()), "accessModes": texts(access_modes)});
                if let Some((key, fields)) = source.key_and_fields() {
                    spec[key] = fields;
                }
                let labels = own.as_ref().map(labels);
                vec![json!({"kind": "PersistentVolume", "spec": spec,
                    "metadata": {"name": name.0, "labels": labels}})]
            }
            Self::Claim { name, namespace, uid, labels: own, request } => {
                let own = own.as_ref().map(labels);
                vec![json!({"kind": "PersistentVolumeClaim",
                    "metadata": {"name": name.0, "namespace": text(namespace.as_ref()), "uid": text(uid.as_ref()), "labels": own},
                    "spec": {"resources": {"requests": {"storage": request.0}}}})]
            }
            Self::Pod { name, namespace, uid, hash, volumes } => {
                let volumes = volumes.iter().map(|(name, source)| {
                    let mut volume = json!({"name": name.0});
                    if let Some((key, fields)) = source.key_and_fields() {
                        volume[key] = fields;
                    }
                    volume
                });
                let annotations = hash.as_ref().map(|hash| json!({"kubernetes.io/config.hash": hash.0}));
                vec![json!({"kind": "Pod", "spec": {"volumes": volumes.collect::<Vec<_>>()},
                    "metadata": {"name": name.0, "namespace": text(namespace.as_ref()), "uid": uid.0,
                        "annotations": annotations}})]
            }
            Self::Bound { name, claim, labels: own, claim_labels, gibibytes } => vec![
                json!({"kind": "PersistentVolume", "metadata": {"name": name.0, "labels": labels(own)},
                    "spec": {"claimRef": {"namespace": "n", "name": claim.0}}}),
                json!({"kind": "PersistentVolumeClaim",
                    "metadata": {"name": claim.0, "namespace": "n", "labels": labels(claim_labels)},
                    "spec": {"resources": {"requests": {"storage": format!("{gibibytes}Gi")}}}}),
            ],
        }
    }
}

fn text(text: Option<&Text>) -> Option<&str> {
    text.map(|text| text.0.as_str())
}

fn texts(texts: &[Text]) -> Vec<&str> {
    texts.iter().map(|text| text.0.as_str()).collect()
}

fn labels(labels: &Labels) -> BTreeMap<&str, &str> {
    labels.iter().map(|(key, value)| (key.0.as_str(), value.0.as_str())).collect()
}
