//! The settings, field by field. Read as a whole they would be copied as a whole, a load for each field, at every packet.

use netwatch_common::config::Config;

use crate::maps::CONFIG;

/// Where they are.
#[derive(Clone, Copy)]
pub struct Settings(*const Config);

/// Where they are.
#[inline(always)]
pub fn settings() -> Settings {
    Settings((&raw const CONFIG).cast())
}

macro_rules! fields {
    ($($field:ident)*) => {
        impl Settings {
            $(
                /// As in [`Config`]. Volatile: user space has put another value there than the compiler knows.
                #[inline(always)]
                pub fn $field(self) -> u32 {
                    // SAFETY: read-only data that lives as long as the program.
                    unsafe { (&raw const (*self.0).$field).read_volatile() }
                }
            )*

            /// All that decide about samples.
            #[inline(always)]
            pub fn of_samples(self) -> Config {
                Config {
                    sample_budget: self.sample_budget(),
                    sample_protocols: self.sample_protocols(),
                    ..Config::DEFAULT
                }
            }
        }
    };
}

fields! { sample_budget sample_protocols announce sample_interval snaplen front bucket_mask free_mask }
