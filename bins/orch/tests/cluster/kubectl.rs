//! Unmodified kubectl on a host.

use crate::hosts::Hosts;
use serde_json::Value;
use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

#[derive(Clone)]
pub(crate) struct Kubectl {
    namespace: String,
    kubeconfig: PathBuf,
}

impl Kubectl {
    pub(crate) fn new(hosts: &Hosts, at: usize, kubeconfig: &Path) -> Self {
        let probe = hosts.on(at, "true");
        let net = probe.get_args().next().unwrap().to_string_lossy().into_owned();
        Self {
            namespace: net,
            kubeconfig: kubeconfig.into(),
        }
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let kubectl = std::env::var("KUBECTL").unwrap_or_else(|_| "kubectl".into());
        let mut command = Command::new("nsenter");
        command
            .arg(&self.namespace)
            .arg(kubectl)
            .args(args)
            .env("KUBECONFIG", &self.kubeconfig);
        command.stdin(std::process::Stdio::null());
        command
    }

    fn output(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs to success and returns what it printed.
    pub(crate) fn run(&self, args: &[&str]) -> String {
        let output = self.output(args);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "kubectl {}: {errors}", args.join(" "));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs, whatever comes of it.
    pub(crate) fn try_run(&self, args: &[&str]) -> String {
        let output = self.output(args);
        String::from_utf8_lossy(if output.status.success() {
            &output.stdout
        } else {
            &output.stderr
        })
        .into_owned()
    }

    /// Runs to failure and returns the error.
    pub(crate) fn fails(&self, args: &[&str]) -> String {
        let output = self.output(args);
        assert!(!output.status.success(), "kubectl {} should fail", args.join(" "));
        String::from_utf8_lossy(&output.stderr).trim().to_owned()
    }

    /// The pods of `app=web` that are ready and not on their way out: (name, node, restarts).
    pub(crate) fn ready_pods(&self, selector: &str) -> Vec<(String, String, i64)> {
        let list = self.try_run(&["get", "pods", "-l", selector, "-o", "json"]);
        let list: Value = serde_json::from_str(&list).unwrap_or_default();
        let items = list["items"].as_array().cloned().unwrap_or_default();
        let ready = items.iter().filter(|p| {
            let conditions = p["status"]["conditions"].as_array().cloned().unwrap_or_default();
            p["metadata"]["deletionTimestamp"].is_null()
                && conditions
                    .iter()
                    .any(|c| c["type"] == "Ready" && c["status"] == "True")
        });
        ready
            .map(|p| {
                let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
                let restarts = p["status"]["containerStatuses"][0]["restartCount"]
                    .as_i64()
                    .unwrap_or(-1);
                (
                    text(&p["metadata"]["name"]),
                    text(&p["spec"]["nodeName"]),
                    restarts,
                )
            })
            .collect()
    }
}
