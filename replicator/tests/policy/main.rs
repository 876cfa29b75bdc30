//! Policies by example and against slow models.

mod keep;
mod keep_model;
