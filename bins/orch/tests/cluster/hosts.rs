//! Hosts: network namespaces joined by one switch.

use std::{
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

static COUNT: AtomicU32 = AtomicU32::new(0);

pub(crate) fn sh(program: &str, args: &[&str]) -> String {
    let output = Command::new(program)
        .args(args)
        .output()
        .unwrap_or_else(|e| panic!("{program}: {e}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {}: {errors}", args.join(" "));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A set of hosts on one network, `192.168.77.1` onwards. Removed when dropped.
pub(crate) struct Hosts {
    names: Vec<String>,
    switch: String,
}

impl Hosts {
    pub(crate) fn new(count: usize) -> Self {
        let id = format!(
            "ot{}x{}",
            std::process::id() % 100_000,
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let switch = format!("{id}sw");
        let hosts = Self {
            names: (0..count).map(|n| format!("{id}h{n}")).collect(),
            switch,
        };
        sh("ip", &["netns", "add", &hosts.switch]);
        sh(
            "ip",
            &["-n", &hosts.switch, "link", "add", "br0", "type", "bridge"],
        );
        sh("ip", &["-n", &hosts.switch, "link", "set", "br0", "up"]);
        for (at, name) in hosts.names.iter().enumerate() {
            let (port, address) = (format!("p{at}"), format!("{}/24", Self::address(at)));
            sh("ip", &["netns", "add", name]);
            sh("ip", &["-n", name, "link", "set", "lo", "up"]);
            let switch = &hosts.switch;
            let pair = [
                "link", "add", "eth0", "netns", name, "type", "veth", "peer", "name", &port, "netns", switch,
            ];
            sh("ip", &pair);
            sh("ip", &["-n", switch, "link", "set", &port, "master", "br0", "up"]);
            sh("ip", &["-n", name, "addr", "add", &address, "dev", "eth0"]);
            sh("ip", &["-n", name, "link", "set", "eth0", "up"]);
        }
        hosts
    }

    pub(crate) fn address(at: usize) -> String {
        format!("192.168.77.{}", at + 1)
    }

    /// A command on host number `at`. Only its network is the host's; files are shared.
    pub(crate) fn on(&self, at: usize, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net=/run/netns/{}", self.names[at]))
            .arg(program)
            .stdin(Stdio::null());
        command
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for name in self.names.iter().chain([&self.switch]) {
            drop(Command::new("ip").args(["netns", "del", name]).output());
        }
    }
}
