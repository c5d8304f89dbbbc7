//! Namespaces for the tests of this module: created and removed with the test.

use std::process::Command;

use nix::sched::{CloneFlags, unshare};

/// Runs `test` in a new network namespace, and in a new mount namespace so that its mounts do not
/// appear outside. Without root it prints that the test is skipped.
pub fn in_fresh_namespace(test: impl FnOnce() + Send) {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: needs root to make a network namespace");
        return;
    }
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("unshare");
            private_mounts();
            ip("link set lo up");
            test();
        });
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

/// Copies of the directories that named namespaces use.
fn private_mounts() {
    use nix::mount::{MsFlags, mount};
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("make mounts private");
    mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), none).expect("mount /run");
    for directory in ["/run/upper", "/run/work"] {
        std::fs::create_dir(directory).expect("make a directory");
    }
    let layers = "lowerdir=/etc,upperdir=/run/upper,workdir=/run/work";
    // Without overlayfs the tests use the machine's own /etc, with names of their own.
    let _ = mount(Some("overlay"), "/etc", Some("overlay"), MsFlags::empty(), Some(layers));
}

/// Runs `ip` with these arguments and returns its output; it must succeed.
pub fn ip(words: &str) -> String {
    let output = Command::new("ip").args(words.split_whitespace()).output().expect("run ip");
    assert!(output.status.success(), "ip {words}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("ip prints text")
}
