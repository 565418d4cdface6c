//! The last step inside the container: turns the prepared process into the program.

use crate::seccomp::Instruction;
use libcontainer::oci_spec::runtime::Spec;
use libcontainer::workload::{Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError};
use rustix::fs::Access;
use std::cell::RefCell;
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;

/// Runs the program of an OCI process, with the environment in its given order and default signals, and tells why
/// when that fails.
#[derive(Clone)]
pub(crate) struct Program {
    /// Where a failure is told; the kernel closes it when the program runs.
    failure: Option<Rc<OwnedFd>>,
    environment: Rc<RefCell<HashMap<String, String>>>,
    filter: Rc<Vec<Instruction>>,
}

impl Program {
    /// `failure` gets the reason if the program cannot be executed.
    pub(crate) fn new(failure: Option<OwnedFd>, filter: Vec<Instruction>) -> Self {
        Self {
            failure: failure.map(Rc::new),
            environment: Rc::default(),
            filter: Rc::new(filter),
        }
    }
}

impl Executor for Program {
    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        let process = spec.process().as_ref();
        let Some([name, args @ ..]) = process.and_then(|p| p.args().as_deref()) else {
            return Err(ExecutorError::InvalidArg);
        };
        let mut command = Command::new(name);
        command.args(args).env_clear();
        let environment = self.environment.borrow();
        let mut rest: Vec<&String> = environment.keys().collect();
        for entry in process.and_then(|p| p.env().as_deref()).unwrap_or_default() {
            let key = entry.split_once('=').map_or(entry.as_str(), |(key, _)| key);
            if let Some(value) = environment.get(key) {
                command.env(key, value);
                rest.retain(|k| *k != key);
            }
        }
        rest.sort();
        for key in rest {
            command.env(key, &environment[key]);
        }
        // As late as can be, for a filter need not allow what comes before.
        let filtered = if self.filter.is_empty() {
            Ok(())
        } else {
            crate::sys::install_filter(&self.filter)
        };
        let reason = match filtered {
            Ok(()) => format!("exec {name}: {}", plain(&command.exec())),
            Err(e) => format!("install the system call filter: {}", plain(&e)),
        };
        if let Some(failure) = &self.failure {
            // If nobody listens any more, the exit code alone has to tell.
            let _ = rustix::io::write(failure, reason.as_bytes());
        }
        Err(ExecutorError::Other(reason))
    }

    fn validate(&self, spec: &Spec) -> Result<(), ExecutorValidationError> {
        let process = spec.process().as_ref();
        let fail = |reason: String| Err(ExecutorValidationError::ArgValidationError(reason));
        let Some(name) = process.and_then(|p| p.args().as_ref()).and_then(|a| a.first()) else {
            return fail("no command specified".into());
        };
        if name.contains('/') {
            return match runnable(Path::new(name)) {
                Ok(()) => Ok(()),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                    fail(format!("exec: {name:?}: stat {name}: {}", plain(&e)))
                }
                Err(e) => fail(format!("exec: {name:?}: {}", plain(&e))),
            };
        }
        let environment = process.and_then(|p| p.env().as_deref()).unwrap_or_default();
        let path = environment
            .iter()
            .rev()
            .find_map(|e| e.strip_prefix("PATH="))
            .unwrap_or_default();
        let found = path
            .split(':')
            .any(|dir| runnable(&PathBuf::from(if dir.is_empty() { "." } else { dir }).join(name)).is_ok());
        if found {
            Ok(())
        } else {
            fail(format!("exec: {name:?}: executable file not found in $PATH"))
        }
    }

    fn setup_envs(&self, envs: HashMap<String, String>) -> Result<(), ExecutorSetEnvsError> {
        *self.environment.borrow_mut() = envs;
        Ok(())
    }
}

fn runnable(path: &Path) -> std::io::Result<()> {
    if std::fs::metadata(path)?.is_dir() {
        return Err(std::io::ErrorKind::IsADirectory.into());
    }
    Ok(rustix::fs::access(path, Access::EXEC_OK)?)
}

/// An error of the system in the words of C, without Rust's `(os error 2)`.
pub(crate) fn plain(e: &std::io::Error) -> String {
    let text = e.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut chars = text.chars();
    chars
        .next()
        .map(|c| c.to_lowercase().chain(chars).collect())
        .unwrap_or_default()
}
