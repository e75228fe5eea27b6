//! A disk whose files somebody edited, with checksums that fit: the node starts, and keeps its promises.

use store::{FileName, MemoryDevice, PurgeKind, Scope};

use crate::support::{Node, Sample, disk_only};

const LOG: FileName = FileName::Log(1);

fn first_eight(bytes: &[u8]) -> [u8; 8] {
    let mut first = [0; 8];
    first.copy_from_slice(&blake3::hash(bytes).as_bytes()[..8]);
    first
}

/// A log with one good frame, complete, of these records.
fn log(records: &[u8]) -> Vec<u8> {
    let head = [&(records.len() as u32).to_le_bytes()[..], &1u32.to_le_bytes()].concat();
    let hashed = [&1u64.to_le_bytes()[..], &16u64.to_le_bytes(), &1u32.to_le_bytes(), records].concat();
    [b"WEIRLOG1\x01\0\0\0\0\0\0\0", &head[..], &first_eight(&hashed), records].concat()
}

fn name(number: u32) -> Vec<u8> {
    let mut out = vec![1];
    out.extend_from_slice(&number.to_le_bytes());
    out.extend_from_slice(&7u64.to_le_bytes());
    out.extend_from_slice(b"\x04film\x04v720\0");
    out
}

fn purge(epoch: u32, title: &str) -> Vec<u8> {
    let mut out = vec![5];
    out.extend_from_slice(&epoch.to_le_bytes());
    out.extend_from_slice(&[0, 1]);
    out.extend_from_slice(&(title.len() as u16).to_le_bytes());
    out.extend_from_slice(title.as_bytes());
    out
}

/// A node over an edited log.
async fn over(device: &MemoryDevice, records: &[u8]) -> Node {
    drop(Node::over(device, &disk_only(1 << 20)).await);
    device.put(LOG, &log(records));
    Node::over(device, &disk_only(1 << 20)).await
}

#[tokio::test(start_paused = true)]
async fn a_name_of_an_absurd_number_costs_no_memory() {
    let device = MemoryDevice::new();
    let node = over(&device, &name(u32::MAX)).await;
    assert_eq!(node.recovered("rejected"), 1);
    let sample = Sample::new(1, 0, 40_000);
    sample.insert_into(&node.store);
    node.store.flush().await;
    assert!(sample.hit(&node.store).await);
}

/// There is no epoch after the last: purges go on working all the same.
#[tokio::test(start_paused = true)]
async fn purges_work_at_the_end_of_all_epochs() {
    let device = MemoryDevice::new();
    let mut node = over(&device, &purge(u32::MAX, "somebody")).await;
    let sample = Sample::new(1, 0, 40_000);
    for _ in 0..2 {
        sample.insert_into(&node.store);
        node.store.flush().await;
        assert!(sample.hit(&node.store).await);
        let under_way = sample.terms(&node.store);
        let scope = Scope::Segment(sample.key.clone());
        assert_eq!(node.store.purge(&scope, PurgeKind::Hard).await.objects, 1);
        assert!(sample.find(&node.store).is_empty());
        let kind = node.store.purged_since(under_way.born, &sample.key, &[]);
        assert_eq!(kind, Some(PurgeKind::Hard), "a fill that began before it is known");
        device.put(LOG, &log(&purge(u32::MAX, "somebody")));
        node = Node::over(&device, &disk_only(1 << 20)).await;
    }
}

/// An object that says that it began after all purges there were is purged by the next.
#[tokio::test(start_paused = true)]
async fn nothing_is_younger_than_the_newest_purge() {
    let (device, sample) = (MemoryDevice::new(), Sample::new(1, 0, 100));
    let node = Node::over(&device, &disk_only(1 << 20)).await;
    sample.insert_into(&node.store);
    node.store.flush().await;
    let mut put = vec![2];
    put.extend_from_slice(&0u32.to_le_bytes());
    put.extend_from_slice(&4u32.to_le_bytes());
    put.extend_from_slice(&sample.root().0[..8]);
    put.extend_from_slice(&100u32.to_le_bytes());
    put.extend_from_slice(&u32::MAX.to_le_bytes());
    put.extend_from_slice(&[0, 1, 0]);
    put.extend_from_slice(&0u32.to_le_bytes());
    put.extend_from_slice(&2u32.to_le_bytes());
    put.extend_from_slice(&[0, 0]);
    let node = over(&device, &[name(0), put].concat()).await;
    assert!(sample.hit(&node.store).await, "the edited log is understood");
    sample.purge_from(&node.store).await;
    assert!(sample.find(&node.store).is_empty());
}

/// A log that is a terabyte of nothing, or a little of something and then nothing.
#[tokio::test]
async fn a_log_is_read_as_far_as_it_is_one() {
    for beginning in [Vec::new(), log(&name(0))] {
        let temp = tempfile::tempdir().expect("a directory");
        let mut config = disk_only(1 << 20);
        config.disk[0].path = temp.path().join("disk");
        Node::start(&config, Vec::new()).await.store.detach().await;
        let path = config.disk[0].path.join(LOG.to_string());
        std::fs::write(&path, &beginning).expect("writes");
        std::fs::File::options()
            .write(true)
            .open(&path)
            .and_then(|log| log.set_len(1 << 40))
            .expect("longer");
        let node = Node::start(&config, Vec::new()).await;
        assert!(node.is("online"));
        let sample = Sample::new(1, 0, 40_000);
        sample.insert_into(&node.store);
        node.store.flush().await;
        assert!(sample.hit(&node.store).await);
    }
}

/// A record that cannot be read ends its frame, and is counted like one that makes no sense.
#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_in_a_good_frame_is_counted() {
    let device = MemoryDevice::new();
    let node = over(&device, &[name(0), vec![9, 9, 9]].concat()).await;
    assert_eq!(node.recovered("rejected"), 1);
}
