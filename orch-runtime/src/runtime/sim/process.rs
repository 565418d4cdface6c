//! The life of a simulated process: its output, its pauses, its end.

use super::{Behaviour, ContainerId, SimRuntime, script::Step};
use bytes::Bytes;
use std::{io::Write, sync::Arc};

impl SimRuntime {
    /// Lives through the steps of a started container.
    pub(super) async fn live(self: Arc<Self>, id: &ContainerId, behaviour: Behaviour) {
        for step in &behaviour.steps {
            match step {
                Step::Print(line) => self.print(id, line),
                Step::Sleep(time) => self.env.clock.sleep(*time).await,
            }
        }
        if behaviour.cat {
            let attached_input = self.state.lock().containers.get(id).is_some_and(|c| c.stdin);
            if attached_input {
                // It ends when an attached client ends its input, or when stopped.
                return;
            }
        }
        if let Some(code) = behaviour.exit {
            self.end(id, code, behaviour.oom);
        }
    }

    /// Writes a line to the output of a running container: to its log and to whoever is attached.
    pub fn print(&self, id: &ContainerId, line: &str) {
        let now = self.env.clock.now();
        let (log, output) = {
            let state = self.state.lock();
            let Some(container) = state.containers.get(id).filter(|c| c.state.phase.is_running()) else {
                return;
            };
            let log = container.write_log.then(|| container.state.log_path.clone());
            (log, container.output.clone())
        };
        drop(output.send(Bytes::from(format!("{line}\n"))));
        if let Some(path) = log {
            let file = std::fs::OpenOptions::new().create(true).append(true).open(&path);
            if let Err(error) = file.and_then(|mut file| writeln!(file, "{now:.9} stdout F {line}")) {
                tracing::warn!(path = %path.display(), %error, "cannot write the log of a simulated container");
            }
        }
    }
}
