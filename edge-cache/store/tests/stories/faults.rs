//! A disk that lies, fails, fills up or hangs: never a wrong byte, never a caller's problem.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use store::{FileId, MemoryDevice, ReadFault, Stored, Tier};

use crate::support::{Node, Sample, disk_only, footprint, with_disk};

const LABEL_AND_DIGESTS: u64 = 512 + 3 * 32;
const DATA: u64 = 4096;

/// Three groups: the file has a label, digests, padding and data.
fn sample() -> Sample {
    Sample::new(1, 0, 40_000)
}

async fn stored(device: &Arc<MemoryDevice>, sample: &Sample) -> (Node, FileId) {
    let node = Node::over(device, &disk_only(1 << 20)).await;
    sample.insert_into(&node.store);
    node.store.flush().await;
    let (file, len) = device.files()[0];
    assert_eq!(len, DATA + sample.len());
    (node, file)
}

/// Reads after the file was damaged; the object must then be gone, or its bytes right.
async fn damaged(node: &Node, sample: &Sample) -> bool {
    let faults = node.faults("corrupt");
    let hit = sample.hit(&node.store).await;
    assert_eq!(node.faults("corrupt") - faults, u64::from(!hit), "every fault is counted");
    assert_eq!(sample.find(&node.store).is_some(), hit, "a faulty object is dropped");
    hit
}

#[tokio::test(start_paused = true)]
async fn a_flipped_byte_anywhere_is_never_served() {
    let device = Arc::new(MemoryDevice::new());
    let sample = sample();
    let (node, _) = stored(&device, &sample).await;
    let all =
        (0..DATA + 300).chain((DATA + 300..DATA + sample.len()).step_by(37)).chain([DATA + sample.len() - 1]);
    for at in all {
        let (file, _) = device.files()[0];
        device.flip(file, at, 1 << (at % 8));
        let padding = (LABEL_AND_DIGESTS..DATA).contains(&at);
        assert_eq!(damaged(&node, &sample).await, padding, "byte {at}");
        if !padding {
            sample.insert_into(&node.store);
            node.store.flush().await;
            assert!(sample.hit(&node.store).await, "the next copy is a good one");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn one_bad_group_spoils_only_reads_that_touch_it() {
    let device = Arc::new(MemoryDevice::new());
    let sample = sample();
    let (node, file) = stored(&device, &sample).await;
    device.flip(file, DATA + 16_384, 1);
    let Some(Stored::Disk(object)) = sample.find(&node.store) else { panic!("on disk") };
    assert_eq!(object.read(0..1).await.expect("untouched").concat(), &sample.bytes[..16_384]);
    assert_eq!(object.read(2..3).await.expect("untouched").concat(), &sample.bytes[32_768..]);
    assert_eq!(object.read(0..2).await, Err(ReadFault::Corrupt));
}

#[tokio::test(start_paused = true)]
async fn a_truncated_file_is_never_served() {
    let sample = sample();
    for len in [0, 1, 511, 512, 600, 4095, 4096, 4097, DATA + 16_384, DATA + 32_768, DATA + sample.len() - 1]
    {
        let device = Arc::new(MemoryDevice::new());
        let (node, file) = stored(&device, &sample).await;
        device.truncate(file, len);
        let restarted = Node::over(&device, &disk_only(1 << 20)).await;
        assert_eq!((restarted.recovered("malformed"), restarted.recovered("kept")), (1, 0), "{len}");
        assert!(sample.find(&restarted.store).is_none());
        assert_eq!(device.files(), [], "cleared away");
        drop(restarted);
        let (_, file) = (node, file);
        let (node, _) = stored(&device, &sample).await;
        device.truncate(FileId(file.0), len);
        device.truncate(device.files()[0].0, len);
        assert!(!damaged(&node, &sample).await, "{len}");
    }
}

#[tokio::test(start_paused = true)]
async fn swapped_files_and_zeroed_pages_are_never_served() {
    let (one, two) = (Sample::new(1, 0, 40_000), Sample::new(2, 0, 40_000));
    let device = Arc::new(MemoryDevice::new());
    let node = Node::over(&device, &disk_only(1 << 20)).await;
    for sample in [&one, &two] {
        sample.insert_into(&node.store);
        node.store.flush().await;
    }
    let files: Vec<FileId> = device.files().into_iter().map(|(file, _)| file).collect();
    let contents: Vec<_> = files.iter().filter_map(|file| device.contents(*file)).collect();
    device.put(files[0], contents[1].clone());
    device.put(files[1], contents[0].clone());
    let restarted = Node::over(&device, &disk_only(1 << 20)).await;
    assert!(
        one.hit(&restarted.store).await && two.hit(&restarted.store).await,
        "a label says what a file is"
    );
    assert!(!damaged(&node, &one).await && !damaged(&node, &two).await);

    for page in 1..(DATA + 40_000).div_ceil(4096) {
        let mut zeroed = contents[0].to_vec();
        let end = zeroed.len().min((page as usize + 1) * 4096);
        zeroed[page as usize * 4096..end].fill(0);
        let device = Arc::new(MemoryDevice::new());
        device.put(FileId(9), zeroed.into());
        let node = Node::over(&device, &disk_only(1 << 20)).await;
        assert_eq!(node.recovered("kept"), 1, "the label is intact");
        assert!(!damaged(&node, &one).await, "page {page}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Any damage to any file, then a restart.
    #[test]
    fn no_damage_is_ever_served(
        flips in proptest::collection::vec((0u64..45_000, 1u8..), 0..4),
        cut in proptest::option::of(0u64..45_000),
        restart in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.expect("builds").block_on(async {
            let device = Arc::new(MemoryDevice::new());
            let sample = sample();
            let (mut node, file) = stored(&device, &sample).await;
            flips.iter().for_each(|(at, mask)| device.flip(file, *at, *mask));
            cut.iter().for_each(|len| device.truncate(file, *len));
            if restart {
                node = Node::over(&device, &disk_only(1 << 20)).await;
            }
            sample.hit(&node.store).await;
            sample.hit(&node.store).await;
        });
    }

    /// Whatever lies in the directory, opening over it works and serves nothing that is not right.
    #[test]
    fn no_file_makes_recovery_fail(files in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..600), 0..5)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.expect("builds").block_on(async {
            let device = Arc::new(MemoryDevice::new());
            for (number, bytes) in files.iter().enumerate() {
                device.put(FileId(number as u64), bytes.clone().into());
            }
            let node = Node::over(&device, &disk_only(1 << 20)).await;
            assert_eq!(node.recovered("malformed"), files.len() as u64);
            assert_eq!(device.files(), []);
        });
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_pauses_writes_and_nothing_else() {
    let device = Arc::new(MemoryDevice::new());
    let node = Node::over(&device, &with_disk(1 << 20)).await;
    let samples: Vec<Sample> = (0..20).map(|number| Sample::new(number, 0, 40_000)).collect();
    device.set_capacity(Some(100_000));
    for sample in &samples[..10] {
        sample.insert_into(&node.store);
        node.store.flush().await;
    }
    assert_eq!((node.writes("written"), node.writes("full"), node.writes("paused")), (2, 1, 7));
    assert_eq!(node.metric("weir_store_disk_paused", "write"), 1);
    for sample in &samples[..10] {
        assert_eq!(sample.find(&node.store).map(|stored| stored.tier()), Some(Tier::Memory));
        assert!(sample.hit(&node.store).await);
    }

    tokio::time::advance(Duration::from_secs(11)).await;
    samples[10].insert_into(&node.store);
    node.store.flush().await;
    assert_eq!(node.writes("full"), 2, "one probe after the pause");

    device.set_capacity(None);
    tokio::time::advance(Duration::from_secs(11)).await;
    for sample in &samples[11..] {
        sample.insert_into(&node.store);
        node.store.flush().await;
    }
    assert_eq!(node.writes("written"), 2 + 9, "back by itself");
    assert_eq!(node.metric("weir_store_disk_paused", "write"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_cannot_remove_is_not_written_beyond_its_capacity() {
    let device = Arc::new(MemoryDevice::new());
    let node = Node::over(&device, &disk_only(100_000)).await;
    let samples: Vec<Sample> = (0..6).map(|number| Sample::new(number, 0, 40_000)).collect();
    device.fail_removals(Some(ErrorKind::ReadOnlyFilesystem));
    for sample in &samples {
        sample.insert_into(&node.store);
        node.store.flush().await;
        tokio::time::advance(Duration::from_secs(11)).await;
    }
    assert_eq!((node.writes("written"), device.files().len()), (2, 2));
    device.fail_removals(None);
    samples[5].insert_into(&node.store);
    node.store.flush().await;
    assert_eq!(node.writes("written"), 3);
    assert!(samples[5].hit(&node.store).await);
    assert_eq!(device.files().len() as u64, node.store.usage().disk.objects);
}

#[tokio::test(start_paused = true)]
async fn one_file_that_cannot_be_removed_costs_its_room_and_one_pause() {
    let device = Arc::new(MemoryDevice::new());
    let node = Node::over(&device, &disk_only(100_000)).await;
    let samples: Vec<Sample> = (0..8).map(|number| Sample::new(number, 0, 20_000)).collect();
    device.stick(Some(FileId(0)));
    for sample in &samples[..6] {
        sample.insert_into(&node.store);
        node.store.flush().await;
        assert!(footprint(&device) <= 100_000);
    }
    assert_eq!((node.writes("written"), node.writes("failed"), node.writes("paused")), (4, 1, 1));
    tokio::time::advance(Duration::from_secs(11)).await;
    for sample in &samples[6..] {
        sample.insert_into(&node.store);
        node.store.flush().await;
        assert!(sample.hit(&node.store).await, "the tier goes on beside it");
        assert!(footprint(&device) <= 100_000);
    }
    assert_eq!((node.store.usage().disk.objects, device.files().len()), (3, 4));
}

#[tokio::test(start_paused = true)]
async fn a_failed_write_that_left_something_is_cleared() {
    let device = Arc::new(MemoryDevice::new());
    let node = Node::over(&device, &disk_only(1 << 20)).await;
    let sample = sample();
    device.tear_next_write(10_000);
    sample.insert_into(&node.store);
    node.store.flush().await;
    assert_eq!(node.writes("failed"), 1);
    assert!(sample.find(&node.store).is_none());
    assert_eq!(device.files(), []);
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_fails_to_read_is_left_alone_for_a_while() {
    let device = Arc::new(MemoryDevice::new());
    let (one, two) = (Sample::new(1, 0, 40_000), Sample::new(2, 0, 40_000));
    let (node, _) = stored(&device, &one).await;
    two.insert_into(&node.store);
    node.store.flush().await;
    device.fail_reads(Some(ErrorKind::Other));
    assert!(!one.hit(&node.store).await);
    assert!(two.find(&node.store).is_none(), "reads are paused");
    assert_eq!((node.faults("device"), node.metric("weir_store_disk_paused", "read")), (1, 1));
    device.fail_reads(None);
    tokio::time::advance(Duration::from_secs(11)).await;
    assert!(two.hit(&node.store).await, "back by itself");
    assert_eq!(node.metric("weir_store_disk_paused", "read"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_hanging_disk_costs_one_timeout() {
    let device = Arc::new(MemoryDevice::new());
    let sample = sample();
    let (node, _) = stored(&device, &sample).await;
    device.set_delay(Duration::from_secs(3600));
    let begun = tokio::time::Instant::now();
    let Some(Stored::Disk(object)) = sample.find(&node.store) else { panic!("on disk") };
    assert_eq!(object.read(0..1).await, Err(ReadFault::Slow));
    assert_eq!(begun.elapsed(), Duration::from_secs(1));
    assert!(sample.find(&node.store).is_none(), "nobody else waits");
    device.set_delay(Duration::from_millis(10));
    tokio::time::advance(Duration::from_secs(10)).await;
    assert!(sample.hit(&node.store).await, "the object was not lost");
}
