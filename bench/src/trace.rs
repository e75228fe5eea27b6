//! Requests as they arrived: what the policies are replayed on, drawn from a seed or read from an access log.

mod log;

use std::collections::HashMap;

use media::{PackageId, Part, SegmentKey};

pub use self::log::{LogError, read_log};

/// The number of a rendition of a title within a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Stream(pub u32);

/// Something that can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Object {
    /// The rendition it belongs to.
    pub stream: Stream,
    /// Which piece of it.
    pub part: Part,
    /// Its length.
    pub bytes: u32,
}

/// A request: 8 bytes, so that millions of them fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// When it came, in tenths of a second since the trace began.
    pub tenths: u32,
    /// The place of the object in [`Trace::objects`].
    pub object: u32,
}

/// A request before objects have places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Raw {
    /// When it came, in tenths of a second since the trace began.
    pub tenths: u32,
    /// Which rendition.
    pub stream: Stream,
    /// Which piece of it.
    pub part: Part,
    /// Bytes of the whole piece, as far as this request tells.
    pub bytes: u32,
}

/// Requests in the order of their arrival.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// A key of each stream, by its number.
    pub streams: Vec<SegmentKey>,
    /// Everything that is asked for at least once.
    pub objects: Vec<Object>,
    /// The requests.
    pub requests: Vec<Request>,
    /// The first request that counts; those before it warm the policies up.
    pub measured_from: usize,
}

impl Trace {
    /// Orders requests by time and numbers their objects. What comes before `warm_tenths` is not counted.
    #[must_use]
    pub fn new(streams: Vec<SegmentKey>, mut raw: Vec<Raw>, warm_tenths: u32) -> Self {
        raw.sort_by_key(|request| request.tenths);
        let (mut objects, mut places) = (Vec::<Object>::new(), HashMap::new());
        let mut requests = Vec::with_capacity(raw.len());
        for Raw { tenths, stream, part, bytes } in raw {
            let object = *places.entry((stream, part)).or_insert_with(|| {
                objects.push(Object { stream, part, bytes });
                objects.len() as u32 - 1
            });
            // A viewer who left early took less than all of it.
            let known = &mut objects[object as usize].bytes;
            *known = (*known).max(bytes);
            requests.push(Request { tenths, object });
        }
        let measured_from = requests.partition_point(|request| request.tenths < warm_tenths);
        Self { streams, objects, requests, measured_from }
    }

    /// Bytes of everything that is asked for at least once.
    #[must_use]
    pub fn footprint(&self) -> u64 {
        self.objects.iter().map(|object| u64::from(object.bytes)).sum()
    }

    /// The key of an object, as the store would see it.
    #[must_use]
    pub fn key(&self, object: u32) -> SegmentKey {
        let Object { stream, part, .. } = self.objects[object as usize];
        SegmentKey { part, ..self.streams[stream.0 as usize].clone() }
    }

    /// What tells two traces apart: a sum over all requests.
    #[must_use]
    pub fn witness(&self) -> u64 {
        let mut sum = 0xcbf2_9ce4_8422_2325_u64;
        for request in &self.requests {
            let Object { stream, part, bytes } = self.objects[request.object as usize];
            let part = if let Part::Media(n) = part { u64::from(n) } else { u64::MAX };
            for word in [u64::from(request.tenths), u64::from(stream.0), part, u64::from(bytes)] {
                sum = (sum ^ word).wrapping_mul(0x0000_0100_0000_01b3);
            }
        }
        sum
    }
}

/// A key of a stream: names of our own, because those in a foreign log need not be names to us.
pub(crate) fn stream_key(title: usize, rendition: usize) -> SegmentKey {
    SegmentKey {
        title: format!("t{title}").parse().expect("letters and digits"),
        package: PackageId(1),
        rendition: format!("r{rendition}").parse().expect("letters and digits"),
        part: Part::Init,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_ordered_and_objects_numbered() {
        let raw = |tenths, n, bytes| Raw { tenths, stream: Stream(0), part: Part::Media(n), bytes };
        let trace =
            Trace::new(vec![stream_key(3, 1)], vec![raw(20, 1, 70), raw(10, 7, 50), raw(30, 7, 60)], 15);
        let requests: Vec<_> =
            trace.requests.iter().map(|request| (request.tenths, request.object)).collect();
        assert_eq!(requests, [(10, 0), (20, 1), (30, 0)]);
        assert_eq!((trace.footprint(), trace.measured_from), (130, 1));
        assert_eq!(trace.key(1).to_string(), "t3/0000000000000001/r1/1");
    }
}
