//! A headless Chromium, driven by its DevTools protocol over a pipe (`--remote-debugging-pipe`): no
//! port, no library.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

/// How long an answer may take on a busy machine.
const BROWSER_TIMEOUT: Duration = Duration::from_secs(120);

/// A browser with one page.
pub struct Browser {
    child: Child,
    to: Option<ChildStdin>,
    from: Receiver<Value>,
    next_id: u64,
    session: Option<String>,
    events: Vec<Value>,
    _profile: TempDir,
}

/// What the page is shown on.
pub struct Screen {
    pub width: u32,
    pub height: u32,
    pub dark: bool,
}

pub const DESKTOP: Screen = Screen { width: 1400, height: 900, dark: false };
pub const TABLET: Screen = Screen { width: 768, height: 1024, dark: false };
pub const PHONE: Screen = Screen { width: 390, height: 844, dark: false };

impl Browser {
    /// Starts one; `None`, reported as skipped, where there is none.
    pub fn start() -> Option<Self> {
        if Command::new("chromium").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
            println!("skipped: needs chromium");
            return None;
        }
        let profile = tempfile::tempdir().unwrap();
        // The protocol's two ends are descriptors 3 and 4.
        let redirected = r#"exec "$@" 3<&0 4>&1 </dev/null >/dev/null 2>&1"#;
        let mut child = Command::new("sh")
            .args(["-c", redirected, "sh", "chromium", "--headless=new", "--no-sandbox", "--disable-gpu"])
            .args([
                "--disable-dev-shm-usage",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-quic",
                "--disable-sync",
                "--no-first-run",
                "--disable-extensions",
            ])
            .args(["--host-resolver-rules=MAP * ~NOTFOUND", "--remote-debugging-pipe"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .env("HOME", profile.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let to = child.stdin.take();
        let from = messages(BufReader::new(child.stdout.take().unwrap()));
        let mut browser = Self { child, to, from, next_id: 0, session: None, events: vec![], _profile: profile };
        let target = browser.call("Target.createTarget", json!({ "url": "about:blank" }));
        let attached =
            browser.call("Target.attachToTarget", json!({ "targetId": target["targetId"], "flatten": true }));
        browser.session = attached["sessionId"].as_str().map(str::to_owned);
        for domain in ["Runtime", "Log", "Network", "Page"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        Some(browser)
    }

    /// Opens a file and waits until it is drawn.
    pub fn open(&mut self, path: &Path, screen: &Screen) {
        self.load(path, screen);
        self.settle();
    }

    /// Opens a file and waits until it is loaded.
    pub fn load(&mut self, path: &Path, screen: &Screen) {
        let Screen { width, height, dark } = screen;
        self.events.clear();
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": *width < 500 });
        self.call("Emulation.setDeviceMetricsOverride", metrics);
        self.call("Emulation.setScrollbarsHidden", json!({ "hidden": true }));
        let theme = if *dark { "dark" } else { "light" };
        self.call(
            "Emulation.setEmulatedMedia",
            json!({ "features": [{ "name": "prefers-color-scheme", "value": theme }] }),
        );
        self.call("Page.navigate", json!({ "url": format!("file://{}", path.display()) }));
        self.wait_for("Page.loadEventFired");
    }

    /// Waits until the requested change is drawn.
    pub fn settle(&mut self) {
        self.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(() => done(1), 50))))");
    }

    /// What an expression gives, promises awaited.
    pub fn evaluate(&mut self, expression: &str) -> Value {
        let arguments =
            json!({ "expression": expression, "awaitPromise": true, "returnByValue": true, "userGesture": true });
        let answer = self.call("Runtime.evaluate", arguments);
        assert!(answer.get("exceptionDetails").is_none(), "{expression}\n{}", answer["exceptionDetails"]);
        answer["result"]["value"].clone()
    }

    /// From now on, pages may use the clipboard, which needs the focus of the user.
    pub fn with_clipboard(&mut self) {
        let permissions = json!({ "permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"] });
        self.call("Browser.grantPermissions", permissions);
        self.call("Emulation.setFocusEmulationEnabled", json!({ "enabled": true }));
    }

    /// From now on, pages are opened without JavaScript.
    pub fn without_scripts(&mut self) {
        self.call("Emulation.setScriptExecutionDisabled", json!({ "value": true }));
    }

    /// The current page, read without a script.
    pub fn outer_html(&mut self) -> String {
        let root = self.call("DOM.getDocument", json!({}));
        let html = self.call("DOM.getOuterHTML", json!({ "nodeId": root["root"]["nodeId"] }));
        html["outerHTML"].as_str().unwrap().to_owned()
    }

    /// Presses a key.
    pub fn press(&mut self, key: &str) {
        let text = if key.chars().count() == 1 { key } else { "" };
        for kind in ["keyDown", "keyUp"] {
            self.call("Input.dispatchKeyEvent", json!({ "type": kind, "key": key, "code": key, "text": text, "windowsVirtualKeyCode": virtual_key(key) }));
        }
        self.settle();
    }

    /// Drags with the mouse, within the part of the page that is seen.
    pub fn drag(&mut self, from: (f64, f64), to: (f64, f64)) {
        let steps = [
            ("mouseMoved", from),
            ("mousePressed", from),
            ("mouseMoved", ((from.0 + to.0) / 2.0, from.1)),
            ("mouseMoved", to),
            ("mouseReleased", to),
        ];
        for (kind, (x, y)) in steps {
            let buttons = if kind == "mouseMoved" && (x, y) == from { "none" } else { "left" };
            self.call(
                "Input.dispatchMouseEvent",
                json!({ "type": kind, "x": x, "y": y, "button": buttons, "clickCount": 1 }),
            );
        }
        self.settle();
    }

    /// The page as a picture: the whole of it, up to a length.
    pub fn screenshot(&mut self, path: &Path) {
        const MAX_LENGTH: f64 = 14_000.0;
        let size = self.call("Page.getLayoutMetrics", json!({}))["cssContentSize"].clone();
        let height = size["height"].as_f64().unwrap().min(MAX_LENGTH);
        let clip = json!({ "x": 0, "y": 0, "width": size["width"], "height": height, "scale": 1 });
        let arguments = json!({ "format": "png", "captureBeyondViewport": true, "clip": clip });
        let answer = self.call("Page.captureScreenshot", arguments);
        let picture = data_encoding::BASE64.decode(answer["data"].as_str().unwrap().as_bytes()).unwrap();
        std::fs::write(path, picture).unwrap();
    }

    /// The page as it would be printed.
    pub fn print(&mut self, path: &Path) -> usize {
        let answer = self.call("Page.printToPDF", json!({ "printBackground": true }));
        let pdf = data_encoding::BASE64.decode(answer["data"].as_str().unwrap().as_bytes()).unwrap();
        std::fs::write(path, &pdf).unwrap();
        pdf.len()
    }

    /// Errors on the console, exceptions, and requests for anything but the page itself.
    pub fn complaints(&mut self, page: &Path) -> Vec<String> {
        // Events before the response arrive before it.
        self.call("Page.getFrameTree", json!({}));
        let own = format!("file://{}", page.canonicalize().unwrap().display());
        let bad = |event: &&Value| {
            let parameters = &event["params"];
            match event["method"].as_str().unwrap_or_default() {
                "Runtime.exceptionThrown" => true,
                "Runtime.consoleAPICalled" => {
                    ["error", "warning", "assert"].contains(&parameters["type"].as_str().unwrap_or_default())
                }
                "Log.entryAdded" => true,
                "Network.requestWillBeSent" => parameters["request"]["url"] != own,
                _ => false,
            }
        };
        self.events.iter().filter(bad).map(ToString::to_string).collect()
    }

    /// Events of a kind since the page was opened.
    pub fn events<'a>(&'a self, method: &'a str) -> impl Iterator<Item = &'a Value> {
        self.events.iter().filter(move |event| event["method"] == method).map(|event| &event["params"])
    }

    fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.next_id += 1;
        let id = self.next_id;
        let mut message = json!({ "id": id, "method": method, "params": parameters });
        if let Some(session) = &self.session {
            message["sessionId"] = session.as_str().into();
        }
        let to = self.to.as_mut().unwrap();
        to.write_all(message.to_string().as_bytes()).and_then(|()| to.write_all(&[0])).unwrap();
        loop {
            let answer = self.from.recv_timeout(BROWSER_TIMEOUT).unwrap_or_else(|error| panic!("{method}: {error}"));
            if answer["id"] == id {
                assert!(answer.get("error").is_none(), "{method}: {}", answer["error"]);
                return answer["result"].clone();
            }
            self.events.push(answer);
        }
    }

    fn wait_for(&mut self, event: &str) {
        while !self.events.iter().any(|known| known["method"] == event) {
            let next = self.from.recv_timeout(BROWSER_TIMEOUT).unwrap_or_else(|error| panic!("{event}: {error}"));
            self.events.push(next);
        }
        self.events.retain(|known| known["method"] != event);
    }
}

impl Drop for Browser {
    /// When its pipe closes, the browser ends, and with it the processes that it started.
    fn drop(&mut self) {
        self.to = None;
        for _ in 0..100 {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            thread::sleep(Duration::from_millis(50));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Messages end with a NUL.
fn messages(mut from: impl BufRead + Send + 'static) -> Receiver<Value> {
    let (to, messages) = mpsc::channel();
    thread::spawn(move || {
        let mut message = Vec::new();
        while from.read_until(0, &mut message).is_ok_and(|read| read > 0) {
            message.pop();
            let Ok(value) = serde_json::from_slice(&message) else { break };
            if to.send(value).is_err() {
                break;
            }
            message.clear();
        }
    });
    messages
}

/// Windows' numbers for keys, which the protocol takes.
fn virtual_key(key: &str) -> u32 {
    match key {
        "Tab" => 9,
        "Enter" => 13,
        "Escape" => 27,
        "ArrowLeft" => 37,
        "ArrowRight" => 39,
        _ => 0,
    }
}
