//! Leader election by Lease, and the gate that it puts before every write.

mod leadership;

pub use leadership::Leadership;
