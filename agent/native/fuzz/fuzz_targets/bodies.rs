//! The bodies of `tests/fuzz` under libFuzzer, which looks for inputs that reach new code.
//!
//! `FUZZ_TARGET` names the body, `make fuzz-libfuzzer` runs each.  Built by cargo-fuzz, too, for whom
//! has it and wants a sanitizer.

#![no_main]

#[path = "../../tests/fuzz/bodies.rs"]
mod bodies;

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;

static CHOSEN: OnceLock<bodies::Body> = OnceLock::new();

fn chosen() -> bodies::Body {
    let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
    let named = bodies::BODIES.iter().find(|(known, _)| *known == name);
    let names: Vec<&str> = bodies::BODIES.iter().map(|(name, _)| *name).collect();
    named
        .unwrap_or_else(|| panic!("FUZZ_TARGET is one of {names:?}"))
        .1
}

fuzz_target!(|data: &[u8]| CHOSEN.get_or_init(chosen)(data));
