//! Access to the settings, field by field: reading the whole struct would load every field for
//! every packet.

use netwatch_common::config::Config;

use crate::maps::CONFIG;

/// A pointer to the settings.
#[derive(Clone, Copy)]
pub struct ConfigRef(*const Config);

/// The settings.
#[inline(always)]
pub fn settings() -> ConfigRef {
    ConfigRef((&raw const CONFIG).cast())
}

macro_rules! fields {
    ($($field:ident)*) => {
        impl ConfigRef {
            $(
                /// As in [`Config`]. Volatile: user space has replaced the default,
            /// which the compiler would substitute.
                #[inline(always)]
                pub fn $field(self) -> u32 {
                    // SAFETY: read-only data that lives as long as the program.
                    unsafe { (&raw const (*self.0).$field).read_volatile() }
                }
            )*

            /// The settings that determine what is sampled; the others are defaults.
            #[inline(always)]
            pub fn sampling(self) -> Config {
                Config {
                    sample_budget: self.sample_budget(),
                    sample_protocols: self.sample_protocols(),
                    ..Config::DEFAULT
                }
            }
        }
    };
}

fields! { sample_budget sample_protocols notify sample_interval snaplen front bucket_mask free_mask fronts }
