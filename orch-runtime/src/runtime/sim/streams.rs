//! Simulated exec, attach and port forwarding.

use super::{
    Behaviour, ContainerId, Result, RuntimeError, SandboxId, SimRuntime,
    containers::{missing_program, wrong_state},
    script::Step,
};
use crate::runtime::{ExecOutput, Session, StreamOptions, Streams};
use async_trait::async_trait;
use orch_core::client::Duplex;
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    sync::{broadcast, mpsc, oneshot},
};

const PIPE_BYTES: usize = 64 * 1024;

#[async_trait]
impl Streams for SimRuntime {
    async fn exec(&self, id: &ContainerId, command: &[String], options: StreamOptions) -> Result<Session> {
        let behaviour = self.exec_behaviour(id, command)?;
        let (client_in, our_in) = tokio::io::duplex(PIPE_BYTES);
        let (client_out, our_out) = tokio::io::duplex(PIPE_BYTES);
        let (done, exit) = oneshot::channel();
        let clock = self.env.clock.clone();
        let input = options.stdin.then_some(our_in);
        self.env.spawner.spawn(
            "sim-exec",
            Box::pin(async move {
                let code = run(&*clock, behaviour, input, our_out).await;
                let _ = done.send(code);
            }),
        );
        Ok(Session {
            stdin: options.stdin.then(|| Box::new(client_in) as _),
            stdout: options.stdout.then(|| Box::new(client_out) as _),
            stderr: (options.stderr && !options.tty).then(|| Box::new(tokio::io::empty()) as _),
            resize: options.tty.then(|| mpsc::channel(4).0),
            exit: Box::pin(async move { Ok(exit.await.unwrap_or(137)) }),
        })
    }

    async fn exec_sync(
        &self,
        id: &ContainerId,
        command: &[String],
        timeout: Option<Duration>,
    ) -> Result<ExecOutput> {
        let behaviour = self.exec_behaviour(id, command)?;
        let total: Duration = behaviour
            .steps
            .iter()
            .map(|s| {
                if let Step::Sleep(d) = s {
                    *d
                } else {
                    Duration::ZERO
                }
            })
            .sum();
        let endless = behaviour.exit.is_none();
        if let Some(after) = timeout.filter(|t| endless || total > *t) {
            self.env.clock.sleep(after).await;
            return Err(RuntimeError::Timeout { after });
        }
        if endless {
            return futures::future::pending().await;
        }
        self.env.clock.sleep(total).await;
        let mut stdout = Vec::new();
        for step in &behaviour.steps {
            if let Step::Print(line) = step {
                stdout.extend_from_slice(line.as_bytes());
                stdout.push(b'\n');
            }
        }
        Ok(ExecOutput {
            code: behaviour.exit.unwrap_or(0),
            stdout,
            stderr: Vec::new(),
        })
    }

    async fn attach(&self, id: &ContainerId, options: StreamOptions) -> Result<Session> {
        let (mut output, mut ended, cat, tty) = {
            let state = self.state.lock();
            let container = state
                .containers
                .get(id)
                .ok_or_else(|| RuntimeError::no_container(id))?;
            if !container.state.phase.is_running() {
                return Err(wrong_state(id, &container.state.phase));
            }
            (
                container.output.subscribe(),
                container.ended.subscribe(),
                container.behaviour.cat,
                container.tty,
            )
        };
        let (client_in, mut our_in) = tokio::io::duplex(PIPE_BYTES);
        let (client_out, mut our_out) = tokio::io::duplex(PIPE_BYTES);
        let mut exited = ended.clone();
        self.env.spawner.spawn(
            "sim-attach-output",
            Box::pin(async move {
                loop {
                    tokio::select! {
                        biased;
                        chunk = output.recv() => match chunk {
                            Ok(chunk) if our_out.write_all(&chunk).await.is_ok() => {}
                            Err(broadcast::error::RecvError::Lagged(_)) => {}
                            _ => return,
                        },
                        () = async { drop(exited.wait_for(|e| *e).await) } => return,
                    }
                }
            }),
        );
        if options.stdin && cat {
            let (this, id) = (self.this.clone(), id.clone());
            self.env.spawner.spawn(
                "sim-attach-input",
                Box::pin(async move {
                    let mut text = String::new();
                    drop(our_in.read_to_string(&mut text).await);
                    if let Some(this) = this.upgrade() {
                        text.lines().for_each(|line| this.print(&id, line));
                        this.end(&id, 0, false);
                    }
                }),
            );
        }
        let (this, id) = (self.this.clone(), id.clone());
        Ok(Session {
            stdin: options.stdin.then(|| Box::new(client_in) as _),
            stdout: options.stdout.then(|| Box::new(client_out) as _),
            stderr: (options.stderr && !tty).then(|| Box::new(tokio::io::empty()) as _),
            resize: tty.then(|| mpsc::channel(4).0),
            exit: Box::pin(async move {
                drop(ended.wait_for(|e| *e).await);
                let code = this.upgrade().and_then(|this| {
                    let state = this.state.lock();
                    state
                        .containers
                        .get(&id)
                        .and_then(|c| c.state.phase.exit().map(|e| e.code))
                });
                Ok(code.unwrap_or(137))
            }),
        })
    }

    async fn port_forward(&self, sandbox: &SandboxId, _port: u16) -> Result<Box<dyn Duplex>> {
        let state = self.state.lock();
        let found = state
            .sandboxes
            .get(sandbox)
            .ok_or_else(|| RuntimeError::no_sandbox(sandbox))?;
        if !found.state.ready {
            return Err(RuntimeError::WrongState {
                what: format!("sandbox {sandbox}"),
                state: "not ready".into(),
            });
        }
        drop(state);
        // Every port echoes.
        let (client, ours) = tokio::io::duplex(PIPE_BYTES);
        self.env.spawner.spawn(
            "sim-port",
            Box::pin(async move {
                let (mut read, mut write) = tokio::io::split(ours);
                drop(tokio::io::copy(&mut read, &mut write).await);
                drop(write.shutdown().await);
            }),
        );
        Ok(Box::new(client))
    }
}

impl SimRuntime {
    fn exec_behaviour(&self, id: &ContainerId, command: &[String]) -> Result<Behaviour> {
        let state = self.state.lock();
        let container = state
            .containers
            .get(id)
            .ok_or_else(|| RuntimeError::no_container(id))?;
        if !container.state.phase.is_running() {
            return Err(wrong_state(id, &container.state.phase));
        }
        if let Some(reason) = missing_program(command) {
            return Err(RuntimeError::StartFailed { reason });
        }
        let mut behaviour = Behaviour::of_command(command, Some(0));
        if container.exec_code != 0 {
            behaviour.exit = Some(container.exec_code);
        }
        Ok(behaviour)
    }
}

async fn run(
    clock: &dyn orch_core::clock::Clock,
    behaviour: Behaviour,
    input: Option<DuplexStream>,
    mut output: DuplexStream,
) -> i32 {
    for step in &behaviour.steps {
        match step {
            Step::Sleep(time) => clock.sleep(*time).await,
            // A reader who went away is his own affair.
            Step::Print(line) => drop(output.write_all(format!("{line}\n").as_bytes()).await),
        }
    }
    if behaviour.cat
        && let Some(mut input) = input
    {
        drop(tokio::io::copy(&mut input, &mut output).await);
    }
    match behaviour.exit {
        Some(code) => code,
        None => futures::future::pending().await,
    }
}
