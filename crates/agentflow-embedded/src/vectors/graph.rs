//! A graph over dense vectors: each point is linked to near ones in many directions, and a search
//! walks from link to link towards what it looks for.
//!
//! Points are only added. Whoever searches says which count: those that are gone are still walked
//! over. Walking takes no lock but a short one far above the ground; lists of links change one
//! link at a time, and each link that is read was right a moment ago, which is enough for a walk.
//!
//! Source: Malkov and Yashunin, "Efficient and robust approximate nearest neighbor search using
//! Hierarchical Navigable Small World graphs", 2018.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    sync::{
        Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
};

use roaring::RoaringBitmap;

use super::{
    coarse::Wanted,
    rows::{PIECE, Pieces},
};

/// Most links of a point on a level; twice as many on the ground.
const LINKS: usize = 16;
const GROUND_LINKS: usize = 2 * LINKS;
/// Candidates among which the links of a new point are chosen.
const BUILD_WIDTH: usize = 128;
/// Most levels above the ground; with 16 links a billion points have 7.
const LEVELS: usize = 10;
/// Locks of points whose links change.
const LOCKS: usize = 256;
/// The end of a list of links.
const END: u32 = u32::MAX;

/// A slot and its cosine; the order is that of the cosines.
#[derive(Clone, Copy, Debug)]
struct Near(f32, u32);

impl Ord for Near {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0).then(self.1.cmp(&other.1))
    }
}

impl PartialOrd for Near {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Near {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Near {}

/// Links between slots.
pub(super) struct Graph {
    /// Pieces of `[PIECE, GROUND_LINKS]`; longer only while nobody walks.
    ground: RwLock<Vec<Box<[AtomicU32]>>>,
    upper: RwLock<Upper>,
    /// Slots below this one are in the graph, if they had a vector when they were added.
    covered: AtomicUsize,
    /// Held by who adds a piece.
    adding: Mutex<()>,
    /// By slot; who changes the links of a slot on the ground holds its lock.
    locks: Box<[Mutex<()>]>,
}

#[derive(Default)]
struct Upper {
    /// Where walks begin, and its level.
    entry: Option<(u32, usize)>,
    /// Links of a slot on the levels above the ground, lowest first.
    links: HashMap<u32, Vec<Vec<u32>>>,
}

/// What a walk has seen.
#[derive(Default)]
pub(super) struct Seen {
    bits: Vec<u64>,
    touched: Vec<u32>,
}

impl Seen {
    fn clear(&mut self, slots: usize) {
        for slot in self.touched.drain(..) {
            self.bits[slot as usize / 64] = 0;
        }
        if self.bits.len() * 64 < slots {
            self.bits.resize(slots.div_ceil(64), 0);
        }
    }

    /// Whether it was not seen before.
    fn see(&mut self, slot: u32) -> bool {
        let (word, bit) = (&mut self.bits[slot as usize / 64], 1 << (slot % 64));
        let is_new = *word & bit == 0;
        if is_new {
            *word |= bit;
            self.touched.push(slot);
        }
        is_new
    }
}

type Ground<'a> = &'a [Box<[AtomicU32]>];

fn links_of(ground: Ground<'_>, slot: u32) -> &[AtomicU32] {
    let start = slot as usize % PIECE * GROUND_LINKS;
    &ground[slot as usize / PIECE][start..start + GROUND_LINKS]
}

fn read(links: &[AtomicU32], into: &mut Vec<u32>) {
    into.clear();
    let linked = links.iter().map(|link| link.load(Ordering::Acquire));
    into.extend(linked.take_while(|link| *link != END));
}

/// The level of a slot: each has a sixteenth of the points of the one below.
fn level(slot: u32) -> usize {
    let mut random = fastrand::Rng::with_seed(u64::from(slot).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    // Of the first number after such a seed not all bits are mixed.
    random.u64(..);
    let level = (random.u64(..).leading_zeros() / LINKS.ilog2()) as usize;
    level.min(LEVELS)
}

impl Graph {
    pub(super) fn new() -> Self {
        Self {
            ground: RwLock::default(),
            upper: RwLock::default(),
            covered: AtomicUsize::new(0),
            adding: Mutex::new(()),
            locks: (0..LOCKS).map(|_| Mutex::new(())).collect(),
        }
    }

    /// Slots below this one are in the graph, if they had a vector when they were added.
    pub(super) fn covered(&self) -> usize {
        self.covered.load(Ordering::Acquire)
    }

    /// Adds the next piece of rows, those of its slots that are among `has`, on some threads.
    ///
    /// If `stops`, which stays so, it is left half done, and the graph gets no more.
    pub(super) fn add_piece(
        &self,
        pieces: &Pieces,
        has: &RoaringBitmap,
        threads: usize,
        stops: impl Fn() -> bool + Sync,
    ) {
        let _adding = self.adding.lock().unwrap_or_else(PoisonError::into_inner);
        let start = self.covered();
        if start + PIECE > pieces.full_slots() {
            return;
        }
        let links = (0..PIECE * GROUND_LINKS).map(|_| AtomicU32::new(END));
        let links = links.collect();
        self.ground
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .push(links);
        let next = AtomicUsize::new(start);
        let work = || {
            let mut seen = Seen::default();
            loop {
                let slot = next.fetch_add(1, Ordering::Relaxed);
                if slot >= start + PIECE || stops() {
                    break;
                }
                if has.contains(slot as u32) {
                    self.add(pieces, slot as u32, &mut seen);
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..threads {
                scope.spawn(work);
            }
            work();
        });
        if !stops() {
            self.covered.store(start + PIECE, Ordering::Release);
        }
    }

    fn add(&self, pieces: &Pieces, slot: u32, seen: &mut Seen) {
        let own = level(slot);
        let Some((mut from, top)) = self.enter(slot, own) else {
            return;
        };
        let wanted = &pieces.wanted(slot);
        for level in (own + 1..=top).rev() {
            from = self.climb(pieces, wanted, from, level);
        }
        for level in (1..=own.min(top)).rev() {
            let mut found = self.near_above(pieces, wanted, from, level, seen);
            found.retain(|near| near.1 != slot);
            let chosen = choose(pieces, found, LINKS);
            from = chosen.first().map_or(from, |near| near.1);
            self.link_above(pieces, slot, level, &chosen);
        }
        let ground = self.ground.read().unwrap_or_else(PoisonError::into_inner);
        let mut found = walk(
            pieces,
            wanted,
            from,
            (BUILD_WIDTH, seen),
            |slot, into| read(links_of(&ground, slot), into),
            |_| true,
        );
        found.retain(|near| near.1 != slot);
        let chosen = choose(pieces, found, LINKS);
        {
            let _held = self.lock(slot);
            write(links_of(&ground, slot), &chosen);
        }
        for near in &chosen {
            self.link_back(pieces, &ground, near.1, Near(near.0, slot));
        }
        drop(ground);
        if own > top {
            let mut upper = self.upper.write().unwrap_or_else(PoisonError::into_inner);
            if upper.entry.is_none_or(|(_, top)| own > top) {
                upper.entry = Some((slot, own));
            }
        }
    }

    /// Makes the slot's lists above the ground; where its walk begins, if it is not the first.
    fn enter(&self, slot: u32, own: usize) -> Option<(u32, usize)> {
        if own == 0 {
            let upper = self.upper.read().unwrap_or_else(PoisonError::into_inner);
            if upper.entry.is_some() {
                return upper.entry;
            }
        }
        let mut upper = self.upper.write().unwrap_or_else(PoisonError::into_inner);
        if own > 0 {
            upper.links.insert(slot, vec![Vec::new(); own]);
        }
        let entry = upper.entry;
        if entry.is_none() {
            upper.entry = Some((slot, own));
        }
        entry
    }

    fn lock(&self, slot: u32) -> MutexGuard<'_, ()> {
        self.locks[slot as usize % LOCKS]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn link_back(&self, pieces: &Pieces, ground: Ground<'_>, slot: u32, new: Near) {
        let _held = self.lock(slot);
        let links = links_of(ground, slot);
        let mut linked = Vec::with_capacity(GROUND_LINKS + 1);
        read(links, &mut linked);
        if linked.contains(&new.1) {
            return;
        }
        if linked.len() < GROUND_LINKS {
            links[linked.len()].store(new.1, Ordering::Release);
            return;
        }
        let own = pieces.wanted(slot);
        let mut found = nears(pieces, &own, &linked);
        found.push(new);
        write(links, &choose(pieces, found, GROUND_LINKS));
    }

    fn links_above(&self, slot: u32, level: usize) -> Vec<u32> {
        let upper = self.upper.read().unwrap_or_else(PoisonError::into_inner);
        let links = upper.links.get(&slot);
        links
            .and_then(|levels| levels.get(level - 1))
            .cloned()
            .unwrap_or_default()
    }

    fn near_above(
        &self,
        pieces: &Pieces,
        wanted: &Wanted<'_>,
        from: u32,
        level: usize,
        seen: &mut Seen,
    ) -> Vec<Near> {
        let links = |slot, into: &mut Vec<u32>| *into = self.links_above(slot, level);
        walk(pieces, wanted, from, (BUILD_WIDTH, seen), links, |_| true)
    }

    fn link_above(&self, pieces: &Pieces, slot: u32, level: usize, chosen: &[Near]) {
        let mut upper = self.upper.write().unwrap_or_else(PoisonError::into_inner);
        let at = level - 1;
        if let Some(own) = upper.links.get_mut(&slot).and_then(|l| l.get_mut(at)) {
            *own = chosen.iter().map(|near| near.1).collect();
        }
        for near in chosen {
            let Some(links) = upper.links.get_mut(&near.1).and_then(|l| l.get_mut(at)) else {
                continue;
            };
            links.push(slot);
            if links.len() > LINKS {
                let own = pieces.wanted(near.1);
                let found = nears(pieces, &own, links);
                let chosen = choose(pieces, found, LINKS);
                *links = chosen.into_iter().map(|near| near.1).collect();
            }
        }
    }

    /// The nearest that steps towards what is wanted lead to, on a level above the ground.
    fn climb(&self, pieces: &Pieces, wanted: &Wanted<'_>, from: u32, level: usize) -> u32 {
        let of = |slots: &[u32]| nears(pieces, wanted, slots).into_iter().max();
        let Some(mut best) = of(&[from]) else {
            return from;
        };
        while let Some(next) = of(&self.links_above(best.1, level)).filter(|n| n.0 > best.0) {
            best = next;
        }
        best.1
    }

    /// The nearest of the slots that count, about `width` of them, with their cosines.
    ///
    /// `wanted`: a unit vector. Fewer are found only if fewer can be reached.
    pub(super) fn nearest(
        &self,
        pieces: &Pieces,
        wanted: &[f32],
        width: usize,
        counts: impl Fn(u32) -> bool,
    ) -> Vec<(f32, u32)> {
        let entry = self
            .upper
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .entry;
        let Some((mut from, top)) = entry else {
            return vec![];
        };
        let coarse = Wanted::of(wanted);
        for level in (1..=top).rev() {
            from = self.climb(pieces, &coarse, from, level);
        }
        let ground = self.ground.read().unwrap_or_else(PoisonError::into_inner);
        let mut seen = Seen::default();
        let links = |slot, into: &mut Vec<u32>| read(links_of(&ground, slot), into);
        let found = walk(pieces, &coarse, from, (width, &mut seen), links, counts);
        let found: Vec<u32> = found.into_iter().map(|near| near.1).collect();
        let mut cosines = Vec::new();
        pieces.cosines(wanted, &found, &mut cosines);
        cosines
    }
}

fn nears(pieces: &Pieces, wanted: &Wanted<'_>, slots: &[u32]) -> Vec<Near> {
    let mut cosines = Vec::new();
    pieces.near(wanted, slots, &mut cosines);
    let near = |(cosine, slot)| Near(cosine, slot);
    cosines.into_iter().map(near).collect()
}

fn write(links: &[AtomicU32], chosen: &[Near]) {
    let chosen = chosen.iter().map(|near| near.1);
    for (link, slot) in links.iter().zip(chosen.chain(std::iter::repeat(END))) {
        link.store(slot, Ordering::Release);
    }
}

/// Walks from a slot towards what is wanted; the nearest that count, up to the width.
fn walk(
    pieces: &Pieces,
    wanted: &Wanted<'_>,
    from: u32,
    (width, seen): (usize, &mut Seen),
    links: impl Fn(u32, &mut Vec<u32>),
    counts: impl Fn(u32) -> bool,
) -> Vec<Near> {
    seen.clear(pieces.full_slots());
    let mut open: BinaryHeap<Near> = BinaryHeap::new();
    let mut best: BinaryHeap<Reverse<Near>> = BinaryHeap::with_capacity(width + 1);
    let (mut linked, mut new, mut cosines) = (Vec::new(), vec![from], Vec::new());
    seen.see(from);
    loop {
        pieces.near(wanted, &new, &mut cosines);
        for (cosine, slot) in cosines.drain(..) {
            let near = Near(cosine, slot);
            let is_near = best.len() < width || best.peek().is_some_and(|worst| near > worst.0);
            if !is_near {
                continue;
            }
            open.push(near);
            if counts(slot) {
                best.push(Reverse(near));
                if best.len() > width {
                    best.pop();
                }
            }
        }
        let Some(next) = open.pop() else { break };
        if best.len() >= width && best.peek().is_some_and(|worst| next < worst.0) {
            break;
        }
        links(next.1, &mut linked);
        new.clear();
        new.extend(linked.iter().copied().filter(|slot| seen.see(*slot)));
    }
    best.into_iter().map(|near| near.0).collect()
}

/// Of these, the nearest that are nearer to the point than to each other, nearest first: so its
/// links lead into many directions.
fn choose(pieces: &Pieces, mut found: Vec<Near>, many: usize) -> Vec<Near> {
    found.sort_unstable_by(|a, b| b.cmp(a));
    let mut chosen: Vec<Near> = Vec::with_capacity(many);
    let (mut slots, mut cosines) = (Vec::with_capacity(many), Vec::new());
    for near in found {
        if chosen.len() == many {
            break;
        }
        pieces.near(&pieces.wanted(near.1), &slots, &mut cosines);
        if cosines.iter().all(|(cosine, _)| *cosine <= near.0) {
            chosen.push(near);
            slots.push(near.1);
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::{
        super::rows::{Rows, unit},
        *,
    };

    #[test]
    fn each_level_has_a_sixteenth_of_the_one_below() {
        let mut levels = [0_u32; LEVELS + 1];
        for slot in 0..100_000 {
            levels[level(slot)] += 1;
        }
        assert!((93_000..94_500).contains(&levels[0]), "{levels:?}");
        assert!((5_400..6_300).contains(&levels[1]), "{levels:?}");
    }

    /// 48 numbers around one of 30 centres, most of the spread in few directions.
    fn clustered(seed: u64) -> Vec<f32> {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut centre = fastrand::Rng::with_seed(random.u64(..30));
        let spread = |i: usize| 3.0 / (1.0 + i as f32).sqrt();
        (0..48)
            .map(|i| centre.f32() - 0.5 + (random.f32() - 0.5) * spread(i))
            .collect()
    }

    /// Made by two threads, with gaps and removed points; a third of the points counts.
    #[test]
    fn a_walk_finds_the_nearest_that_count() {
        let slots = 3 * PIECE as u32;
        let mut rows = Rows::new(48);
        for slot in (0..=slots).filter(|slot| slot % 10 != 3) {
            rows.put(slot, &clustered(slot.into()));
        }
        let graph = Graph::new();
        while graph.covered() < rows.pieces().full_slots() {
            graph.add_piece(rows.pieces(), rows.has(), 2, || false);
        }
        assert_eq!(graph.covered(), slots as usize);
        for slot in (0..slots).step_by(5) {
            rows.remove(slot);
        }
        let some: RoaringBitmap = rows.has().iter().filter(|slot| slot % 3 == 0).collect();
        for (what, counting) in [
            ("all", rows.has() - RoaringBitmap::from([slots])),
            ("some", some),
        ] {
            let (mut all, mut same) = (0, 0);
            for n in 0..100 {
                let wanted = unit(&clustered((1 << 40) + n));
                let best = |mut found: Vec<(f32, u32)>| -> Vec<u32> {
                    found.sort_by(|a, b| b.0.total_cmp(&a.0));
                    found.into_iter().take(10).map(|(_, slot)| slot).collect()
                };
                let counts = |slot| counting.contains(slot);
                let walked = best(graph.nearest(rows.pieces(), &wanted, 48, counts));
                let exact = best(rows.cosines(&wanted, counting.iter()));
                assert_eq!(walked.len(), 10);
                all += exact.len();
                same += exact.iter().filter(|slot| walked.contains(slot)).count();
            }
            let recall = same as f64 / all as f64;
            println!("recall at 10, {what} of {slots} points: {recall:.4}");
            assert!(recall >= 0.98, "{what}: {recall}");
        }
    }
}
