//! Service proxy, cluster DNS and pod network.
