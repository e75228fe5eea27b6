//! What every policy owes its table, whatever it thinks of objects; and what each is known for.

mod counting;

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::Duration;

use media::{PackageId, Part, SegmentKey};
use proptest::prelude::*;
use store::policy::{Lru, Policy, S3Fifo, Slot, Video, WTinyLfu};

use crate::counting::HELD;

/// The allocator counts for the whole process, so the tests take turns.
static ALONE: Mutex<()> = Mutex::new(());

const CAPACITY: u64 = 1_000;

fn policies(capacity: u64) -> [(&'static str, Box<dyn Policy>); 4] {
    [
        ("lru", Box::new(Lru::new())),
        ("s3-fifo", Box::new(S3Fifo::new(capacity))),
        ("w-tinylfu", Box::new(WTinyLfu::new(capacity))),
        ("video", Box::new(Video::new())),
    ]
}

fn key(title: u32, n: u32) -> SegmentKey {
    let name = format!("t{title}");
    let (title, rendition) = (name.parse().expect("a name"), "v720".parse().expect("a name"));
    SegmentKey { title, package: PackageId(1), rendition, part: Part::Media(n) }
}

#[derive(Debug, Clone)]
enum Event {
    Ask { title: u32, n: u32, after_ms: u64 },
    Admit { slot: u32, title: u32, n: u32, bytes: u64, warm: bool },
    Touch(u32),
    Forget(u32),
    Victim,
    Earns { title: u32, n: u32 },
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        (0..4_u32, 0..40_u32, 0..100_000_u64).prop_map(|(title, n, after_ms)| Event::Ask {
            title,
            n,
            after_ms
        }),
        (0..24_u32, 0..4_u32, 0..40_u32, 1..200_u64, any::<bool>())
            .prop_map(|(slot, title, n, bytes, warm)| Event::Admit { slot, title, n, bytes, warm }),
        (0..30_u32).prop_map(Event::Touch),
        (0..30_u32).prop_map(Event::Forget),
        Just(Event::Victim),
        (0..4_u32, 0..40_u32).prop_map(|(title, n)| Event::Earns { title, n }),
    ]
}

/// Tells a policy what happens, and a set of slots beside it. A table gives a slot again only when it is free.
fn check(name: &str, policy: &mut dyn Policy, events: &[Event]) {
    let (mut here, mut now) = (BTreeSet::new(), Duration::ZERO);
    for event in events {
        match event {
            Event::Ask { title, n, after_ms } => {
                now += Duration::from_millis(*after_ms);
                policy.ask(&key(*title, *n), now);
            }
            Event::Admit { slot, title, n, bytes, warm } => {
                if here.insert(*slot) {
                    policy.admit(Slot(*slot), &key(*title, *n), *bytes, *warm);
                }
            }
            Event::Touch(slot) => {
                if here.contains(slot) {
                    policy.touch(Slot(*slot));
                }
            }
            Event::Forget(slot) => {
                here.remove(slot);
                policy.forget(Slot(*slot));
            }
            Event::Victim => match policy.victim() {
                Some(slot) => assert!(here.remove(&slot.0), "{name}: {slot:?} is not here"),
                None => assert!(here.is_empty(), "{name}: {here:?} are here"),
            },
            Event::Earns { title, n } => {
                policy.earns(&key(*title, *n));
            }
        }
        policy.is_warm(Slot(3));
    }
    let mut left: Vec<u32> = std::iter::from_fn(|| policy.victim()).map(|slot| slot.0).collect();
    left.sort_unstable();
    assert_eq!(left, here.into_iter().collect::<Vec<_>>(), "{name}: everything goes once");
}

proptest! {
    #[test]
    fn victims_are_here_and_go_once(events in prop::collection::vec(event(), 0..200)) {
        let _alone = ALONE.lock();
        for (name, mut policy) in policies(CAPACITY) {
            check(name, policy.as_mut(), &events);
        }
    }

    /// The same against a list in the order of use.
    #[test]
    fn lru_is_lru(events in prop::collection::vec(event(), 0..200)) {
        let _alone = ALONE.lock();
        let (mut policy, mut model) = (Lru::new(), Vec::new());
        for event in &events {
            match event {
                Event::Admit { slot, title, n, bytes, warm } if !model.contains(slot) => {
                    policy.admit(Slot(*slot), &key(*title, *n), *bytes, *warm);
                    model.push(*slot);
                }
                Event::Touch(slot) => {
                    policy.touch(Slot(*slot));
                    if let Some(at) = model.iter().position(|other| other == slot) {
                        model.remove(at);
                        model.push(*slot);
                    }
                }
                Event::Forget(slot) => {
                    policy.forget(Slot(*slot));
                    model.retain(|other| other != slot);
                }
                Event::Victim => {
                    let expected = (!model.is_empty()).then(|| Slot(model.remove(0)));
                    prop_assert_eq!(policy.victim(), expected);
                }
                _ => {}
            }
        }
    }
}

/// What is asked for often stays, a flood that is asked for once passes by.
#[test]
fn w_tinylfu_keeps_what_is_asked_for_often() {
    let _alone = ALONE.lock();
    let mut policy = WTinyLfu::new(CAPACITY);
    for n in 0..10 {
        (0..if n < 5 { 8 } else { 1 }).for_each(|_| policy.ask(&key(1, n), Duration::ZERO));
        policy.admit(Slot(n), &key(1, n), 100, false);
    }
    let mut held: Vec<u32> = (0..10).collect();
    for n in 10..200 {
        policy.ask(&key(1, n), Duration::ZERO);
        let slot = policy.victim().expect("it is full");
        held[slot.0 as usize] = n;
        policy.admit(slot, &key(1, n), 100, false);
    }
    assert_eq!(held.iter().filter(|n| **n < 5).count(), 5, "{held:?}");
}

/// Ten segments are here and one viewer comes: what he passed goes before what lies ahead of him, and only what
/// somebody is on his way to is worth a write.
#[test]
fn video_looks_ahead() {
    let _alone = ALONE.lock();
    let mut policy = Video::new();
    (0..10).for_each(|n| policy.admit(Slot(n), &key(1, n * 10), 100, false));
    for n in 0..55 {
        policy.ask(&key(1, n), Duration::from_secs(u64::from(n) * 6));
    }
    assert!(policy.earns(&key(1, 56)), "he comes there next");
    assert!(!policy.earns(&key(1, 20)), "nobody is before it");
    assert!(!policy.earns(&key(2, 56)), "nobody ever asked for its title");
    let victims: Vec<u32> = std::iter::from_fn(|| policy.victim()).map(|slot| slot.0).collect();
    assert_eq!(victims[..6].iter().copied().collect::<BTreeSet<_>>(), (0..6).collect(), "behind him");
    assert_eq!(victims[6..], [9, 8, 7, 6], "ahead of him, the farthest first");
}

/// The promise of every policy: 40 bytes for each object, at a hundred thousand and at a million objects.
#[test]
fn state_is_small() {
    const OBJECTS: u32 = 1_000_000;
    const SEGMENTS: u32 = 1_000;
    let _alone = ALONE.lock();
    let mut names = vec![key(0, 0); (OBJECTS / SEGMENTS) as usize];
    (0..).zip(&mut names).for_each(|(title, name)| *name = key(title, 0));
    for (name, mut policy) in policies(u64::from(OBJECTS) * 3_000_000) {
        let before = HELD.load(Ordering::Relaxed);
        for n in 0..OBJECTS {
            let key = &mut names[(n / SEGMENTS) as usize];
            key.part = Part::Media(n % SEGMENTS);
            policy.ask(key, Duration::from_millis(u64::from(n) * 10));
            policy.admit(Slot(n), key, 3_000_000, false);
        }
        let each = (HELD.load(Ordering::Relaxed) - before) as f64 / f64::from(OBJECTS);
        println!("{name}: {each:.1} bytes for each object");
        assert!(each > 8.0 && each <= 40.0, "{name}: {each}");
    }
}
