#![no_main]

mcwc_fuzz::fuzz!("models");
