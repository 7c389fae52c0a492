//! A real browser: Chromium without a window, driven by the `WebDriver` protocol.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::PATIENCE;
use super::http::{Response, connect};
use super::tool::is_there;

/// It runs as root too, and asks nobody but the page's server.
const ARGS: [&str; 8] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
];

/// The browser, with one page; closed when dropped.
pub(crate) struct Browser {
    driver: Child,
    address: SocketAddr,
    session: String,
    /// Removed when the browser has ended.
    profile: Option<TempDir>,
}

impl Browser {
    /// Starts it, where it is installed; if not, the test is skipped.
    pub(crate) fn start() -> Option<Self> {
        Self::start_with(&[])
    }

    /// The same, but it runs no scripts, nor those of `run`.
    pub(crate) fn start_without_scripts() -> Option<Self> {
        Self::start_with(&["--blink-settings=scriptEnabled=false"])
    }

    fn start_with(more: &[&str]) -> Option<Self> {
        if !is_there("chromedriver", &["--version"]) || !is_there("chromium", &["--version"]) {
            return None;
        }
        let mut driver = Command::new("chromedriver");
        let mut driver = driver.arg("--port=0").stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines().map_while(Result::ok);
        let line = lines.find(|line| line.contains("successfully on port ")).unwrap();
        let port = line.rsplit_once("on port ").unwrap().1.trim_end_matches('.').parse().unwrap();
        // It goes on saying things.
        std::thread::spawn(move || lines.for_each(drop));
        let profile = tempfile::tempdir().unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let mut browser = Self { driver, address, session: String::new(), profile: None };
        let directory = format!("--user-data-dir={}", profile.path().display());
        let args: Vec<&str> = ARGS.iter().chain(more).copied().chain([directory.as_str()]).collect();
        let wishes = json!({"goog:chromeOptions": {"args": args, "binary": "/usr/bin/chromium"},
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"}});
        let session = browser.ask("POST", "/session", &json!({"capabilities": {"alwaysMatch": wishes}}));
        browser.profile = Some(profile);
        browser.session = format!("/session/{}", session["sessionId"].as_str().unwrap());
        Some(browser)
    }

    pub(crate) fn open(&self, address: SocketAddr) {
        self.tell("url", &json!({"url": format!("http://{address}/")}));
    }

    /// What a function's body returns in the page.
    pub(crate) fn run(&self, script: &str) -> Value {
        self.tell("execute/sync", &json!({"script": script, "args": []}))
    }

    /// Types into the only element of this selector.
    pub(crate) fn type_into(&self, selector: &str, text: &str) {
        let element = self.tell("element", &json!({"using": "css selector", "value": selector}));
        let id = element.as_object().unwrap().values().next().unwrap().as_str().unwrap().to_owned();
        self.tell(&format!("element/{id}/clear"), &json!({}));
        self.tell(&format!("element/{id}/value"), &json!({"text": text}));
    }

    /// A screen of this width.
    pub(crate) fn set_width(&self, width: u32) {
        let params = json!({"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": true});
        self.command("Emulation.setDeviceMetricsOverride", &params);
    }

    /// A user who prefers `light` or `dark`.
    pub(crate) fn prefer(&self, scheme: &str) {
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        self.command("Emulation.setEmulatedMedia", &json!({"features": features}));
    }

    /// What the page's console says.
    pub(crate) fn console(&self) -> Vec<Value> {
        self.log("browser")
    }

    /// The page as it is after loading.
    pub(crate) fn dom(&self) -> String {
        let document = self.command("DOM.getDocument", &json!({"depth": 0}));
        let html = self.command("DOM.getOuterHTML", &json!({"nodeId": document["root"]["nodeId"]}));
        html["outerHTML"].as_str().unwrap().to_owned()
    }

    /// All that was asked of servers.
    pub(crate) fn requests(&self) -> Vec<String> {
        let events = self.log("performance").into_iter().map(|entry| {
            let message: Value = serde_json::from_str(entry["message"].as_str().unwrap()).unwrap();
            message["message"].clone()
        });
        let requests = events.filter(|event| event["method"] == "Network.requestWillBeSent");
        let urls = requests.map(|event| event["params"]["request"]["url"].as_str().unwrap().to_owned());
        // What it has before a page is opened is its own.
        urls.filter(|url| !url.starts_with("chrome:") && !url.starts_with("data:")).collect()
    }

    fn log(&self, kind: &str) -> Vec<Value> {
        self.tell("se/log", &json!({"type": kind})).as_array().unwrap().clone()
    }

    /// A command of the browser's own protocol.
    fn command(&self, name: &str, params: &Value) -> Value {
        self.tell("goog/cdp/execute", &json!({"cmd": name, "params": params}))
    }

    fn tell(&self, what: &str, body: &Value) -> Value {
        self.ask("POST", &format!("{}/{what}", self.session), body)
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let body = body.to_string();
        let head = format!("Host: {}\r\nContent-Length: {}", self.address, body.len());
        let request = format!("{method} {path} HTTP/1.1\r\n{head}\r\n\r\n{body}");
        let answer = exchange(self.address, request.as_bytes());
        assert_eq!(answer.status, 200, "{path} {body}: {}", answer.text());
        let answer: Value = serde_json::from_str(&answer.text()).unwrap();
        answer["value"].clone()
    }
}

/// Unlike an exporter, the driver keeps the connection whatever it is told: an answer ends where it says.
fn exchange(address: SocketAddr, request: &[u8]) -> Response {
    let mut stream = connect(address);
    stream.write_all(request).unwrap();
    let (mut bytes, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        let read = stream.read(&mut piece).unwrap();
        assert!(read > 0, "it closes early: {}", bytes.escape_ascii());
        bytes.extend_from_slice(&piece[..read]);
        if bytes.windows(4).any(|window| window == b"\r\n\r\n") {
            let answer = Response::parse(&bytes);
            let length: usize = answer.header("content-length").unwrap().parse().unwrap();
            if answer.body.len() >= length {
                return answer;
            }
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It ends the browser, also where the test has failed; by then nothing else may.
        let request = format!("DELETE {} HTTP/1.1\r\nHost: {}\r\n\r\n", self.session, self.address);
        if let Ok(mut stream) = TcpStream::connect(self.address) {
            let _ = stream.set_read_timeout(Some(PATIENCE));
            let _ = stream.write_all(request.as_bytes());
            let _ = stream.read(&mut [0; 1024]);
        }
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.driver.id()).unwrap());
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let _ = self.driver.wait();
        drop(self.profile.take());
    }
}
