//! The scheduler as a library: framework, plugins, queue, snapshot, simulator.
