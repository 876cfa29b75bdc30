//! The simulation: a device that crashes, tears and lies on demand, a reference model, and seeded runs of both.

pub mod damage;
pub mod device;
pub mod faults;
pub mod machine;
pub mod model;
pub mod random;
pub mod run;
