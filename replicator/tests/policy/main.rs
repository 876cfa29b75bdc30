//! Policies by example, against slow models, and reclaim's protocol in random schedules.

mod keep;
mod keep_model;
mod reclaim;
mod world;
