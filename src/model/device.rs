//! Selection of the device that runs the model.

use std::fmt;
use std::str::FromStr;

use candle_core::Device;

/// Device requested by the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum DeviceChoice {
    /// The first GPU that this build supports and this machine has, otherwise the CPU.
    #[default]
    Auto,
    /// The CPU, with the kernels of this crate.
    Cpu,
    /// A CUDA GPU, by index.
    Cuda(usize),
    /// An Apple GPU, through Metal.
    Metal,
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        match s {
            "auto" => Ok(DeviceChoice::Auto),
            "cpu" => Ok(DeviceChoice::Cpu),
            "cuda" => Ok(DeviceChoice::Cuda(0)),
            "metal" => Ok(DeviceChoice::Metal),
            _ => match s.strip_prefix("cuda:").map(str::parse) {
                Some(Ok(n)) => Ok(DeviceChoice::Cuda(n)),
                _ => Err(format!("unknown device \"{s}\": give auto, cpu, cuda, cuda:N or metal")),
            },
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            DeviceChoice::Auto => f.write_str("auto"),
            DeviceChoice::Cpu => f.write_str("cpu"),
            DeviceChoice::Cuda(n) => write!(f, "cuda:{n}"),
            DeviceChoice::Metal => f.write_str("metal"),
        }
    }
}

/// Error for a requested device that is not available.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// Device without support in this build.
    #[error("device {requested}: built without the {feature} feature")]
    NotBuilt {
        /// Device that was requested.
        requested: DeviceChoice,
        /// Feature of the package that supports it.
        feature: &'static str,
    },
    /// Device that can't be opened.
    #[error("device {requested}: can't be opened ({why})")]
    Unopened {
        /// Device that was requested.
        requested: DeviceChoice,
        /// Reason, in one line.
        why: String,
    },
}

impl DeviceChoice {
    /// Opens the device.
    ///
    /// # Errors
    /// If a GPU was requested explicitly, and this build does not support it or this machine lacks
    /// it.
    pub fn open(self) -> Result<Device, DeviceError> {
        let absent = |feature| DeviceError::NotBuilt { requested: self, feature };
        let unopened = |error: candle_core::Error| DeviceError::Unopened {
            requested: self,
            why: one_line(&error),
        };
        match self {
            DeviceChoice::Cpu => Ok(Device::Cpu),
            DeviceChoice::Cuda(_) if !cfg!(feature = "cuda") => Err(absent("cuda")),
            DeviceChoice::Metal if !cfg!(feature = "metal") => Err(absent("metal")),
            DeviceChoice::Cuda(n) => new_cuda(n).map_err(unopened),
            DeviceChoice::Metal => Device::new_metal(0).map_err(unopened),
            DeviceChoice::Auto => {
                let gpu = if cfg!(feature = "cuda") { new_cuda(0) } else { Device::new_metal(0) };
                Ok(gpu.unwrap_or(Device::Cpu))
            }
        }
    }
}

fn new_cuda(n: usize) -> candle_core::Result<Device> {
    let device = Device::new_cuda(n)?;
    #[cfg(feature = "cuda")]
    super::cpu::gpu_memory::keep(&device);
    Ok(device)
}

/// Total memory of `device` in bytes; 8 GiB, as of a small GPU, if unknown.
pub fn memory(device: &Device) -> usize {
    const SMALL: usize = 8 << 30;
    #[cfg(feature = "cuda")]
    if let Device::Cuda(device) = device {
        return device.cuda_stream().context().mem_get_info().map_or(SMALL, |(_, all)| all);
    }
    let _ = device;
    SMALL
}

fn one_line(e: &candle_core::Error) -> String {
    e.to_string().lines().next().unwrap_or_default().to_string()
}

/// Returns the requested number of threads, limited to those that run at once.
///
/// More would wait for each other at each barrier of a pass, and a token takes up to 300 times as
/// long. No result depends on the number. `None` means [`default_threads`].
pub fn granted_threads(asked: Option<usize>) -> usize {
    asked.map_or_else(default_threads, |asked| asked.min(usable_threads()))
}

/// Returns the number of threads that run at a time in this process.
pub(crate) fn usable_threads() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get())
}

/// Default number of threads: the number of physical cores, limited to those usable.
///
/// Two threads on one core share its arithmetic units and its memory ports, and a forward pass
/// keeps both busy with one. The limit is the parallelism available to this process.
pub fn default_threads() -> usize {
    let usable = usable_threads();
    physical_cores().map_or(usable, |cores| cores.min(usable)).max(1)
}

/// Number of distinct (package, core) pairs; `None` if the system doesn't report them.
#[cfg(target_os = "linux")]
fn physical_cores() -> Option<usize> {
    let cpus = std::fs::read_dir("/sys/devices/system/cpu").ok()?;
    let id = |cpu: &std::path::Path, name: &str| {
        std::fs::read_to_string(cpu.join("topology").join(name)).ok()
    };
    let cores: std::collections::HashSet<_> = (cpus.flatten())
        .filter_map(|cpu| {
            Some((id(&cpu.path(), "physical_package_id")?, id(&cpu.path(), "core_id")?))
        })
        .collect();
    (!cores.is_empty()).then_some(cores.len())
}

#[cfg(not(target_os = "linux"))]
fn physical_cores() -> Option<usize> {
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn device_names_round_trip() {
        for (text, choice) in [
            ("auto", DeviceChoice::Auto),
            ("cpu", DeviceChoice::Cpu),
            ("cuda:3", DeviceChoice::Cuda(3)),
            ("metal", DeviceChoice::Metal),
        ] {
            assert_eq!(text.parse(), Ok(choice));
            assert_eq!(choice.to_string(), text);
        }
        assert_eq!("cuda".parse(), Ok(DeviceChoice::Cuda(0)));
        for wrong in ["", "gpu", "cuda:", "cuda:-1", "CPU", "cuda:99999999999999999999"] {
            assert!(
                wrong.parse::<DeviceChoice>().unwrap_err().contains("give auto, cpu, cuda"),
                "{wrong}"
            );
        }
    }

    #[test]
    #[cfg(not(any(feature = "cuda", feature = "metal")))]
    fn a_gpu_that_this_build_cannot_use_is_rejected() {
        let line = DeviceChoice::Cuda(1).open().unwrap_err().to_string();
        assert_eq!(line, "device cuda:1: built without the cuda feature");
        let line = DeviceChoice::Metal.open().unwrap_err().to_string();
        assert_eq!(line, "device metal: built without the metal feature");
        assert!(DeviceChoice::Auto.open().unwrap().is_cpu());
    }

    #[test]
    fn there_is_at_least_one_thread_and_no_more_than_usable() {
        let usable = std::thread::available_parallelism().map_or(1, |n| n.get());
        assert!((1..=usable).contains(&default_threads()));
    }
}
