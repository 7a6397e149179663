//! What the system says about this process, under the names that every Prometheus client uses.

use super::page::{Kind, Page};

/// Adds what can be found out.
pub(super) fn write(page: &mut Page) {
    let read = |file: &str| std::fs::read_to_string(format!("/proc/{file}")).unwrap_or_default();
    let stat = read("self/stat");
    // The second field is the program's name in parentheses, and may hold anything.
    let fields: Vec<f64> = stat
        .rsplit_once(") ")
        .map(|(_, rest)| rest.split(' ').map(|field| field.parse().unwrap_or(0.0)).collect())
        .unwrap_or_default();
    let field = |number: usize| fields.get(number - 3).copied().unwrap_or(0.0);
    let ticks = rustix::param::clock_ticks_per_second() as f64;
    let page_size = rustix::param::page_size() as f64;
    let boot = read("stat");
    let boot =
        boot.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse::<f64>().ok());
    let limits = read("self/limits");
    let most = limits.lines().find_map(|line| {
        line.strip_prefix("Max open files")?.split_whitespace().next()?.parse::<f64>().ok()
    });
    let open = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);

    let cpu = (field(14) + field(15)) / ticks;
    page.single(
        "process_cpu_seconds_total",
        "Total user and system CPU time spent in seconds.",
        Kind::Counter,
        cpu,
    );
    page.single("process_open_fds", "Number of open file descriptors.", Kind::Gauge, open as f64);
    if let Some(most) = most {
        let help = "Maximum number of open file descriptors.";
        page.single("process_max_fds", help, Kind::Gauge, most);
    }
    let help = "Virtual memory size in bytes.";
    page.single("process_virtual_memory_bytes", help, Kind::Gauge, field(23));
    let help = "Resident memory size in bytes.";
    page.single("process_resident_memory_bytes", help, Kind::Gauge, field(24) * page_size);
    let help = "Number of operating system threads in the process.";
    page.single("process_threads", help, Kind::Gauge, field(20));
    if let Some(boot) = boot {
        let help = "Start time of the process since unix epoch in seconds.";
        page.single("process_start_time_seconds", help, Kind::Gauge, boot + field(22) / ticks);
    }
}
