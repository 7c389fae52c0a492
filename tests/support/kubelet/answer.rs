//! What it answers, right or wrong.

use std::fmt;
use std::io::{self, Write};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

pub(crate) const SUMMARY: &str = "/stats/summary";
pub(crate) const METRICS: &str = "/metrics";

/// What it does that it should not.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// A status that is no success, and its text.
    Status(u16, String),
    /// Never answers.
    Hang,
    /// Closes the connection without an answer.
    Close,
    /// Half of the body, then the end of the connection.
    Half,
    /// Half of the body, and nothing more.
    HalfThenSilence,
    /// A body that begins like this, and goes on with that for ever.
    Endless(&'static str, &'static str),
    /// Success, with this body.
    Body(String),
    /// Whatever the test wants instead of an answer.
    Raw(String),
    /// The answer as ever, after so long.
    Late(Duration),
    /// Closes the connection without an answer, after so long.
    CloseLate(Duration),
}

impl Fault {
    /// As a real one answered.
    pub(crate) fn unauthorized() -> Self {
        Self::Status(401, "Unauthorized\n".into())
    }

    /// As a real one answered.
    pub(crate) fn forbidden(subresource: &str) -> Self {
        let user = "user=system:serviceaccount:kube-system:nobody";
        Self::Status(
            403,
            format!("Forbidden ({user}, verb=get, resource=nodes, subresource(s)=[{subresource}])\n"),
        )
    }
}

/// Sends an answer, and closes.
pub(super) fn send(stream: &mut impl Write, fault: Option<Fault>, body: &str) -> io::Result<()> {
    let half = &body[..body.len() / 2];
    match fault {
        None => whole(stream, 200, body),
        Some(Fault::Late(time)) => {
            std::thread::sleep(time);
            whole(stream, 200, body)
        }
        Some(Fault::Status(code, text)) => whole(stream, code, &text),
        Some(Fault::Body(text)) => whole(stream, 200, &text),
        Some(Fault::Raw(bytes)) => stream.write_all(bytes.as_bytes()),
        Some(Fault::Close) => Ok(()),
        Some(Fault::CloseLate(time)) => {
            std::thread::sleep(time);
            Ok(())
        }
        Some(Fault::Hang) => forever(),
        Some(Fault::Half) => begin(stream, half),
        Some(Fault::HalfThenSilence) => {
            begin(stream, half)?;
            forever()
        }
        Some(Fault::Endless(beginning, more)) => {
            begin(stream, beginning)?;
            let more = more.repeat((1 << 16) / more.len());
            loop {
                chunk(stream, &more)?;
            }
        }
    }
}

fn whole(stream: &mut impl Write, code: u16, body: &str) -> io::Result<()> {
    let length = body.len();
    write!(stream, "HTTP/1.1 {code} Whatever\r\nContent-Length: {length}\r\n\r\n{body}")?;
    stream.flush()
}

/// The head of an answer whose length is not told, as a real one's is, and some of its body.
fn begin(stream: &mut impl Write, text: &str) -> io::Result<()> {
    write!(stream, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
    chunk(stream, text)
}

fn chunk(stream: &mut impl Write, text: &str) -> io::Result<()> {
    write!(stream, "{:x}\r\n{text}\r\n", text.len())?;
    stream.flush()
}

fn forever() -> ! {
    loop {
        std::thread::park();
    }
}

/// Its own `/metrics`, with these claims among much else.
pub(crate) fn metrics_page(claims: &[(&str, &str)]) -> String {
    let mut lines = vec!["# TYPE kubelet_running_pods gauge".to_owned(), "kubelet_running_pods 3".to_owned()];
    for family in ["available_bytes", "capacity_bytes", "used_bytes"] {
        lines.push(format!("# TYPE kubelet_volume_stats_{family} gauge"));
        lines.extend(claims.iter().map(|(namespace, name)| {
            let labels = format!("namespace=\"{namespace}\",persistentvolumeclaim=\"{name}\"");
            format!("kubelet_volume_stats_{family}{{{labels}}} 1.90770176e+08")
        }));
    }
    // As long as a real one's.
    let bucket =
        |at| format!("kubelet_http_requests_duration_seconds_bucket{{le=\"{at}\",method=\"GET\"}} 12");
    lines.extend((0..3000).map(bucket));
    lines.join("\n") + "\n"
}

/// `/stats/summary`.
#[derive(Debug, Clone)]
pub(crate) struct Summary(Value);

impl Summary {
    /// The recorded one, measured just now.
    pub(crate) fn recorded() -> Self {
        let text = include_str!("../../../fixtures/kubelet/stats-summary.json");
        let mut summary = Self(serde_json::from_str(text).unwrap());
        summary.measured(Duration::ZERO, |_| true);
        summary
    }

    /// No pods.
    pub(crate) fn empty() -> Self {
        Self(json!({"node": {"nodeName": "node-1"}, "pods": []}))
    }

    /// Another volume of a claim in a pod of its own.
    pub(crate) fn with(mut self, claim: &str, pod: &str, figures: &Value) -> Self {
        let mut volume = json!({"name": "data", "time": now().to_string(), "pvcRef": {"name": claim, "namespace": "shop"}});
        volume.as_object_mut().unwrap().extend(figures.as_object().unwrap().clone());
        let reference = json!({"name": pod, "namespace": "shop", "uid": format!("uid-of-{pod}")});
        self.pods().push(json!({"podRef": reference, "volume": [volume]}));
        self
    }

    /// Of the claims' volumes of which this is so, the figures are so old.
    pub(crate) fn measured(&mut self, ago: Duration, is_so: impl Fn(&str) -> bool) {
        let time = (now() - ago).to_string();
        for pod in self.pods() {
            for volume in pod["volume"].as_array_mut().into_iter().flatten() {
                if is_so(volume["pvcRef"]["name"].as_str().unwrap_or_default()) {
                    volume["time"] = json!(time);
                }
            }
        }
    }

    fn pods(&mut self) -> &mut Vec<Value> {
        self.0["pods"].as_array_mut().unwrap()
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:#}", self.0)
    }
}

fn now() -> Timestamp {
    Timestamp::now()
}
