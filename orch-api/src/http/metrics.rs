//! Request counts and latencies, in the Prometheus text format with upstream's names.

use crate::server::{ApiServer, RawEndpoint, RequestInfo};
use async_trait::async_trait;
use orch_core::{
    Status, UserInfo,
    client::{ApiRequest, ApiResponse, ResponseBody},
};
use parking_lot::Mutex;
use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

/// Upper bounds of the latency histogram, in seconds.
const BOUNDS: [f64; 14] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0,
];
/// Label sets beyond this count as one: the labels come from the outside.
const MAX_SERIES: usize = 5_000;

#[derive(Default)]
struct Series {
    codes: BTreeMap<u16, u64>,
    buckets: [u64; BOUNDS.len()],
    count: u64,
    seconds: f64,
}

/// Counters of one server. Cheap to update; read through `/metrics`.
#[derive(Default)]
pub struct Metrics {
    series: Mutex<BTreeMap<String, Series>>,
    in_flight: AtomicI64,
    watches: AtomicI64,
    tls_failures: AtomicU64,
    unauthenticated: AtomicU64,
}

/// Counts something as going on until dropped.
#[derive(Debug)]
pub(super) struct Going<'a>(&'a AtomicI64);

impl Drop for Going<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Metrics {
    /// Counters at zero.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    pub(super) fn request_begins(&self) -> Going<'_> {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        Going(&self.in_flight)
    }
    pub(super) fn watch_begins(&self) {
        self.watches.fetch_add(1, Ordering::Relaxed);
    }
    pub(super) fn watch_ends(&self) {
        self.watches.fetch_sub(1, Ordering::Relaxed);
    }
    pub(super) fn handshake_failed(&self) {
        self.tls_failures.fetch_add(1, Ordering::Relaxed);
    }
    pub(super) fn unauthenticated(&self) {
        self.unauthenticated.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts one answered request.
    pub(super) fn answered(&self, info: &RequestInfo, code: u16, took: Duration) {
        let verb = match info.verb.as_str() {
            "get" => "GET",
            "list" => "LIST",
            "watch" => "WATCH",
            "create" | "post" => "POST",
            "update" | "put" => "PUT",
            "patch" => "PATCH",
            "delete" => "DELETE",
            "deletecollection" => "DELETECOLLECTION",
            _ => "OTHER",
        };
        // A resource that was not found may be any text; it is not worth a series.
        let known = info.resource_request && !(code == 404 && info.name.is_empty());
        let plain = |s: &str| {
            s.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
        };
        let (mut group, mut version, mut resource, mut sub) = ("", "", "", "");
        if known
            && [&info.group, &info.version, &info.resource, &info.subresource]
                .iter()
                .all(|s| plain(s))
        {
            (group, version, resource, sub) = (&info.group, &info.version, &info.resource, &info.subresource);
        }
        let labels = format!(
            "verb=\"{verb}\",group=\"{group}\",version=\"{version}\",resource=\"{resource}\",subresource=\"{sub}\""
        );
        let mut all = self.series.lock();
        let labels = if all.len() >= MAX_SERIES && !all.contains_key(&labels) {
            "verb=\"OTHER\"".to_owned()
        } else {
            labels
        };
        let series = all.entry(labels).or_default();
        *series.codes.entry(code).or_default() += 1;
        let seconds = took.as_secs_f64();
        if let Some(i) = BOUNDS.iter().position(|b| seconds <= *b) {
            series.buckets[i] += 1;
        }
        series.count += 1;
        series.seconds += seconds;
    }

    /// The text that a scraper gets.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        self.render(&mut out);
        out
    }

    fn render(&self, out: &mut String) {
        // Writing to a String cannot fail.
        let mut line = |l: std::fmt::Arguments<'_>| {
            let _ = out.write_fmt(l);
            out.push('\n');
        };
        let all = self.series.lock();
        line(format_args!(
            "# HELP apiserver_request_total Answered API requests."
        ));
        line(format_args!("# TYPE apiserver_request_total counter"));
        for (labels, series) in &*all {
            for (code, count) in &series.codes {
                line(format_args!(
                    "apiserver_request_total{{{labels},code=\"{code}\"}} {count}"
                ));
            }
        }
        line(format_args!(
            "# HELP apiserver_request_duration_seconds Time from request to the head of the answer."
        ));
        line(format_args!(
            "# TYPE apiserver_request_duration_seconds histogram"
        ));
        for (labels, series) in &*all {
            let mut below = 0;
            for (bound, count) in BOUNDS.iter().zip(series.buckets) {
                below += count;
                line(format_args!(
                    "apiserver_request_duration_seconds_bucket{{{labels},le=\"{bound}\"}} {below}"
                ));
            }
            let (count, sum) = (series.count, series.seconds);
            line(format_args!(
                "apiserver_request_duration_seconds_bucket{{{labels},le=\"+Inf\"}} {count}"
            ));
            line(format_args!(
                "apiserver_request_duration_seconds_sum{{{labels}}} {sum}"
            ));
            line(format_args!(
                "apiserver_request_duration_seconds_count{{{labels}}} {count}"
            ));
        }
        for (name, kind, help, value) in [
            (
                "apiserver_current_inflight_requests",
                "gauge",
                "Requests being answered.",
                self.in_flight.load(Ordering::Relaxed),
            ),
            (
                "apiserver_longrunning_requests",
                "gauge",
                "Open watches.",
                self.watches.load(Ordering::Relaxed),
            ),
            (
                "apiserver_tls_handshake_errors_total",
                "counter",
                "TLS handshakes that failed.",
                self.tls_failures.load(Ordering::Relaxed) as i64,
            ),
            (
                "authentication_attempts_failed_total",
                "counter",
                "Requests without accepted credentials.",
                self.unauthenticated.load(Ordering::Relaxed) as i64,
            ),
        ] {
            line(format_args!(
                "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}"
            ));
        }
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

#[async_trait]
impl RawEndpoint for Metrics {
    async fn call(&self, _: &ApiServer, _: &UserInfo, _: ApiRequest) -> Result<ApiResponse, Status> {
        let body = ResponseBody::Raw {
            content_type: "text/plain; version=0.0.4; charset=utf-8".into(),
            bytes: self.text().into(),
        };
        Ok(ApiResponse {
            code: 200,
            body,
            warnings: Vec::new(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scrape_shows_what_was_counted_and_nothing_foreign() {
        let metrics = Metrics::default();
        let get = RequestInfo::of(&ApiRequest::get("/api/v1/namespaces/a/pods/b"));
        metrics.answered(&get, 200, Duration::from_micros(700));
        metrics.answered(&get, 404, Duration::from_micros(100));
        metrics.answered(
            &RequestInfo::of(&ApiRequest::get("/api/v1/x\"y")),
            404,
            Duration::ZERO,
        );
        let text = metrics.text();
        let labels = "verb=\"GET\",group=\"\",version=\"v1\",resource=\"pods\",subresource=\"\"";
        assert!(text.contains(&format!("apiserver_request_total{{{labels},code=\"200\"}} 1\n")));
        assert!(text.contains(&format!(
            "apiserver_request_duration_seconds_bucket{{{labels},le=\"0.001\"}} 2\n"
        )));
        assert!(!text.contains("x\"y"));
    }
}
