//! Exec, attach and port-forward: a session of the runtime joined to the channels of a client.

use super::{Body, Server, full, route::ContainerTarget, route::StreamParams, text};
use crate::{
    agent::spec,
    runtime::{ContainerId, RuntimeError, Session, StreamOptions, TerminalSize},
};
use http::{HeaderMap, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use orch_core::Env;
use orch_stream::{
    CommandOptions, CommandProtocol, CommandStreams, Driver, Forward, NegotiationError, negotiate_command,
    negotiate_forward, serve_command, serve_forward,
};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    sync::oneshot,
};

/// How long a client may take to open its streams.
const CREATION: Duration = Duration::from_secs(30);

fn refused(error: &NegotiationError) -> Response<Body> {
    let status = match error {
        NegotiationError::NotAnUpgrade(_) => StatusCode::BAD_REQUEST,
        NegotiationError::NoCommonProtocol { .. } => StatusCode::FORBIDDEN,
    };
    text(status, error)
}

fn switching(headers: HeaderMap) -> Response<Body> {
    let mut response = Response::new(full(""));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *response.headers_mut() = headers;
    response
}

/// The `Status` that ends a session.
fn status_of(outcome: &Result<i32, RuntimeError>, verb: &str) -> Value {
    match outcome {
        Ok(0) => json!({"metadata": {}, "status": "Success"}),
        Ok(code) => json!({
            "metadata": {},
            "status": "Failure",
            "message": format!("command terminated with non-zero exit code: exit status {code}"),
            "reason": "NonZeroExitCode",
            "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
        }),
        Err(error) => {
            let message = format!("error {verb} in container: {error}");
            json!({
                "metadata": {},
                "status": "Failure",
                "message": format!("Internal error occurred: {message}"),
                "reason": "InternalError",
                "details": {"causes": [{"message": message}]},
                "code": 500,
            })
        }
    }
}

/// Spawns a driver and tells when it has ended, that is, when the client is gone.
fn drive(env: &Env, driver: Driver) -> oneshot::Receiver<()> {
    let (over, gone) = oneshot::channel();
    env.spawner.spawn(
        "stream",
        Box::pin(async move {
            driver.await;
            drop(over);
        }),
    );
    gone
}

async fn copy(from: Option<impl AsyncRead + Unpin>, to: Option<impl AsyncWrite + Unpin>) {
    if let (Some(mut from), Some(mut to)) = (from, to) {
        drop(tokio::io::copy(&mut from, &mut to).await);
        drop(to.shutdown().await);
    }
}

/// Carries a session to its end; `None` if the client went first.
async fn join(
    session: Session,
    streams: &mut CommandStreams,
    gone: &mut oneshot::Receiver<()>,
) -> Option<Result<i32, RuntimeError>> {
    let input = copy(streams.stdin.take(), session.stdin);
    let output = copy(session.stdout, streams.stdout.take());
    let errors = copy(session.stderr, streams.stderr.take());
    let (sizes, sink) = (&mut streams.resize, session.resize);
    let resizes = async move {
        if let Some(sink) = sink {
            while let Some(size) = sizes.recv().await {
                // A process that is gone needs no size.
                let _ = sink
                    .send(TerminalSize {
                        width: size.width,
                        height: size.height,
                    })
                    .await;
            }
        }
        std::future::pending::<()>().await;
    };
    let input = async move {
        input.await;
        std::future::pending::<()>().await;
    };
    // All output belongs before the end.
    let work = async move {
        let (code, (), ()) = tokio::join!(session.exit, output, errors);
        code
    };
    tokio::select! {
        code = work => Some(code),
        _ = gone => None,
        () = input => None,
        () = resizes => None,
    }
}

impl Server {
    /// The running container that a path names.
    async fn find(&self, target: &ContainerTarget) -> Result<ContainerId, Response<Body>> {
        let pod = self.view.pod(&target.namespace, &target.pod);
        let pod = pod.filter(|p| target.uid.as_ref().is_none_or(|uid| uid == spec::uid(p)));
        let pod = pod.ok_or_else(|| text(StatusCode::NOT_FOUND, "pod does not exist"))?;
        let missing = || {
            text(
                StatusCode::NOT_FOUND,
                format!("container not found ({:?})", target.container),
            )
        };
        let view = self
            .view
            .pod_view(spec::uid(&pod))
            .await
            .map_err(|e| text(StatusCode::INTERNAL_SERVER_ERROR, e))?;
        let latest = view.latest(&target.container).filter(|c| c.phase.is_running());
        latest.map(|c| c.id.clone()).ok_or_else(missing)
    }

    pub(super) async fn run_command(&self, target: &ContainerTarget, command: &[String]) -> Response<Body> {
        let id = match self.find(target).await {
            Ok(id) => id,
            Err(response) => return response,
        };
        match self.view.runtime().exec_sync(&id, command, None).await {
            Ok(out) if out.code == 0 => Response::new(full([out.stdout, out.stderr].concat())),
            Ok(out) => {
                let why = format!("command '{}' exited with {}", command.join(" "), out.code);
                text(StatusCode::INTERNAL_SERVER_ERROR, why)
            }
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error),
        }
    }

    /// Exec with a command, attach without.
    pub(super) async fn exec(
        self: &Arc<Self>,
        mut request: Request<Incoming>,
        target: &ContainerTarget,
        command: Option<Vec<String>>,
        params: StreamParams,
    ) -> Response<Body> {
        let id = match self.find(target).await {
            Ok(id) => id,
            Err(response) => return response,
        };
        let negotiated = match negotiate_command(request.headers()) {
            Ok(negotiated) => negotiated,
            Err(error) => return refused(&error),
        };
        let upgrade = hyper::upgrade::on(&mut request);
        let (server, protocol) = (self.clone(), negotiated.protocol);
        let task = async move {
            match upgrade.await {
                Ok(io) => {
                    server
                        .session(Box::new(TokioIo::new(io)), protocol, &id, command, params)
                        .await;
                }
                Err(error) => tracing::debug!(%error, "the connection was not upgraded"),
            }
        };
        self.view.env().spawner.spawn("exec", Box::pin(task));
        switching(negotiated.headers)
    }

    async fn session(
        &self,
        io: orch_stream::BoxIo,
        protocol: CommandProtocol,
        id: &ContainerId,
        command: Option<Vec<String>>,
        params: StreamParams,
    ) {
        let env = self.view.env();
        let StreamParams {
            stdin,
            stdout,
            stderr,
            tty,
        } = params;
        let wanted = CommandOptions {
            stdin,
            stdout,
            stderr,
            tty,
        };
        let (mut streams, driver) = match serve_command(io, protocol, wanted, env.clock.sleep(CREATION)).await
        {
            Ok(served) => served,
            Err(error) => {
                tracing::debug!(%error, "a client opened no streams");
                return;
            }
        };
        let mut gone = drive(env, driver);
        let options = StreamOptions {
            stdin,
            stdout,
            stderr,
            tty,
        };
        let (session, verb) = match &command {
            Some(command) => (
                self.view.runtime().exec(id, command, options).await,
                "executing command",
            ),
            None => (self.view.runtime().attach(id, options).await, "attaching"),
        };
        let outcome = match session {
            Ok(session) => match join(session, &mut streams, &mut gone).await {
                Some(outcome) => outcome,
                None => return,
            },
            Err(error) => Err(error),
        };
        // An attached client hears of the end, not of its code.
        let outcome = if command.is_none() {
            outcome.map(|_| 0)
        } else {
            outcome
        };
        streams.finish(status_of(&outcome, verb).to_string());
    }

    pub(super) async fn forward(
        self: &Arc<Self>,
        mut request: Request<Incoming>,
        namespace: &str,
        name: &str,
        uid: Option<&str>,
        ports: Vec<u16>,
    ) -> Response<Body> {
        let pod = self
            .view
            .pod(namespace, name)
            .filter(|p| uid.is_none_or(|uid| uid == spec::uid(p)));
        let Some(pod) = pod else {
            return text(StatusCode::NOT_FOUND, "pod does not exist");
        };
        let negotiated = match negotiate_forward(request.headers()) {
            Ok(negotiated) => negotiated,
            Err(error) => return refused(&error),
        };
        let upgrade = hyper::upgrade::on(&mut request);
        let (server, protocol) = (self.clone(), negotiated.protocol);
        let task = async move {
            let io = match upgrade.await {
                Ok(io) => Box::new(TokioIo::new(io)),
                Err(error) => return tracing::debug!(%error, "the connection was not upgraded"),
            };
            let env = server.view.env();
            let (mut forwards, driver) = match serve_forward(io, protocol, &ports).await {
                Ok(served) => served,
                Err(error) => return tracing::debug!(%error, "port-forward ended"),
            };
            let mut gone = drive(env, driver);
            loop {
                tokio::select! {
                    _ = &mut gone => return,
                    forward = forwards.recv() => match forward {
                        Some(forward) => {
                            let (server, uid) = (server.clone(), spec::uid(&pod).to_owned());
                            let one = async move { server.one_forward(&uid, forward).await };
                            env.spawner.spawn("port-forward", Box::pin(one));
                        }
                        None => return,
                    },
                }
            }
        };
        self.view.env().spawner.spawn("port-forward", Box::pin(task));
        switching(negotiated.headers)
    }

    async fn one_forward(&self, uid: &str, mut forward: Forward) {
        let port = forward.port;
        let connected = async {
            let view = self.view.pod_view(uid).await?;
            let sandbox = view
                .ready_sandbox()
                .ok_or_else(|| RuntimeError::no_sandbox(uid))?;
            self.view.runtime().port_forward(&sandbox.id, port).await
        };
        let result = match connected.await {
            Ok(mut pod) => tokio::io::copy_bidirectional(&mut forward.data, &mut pod)
                .await
                .map(drop)
                .map_err(|e| e.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(why) = result {
            let message = format!(
                "an error occurred forwarding {port} -> {port}: error forwarding port {port} to pod {uid}: {why}"
            );
            drop(forward.error.write_all(message.as_bytes()).await);
        }
        drop(forward.error.shutdown().await);
        drop(forward.data.shutdown().await);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_of_sessions() {
        assert_eq!(status_of(&Ok(0), "executing command")["status"], "Success");
        let failed = status_of(&Ok(3), "executing command");
        assert_eq!(failed["reason"], "NonZeroExitCode");
        assert_eq!(
            failed["details"]["causes"][0],
            json!({"reason": "ExitCode", "message": "3"})
        );
        let error = status_of(&Err(RuntimeError::no_container("x")), "executing command");
        assert_eq!(
            error["message"],
            "Internal error occurred: error executing command in container: container x not found"
        );
    }
}
