//! A disk that lies, fails, fills up or hangs: never a wrong byte, never a caller's problem.

use std::io::ErrorKind;
use std::time::Duration;

use proptest::prelude::*;
use store::{ByteSize, FileName, MemoryDevice, ReadFault, Tier};

use crate::support::{Node, Sample, disk_only, virtual_time, with_disk};

const LABEL_AND_DIGESTS: u64 = 512 + 3 * 32;
const DATA: u64 = 4096;
const SLAB: FileName = FileName::Slab(0);

/// Three groups: the object has a label, digests, padding and data.
fn sample() -> Sample {
    Sample::new(1, 0, 40_000)
}

/// The sample as the first object of the first slab.
async fn stored(device: &MemoryDevice, sample: &Sample) -> Node {
    let node = Node::over(device, &disk_only(1 << 20)).await;
    sample.insert_into(&node.store);
    node.store.flush().await;
    node
}

/// Reads after the slab was damaged; what is wrong must then be gone, and the rest right.
async fn damaged(node: &Node, sample: &Sample) -> bool {
    let faults = node.faults("corrupt");
    let hit = sample.hit(&node.store).await;
    assert_eq!(node.faults("corrupt") > faults, !hit, "every fault is counted");
    assert_eq!(sample.find(&node.store).is_whole(), hit, "what is wrong is dropped");
    let left = sample.groups(&node.store).await;
    assert_eq!(left.len() == 3, hit, "{left:?}");
    hit
}

/// A flip in the header costs the object, which is then written anew elsewhere.
#[tokio::test(start_paused = true)]
async fn a_flipped_byte_of_a_header_is_never_believed() {
    for at in (0..DATA).step_by(5) {
        let (device, sample) = (MemoryDevice::new(), sample());
        let node = stored(&device, &sample).await;
        device.flip(SLAB, at, 1 << (at % 8));
        let padding = (LABEL_AND_DIGESTS..DATA).contains(&at);
        assert_eq!(damaged(&node, &sample).await, padding, "byte {at}");
        sample.insert_into(&node.store);
        node.store.flush().await;
        assert!(sample.hit(&node.store).await, "byte {at} is mended");
    }
}

/// A flip in the data costs its group, which is then written anew in its place.
#[tokio::test(start_paused = true)]
async fn a_flipped_byte_of_a_segment_is_never_served_and_mended_in_its_place() {
    let (device, sample) = (MemoryDevice::new(), sample());
    let node = stored(&device, &sample).await;
    let slab = device.contents(SLAB).expect("there");
    let end = DATA + sample.len();
    for at in (DATA..end).step_by(97).chain([end - 1]) {
        let written = node.metric("weir_store_disk_written_bytes_total", "");
        device.flip(SLAB, at, 1 << (at % 8));
        assert!(!damaged(&node, &sample).await, "byte {at}");
        sample.insert_into(&node.store);
        node.store.flush().await;
        assert!(sample.hit(&node.store).await, "byte {at} is mended");
        assert_eq!(device.contents(SLAB).as_ref(), Some(&slab), "in its place");
        let more = node.metric("weir_store_disk_written_bytes_total", "") - written;
        assert!(more <= 16_384, "{more} bytes for one group");
    }
}

#[tokio::test(start_paused = true)]
async fn one_bad_group_spoils_only_reads_that_touch_it() {
    let (device, sample) = (MemoryDevice::new(), sample());
    let node = stored(&device, &sample).await;
    device.flip(SLAB, DATA + 16_384, 1);
    let object = sample.find(&node.store).disk.expect("on disk");
    assert_eq!(object.read(0..1).await.expect("untouched").concat(), &sample.bytes[..16_384]);
    assert_eq!(object.read(2..3).await.expect("untouched").concat(), &sample.bytes[32_768..]);
    assert_eq!(object.read(0..2).await, Err(ReadFault::Corrupt));
    assert_eq!(sample.groups(&node.store).await, [0, 2], "and is the only one that is lost");
    let node = Node::over(&device, &disk_only(1 << 20)).await;
    assert_eq!(sample.groups(&node.store).await, [0, 2], "for ever");
}

#[tokio::test(start_paused = true)]
async fn cut_swapped_and_zeroed_slabs_are_never_served() {
    let samples = [Sample::new(1, 0, 40_000), Sample::new(2, 0, 40_000)];
    let object = 11 * 4096;
    for (number, damage) in (0..200u64).map(|n| (n, n % 4)) {
        let device = MemoryDevice::new();
        let node = Node::over(&device, &disk_only(1 << 20)).await;
        for sample in &samples {
            sample.insert_into(&node.store);
            node.store.flush().await;
        }
        let page = number % 22;
        match damage {
            0 => device.truncate(SLAB, page * 4096 + number),
            1 => device.zero(SLAB, page * 4096..(page + 1) * 4096),
            2 => device.swap(SLAB, page % 11 * 4096, object + page % 11 * 4096, 4096),
            _ => device.swap(SLAB, 0, object, object as usize),
        }
        for sample in &samples {
            damaged(&node, sample).await;
        }
        let restarted = Node::over(&device, &disk_only(1 << 20)).await;
        for sample in &samples {
            sample.hit(&restarted.store).await;
            sample.insert_into(&restarted.store);
            restarted.store.flush().await;
            assert!(sample.hit(&restarted.store).await, "damage {damage}, page {page}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Any damage to any file, then a restart or not.
    #[test]
    fn no_damage_is_ever_served(
        flips in proptest::collection::vec((0usize..3, 0u64..45_000, 1u8..), 0..6),
        cut in proptest::option::of((0usize..3, 0u64..45_000)),
        restart in any::<bool>(),
    ) {
        virtual_time(async {
            let (device, sample) = (MemoryDevice::new(), sample());
            let mut node = stored(&device, &sample).await;
            let files: Vec<FileName> = device.files().into_iter().map(|(file, _)| file).collect();
            flips.iter().for_each(|(file, at, mask)| device.flip(files[file % files.len()], *at, *mask));
            cut.iter().for_each(|(file, len)| device.truncate(files[file % files.len()], *len));
            if restart {
                node = Node::over(&device, &disk_only(1 << 20)).await;
            }
            sample.hit(&node.store).await;
            sample.hit(&node.store).await;
            sample.insert_into(&node.store);
            node.store.flush().await;
            assert!(sample.hit(&node.store).await, "whatever it was, the disk is of use again");
        });
    }

    /// Whatever lies in the directory, opening over it works and serves nothing that is not right.
    #[test]
    fn no_files_make_recovery_fail(files in proptest::collection::vec((0u64..5, proptest::collection::vec(any::<u8>(), 0..600)), 0..5)) {
        virtual_time(async {
            let device = MemoryDevice::new();
            for (number, bytes) in &files {
                let name = match number {
                    0 => FileName::Superblock,
                    1 | 2 => FileName::Log(*number),
                    _ => FileName::Slab(*number as u32 - 3),
                };
                device.put(name, bytes);
            }
            let (node, sample) = (Node::over(&device, &disk_only(1 << 20)).await, sample());
            assert_eq!(node.recovered("kept"), 0);
            sample.insert_into(&node.store);
            node.store.flush().await;
            assert!(sample.hit(&node.store).await);
        });
    }
}

#[tokio::test(start_paused = true)]
async fn a_file_system_without_room_is_used_as_far_as_it_goes() {
    let device = MemoryDevice::new();
    let slab = 32 * 4096;
    // Room for two slabs, the superblock and the logs of the capacity of sixteen.
    device.set_capacity(Some(2 * slab + 10 * 4096));
    let node = Node::over(&device, &with_disk(16 * slab)).await;
    let samples: Vec<Sample> = (0..40).map(|number| Sample::new(number, 0, 20_000)).collect();
    for sample in &samples {
        sample.insert_into(&node.store);
        node.store.flush().await;
        assert!(sample.hit(&node.store).await, "viewers notice nothing");
    }
    assert_eq!(node.writes("written"), 40, "evicting within what it has");
    assert!(node.is("online"));
    device.set_capacity(None);
    tokio::time::sleep(Duration::from_secs(11)).await;
    for sample in &samples {
        sample.insert_into(&node.store);
        node.store.flush().await;
    }
    assert!(node.store.usage().disk.bytes > 2 * slab, "and it grows when there is room again");
}

#[tokio::test(start_paused = true)]
async fn a_full_file_system_makes_a_disk_read_only_for_a_while() {
    let device = MemoryDevice::new();
    let node = Node::over(&device, &with_disk(1 << 20)).await;
    let samples: Vec<Sample> = (0..8).map(|number| Sample::new(number, 0, 20_000)).collect();
    for sample in &samples[..3] {
        sample.insert_into(&node.store);
        node.store.flush().await;
    }
    device.fail_writes(Some(ErrorKind::StorageFull));
    for sample in &samples[3..6] {
        sample.insert_into(&node.store);
        node.store.flush().await;
        assert_eq!(sample.tier(&node.store), Some(Tier::Memory), "memory is unaffected");
    }
    assert_eq!((node.writes("full"), node.writes("paused")), (1, 2));
    assert!(node.is("read-only"));
    tokio::time::sleep(Duration::from_secs(25)).await;
    assert!(node.is("read-only"), "as long as it is full");
    device.fail_writes(None);
    tokio::time::sleep(Duration::from_secs(11)).await;
    assert!(!node.is("read-only"));
}

#[tokio::test(start_paused = true)]
async fn a_read_only_disk_still_serves() {
    let (device, sample) = (MemoryDevice::new(), sample());
    let node = stored(&device, &sample).await;
    device.fail_writes(Some(ErrorKind::ReadOnlyFilesystem));
    Sample::new(2, 0, 20_000).insert_into(&node.store);
    node.store.flush().await;
    assert!(node.is("read-only"));
    assert!(sample.hit(&node.store).await);
    device.fail_writes(None);
    node.until("its return", |node| node.is("online")).await;
    assert!(sample.hit(&node.store).await);
    Sample::new(2, 0, 20_000).insert_into(&node.store);
    node.store.flush().await;
    assert_eq!(node.writes("written"), 2);
}

#[tokio::test(start_paused = true)]
async fn a_failed_write_gives_its_units_back() {
    let (device, sample) = (MemoryDevice::new(), sample());
    let node = Node::over(&device, &disk_only(1 << 20)).await;
    Sample::new(9, 0, 10).insert_into(&node.store);
    node.store.flush().await;
    let before = node.store.usage().disk;
    device.tear_next_write(10_000);
    sample.insert_into(&node.store);
    node.store.flush().await;
    assert_eq!(node.writes("failed"), 1);
    assert!(sample.find(&node.store).is_empty());
    node.until("its return", |node| node.is("online")).await;
    assert_eq!(node.store.usage().disk, before);
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_fails_to_read_is_left_alone_for_a_while() {
    let device = MemoryDevice::new();
    let (one, two) = (Sample::new(1, 0, 40_000), Sample::new(2, 0, 40_000));
    let node = stored(&device, &one).await;
    two.insert_into(&node.store);
    node.store.flush().await;
    device.fail_reads(Some(ErrorKind::Other));
    assert!(!one.hit(&node.store).await);
    assert!(two.find(&node.store).is_empty(), "nobody else tries");
    assert_eq!(node.faults("device"), 1);
    assert!(node.is("offline"));
    device.fail_reads(None);
    tokio::time::sleep(Duration::from_secs(11)).await;
    assert!(one.hit(&node.store).await && two.hit(&node.store).await, "back by itself, and nothing is lost");
}

#[tokio::test(start_paused = true)]
async fn a_hanging_disk_costs_one_timeout() {
    let (device, sample) = (MemoryDevice::new(), sample());
    let node = stored(&device, &sample).await;
    device.hang(true);
    let begun = tokio::time::Instant::now();
    let object = sample.find(&node.store).disk.expect("on disk");
    assert_eq!(object.read(0..1).await, Err(ReadFault::Slow));
    assert_eq!(begun.elapsed(), Duration::from_secs(1));
    assert!(sample.find(&node.store).is_empty(), "nobody else waits");
    device.hang(false);
    node.until("its return", |node| node.is("online")).await;
    assert!(sample.hit(&node.store).await, "the object was not lost");
}

/// The default timeouts: every operation takes half a second.
#[tokio::test(start_paused = true)]
async fn a_disk_of_half_a_second_goes_offline_within_one() {
    let (device, sample) = (MemoryDevice::new(), sample());
    let mut config = disk_only(1 << 20);
    config.disk[0].read_timeout = store::DiskConfig::default().read_timeout;
    let node = Node::over(&device, &config).await;
    sample.insert_into(&node.store);
    node.store.flush().await;
    device.set_delay(Duration::from_millis(500));
    let begun = tokio::time::Instant::now();
    assert!(!sample.hit(&node.store).await);
    assert!(node.is("offline") && begun.elapsed() < Duration::from_secs(1));
    device.set_delay(Duration::from_millis(5));
    node.until("its return", |node| node.is("online")).await;
    assert!(sample.hit(&node.store).await);
}

/// A write that never ends must not hold the queue for ever.
#[tokio::test(start_paused = true)]
async fn a_hanging_write_ends_and_the_queue_moves_on() {
    let device = MemoryDevice::new();
    let node = Node::over(&device, &with_disk(1 << 20)).await;
    device.hang(true);
    let samples: Vec<Sample> = (0..20).map(|number| Sample::new(number, 0, 20_000)).collect();
    samples.iter().for_each(|sample| sample.insert_into(&node.store));
    node.store.flush().await;
    assert_eq!(node.writes("written"), 0);
    assert!(node.is("offline"));
    for sample in &samples {
        assert!(sample.hit(&node.store).await, "from memory");
    }
    device.hang(false);
    node.until("its return", |node| node.is("online")).await;
    samples.iter().for_each(|sample| sample.insert_into(&node.store));
    node.store.flush().await;
    assert_eq!(node.writes("written"), 20);
}

#[tokio::test(start_paused = true)]
async fn a_scrub_finds_rot_before_a_viewer_does() {
    let device = MemoryDevice::new();
    let mut config = disk_only(1 << 20);
    config.disk[0].scrub_bytes_per_second = ByteSize::mib(1);
    let node = Node::over(&device, &config).await;
    let samples: Vec<Sample> = (0..10).map(|number| Sample::new(number, 0, 40_000)).collect();
    for sample in &samples {
        sample.insert_into(&node.store);
        node.store.flush().await;
    }
    // The data of the third object, and the label of the fifth.
    device.flip(SLAB, 2 * 11 * 4096 + DATA + 20_000, 4);
    device.flip(FileName::Slab(1), (4 * 11 - 32) * 4096 + 100, 4);
    node.until("a whole pass", |node| node.metric("weir_store_scrub_passes_total", "") > 0).await;
    assert_eq!(node.faults("corrupt"), 2);
    for (number, sample) in samples.iter().enumerate() {
        assert_eq!(sample.hit(&node.store).await, number != 2 && number != 4, "{number}");
    }
    let scrubbed = node.metric("weir_store_scrubbed_bytes_total", "");
    assert!(scrubbed >= 8 * 40_000, "{scrubbed}");
}
