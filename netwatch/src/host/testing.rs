//! Namespaces for the tests of this folder: a thread of its own, made and gone with the test.

use std::process::Command;

use nix::sched::{CloneFlags, unshare};

/// Runs `test` in a new network namespace (and mount namespace, so that nothing it mounts is seen
/// outside). Without root it says so and returns.
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

/// Own copies of the places that named namespaces use, and a /sys of this namespace.
fn private_mounts() {
    use nix::mount::{MsFlags, mount};
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("make mounts private");
    mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), none).expect("mount /run");
    for directory in ["/run/upper", "/run/work"] {
        std::fs::create_dir(directory).expect("make a directory");
    }
    let layers = "lowerdir=/etc,upperdir=/run/upper,workdir=/run/work";
    // Without overlayfs the tests share the machine's own; their names differ.
    let _ = mount(Some("overlay"), "/etc", Some("overlay"), MsFlags::empty(), Some(layers));
}

/// Runs `ip` with these words and returns what it printed; it must succeed.
pub fn ip(words: &str) -> String {
    let output = Command::new("ip").args(words.split_whitespace()).output().expect("run ip");
    assert!(output.status.success(), "ip {words}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("ip prints text")
}
