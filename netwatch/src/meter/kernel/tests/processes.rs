//! Tests of the process tracer that run on every supported kernel. More tests are in
//! `meter/kernel/process/tests.rs`.

use super::is_linux;
use crate::meter::kernel::process::tests::{ALL, attached, events};
use crate::meter::sys;
use crate::process::ProcessAction;

/// Maximum number of instructions that the verifier processes for one program: they are loaded at
/// the start of every run.
const MAX_VERIFIED: u32 = 3_000;

#[test]
fn the_kernel_loads_all_programs_it_supports() {
    let Some((meter, _cgroup)) = attached(ALL) else { return };
    for (name, program) in meter.named_programs() {
        let info = sys::program_info(program).expect("readable");
        println!("{name}: {} verified, {} instructions", info.verified_insns, info.xlated_prog_len / 8);
        assert!(info.verified_insns < MAX_VERIFIED, "{name}: {} instructions verified", info.verified_insns);
    }
    let later = ["connect_unix", "sendmsg_unix", "sock_send_length", "sock_recv_length"];
    let rejected: Vec<String> = meter.rejected().map(|(name, error)| format!("{name}: {error}")).collect();
    let all_old = meter.rejected().all(|(name, _)| later.contains(&name));
    assert!(all_old, "{rejected:#?}");
    if is_linux(6, 7, "programs for unix sockets") {
        assert!(rejected.is_empty(), "{rejected:#?}");
    }
}

#[test]
fn a_child_and_its_exec_are_reported() {
    let Some((mut meter, cgroup)) = attached(ALL) else { return };
    let pid = cgroup.run("sh", &["-c", "(exit 0); exec /bin/true"]);
    let events = events(&mut meter);
    let execs: Vec<_> =
        events.iter().filter(|event| event.pid == pid && matches!(event.action, ProcessAction::Exec(..))).collect();
    let [ProcessAction::Exec(origin, shell), ProcessAction::Exec(same, image)] = [&execs[0].action, &execs[1].action]
    else {
        panic!()
    };
    assert_eq!((origin.ppid, same.start_ns), (std::process::id(), origin.start_ns), "{events:#?}");
    assert_eq!(shell.cmdline.as_ref().expect("read")[1..], ["-c", "(exit 0); exec /bin/true"]);
    assert!(image.exe.as_ref().is_some_and(|exe| exe.ends_with("/true")), "{image:?}");
    let is_child =
        |event: &&crate::process::ProcessEvent| matches!(event.action, ProcessAction::Fork(from) if from.ppid == pid);
    assert!(events.iter().any(|event| is_child(&event)), "{events:#?}");
}
