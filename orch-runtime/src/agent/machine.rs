//! What the machine is and how it does, behind a seam so that a simulated node can be any machine.

use std::{fs, path::PathBuf};

/// What does not change while the machine runs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MachineFacts {
    /// Number of cores.
    pub cpus: u32,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Size of the file system for pods, in bytes.
    pub storage_bytes: u64,
    /// Version of the kernel.
    pub kernel_version: String,
    /// Name of the operating system's release.
    pub os_image: String,
    /// Architecture in Go's words: `amd64`, `arm64`.
    pub architecture: String,
    /// ID of the installation.
    pub machine_id: String,
    /// ID of the hardware.
    pub system_uuid: String,
    /// ID of this boot.
    pub boot_id: String,
}

/// What the machine is short of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pressure {
    /// Memory.
    pub memory: bool,
    /// Disk.
    pub disk: bool,
    /// Process IDs.
    pub pids: bool,
}

/// A machine.
pub trait Machine: Send + Sync + 'static {
    /// What it is.
    fn facts(&self) -> MachineFacts;
    /// What it is short of now.
    fn pressure(&self) -> Pressure;
}

/// A machine made up.
#[derive(Debug, Clone, Default)]
pub struct FixedMachine(pub MachineFacts);

impl FixedMachine {
    /// A machine with so many cores and so much memory.
    #[must_use]
    pub fn new(cpus: u32, memory_bytes: u64) -> Self {
        Self(MachineFacts {
            cpus,
            memory_bytes,
            storage_bytes: 100 << 30,
            kernel_version: "6.1.0".into(),
            os_image: "Simulated".into(),
            architecture: "amd64".into(),
            ..MachineFacts::default()
        })
    }
}

impl Machine for FixedMachine {
    fn facts(&self) -> MachineFacts {
        self.0.clone()
    }
    fn pressure(&self) -> Pressure {
        Pressure::default()
    }
}

/// This machine.
#[derive(Debug, Clone)]
pub struct HostMachine {
    storage: PathBuf,
}

/// Less available memory than this is pressure (upstream's default hard eviction threshold).
const MEMORY_FLOOR_BYTES: u64 = 100 << 20;

impl HostMachine {
    /// This machine, with pods on the file system of `storage`.
    #[must_use]
    pub fn new(storage: impl Into<PathBuf>) -> Self {
        Self {
            storage: storage.into(),
        }
    }

    fn storage(&self) -> Option<rustix::fs::StatVfs> {
        // The directory may not exist yet.
        self.storage
            .ancestors()
            .find_map(|dir| rustix::fs::statvfs(dir).ok())
    }
}

fn line_of(path: &str) -> String {
    fs::read_to_string(path)
        .map(|s| s.trim().to_owned())
        .unwrap_or_default()
}

fn meminfo(key: &str) -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text
        .lines()
        .find_map(|l| l.strip_prefix(key)?.strip_prefix(':'))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

fn os_image() -> String {
    let text = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix("PRETTY_NAME="));
    line.map_or_else(|| "Linux".to_owned(), |name| name.trim_matches('"').to_owned())
}

impl Machine for HostMachine {
    fn facts(&self) -> MachineFacts {
        let cpus = std::thread::available_parallelism().map_or(1, |n| n.get());
        MachineFacts {
            cpus: u32::try_from(cpus).unwrap_or(u32::MAX),
            memory_bytes: meminfo("MemTotal").unwrap_or(0),
            storage_bytes: self
                .storage()
                .map_or(0, |s| s.f_blocks.saturating_mul(s.f_frsize)),
            kernel_version: line_of("/proc/sys/kernel/osrelease"),
            os_image: os_image(),
            architecture: match std::env::consts::ARCH {
                "x86_64" => "amd64",
                "aarch64" => "arm64",
                "x86" => "386",
                other => other,
            }
            .into(),
            machine_id: line_of("/etc/machine-id"),
            system_uuid: match line_of("/sys/class/dmi/id/product_uuid") {
                id if id.is_empty() => line_of("/etc/machine-id"),
                id => id,
            },
            boot_id: line_of("/proc/sys/kernel/random/boot_id"),
        }
    }

    fn pressure(&self) -> Pressure {
        let disk = self.storage().is_some_and(|s| {
            let tenth = s.f_blocks / 10;
            s.f_bavail < tenth || (s.f_files > 0 && s.f_favail < s.f_files / 20)
        });
        let number = |path: &str| line_of(path).parse::<u64>().ok();
        let running = line_of("/proc/loadavg")
            .split('/')
            .nth(1)
            .and_then(|t| t.split(' ').next()?.parse::<u64>().ok());
        let pids = match (running, number("/proc/sys/kernel/pid_max")) {
            (Some(used), Some(max)) => used > max - max / 20,
            _ => false,
        };
        Pressure {
            memory: meminfo("MemAvailable").is_some_and(|free| free < MEMORY_FLOOR_BYTES),
            disk,
            pids,
        }
    }
}
