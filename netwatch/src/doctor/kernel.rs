//! The kernel's version.

use super::Finding;

/// Ring buffers and CAP_BPF.
const NEEDED: (u32, u32) = (5, 8);
/// The oldest that netwatch is tried on.
const TRIED: (u32, u32) = (6, 1);

pub(super) fn version() -> Finding {
    match nix::sys::utsname::uname() {
        Ok(name) => judge(&name.release().to_string_lossy()).realtime(crate::meter::is_realtime()),
        Err(errno) => Finding::warn("kernel", format!("cannot read its version: {errno}"), "nothing to do"),
    }
}

fn judge(release: &str) -> Finding {
    match parse(release) {
        Some(version) if version < NEEDED => {
            Finding::fail("kernel", release, format!("at least {}.{} is needed", NEEDED.0, NEEDED.1))
        }
        Some(version) if version < TRIED => {
            Finding::warn("kernel", release, format!("netwatch is tried on {}.{} and later", TRIED.0, TRIED.1))
        }
        Some(_) => Finding::ok("kernel", release),
        None => Finding::warn("kernel", format!("{release} is not a version we can read"), "nothing to do"),
    }
}

impl Finding {
    /// What is different there is said; nothing is the worse for it but the time that a packet takes.
    fn realtime(mut self, is_realtime: bool) -> Self {
        if is_realtime {
            self.detail
                .push_str(" with PREEMPT_RT: packets are counted in the shared table only, which costs more for each");
        }
        self
    }
}

/// `6.18.44-fc` is 6.18.
fn parse(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;

    #[test]
    fn judges_by_major_and_minor() {
        let levels =
            ["5.4.0-150-generic", "5.15.0", "6.1.0-9-amd64", "6.18.44", "7.0-rc1", "unknown"].map(|r| judge(r).level);
        assert_eq!(levels, [Level::Fail, Level::Warn, Level::Ok, Level::Ok, Level::Ok, Level::Warn]);
    }

    #[test]
    fn says_that_a_kernel_is_for_real_time() {
        let detail = |is_realtime| judge("6.1.0-56-rt-amd64").realtime(is_realtime).detail;
        assert_eq!(detail(false), "6.1.0-56-rt-amd64");
        assert!(detail(true).starts_with("6.1.0-56-rt-amd64 with PREEMPT_RT: "));
    }
}
