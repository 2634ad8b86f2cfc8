//! Signs of life: which loops of this process move.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What this process says of itself. One for a process; every loop beats in it.
#[derive(Debug, Default)]
pub struct Vitals {
    pulses: Mutex<BTreeMap<&'static str, Pulse>>,
}

#[derive(Clone, Copy, Debug)]
struct Pulse {
    last: Instant,
    within: Duration,
}

impl Vitals {
    /// A loop moves, and will say so again within this time. The first beat makes it one that is watched.
    pub fn beat(&self, of: &'static str, within: Duration) {
        locked(&self.pulses).insert(of, Pulse { last: Instant::now(), within });
    }

    /// A loop has come to its end in good order.
    pub fn ended(&self, of: &'static str) {
        locked(&self.pulses).remove(of);
    }

    /// Loops that have not moved for longer than they said they would, and for how long.
    pub fn stuck(&self) -> Vec<(&'static str, Duration)> {
        let still = |(of, pulse): (&&'static str, &Pulse)| {
            let silent = pulse.last.elapsed();
            (silent > pulse.within).then_some((*of, silent))
        };
        locked(&self.pulses).iter().filter_map(still).collect()
    }
}

/// A panic elsewhere leaves a map whole.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_that_does_not_move_is_named() {
        let vitals = Vitals::default();
        assert!(vitals.stuck().is_empty());
        vitals.beat("planner", Duration::from_secs(3_600));
        vitals.beat("letters", Duration::ZERO);
        std::thread::yield_now();
        let stuck: Vec<&str> = vitals.stuck().into_iter().map(|(of, _)| of).collect();
        assert_eq!(stuck, ["letters"]);
        vitals.ended("letters");
        assert!(vitals.stuck().is_empty());
    }
}
