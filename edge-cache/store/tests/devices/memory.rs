//! The faults of the device in memory, and what a loss of power may take.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use store::device::PAGE;
use store::{Device, FileName, MemoryDevice};
use tokio::time::Instant;

use crate::support::{LOG, PAGE_LEN, SLAB, bytes_of};

async fn opened() -> MemoryDevice {
    let device = MemoryDevice::new();
    device.open().await.expect("opens");
    device
}

async fn write(device: &MemoryDevice, file: FileName, at: u64, bytes: &[u8]) -> Result<(), ErrorKind> {
    device.write(file, at, vec![Bytes::copy_from_slice(bytes)]).await.map_err(|error| error.kind())
}

#[tokio::test]
async fn faults_stay_until_they_are_taken_back() {
    let device = opened().await;
    write(&device, LOG, 0, b"abc").await.expect("writes");
    let fault = Some(ErrorKind::PermissionDenied);
    device.fail_opens(fault);
    device.fail_reads(fault);
    device.fail_writes(fault);
    device.fail_syncs(fault);
    device.fail_resizes(fault);
    for _ in 0..2 {
        assert_eq!(device.open().await.map_err(|error| error.kind()), Err(ErrorKind::PermissionDenied));
        assert_eq!(
            device.read(LOG, 0, 3).await.map_err(|error| error.kind()),
            Err(ErrorKind::PermissionDenied)
        );
        assert_eq!(write(&device, LOG, 0, b"xyz").await, Err(ErrorKind::PermissionDenied));
        assert!(device.sync(LOG).await.is_err());
        assert_eq!(
            device.resize(LOG, 0).await.map_err(|error| error.kind()),
            Err(ErrorKind::PermissionDenied)
        );
    }
    device.fail_opens(None);
    device.fail_reads(None);
    device.fail_writes(None);
    device.fail_syncs(None);
    device.fail_resizes(None);
    assert_eq!(device.read(LOG, 0, 3).await.expect("reads"), "abc");
    assert!(device.sync(LOG).await.is_err(), "what a failed sync forgot is not found by another");
    device.open().await.expect("opens");
    device.sync(LOG).await.expect("all is anew");
}

#[tokio::test]
async fn a_full_disk_counts_whole_pages() {
    let device = opened().await;
    device.set_capacity(Some(4 * PAGE));
    device.resize(SLAB, 2 * PAGE).await.expect("fits");
    write(&device, LOG, 0, b"x").await.expect("fits");
    write(&device, LOG, 1, &[1; PAGE_LEN - 1]).await.expect("the page is there");
    assert_eq!(
        device.resize(SLAB, 4 * PAGE).await.map_err(|error| error.kind()),
        Err(ErrorKind::StorageFull)
    );
    write(&device, LOG, PAGE, b"x").await.expect("fits");
    assert_eq!(write(&device, LOG, 2 * PAGE, b"x").await, Err(ErrorKind::StorageFull));
    write(&device, SLAB, 0, &[2; 2 * PAGE_LEN]).await.expect("its room was set aside");
    assert_eq!(device.files(), [(LOG, PAGE + 1), (SLAB, 2 * PAGE)]);
}

#[tokio::test]
async fn a_stopped_device_changes_nothing() {
    let device = opened().await;
    device.stop_after(Some(1));
    write(&device, LOG, 0, b"last").await.expect("the last one");
    let before = device.operations();
    assert_eq!(write(&device, LOG, 0, b"lost").await, Err(ErrorKind::BrokenPipe));
    assert_eq!(device.resize(LOG, 0).await.map_err(|error| error.kind()), Err(ErrorKind::BrokenPipe));
    assert_eq!(device.operations(), before + 2);
    device.stop_after(None);
    assert_eq!(device.open().await.expect("opens"), [(LOG, 4)]);
    assert_eq!(device.read(LOG, 0, 4).await.expect("reads"), "last");
}

#[tokio::test]
async fn a_torn_write_leaves_its_beginning() {
    for torn in [0, 1, 5_000, 3 * PAGE] {
        let device = opened().await;
        device.resize(SLAB, 3 * PAGE).await.expect("fits");
        device.tear_next_write(torn);
        let bytes = bytes_of(1, 3 * PAGE_LEN);
        let parts = vec![bytes.slice(..PAGE_LEN), bytes.slice(PAGE_LEN..)];
        assert_eq!(device.write(SLAB, 0, parts).await.expect_err("torn").kind(), ErrorKind::BrokenPipe);
        let torn = torn as usize;
        let expected = [&bytes[..torn], &vec![0; 3 * PAGE_LEN - torn]].concat();
        assert_eq!(device.contents(SLAB).expect("there"), expected);
        write(&device, SLAB, 0, &bytes).await.expect("only the next one was");
    }
}

#[tokio::test]
async fn rot_is_where_it_was_put_and_nowhere_else() {
    let device = opened().await;
    let bytes = bytes_of(1, 5_000);
    device.put(LOG, &bytes);
    device.flip(LOG, 4_999, 0b101);
    device.flip(LOG, 5_000, 0xff);
    device.swap(LOG, 0, 4_090, 10);
    device.swap(LOG, 0, 4_995, 10);
    device.zero(LOG, 20..30);
    device.zero(LOG, 4_998..6_000);
    let mut expected = bytes.to_vec();
    let (a, b) = (bytes[..10].to_vec(), bytes[4_090..4_100].to_vec());
    expected[..10].copy_from_slice(&b);
    expected[4_090..4_100].copy_from_slice(&a);
    expected[20..30].fill(0);
    expected[4_998..].fill(0);
    assert_eq!(device.contents(LOG).expect("there"), expected);
    device.truncate(LOG, 4_097);
    device.truncate(LOG, 10_000);
    assert_eq!(device.contents(LOG).expect("there"), expected[..4_097]);
    device.flip(SLAB, 0, 1);
    device.truncate(SLAB, 0);
    assert_eq!(device.files(), [(LOG, 4_097)], "what is not there does not rot");
    device.lose_power(1);
    assert_eq!(device.contents(LOG).expect("there"), expected[..4_097], "rot is on the disk");
}

#[tokio::test(start_paused = true)]
async fn slow_operations_take_their_time_and_their_places() {
    let device = Arc::new(MemoryDevice::with_places(2));
    device.open().await.expect("opens");
    device.set_delay(Duration::from_secs(1));
    let start = Instant::now();
    let writes = (0..4).map(|n| device.write(LOG, n, vec![Bytes::from_static(b"x")]));
    futures_util::future::join_all(writes).await;
    assert_eq!(start.elapsed(), Duration::from_secs(2), "two at once");
}

#[tokio::test(start_paused = true)]
async fn what_hangs_keeps_its_place_and_ends_without_its_caller() {
    let device = Arc::new(MemoryDevice::with_places(2));
    device.open().await.expect("opens");
    let before = device.operations();
    device.hang(true);
    for n in 0..5 {
        let write = device.write(LOG, n, vec![Bytes::from_static(b"x")]);
        assert!(tokio::time::timeout(Duration::from_secs(1), write).await.is_err(), "it hangs");
    }
    assert_eq!(device.operations() - before, 2, "the others never began");
    assert_eq!(device.files(), []);
    device.hang(false);
    device.close().await.expect("waits for both");
    assert_eq!(device.files(), [(LOG, 2)]);
}

#[tokio::test(start_paused = true)]
async fn nothing_lands_after_the_power_was_lost() {
    let device = Arc::new(opened().await);
    device.hang(true);
    let (writer, bytes) = (device.clone(), bytes_of(1, PAGE_LEN));
    let write = tokio::spawn(async move { write(&writer, LOG, 0, &bytes).await });
    while device.operations() < 2 {
        tokio::task::yield_now().await;
    }
    device.lose_power(0);
    device.hang(false);
    assert_eq!(write.await.expect("no panic"), Err(ErrorKind::BrokenPipe));
    assert_eq!(device.open().await.expect("opens"), []);
}

#[tokio::test]
async fn each_unsynced_thing_is_kept_by_some_losses_and_not_by_others() {
    let mut seen: BTreeMap<&str, [u32; 2]> = BTreeMap::new();
    let mut saw = |what, happened: bool| seen.entry(what).or_default()[usize::from(happened)] += 1;
    for seed in 0..200 {
        let device = opened().await;
        let (old, new) = (bytes_of(1, 2 * PAGE_LEN), bytes_of(2, 2 * PAGE_LEN));
        device.put(SLAB, &old);
        device.put(FileName::Slab(9), &old);
        device.put(LOG, b"record");
        write(&device, SLAB, 0, &new).await.expect("writes");
        write(&device, LOG, 6, b"record").await.expect("writes");
        write(&device, FileName::Log(8), 0, b"made").await.expect("writes");
        device.resize(FileName::Slab(9), 0).await.expect("removes");
        device.lose_power(seed);
        let slab = device.contents(SLAB).expect("synced");
        let (first, second) = (slab[..PAGE_LEN] == new[..PAGE_LEN], slab[PAGE_LEN..] == new[PAGE_LEN..]);
        assert!(first || slab[..PAGE_LEN] == old[..PAGE_LEN]);
        assert!(second || slab[PAGE_LEN..] == old[PAGE_LEN..]);
        saw("first page", first);
        saw("second page", second);
        saw("one page and not the other", first != second);
        saw("growth", device.contents(LOG).expect("synced").len() == 12);
        saw("growth in part", (7..12).contains(&device.contents(LOG).expect("synced").len()));
        saw("a new file", device.contents(FileName::Log(8)).is_some());
        saw("a removal", device.contents(FileName::Slab(9)).is_none());
    }
    for (what, counts) in seen {
        assert!(counts.iter().all(|count| *count > 20), "{what}: {counts:?}");
    }
}

/// What may be under one name after a loss of power.
#[derive(Debug, Clone, Default)]
struct Expected {
    /// As of the last sync of the name; `None` when its absence is safe.
    safe: Option<Vec<u8>>,
    /// As a program sees it.
    live: Option<Vec<u8>>,
    /// Removed since the last sync: what is there now is another file.
    other: bool,
    changed: bool,
}

impl Expected {
    fn write(&mut self, at: usize, bytes: &[u8]) {
        self.changed = true;
        let live = self.live.get_or_insert_default();
        live.resize(live.len().max(at + bytes.len()), 0);
        live[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn resize(&mut self, len: usize) {
        self.changed = true;
        match len {
            0 => {
                self.live = None;
                self.other = true;
            }
            len => self.live.get_or_insert_default().resize(len, 0),
        }
    }

    fn sync(&mut self) {
        *self = Self { safe: self.live.clone(), live: self.live.take(), other: false, changed: false };
    }

    fn allows(&self, after: Option<&[u8]>) -> bool {
        if after == self.safe.as_deref() {
            return true;
        }
        let Some(after) = after.filter(|_| self.changed) else {
            return self.changed && self.live_may_be_absent();
        };
        let Some(live) = &self.live else { return false };
        let none = Vec::new();
        let safe = self.safe.as_ref().filter(|_| !self.other).unwrap_or(&none);
        let lengths = safe.len().min(live.len())..=safe.len().max(live.len());
        lengths.contains(&after.len())
            && (0..after.len()).step_by(PAGE_LEN).all(|at| {
                let page = |bytes: &[u8]| {
                    let end = after.len().min(at + PAGE_LEN);
                    (at..end).map(|at| bytes.get(at).copied().unwrap_or(0)).collect::<Vec<u8>>()
                };
                [page(safe), page(live)].contains(&page(after))
            })
    }

    fn live_may_be_absent(&self) -> bool {
        self.live.is_none() || self.safe.is_none() || self.other
    }
}

#[derive(Debug, Clone)]
enum Step {
    Write { file: FileName, at: u64, pages: usize },
    Append { bytes: usize },
    Resize { file: FileName, pages: u64 },
    Sync { file: FileName },
}

fn step() -> impl Strategy<Value = Step> {
    let file = || prop::sample::select(vec![LOG, SLAB, FileName::Slab(4)]);
    prop_oneof![
        4 => (file(), 0..8_u64, 1..5_usize).prop_map(|(file, at, pages)| Step::Write { file, at, pages }),
        2 => (1..9_000_usize).prop_map(|bytes| Step::Append { bytes }),
        2 => (file(), 0..8_u64).prop_map(|(file, pages)| Step::Resize { file, pages }),
        2 => file().prop_map(|file| Step::Sync { file }),
    ]
}

async fn play(steps: &[Step]) -> (MemoryDevice, BTreeMap<FileName, Expected>) {
    let device = opened().await;
    let mut expected: BTreeMap<FileName, Expected> = BTreeMap::new();
    for (number, step) in steps.iter().enumerate() {
        let (file, at, len) = match *step {
            Step::Write { file, at, pages } => (file, at * PAGE, pages * PAGE_LEN),
            Step::Append { bytes } => {
                let end = device.contents(LOG).map_or(0, |bytes| bytes.len());
                (LOG, end as u64, bytes)
            }
            Step::Resize { file, pages } => {
                device.resize(file, pages * PAGE).await.expect("resizes");
                expected.entry(file).or_default().resize(pages as usize * PAGE_LEN);
                continue;
            }
            Step::Sync { file } => {
                device.sync(file).await.expect("syncs");
                expected.entry(file).or_default().sync();
                continue;
            }
        };
        let bytes = bytes_of(number as u64 + 1, len);
        if write(&device, file, at, &bytes).await.is_ok() {
            expected.entry(file).or_default().write(at as usize, &bytes);
        }
    }
    (device, expected)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_was_synced_survives_and_the_rest_is_old_or_new(
        steps in prop::collection::vec(step(), 1..40),
        seed in any::<u64>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let (device, expected) = play(&steps).await;
            device.lose_power(seed);
            for (file, expected) in &expected {
                let after = device.contents(*file);
                assert!(expected.allows(after.as_deref()), "{file} {expected:?} {after:?}");
            }
            // The same seed loses the same; what survived once is safe now.
            let (again, _) = play(&steps).await;
            again.lose_power(seed);
            device.lose_power(seed.wrapping_add(1));
            assert_eq!(device.files(), again.files());
            for (file, _) in device.files() {
                assert_eq!(device.contents(file), again.contents(file), "{file}");
            }
        });
    }
}
