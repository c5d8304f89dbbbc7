//! Places that can be made to fail, in builds for the tests only. A release build has no trace of it.

use crate::error::Result;

/// Every step of the set-up, in order. `NETWATCH_FAULT=<step>` makes it fail; with `<signal>:<step>` the process gets this signal there.
#[cfg(feature = "faults")]
pub(crate) const STEPS: [&str; 16] = [
    "run_dir",
    "guardian",
    "probe",
    "subnet",
    "namespace",
    "link",
    "attach",
    "dns",
    "nat",
    "forwarding",
    "firewall",
    "resolv_conf",
    "cgroup",
    "prepare",
    "go",
    "execute",
];

/// Steps that a run may take later, and goes on without.
#[cfg(feature = "faults")]
const LATER: [&str; 1] = ["grow"];

/// Fails if this step was asked to.
#[cfg(feature = "faults")]
pub(crate) fn point(step: &str) -> Result<()> {
    debug_assert!(STEPS.contains(&step) || LATER.contains(&step));
    match std::env::var("NETWATCH_FAULT") {
        Ok(wanted) if wanted == step => {
            Err(crate::error::Error::said("pass step", step, "made to fail by NETWATCH_FAULT"))
        }
        Ok(wanted) => signal(&wanted, step),
        Err(_) => Ok(()),
    }
}

#[cfg(feature = "faults")]
fn signal(wanted: &str, step: &str) -> Result<()> {
    let signal =
        wanted.strip_suffix(step).and_then(|name| name.strip_suffix(':')?.parse::<nix::sys::signal::Signal>().ok());
    let Some(signal) = signal else { return Ok(()) };
    nix::sys::signal::kill(nix::unistd::getpid(), signal)
        .map_err(|errno| crate::error::Error::os("send", signal.as_str(), errno))
}

/// Does nothing.
#[cfg(not(feature = "faults"))]
#[inline]
pub(crate) fn point(_step: &str) -> Result<()> {
    Ok(())
}

/// Flows that user space keeps one by one: so many, or with `NETWATCH_FAULT=fold:<number>` that number.
#[cfg(feature = "faults")]
pub(crate) fn user_flows(usual: usize) -> usize {
    let asked = std::env::var("NETWATCH_FAULT").ok();
    asked.and_then(|wanted| wanted.strip_prefix("fold:")?.parse().ok()).unwrap_or(usual)
}

/// So many.
#[cfg(not(feature = "faults"))]
#[inline]
pub(crate) fn user_flows(usual: usize) -> usize {
    usual
}

/// Prints the steps of the set-up.
#[cfg(feature = "faults")]
pub(crate) fn list() -> crate::exit::Exit {
    println!("{}", STEPS.join("\n"));
    crate::exit::Exit::Success
}
