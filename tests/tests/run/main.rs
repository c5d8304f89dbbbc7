//! Integration tests: netwatch on real traffic, one module per subject. docs/testing.md describes
//! how to write one.

mod bad_input;
mod balance;
mod both_killed;
mod capture;
mod check;
mod clients;
mod clock;
mod counts;
mod diff;
mod dns;
mod drain;
mod duration;
mod elsewhere;
mod ending;
mod environment;
mod exit_codes;
mod fail_closed;
mod faults;
mod filter;
mod firewall;
mod forwarding;
mod harness;
mod host_loopback;
mod kill9;
mod limits;
mod linger;
mod lock;
mod loopback;
mod named;
mod names;
mod network;
mod other_commands;
mod parallel;
mod ports;
mod processes;
mod publish;
mod recording;
mod recording_refused;
mod reload;
mod report;
mod resolv_rename;
mod rules;
mod run_basic;
mod signals;
mod snapshots;
mod spinner;
mod stress;
mod summary;
mod sysctls;
mod teardown;
mod terminal;
mod unread;

/// The usual target: a program that sends and receives traffic of exactly known size.
const TRAFFIC: &str = env!("CARGO_BIN_EXE_traffic");
