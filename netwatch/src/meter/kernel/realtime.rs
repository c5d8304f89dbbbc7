//! Whether packets preempt each other on one CPU: with PREEMPT_RT.

/// Whether the running kernel is one for real time. Its version says so; the file is older, but mainline (Linux 6.12 and later) does not have it.
pub fn is_realtime() -> bool {
    let file = std::fs::read_to_string("/sys/kernel/realtime");
    let version = nix::sys::utsname::uname();
    file.is_ok_and(|text| text.trim() == "1")
        || version.is_ok_and(|name| says_realtime(&name.version().to_string_lossy()))
}

/// `#1 SMP PREEMPT_RT Debian …`: the kernel's own build writes that word (init/Makefile).
fn says_realtime(version: &str) -> bool {
    version.split_whitespace().any(|word| word == "PREEMPT_RT")
}

#[cfg(test)]
mod tests {
    use super::says_realtime;

    #[test]
    fn the_version_tells() {
        for (version, expected) in [
            ("#1 SMP PREEMPT_RT Debian 6.12.117-1~deb12u1 (2026-11-01)", true),
            ("#1 SMP PREEMPT_DYNAMIC Debian 6.12.117-1~deb12u1 (2026-11-01)", false),
            ("#1 SMP PREEMPT @0", false),
            ("#1-NO_PREEMPT_RT SMP", false),
            ("", false),
        ] {
            assert_eq!(says_realtime(version), expected, "{version}");
        }
    }
}
