//! Probes and lifecycle hooks.

use super::Context;
use crate::field::{FieldErrors, Path};
use crate::json::Json;
use crate::validate::check::{each, each_number, nonnegative, one_of, port_number_or_name, required};
use orch_core::validate as format;
use serde_json::Value;

/// The three probes of a container.
pub(super) fn probes(errors: &mut FieldErrors, path: &Path<'_>, container: &Value, context: &Context<'_>) {
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let Some(probe) = container.at(name).some() else {
            continue;
        };
        let path = path.child(name);
        one(errors, &path, probe, context);
        if name == "readinessProbe" {
            if probe.has("terminationGracePeriodSeconds") {
                errors.invalid(
                    &path.child("terminationGracePeriodSeconds"),
                    probe.at("terminationGracePeriodSeconds").clone(),
                    "must not be set for readinessProbes",
                );
            }
        } else if probe.int("successThreshold") != Some(1) {
            let threshold = probe.int("successThreshold").unwrap_or(0);
            errors.invalid(&path.child("successThreshold"), threshold, "must be 1");
        }
    }
}

fn one(errors: &mut FieldErrors, path: &Path<'_>, probe: &Value, context: &Context<'_>) {
    handler(
        errors,
        path,
        probe,
        &["exec", "httpGet", "tcpSocket", "grpc"],
        context,
    );
    for key in [
        "initialDelaySeconds",
        "timeoutSeconds",
        "periodSeconds",
        "successThreshold",
        "failureThreshold",
    ] {
        nonnegative(errors, &path.child(key), probe.int(key));
    }
    if let Some(grace) = probe.int("terminationGracePeriodSeconds").filter(|g| *g <= 0) {
        errors.invalid(
            &path.child("terminationGracePeriodSeconds"),
            grace,
            "must be greater than 0",
        );
    }
}

fn handler(errors: &mut FieldErrors, path: &Path<'_>, of: &Value, kinds: &[&str], context: &Context<'_>) {
    let mut found = false;
    for kind in kinds {
        let Some(action) = of.at(kind).some() else {
            continue;
        };
        let path = path.child(kind);
        if found {
            errors.forbidden(&path, "may not specify more than 1 handler type");
            continue;
        }
        found = true;
        match *kind {
            "exec" if action.list("command").is_empty() => errors.required(&path.child("command"), ""),
            "httpGet" => http_get(errors, &path, action),
            "tcpSocket" => port_number_or_name(errors, &path.child("port"), action.at("port")),
            "grpc" => {
                let port = action.int("port").unwrap_or(0);
                each_number(errors, &path.child("port"), port, format::port_number(port));
            }
            "sleep" => {
                let seconds = action.int("seconds").unwrap_or(0);
                if let Some(grace) = context.grace.filter(|g| seconds < 0 || seconds > *g) {
                    errors.invalid(
                        &path,
                        seconds,
                        format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})"),
                    );
                }
            }
            _ => {}
        }
    }
    if !found {
        errors.required(path, "must specify a handler type");
    }
}

fn http_get(errors: &mut FieldErrors, path: &Path<'_>, action: &Value) {
    required(errors, &path.child("path"), action.text("path"));
    port_number_or_name(errors, &path.child("port"), action.at("port"));
    one_of(
        errors,
        &path.child("scheme"),
        action.text("scheme"),
        &["HTTP", "HTTPS"],
    );
    for header in action.list("httpHeaders") {
        let name = header.text("name");
        each(
            errors,
            &path.child("httpHeaders"),
            name,
            format::http_header_name(name),
        );
    }
}

pub(super) fn lifecycle(errors: &mut FieldErrors, path: &Path<'_>, container: &Value, context: &Context<'_>) {
    let Some(lifecycle) = container.at("lifecycle").some() else {
        return;
    };
    for hook in ["postStart", "preStop"] {
        if let Some(action) = lifecycle.at(hook).some() {
            handler(
                errors,
                &path.child(hook),
                action,
                &["exec", "httpGet", "tcpSocket", "sleep"],
                context,
            );
        }
    }
    if lifecycle.has("stopSignal") {
        let (path, signal) = (path.child("stopSignal"), lifecycle.text("stopSignal"));
        match context.os {
            None => errors.forbidden(&path, "may not be set for containers with empty `spec.os.name`"),
            Some("windows") => one_of(errors, &path, signal, &["SIGKILL", "SIGTERM"]),
            Some("linux") => {
                let all: Vec<&str> = LINUX_SIGNALS.split(' ').collect();
                one_of(errors, &path, signal, &all);
            }
            Some(_) => {}
        }
    }
}

const LINUX_SIGNALS: &str = "SIGABRT SIGALRM SIGBUS SIGCHLD SIGCLD SIGCONT SIGFPE SIGHUP SIGILL SIGINT SIGIO SIGIOT \
SIGKILL SIGPIPE SIGPOLL SIGPROF SIGPWR SIGQUIT SIGRTMAX SIGRTMAX-1 SIGRTMAX-10 SIGRTMAX-11 SIGRTMAX-12 SIGRTMAX-13 \
SIGRTMAX-14 SIGRTMAX-2 SIGRTMAX-3 SIGRTMAX-4 SIGRTMAX-5 SIGRTMAX-6 SIGRTMAX-7 SIGRTMAX-8 SIGRTMAX-9 SIGRTMIN \
SIGRTMIN+1 SIGRTMIN+10 SIGRTMIN+11 SIGRTMIN+12 SIGRTMIN+13 SIGRTMIN+14 SIGRTMIN+15 SIGRTMIN+2 SIGRTMIN+3 SIGRTMIN+4 \
SIGRTMIN+5 SIGRTMIN+6 SIGRTMIN+7 SIGRTMIN+8 SIGRTMIN+9 SIGSEGV SIGSTKFLT SIGSTOP SIGSYS SIGTERM SIGTRAP SIGTSTP \
SIGTTIN SIGTTOU SIGURG SIGUSR1 SIGUSR2 SIGVTALRM SIGWINCH SIGXCPU SIGXFSZ";
