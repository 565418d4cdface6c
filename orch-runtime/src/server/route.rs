//! What a request asks for; pure.

use super::is_read;
use crate::logs::LogOptions;
use http::{Method, StatusCode};
use jiff::Timestamp;

/// A container as a path names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerTarget {
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub pod: String,
    /// UID of the pod, if the path has it.
    pub uid: Option<String>,
    /// Name of the container.
    pub container: String,
}

/// Which streams an exec or attach wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StreamParams {
    /// Input.
    pub stdin: bool,
    /// Output.
    pub stdout: bool,
    /// Error output.
    pub stderr: bool,
    /// Terminal.
    pub tty: bool,
}

/// A parsed request.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are those of the paths")]
pub enum Route {
    /// `/healthz`
    Health,
    /// `/pods`
    Pods,
    /// `/metrics`
    Metrics,
    /// `/metrics/resource`
    ResourceMetrics,
    /// `/stats/summary`
    Summary,
    /// `/containerLogs/{namespace}/{pod}/{container}`; times relative to now are left in `since_seconds`.
    Logs {
        namespace: String,
        pod: String,
        container: String,
        options: LogRequest,
        previous: bool,
    },
    /// `/run/{namespace}/{pod}[/{uid}]/{container}`
    Run {
        target: ContainerTarget,
        command: Vec<String>,
    },
    /// `/exec/{namespace}/{pod}[/{uid}]/{container}`
    Exec {
        target: ContainerTarget,
        command: Vec<String>,
        params: StreamParams,
    },
    /// `/attach/{namespace}/{pod}[/{uid}]/{container}`
    Attach {
        target: ContainerTarget,
        params: StreamParams,
    },
    /// `/portForward/{namespace}/{pod}[/{uid}]`
    Forward {
        namespace: String,
        pod: String,
        uid: Option<String>,
        ports: Vec<u16>,
    },
}

/// Log options before the clock is known.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogRequest {
    /// What does not depend on the clock.
    pub options: LogOptions,
    /// Only what was written in the last so many seconds.
    pub since_seconds: Option<u64>,
}

/// What a request does, in the words of authorization: a verb on a subresource of the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// `get`, `create` …
    pub verb: &'static str,
    /// `proxy`, `log`, `stats`, `metrics`, `pods`.
    pub subresource: &'static str,
}

type Refusal = (StatusCode, String);

fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = bytes
            .get(at + 1..at + 3)
            .and_then(|h| u8::from_str_radix(std::str::from_utf8(h).ok()?, 16).ok());
        match (bytes[at], hex) {
            (b'%', Some(byte)) => {
                out.push(byte);
                at += 3;
            }
            (b'+', _) => {
                out.push(b' ');
                at += 1;
            }
            (byte, _) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

struct Query(Vec<(String, String)>);

impl Query {
    fn parse(query: &str) -> Self {
        let pairs = query.split('&').filter(|p| !p.is_empty());
        Self(
            pairs
                .map(|p| p.split_once('=').unwrap_or((p, "")))
                .map(|(k, v)| (decode(k), decode(v)))
                .collect(),
        )
    }
    fn all(&self, name: &str) -> Vec<String> {
        self.0
            .iter()
            .filter(|(k, _)| k == name)
            .map(|(_, v)| v.clone())
            .collect()
    }
    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(k, _)| k == name).map(|(_, v)| v.as_str())
    }
    fn flag(&self, names: &[&str]) -> bool {
        names
            .iter()
            .any(|n| self.get(n).is_some_and(|v| matches!(v, "1" | "true")))
    }
    fn number(&self, name: &str) -> Result<Option<u64>, Refusal> {
        let Some(text) = self.get(name).filter(|t| !t.is_empty()) else {
            return Ok(None);
        };
        let bad = || {
            (
                StatusCode::BAD_REQUEST,
                r#"{"message": "Unable to decode query."}"#.to_owned(),
            )
        };
        let n: i64 = text.parse().map_err(|_| bad())?;
        u64::try_from(n).map(Some).map_err(|_| {
            (
                StatusCode::UNPROCESSABLE_ENTITY,
                r#"{"message": "Invalid request."}"#.to_owned(),
            )
        })
    }
    /// Which streams are wanted, in the words of the node's API or of the API server's.
    fn streams(&self) -> Result<StreamParams, Refusal> {
        let tty = self.flag(&["tty"]);
        let params = StreamParams {
            stdin: self.flag(&["input", "stdin"]),
            stdout: self.flag(&["output", "stdout"]),
            stderr: self.flag(&["error", "stderr"]) && !tty,
            tty,
        };
        if params.stdin || params.stdout || params.stderr {
            Ok(params)
        } else {
            Err((
                StatusCode::BAD_REQUEST,
                "you must specify at least 1 of stdin, stdout, stderr".into(),
            ))
        }
    }
    fn log(&self) -> Result<LogRequest, Refusal> {
        let tail = match self.get("tail") {
            Some("all") => None,
            Some(_) => self.number("tail")?,
            None => self.number("tailLines")?,
        };
        let since = match self.get("sinceTime").filter(|t| !t.is_empty()) {
            Some(text) => Some(text.parse::<Timestamp>().map_err(|_| {
                (
                    StatusCode::BAD_REQUEST,
                    r#"{"message": "Unable to decode query."}"#.to_owned(),
                )
            })?),
            None => None,
        };
        let only_stderr = match self.get("stream").unwrap_or("All") {
            "" | "All" => None,
            "Stdout" => Some(false),
            "Stderr" => Some(true),
            other => return Err((StatusCode::BAD_REQUEST, format!("invalid stream type {other:?}"))),
        };
        let options = LogOptions {
            follow: self.flag(&["follow"]),
            tail_lines: tail,
            since,
            timestamps: self.flag(&["timestamps"]),
            limit_bytes: self.number("limitBytes")?,
            only_stderr,
        };
        Ok(LogRequest {
            options,
            since_seconds: self.number("sinceSeconds")?,
        })
    }
}

fn target(parts: &[String]) -> Option<ContainerTarget> {
    let (namespace, pod, uid, container) = match parts {
        [namespace, pod, container] => (namespace, pod, None, container),
        [namespace, pod, uid, container] => (namespace, pod, Some(uid.clone()), container),
        _ => return None,
    };
    Some(ContainerTarget {
        namespace: namespace.clone(),
        pod: pod.clone(),
        uid,
        container: container.clone(),
    })
}

impl Route {
    /// Parses a request.
    ///
    /// # Errors
    /// Code and text of the refusal.
    pub fn parse(method: &Method, path: &str, query: &str) -> Result<Self, Refusal> {
        let parts: Vec<String> = path.split('/').filter(|p| !p.is_empty()).map(decode).collect();
        let query = Query::parse(query);
        let missing = || (StatusCode::NOT_FOUND, "404 page not found".to_owned());
        let (first, rest) = parts.split_first().ok_or_else(missing)?;
        let find = || target(rest).ok_or_else(missing);
        let route = match (first.as_str(), rest) {
            ("healthz" | "livez" | "readyz", _) => Self::Health,
            ("pods", []) => Self::Pods,
            ("metrics", []) => Self::Metrics,
            ("metrics", [which]) if which == "resource" => Self::ResourceMetrics,
            ("stats", [which]) if which == "summary" => Self::Summary,
            ("containerLogs", [namespace, pod, container]) => Self::Logs {
                namespace: namespace.clone(),
                pod: pod.clone(),
                container: container.clone(),
                options: query.log()?,
                previous: query.flag(&["previous"]),
            },
            ("run", _) => Self::Run {
                target: find()?,
                command: query
                    .get("cmd")
                    .map_or_else(Vec::new, |c| c.split(' ').map(str::to_owned).collect()),
            },
            ("exec", _) => Self::Exec {
                target: find()?,
                command: query.all("command"),
                params: query.streams()?,
            },
            ("attach", _) => Self::Attach {
                target: find()?,
                params: query.streams()?,
            },
            ("portForward", [namespace, pod, rest @ ..]) if rest.len() < 2 => {
                let ports: Result<Vec<u16>, _> = query
                    .all("port")
                    .iter()
                    .flat_map(|p| p.split(','))
                    .map(str::parse)
                    .collect();
                let ports =
                    ports.map_err(|_| (StatusCode::BAD_REQUEST, "unable to parse port".to_owned()))?;
                Self::Forward {
                    namespace: namespace.clone(),
                    pod: pod.clone(),
                    uid: rest.first().cloned(),
                    ports,
                }
            }
            _ => return Err(missing()),
        };
        let streams = matches!(
            route,
            Self::Exec { .. } | Self::Attach { .. } | Self::Forward { .. }
        );
        let fits = match route {
            Self::Run { .. } => *method == Method::POST,
            _ => is_read(method) || (streams && *method == Method::POST),
        };
        if fits {
            Ok(route)
        } else {
            Err((StatusCode::METHOD_NOT_ALLOWED, "405: Method Not Allowed".into()))
        }
    }

    /// What has to be allowed; `None` for what everybody with a certificate may do.
    #[must_use]
    pub fn access(&self, method: &Method) -> Option<Access> {
        let verb = if is_read(method) { "get" } else { "create" };
        let subresource = match self {
            Self::Health => return None,
            Self::Pods => "pods",
            Self::Metrics | Self::ResourceMetrics => "metrics",
            Self::Summary => "stats",
            // Also a GET runs something here.
            _ => "proxy",
        };
        Some(Access { verb, subresource })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(path: &str, query: &str) -> Result<Route, u16> {
        Route::parse(&Method::GET, path, query).map_err(|(code, _)| code.as_u16())
    }

    #[test]
    fn routes() {
        let target = |uid: Option<&str>| ContainerTarget {
            namespace: "n".into(),
            pod: "p".into(),
            uid: uid.map(str::to_owned),
            container: "c".into(),
        };
        assert_eq!(parse("/healthz", ""), Ok(Route::Health));
        assert_eq!(
            parse(
                "/exec/n/p/c",
                "command=sh&command=-c&command=a%20b+c&input=1&output=1&error=1&tty=1"
            ),
            Ok(Route::Exec {
                target: target(None),
                command: vec!["sh".into(), "-c".into(), "a b c".into()],
                params: StreamParams {
                    stdin: true,
                    stdout: true,
                    stderr: false,
                    tty: true
                },
            })
        );
        assert_eq!(
            parse("/attach/n/p/u/c", "stdout=true"),
            Ok(Route::Attach {
                target: target(Some("u")),
                params: StreamParams {
                    stdout: true,
                    ..StreamParams::default()
                },
            })
        );
        assert_eq!(
            parse("/portForward/n/p", "port=80,81&port=82"),
            Ok(Route::Forward {
                namespace: "n".into(),
                pod: "p".into(),
                uid: None,
                ports: vec![80, 81, 82]
            })
        );
        let logs = parse(
            "/containerLogs/n/p/c",
            "follow=true&tailLines=5&sinceSeconds=3&previous=true&limitBytes=9",
        );
        let Ok(Route::Logs {
            options, previous, ..
        }) = logs
        else {
            panic!("{logs:?}")
        };
        assert!(previous && options.options.follow);
        assert_eq!(
            (
                options.options.tail_lines,
                options.since_seconds,
                options.options.limit_bytes
            ),
            (Some(5), Some(3), Some(9))
        );
    }

    #[test]
    fn refusals() {
        for (path, query, code) in [
            ("/", "", 404),
            ("/nothing", "", 404),
            ("/exec/n/p", "output=1", 404),
            ("/exec/n/p/c", "", 400),
            ("/containerLogs/n/p/c", "tailLines=x", 400),
            ("/containerLogs/n/p/c", "tailLines=-1", 422),
            ("/containerLogs/n/p/c", "stream=x", 400),
            ("/portForward/n/p", "port=x", 400),
            ("/run/n/p/c", "cmd=ls", 405),
        ] {
            assert_eq!(parse(path, query), Err(code), "{path}?{query}");
        }
        let post = Route::parse(&Method::POST, "/pods", "").map_err(|(c, _)| c.as_u16());
        assert_eq!(post, Err(405));
    }

    #[test]
    fn access() {
        let of = |path: &str, query: &str| {
            parse(path, query)
                .unwrap()
                .access(&Method::GET)
                .map(|a| a.subresource)
        };
        assert_eq!(of("/healthz", ""), None);
        assert_eq!(of("/pods", ""), Some("pods"));
        assert_eq!(of("/stats/summary", ""), Some("stats"));
        assert_eq!(of("/exec/n/p/c", "output=1"), Some("proxy"));
        assert_eq!(of("/containerLogs/n/p/c", ""), Some("proxy"));
    }
}
