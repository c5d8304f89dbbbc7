//! Requirements of these tests, and how tests are skipped where a requirement is not met.

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

/// Why a [`crate::TestInternet`] cannot be created on this machine; `None` when it can.
pub fn missing() -> Option<String> {
    static MISSING: OnceLock<Option<String>> = OnceLock::new();
    MISSING.get_or_init(find_missing).clone()
}

/// Why a test cannot use this program; `None` when it can.
pub fn missing_tool(tool: &str) -> Option<String> {
    (!is_installed(tool)).then(|| format!("{tool} is not installed (`cargo xtask setup` installs it)"))
}

/// Prints that a test is skipped, and why. Panics with `NETWATCH_TESTS_NO_SKIP=1` (CI).
pub fn skip(why: &str) {
    let forbidden = std::env::var_os("NETWATCH_TESTS_NO_SKIP").is_some_and(|value| value == "1");
    assert!(!forbidden, "skipped although NETWATCH_TESTS_NO_SKIP=1: {why}");
    eprintln!("skipped: {why}");
}

fn find_missing() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("needs root".into());
    }
    let tools = ["ip", "nft", "unshare", "dnsmasq", "nginx", "openssl", "curl"];
    if let Some(why) = tools.iter().find_map(|tool| missing_tool(tool)) {
        return Some(why);
    }
    let unshare = Command::new("unshare").args(["--net", "--mount", "mount", "-t", "sysfs", "sysfs", "/sys"]).output();
    match unshare {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(format!("namespaces cannot be made: {}", String::from_utf8_lossy(&output.stderr).trim())),
        Err(error) => Some(format!("unshare cannot be started: {error}")),
    }
}

fn is_installed(tool: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .any(|dir| Path::new(&dir).join(tool).exists())
}
