//! Randomness that can be repeated: a random test prints its seed and takes it back from `TIDINGS_TEST_SEED`.

use rand::SeedableRng as _;
use rand::rngs::StdRng;

pub(crate) fn random(test: &str) -> StdRng {
    drawn(test).1
}

/// The same, with the seed.
pub(crate) fn drawn(test: &str) -> (u64, StdRng) {
    let seed = std::env::var("TIDINGS_TEST_SEED").ok().map_or_else(rand::random::<u64>, |text| text.parse().unwrap());
    println!("{test}: TIDINGS_TEST_SEED={seed}");
    (seed, StdRng::seed_from_u64(seed))
}
