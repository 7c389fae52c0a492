//! The fake kubelet's responses and failures.

use std::io::{self, Write};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

pub(crate) const SUMMARY: &str = "/stats/summary";
pub(crate) const METRICS: &str = "/metrics";

#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// Another status and body.
    Status(u16, String),
    /// These bytes instead of a response, then the end of the connection.
    Raw(String),
    /// These bytes, then silence on an open connection.
    Stall(String),
    /// A body that begins with the first text and repeats the second one endlessly.
    Endless(&'static str, &'static str),
    /// The usual response after this delay.
    Late(Duration),
}

impl Fault {
    /// Recorded from a real kubelet.
    pub(crate) fn forbidden(subresource: &str) -> Self {
        let user = "user=system:serviceaccount:kube-system:nobody";
        let subresource = format!("subresource(s)=[{subresource}]");
        Self::Status(403, format!("Forbidden ({user}, verb=get, resource=nodes, {subresource})\n"))
    }
}

/// Sends a response; whether the connection can be used for another one.
pub(super) fn send(stream: &mut impl Write, fault: Option<Fault>, body: &str) -> io::Result<bool> {
    let (code, body) = match fault {
        None => (200, body),
        Some(Fault::Late(delay)) => {
            std::thread::sleep(delay);
            (200, body)
        }
        Some(Fault::Status(code, ref body)) => (code, &**body),
        Some(Fault::Raw(bytes)) => {
            stream.write_all(bytes.as_bytes())?;
            return stream.flush().map(|()| false);
        }
        Some(Fault::Stall(bytes)) => {
            stream.write_all(bytes.as_bytes())?;
            stream.flush()?;
            loop {
                std::thread::park();
            }
        }
        Some(Fault::Endless(beginning, more)) => {
            write!(stream, "HTTP/1.1 200 OK\r\n\r\n{beginning}")?;
            let more = more.repeat((1 << 16) / more.len());
            loop {
                stream.write_all(more.as_bytes())?;
            }
        }
    };
    write!(stream, "HTTP/1.1 {code} Any\r\nContent-Length: {}\r\n\r\n{body}", body.len())?;
    stream.flush().map(|()| true)
}

/// `/metrics` with these claims (namespace and name), as long as a real kubelet's.
pub(super) fn metrics_page(claims: &[(&str, &str)]) -> String {
    let capacity = |(namespace, name): &(&str, &str)| {
        let labels = format!("namespace=\"{namespace}\",persistentvolumeclaim=\"{name}\"");
        format!("kubelet_volume_stats_capacity_bytes{{{labels}}} 1.90770176e+08\n")
    };
    let bucket = |le| format!("kubelet_request_seconds_bucket{{le=\"{le}\",method=\"GET\"}} 12\n");
    let lines = claims.iter().map(capacity).chain((0..4000).map(bucket));
    "# TYPE kubelet_volume_stats_capacity_bytes gauge\n".to_owned() + &lines.collect::<String>()
}

/// A `/stats/summary` whose claims' volumes were measured just now.
pub(crate) fn summary(text: &str) -> Value {
    let mut summary: Value = serde_json::from_str(text).unwrap();
    let now = Timestamp::now().to_string();
    for pod in summary["pods"].as_array_mut().unwrap() {
        let volumes = pod["volume"].as_array_mut().into_iter().flatten();
        for volume in volumes.filter(|volume| volume["pvcRef"].is_object()) {
            volume["time"] = json!(now);
        }
    }
    summary
}

/// The recorded summary, and more volumes: each of a claim and a pod of its own, measured at this time.
pub(crate) fn recorded_summary(more: &[(&str, Timestamp, Value)]) -> Value {
    let mut summary = summary(include_str!("../../../fixtures/kubelet/stats-summary.json"));
    for (claim, time, capacity) in more {
        let volume = json!({"name": "data", "time": time.to_string(), "capacityBytes": capacity,
            "pvcRef": {"name": claim, "namespace": "shop"}});
        let pod = json!({"name": "pod", "namespace": "shop", "uid": format!("uid-of-{claim}")});
        summary["pods"].as_array_mut().unwrap().push(json!({"podRef": pod, "volume": [volume]}));
    }
    summary
}
