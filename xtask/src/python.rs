//! A Python environment of the tests' own, with the readers of what `netwatch export` writes and a client of HTTP/3. Nothing of the machine's
//! Python is changed.

use std::process::Command;

use crate::Result;
use crate::command::{run, target_dir};

/// DuckDB and pandas, with the reader of Parquet that is the smallest; QUIC and HTTP/3, which Debian's curl has not.
const PACKAGES: [&str; 4] = ["duckdb==2.0.1", "pandas==3.1.1", "fastparquet==2026.9.0", "aioquic==1.7.2"];

/// Makes it, unless it is there.
pub fn install() -> Result {
    let environment = target_dir().join("venv");
    let python = environment.join("bin/python3");
    let is_there = Command::new(&python).args(["-c", "import duckdb, pandas, fastparquet, aioquic"]).output();
    if is_there.is_ok_and(|done| done.status.success()) {
        return Ok(());
    }
    let made = run(Command::new("python3").args(["-m", "venv"]).arg(&environment));
    let mut install = Command::new(python);
    install
        .args(["-m", "pip", "install", "-q", "--disable-pip-version-check", "--only-binary", ":all:"])
        .args(PACKAGES);
    made.and_then(|()| run(&mut install))
        .map_err(|failure| format!("{failure} (tests of `netwatch export` and of HTTP/3 need it)"))
}
