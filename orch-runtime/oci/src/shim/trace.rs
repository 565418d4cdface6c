//! Catches what libcontainer says went wrong: its errors name the step, only its traces the cause, and they come from
//! forked processes that share nothing with the helper but this pipe.

use rustix::pipe::{PipeFlags, pipe_with};
use std::fmt::Write;
use std::os::fd::OwnedFd;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Writes error events into a pipe, a line each.
struct Collector(OwnedFd);

/// Reads what a [`Collector`] wrote.
pub(super) struct Causes(OwnedFd);

/// Starts to collect the errors traced in this process and in those forked from it. Once a process.
pub(super) fn collect() -> std::io::Result<Causes> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    // Only a second call could fail, and then the first goes on.
    let _ = tracing::subscriber::set_global_default(Collector(write));
    Ok(Causes(read))
}

impl Causes {
    /// The first error, which is the one closest to the cause.
    pub(super) fn first(&self) -> Option<String> {
        let mut buffer = [0; 2048];
        let n = rustix::io::read(&self.0, &mut buffer).ok()?;
        let text = String::from_utf8_lossy(&buffer[..n]).into_owned();
        text.lines().next().map(str::to_owned)
    }
}

impl Subscriber for Collector {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::ERROR
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, event: &Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        let text = format!("{}{}\n", line.message, line.fields).replace(['\r'], " ");
        // A full pipe has the first errors, which are the ones wanted.
        let _ = rustix::io::write(&self.0, text.as_bytes());
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        // Writing to a string cannot fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}
