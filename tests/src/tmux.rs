//! A program in tmux, which is a real terminal: the test types keys and reads the screen as a
//! person would, after all escape sequences were applied.

use std::path::PathBuf;
use std::process::Command;

use crate::host::TestHost;
use crate::wait::wait_until;

/// A terminal of tmux, with a server of its own. The server is killed when this is dropped.
#[derive(Debug)]
pub struct Tmux<'h> {
    host: &'h TestHost,
    socket: PathBuf,
}

impl<'h> Tmux<'h> {
    /// Starts a shell command in a terminal of this size. The terminal stays when the command has
    /// ended.
    pub fn start(host: &'h TestHost, (columns, rows): (u16, u16), command: &str) -> Self {
        let socket = host.dir().join(format!("tmux-{}", crate::run::RunningNetwatch::next_id()));
        let tmux = Self { host, socket };
        let size = ["-x", &columns.to_string(), "-y", &rows.to_string()].map(str::to_owned);
        let shell = format!("{command}; echo ended-$?; exec sleep 1000");
        let mut start = tmux.command();
        start.args(["new-session", "-d"]).args(size).args(["sh", "-c", &shell]);
        let output = start.output().expect("start tmux");
        assert!(output.status.success(), "tmux: {}", String::from_utf8_lossy(&output.stderr));
        tmux.run(&["set-option", "-g", "remain-on-exit", "on"]);
        tmux
    }

    fn command(&self) -> Command {
        let mut command = self.host.command("tmux");
        // No configuration of the machine, no status line, and UTF-8 whatever the locale is.
        command.args(["-u", "-f", "/dev/null", "-S"]).arg(&self.socket);
        command.env("LC_ALL", "C.UTF-8").env("TERM", "xterm-256color").env_remove("TMUX");
        command
    }

    fn run(&self, arguments: &[&str]) -> String {
        let output = self.command().args(arguments).output().expect("start tmux");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// The screen, without spaces at the ends of rows.
    pub fn screen(&self) -> String {
        self.run(&["capture-pane", "-p"])
    }

    /// Everything that was shown, with what has scrolled off the screen.
    pub fn history(&self) -> String {
        self.run(&["capture-pane", "-p", "-S", "-"])
    }

    /// The rows of the screen.
    pub fn rows(&self) -> Vec<String> {
        self.screen().lines().map(str::to_owned).collect()
    }

    /// Types keys by their names in tmux: `q`, `Enter`, `Down`.
    pub fn keys(&self, keys: &[&str]) {
        self.run(&[&["send-keys"], keys].concat());
    }

    /// A property of the terminal, by its name in tmux: `alternate_on`, `scroll_region_lower`.
    pub fn property(&self, name: &str) -> String {
        self.run(&["display-message", "-p", &format!("#{{{name}}}")]).trim().to_owned()
    }

    /// Waits until the screen fulfills a condition.
    #[track_caller]
    pub fn wait_until(&self, what: &str, mut is_so: impl FnMut(&str) -> bool) {
        wait_until(|| is_so(&self.screen()), || format!("{what} on the screen:\n{}", self.screen()));
    }

    /// Waits until the screen contains this text.
    #[track_caller]
    pub fn wait_for(&self, text: &str) {
        self.wait_until(&format!("{text:?}"), |screen| screen.contains(text));
    }
}

impl Drop for Tmux<'_> {
    fn drop(&mut self) {
        let _ = self.command().arg("kill-server").output();
    }
}
