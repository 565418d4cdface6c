//! Processes that run beside the container's own, each for one client.

use crate::shim::backend::{self, Helper, Io, Stdio3};
use crate::shim::conn::Conn;
use crate::shim::launch::{listen, reap_one, receive_terminal};
use crate::shim::protocol::Reply;
use crate::shim::server::Server;
use rustix::process::{Pid, Signal};
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

/// A process run beside the container's own.
pub(super) struct Exec {
    pub(super) state: ExecState,
    /// The connection went away: the process is not wanted any more.
    pub(super) unwanted: bool,
    pub(super) files: Vec<PathBuf>,
    pub(super) terminal: Option<UnixListener>,
}

pub(super) enum ExecState {
    Starting(Helper),
    Running(Pid),
}

impl Server {
    pub(super) fn exec(
        &mut self,
        client: u64,
        process: &serde_json::Value,
        tty: bool,
    ) -> std::result::Result<(), String> {
        if self.record.exit.is_some() {
            return Err("the container is exited".into());
        }
        let id = self.next;
        self.next += 1;
        let file = self.dir.join(format!("exec-{id}.json"));
        std::fs::write(&file, process.to_string()).map_err(|e| format!("write {}: {e}", file.display()))?;
        let mut files = vec![file.clone()];
        let conn = self.clients.get_mut(&client).ok_or("the client is gone")?;
        let (io, terminal) = if tty {
            let name = format!("exec-{id}.sock");
            files.push(self.dir.join(&name));
            (
                Io::Terminal(name.clone()),
                Some(listen(&self.dir, &name).map_err(|e| e.chain())?),
            )
        } else {
            let mut take = || conn.received.pop_front().ok_or("no descriptors came along");
            (
                Io::Pipes(Stdio3 {
                    stdin: take()?,
                    stdout: take()?,
                    stderr: take()?,
                }),
                None,
            )
        };
        let helper = backend::exec(&self.config, &self.dir, &file, io).map_err(|e| e.to_string())?;
        conn.exec = Some(id);
        self.execs.insert(
            id,
            Exec {
                state: ExecState::Starting(helper),
                unwanted: false,
                files,
                terminal,
            },
        );
        Ok(())
    }

    pub(super) fn exec_client(&mut self, id: u64) -> Option<&mut Conn> {
        self.clients.values_mut().find(|c| c.exec == Some(id))
    }

    /// A helper has told whether its process runs.
    pub(super) fn exec_result(&mut self, id: u64) {
        let Some(exec) = self.execs.get_mut(&id) else {
            return;
        };
        let ExecState::Starting(helper) = &exec.state else {
            return;
        };
        let result = helper.take();
        reap_one(helper.pid);
        for file in exec.files.drain(..) {
            // The process was started from it, or never will be.
            let _ = std::fs::remove_file(file);
        }
        let terminal = exec.terminal.take();
        let pid = match result.and_then(|p| {
            i32::try_from(p)
                .ok()
                .and_then(Pid::from_raw)
                .ok_or("no process".into())
        }) {
            Ok(pid) => pid,
            Err(message) => {
                self.execs.remove(&id);
                if let Some(client) = self.exec_client(id) {
                    client.exec = None;
                    client.reply(&Reply::Failed { message });
                }
                return;
            }
        };
        exec.state = ExecState::Running(pid);
        if exec.unwanted {
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
        let running = Reply::Running {
            pid: pid.as_raw_nonzero().get().unsigned_abs(),
        };
        let master = terminal.as_ref().map(receive_terminal);
        if let Some(client) = self.exec_client(id) {
            match master {
                Some(Ok(master)) => client.reply_with_fd(&running, master.as_fd()),
                Some(Err(e)) => client.reply(&Reply::Failed {
                    message: e.to_string(),
                }),
                None => client.reply(&running),
            }
        }
        if let Some(code) = self.strays.remove(&pid.as_raw_nonzero().get()) {
            self.exec_ended(id, code);
        }
        self.reap();
    }

    pub(super) fn exec_ended(&mut self, id: u64, code: i32) {
        self.execs.remove(&id);
        if let Some(client) = self.exec_client(id) {
            client.reply(&Reply::ExecEnded { code });
        }
    }
}
