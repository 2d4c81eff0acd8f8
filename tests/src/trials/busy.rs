//! Load on every core, like a neighbour on a crowded machine.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Busy loops, each on its own thread, until this is dropped.
#[derive(Debug)]
pub struct BusyLoops {
    stop: Arc<AtomicBool>,
}

impl BusyLoops {
    pub fn start(count: u32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        for _ in 0..count {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        Self { stop }
    }
}

impl Drop for BusyLoops {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
