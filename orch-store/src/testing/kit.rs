//! What a case works with: the store under test, the surroundings it is opened in, and short ways to use it.

use super::Store;
use crate::embedded::{DirDisk, Disk, EmbeddedStore, Options};
use crate::mem::MemStore;
use crate::store::{
    KeyRange, KeyValue, Op, Page, ReadAt, Revision, Txn, TxnOutcome, Watch, WatchBatch, WatchEvent,
};
use crate::{Error, HistoryLimits};
use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::future::{Either, select};
use orch_core::Env;
use orch_core::clock::{SimClock, SystemClock};
use orch_core::rng::SeededRng;
use orch_core::spawn::TokioSpawner;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// An implementation under test: how to open it and how to end it.
#[async_trait]
pub trait Subject: Send + Sync + 'static {
    /// Opens the store of this bed; a second time, after [`Subject::close`], with the same data.
    ///
    /// # Errors
    /// Why it does not open.
    async fn open(&self, bed: &Bed) -> Result<Arc<dyn Store>, Error>;

    /// Ends the store so that it can be opened again.
    async fn close(&self, store: Arc<dyn Store>) {
        drop(store);
    }

    /// Whether the data is still there when it is opened again.
    fn is_durable(&self) -> bool {
        true
    }
}

/// The surroundings of one case: time, randomness, spawning, and a directory of its own that goes with it.
#[derive(Debug)]
pub struct Bed {
    /// The handles for the store.
    pub env: Env,
    /// An empty directory.
    pub dir: PathBuf,
    /// How long something that must happen may take.
    patience: Duration,
}

impl Bed {
    /// Surroundings in virtual time, on the present tokio runtime, which must be started paused.
    #[must_use]
    pub fn virtual_time() -> Self {
        let clock = SimClock::starting_at(jiff::Timestamp::UNIX_EPOCH);
        Self::with(Arc::new(clock), Duration::from_secs(60))
    }

    /// Surroundings in real time, for stores that talk to other processes.
    #[must_use]
    pub fn real_time() -> Self {
        Self::with(Arc::new(SystemClock::new()), Duration::from_secs(10))
    }

    fn with(clock: Arc<dyn orch_core::clock::Clock>, patience: Duration) -> Self {
        static BEDS: AtomicU64 = AtomicU64::new(0);
        let n = BEDS.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("orch-store-{}-{n}", std::process::id()));
        let _absent = std::fs::remove_dir_all(&dir);
        let env = Env {
            clock,
            rng: Arc::new(SeededRng::new(n)),
            spawner: Arc::new(TokioSpawner),
        };
        Self { env, dir, patience }
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        let _absent = std::fs::remove_dir_all(&self.dir);
    }
}

/// [`MemStore`] as a subject.
#[derive(Debug, Clone, Copy, Default)]
pub struct Memory;

#[async_trait]
impl Subject for Memory {
    async fn open(&self, bed: &Bed) -> Result<Arc<dyn Store>, Error> {
        Ok(Arc::new(MemStore::new(bed.env.clone())))
    }
    fn is_durable(&self) -> bool {
        false
    }
}

/// [`EmbeddedStore`] as a subject.
#[derive(Debug, Clone, Copy, Default)]
pub struct Embedded {
    /// How it works.
    pub options: Options,
}

impl Embedded {
    /// Segments of a few kilobytes and checkpoints all the time, so that small cases see everything.
    #[must_use]
    pub fn tiny() -> Self {
        let history = HistoryLimits::default();
        let options = Options {
            segment_bytes: 2000,
            grow_bytes: 512,
            checkpoint_bytes: 3000,
            history,
            ..Options::default()
        };
        Self { options }
    }
}

#[async_trait]
impl Subject for Embedded {
    async fn open(&self, bed: &Bed) -> Result<Arc<dyn Store>, Error> {
        let disk: Arc<dyn Disk> = Arc::new(DirDisk::new(&bed.dir));
        Ok(Arc::new(EmbeddedStore::open_on(
            disk,
            self.options,
            bed.env.clone(),
        )?))
    }
}

/// A store with the operations that cases use, each of which must succeed.
pub(crate) struct Sut<'a> {
    // First, so that it is closed before its directory goes.
    store: Option<Arc<dyn Store>>,
    pub(crate) subject: &'a dyn Subject,
    pub(crate) bed: Bed,
}

impl<'a> Sut<'a> {
    pub(crate) async fn open(subject: &'a dyn Subject, bed: Bed) -> Self {
        let store = Some(subject.open(&bed).await.expect("the store opens"));
        Self { subject, bed, store }
    }

    pub(crate) fn store(&self) -> &Arc<dyn Store> {
        self.store.as_ref().expect("the store is open")
    }

    pub(crate) async fn restart(&mut self) {
        if let Some(store) = self.store.take() {
            self.subject.close(store).await;
        }
        self.store = Some(self.subject.open(&self.bed).await.expect("the store opens again"));
    }

    /// Waits for what must happen soon.
    pub(crate) async fn soon<T>(&self, what: &str, future: impl Future<Output = T>) -> T {
        match self.within(self.bed.patience, future).await {
            Some(value) => value,
            None => panic!("{what} did not happen"),
        }
    }

    pub(crate) async fn within<T>(&self, time: Duration, future: impl Future<Output = T>) -> Option<T> {
        match select(pin!(future), self.bed.env.clock.sleep(time)).await {
            Either::Left((value, _)) => Some(value),
            Either::Right(_) => None,
        }
    }

    pub(crate) async fn txn(&self, txn: Txn) -> TxnOutcome {
        self.soon("a transaction", self.store().txn(txn))
            .await
            .expect("the transaction is accepted")
    }

    pub(crate) async fn refuse(&self, txn: Txn) -> Error {
        self.soon("a refusal", self.store().txn(txn))
            .await
            .expect_err("the transaction is refused")
    }

    pub(crate) async fn put(&self, key: &str, value: &str) -> Revision {
        self.txn(Txn::of([Op::put(key.to_owned(), value.to_owned())]))
            .await
            .revision
    }

    pub(crate) async fn delete(&self, key: &str) -> Revision {
        self.txn(Txn::of([Op::delete(key.to_owned())])).await.revision
    }

    pub(crate) async fn get(&self, key: &str) -> Option<Arc<KeyValue>> {
        self.range(KeyRange::key(key.to_owned()), ReadAt::Latest, None)
            .await
            .kvs
            .pop()
    }

    pub(crate) async fn value(&self, key: &str) -> Option<String> {
        self.get(key)
            .await
            .map(|kv| String::from_utf8_lossy(&kv.value).into_owned())
    }

    pub(crate) async fn range(&self, keys: KeyRange, at: ReadAt, limit: Option<u32>) -> Page {
        self.try_range(keys, at, limit)
            .await
            .expect("the range can be read")
    }

    pub(crate) async fn try_range(
        &self,
        keys: KeyRange,
        at: ReadAt,
        limit: Option<u32>,
    ) -> Result<Page, Error> {
        self.soon("a read", self.store().range(keys, at, limit)).await
    }

    /// Everything as `key=value`, at a revision.
    pub(crate) async fn state_at(&self, at: ReadAt) -> Vec<String> {
        self.range(KeyRange::all(), at, None)
            .await
            .kvs
            .iter()
            .map(|kv| text(kv))
            .collect()
    }

    pub(crate) async fn revision(&self) -> Revision {
        self.soon("a status", self.store().status())
            .await
            .expect("there is a status")
            .revision
    }

    pub(crate) async fn watch(&self, keys: KeyRange, after: Revision) -> Watcher<'_, 'a> {
        let watch = self
            .soon("a watch", self.store().watch(keys, after))
            .await
            .expect("the watch starts");
        Watcher {
            sut: self,
            watch,
            revision: after,
        }
    }
}

/// Lets other tasks run in between.
pub(crate) async fn pause() {
    let mut paused = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut paused, true) {
            return std::task::Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}

/// `key=value`.
pub(crate) fn text(kv: &KeyValue) -> String {
    format!(
        "{}={}",
        String::from_utf8_lossy(&kv.key),
        String::from_utf8_lossy(&kv.value)
    )
}

/// `revision kind key=value`, one for each event.
pub(crate) fn event_text(event: &WatchEvent) -> String {
    format!("{} {:?} {}", event.revision(), event.kind, text(&event.kv))
}

/// A watch whose batches are checked as they come.
pub(crate) struct Watcher<'s, 'a> {
    sut: &'s Sut<'a>,
    pub(crate) watch: Watch,
    pub(crate) revision: Revision,
}

impl Watcher<'_, '_> {
    /// The next batch; checks what holds of every batch.
    pub(crate) async fn batch(&mut self) -> Result<WatchBatch, Error> {
        let next = self
            .sut
            .soon("a watch batch", self.watch.next())
            .await
            .expect("the watch goes on");
        let batch = next?;
        assert!(
            batch.revision >= self.revision,
            "a batch at {} after one at {}",
            batch.revision,
            self.revision
        );
        let mut last = self.revision;
        for event in &batch.events {
            let at = event.revision();
            assert!(
                at > self.revision,
                "event at {at} again: {} was delivered",
                self.revision
            );
            assert!(at >= last, "event at {at} after one at {last}");
            assert!(
                at <= batch.revision,
                "event at {at} in a batch up to {}",
                batch.revision
            );
            last = at;
        }
        self.revision = batch.revision;
        Ok(batch)
    }

    /// Everything up to a revision.
    pub(crate) async fn until(&mut self, revision: Revision) -> Vec<Arc<WatchEvent>> {
        let mut events = Vec::new();
        let progress = self.watch.progress();
        while self.revision < revision {
            progress.request();
            events.extend(self.batch().await.expect("the watch goes on").events);
        }
        events
    }

    pub(crate) async fn texts_until(&mut self, revision: Revision) -> Vec<String> {
        self.until(revision)
            .await
            .iter()
            .map(|event| event_text(event))
            .collect()
    }
}

pub(crate) fn bytes(n: usize) -> Bytes {
    vec![b'x'; n].into()
}
