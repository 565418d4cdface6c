//! The shim as a program of its own: smaller in memory than a whole node agent run again.

fn main() {
    orch_oci::shim_main_if_requested();
    eprintln!("orch-shim is run by the node agent, not by hand");
    std::process::exit(2);
}
