//! What a simulated container does: a tiny shell language, overridden by annotations.
//!
//! The command line of a container or exec is read as `sh -c` text if it is one, otherwise as one statement. Statements
//! are separated by `;`: `echo WORDS`, `sleep SECONDS|infinity`, `exit CODE`, `cat`, `true`, `false`,
//! `trap 'exit CODE' TERM`, `trap '' TERM`; a trailing `& wait` means nothing. A command that is not of this language
//! runs until it is stopped (as a container) or succeeds at once (as an exec).
//!
//! Annotations of the pod, each also as `sim.orch.dev/CONTAINER.KEY` for one container:
//!
//! | key | meaning |
//! |---|---|
//! | `sim.orch.dev/start-delay` | milliseconds that starting takes |
//! | `sim.orch.dev/start-error` | starting fails with this text |
//! | `sim.orch.dev/run-for` | milliseconds after which it exits |
//! | `sim.orch.dev/exit-code` | code with which it exits |
//! | `sim.orch.dev/oom` | `true`: the exit is a kill by the out-of-memory killer |
//! | `sim.orch.dev/stop-delay` | milliseconds from the stop signal to the exit; `never` ignores the signal |
//! | `sim.orch.dev/stop-code` | exit code after the stop signal |
//! | `sim.orch.dev/exec-code` | exit code of each exec |
//! | `sim.orch.dev/probe` | `fail`: network probes fail; a number: HTTP status that they get |

use std::{collections::BTreeMap, time::Duration};

/// Prefix of all keys.
pub const PREFIX: &str = "sim.orch.dev/";

/// What a container does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Behaviour {
    /// Time that starting takes.
    pub start_delay: Duration,
    /// Starting fails with this text.
    pub start_error: Option<String>,
    /// Output and pauses in order.
    pub steps: Vec<Step>,
    /// Exit code after the steps; `None` runs on until stopped.
    pub exit: Option<i32>,
    /// The exit is an out-of-memory kill.
    pub oom: bool,
    /// Time from the stop signal to the exit; `None` ignores the signal.
    pub stop_delay: Option<Duration>,
    /// Exit code after the stop signal.
    pub stop_code: i32,
    /// Copies input to output until input ends.
    pub cat: bool,
}

/// One thing that a simulated process does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Writes a line to its output.
    Print(String),
    /// Waits.
    Sleep(Duration),
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            start_delay: Duration::ZERO,
            start_error: None,
            steps: Vec::new(),
            exit: None,
            oom: false,
            stop_delay: Some(Duration::ZERO),
            stop_code: 143,
            cat: false,
        }
    }
}

impl Behaviour {
    /// What a command line does; `unknown` is the exit of one that is not of the language.
    #[must_use]
    pub fn of_command(words: &[String], unknown: Option<i32>) -> Self {
        let text = match words {
            [] => {
                return Self {
                    exit: unknown,
                    ..Self::default()
                };
            }
            [shell, flag, text, ..] if shell.rsplit('/').next() == Some("sh") && flag == "-c" => text.clone(),
            words => words.join(" "),
        };
        Self::parse(&text).unwrap_or(Self {
            exit: unknown,
            ..Self::default()
        })
    }

    fn parse(text: &str) -> Option<Self> {
        let mut out = Self {
            exit: Some(0),
            ..Self::default()
        };
        for statement in text.split(';').map(str::trim).filter(|s| !s.is_empty()) {
            let statement = statement.strip_suffix("& wait").unwrap_or(statement).trim();
            let (word, rest) = statement.split_once(' ').unwrap_or((statement, ""));
            match word.rsplit('/').next().unwrap_or(word) {
                "echo" => out
                    .steps
                    .push(Step::Print(rest.trim_matches(['"', '\'']).to_owned())),
                "sleep" if rest == "infinity" => {
                    out.exit = None;
                    return Some(out);
                }
                "sleep" => out
                    .steps
                    .push(Step::Sleep(Duration::try_from_secs_f64(rest.parse().ok()?).ok()?)),
                "exit" => {
                    out.exit = Some(rest.parse().ok()?);
                    return Some(out);
                }
                "cat" => {
                    out.cat = true;
                    out.exit = Some(0);
                    return Some(out);
                }
                "true" => out.exit = Some(0),
                "false" => out.exit = Some(1),
                "trap" => {
                    let handler = rest.strip_suffix("TERM")?.trim().trim_matches('\'');
                    match handler.strip_prefix("exit ") {
                        Some(code) => out.stop_code = code.parse().ok()?,
                        None if handler.is_empty() => out.stop_delay = None,
                        None => return None,
                    }
                }
                _ => return None,
            }
        }
        Some(out)
    }

    /// Lets the annotations of a pod override what the container named `container` does.
    #[must_use]
    pub fn with_annotations(mut self, annotations: &BTreeMap<String, String>, container: &str) -> Self {
        let get = |key: &str| annotation(annotations, container, key);
        let millis = |key: &str| get(key).and_then(|v| v.parse().ok()).map(Duration::from_millis);
        if let Some(delay) = millis("start-delay") {
            self.start_delay = delay;
        }
        if let Some(reason) = get("start-error") {
            self.start_error = Some(reason.to_owned());
        }
        if let Some(run) = millis("run-for") {
            self.steps.push(Step::Sleep(run));
            self.exit = self.exit.or(Some(0));
        }
        if let Some(code) = get("exit-code").and_then(|v| v.parse().ok()) {
            self.exit = Some(code);
        }
        if get("oom") == Some("true") {
            self.oom = true;
            self.exit = Some(137);
        }
        match get("stop-delay") {
            Some("never") => self.stop_delay = None,
            Some(_) => self.stop_delay = millis("stop-delay").or(self.stop_delay),
            None => {}
        }
        if let Some(code) = get("stop-code").and_then(|v| v.parse().ok()) {
            self.stop_code = code;
        }
        self
    }
}

/// The value of a key for a container: the container's own if there is one, otherwise the pod's.
#[must_use]
pub fn annotation<'a>(
    annotations: &'a BTreeMap<String, String>,
    container: &str,
    key: &str,
) -> Option<&'a str> {
    annotations
        .get(&format!("{PREFIX}{container}.{key}"))
        .or_else(|| annotations.get(&format!("{PREFIX}{key}")))
        .map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(words: &[&str]) -> Behaviour {
        let words: Vec<String> = words.iter().map(ToString::to_string).collect();
        Behaviour::of_command(&words, None)
    }

    #[test]
    fn commands() {
        let plain = Behaviour {
            exit: Some(0),
            ..Behaviour::default()
        };
        let print = |s: &str| Step::Print(s.into());
        for (words, expected) in [
            (&["/nginx", "-g"][..], Behaviour::default()),
            (&[], Behaviour::default()),
            (
                &["sh", "-c", "exit 3"],
                Behaviour {
                    exit: Some(3),
                    ..plain.clone()
                },
            ),
            (
                &["/bin/sh", "-c", "echo a b; sleep 0.5; echo c"],
                Behaviour {
                    steps: vec![print("a b"), Step::Sleep(Duration::from_millis(500)), print("c")],
                    ..plain.clone()
                },
            ),
            (
                &["sh", "-c", "trap 'exit 0' TERM; sleep infinity & wait"],
                Behaviour {
                    stop_code: 0,
                    ..Behaviour::default()
                },
            ),
            (
                &["sh", "-c", "trap '' TERM; sleep infinity"],
                Behaviour {
                    stop_delay: None,
                    ..Behaviour::default()
                },
            ),
            (
                &["false"],
                Behaviour {
                    exit: Some(1),
                    ..plain.clone()
                },
            ),
            (&["sleep", "x"], Behaviour::default()),
            (&["cat"], Behaviour { cat: true, ..plain }),
        ] {
            assert_eq!(of(words), expected, "{words:?}");
        }
    }

    #[test]
    fn annotations_override_and_the_container_wins() {
        let annotations: BTreeMap<String, String> = [
            ("sim.orch.dev/exit-code", "1"),
            ("sim.orch.dev/b.exit-code", "2"),
            ("sim.orch.dev/run-for", "10"),
            ("sim.orch.dev/stop-delay", "never"),
        ]
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .into();
        let a = Behaviour::default().with_annotations(&annotations, "a");
        let b = Behaviour::default().with_annotations(&annotations, "b");
        assert_eq!((a.exit, b.exit, a.stop_delay), (Some(1), Some(2), None));
        assert_eq!(a.steps, [Step::Sleep(Duration::from_millis(10))]);
    }
}
