//! The suite that every driver must pass, on the engine. Needs root: each case has a network namespace of its own.

use ovpn_dco::conformance::{self, Factory};
use ovpn_dco::{DataPlane, Mode, Result};
use ovpn_engine::{Engine, EngineConfig};

struct Driver;

impl Factory for Driver {
    fn open(&self, mode: Mode) -> Result<Box<dyn DataPlane>> {
        Ok(Box::new(Engine::open(EngineConfig::new("tun", mode))?))
    }
}

#[test]
fn engine_conforms() {
    conformance::run_apart(|| Driver).assert();
}
