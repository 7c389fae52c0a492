//! A list of pods, read item by item: whole, the pods of a full node take many times what is used of them.

use std::fmt;
use std::io::{self, Read};

use kube::client::Body;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::super::failure::Failure;
use super::super::pod_index::ApiPod;
use crate::cluster::schema::Pod;
use crate::remote;

/// The pods of a node are far smaller.
const LARGEST: usize = 256 << 20;

/// What a list says.
#[derive(Debug, Default)]
pub(in crate::cluster::api) struct List {
    pub(in crate::cluster::api) pods: Vec<ApiPod>,
    /// From where to watch.
    pub(in crate::cluster::api) version: String,
}

/// Reads a list. A pod that does not parse only costs itself.
pub(in crate::cluster::api) async fn read(body: Body) -> Result<List, Failure> {
    let parsed = remote::read(body, LARGEST, parse).await.map_err(Failure::of_reading)?;
    parsed.map_err(Failure::decode)
}

pub(in crate::cluster::api) fn parse(reader: impl Read) -> serde_json::Result<List> {
    let mut deserializer = serde_json::Deserializer::from_reader(io::BufReader::new(reader));
    let list = deserializer.deserialize_map(ListVisitor)?;
    deserializer.end()?;
    Ok(list)
}

struct ListVisitor;

impl<'de> Visitor<'de> for ListVisitor {
    type Value = List;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list of pods")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<List, A::Error> {
        let mut list = List::default();
        let mut has_items = false;
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "kind" => match map.next_value::<String>()?.as_str() {
                    "PodList" => {}
                    kind => return Err(A::Error::custom(format!("a {kind:?}, not a PodList"))),
                },
                "metadata" => list.version = map.next_value::<ListMeta>()?.resource_version,
                "items" => {
                    has_items = true;
                    list.pods = map.next_value_seed(Items)?;
                }
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        if has_items { Ok(list) } else { Err(A::Error::missing_field("items")) }
    }
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListMeta {
    resource_version: String,
}

struct Items;

impl<'de> DeserializeSeed<'de> for Items {
    type Value = Vec<ApiPod>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<ApiPod>, D::Error> {
        deserializer.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for Items {
    type Value = Vec<ApiPod>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("pods")
    }

    fn visit_none<E>(self) -> Result<Vec<ApiPod>, E> {
        Ok(Vec::new())
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<ApiPod>, D::Error> {
        deserializer.deserialize_seq(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<ApiPod>, A::Error> {
        let mut pods = Vec::new();
        while let Some(item) = items.next_element::<Box<RawValue>>()? {
            match serde_json::from_str::<Pod>(item.get()) {
                Ok(pod) => pods.push(pod.into()),
                Err(error) => {
                    let error = remote::begin(&error.to_string());
                    tracing::warn!(error, "left out a pod that does not parse");
                }
            }
        }
        Ok(pods)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(json: &str) -> Result<Vec<String>, String> {
        let list = parse(json.as_bytes()).map_err(|error| error.to_string())?;
        Ok(list.pods.iter().map(|pod| pod.pod.name.clone()).collect())
    }

    #[test]
    fn one_bad_pod_costs_itself() {
        let json = r#"{"kind":"PodList","metadata":{"resourceVersion":"7"},"items":[
            {"metadata":{"name":"a","uid":"1"},"spec":{}}, {"metadata":{"name":7},"spec":{}}, null, [],
            {"metadata":{"name":"b","uid":"2"},"spec":{"volumes":null},"status":{"x":[1,{}]}}]}"#;
        assert_eq!(names(json).unwrap(), ["a", "b"]);
        assert_eq!(parse(json.as_bytes()).unwrap().version, "7");
    }

    #[test]
    fn what_is_no_list_of_pods_is_said() {
        let empty = r#"{"kind":"PodList","metadata":{"resourceVersion":"7"},"items":null}"#;
        assert_eq!(names(empty).unwrap(), [""; 0]);
        let errors = [
            (r#"{"kind":"Status","code":500}"#, "not a PodList"),
            (r#"{"kind":"PodList","metadata":{"resourceVersion":"7"}}"#, "missing field `items`"),
            (r#"{"metadata":{},"items":[]}"#, "missing field `resourceVersion`"),
            (r#"{"kind":"PodList","items":[{"metadata":"#, "EOF"),
            ("[]", "a list of pods"),
            ("hello", "expected value"),
        ];
        for (json, expected) in errors {
            let error = names(json).unwrap_err();
            assert!(error.contains(expected), "{json}: {error}");
        }
    }
}
