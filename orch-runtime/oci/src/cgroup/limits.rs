//! Which file gets which value: pure.

use orch_runtime::runtime::Resources;

/// Files of version 1: controller, file, value.
pub(crate) fn v1_files(r: &Resources) -> Vec<(&'static str, &'static str, String)> {
    let mut files = Vec::new();
    if r.cpu_shares > 0 {
        files.push(("cpu", "cpu.shares", r.cpu_shares.to_string()));
    }
    if r.cpu_period_us > 0 {
        files.push(("cpu", "cpu.cfs_period_us", r.cpu_period_us.to_string()));
    }
    if let Some(quota) = r.cpu_quota_us {
        files.push((
            "cpu",
            "cpu.cfs_quota_us",
            if quota > 0 { quota } else { -1 }.to_string(),
        ));
    }
    if let Some(limit) = r.memory_limit_bytes {
        files.push(("memory", "memory.limit_in_bytes", unlimited_is(limit, "-1")));
    }
    if let Some(limit) = r.memory_swap_limit_bytes {
        files.push(("memory", "memory.memsw.limit_in_bytes", unlimited_is(limit, "-1")));
    }
    if let Some(limit) = r.pids_limit {
        files.push(("pids", "pids.max", unlimited_is(limit, "max")));
    }
    if !r.cpuset_cpus.is_empty() {
        files.push(("cpuset", "cpuset.cpus", r.cpuset_cpus.clone()));
    }
    files
}

/// Files of version 2 and their values.
pub(crate) fn v2_files(r: &Resources) -> Vec<(String, String)> {
    let mut files = Vec::new();
    let mut put = |file: &str, value: String| files.push((file.to_owned(), value));
    if r.cpu_shares > 0 {
        put("cpu.weight", weight(r.cpu_shares).to_string());
    }
    if r.cpu_quota_us.is_some() || r.cpu_period_us > 0 {
        let quota = r
            .cpu_quota_us
            .filter(|q| *q > 0)
            .map_or("max".to_owned(), |q| q.to_string());
        let period = if r.cpu_period_us > 0 {
            r.cpu_period_us
        } else {
            100_000
        };
        put("cpu.max", format!("{quota} {period}"));
    }
    if let Some(limit) = r.memory_limit_bytes {
        put("memory.max", unlimited_is(limit, "max"));
    }
    if let Some(both) = r.memory_swap_limit_bytes {
        let swap = both.saturating_sub(r.memory_limit_bytes.unwrap_or(0));
        put(
            "memory.swap.max",
            if both == 0 { "max".into() } else { swap.to_string() },
        );
    }
    if let Some(limit) = r.pids_limit {
        put("pids.max", unlimited_is(limit, "max"));
    }
    if !r.cpuset_cpus.is_empty() {
        put("cpuset.cpus", r.cpuset_cpus.clone());
    }
    for (file, value) in r.unified.iter().filter(|(file, _)| is_plain_file(file)) {
        put(file, value.clone());
    }
    files
}

/// A name that stays in the group's own directory.
fn is_plain_file(name: &str) -> bool {
    name.contains('.') && !name.contains('/') && !name.starts_with('.')
}

fn unlimited_is(limit: u64, word: &str) -> String {
    if limit == 0 {
        word.to_owned()
    } else {
        limit.to_string()
    }
}

/// Weight of version 2 (1 to 10000) for shares of version 1 (2 to 262144), as runc converts them.
fn weight(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142
}
