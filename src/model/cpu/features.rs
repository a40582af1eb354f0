//! Instruction sets and name of the CPU.

/// Instruction sets that kernels are selected by, with whether this CPU has each.
pub fn cpu_features() -> Vec<(&'static str, bool)> {
    #[cfg(target_arch = "x86_64")]
    macro_rules! all {
        ($($name:tt),*) => { vec![$(($name, std::arch::is_x86_feature_detected!($name))),*] };
    }
    #[cfg(target_arch = "x86_64")]
    return all!(
        "avx2",
        "fma",
        "f16c",
        "avxvnni",
        "avx512f",
        "avx512bw",
        "avx512vnni",
        "avx512bf16"
    );
    #[cfg(target_arch = "aarch64")]
    macro_rules! all {
        ($($name:tt),*) => { vec![$(($name, std::arch::is_aarch64_feature_detected!($name))),*] };
    }
    #[cfg(target_arch = "aarch64")]
    return all!("neon", "dotprod", "i8mm", "fp16", "bf16", "sve");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    Vec::new()
}

/// Returns the model name of the CPU, or `None` if the system doesn't report it.
pub fn cpu_name() -> Option<String> {
    let text = match std::env::consts::OS {
        "linux" => std::fs::read_to_string("/proc/cpuinfo").ok()?,
        "macos" => {
            let out = std::process::Command::new("/usr/sbin/sysctl")
                .args(["-n", "machdep.cpu.brand_string"])
                .output()
                .ok()?;
            format!("model name:{}", String::from_utf8_lossy(&out.stdout))
        }
        _ => return None,
    };
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    line.split_once(':').map(|(_, name)| name.trim().to_owned()).filter(|name| !name.is_empty())
}
