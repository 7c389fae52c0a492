//! A real browser: Chromium without a window, driven by the `WebDriver` protocol.

use std::io::{self, BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::PATIENCE;
use super::http::{self, Response};
use super::tool::is_there;

/// It runs as root too, and connects to nothing but the page's server.
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
    _profile: TempDir,
}

impl Browser {
    /// Starts it, where it is installed; if not, the test is skipped.
    pub(crate) fn start() -> Option<Self> {
        if !is_there("chromedriver", &["--version"]) || !is_there("chromium", &["--version"]) {
            return None;
        }
        let mut driver = Command::new("chromedriver");
        let mut driver = driver.arg("--port=0").stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines().map_while(Result::ok);
        let line = lines.find(|line| line.contains("successfully on port ")).unwrap();
        let port = line.rsplit_once("on port ").unwrap().1.trim_end_matches('.').parse().unwrap();
        // It prints more.
        std::thread::spawn(move || lines.for_each(drop));
        let profile = tempfile::tempdir().unwrap();
        let directory = format!("--user-data-dir={}", profile.path().display());
        let args = [&ARGS[..], &[&directory]].concat();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let mut browser = Self { driver, address, session: "/session".into(), _profile: profile };
        let capabilities = json!({"goog:chromeOptions": {"args": args, "binary": "/usr/bin/chromium"},
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"}});
        let session = browser.post("", &json!({"capabilities": {"alwaysMatch": capabilities}}));
        browser.session = format!("/session/{}", session["sessionId"].as_str().unwrap());
        Some(browser)
    }

    pub(crate) fn open(&self, address: SocketAddr) {
        self.post("/url", &json!({"url": format!("http://{address}/")}));
    }

    /// What a function's body returns in the page.
    pub(crate) fn run(&self, script: &str) -> Value {
        self.post("/execute/sync", &json!({"script": script, "args": []}))
    }

    /// Types into the only element of this selector.
    pub(crate) fn type_into(&self, selector: &str, text: &str) {
        let element = self.post("/element", &json!({"using": "css selector", "value": selector}));
        let id = element.as_object().unwrap().values().next().unwrap().as_str().unwrap();
        self.post(&format!("/element/{id}/clear"), &json!({}));
        self.post(&format!("/element/{id}/value"), &json!({"text": text}));
    }

    /// A screen of this width.
    pub(crate) fn set_width(&self, width: u32) {
        let params = json!({"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": true});
        self.devtools("Emulation.setDeviceMetricsOverride", &params);
    }

    /// The lines of the page's console, since the last call.
    pub(crate) fn console(&self) -> Value {
        self.post("/se/log", &json!({"type": "browser"}))
    }

    /// The addresses of all requests to servers.
    pub(crate) fn requests(&self) -> Vec<String> {
        let entries = self.post("/se/log", &json!({"type": "performance"}));
        let events = entries
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| -> Value { serde_json::from_str(entry["message"].as_str().unwrap()).unwrap() });
        let requests = events.filter(|event| event["message"]["method"] == "Network.requestWillBeSent");
        let url = |event: Value| event["message"]["params"]["request"]["url"].as_str().unwrap().to_owned();
        // What it has before a page is opened is its own.
        requests.map(url).filter(|url| !url.starts_with("chrome:") && !url.starts_with("data:")).collect()
    }

    /// A command of the browser's own protocol.
    pub(crate) fn devtools(&self, name: &str, params: &Value) -> Value {
        self.post("/goog/cdp/execute", &json!({"cmd": name, "params": params}))
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        let response = self.request("POST", path, &body.to_string()).unwrap();
        assert_eq!(response.status, 200, "{path} {body}: {}", response.text());
        let mut response: Value = serde_json::from_slice(&response.body).unwrap();
        response["value"].take()
    }

    fn request(&self, method: &str, path: &str, body: &str) -> io::Result<Response> {
        let stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let head = format!("Host: {}\r\nContent-Length: {}", self.address, body.len());
        let request = format!("{method} {}{path} HTTP/1.1\r\n{head}\r\n\r\n{body}", self.session);
        http::exchange(&mut BufReader::new(stream), &request)
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It ends the browser, also where the test has failed; by then nothing else may.
        let _ = self.request("DELETE", "", "");
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
