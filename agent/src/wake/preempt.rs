//! Whether this kernel takes the CPU from a task while that is in a probe.
//!
//! A trampoline (fentry, fexit) runs its program preemptible, and leaves it out where the same program
//! has begun on this CPU and not ended: two writers on one CPU, the first preempted within the
//! program, and the second one's write is announced to nobody (some 1 in 1,000 bursts under stress).
//! Tracepoints run theirs with preemption off. So fexit is no rung on a preemptible kernel; where the
//! model cannot be told, the kernel's count of programs left out tells it while running.

use std::fs;

/// Why trampolines lose writes here, or `None` when they do not, or it cannot be told.
pub(super) fn why_not_trampolines() -> Option<String> {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let model = model(
        &read("/sys/kernel/debug/sched/preempt"),
        &read("/proc/cmdline"),
        &read("/proc/version"),
    )?;
    Some(format!(
        "this kernel preempts tasks within a probe ({model}), and then leaves out the next one's; \
         preempt=voluntary would allow it"
    ))
}

/// The model, when it is a preemptible one. The scheduler's own file has it in brackets, `none
/// (voluntary) full`; below a lazy one tasks are preempted at the tick.
fn model(scheduler: &str, line: &str, version: &str) -> Option<String> {
    let preemptible = |model: &str| matches!(model, "full" | "lazy");
    let bracketed = |word: &str| Some(word.strip_prefix('(')?.strip_suffix(')')?.to_owned());
    if let Some(model) = scheduler.split_whitespace().find_map(bracketed) {
        return preemptible(&model).then_some(model);
    }
    let asked = line.split_whitespace().rev();
    if let Some(model) = asked
        .filter_map(|word| word.strip_prefix("preempt="))
        .next()
    {
        return preemptible(model).then(|| model.to_owned());
    }
    let fixed = ["PREEMPT", "PREEMPT_RT"];
    let mut words = version.split_whitespace();
    words.find(|word| fixed.contains(word)).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_is_the_schedulers_or_the_command_lines_or_the_builds() {
        let dynamic = "Linux version 6.12 (gcc) #1 SMP PREEMPT_DYNAMIC Debian";
        let fixed = "Linux version 6.12 (gcc) #1 SMP PREEMPT_RT Debian";
        let cases = [
            ("none (voluntary) full", "preempt=full", fixed, None),
            ("none voluntary (full)", "", dynamic, Some("full")),
            ("none voluntary full (lazy)", "", dynamic, Some("lazy")),
            ("", "quiet preempt=full", dynamic, Some("full")),
            ("", "quiet preempt=none", dynamic, None),
            ("", "quiet", dynamic, None),
            ("", "quiet", fixed, Some("PREEMPT_RT")),
        ];
        for (scheduler, line, version, want) in cases {
            let got = model(scheduler, line, version);
            assert_eq!(got.as_deref(), want, "{scheduler} {line} {version}");
        }
    }
}
