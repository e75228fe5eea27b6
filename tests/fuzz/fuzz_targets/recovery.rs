//! What may lie on a disk when a node starts: files that were written by us and then changed by anybody.
//!
//! The image of a good disk is overwritten in places, and log frames of any content, with checksums that fit so
//! that the parser behind them is reached, are put behind its log. The store must open over it, give no wrong
//! byte, and be of use again afterwards.
#![no_main]

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use media::{GroupDigests, SegmentKey};
use prometheus::Registry;
use store::{
    ByteSize, Device, DiskConfig, FileName, MemoryDevice, SegmentBody, SegmentStore, StoreConfig, Terms,
};
use tokio::runtime::{Builder, Runtime};

const LENS: [usize; 3] = [100, 20_000, 40_000];

struct Sample {
    key: SegmentKey,
    bytes: Bytes,
    digests: Arc<GroupDigests>,
}

static SAMPLES: LazyLock<Vec<Sample>> = LazyLock::new(|| {
    let sample = |(n, len): (usize, &usize)| {
        let (key, _) = SegmentKey::parse(&format!("film/00000000000000ff/v720/{n}.m4s")).expect("a key");
        let bytes: Bytes = (0..*len).map(|at| ((at * 31 + n) % 251) as u8).collect();
        Sample { key, digests: Arc::new(GroupDigests::of(&bytes)), bytes }
    };
    LENS.iter().enumerate().map(sample).collect()
});

/// The files of a disk that holds all samples.
static GOOD: LazyLock<Vec<(FileName, Bytes)>> = LazyLock::new(|| {
    runtime().block_on(async {
        let device = MemoryDevice::new();
        let store = open(&device).await;
        for sample in SAMPLES.iter() {
            insert(&store, sample).await;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        let contents = |(file, _)| Some((file, device.contents(file)?));
        device.files().into_iter().filter_map(contents).collect()
    })
});

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().start_paused(true).build().expect("builds")
}

async fn open(device: &MemoryDevice) -> Arc<SegmentStore> {
    let disk = DiskConfig {
        capacity_bytes: ByteSize::from(64 * 4096),
        unit_bytes: ByteSize::from(4096),
        slab_bytes: ByteSize::from(16 * 4096),
        scrub_bytes_per_second: ByteSize::from(0),
        ..DiskConfig::default()
    };
    let config = StoreConfig { memory_bytes: ByteSize::from(0), disk: vec![disk], ..StoreConfig::default() };
    let devices: Vec<Arc<dyn Device>> = vec![Arc::new(device.after_kill())];
    SegmentStore::open(&config, devices, &Registry::new()).await.expect("opens over anything")
}

async fn insert(store: &SegmentStore, sample: &Sample) {
    let terms = Terms { born: store.epoch(), ..Terms::default() };
    store.insert(&sample.key, sample.digests.clone(), SegmentBody::of(&sample.bytes), &terms);
    store.flush().await;
}

/// Whether the whole sample is there; what there is of it is right.
async fn hit(store: &SegmentStore, sample: &Sample) -> bool {
    let held = store.lookup(&sample.key, sample.bytes.len() as u64, sample.digests.root());
    let Some(object) = held.disk else { return false };
    for group in 0..sample.digests.as_slice().len() as u64 {
        match object.read(group..group + 1).await.as_deref() {
            Ok([bytes]) => {
                let start = group as usize * 16_384;
                assert_eq!(bytes, &sample.bytes[start..start + bytes.len()], "a wrong byte");
            }
            _ => return false,
        }
    }
    true
}

/// A frame with a checksum that fits.
fn frame(generation: u64, at: u64, records: &[u8]) -> Vec<u8> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&generation.to_le_bytes()).update(&at.to_le_bytes()).update(&[0; 4]).update(records);
    let mut frame = (records.len() as u32).to_le_bytes().to_vec();
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(&hasher.finalize().as_bytes()[..8]);
    frame.extend_from_slice(records);
    frame
}

type Input = (Vec<(u8, u32, Vec<u8>)>, Vec<Vec<u8>>);

fn damaged(input: &Input) -> MemoryDevice {
    let (changes, frames) = input;
    let device = MemoryDevice::new();
    for (number, (file, bytes)) in GOOD.iter().enumerate() {
        let mut bytes = bytes.to_vec();
        if let FileName::Log(generation) = file {
            for records in frames.iter().take(8) {
                let frame = frame(*generation, bytes.len() as u64, records);
                bytes.extend_from_slice(&frame);
            }
        }
        for (_, at, new) in changes.iter().filter(|(which, _, _)| usize::from(*which) == number) {
            let at = *at as usize % (bytes.len() + 1);
            let end = (at + new.len()).min(bytes.len());
            bytes[at..end].copy_from_slice(&new[..end - at]);
        }
        device.put(*file, &bytes);
    }
    device
}

fuzz_target!(|input: Input| {
    let device = damaged(&input);
    runtime().block_on(async {
        let store = open(&device).await;
        for sample in SAMPLES.iter() {
            hit(&store, sample).await;
            // A purge in the log may say that it is about everything, for ever: then it stays out.
            insert(&store, sample).await;
            hit(&store, sample).await;
        }
        drop(store);
        let store = open(&device).await;
        for sample in SAMPLES.iter() {
            hit(&store, sample).await;
        }
    });
});
