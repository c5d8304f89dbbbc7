//! Fault injection: steps that can be made to fail, in test builds only. A release build contains
//! none of it.

use crate::error::Result;

/// Every step of the set-up, in order. `NETWATCH_FAULT=<step>` makes the step fail;
/// `NETWATCH_FAULT=<signal>:<step>` sends the signal to the process in this step.
#[cfg(feature = "faults")]
pub(crate) const STEPS: [&str; 17] = [
    "run_dir",
    "guardian",
    "meter",
    "subnet",
    "namespace",
    "link",
    "attach",
    "host_loopback",
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

/// Steps after the set-up. A run continues if they fail.
#[cfg(feature = "faults")]
const LATER_STEPS: [&str; 1] = ["grow"];

/// Fails if NETWATCH_FAULT names this step. A later step may be repeated, so each failure of it is
/// printed.
#[cfg(feature = "faults")]
pub(crate) fn point(step: &str) -> Result<()> {
    debug_assert!(STEPS.contains(&step) || LATER_STEPS.contains(&step));
    match std::env::var("NETWATCH_FAULT") {
        Ok(fault) if fault == step => {
            if LATER_STEPS.contains(&step) {
                eprintln!("NETWATCH_FAULT: {step}");
            }
            Err(crate::error::Error::other("complete step", step, "NETWATCH_FAULT makes it fail"))
        }
        Ok(fault) => signal(&fault, step),
        Err(_) => Ok(()),
    }
}

#[cfg(feature = "faults")]
fn signal(fault: &str, step: &str) -> Result<()> {
    let signal =
        fault.strip_suffix(step).and_then(|name| name.strip_suffix(':')?.parse::<nix::sys::signal::Signal>().ok());
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

/// Maximum number of flows in the user-space table: `default`, or NUMBER with
/// `NETWATCH_FAULT=fold:NUMBER`.
#[cfg(feature = "faults")]
pub(crate) fn user_flows(default: usize) -> usize {
    let fault = std::env::var("NETWATCH_FAULT").ok();
    fault.and_then(|fault| fault.strip_prefix("fold:")?.parse().ok()).unwrap_or(default)
}

/// Returns `default`.
#[cfg(not(feature = "faults"))]
#[inline]
pub(crate) fn user_flows(default: usize) -> usize {
    default
}

/// Prints the steps of the set-up.
#[cfg(feature = "faults")]
pub(crate) fn list() -> crate::exit::Exit {
    println!("{}", STEPS.join("\n"));
    crate::exit::Exit::Success
}
