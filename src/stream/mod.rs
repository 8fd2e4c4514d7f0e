//! Following blue's changes: reading pgoutput, and applying it to green so that nothing is lost or done twice.

pub mod follow;
pub mod pgoutput;
