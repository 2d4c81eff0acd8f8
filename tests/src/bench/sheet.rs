//! The table that the bench prints.

use std::time::Duration;

use super::ms;

pub(super) fn head() {
    line("what", "figure", "bar");
}

/// One figure beside its bar; an empty string means no bar.
#[expect(clippy::print_stdout, reason = "the command's result")]
pub(super) fn line(what: &str, figure: &str, bar: &str) {
    println!("{what:58} {figure:>38}   {bar}");
}

/// Durations: median, 99th percentile and maximum.
pub(super) fn durations(what: &str, durations: &mut [Duration], bar: &str) {
    durations.sort_unstable();
    let at = |percent: usize| {
        let index = (durations.len() * percent / 100).min(durations.len().saturating_sub(1));
        durations.get(index).map_or(0.0, |duration| ms(*duration))
    };
    let figure = format!("p50 {:.1}, p99 {:.1}, worst {:.1} ms", at(50), at(99), at(100));
    line(what, &figure, bar);
}
