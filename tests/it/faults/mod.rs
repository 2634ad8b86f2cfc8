//! Faults on purpose: damage to what is stored, and system calls that fail or are the last. `make faults` runs the long forms.
//!
//! `LIFEBOAT_FAULTS_SEED` chooses the tries, `LIFEBOAT_FAULTS_TRIES` how many; a failure says how to see it again.

mod disks;
mod files;
mod flips;
mod resealed;
mod strace;
mod syscalls;

/// Numbers that look random and are the same for the same seed.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    /// The next number (splitmix64).
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// One below `end`, which is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.roll() % end as u64).unwrap()
    }
}

/// A number of the environment.
fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

pub fn seed() -> u64 {
    number("LIFEBOAT_FAULTS_SEED", 1)
}

pub fn tries(default: u64) -> u64 {
    number("LIFEBOAT_FAULTS_TRIES", default)
}
