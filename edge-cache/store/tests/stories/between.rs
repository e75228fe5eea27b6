//! Somebody between the store and its device: single operations fail, or take place later than anybody waits.

use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use store::device::BoxFuture;
use store::{Device, FileName, MemoryDevice};
use tokio::sync::{RwLock, watch};

/// What the store asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    Open,
    Close,
    Read(FileName, u64),
    Write(FileName, u64),
    Sync(FileName),
    Resize(FileName),
}

/// What becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Pass,
    Fail(ErrorKind),
    /// Takes place when [`Between::let_go`] is called, whether somebody still waits for it or not.
    Hold,
}

type Rule = Box<dyn FnMut(Op) -> Fate + Send>;

/// A device under a rule.
pub(crate) struct Between {
    device: Arc<MemoryDevice>,
    rule: Mutex<Rule>,
    held: watch::Sender<bool>,
    /// Read by what is under way, written by a close, which waits for it.
    under_way: Arc<RwLock<()>>,
}

impl Between {
    pub(crate) fn over(device: &MemoryDevice) -> Arc<Self> {
        Arc::new(Self {
            device: Arc::new(device.after_kill()),
            rule: Mutex::new(Box::new(|_| Fate::Pass)),
            held: watch::Sender::new(true),
            under_way: Arc::default(),
        })
    }

    /// From now on.
    pub(crate) fn rule(&self, rule: impl FnMut(Op) -> Fate + Send + 'static) {
        *self.rule.lock().expect("no panic") = Box::new(rule);
    }

    /// What is held takes place now.
    pub(crate) fn let_go(&self) {
        self.held.send_replace(false);
    }

    async fn pass<T, F>(&self, op: Op, act: F) -> io::Result<T>
    where
        T: Send + 'static,
        F: FnOnce(Arc<MemoryDevice>) -> BoxFuture<'static, io::Result<T>> + Send + 'static,
    {
        let fate = (self.rule.lock().expect("no panic"))(op);
        let device = self.device.clone();
        match fate {
            Fate::Pass if op == Op::Close => {
                let _nothing = self.under_way.write().await;
                act(device).await
            }
            Fate::Pass => act(device).await,
            Fate::Fail(kind) => Err(kind.into()),
            Fate::Hold => {
                let under_way = self.under_way.clone().read_owned().await;
                let mut held = self.held.subscribe();
                let late = async move {
                    let _under_way = under_way;
                    held.wait_for(|held| !held).await.map_err(io::Error::other)?;
                    act(device).await
                };
                tokio::spawn(late).await.map_err(io::Error::other)?
            }
        }
    }
}

impl Device for Between {
    fn open(&self) -> BoxFuture<'_, io::Result<Vec<(FileName, u64)>>> {
        Box::pin(self.pass(Op::Open, |device| Box::pin(async move { device.open().await })))
    }

    fn close(&self) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(self.pass(Op::Close, |device| Box::pin(async move { device.close().await })))
    }

    fn read(&self, file: FileName, at: u64, len: usize) -> BoxFuture<'_, io::Result<Bytes>> {
        let read = move |device: Arc<MemoryDevice>| -> BoxFuture<'static, _> {
            Box::pin(async move { device.read(file, at, len).await })
        };
        Box::pin(self.pass(Op::Read(file, at), read))
    }

    fn write(&self, file: FileName, at: u64, parts: Vec<Bytes>) -> BoxFuture<'_, io::Result<()>> {
        let write = move |device: Arc<MemoryDevice>| -> BoxFuture<'static, _> {
            Box::pin(async move { device.write(file, at, parts).await })
        };
        Box::pin(self.pass(Op::Write(file, at), write))
    }

    fn sync(&self, file: FileName) -> BoxFuture<'_, io::Result<()>> {
        let sync = move |device: Arc<MemoryDevice>| -> BoxFuture<'static, _> {
            Box::pin(async move { device.sync(file).await })
        };
        Box::pin(self.pass(Op::Sync(file), sync))
    }

    fn resize(&self, file: FileName, len: u64) -> BoxFuture<'_, io::Result<()>> {
        let resize = move |device: Arc<MemoryDevice>| -> BoxFuture<'static, _> {
            Box::pin(async move { device.resize(file, len).await })
        };
        Box::pin(self.pass(Op::Resize(file), resize))
    }
}
