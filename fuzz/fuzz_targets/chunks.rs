#![no_main]

mcwc_fuzz::fuzz!("chunks");
