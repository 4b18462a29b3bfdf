//! Simulation of the run state machine over the in-memory backend.
//!
//! A seed decides what clients and workers do, when writes fail, who crashes and who comes back
//! with a stale token. After every step the invariants of `model` are checked; at the end every
//! acknowledged run must have ended. A failure prints its seed.
//!
//! `AGENTFLOW_SIMULATION_SEED=n` plays that one seed; `AGENTFLOW_SIMULATION_SEEDS=n` plays so many
//! instead of 10,000.

mod faults;
mod model;
mod world;

use world::World;

/// Seeds that are played unless the environment says otherwise.
const SEEDS: u64 = 10_000;
/// The seeds are divided among so many tests, so that they run side by side.
const PARTS: u64 = 4;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} must be a number, not {text:?}")),
    )
}

/// Plays one part of the seeds.
fn play(part: u64) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime starts");
    let seeds = match number("AGENTFLOW_SIMULATION_SEED") {
        Some(seed) if seed % PARTS == part => seed..seed + 1,
        Some(_) => 0..0,
        None => 0..number("AGENTFLOW_SIMULATION_SEEDS").unwrap_or(SEEDS),
    };
    for seed in seeds.filter(|seed| seed % PARTS == part) {
        if let Err(broken) = runtime.block_on(World::new(seed).play()) {
            panic!("seed {seed}: {broken}\nagain with AGENTFLOW_SIMULATION_SEED={seed}");
        }
    }
}

#[test]
fn seeds_of_the_first_part_keep_every_invariant() {
    play(0);
}

#[test]
fn seeds_of_the_second_part_keep_every_invariant() {
    play(1);
}

#[test]
fn seeds_of_the_third_part_keep_every_invariant() {
    play(2);
}

#[test]
fn seeds_of_the_fourth_part_keep_every_invariant() {
    play(3);
}
