//! stub
pub fn run(_count: usize) -> crate::Result {
    Ok(())
}
