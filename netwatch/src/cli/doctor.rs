//! `netwatch doctor`.

use crate::exit::Exit;

pub(super) fn main() -> Exit {
    Exit::Failed
}
