//! libpcap for the static program, which cannot load a library. Debian's source is compiled with
//! the C library of the program.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::stage::entries;
use super::{DistPlace, recreate, write};
use crate::Result;
use crate::command::{output, run};

/// The keys of Debian's archive.
const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// The compiler for musl finds the headers of musl only; those of the kernel come after them.
const KERNEL_HEADERS: &str = "-idirafter /usr/include -idirafter /usr/include/x86_64-linux-gnu";
/// Expressions are compiled, and nothing is captured.
const OPTIONS: [&str; 7] = [
    "--with-pcap=null",
    "--without-libnl",
    "--disable-bluetooth",
    "--disable-dbus",
    "--disable-rdma",
    "--disable-shared",
    "--disable-usb",
];

/// The folder of the source, with libpcap.a.
pub struct BuiltLibPcap {
    pub folder: PathBuf,
}

/// Builds libpcap.a, unless it is there.
pub fn build(place: &DistPlace) -> Result<BuiltLibPcap> {
    let folder = place.target.join("libpcap");
    if folder.join("libpcap.a").exists() {
        return Ok(BuiltLibPcap { folder });
    }
    let source = download(&place.target.join("libpcap-source"))?;
    let _ = fs::remove_dir_all(&folder);
    fs::rename(&source, &folder).map_err(|error| format!("cannot rename {}: {error}", source.display()))?;
    let mut configure = Command::new("./configure");
    configure.args(["--host=x86_64-linux-musl", "--quiet"]).args(OPTIONS);
    configure.env("CC", "musl-gcc").env("CFLAGS", format!("-O2 {KERNEL_HEADERS}"));
    run(configure.current_dir(&folder))?;
    run(Command::new("make").args(["--quiet", "libpcap.a"]).current_dir(&folder))?;
    Ok(BuiltLibPcap { folder })
}

/// Downloads and unpacks the source with Debian's patches. apt verifies it. The configuration of
/// this machine, which may have no sources, stays as it is. Returns the folder of the source.
fn download(work: &Path) -> Result<PathBuf> {
    recreate(work)?;
    let lists = work.join("lists");
    recreate(&lists.join("partial"))?;
    let archives = output(Command::new("apt-get").args([
        "indextargets",
        "--format",
        &format!("deb-src [signed-by={KEYS}] $(SITE) $(RELEASE) $(COMPONENT)"),
        "Created-By: Packages",
        "Origin: Debian",
    ]))?;
    let list = work.join("sources.list");
    write(&list, archives)?;
    let options = [
        format!("Dir::Etc::sourcelist={}", list.display()),
        "Dir::Etc::sourceparts=-".to_owned(),
        format!("Dir::State::lists={}", lists.display()),
        "APT::Sandbox::User=root".to_owned(),
    ];
    for action in [&["update"][..], &["source", "libpcap"]] {
        let mut apt = Command::new("apt-get");
        apt.args(options.iter().flat_map(|option| ["-o", option])).arg("-q").args(action);
        run(apt.current_dir(work))?;
    }
    let unpacked = entries(work)?.into_iter().find(|entry| entry.join("VERSION").exists());
    unpacked.ok_or_else(|| format!("no source of libpcap in {}", work.display()))
}

impl BuiltLibPcap {
    fn read(&self, name: &str) -> Result<String> {
        let path = self.folder.join(name);
        fs::read_to_string(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))
    }

    /// Its license, with a heading.
    pub fn license(&self) -> Result<String> {
        let (version, text) = (self.read("VERSION")?, self.read("LICENSE")?);
        Ok(format!("\n{}\nlibpcap {}\n\n{}\n", "=".repeat(80), version.trim(), text.trim()))
    }

    /// As a component of a CycloneDX document.
    pub fn component(&self) -> Result<Value> {
        let version = self.read("VERSION")?;
        Ok(json!({
            "type": "library",
            "bom-ref": format!("libpcap@{}", version.trim()),
            "name": "libpcap",
            "version": version.trim(),
            "licenses": [{ "license": { "id": "BSD-3-Clause" } }],
        }))
    }
}
