//! Group commit: requests wait in a queue, one thread at a time takes all of them, decides them in order, writes and
//! syncs once, publishes, answers.
//!
//! There is no thread of its own: the first request that finds nobody at work starts a blocking job through the
//! spawner, which goes on until the queue is empty. Under load the next group gathers while the disk syncs; idle costs
//! nothing; and an executor that runs blocking jobs in place makes the whole store deterministic.

use super::disk::Files;
use super::format::RecordRef;
use super::log::{Log, Segment, Sync};
use super::request::{Answer, Plan, Reply, Request};
use super::{Options, checkpoint};
use crate::error::Error;
use crate::leases::{Deadlines, Expire};
use crate::mvcc::{Shared, Staged, Wakes};
use crate::store::{Durability, LeaseId, Revision};
use async_trait::async_trait;
use orch_core::Env;
use parking_lot::{Condvar, Mutex};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::thread::ThreadId;
use tokio::sync::oneshot;

/// How many revisions are reserved for buffered transactions at a time.
const RESERVE: u64 = 10_000;

/// Who works on the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Job {
    /// Nobody.
    #[default]
    None,
    /// A job that the executor has not begun yet.
    Due,
    /// A job on this thread; it looks at the queue again before it ends.
    AtWork(ThreadId),
}

#[derive(Default)]
struct Queue {
    waiting: Vec<Request>,
    job: Job,
    closed: bool,
    /// A settling is due already.
    settling: bool,
}

/// An open store.
pub(crate) struct Engine {
    pub(crate) shared: Arc<Shared>,
    pub(crate) env: Env,
    pub(crate) deadlines: Deadlines,
    pub(crate) files: Files,
    pub(crate) options: Options,
    pub(crate) store: u64,
    queue: Mutex<Queue>,
    log: Mutex<Log>,
    /// The log's files; the last one is being written.
    pub(crate) segments: Mutex<Vec<Segment>>,
    /// Size of the state file.
    pub(crate) state_bytes: AtomicU64,
    /// Size of the last segment.
    log_end: AtomicU64,
    /// Size at which the next segment is begun.
    rotate_at: AtomicU64,
    reserved: Mutex<Reserved>,
    /// Held while a checkpoint is being written.
    pub(crate) checkpointing: Mutex<()>,
    pub(crate) checkpoint_due: AtomicBool,
    pub(crate) closing: AtomicBool,
    lock: Mutex<Option<Box<dyn Send + std::marker::Sync>>>,
    finished: (Mutex<bool>, Condvar),
    me: Weak<Engine>,
}

struct Reserved {
    until: Revision,
    boot: [u8; 16],
}

/// What opening found, to make an engine of.
pub(crate) struct Parts {
    pub(crate) shared: Arc<Shared>,
    pub(crate) log: Log,
    pub(crate) segments: Vec<Segment>,
    pub(crate) state_bytes: u64,
    pub(crate) store: u64,
    pub(crate) reserved: Revision,
    pub(crate) boot: [u8; 16],
    pub(crate) lock: Box<dyn Send + std::marker::Sync>,
}

impl Engine {
    pub(crate) fn new(files: Files, options: Options, env: Env, parts: Parts) -> Arc<Self> {
        let log_end = AtomicU64::new(parts.log.size());
        Arc::new_cyclic(|me| Self {
            shared: parts.shared,
            deadlines: Deadlines::new(env.clone()),
            env,
            files,
            options,
            store: parts.store,
            queue: Mutex::default(),
            log: Mutex::new(parts.log),
            segments: Mutex::new(parts.segments),
            state_bytes: AtomicU64::new(parts.state_bytes),
            log_end,
            rotate_at: AtomicU64::new(options.segment_bytes),
            reserved: Mutex::new(Reserved {
                until: parts.reserved,
                boot: parts.boot,
            }),
            checkpointing: Mutex::new(()),
            checkpoint_due: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            lock: Mutex::new(Some(parts.lock)),
            finished: (Mutex::new(false), Condvar::new()),
            me: Weak::clone(me),
        })
    }

    /// Asks and waits for the answer.
    pub(crate) async fn ask<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        self.submit(request(reply))?;
        // The writer answers every request that it takes; one that it cannot take any more was not done.
        answer.await.unwrap_or_else(|_| {
            Err(Error::Unavailable {
                reason: "the store's executor ended".into(),
            })
        })
    }

    /// Queues a request and makes sure that somebody works on the queue.
    pub(crate) fn submit(&self, request: Request) -> Result<(), Error> {
        let mut queue = self.queue.lock();
        if queue.closed {
            drop(queue);
            request.fail(Error::Closed);
            return Err(Error::Closed);
        }
        queue.closed = matches!(request, Request::Close(_));
        queue.waiting.push(request);
        let idle = queue.job == Job::None;
        if idle {
            queue.job = Job::Due;
        }
        drop(queue);
        if idle && let Some(engine) = self.me.upgrade() {
            let job = Drain { engine, begun: false };
            self.env.spawner.spawn_blocking(Box::new(move || job.run()));
        }
        Ok(())
    }

    /// Ends the store from where nothing can be awaited. Whatever is queued is done first.
    pub(crate) fn close_now(&self) {
        let mut queue = self.queue.lock();
        if queue.closed {
            return;
        }
        queue.closed = true;
        queue.waiting.push(Request::Close(None));
        match queue.job {
            // A job that is due may need this very thread to begin: its work is done here.
            Job::None | Job::Due => {
                queue.job = Job::AtWork(std::thread::current().id());
                drop(queue);
                self.drain();
            }
            Job::AtWork(thread) if thread == std::thread::current().id() => {}
            Job::AtWork(_) => {
                drop(queue);
                let mut finished = self.finished.0.lock();
                while !*finished {
                    self.finished.1.wait(&mut finished);
                }
            }
        }
    }

    /// Works on the queue until it is empty.
    fn drain(&self) {
        while let Some(group) = self.next_group() {
            self.commit(group);
        }
    }

    /// Takes the next group off the queue; none when it is empty, and then nobody is at work any more.
    fn next_group(&self) -> Option<Vec<Request>> {
        let mut queue = self.queue.lock();
        if queue.waiting.is_empty() {
            queue.job = Job::None;
            return None;
        }
        let mut bytes = 0;
        let mut fits = |request: &Request| {
            bytes += request.bytes();
            bytes <= self.options.group_bytes_max
        };
        let some = queue.waiting.iter().take(self.options.group_max);
        let n = some.take_while(|request| fits(request)).count().max(1);
        if n == queue.waiting.len() {
            return Some(std::mem::take(&mut queue.waiting));
        }
        let rest = queue.waiting.split_off(n);
        Some(std::mem::replace(&mut queue.waiting, rest))
    }

    /// Decides, writes, publishes and answers one group.
    fn commit(&self, group: Vec<Request>) {
        let mut log = self.log.lock();
        let mut plan = Plan::default();
        {
            let state = self.shared.state.read();
            let mut staged = Staged::on(&state);
            for request in group {
                self.decide(request, &mut staged, &mut plan);
            }
        }
        let result = self.write(&mut log, &mut plan);
        let revision = if let (Ok(()), false) = (&result, plan.effects.is_empty()) {
            self.publish(&plan)
        } else {
            None
        };
        for answer in plan.answers {
            match &result {
                Ok(()) => answer.send(),
                // What was decided on top of changes that did not happen did not happen either.
                Err(error) => answer.fail(error.clone()),
            }
        }
        if let Some(revision) = revision {
            self.tend(&mut log, revision);
        }
        if plan.settle {
            self.settle(&mut log);
        } else if log.is_dirty() || revision.is_some() {
            self.settle_later();
        }
        drop(log);
        if let Some(reply) = plan.close {
            self.finish();
            if let Some(to) = reply {
                let _gone = to.send(Ok(()));
            }
        }
    }

    fn decide(&self, request: Request, staged: &mut Staged<'_>, plan: &mut Plan) {
        match request {
            Request::Txn(txn, to) => {
                let answer = staged.txn(&txn).map(|(outcome, effect)| {
                    if let Some(effect) = effect {
                        plan.transactions += 1;
                        plan.add(effect, txn.durability);
                    }
                    outcome
                });
                let refused = answer.as_ref().is_ok_and(|outcome| !outcome.succeeded);
                self.shared.metrics.conflicts.add(u64::from(refused));
                plan.answers.push(Answer::Txn(to, answer));
            }
            Request::Grant(ttl, to) => {
                let id = staged.free_lease(&*self.env.rng);
                plan.add(staged.grant(id, ttl), Durability::Synced);
                plan.answers.push(Answer::Lease(to, Ok(id)));
            }
            Request::Revoke(id, to) => {
                let answer = staged
                    .revoke(id)
                    .map(|effect| plan.add(effect, Durability::Synced));
                plan.answers.push(Answer::Unit(to, answer));
            }
            Request::Compact(revision, to) => {
                let answer = staged
                    .compact(revision)
                    .map(|effect| plan.add(effect, Durability::Synced));
                plan.answers.push(Answer::Unit(to, answer));
            }
            Request::Settle => plan.settle = true,
            Request::Close(reply) => plan.close = Some(reply),
        }
    }

    fn write(&self, log: &mut Log, plan: &mut Plan) -> Result<(), Error> {
        let Some(last) = plan.effects.last() else {
            return Ok(());
        };
        let mut reserve = None;
        if plan.sync == Sync::Later {
            let reserved = self.reserved.lock();
            if last.revision > reserved.until {
                // The reservation must be on stable storage before anything that relies on it is seen.
                let until = Revision(last.revision.0 + RESERVE);
                reserve = Some(until);
                plan.sync = Sync::Now;
                let revision = self.shared.state.read().revision;
                log.stage(revision, [RecordRef::Reserve(until, reserved.boot)]);
            }
        }
        for effect in &plan.effects {
            log.stage_effect(effect);
        }
        let bytes = log.staged_bytes() as u64;
        log.write(plan.sync)?;
        if let Some(until) = reserve {
            self.reserved.lock().until = until;
        }
        self.shared.metrics.batch(plan.transactions, bytes);
        Ok(())
    }

    fn publish(&self, plan: &Plan) -> Option<Revision> {
        let mut wakes = Wakes::default();
        let revision = {
            let mut state = self.shared.state.write();
            for effect in &plan.effects {
                state.apply(effect, &mut wakes);
            }
            state.revision
        };
        wakes.wake();
        Some(revision)
    }

    /// Between groups: a new segment when the present one is full, a checkpoint when enough log is only past.
    fn tend(&self, log: &mut Log, revision: Revision) {
        let size = log.size();
        self.log_end.store(size, Ordering::Relaxed);
        if size < self.rotate_at.load(Ordering::Relaxed) {
            return;
        }
        match log.rotate(revision, self.env.rng.next_u64()) {
            Ok(segment) => {
                // What was reserved in earlier segments goes with them.
                self.reserved.lock().until = Revision(0);
                let mut segments = self.segments.lock();
                if let Some(full) = segments.last_mut() {
                    full.size = size;
                }
                segments.push(segment);
                self.log_end.store(log.size(), Ordering::Relaxed);
                self.rotate_at
                    .store(self.options.segment_bytes, Ordering::Relaxed);
            }
            Err(error) => {
                self.shared.metrics.disk_errors.add(1);
                tracing::warn!(%error, "the log goes on in a full segment");
                // Not again at each write: what is wrong now is likely to be wrong then.
                self.rotate_at
                    .store(size + self.options.segment_bytes / 8, Ordering::Relaxed);
                return;
            }
        }
        if checkpoint::is_due(self)
            && !self.checkpoint_due.swap(true, Ordering::AcqRel)
            && let Some(engine) = self.me.upgrade()
        {
            let leases_seq = log.seq();
            self.env
                .spawner
                .spawn_blocking(Box::new(move || checkpoint::run(&engine, leases_seq)));
        }
    }

    /// Syncs what is buffered, and leaves a frame that says so: from then on, damage to what was synced last cannot be
    /// mistaken for a torn write.
    fn settle(&self, log: &mut Log) {
        self.queue.lock().settling = false;
        let revision = self.shared.state.read().revision;
        if let Err(error) = log.flush() {
            tracing::warn!(%error, "buffered transactions are not on stable storage yet");
            self.settle_later();
            return;
        }
        log.stage(revision, []);
        // Losing this frame loses nothing.
        let _unneeded = log.write(Sync::Later);
    }

    /// Sees to it that the store settles soon after the first change since it last did.
    fn settle_later(&self) {
        if std::mem::replace(&mut self.queue.lock().settling, true) {
            return;
        }
        let me = Weak::clone(&self.me);
        let pause = self.env.clock.sleep(self.options.settle_after);
        let timer = async move {
            pause.await;
            if let Some(engine) = me.upgrade() {
                // A closed store has settled.
                let _closed = engine.submit(Request::Settle);
            }
        };
        let _runs_on = self.env.spawner.spawn("store-settle", Box::pin(timer));
    }

    /// Bytes on disk.
    pub(crate) fn disk_bytes(&self) -> u64 {
        let segments = self.segments.lock();
        let full: u64 = segments.iter().rev().skip(1).map(|segment| segment.size).sum();
        full + self.log_end.load(Ordering::Relaxed) + self.state_bytes.load(Ordering::Relaxed)
    }

    /// Ends everything: nothing is queued any more, and no request can come.
    fn finish(&self) {
        self.closing.store(true, Ordering::Release);
        self.deadlines.stop();
        self.shared.end(Error::Closed);
        let _no_checkpoint = self.checkpointing.lock();
        let mut log = self.log.lock();
        let revision = self.shared.state.read().revision;
        let closed = log.flush().and_then(|()| {
            log.stage(revision, [RecordRef::Clean]);
            log.write(Sync::Now)
        });
        match closed {
            Ok(()) => log.trim(),
            Err(error) => {
                tracing::warn!(%error, "the store was not closed cleanly; what was acknowledged is safe");
            }
        }
        drop(self.lock.lock().take());
        *self.finished.0.lock() = true;
        self.finished.1.notify_all();
    }
}

#[async_trait]
impl Expire for Engine {
    fn deadlines(&self) -> &Deadlines {
        &self.deadlines
    }

    async fn expire(&self, id: LeaseId) -> Result<(), Error> {
        self.ask(|reply| Request::Revoke(id, reply)).await?;
        self.shared.metrics.leases_expired.add(1);
        Ok(())
    }
}

/// The job that works on the queue until it is empty.
struct Drain {
    engine: Arc<Engine>,
    begun: bool,
}

impl Drain {
    fn run(mut self) {
        self.begun = true;
        {
            let mut queue = self.engine.queue.lock();
            if queue.job != Job::Due {
                return;
            }
            queue.job = Job::AtWork(std::thread::current().id());
        }
        self.engine.drain();
    }
}

impl Drop for Drain {
    fn drop(&mut self) {
        if self.begun {
            return;
        }
        // The executor dropped the job: nothing that is queued was done. A later request may find a live one.
        let waiting = {
            let mut queue = self.engine.queue.lock();
            if queue.job != Job::Due {
                return;
            }
            queue.job = Job::None;
            std::mem::take(&mut queue.waiting)
        };
        for request in waiting {
            if matches!(request, Request::Close(_)) {
                self.engine.finish();
            }
            request.fail(Error::Unavailable {
                reason: "the store's executor ended".into(),
            });
        }
    }
}
