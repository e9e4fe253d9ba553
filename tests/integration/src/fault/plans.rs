//! Plans that tests share.

use super::{Call, Fault};

/// Spoils the writes whose number is `phase` modulo `stride`: all phases together hit every write.
pub fn every_nth_write(stride: usize, phase: usize, fault: Fault) -> impl Fn(&Call) -> Fault + Send + Sync {
    move |call| match call.write {
        Some(number) if number % stride == phase % stride => fault.clone(),
        _ => Fault::None,
    }
}
