//! Installs the Debian package in a fresh Debian, runs the program there, in the simulated internet
//! of the tests, and purges it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use netwatch_tests::addresses::{APP, DNS_V4};
use netwatch_tests::{InternetShape, TestInternet};
use serde_json::Value;

use super::{DEBIAN_NAME, DistPlace, copy, recreate, version, write};
use crate::Result;
use crate::command::{output, run as run_command};

/// Makes the Debian the root of a mount namespace, with the kernel's file systems and a /run of its
/// own, as a container does. The first argument is its folder.
const ENTER: &str = r#"
mount --make-rprivate /
mount --bind "$1" "$1"
mount -t proc proc "$1/proc"
mount --rbind /sys "$1/sys"
mount --rbind /dev "$1/dev"
mount -t tmpfs tmpfs "$1/run"
cd "$1"; shift
pivot_root . mnt
umount --lazy /mnt
exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root "$@""#;

/// Files that have to be installed.
const INSTALLED: [&str; 7] = [
    "/usr/bin/netwatch",
    "/usr/share/man/man1/netwatch.1.gz",
    "/usr/share/man/man1/netwatch-run.1.gz",
    "/usr/share/man/man7/netwatch-reference.7.gz",
    "/usr/share/bash-completion/completions/netwatch",
    "/usr/share/doc/netwatch-flow/copyright",
    "/usr/share/doc/netwatch-flow/THIRD-PARTY-LICENSES.txt",
];

/// Fails unless the package works.
pub fn run(place: &DistPlace) -> Result {
    if let Some(why) = netwatch_tests::missing() {
        return Err(format!("cannot verify the package: {why}"));
    }
    let package = place.out().join(format!("{DEBIAN_NAME}_{}_amd64.deb", version()));
    let debian = FreshDebian::make(place)?;
    copy(&package, &debian.root.join("netwatch.deb"))?;
    let installed = debian.install()?;
    debian.meter()?;
    debian.filters()?;
    debian.purge(&installed)?;
    println!("{}: installed, run and purged in a fresh Debian", package.display());
    Ok(())
}

/// A new Debian of the release of this machine, and the internet that its host is in.
struct FreshDebian {
    root: PathBuf,
    net: TestInternet,
}

impl FreshDebian {
    /// Copies the base system, which is downloaded once.
    fn make(place: &DistPlace) -> Result<Self> {
        let release = release_name()?;
        let base = place.target.join(format!("debian-{release}"));
        if !base.join("usr/bin/dpkg").exists() || base.join("debootstrap").exists() {
            recreate(&base)?;
            run_command(Command::new("debootstrap").args(["--variant=minbase", &release]).arg(&base))?;
        }
        let root = place.target.join("debian-fresh");
        let _ = fs::remove_dir_all(&root);
        run_command(Command::new("cp").arg("-a").arg(&base).arg(&root))?;
        write(&root.join("etc/resolv.conf"), format!("nameserver {DNS_V4}\n"))?;
        Ok(Self { root, net: TestInternet::start(InternetShape::default()) })
    }

    /// A program of the Debian, on the host in the internet.
    fn command(&self, words: &[&str]) -> Command {
        let mut command = self.net.host.command("unshare");
        command.args(["--mount", "sh", "-euc", ENTER, "sh"]).arg(&self.root).args(words);
        command
    }

    fn output(&self, words: &[&str]) -> Result<String> {
        output(&mut self.command(words))
    }

    /// Installs the package. Returns the paths that it contains.
    fn install(&self) -> Result<Vec<String>> {
        self.output(&["dpkg", "--install", "/netwatch.deb"])?;
        let audit = self.output(&["sh", "-c", "dpkg --audit; dpkg --verify netwatch-flow"])?;
        expect("dpkg finds no fault", audit.trim().is_empty(), &audit)?;
        let listed = self.output(&["dpkg", "--listfiles", DEBIAN_NAME])?;
        for file in INSTALLED {
            expect(file, listed.lines().any(|line| line == file), &listed)?;
        }
        let shown = self.output(&["netwatch", "--version"])?;
        expect("the version", shown.contains(version()), &shown)?;
        Ok(listed.lines().map(str::to_owned).collect())
    }

    /// Runs a client, and compares the report with what the client received.
    fn meter(&self) -> Result {
        let client = format!("exec 3<>/dev/tcp/{APP}/80; printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3");
        let got = self.output(&["netwatch", "run", "-j", "-o", "/report.json", "--", "bash", "-c", &client])?;
        expect("a response", got.contains("200 OK"), &got)?;
        let text = fs::read_to_string(self.root.join("report.json")).map_err(|error| format!("no report: {error}"))?;
        let report: Value = serde_json::from_str(&text).map_err(|error| format!("the report: {error}"))?;
        netwatch_tests::report::assert_balanced(&report);
        let ports = self.output(&["netwatch", "ports", "--format", "csv"])?;
        expect("the name and the port of the server", ports.contains(APP) && ports.contains(",80,"), &ports)
    }

    /// The program contains libpcap, which this Debian does not have.
    fn filters(&self) -> Result {
        let client = format!("exec 3<>/dev/tcp/{APP}/80; printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3");
        let words =
            ["netwatch", "run", "-q", "-w", "/x.pcapng", "--filter", "udp port 53", "--", "bash", "-c", &client];
        self.output(&words)?;
        let text = self.output(&["netwatch", "replay", "-j", "/x.pcapng"])?;
        let report: Value = serde_json::from_str(&text).map_err(|error| format!("the report: {error}"))?;
        let flows = report["flows"].as_array().map(Vec::as_slice).unwrap_or_default();
        let is_filtered = !flows.is_empty() && flows.iter().all(|flow| flow["remote_port"] == 53);
        expect("only DNS in the capture", is_filtered, &text)?;
        let words = ["netwatch", "run", "-w", "/y.pcapng", "--filter", "tcp prt 80", "--", "true"];
        let refused =
            self.command(&words).output().map_err(|error| format!("cannot start the fresh Debian: {error}"))?;
        let printed = String::from_utf8_lossy(&refused.stderr);
        expect("the column of an error", printed.contains("syntax error at column 5"), &printed)
    }

    /// Purges the package. None of its files stays.
    fn purge(&self, installed: &[String]) -> Result {
        self.output(&["dpkg", "--purge", DEBIAN_NAME])?;
        let is_own = |path: &&String| path.contains("netwatch");
        let left: Vec<&String> = installed
            .iter()
            .filter(is_own)
            .filter(|path| exists(&self.root.join(path.trim_start_matches('/'))))
            .collect();
        expect("no file of the package", left.is_empty(), &format!("{left:?}"))?;
        let unknown = self.output(&["dpkg-query", "--show", "--showformat=${Package}\\n"])?;
        expect("no package", !unknown.lines().any(|name| name == DEBIAN_NAME), &unknown)
    }
}

impl Drop for FreshDebian {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

/// The code name of the Debian that this machine runs: its packages can be had.
fn release_name() -> Result<String> {
    let text = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    name.map(str::to_owned).ok_or_else(|| "/etc/os-release has no VERSION_CODENAME".to_owned())
}

fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

fn expect(what: &str, holds: bool, got: &str) -> Result {
    if holds { Ok(()) } else { Err(format!("expected {what}, got:\n{got}")) }
}
