//! What the requests and tasks of one process tell each other. None of it is stored, and losing it
//! is harmless.

mod status;
mod wake;

pub use self::status::{LiveStatus, Watch};
pub use self::wake::Wake;
