//! What the user asked to watch: the command, who it runs as, and what it sees of the machine.

pub mod command;
pub mod environment;
pub mod mounts;
pub mod user;
