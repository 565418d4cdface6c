//! What agent and shim say to each other, and the files that they share.
//!
//! Over a unix stream socket go frames, `length: u32 little endian | tag: u8 | payload`, where the length counts tag
//! and payload. A [`TAG_MESSAGE`] holds one [`Request`] or [`Reply`] as JSON; the others hold bytes of a stream.
//! Descriptors travel beside the frame that speaks of them (`SCM_RIGHTS`).

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A [`Request`] or [`Reply`].
pub(crate) const TAG_MESSAGE: u8 = 1;
/// Bytes of standard output, or of the terminal.
pub(crate) const TAG_STDOUT: u8 = 2;
/// Bytes of standard error.
pub(crate) const TAG_STDERR: u8 = 3;
/// Bytes for standard input; none is its end.
pub(crate) const TAG_STDIN: u8 = 4;

/// Longest frame taken.
const FRAME_MAX: usize = 16 << 20;

/// First argument (`argv[0]`) by which a program knows that it is to be a shim.
pub(crate) const SHIM_ARG0: &str = "orch-shim";
/// The shim's socket in the container's directory.
pub(crate) const SOCKET: &str = "shim.sock";
/// Directory of private binds in the container's directory.
pub(crate) const BINDS: &str = "vol";
/// Held locked by the shim while it lives; holds its process ID.
pub(crate) const LOCK_FILE: &str = "shim.lock";
/// The shim's configuration in the container's directory, written by the agent.
pub(crate) const CONFIG_FILE: &str = "shim.json";
/// What the shim records in the container's directory.
pub(crate) const RECORD_FILE: &str = "record.json";
/// The OCI bundle's configuration in the container's directory.
pub(crate) const BUNDLE_FILE: &str = "config.json";

/// From agent to shim.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Request {
    /// Tell when the container ends.
    Watch,
    /// Send a signal to the container's first process.
    Signal(i32),
    /// Connect to the streams; implies `Watch`.
    Attach { stdin: bool, stdout: bool, stderr: bool },
    /// Set the size of the terminal.
    Resize { width: u16, height: u16 },
    /// Open the log file anew.
    ReopenLog,
    /// Run an OCI process in the container. Without a terminal, three descriptors come along for its streams; with
    /// one, its master side comes with [`Reply::Running`]. Closing the connection kills the process.
    Exec { process: serde_json::Value, tty: bool },
}

/// From shim to agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Reply {
    /// Done.
    Done,
    /// It could not be done.
    Failed { message: String },
    /// The process runs.
    Running { pid: u32 },
    /// The process of an exec ended, with 128 + N for signal N.
    ExecEnded { code: i32 },
    /// The container ended; the record is written.
    Ended,
}

/// What the shim is to run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ShimConfig {
    /// Container ID.
    pub(crate) id: String,
    /// Who makes the container.
    pub(crate) backend: OciBackend,
    /// Directory of the unpacked layers, and the names of this image's in it, lowest first.
    pub(crate) layers_dir: PathBuf,
    pub(crate) layers: Vec<String>,
    /// Mount in a namespace of the shim's own, so that nothing is left mounted when it ends. Off when a volume must
    /// spread mounts back to the machine.
    pub(crate) private_mounts: bool,
    /// Volumes that nothing mounted below may spread into, by their number: what of the machine they show.
    pub(crate) private_binds: BTreeMap<usize, PathBuf>,
    /// Who to run as; needs the image's files to be resolved.
    pub(crate) user: UserRequest,
    /// The OCI configuration, except for the user.
    pub(crate) spec: serde_json::Value,
    /// System call filter that the embedded OCI runtime's last step installs.
    pub(crate) seccomp: Option<crate::seccomp::Profile>,
    /// Wanted adjustment of the out-of-memory killer's badness.
    pub(crate) oom_score_adj: i32,
    /// CRI log file.
    pub(crate) log_path: PathBuf,
    pub(crate) tty: bool,
    pub(crate) stdin: bool,
    pub(crate) stdin_once: bool,
    /// Control group of the container, relative to the hierarchy's root.
    pub(crate) cgroup: String,
    /// Kill what is left in the control group when the first process has ended: it is not alone in a process
    /// namespace that would end with it.
    pub(crate) kill_all: bool,
}

/// Who makes containers out of OCI bundles.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum OciBackend {
    /// The embedded one; needs nothing on the machine.
    #[default]
    Libcontainer,
    /// A program with runc's command line, such as `/usr/bin/crun`.
    Binary(PathBuf),
}

/// Who a process is to run as.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct UserRequest {
    /// The image's word for it: `user[:group]`, numbers or names.
    pub(crate) image_user: String,
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
    pub(crate) supplemental: Vec<u32>,
    /// Add the groups that the image's `/etc/group` gives to the user.
    pub(crate) merge_image_groups: bool,
}

/// What the shim records, replaced as a whole. Times are nanoseconds since the epoch.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) pid: u32,
    pub(crate) shim_pid: u32,
    /// `None` if the container never ran.
    pub(crate) started_at: Option<i64>,
    pub(crate) exit: Option<ExitRecord>,
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct ExitRecord {
    pub(crate) code: i32,
    pub(crate) oom: bool,
    pub(crate) message: String,
    pub(crate) start_error: bool,
    pub(crate) finished_at: i64,
}

/// Appends a frame to `out`.
pub(crate) fn put_frame(out: &mut Vec<u8>, tag: u8, payload: &[u8]) {
    let length = u32::try_from(payload.len() + 1).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_le_bytes());
    out.push(tag);
    out.extend_from_slice(payload);
}

/// Appends a message to `out`.
pub(crate) fn put_message(out: &mut Vec<u8>, message: &impl Serialize) {
    // Types of this module always serialize.
    let json = serde_json::to_vec(message).unwrap_or_default();
    put_frame(out, TAG_MESSAGE, &json);
}

/// One whole frame at the start of `input`: its tag, the range of its payload, and its end.
///
/// `Err` if what comes is no frame.
pub(crate) fn next_frame(input: &[u8]) -> Result<Option<(u8, std::ops::Range<usize>)>, ()> {
    let Some(head) = input.first_chunk::<4>() else {
        return Ok(None);
    };
    let length = u32::from_le_bytes(*head) as usize;
    if length == 0 || length > FRAME_MAX {
        return Err(());
    }
    if input.len() < 4 + length {
        return Ok(None);
    }
    Ok(Some((input[4], 5..4 + length)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn frames_survive_any_cut(frames in proptest::collection::vec((1u8..5, proptest::collection::vec(any::<u8>(), 0..50)), 0..8), step in 1usize..20) {
            let mut wire = Vec::new();
            for (tag, payload) in &frames {
                put_frame(&mut wire, *tag, payload);
            }
            let (mut input, mut seen) = (Vec::new(), Vec::new());
            for chunk in wire.chunks(step) {
                input.extend_from_slice(chunk);
                while let Ok(Some((tag, range))) = next_frame(&input) {
                    let end = range.end;
                    seen.push((tag, input[range].to_vec()));
                    input.drain(..end);
                }
            }
            prop_assert_eq!(seen, frames);
            prop_assert!(input.is_empty());
        }
    }

    #[test]
    fn nonsense_is_refused() {
        assert_eq!(next_frame(&[0, 0, 0, 0]), Err(()));
        assert_eq!(next_frame(&[255, 255, 255, 255, 1]), Err(()));
        assert_eq!(next_frame(&[2, 0, 0]), Ok(None));
    }
}
