//! Installing what building, testing and the demo need. Quick when nothing is missing; never changes anything but by apt, rustup and cargo.

use std::process::Command;

use crate::command::{self, cargo, is_installed, is_root, output};
use crate::{Result, python};

/// LLVM has to be the one of the pinned rustc (`rustc -vV`), or bpf-linker cannot read its bitcode.
const LLVM: &str = "22";
const BPF_LINKER: &str = "0.13.0";

/// Debian packages, and a program or file that tells whether each is there.
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
    ("softflowd", "softflowd"),
    ("nfdump", "nfpcapd"),
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
    // Firewalls' own tools, for the rules that are written for them. ufw is off until it is enabled; firewalld itself would start.
    ("ufw", "ufw"),
    ("systemd", "systemd-analyze"),
    ("python3-firewall", "/usr/lib/python3/dist-packages/firewall/core/rich.py"),
    ("python3-jsonschema", "/usr/lib/python3/dist-packages/jsonschema/__init__.py"),
    ("python3-yaml", "/usr/lib/python3/dist-packages/yaml/__init__.py"),
    ("python3-botocore", "/usr/lib/python3/dist-packages/botocore/__init__.py"),
    ("chromium", "chromium"),
];

/// Installs what is missing, or says what to install where it cannot: all of it, not only the first.
pub fn run() -> Result {
    let steps = [install(PACKAGES), install_rust_src(), install_bpf_linker(), python::install()];
    let missing: Vec<String> = steps.into_iter().filter_map(Result::err).collect();
    if missing.is_empty() { Ok(()) } else { Err(missing.join("\nxtask: ")) }
}

/// Installs those Debian packages whose proof is missing, or says what to install.
pub fn install(packages: &[(&str, &str)]) -> Result {
    let missing: Vec<&str> =
        packages.iter().filter(|(_, proof)| !is_there(proof)).map(|(package, _)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let by_hand = format!("apt-get install {}", missing.join(" "));
    if !is_root() || !is_installed("apt-get") {
        return Err(format!("missing, please install by hand (names of Debian's packages): {by_hand}"));
    }
    command::run(Command::new("apt-get").args(["update", "-q"]))?;
    let mut install = Command::new("apt-get");
    install.args(["install", "-q", "-y", "--no-install-recommends"]).args(&missing);
    // A package that starts a daemon of its own (nginx, dnsmasq) must not do so here.
    install.env("DEBIAN_FRONTEND", "noninteractive").env("RUNLEVEL", "1");
    command::run(&mut install)
}

fn is_there(proof: &str) -> bool {
    if proof.starts_with('/') { std::path::Path::new(proof).exists() } else { is_installed(proof) }
}

/// rustup reads the component from rust-toolchain.toml, but installs it only when it installs the toolchain.
fn install_rust_src() -> Result {
    let sysroot = output(cargo_rustc().args(["--print", "sysroot"]))?;
    let core = std::path::Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core/Cargo.toml");
    if core.exists() { Ok(()) } else { command::run(Command::new("rustup").args(["component", "add", "rust-src"])) }
}

fn cargo_rustc() -> Command {
    let mut rustc = Command::new("rustc");
    rustc.current_dir(command::root());
    rustc
}

fn install_bpf_linker() -> Result {
    let version = output(Command::new("bpf-linker").arg("--version")).unwrap_or_default();
    if version.contains(BPF_LINKER) {
        return Ok(());
    }
    let llvm_config = format!("/usr/lib/llvm-{LLVM}/bin/llvm-config");
    if !is_there(&llvm_config) {
        let then = "then `cargo xtask setup` builds it; elsewhere than on Debian: cargo binstall bpf-linker";
        return Err(format!("missing: bpf-linker {BPF_LINKER}, which needs llvm-{LLVM}-dev ({then})"));
    }
    let llvm = format!("/usr/lib/llvm-{LLVM}/bin:{}", std::env::var("PATH").unwrap_or_default());
    let mut install = cargo();
    install.args(["install", "bpf-linker", "--locked", "--version", BPF_LINKER, "--no-default-features"]);
    install.args(["--features", &format!("llvm-{LLVM}")]).env("PATH", llvm);
    // Not in the workspace's target directory, nor under its flags.
    install.env_remove("CARGO_TARGET_DIR").current_dir("/");
    command::run(&mut install)
}
