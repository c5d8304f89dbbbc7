//! The recipes of docs/ci.md: `cargo test`, `npm ci`, `pip install` and pytest, each with a policy
//! that allows what it needs, and once with something that it does not allow. The registries are a
//! server of the simulated internet.

use std::fs;
use std::process::{Child, Command, Stdio};

use netwatch_tests::addresses::{APP, APP_V4, ECHO};
use netwatch_tests::{FinishedRun, StartOptions, TestInternet, internet, needs};

/// Debian's Python, for which Debian's pip and pytest are.
const PYTHON: &str = "/usr/bin/python3";
/// The port of the registry.
const REGISTRY: u16 = 8000;

/// A folder that the simulated internet serves until this is dropped.
struct Registry(Child);

impl Registry {
    /// Serves the files that the script makes in the folder.
    fn start(net: &TestInternet, script: &str) -> Self {
        net.inet.sh(&format!("mkdir -p registry; cd registry; {script}"));
        let mut server = net.inet.command(PYTHON);
        server.args(["-m", "http.server", &REGISTRY.to_string(), "--bind", "::", "--directory", "registry"]);
        let server = server.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("start a server");
        net.inet.wait_for(&format!("curl -s -o /dev/null http://{APP_V4}:{REGISTRY}/"));
        Self(server)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Writes a file in the directory of the job.
fn write(net: &TestInternet, file: &str, text: &str) {
    let path = net.host.dir().join(file);
    fs::create_dir_all(path.parent().expect("a directory")).expect("make a directory");
    fs::write(path, text).expect("write a file");
}

/// Runs `netwatch check --policy POLICY -- COMMAND` in a CI system.
fn check(net: &TestInternet, policy: &str, command: &[&str]) -> FinishedRun {
    let home = net.host.dir().join("home").display().to_string();
    let mut options = StartOptions::env(&[("CI", "true"), ("npm_config_cache", &home), ("PIP_NO_CACHE_DIR", "1")]);
    options.limit *= 3;
    net.host.netwatch_with(options, &[&["check", "--policy", policy, "--"], command].concat())
}

/// The policies of the recipes: nothing, and the registry for one program.
fn policies(net: &TestInternet, program: &str) {
    write(net, "ci/nothing.toml", "");
    let registry =
        format!("[[allow]]\nname = \"{APP}\"\nport = {REGISTRY}\nprocess = \"{program}\"\nwhy = \"dependencies\"\n");
    write(net, "ci/registry.toml", &registry);
}

#[track_caller]
fn assert_violation(run: &FinishedRun, words: &str) {
    assert!(run.assert_code(1).stdout.contains("VIOLATION") && run.stdout.contains(words), "{words:?}: {run}");
}

#[test]
fn cargo_test() {
    needs!("cargo");
    let net = internet!();
    policies(&net, "cargo");
    write(&net, "Cargo.toml", "[package]\nname = \"tiny\"\nversion = \"1.0.0\"\nedition = \"2021\"\n[workspace]\n");
    let test = |body: &str| format!("#[test]\nfn one() {{ {body} }}\n");
    let own = "let server = std::net::TcpListener::bind(\"127.0.0.1:0\").unwrap();
        std::net::TcpStream::connect(server.local_addr().unwrap()).unwrap();";
    let command = ["cargo", "test", "--offline", "--target-dir", "target"];
    write(&net, "src/lib.rs", &test(own));
    let run = check(&net, "ci/nothing.toml", &command);
    assert!(!run.assert_ok().stderr.contains("the command failed"), "{run}");
    write(&net, "src/lib.rs", &test(&format!("std::net::TcpStream::connect(\"{APP_V4}:{ECHO}\").unwrap();")));
    // The test is named, not cargo.
    assert_violation(&check(&net, "ci/nothing.toml", &command), "program  tiny");
}

#[test]
fn npm_ci() {
    needs!("npm", "openssl", "curl");
    let net = internet!();
    policies(&net, "npm");
    let script = "mkdir package; echo '{ \"name\": \"tiny\", \"version\": \"1.0.0\" }' > package/package.json
        tar -czf tiny.tgz package; openssl dgst -sha512 -binary tiny.tgz | base64 -w0 > hash";
    let _registry = Registry::start(&net, script);
    let hash = net.inet.sh("cat registry/hash");
    let project = r#"{ "name": "project", "version": "1.0.0", "dependencies": { "tiny": "1.0.0" } }"#;
    write(&net, "package.json", project);
    let lock = format!(
        r#"{{ "name": "project", "version": "1.0.0", "lockfileVersion": 3, "packages": {{
            "": {{ "name": "project", "version": "1.0.0", "dependencies": {{ "tiny": "1.0.0" }} }},
            "node_modules/tiny": {{ "version": "1.0.0", "resolved": "http://{APP}:{REGISTRY}/tiny.tgz",
                "integrity": "sha512-{hash}" }} }} }}"#
    );
    write(&net, "package-lock.json", &lock);
    let command = ["npm", "ci", "--no-audit", "--no-fund"];
    check(&net, "ci/registry.toml", &command).assert_ok();
    assert!(net.host.dir().join("node_modules/tiny/package.json").exists());
    net.host.sh("rm -rf home/_cacache");
    assert_violation(&check(&net, "ci/nothing.toml", &command), &format!("tcp/{REGISTRY} to {APP}"));
}

#[test]
fn pip_install() {
    needs!(PYTHON, "curl");
    let net = internet!();
    if !has_module("pip") {
        return netwatch_tests::skip("python3-pip is not installed (`cargo xtask setup` installs it)");
    }
    policies(&net, "pip");
    let wheel = "import zipfile; wheel = zipfile.ZipFile('tiny-1.0-py3-none-any.whl', 'w'); info = 'tiny-1.0.dist-info/'
wheel.writestr('tiny.py', ''); wheel.writestr(info + 'METADATA', 'Metadata-Version: 2.1\\nName: tiny\\nVersion: 1.0\\n')
wheel.writestr(info + 'WHEEL', 'Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n'); wheel.writestr(info + 'RECORD', '')";
    let script = format!(
        "{PYTHON} -c \"{wheel}\"; sha256sum *.whl | cut -d' ' -f1 > hash; mkdir -p simple/tiny
        echo '<a href=\"/tiny-1.0-py3-none-any.whl\">tiny-1.0-py3-none-any.whl</a>' > simple/tiny/index.html"
    );
    let _registry = Registry::start(&net, &script);
    let hash = net.inet.sh("cat registry/hash");
    write(&net, "requirements.txt", &format!("tiny==1.0 --hash=sha256:{}\n", hash.trim()));
    let index = format!("http://{APP}:{REGISTRY}/simple/");
    let command = [
        PYTHON,
        "-m",
        "pip",
        "install",
        "--require-hashes",
        "--no-deps",
        "--disable-pip-version-check",
        "--target",
        "packages",
        "--trusted-host",
        APP,
        "--index-url",
        &index,
        "-r",
        "requirements.txt",
    ];
    check(&net, "ci/registry.toml", &command).assert_ok();
    assert!(net.host.dir().join("packages/tiny.py").exists());
    net.host.sh("rm -rf packages");
    assert_violation(&check(&net, "ci/nothing.toml", &command), &format!("tcp/{REGISTRY} to {APP}"));
}

#[test]
fn pytest() {
    needs!(PYTHON);
    let net = internet!();
    if !has_module("pytest") {
        return netwatch_tests::skip("python3-pytest is not installed (`cargo xtask setup` installs it)");
    }
    policies(&net, "pytest");
    let test = |body: &str| format!("import socket\ndef test_one():\n    {body}\n");
    let command = [PYTHON, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_one.py"];
    // A server that a test starts itself needs no rule.
    write(
        &net,
        "test_one.py",
        &test("server = socket.create_server((\"127.0.0.1\", 0)); socket.create_connection(server.getsockname())"),
    );
    check(&net, "ci/nothing.toml", &command).assert_ok();
    write(&net, "test_one.py", &test(&format!("socket.create_connection((\"{APP_V4}\", {ECHO}))")));
    assert_violation(&check(&net, "ci/nothing.toml", &command), "program  pytest");
}

/// Whether Debian's Python has this module.
fn has_module(name: &str) -> bool {
    let mut import = Command::new(PYTHON);
    import.args(["-c", &format!("import {name}")]).stderr(Stdio::null());
    import.status().is_ok_and(|status| status.success())
}
