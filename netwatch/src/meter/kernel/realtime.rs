//! Detects PREEMPT_RT, with which packets preempt each other on one CPU.

/// Whether the running kernel is built with PREEMPT_RT, according to its version. Older real-time
/// kernels have a file instead, which mainline (Linux 6.12 and later) does not have.
pub fn is_realtime() -> bool {
    let file = std::fs::read_to_string("/sys/kernel/realtime");
    let version = nix::sys::utsname::uname();
    file.is_ok_and(|text| text.trim() == "1")
        || version.is_ok_and(|name| names_preempt_rt(&name.version().to_string_lossy()))
}

/// Whether a version, such as `#1 SMP PREEMPT_RT Debian …`, has the word that the kernel's build
/// writes (init/Makefile).
fn names_preempt_rt(version: &str) -> bool {
    version.split_whitespace().any(|word| word == "PREEMPT_RT")
}

#[cfg(test)]
mod tests {
    use super::names_preempt_rt;

    #[test]
    fn real_time_kernels_are_detected_by_their_version() {
        for (version, expected) in [
            ("#1 SMP PREEMPT_RT Debian 6.12.117-1~deb12u1 (2026-11-01)", true),
            ("#1 SMP PREEMPT_DYNAMIC Debian 6.12.117-1~deb12u1 (2026-11-01)", false),
            ("#1 SMP PREEMPT @0", false),
            ("#1-NO_PREEMPT_RT SMP", false),
            ("", false),
        ] {
            assert_eq!(names_preempt_rt(version), expected, "{version}");
        }
    }
}
