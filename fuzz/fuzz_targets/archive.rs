#![no_main]

mcwc_fuzz::fuzz!("archive");
