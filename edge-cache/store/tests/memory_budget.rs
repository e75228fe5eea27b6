//! The memory tier's budget against what the allocator really handed out.

mod counting;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use media::{GroupDigests, PackageId, Part, SegmentKey};
use prometheus::Registry;
use store::{ByteSize, SegmentBody, SegmentStore, StoreConfig};

use crate::counting::HELD;

/// Every key and every group has its own allocation, the most expensive way to hold a segment.
fn insert(store: &SegmentStore, number: u32, len: usize) {
    let (title, rendition) = ("a-film-with-a-name".parse().expect("a name"), "v720".parse().expect("a name"));
    let key = SegmentKey { title, package: PackageId(7), rendition, part: Part::Media(number) };
    let bytes = vec![number as u8; len];
    let digests = Arc::new(GroupDigests::of(&bytes));
    let mut groups: Vec<Bytes> = bytes.chunks(16_384).map(|chunk| Bytes::from(chunk.to_vec())).collect();
    if groups.is_empty() {
        groups.push(Bytes::new());
    }
    let body = SegmentBody::new(len as u64, groups).expect("the right groups");
    store.insert(&key, digests, body, &store::Terms::default());
    // A hit turns each buffer into a counted one, as serving does.
    let found = store.lookup(&key, len as u64, GroupDigests::of(&bytes).root());
    if let Some(body) = found.memory {
        let range = media::ByteRange::new(0, len as u64 + 1).expect("not empty");
        assert_eq!(body.slices(range).map(|slice| slice.len()).sum::<usize>(), len);
    }
}

fn check(lens: &[usize], count: u32, budget: u64) {
    let config = StoreConfig { memory_bytes: ByteSize::from(budget), ..StoreConfig::default() };
    let registry = Registry::new();
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("builds");
    let store = runtime.block_on(SegmentStore::open(&config, Vec::new(), &registry)).expect("opens");
    let before = HELD.load(Ordering::Relaxed);
    for number in 0..count {
        insert(&store, number, lens[number as usize % lens.len()]);
        let held = HELD.load(Ordering::Relaxed) - before;
        let usage = store.usage().memory;
        assert!(usage.bytes <= budget, "{usage:?} of {budget}");
        assert!(
            held <= usage.bytes as i64,
            "really held {held}, charged {usage:?}, after {number} of {lens:?}"
        );
    }
    let usage = store.usage().memory;
    let payload: u64 = usage.bytes;
    assert!(
        payload > budget - *lens.iter().max().expect("some") as u64 - 2048,
        "the budget is used: {usage:?}"
    );
}

/// One test, because the allocator counts the whole process.
#[test]
fn what_is_charged_is_never_less_than_what_is_held() {
    check(&[4_000_000], 30, 32 << 20);
    check(&[3_000_000, 100_000, 16_385, 700_000], 200, 24 << 20);
    check(&[100], 20_000, 4 << 20);
    check(&[1000, 16_384, 0, 40_000], 4_000, 8 << 20);
    // Many small ones first, then large ones: the places of the small ones are still paid for.
    let mixed: Vec<usize> = (0..4000).map(|n| if n < 3000 { 10 } else { 60_000 }).collect();
    check(&mixed, 4000, 6 << 20);
}
