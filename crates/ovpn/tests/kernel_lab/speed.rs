//! How the kernel's driver and the engine compare in one guest. Run by name only (`OVPN_LAB_FILTER=speed`), with a
//! release build as `OVPN_LAB_PROGRAM`.

use std::time::Duration;

use crate::ends::{End, up};

/// Megabits per second of one TCP stream from the client, and CPU seconds of the whole guest for each gigabyte.
fn measure(ends: [End; 2]) -> (f64, f64) {
    let tunnel = up("speed", ends, ["udp4", "udp4"], ["", ""]);
    let mut server = tunnel.pair.left.command("iperf3");
    let _server = ovpn_testkit::Running::start(server.args(["-s", "-1"])).unwrap();
    std::thread::sleep(Duration::from_secs(2));
    let before = busy();
    let output = tunnel
        .pair
        .right
        .try_run("iperf3", &["-c", "10.77.0.1", "-t", "6", "-J"], Duration::from_secs(90))
        .unwrap()
        .stdout;
    let used = busy() - before;
    let value: serde_json::Value = serde_json::from_str(&output).unwrap_or_else(|_| panic!("{output}"));
    let bytes = value["end"]["sum_received"]["bytes"].as_f64().unwrap();
    (value["end"]["sum_received"]["bits_per_second"].as_f64().unwrap() / 1e6, used / (bytes / 1e9))
}

/// CPU seconds of the guest so far, idle ones not counted.
fn busy() -> f64 {
    let text = std::fs::read_to_string("/proc/stat").unwrap();
    let fields: Vec<f64> =
        text.lines().next().unwrap().split_whitespace().skip(1).map(|field| field.parse().unwrap()).collect();
    (fields.iter().take(8).sum::<f64>() - fields[3] - fields[4]) / 100.0
}

#[test]
#[ignore = "a measurement"]
fn side_by_side() {
    let mut ratios = Vec::new();
    for round in 0..2 {
        let kernel = measure([End::Kernel, End::Kernel]);
        let engine = measure([End::Engine, End::Engine]);
        let stock = measure([End::Stock, End::Stock]);
        println!(
            "round {round}: kernel {:.1} Mbit/s {:.0} s/GB, engine {:.1} Mbit/s {:.0} s/GB, stock without offload {:.1} Mbit/s {:.0} s/GB",
            kernel.0, kernel.1, engine.0, engine.1, stock.0, stock.1
        );
        ratios.push(kernel.0 / engine.0);
    }
    println!("kernel / engine: {ratios:.2?}");
}
