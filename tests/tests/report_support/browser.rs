//! A real browser without a window, driven over Chromium's protocol: JSON with a zero byte after each message, through
//! two pipes. Nothing listens on a port, and no address but the page's own file leads anywhere.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use serde_json::{Value, json};

/// No answer takes longer, unless the browser hangs.
const BOUND: Duration = Duration::from_secs(120);

/// The protocol's pipes are the descriptors 3 and 4, to which a shell moves our two.
const ON_PIPES: &str = r#"exec "$@" 3<&0 4>&1 </dev/null >/dev/null"#;

const OPTIONS: [&str; 12] = [
    "--headless",
    "--remote-debugging-pipe",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--disable-gpu",
    "--disable-sync",
    "--no-default-browser-check",
    "--no-first-run",
];

/// A page in a browser of its own, which ends with it.
pub struct Page {
    browser: Child,
    sender: Option<ChildStdin>,
    messages: Receiver<Value>,
    session: Option<String>,
    sent: u64,
    events: Vec<Value>,
    folder: tempfile::TempDir,
}

impl Page {
    /// Opens a file on a screen of that width, and returns once it is loaded and its script has run.
    pub fn open(file: &Path, width: u32) -> Self {
        Self::prepared(file, width, |_| {})
    }

    /// The same where scripts do not run.
    pub fn without_scripts(file: &Path, width: u32) -> Self {
        Self::prepared(file, width, |page| {
            page.call("Emulation.setScriptExecutionDisabled", json!({ "value": true }));
        })
    }

    fn prepared(file: &Path, width: u32, prepare: impl FnOnce(&mut Self)) -> Self {
        let mut page = Self::start();
        let target = page.call("Target.createTarget", json!({ "url": "about:blank" }));
        let attached =
            page.call("Target.attachToTarget", json!({ "targetId": target["targetId"], "flatten": true }));
        page.session = attached["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log", "Network", "DOM"] {
            page.call(&format!("{domain}.enable"), json!({}));
        }
        let phone = width < 600;
        let screen = json!({ "width": width, "height": 800, "deviceScaleFactor": 1, "mobile": phone });
        page.call("Emulation.setDeviceMetricsOverride", screen);
        prepare(&mut page);
        page.call("Page.navigate", json!({ "url": format!("file://{}", file.display()) }));
        page.event("Page.loadEventFired");
        page
    }

    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let words = folder.path().join("stderr");
        let program = std::env::var_os("REPORT_BROWSER").unwrap_or_else(|| "chromium-headless-shell".into());
        let mut command = Command::new("sh");
        command.args(["-c", ON_PIPES, "sh"]).arg(program).args(OPTIONS);
        command.arg(format!("--user-data-dir={}", folder.path().join("profile").display()));
        // Chromium refuses its sandbox to root; what it opens here is a page of our own.
        if std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0) {
            command.arg("--no-sandbox");
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(File::create(words).unwrap());
        let mut browser = command.spawn().unwrap();
        let (sender, receiver) = (browser.stdin.take().unwrap(), browser.stdout.take().unwrap());
        let (send, messages) = channel();
        std::thread::spawn(move || read(receiver, &send));
        Self { browser, sender: Some(sender), messages, session: None, sent: 0, events: Vec::new(), folder }
    }

    /// Calls a method of the protocol and returns its result.
    pub fn call(&mut self, method: &str, params: Value) -> Value {
        self.sent += 1;
        let mut message = json!({ "id": self.sent, "method": method, "params": params });
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        let sent = self.sender.as_mut().unwrap().write_all(format!("{message}\0").as_bytes());
        loop {
            let answer = self.next(&format!("{method} ({sent:?})"));
            if answer["id"] == self.sent {
                assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
                return answer["result"].clone();
            }
            self.events.push(answer);
        }
    }

    /// Waits for an event of the protocol.
    fn event(&mut self, method: &str) {
        while !self.events.iter().any(|event| event["method"] == method) {
            let event = self.next(method);
            self.events.push(event);
        }
    }

    fn next(&self, awaited: &str) -> Value {
        self.messages.recv_timeout(BOUND).unwrap_or_else(|error| {
            let words = std::fs::read_to_string(self.folder.path().join("stderr")).unwrap_or_default();
            panic!(
                "waiting for {awaited}: {error}. `cargo xtask setup` finds or installs a browser, and REPORT_BROWSER \
                 names one. It said: {words}"
            )
        })
    }

    /// What an expression of JavaScript, or the promise that it gives, comes to in the page.
    pub fn eval(&mut self, expression: &str) -> Value {
        let asked = json!({
            "expression": expression, "returnByValue": true, "awaitPromise": true, "userGesture": true,
        });
        let result = self.call("Runtime.evaluate", asked);
        assert!(result["exceptionDetails"].is_null(), "{expression}: {}", result["exceptionDetails"]);
        result["result"]["value"].clone()
    }

    /// Presses a key, as the reader's hand does.
    pub fn press(&mut self, key: &str) {
        for kind in ["rawKeyDown", "keyUp"] {
            self.call("Input.dispatchKeyEvent", json!({ "type": kind, "key": key, "code": key }));
        }
    }

    /// The markup as the browser has read it.
    pub fn markup(&mut self) -> String {
        let root = self.call("DOM.getDocument", json!({ "depth": 0 }))["root"]["nodeId"].clone();
        self.call("DOM.getOuterHTML", json!({ "nodeId": root }))["outerHTML"].as_str().unwrap().to_owned()
    }

    /// Whatever the browser complained of so far: errors and warnings on its console, of scripts and of the policy.
    pub fn complaints(&mut self) -> Vec<String> {
        // Its answer comes after whatever was complained of before.
        self.eval("0");
        let bad = |kind: &Value| matches!(kind.as_str(), Some("error" | "warning" | "assert"));
        let events = self.events.iter().filter(|event| match event["method"].as_str() {
            Some("Runtime.exceptionThrown") => true,
            Some("Runtime.consoleAPICalled") => bad(&event["params"]["type"]),
            Some("Log.entryAdded") => bad(&event["params"]["entry"]["level"]),
            _ => false,
        });
        events.map(|event| event["params"].to_string()).collect()
    }

    /// Everything that was asked for, the page itself included.
    pub fn requests(&self) -> Vec<String> {
        let sent = self.events.iter().filter(|event| event["method"] == "Network.requestWillBeSent");
        sent.map(|event| event["params"]["request"]["url"].as_str().unwrap().to_owned()).collect()
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // It ends when there is nobody to talk to, and takes its children along; killed, it could not.
        drop(self.sender.take());
        while self.messages.recv_timeout(BOUND).is_ok() {}
        // Its last words have been said, so this one does not hold up anybody.
        drop(self.browser.kill());
        drop(self.browser.wait());
    }
}

fn read(receiver: ChildStdout, send: &Sender<Value>) {
    let messages = BufReader::new(receiver).split(0);
    for message in messages.map_while(|message| serde_json::from_slice(&message.ok()?).ok()) {
        if send.send(message).is_err() {
            return;
        }
    }
}
